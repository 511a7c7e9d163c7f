//! How an agent begins: made, or found on the disk.

use std::cell::Cell;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use tokio::sync::mpsc;

use super::{Agent, RECOVERING, lock};
use crate::checkpoint::{BadCheckpoint, Snapshot, Store};
use crate::fragments::{Fragments, Room};
use crate::memory::{Component, MemoryBudget, NoRoom, OverBudget, Storage};
use crate::service::book::{Book, Durable, Shared};
use crate::service::curve::Curve;
use crate::service::history::History;
use crate::service::ingest::{INBOX, Ingest, Message};
use crate::service::learning::{Event, Learning, Session, State};
use crate::service::memory;
use crate::service::need::{self, TooMuch};
use crate::service::policy::Acting;
use crate::service::spec::{AgentSpec, BadSpec, Spaces, Where};
use crate::service::turns::Turns;
use crate::train::{Progress, WINDOW};

/// What an agent is told to be.
const SPEC: &str = "agent.json";
/// Its checkpoints, in its directory.
pub const CHECKPOINTS: &str = "checkpoints";
const JOURNAL: &str = "journal";
const CURVE: &str = "curve.jsonl";
/// Files of a buffer that is mapped.
const BUFFER: &str = "buffer";
/// The journal holds at least so much ...
const LEAST_JOURNAL: u64 = 64 << 20;
/// ... and so many times what the buffer does: fragments wait in it, and those that were settled since the last checkpoint.
const JOURNAL_FACTOR: u64 = 3;
/// For a thread that learns or takes in: nothing large is on a stack.
const STACK: usize = 512 << 10;

/// Why an agent is not there.
#[derive(Debug, thiserror::Error)]
pub enum CannotStart {
    /// What it was told makes no sense.
    #[error(transparent)]
    Spec(#[from] BadSpec),
    /// There is no room.
    #[error(transparent)]
    Room(#[from] NoRoom),
    /// There can be no room.
    #[error(transparent)]
    TooMuch(#[from] TooMuch),
    /// The disk refuses.
    #[error("{}: {error}", path.display())]
    Disk {
        /// Where.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Its checkpoint is of something else.
    #[error(transparent)]
    Checkpoint(#[from] BadCheckpoint),
    /// There were checkpoints, and none is intact.
    #[error("none of the {count} checkpoints in {} is intact: put one back, or remove them to begin anew", path.display())]
    NoCheckpoint {
        /// Where they are.
        path: PathBuf,
        /// How many.
        count: usize,
    },
}

impl From<OverBudget> for CannotStart {
    fn from(error: OverBudget) -> Self {
        Self::Room(error.into())
    }
}

impl Agent {
    /// Makes an agent, writes down what it is, and starts it.
    ///
    /// # Errors
    /// If it makes no sense, there is no room, or the disk refuses. Nothing is left behind then.
    pub fn create(
        spec: AgentSpec,
        directory: &Path,
        budget: MemoryBudget,
        concurrency: usize,
        events: Option<mpsc::UnboundedSender<Event>>,
    ) -> Result<Self, CannotStart> {
        spec.validate()?;
        let disk = |error| CannotStart::Disk {
            path: directory.to_owned(),
            error,
        };
        fs::create_dir_all(directory).map_err(disk)?;
        let created = Self::start(spec, directory, budget, concurrency, events).and_then(|agent| {
            // Last: what has none is not an agent, and is removed by the next start.
            write_spec(directory, &agent.spec).map_err(disk)?;
            Ok(agent)
        });
        if created.is_err() {
            let _ = fs::remove_dir_all(directory);
        }
        created
    }

    /// What the agent in this directory was told to be; none if there is none.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn spec_in(directory: &Path) -> Result<Option<AgentSpec>, CannotStart> {
        let path = directory.join(SPEC);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(|error| CannotStart::Disk {
                path: path.clone(),
                error,
            })?,
        };
        let spec = serde_json::from_slice(&text).map_err(|error| CannotStart::Disk {
            path,
            error: error.into(),
        })?;
        Ok(Some(spec))
    }

    /// Starts the agent whose directory this is, from its latest checkpoint if there is one.
    ///
    /// # Errors
    /// If it makes no sense, there is no room, or what is on the disk cannot be used.
    pub fn start(
        spec: AgentSpec,
        directory: &Path,
        budget: MemoryBudget,
        concurrency: usize,
        events: Option<mpsc::UnboundedSender<Event>>,
    ) -> Result<Self, CannotStart> {
        let spaces = spec.validate()?;
        need::check(&spec, &spaces, &budget)?;
        let mut session = Session::new(&spec, &spaces, &budget)?;
        let rows = directory.join(BUFFER);
        let storage = match spec.buffer.storage {
            Where::Memory => Storage::Memory,
            Where::Mapped => {
                fs::create_dir_all(&rows).map_err(|error| CannotStart::Disk {
                    path: rows.clone(),
                    error,
                })?;
                Storage::Mapped(&rows)
            }
        };
        let shape = session.learner().shape();
        let fragments = Fragments::new(&budget, shape, spec.limits(), storage)?;
        let room = session.learn_from(&fragments, &budget)?;
        let aside = budget.set_aside(Component::Checkpoint, Snapshot::most(&session))?;
        let checkpoints = directory.join(CHECKPOINTS);
        let store = Store::open(&checkpoints).map_err(|error| CannotStart::Disk {
            path: checkpoints.clone(),
            error: io::Error::other(error),
        })?;
        let latest = store.latest(|bad| tracing::warn!(agent = spec.name, %bad, "skipped"));
        let (progress, durable, number) = match &latest {
            Some(checkpoint) => {
                let (progress, durable) = checkpoint.load_session(&mut session)?;
                (progress, durable, checkpoint.number() + 1)
            }
            None if !store.checkpoints().is_empty() => {
                return Err(CannotStart::NoCheckpoint {
                    count: store.checkpoints().len(),
                    path: checkpoints,
                });
            }
            None => {
                let progress = Progress {
                    returns: std::collections::VecDeque::with_capacity(WINDOW),
                    ..Progress::default()
                };
                (progress, Durable::default(), 1)
            }
        };
        let buffer = fragments.most();
        let most = LEAST_JOURNAL.max(JOURNAL_FACTOR * budget.reserved() as u64);
        if latest.is_none() {
            // The first version, too, acts only once it is on the disk.
            let first = Snapshot::of_session(&spec.name, 0, &session, &progress, durable.clone());
            let written = first
                .map_err(io::Error::other)
                .and_then(|first| store.put(&first).map_err(io::Error::other));
            written.map_err(|error| CannotStart::Disk {
                path: checkpoints.clone(),
                error,
            })?;
        }
        let acting = Arc::new(Acting::new(
            &spec,
            &spaces,
            session.learner().policy(),
            session.normaliser(),
            durable.version,
            concurrency,
            &budget,
        )?);
        let mut history = History::new(&budget)?;
        let curve = Curve::open(directory.join(CURVE), progress.updates, &mut history);
        let mut book = Book::new(fragments, progress, &durable);
        book.closed = Some(RECOVERING.to_owned());
        let shared = Arc::new(Shared::new(book));
        let (inbox, messages) = mpsc::channel(INBOX);
        let agent = Self {
            directory: directory.to_owned(),
            inbox: Mutex::new(Some(inbox)),
            threads: Mutex::default(),
            history: Arc::new(Mutex::new(history)),
            state: Arc::new(Mutex::new(State {
                checkpoint: store.checkpoints().into_iter().next(),
                ..State::default()
            })),
            journal_bytes: Arc::default(),
            journal_most: most,
            acted: AtomicU64::new(0),
            turns: Turns::default(),
            acting,
            shared,
            store,
            budget,
            _aside: aside,
            buffer,
            spec,
        };
        agent.spawn(
            session, room, curve, number, durable, messages, events, spaces,
        )?;
        Ok(agent)
    }

    #[allow(clippy::too_many_arguments, reason = "what the two threads begin with")]
    fn spawn(
        &self,
        session: Session,
        room: Room,
        curve: Curve,
        number: u64,
        durable: Durable,
        messages: mpsc::Receiver<Message>,
        events: Option<mpsc::UnboundedSender<Event>>,
        spaces: Spaces,
    ) -> Result<(), CannotStart> {
        let floor = Arc::new(AtomicU64::new(durable.journal_floor()));
        let learning = Learning {
            name: self.spec.name.clone(),
            shared: self.shared.clone(),
            acting: self.acting.clone(),
            store: self.store.clone(),
            number,
            floor: floor.clone(),
            history: self.history.clone(),
            curve,
            events,
            state: self.state.clone(),
        };
        let ingest = Ingest {
            name: self.spec.name.clone(),
            shared: self.shared.clone(),
            space: spaces.observation,
            directory: self.directory.join(JOURNAL),
            most: self.journal_most,
            floor,
            bytes: self.journal_bytes.clone(),
            refusing: Cell::default(),
        };
        let (name, shared) = (self.spec.name.clone(), self.shared.clone());
        let take_in = move || {
            if let Err(error) = ingest.run(messages, &durable) {
                tracing::error!(agent = name, %error, "nothing is taken in");
                shared.lock().closed = Some(format!("the journal cannot be used: {error}"));
            }
        };
        let learn = move || learning.run(session, room);
        let mut threads = lock(&self.threads);
        threads.push(self.thread("ingest", take_in)?);
        threads.push(self.thread("learn", learn)?);
        Ok(())
    }

    fn thread(
        &self,
        what: &str,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<JoinHandle<()>, CannotStart> {
        let thread = thread::Builder::new().name(format!("{what} {}", self.spec.name));
        let run = || {
            memory::count_this_stack(STACK);
            run();
        };
        thread
            .stack_size(STACK)
            .spawn(run)
            .map_err(|error| CannotStart::Disk {
                path: self.directory.clone(),
                error,
            })
    }
}

/// Durably, and all of it or nothing.
fn write_spec(directory: &Path, spec: &AgentSpec) -> io::Result<()> {
    let partial = directory.join(format!(".partial-{SPEC}"));
    let mut file = fs::File::create(&partial)?;
    file.write_all(&serde_json::to_vec_pretty(spec)?)?;
    file.sync_all()?;
    fs::rename(&partial, directory.join(SPEC))?;
    fs::File::open(directory)?.sync_all()
}
