//! One agent, whole: what it is, what it knows, and its two threads.

mod report;
mod start;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use opentelemetry::trace::SpanContext;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{self, OwnedPermit};
use tokio::sync::oneshot;

use super::book::{EntryId, Shared};
use super::experience::Experience;
use super::history::History;
use super::ingest::{Accepted, INBOX, Message, NotAccepted};
use super::learning::State;
use super::policy::{Acting, Answer, Question};
use super::spec::AgentSpec;
use super::turns::Turns;
use crate::checkpoint::Store;
use crate::fragments::Size;
use crate::memory::{MemoryBudget, Reservation};

pub use report::{Report, Room3};
pub use start::{CHECKPOINTS, CannotStart};

/// Why nothing is taken in at first.
pub const RECOVERING: &str = "what was acknowledged before the restart is being read";

/// See the module.
#[derive(Debug)]
pub struct Agent {
    spec: AgentSpec,
    directory: PathBuf,
    acting: Arc<Acting>,
    shared: Arc<Shared>,
    store: Store,
    budget: MemoryBudget,
    /// For checkpoints.
    _aside: Reservation,
    inbox: Mutex<Option<mpsc::Sender<Message>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    history: Arc<Mutex<History>>,
    state: Arc<Mutex<State>>,
    journal_bytes: Arc<AtomicU64>,
    journal_most: u64,
    buffer: Size,
    acted: AtomicU64,
    turns: Turns,
}

impl Agent {
    /// What it was told to be.
    #[must_use]
    pub fn spec(&self) -> &AgentSpec {
        &self.spec
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
        let permit = self.inbox()?.try_reserve_owned();
        let permit = permit.map_err(|error| match error {
            TrySendError::Full(_) => NotAccepted::Full(format!("{INBOX} requests wait already")),
            TrySendError::Closed(_) => self.not_open(),
        })?;
        let message = |reply| Message::Batch {
            producer,
            epoch,
            seq,
            fragments,
            trace,
            reply,
        };
        self.answer(permit, message).await
    }

    /// Takes an entry of its stream in. It is settled when `Book::acknowledgeable` says so.
    ///
    /// # Errors
    /// If it was not accepted.
    pub async fn accept_entry(
        &self,
        id: EntryId,
        fragment: Arc<Experience>,
        trace: Option<SpanContext>,
    ) -> Result<Accepted, NotAccepted> {
        let permit = self.inbox()?.reserve_owned().await;
        let message = |reply| Message::Entry {
            id,
            fragment,
            trace,
            reply,
        };
        self.answer(permit.map_err(|_| self.not_open())?, message)
            .await
    }

    fn inbox(&self) -> Result<mpsc::Sender<Message>, NotAccepted> {
        lock(&self.inbox).clone().ok_or(NotAccepted::Ending)
    }

    async fn answer(
        &self,
        permit: OwnedPermit<Message>,
        message: impl FnOnce(oneshot::Sender<Result<Accepted, NotAccepted>>) -> Message,
    ) -> Result<Accepted, NotAccepted> {
        let (reply, answer) = oneshot::channel();
        permit.send(message(reply));
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
