//! The account of every transition, from its acceptance to what became of it.

use serde::{Deserialize, Serialize};

/// How a fragment was settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// The policy has learnt from it.
    Trained,
    /// It was older than `max_policy_lag` when an update began.
    Stale,
    /// It made room for others, or its update was undone.
    Dropped,
}

/// A fragment that is no longer here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// What it was pushed with.
    pub tag: u64,
    /// How many transitions it had.
    pub transitions: usize,
    /// Why it is gone.
    pub fate: Fate,
}

/// Where every transition is: at every moment accepted = trained + stale + dropped + pending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Taken in.
    pub accepted: u64,
    /// Learnt from.
    pub trained: u64,
    /// Too old to be learnt from.
    pub stale: u64,
    /// Dropped.
    pub dropped: u64,
    /// Waiting, those of a running update among them.
    pub pending: u64,
}

impl Ledger {
    /// This account, but only `pending` transitions wait: the others that did are yet to be accepted anew.
    pub(super) fn with_pending(self, pending: u64) -> Self {
        Self {
            accepted: self.trained + self.stale + self.dropped + pending,
            pending,
            ..self
        }
    }

    pub(super) fn accept(&mut self, transitions: u64) {
        self.accepted += transitions;
        self.pending += transitions;
    }

    pub(super) fn settle(&mut self, transitions: u64, fate: Fate) {
        self.pending -= transitions;
        *match fate {
            Fate::Trained => &mut self.trained,
            Fate::Stale => &mut self.stale,
            Fate::Dropped => &mut self.dropped,
        } += transitions;
    }
}
