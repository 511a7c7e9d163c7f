//! From fragments to a rollout that the learner can learn from.
//!
//! Fragments of one environment that follow each other are put together again, so that the advantages are those of the rollout they were cut from;
//! where nothing follows, the value of the observation that closes the fragment stands for what would have come. Values are recomputed with the
//! policy as it is; the probability of an action is the behaviour's: it is what the ratio of Schulman and others, "Proximal Policy Optimization
//! Algorithms", 2017, section 3, divides by.

#[cfg(test)]
mod tests;

use super::store::{Entry, Store};
use super::{End, Fragments, Rewards};
use crate::gae::{self, Trajectory};
use crate::memory::{Buffer, Component, MemoryBudget, OverBudget};
use crate::net::{Net, Tape};
use crate::normalise::RunningMoments;
use crate::ppo::Learner;
use crate::rollout::{Rollout, Shape};

/// So many observations get their values at once.
const ROWS: usize = 64;

/// What loading a rollout needs beside it. Allocated once, used again and again.
#[derive(Debug)]
pub struct Room {
    tape: Tape,
    /// The fragments that were taken, sorted by environment and number.
    order: Buffer<u32>,
    /// A closing observation, normalised.
    closing: Buffer<f32>,
}

impl Room {
    /// Room to load what this buffer holds for this network.
    ///
    /// # Errors
    /// If it does not fit into the budget.
    pub fn new(
        budget: &MemoryBudget,
        fragments: &Fragments,
        net: &Net,
    ) -> Result<Self, OverBudget> {
        let inputs = fragments.store.shape().inputs;
        Ok(Self {
            tape: Tape::inference(net, budget, ROWS)?,
            order: budget.buffer(Component::Fragments, fragments.most().fragments, 0u32)?,
            closing: budget.buffer(Component::Fragments, inputs, 0.0f32)?,
        })
    }
}

impl Fragments {
    /// Copies the fragments that were [taken](Self::take) to `rollout`, of the learner's shape: sorted by environment and number, whatever the order
    /// in which they arrived, with values and advantages. `normaliser` is what the policy sees the world through; `rewards` scales rewards, and goes on
    /// with what it sees of them: once an update. Gives the number of transitions.
    pub fn load(
        &self,
        learner: &Learner,
        normaliser: Option<&RunningMoments>,
        rewards: Option<&mut Rewards>,
        room: &mut Room,
        rollout: &mut Rollout,
    ) -> usize {
        let entries = self.store.entries();
        let mut count = 0;
        for (at, entry) in (0..).zip(entries) {
            if entry.taken {
                room.order[count] = at;
                count += 1;
            }
        }
        let entry = |at: u32| &entries[at as usize];
        room.order[..count].sort_unstable_by_key(|&at| {
            let entry = entry(at);
            (entry.environment, entry.seq, at)
        });
        let mut rows = 0;
        for &at in &room.order[..count] {
            copy(&self.store, entry(at), rollout, rows);
            rows += entry(at).transitions();
        }
        rollout.set_rows(rows);
        if let Some(rewards) = rewards {
            let entries = room.order[..count].iter().map(|&at| entry(at));
            rewards.scale(entries, |entry| self.store.ends_episode(entry), rollout);
        }
        let width = self.store.shape().inputs;
        if let Some(moments) = normaliser {
            moments.normalise(&mut rollout.observations[..rows * width]);
        }
        let policy = learner.policy();
        let observations = rollout.observations[..rows * width].chunks(ROWS * width);
        for (observations, values) in observations.zip(rollout.values[..rows].chunks_mut(ROWS)) {
            policy.values(observations, &mut room.tape, values);
        }

        let Room {
            tape,
            order,
            closing,
        } = room;
        let mut value_of = |row: usize| {
            closing.copy_from_slice(&self.store.closings[row * width..][..width]);
            if let Some(moments) = normaliser {
                moments.normalise(closing);
            }
            let mut value = [0.0];
            policy.values(closing, tape, &mut value);
            value[0]
        };
        let hyper = learner.hyper();
        let (gamma, lambda) = (hyper.gamma as f32, hyper.gae_lambda as f32);
        let (mut begin, mut row) = (0, 0);
        for (at, &index) in order[..count].iter().enumerate() {
            let this = entry(index);
            let mut closings = this.closings();
            let mut last_end = End::GoesOn;
            for end in &self.store.ends[this.rows()] {
                // Final observations come in the order of their transitions.
                if *end == End::Truncated {
                    rollout.rewards[row] += gamma * closings.next().map_or(0.0, &mut value_of);
                }
                last_end = *end;
                row += 1;
            }
            let next = order[..count].get(at + 1).map(|&next| entry(next));
            if next.is_some_and(|next| next.follows(this)) {
                continue;
            }
            // The value of what comes next counts for nothing where the episode has ended.
            let last_value = closings.next().map_or(0.0, &mut value_of);
            let trajectory = Trajectory {
                rewards: &rollout.rewards[begin..row],
                values: &rollout.values[begin..row],
                starts: &rollout.starts[begin..row],
                last_values: &[last_value],
                last_ends: &[last_end != End::GoesOn],
            };
            gae::advantages(
                trajectory,
                gamma,
                lambda,
                &mut rollout.advantages[begin..row],
                &mut rollout.returns[begin..row],
            );
            begin = row;
        }
        rows
    }

    /// Lets a normaliser see the observations that the running update has learnt from, before it [ends](Self::finish). The policy that acted, and that was
    /// updated, saw the world through the moments as they were; those that come of this belong to the next version, and are published with it.
    pub fn observe(&self, moments: &mut RunningMoments) {
        let width = self.store.shape().inputs;
        for entry in self.store.entries().iter().filter(|entry| entry.taken) {
            let rows = entry.rows();
            moments.update(&self.store.observations[rows.start * width..rows.end * width]);
        }
    }
}

/// A fragment to rows `to` and following of a rollout, rewards as they were.
fn copy(store: &Store, entry: &Entry, rollout: &mut Rollout, to: usize) {
    let Shape {
        inputs,
        action,
        mask,
        ..
    } = store.shape();
    let rows = entry.rows();
    let of = |width: usize| rows.start * width..rows.end * width;
    let into = |width: usize| to * width..(to + rows.len()) * width;
    rollout.observations[into(inputs)].copy_from_slice(&store.observations[of(inputs)]);
    rollout.actions[into(action)].copy_from_slice(&store.actions[of(action)]);
    rollout.masks[into(mask)].copy_from_slice(&store.masks[of(mask)]);
    rollout.log_probs[into(1)].copy_from_slice(&store.log_probs[of(1)]);
    rollout.rewards[into(1)].copy_from_slice(&store.rewards[of(1)]);
    // A transition begins an episode if the one before it ended one. What this says of a row after a gap is never read.
    for (at, end) in (to + 1..).zip(&store.ends[rows]) {
        if let Some(next) = rollout.starts.get_mut(at) {
            *next = *end != End::GoesOn;
        }
    }
}
