//! Rewards brought to scale, as Stable-Baselines3's `VecNormalize` does it: divided by the standard deviation of the discounted return, within ±10.
//!
//! The return of an environment runs on from one update to the next. Fragments come from any number of environments, so that these sums are kept for so
//! many as were heard of latest. A sum goes on where the fragment follows what was learnt from before, and begins anew after a gap, as after an
//! episode's end.
//!
//! Stretches of an update (fragments put together) are stepped through side by side, as environments are in a vector: of the rollout that they were cut from
//! comes, to the bit, what [`RewardScale`](crate::normalise::RewardScale) makes of it.

use serde::{Deserialize, Serialize};

use super::Fragments;
use super::store::Entry;
use crate::memory::{Buffer, Component, MemoryBudget, OverBudget};
use crate::normalise::{RunningMoments, scaled_by};
use crate::rollout::Rollout;

/// Environments whose return runs on between updates: as many as may be stepped side by side (`n_envs`). Of more, those that were heard of latest; the
/// others' begin anew, which costs some accuracy of one number.
pub const MOST_ENVIRONMENTS: usize = 4096;

/// The running return of an environment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Running {
    /// Which.
    pub environment: u64,
    /// The number of the transition that it is to go on with.
    pub next_seq: u64,
    /// Discounted, not scaled.
    pub sum: f64,
    /// The number of the update that it was last heard of in.
    pub update: u64,
}

/// Fragments put together, as far as they have been stepped through.
#[derive(Clone, Copy, Debug, Default)]
struct Stretch {
    row: usize,
    end: usize,
    /// An episode ends with it.
    ends: bool,
    after: Running,
}

/// The scale of rewards, and the returns that it is made of.
#[derive(Debug)]
pub struct Rewards {
    moments: RunningMoments,
    gamma: f64,
    update: u64,
    /// By environment.
    running: Buffer<Running>,
    known: usize,
    stretches: Buffer<Stretch>,
    batch: Buffer<f32>,
}

impl Rewards {
    /// A scale of which nothing is known yet.
    ///
    /// # Errors
    /// If it does not fit into the budget.
    pub fn new(
        budget: &MemoryBudget,
        fragments: &Fragments,
        gamma: f64,
    ) -> Result<Self, OverBudget> {
        let component = Component::Normalisers;
        let most = fragments.most().fragments;
        Ok(Self {
            moments: RunningMoments::new(1),
            gamma,
            update: 0,
            running: budget.buffer(component, MOST_ENVIRONMENTS, Running::default())?,
            known: 0,
            stretches: budget.buffer(component, most, Stretch::default())?,
            batch: budget.buffer(component, most, 0.0f32)?,
        })
    }

    /// What is saved: the moments of returns, and those that run.
    #[must_use]
    pub fn save(&self) -> (&RunningMoments, &[Running]) {
        (&self.moments, &self.running[..self.known])
    }

    /// Takes up what was saved. `false`, and nothing is changed, if it cannot have been.
    #[must_use]
    pub fn restore(&mut self, moments: RunningMoments, running: &[Running]) -> bool {
        let sound = moments.width() == 1 && running.iter().all(|one| one.sum.is_finite());
        if sound {
            self.moments = moments;
            self.known = 0;
            self.update = running.iter().map(|one| one.update).max().unwrap_or(0);
            running.iter().for_each(|one| self.remember(*one));
        }
        sound
    }

    /// Scales the rewards of a rollout that was copied of these fragments, one after the other. `ends` says whether an episode ends with the last transition of one.
    pub(super) fn scale<'a>(
        &mut self,
        entries: impl Iterator<Item = &'a Entry>,
        ends: impl Fn(&Entry) -> bool,
        rollout: &mut Rollout,
    ) {
        self.update += 1;
        let (mut count, mut row) = (0, 0);
        let mut before: Option<&Entry> = None;
        for entry in entries {
            if !before.is_some_and(|before| entry.follows(before)) {
                let mut after = Running {
                    environment: entry.environment,
                    update: self.update,
                    ..Running::default()
                };
                if let Ok(at) = self.find(entry.environment)
                    && self.running[at].next_seq == entry.seq
                {
                    after.sum = self.running[at].sum;
                }
                self.stretches[count] = Stretch {
                    row,
                    after,
                    ..Stretch::default()
                };
                count += 1;
            }
            row += entry.transitions();
            let stretch = &mut self.stretches[count - 1];
            stretch.end = row;
            stretch.ends = ends(entry);
            stretch.after.next_seq = entry.next_seq();
            before = Some(entry);
        }
        while count > 0 {
            self.step(count, rollout);
            count = self.without_finished(count);
        }
    }

    /// A transition of each stretch.
    fn step(&mut self, count: usize, rollout: &mut Rollout) {
        let stretches = &mut self.stretches[..count];
        for (stretch, of_batch) in stretches.iter_mut().zip(&mut *self.batch) {
            let sum = &mut stretch.after.sum;
            *sum = *sum * self.gamma + f64::from(rollout.rewards[stretch.row]);
            *of_batch = *sum as f32;
        }
        self.moments.update(&self.batch[..count]);
        let scaled = scaled_by(&self.moments);
        for stretch in stretches {
            let reward = &mut rollout.rewards[stretch.row];
            *reward = scaled(*reward);
            stretch.row += 1;
            // Where the stretch goes on, the next row says whether an episode begins with it.
            let ended = if stretch.row == stretch.end {
                stretch.ends
            } else {
                rollout.starts[stretch.row]
            };
            if ended || !stretch.after.sum.is_finite() {
                stretch.after.sum = 0.0;
            }
        }
    }

    /// Remembers the returns of stretches that are through, and moves the others up.
    fn without_finished(&mut self, count: usize) -> usize {
        let mut left = 0;
        for at in 0..count {
            let stretch = self.stretches[at];
            if stretch.row < stretch.end {
                self.stretches[left] = stretch;
                left += 1;
            } else {
                self.remember(stretch.after);
            }
        }
        left
    }

    fn find(&self, environment: u64) -> Result<usize, usize> {
        self.running[..self.known].binary_search_by_key(&environment, |one| one.environment)
    }

    fn remember(&mut self, new: Running) {
        match self.find(new.environment) {
            Ok(at) => {
                // Of several stretches of one environment the last one's, in whatever order they are through.
                let old = &mut self.running[at];
                if old.update < new.update || old.next_seq < new.next_seq {
                    *old = new;
                }
            }
            Err(mut at) => {
                if self.known == self.running.len() {
                    let known = self.running[..self.known].iter();
                    let oldest = known.enumerate().min_by_key(|(_, one)| one.update);
                    let oldest = oldest.map_or(0, |(oldest, _)| oldest);
                    self.running.copy_within(oldest + 1..self.known, oldest);
                    self.known -= 1;
                    at -= usize::from(oldest < at);
                }
                self.running.copy_within(at..self.known, at + 1);
                self.running[at] = new;
                self.known += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests;
