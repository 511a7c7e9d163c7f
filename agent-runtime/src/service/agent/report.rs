//! How an agent is doing.

use std::sync::atomic::Ordering::Relaxed;

use serde::Serialize;

use super::{Agent, lock};
use crate::fragments::{Ledger, Size};
use crate::service::learning::State;

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
}
