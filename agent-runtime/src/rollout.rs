//! Transitions on their way to an update: allocated once, used again and again.

use crate::gae::{self, Trajectory};
use crate::loss::Transitions;
use crate::memory::{Buffer, Component, MemoryBudget, OverBudget};

/// How large a rollout is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Steps of each environment.
    pub steps: usize,
    /// Environments side by side.
    pub environments: usize,
    /// Numbers in an observation.
    pub inputs: usize,
    /// Numbers in an action.
    pub action: usize,
    /// Numbers in a mask; zero if nothing is masked.
    pub mask: usize,
}

/// So many steps of so many environments. Row `step * environments + environment` of each buffer is one transition.
#[derive(Debug)]
pub struct Rollout {
    shape: Shape,
    rows: usize,
    /// What was seen, normalised.
    pub observations: Buffer<f32>,
    /// What was done.
    pub actions: Buffer<f32>,
    /// What might have been done.
    pub masks: Buffer<bool>,
    /// ln π(a|s) of the behaviour.
    pub log_probs: Buffer<f32>,
    /// V(s) of then.
    pub values: Buffer<f32>,
    /// What it earned.
    pub rewards: Buffer<f32>,
    /// An episode began with it.
    pub starts: Buffer<bool>,
    /// Â, once [`Rollout::finish`] has been called.
    pub advantages: Buffer<f32>,
    /// Â + V(s), likewise.
    pub returns: Buffer<f32>,
}

impl Rollout {
    /// Room for a rollout of this shape.
    ///
    /// # Errors
    /// If it does not fit into the budget.
    pub fn new(budget: &MemoryBudget, shape: Shape) -> Result<Self, OverBudget> {
        let rows = shape.steps * shape.environments;
        let numbers = |width: usize| budget.buffer(Component::Rollout, rows * width, 0.0f32);
        Ok(Self {
            shape,
            rows,
            observations: numbers(shape.inputs)?,
            actions: numbers(shape.action)?,
            masks: budget.buffer(Component::Rollout, rows * shape.mask, true)?,
            log_probs: numbers(1)?,
            values: numbers(1)?,
            rewards: numbers(1)?,
            starts: budget.buffer(Component::Rollout, rows, false)?,
            advantages: numbers(1)?,
            returns: numbers(1)?,
        })
    }

    /// How large it is.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// How many transitions it holds.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Says that only the first `rows` are to be learnt from.
    pub(crate) fn set_rows(&mut self, rows: usize) {
        self.rows = rows.min(self.shape.steps * self.shape.environments);
    }

    /// Computes advantages and returns, once all steps are in.
    pub fn finish(&mut self, last_values: &[f32], last_ends: &[bool], gamma: f32, lambda: f32) {
        let trajectory = Trajectory {
            rewards: &self.rewards,
            values: &self.values,
            starts: &self.starts,
            last_values,
            last_ends,
        };
        gae::advantages(
            trajectory,
            gamma,
            lambda,
            &mut self.advantages,
            &mut self.returns,
        );
    }
}

/// Some rows of a rollout, side by side.
#[derive(Debug)]
pub(crate) struct Minibatch {
    pub(crate) observations: Buffer<f32>,
    actions: Buffer<f32>,
    masks: Buffer<bool>,
    log_probs: Buffer<f32>,
    values: Buffer<f32>,
    advantages: Buffer<f32>,
    returns: Buffer<f32>,
    rows: usize,
}

impl Minibatch {
    pub(crate) fn new(
        budget: &MemoryBudget,
        rows: usize,
        shape: Shape,
    ) -> Result<Self, OverBudget> {
        let numbers = |width: usize| budget.buffer(Component::Minibatch, rows * width, 0.0f32);
        Ok(Self {
            observations: numbers(shape.inputs)?,
            actions: numbers(shape.action)?,
            masks: budget.buffer(Component::Minibatch, rows * shape.mask, true)?,
            log_probs: numbers(1)?,
            values: numbers(1)?,
            advantages: numbers(1)?,
            returns: numbers(1)?,
            rows: 0,
        })
    }

    /// Takes these rows of `rollout`.
    pub(crate) fn gather(&mut self, rollout: &Rollout, rows: &[u32]) {
        let Shape {
            inputs,
            action,
            mask,
            ..
        } = rollout.shape;
        self.rows = rows.len();
        for (to, &from) in rows.iter().enumerate() {
            let from = from as usize;
            copy(
                &mut self.observations,
                &rollout.observations,
                to,
                from,
                inputs,
            );
            copy(&mut self.actions, &rollout.actions, to, from, action);
            copy(&mut self.masks, &rollout.masks, to, from, mask);
            self.log_probs[to] = rollout.log_probs[from];
            self.values[to] = rollout.values[from];
            self.advantages[to] = rollout.advantages[from];
            self.returns[to] = rollout.returns[from];
        }
    }

    pub(crate) fn transitions(&self) -> Transitions<'_> {
        let rows = self.rows;
        Transitions {
            actions: &self.actions,
            masks: &self.masks,
            log_probs: &self.log_probs[..rows],
            values: &self.values[..rows],
            advantages: &self.advantages[..rows],
            returns: &self.returns[..rows],
        }
    }
}

fn copy<T: Copy>(to: &mut [T], from: &[T], to_row: usize, from_row: usize, width: usize) {
    to[to_row * width..][..width].copy_from_slice(&from[from_row * width..][..width]);
}
