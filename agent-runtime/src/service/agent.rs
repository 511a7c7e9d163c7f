//! One agent, whole: what it is, what it knows, and its two threads.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use opentelemetry::trace::SpanContext;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use super::book::{Book, Durable, EntryId, Shared};
use super::experience::Experience;
use super::history::History;
use super::ingest::{Accepted, INBOX, Ingest, Message, NotAccepted};
use super::learning::{Event, Learning, Session, State};
use super::memory;
use super::policy::{Acting, Answer, Question};
use super::spec::{AgentSpec, BadSpec, Spaces, Where};
use super::turns::Turns;
use crate::checkpoint::{BadCheckpoint, Snapshot, Store};
use crate::fragments::{Fragments, Ledger, Room, Size};
use crate::memory::{MemoryBudget, NoRoom, OverBudget, Storage};
use crate::train::{Progress, WINDOW};

/// What an agent is told to be.
const SPEC: &str = "agent.json";
const CHECKPOINTS: &str = "checkpoints";
const JOURNAL: &str = "journal";
/// Files of a buffer that is mapped.
const BUFFER: &str = "buffer";
/// The journal holds at least so much ...
const LEAST_JOURNAL: u64 = 64 << 20;
/// ... and so many times what the buffer does: fragments wait in it, and those that were settled since the last checkpoint.
const JOURNAL_FACTOR: u64 = 3;
/// Why nothing is taken in at first.
pub const RECOVERING: &str = "what was acknowledged before the restart is being read";
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

/// See the module.
#[derive(Debug)]
pub struct Agent {
    spec: AgentSpec,
    directory: PathBuf,
    acting: Arc<Acting>,
    shared: Arc<Shared>,
    store: Store,
    budget: MemoryBudget,
    inbox: Mutex<Option<mpsc::Sender<Message>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    history: Arc<Mutex<History>>,
    state: Arc<Mutex<State>>,
    journal_bytes: Arc<AtomicU64>,
    journal_most: u64,
    buffer: Size,
    concurrency: usize,
    acted: AtomicU64,
    turns: Turns,
}

/// How an agent is doing.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The version that acts.
    pub policy_version: u64,
    /// Where every transition is.
    pub ledger: Ledger,
    /// Transitions, closing observations and fragments that wait.
    pub waiting: Room3,
    /// How many may.
    pub room: Room3,
    /// Ingest waits for learning.
    pub backpressure: bool,
    /// Why nothing is learnt, if so.
    pub paused: Option<String>,
    /// Why nothing is taken in, if so.
    pub closed: Option<String>,
    /// Why nothing is taken in for want of memory, if so.
    pub guarded: Option<String>,
    /// Updates, those that were undone among them.
    pub updates: u64,
    /// Updates that were undone.
    pub undone: u64,
    /// Transitions that were learnt from.
    pub steps: u64,
    /// Episodes that ended.
    pub episodes: u64,
    /// Mean return of the latest episodes.
    pub mean_return: Option<f64>,
    /// Over how many.
    pub window: usize,
    /// Producers that are known.
    pub producers: usize,
    /// Bytes of the journal.
    pub journal_bytes: u64,
    /// How many it may have.
    pub journal_bytes_most: u64,
    /// Observations that were acted on since the start.
    pub acted: u64,
    /// Bytes that it has reserved.
    pub memory_bytes: usize,
    /// Its checkpoints.
    #[serde(flatten)]
    pub state: State,
}

/// Three kinds of room.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Room3 {
    /// Transitions.
    pub transitions: usize,
    /// Closing observations.
    pub closings: usize,
    /// Fragments.
    pub fragments: usize,
}

impl From<Size> for Room3 {
    fn from(size: Size) -> Self {
        Self {
            transitions: size.transitions,
            closings: size.closings,
            fragments: size.fragments,
        }
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
        let mut book = Book::new(fragments, progress, &durable);
        book.closed = Some(RECOVERING.to_owned());
        let shared = Arc::new(Shared::new(book));
        let (inbox, messages) = mpsc::channel(INBOX);
        let agent = Self {
            directory: directory.to_owned(),
            inbox: Mutex::new(Some(inbox)),
            threads: Mutex::default(),
            history: Arc::new(Mutex::new(History::new(&budget)?)),
            state: Arc::new(Mutex::new(State {
                checkpoint: store.checkpoints().into_iter().next(),
                ..State::default()
            })),
            journal_bytes: Arc::default(),
            journal_most: most,
            concurrency,
            acted: AtomicU64::new(0),
            turns: Turns::default(),
            acting,
            shared,
            store,
            budget,
            buffer,
            spec,
        };
        agent.spawn(session, room, number, durable, messages, events, spaces)?;
        Ok(agent)
    }

    #[allow(clippy::too_many_arguments, reason = "what the two threads begin with")]
    fn spawn(
        &self,
        session: Session,
        room: Room,
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
            events,
            state: self.state.clone(),
        };
        let ingest = Ingest {
            shared: self.shared.clone(),
            space: spaces.observation,
            directory: self.directory.join(JOURNAL),
            most: self.journal_most,
            floor,
            bytes: self.journal_bytes.clone(),
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

    /// What it was told to be.
    #[must_use]
    pub fn spec(&self) -> &AgentSpec {
        &self.spec
    }

    /// Where it is on the disk.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What acts.
    #[must_use]
    pub fn acting(&self) -> &Acting {
        &self.acting
    }

    /// Its checkpoints.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// What it has reserved.
    #[must_use]
    pub fn budget(&self) -> &MemoryBudget {
        &self.budget
    }

    /// What its threads share.
    #[must_use]
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// What the latest updates said.
    pub fn history(&self) -> MutexGuard<'_, History> {
        lock(&self.history)
    }

    /// How much of it may be asked at once.
    #[must_use]
    pub fn turns(&self) -> &Turns {
        &self.turns
    }

    /// How many may act at once.
    #[must_use]
    pub fn concurrency(&self) -> usize {
        self.concurrency
    }

    /// Acts on rows that were checked, all by one version, so many at a time that others have their turn in between.
    pub async fn act(&self, question: Question<'_>) -> Answer {
        let version = self.acting.current();
        let width = self.acting.spaces().observation.width();
        let outputs = self.acting.distribution().outputs();
        let rows = self.acting.rows_a_turn(&version);
        let (mut answer, mut masks) = (Answer::default(), question.masks.chunks(rows * outputs));
        for (at, observations) in question.observations.chunks(rows * width).enumerate() {
            if at > 0 {
                tokio::task::yield_now().await;
            }
            let part = Question {
                observations,
                masks: masks.next().unwrap_or(&[]),
                ..question
            };
            self.acting.act(&version, part, &mut answer);
        }
        self.acted.fetch_add(answer.values.len() as u64, Relaxed);
        answer
    }

    /// Takes fragments of a producer in: what is accepted survives a kill.
    ///
    /// # Errors
    /// If nothing of it was accepted.
    pub async fn accept(
        &self,
        producer: String,
        epoch: u64,
        seq: u64,
        fragments: Vec<Experience>,
        trace: Option<SpanContext>,
    ) -> Result<Accepted, NotAccepted> {
        let (reply, answer) = oneshot::channel();
        let inbox = lock(&self.inbox).clone().ok_or(NotAccepted::Ending)?;
        let message = Message::Batch {
            producer,
            epoch,
            seq,
            fragments,
            trace,
            reply,
        };
        inbox.try_send(message).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                NotAccepted::Full(format!("{INBOX} requests wait already"))
            }
            mpsc::error::TrySendError::Closed(_) => self.not_open(),
        })?;
        drop(inbox);
        answer.await.unwrap_or_else(|_| Err(self.not_open()))
    }

    /// Takes an entry of its stream in. It is settled when [`Book::acknowledgeable`] says so.
    ///
    /// # Errors
    /// If it was not accepted.
    pub async fn accept_entry(
        &self,
        id: EntryId,
        fragment: Arc<Experience>,
        trace: Option<SpanContext>,
    ) -> Result<Accepted, NotAccepted> {
        let (reply, answer) = oneshot::channel();
        let inbox = lock(&self.inbox).clone().ok_or(NotAccepted::Ending)?;
        let message = Message::Entry {
            id,
            fragment,
            trace,
            reply,
        };
        inbox.send(message).await.map_err(|_| self.not_open())?;
        drop(inbox);
        answer.await.unwrap_or_else(|_| Err(self.not_open()))
    }

    fn not_open(&self) -> NotAccepted {
        let book = self.shared.lock();
        match &book.closed {
            Some(why) if !book.stopping => NotAccepted::Disk(why.clone()),
            _ => NotAccepted::Ending,
        }
    }

    /// Learns no more, until [`Agent::resume`].
    pub fn pause(&self) {
        self.shared.lock().paused = Some("paused by request".to_owned());
    }

    /// Learns again.
    pub fn resume(&self) {
        let mut book = self.shared.lock();
        book.paused = None;
        book.progress.undone_in_a_row = 0;
        drop(book);
        self.shared.ready.notify_all();
    }

    /// Takes nothing in for this reason, or for none.
    pub fn guard(&self, why: Option<&str>) {
        let mut book = self.shared.lock();
        let reopened = why.is_none() && book.guarded.is_some();
        book.guarded = why.map(str::to_owned);
        drop(book);
        if reopened {
            self.shared.tell_room();
        }
    }

    /// Writes a checkpoint soon; [`Shared::durable`] tells when.
    pub fn want_checkpoint(&self) {
        self.shared.lock().checkpoint_wanted = true;
        self.shared.ready.notify_all();
    }

    /// How it is doing.
    #[must_use]
    pub fn report(&self) -> Report {
        let book = self.shared.lock();
        let progress = &book.progress;
        Report {
            policy_version: self.acting.current().number(),
            ledger: book.fragments.ledger(),
            waiting: book.fragments.used().into(),
            room: self.buffer.into(),
            backpressure: book.fragments.is_paused(),
            paused: book.paused.clone(),
            closed: book.closed.clone(),
            guarded: book.guarded.clone(),
            updates: progress.updates,
            undone: progress.undone,
            steps: progress.steps,
            episodes: progress.episodes,
            mean_return: progress.mean_return(),
            window: progress.returns.len(),
            producers: book.producers.len(),
            journal_bytes: self.journal_bytes.load(Relaxed),
            journal_bytes_most: self.journal_most,
            acted: self.acted.load(Relaxed),
            memory_bytes: self.budget.reserved(),
            state: lock(&self.state).clone(),
        }
    }

    /// Ends it: an update under way is finished, or given up if it is not durable. Nothing is lost: what was acknowledged is on the disk.
    pub fn stop(&self) {
        lock(&self.inbox).take();
        self.shared.lock().stopping = true;
        self.shared.ready.notify_all();
        self.shared.tell_room();
        for thread in lock(&self.threads).drain(..) {
            // One that panicked has ended the process.
            let _ = thread.join();
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
