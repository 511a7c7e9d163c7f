//! Experience that came from outside and waits for an update: whole fragments, in order of arrival, in memory that is reserved at once.
//!
//! A fragment is consecutive transitions of one environment under one version of the policy. Each is accepted once and settled once: trained,
//! stale, or dropped. [`Ledger`] keeps the account, and whoever calls is told of each settlement, so that it can acknowledge and forget.
//!
//! - [`Fragments::push`] takes one in, or says why not. What happens when room becomes scarce is [`Overflow`]'s to say.
//! - [`Fragments::take`] begins an update: it settles what is stale, and marks the oldest that fit into the update. [`Fragments::load`] (in
//!   `training`) copies these to a rollout, scales their rewards ([`Rewards`]), and computes their values and advantages.
//! - [`Fragments::observe`] lets a normaliser see what was learnt from. What a version acts with is what it is trained with: the next one has the new moments.
//! - [`Fragments::finish`] ends the update: what was taken is settled, and its room is free.
//!
//! In between the learner has a copy of its own, so that fragments go on being pushed. Actions are not held against their space here: whoever
//! calls has done so.

mod ledger;
mod rewards;
mod store;
#[cfg(test)]
mod tests;
mod training;

use serde::{Deserialize, Serialize};

use crate::memory::{MemoryBudget, NoRoom, Storage};
use crate::rollout::Shape;
use store::{Entry, Store};

pub use ledger::{Fate, Ledger, Settled};
pub use rewards::{MOST_ENVIRONMENTS, Rewards, Running};
pub use training::Room;

/// So many transitions wait at most, unless told otherwise.
pub const MOST_TRANSITIONS: usize = 100_000;
/// How many versions older than the policy a fragment may be, unless told otherwise: PPO is on-policy.
pub const MAX_POLICY_LAG: u64 = 1;
/// One fragment, and one closing observation, for so many transitions: there is room for 25,000 fragments beside 100,000 transitions. Shorter ones
/// fill the buffer by their number.
const TRANSITIONS_A_FRAGMENT: usize = 4;
/// Back-pressure begins when so much is full, in percent.
const PAUSE: usize = 90;
/// The oldest are dropped when so much is full, in percent ...
const DROP: usize = 95;
/// ... and so much of the whole goes at most, in percent (TARS-1005).
const DROPPED: usize = 25;

/// What to do when room becomes scarce.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overflow {
    /// From 90 % on nothing more is taken in, until an update has made room.
    #[default]
    Backpressure,
    /// At 95 % the oldest fragments go, up to 25 % of the whole (one at least). Those of a running update stay.
    DropOldest,
}

/// What bounds the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Transitions that wait.
    pub transitions: usize,
    /// How many versions older than the policy a fragment may be.
    pub max_policy_lag: u64,
    /// What to do when room becomes scarce.
    pub overflow: Overflow,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            transitions: MOST_TRANSITIONS,
            max_policy_lag: MAX_POLICY_LAG,
            overflow: Overflow::default(),
        }
    }
}

/// How a transition ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// The episode went on.
    #[default]
    GoesOn,
    /// The episode ended by itself: nothing comes after it.
    Terminated,
    /// It was cut off: what would have come is worth its final observation's value.
    Truncated,
}

impl End {
    /// Of Gymnasium's two flags. An episode that ended by itself was not cut off.
    #[must_use]
    pub fn of(terminated: bool, truncated: bool) -> Self {
        match (terminated, truncated) {
            (true, _) => Self::Terminated,
            (false, true) => Self::Truncated,
            (false, false) => Self::GoesOn,
        }
    }
}

/// Consecutive transitions of one environment under one version of the policy. A row of each slice is a transition.
#[derive(Clone, Copy, Debug)]
pub struct Fragment<'a> {
    /// What whoever pushes it knows it by; returned when it is settled.
    pub tag: u64,
    /// The environment that it was played in.
    pub environment: u64,
    /// The number of its first transition in that environment.
    pub seq: u64,
    /// The version of the policy that acted.
    pub version: u64,
    /// What was seen, as the network's inputs, not yet normalised.
    pub observations: &'a [f32],
    /// What was done, as `act` returned it.
    pub actions: &'a [f32],
    /// What might have been done; empty if nothing is masked.
    pub masks: &'a [bool],
    /// ln π(a|s) of the behaviour.
    pub log_probs: &'a [f32],
    /// What it earned.
    pub rewards: &'a [f32],
    /// How each transition ended.
    pub ends: &'a [End],
    /// The final observation of each that was truncated, in order; then, if the last one goes on, what was seen after it.
    pub closings: &'a [f32],
}

/// Why a fragment was not taken in. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no room now; there will be after an update.
    #[error("the buffer is full: {pending} of {most} transitions wait for an update")]
    Full {
        /// Transitions that wait.
        pending: usize,
        /// So many may.
        most: usize,
    },
    /// It will never fit.
    #[error(
        "a fragment of {transitions} transitions, {closings} of them with an observation to close with; at most {most} and {most_closings} can be taken in"
    )]
    TooLong {
        /// How many it has.
        transitions: usize,
        /// How many it may have.
        most: usize,
        /// How many closing observations it has.
        closings: usize,
        /// How many it may have.
        most_closings: usize,
    },
    /// Its parts do not belong together.
    #[error(
        "{part} of a fragment of {transitions} transitions: expected {expected} numbers, found {found}"
    )]
    Shape {
        /// Which.
        part: &'static str,
        /// How many transitions it has, by their rewards.
        transitions: usize,
        /// How many numbers that makes.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// There is nothing in it.
    #[error("a fragment without transitions")]
    Empty,
    /// A number is NaN or infinite.
    #[error("{0} of a fragment: a number is not finite")]
    NotFinite(&'static str),
}

/// The buffer.
#[derive(Debug)]
pub struct Fragments {
    limits: Limits,
    /// Transitions of an update, and so of the longest fragment.
    update: usize,
    store: Store,
    ledger: Ledger,
    /// What the running update learns from.
    taken: Size,
    /// A fragment was refused for want of room since room was last made.
    refused: bool,
}

impl Fragments {
    /// An empty buffer for a learner of this shape, its numbers in memory or in files.
    ///
    /// # Errors
    /// If it does not fit into the budget, or on the disk.
    pub fn new(
        budget: &MemoryBudget,
        shape: Shape,
        limits: Limits,
        storage: Storage<'_>,
    ) -> Result<Self, NoRoom> {
        // Rows are counted in 32 bits.
        let transitions = limits.transitions.min(u32::MAX as usize);
        let most = Size {
            transitions,
            closings: transitions.div_ceil(TRANSITIONS_A_FRAGMENT),
            fragments: transitions.div_ceil(TRANSITIONS_A_FRAGMENT),
        };
        Ok(Self {
            limits,
            update: (shape.steps * shape.environments).min(transitions),
            store: Store::new(budget, shape, most, storage)?,
            ledger: Ledger::default(),
            taken: Size::default(),
            refused: false,
        })
    }

    /// Where every transition is.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.ledger
    }

    /// How much of each kind of room is taken.
    #[must_use]
    pub fn used(&self) -> Size {
        self.store.used()
    }

    /// How much there is of it.
    #[must_use]
    pub fn most(&self) -> Size {
        self.store.most()
    }

    /// Whether there is enough for an update, or no room to wait for more.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let used = self.used();
        used.transitions >= self.update
            || (used.transitions > 0 && (self.refused || self.is_scarce()))
    }

    /// Whether ingest pauses: nothing more will be taken in before an update has made room.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.limits.overflow == Overflow::Backpressure && self.is_scarce()
    }

    /// Many short fragments fill their room long before there is enough for an update, whatever the rule of overflow.
    fn is_scarce(&self) -> bool {
        self.used().reaches(PAUSE, self.most())
    }

    /// Goes on from an account that was saved. What was pending then is to be pushed again, in the same order, and is accepted as it was before: so the
    /// account is whole at every moment, and the same again in the end.
    pub fn restore(&mut self, saved: Ledger) {
        self.ledger = saved.with_pending(self.ledger.pending);
    }

    /// The tags of what waits, in order of arrival, those of a running update among them.
    pub fn pending(&self) -> impl Iterator<Item = u64> {
        self.store.entries().iter().map(|entry| entry.tag)
    }

    /// Whether a fragment would be taken in, so that it can be made durable before it is [pushed](Self::push). Nothing changes, but that a refusal for want
    /// of room is remembered, as one of a push: waiting for more would not help, and an update begins with what there is.
    ///
    /// # Errors
    /// Those of a push.
    pub fn admits(&mut self, fragment: &Fragment<'_>) -> Result<(), Refused> {
        self.admitted(fragment).map(|_| ())
    }

    fn admitted(&mut self, fragment: &Fragment<'_>) -> Result<Size, Refused> {
        let size = self.store.check(fragment)?;
        let most = self.most();
        if size.transitions > self.update || !size.fits(most) {
            return Err(Refused::TooLong {
                transitions: size.transitions,
                most: self.update,
                closings: size.closings,
                most_closings: most.closings,
            });
        }
        let stays = match self.limits.overflow {
            Overflow::Backpressure => self.used(),
            Overflow::DropOldest => self.taken,
        };
        if self.is_paused() || !stays.plus(size).fits(most) {
            self.refused = true;
            return Err(Refused::Full {
                pending: self.used().transitions,
                most: most.transitions,
            });
        }
        Ok(size)
    }

    /// Takes a fragment in. `settled` is told of those that were dropped for it.
    ///
    /// # Errors
    /// If it is broken, or there is no room.
    pub fn push(
        &mut self,
        fragment: &Fragment<'_>,
        mut settled: impl FnMut(Settled),
    ) -> Result<(), Refused> {
        let size = self.admitted(fragment)?;
        let most = self.most();
        let wants = |used: Size| used.plus(size);
        let mut crowded =
            self.limits.overflow == Overflow::DropOldest && wants(self.used()).reaches(DROP, most);
        // Once is enough but for a long fragment, which must fit.
        while crowded && self.drop_oldest(&mut settled) {
            crowded = !wants(self.used()).fits(most);
        }
        self.store.append(fragment, size);
        self.ledger.accept(size.transitions as u64);
        Ok(())
    }

    /// Begins an update of the policy of this version: settles what is stale, then takes the oldest fragments, leaving out those that no longer
    /// fit into the update. Gives the number of their transitions: none if what is left is [too little](Self::is_ready).
    pub fn take(&mut self, version: u64, settled: impl FnMut(Settled)) -> usize {
        let lag = self.limits.max_policy_lag;
        let is_stale = |entry: &Entry| entry.version.saturating_add(lag) < version;
        self.settle(|entry| is_stale(entry).then_some(Fate::Stale), settled);
        let mut room = if self.is_ready() { self.update } else { 0 };
        self.taken = Size::default();
        for entry in self.store.entries_mut() {
            entry.taken = entry.transitions() <= room;
            if entry.taken {
                room -= entry.transitions();
                self.taken = self.taken.plus(entry.size());
            }
        }
        self.taken.transitions
    }

    /// Ends the update: what was taken is settled so. [`Fate::Dropped`] if the update was undone: to learn from it once more would end in the same way.
    pub fn finish(&mut self, fate: Fate, settled: impl FnMut(Settled)) {
        self.settle(|entry| entry.taken.then_some(fate), settled);
        self.taken = Size::default();
    }

    /// Whether any was dropped.
    fn drop_oldest(&mut self, settled: impl FnMut(Settled)) -> bool {
        let most = self.most();
        let mut dropped = Size::default();
        let mut enough = false;
        let oldest = |entry: &Entry| {
            if entry.taken || enough {
                return None;
            }
            let sum = dropped.plus(entry.size());
            enough = dropped.fragments > 0 && sum.exceeds(DROPPED, most);
            if enough {
                return None;
            }
            dropped = sum;
            Some(Fate::Dropped)
        };
        self.settle(oldest, settled);
        dropped.fragments > 0
    }

    fn settle(
        &mut self,
        mut fate: impl FnMut(&Entry) -> Option<Fate>,
        mut settled: impl FnMut(Settled),
    ) {
        let Self { store, ledger, .. } = self;
        let before = store.used();
        store.retain(|entry| {
            let Some(fate) = fate(entry) else { return true };
            ledger.settle(entry.transitions() as u64, fate);
            settled(Settled {
                tag: entry.tag,
                transitions: entry.transitions(),
                fate,
            });
            false
        });
        if store.used() != before {
            self.refused = false;
        }
    }
}

/// How much room something takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Rows of transitions.
    pub transitions: usize,
    /// Rows of closing observations.
    pub closings: usize,
    /// Fragments.
    pub fragments: usize,
}

impl Size {
    fn plus(self, other: Self) -> Self {
        Self {
            transitions: self.transitions + other.transitions,
            closings: self.closings + other.closings,
            fragments: self.fragments + other.fragments,
        }
    }

    fn pairs(self, other: Self) -> [(usize, usize); 3] {
        [
            (self.transitions, other.transitions),
            (self.closings, other.closings),
            (self.fragments, other.fragments),
        ]
    }

    fn fits(self, most: Self) -> bool {
        self.pairs(most).iter().all(|(used, most)| used <= most)
    }

    /// So many percent of one kind of room are taken.
    fn reaches(self, percent: usize, most: Self) -> bool {
        self.pairs(most)
            .iter()
            .any(|(used, most)| used * 100 >= most * percent)
    }

    /// More than so many percent of one kind are taken.
    fn exceeds(self, percent: usize, most: Self) -> bool {
        self.pairs(most)
            .iter()
            .any(|(used, most)| used * 100 > most * percent)
    }
}
