//! The loop: act, learn, again.

use std::collections::VecDeque;

use crate::distribution::{Distribution, Draw};
use crate::env::vector::Vector;
use crate::env::{Space, UnknownEnvironment};
use crate::hyper::{HyperParameters, OutOfRange};
use crate::memory::{MemoryBudget, OverBudget};
use crate::net::Tape;
use crate::normalise::{RewardScale, RunningMoments};
use crate::observation::{encode, inputs};
use crate::ppo::{Actions, CannotStart, Learner, Outcome, Policy, Statistics};
use crate::rng::Rng;
use crate::rollout::Rollout;
use crate::schedule::remaining;

/// Streams of the seed. Environments have those from [`ENVIRONMENTS`] on.
const PARAMETERS: u64 = 0;
const ACTIONS: u64 = 1;
const ORDER: u64 = 2;
const ENVIRONMENTS: u64 = 1 << 32;
/// Those of an evaluation are others than any of training's.
const EVALUATION: u64 = 1 << 48;

/// A mean return is over so many of the latest episodes, as in Stable-Baselines3.
pub const WINDOW: usize = 100;

/// Training ends when so many updates in a row had to be undone: what they learn from is broken, and more of it will not help.
pub const MOST_UNDONE: u64 = 10;

/// Why training cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum CannotTrain {
    /// There is nothing to train on.
    #[error(transparent)]
    Environment(#[from] UnknownEnvironment),
    /// A hyper-parameter makes no sense.
    #[error(transparent)]
    HyperParameter(#[from] OutOfRange),
    /// There is no room.
    #[error(transparent)]
    Memory(#[from] OverBudget),
}

/// Everything that training is: the learner, its environments, and what lies between them.
pub struct Trainer {
    pub(crate) environment: String,
    pub(crate) seed: u64,
    pub(crate) learner: Learner,
    pub(crate) vector: Vector,
    pub(crate) observations: Option<RunningMoments>,
    pub(crate) rewards: Option<RewardScale>,
    pub(crate) actions: Rng,
    pub(crate) order: Rng,
    pub(crate) progress: Progress,
    /// What the network gets next, a row an environment.
    pub(crate) inputs: Vec<f32>,
    /// An episode begins with it.
    pub(crate) starts: Vec<bool>,
    rollout: Rollout,
    tape: Tape,
    scratch: Scratch,
}

/// How far training has come.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// Environment steps.
    pub steps: u64,
    /// Updates, those that were undone among them.
    pub updates: u64,
    /// Episodes that ended.
    pub episodes: u64,
    /// Updates that were undone.
    pub undone: u64,
    /// How many of them were the latest, one after the other.
    pub undone_in_a_row: u64,
    /// Returns of the latest episodes, [`WINDOW`] of them at most.
    pub returns: VecDeque<f64>,
}

impl Progress {
    /// Mean return of the latest episodes; none if none has ended.
    #[must_use]
    pub fn mean_return(&self) -> Option<f64> {
        let count = self.returns.len() as f64;
        (count > 0.0).then(|| self.returns.iter().sum::<f64>() / count)
    }

    fn finished(&mut self, episode_return: f64) {
        self.episodes += 1;
        if self.returns.len() == WINDOW {
            self.returns.pop_front();
        }
        self.returns.push_back(episode_return);
    }
}

/// Room for one step of all environments.
struct Scratch {
    env_actions: Vec<f32>,
    rewards: Vec<f32>,
    final_inputs: Vec<f32>,
    final_values: Vec<f32>,
    values: Vec<f32>,
}

impl Trainer {
    /// Training from the beginning.
    ///
    /// # Errors
    /// If there is no such environment, a hyper-parameter makes no sense, or the budget is too small.
    pub fn new(
        environment: &str,
        hyper: HyperParameters,
        seed: u64,
        budget: &MemoryBudget,
    ) -> Result<Self, CannotTrain> {
        hyper.validate()?;
        let environments = hyper.n_envs;
        let vector = Vector::new(environment, environments, seed, ENVIRONMENTS)?;
        let width = inputs(vector.observation_space());
        let distribution = Distribution::over(vector.action_space());
        let observations = hyper
            .normalize_observation
            .then(|| RunningMoments::new(width));
        let rewards = hyper
            .normalize_reward
            .then(|| RewardScale::new(environments, hyper.gamma));
        let learner = Learner::new(
            width,
            distribution,
            false,
            hyper,
            budget,
            &mut Rng::new(seed, PARAMETERS),
        )?;
        let mut trainer = Self {
            environment: environment.to_owned(),
            seed,
            observations,
            rewards,
            actions: Rng::new(seed, ACTIONS),
            order: Rng::new(seed, ORDER),
            progress: Progress {
                returns: VecDeque::with_capacity(WINDOW),
                ..Progress::default()
            },
            inputs: vec![0.0; environments * width],
            starts: vec![true; environments],
            rollout: Rollout::new(budget, learner.shape())?,
            tape: Tape::inference(learner.net(), budget, environments)?,
            scratch: Scratch {
                env_actions: vec![0.0; environments * vector.action_space().width()],
                rewards: vec![0.0; environments],
                final_inputs: vec![0.0; width],
                final_values: vec![0.0; 1],
                values: vec![0.0; environments],
            },
            learner,
            vector,
        };
        trainer.observe();
        Ok(trainer)
    }

    /// Updates with so many threads from now on: [`Learner::set_threads`].
    ///
    /// # Errors
    /// As there.
    pub fn set_threads(
        &mut self,
        threads: usize,
        budget: &MemoryBudget,
    ) -> Result<(), CannotStart> {
        self.learner.set_threads(threads, budget)
    }

    /// How far it has come.
    #[must_use]
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The name of its environment.
    #[must_use]
    pub fn environment(&self) -> &str {
        &self.environment
    }

    /// What all its chance comes from.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// What learns.
    #[must_use]
    pub fn learner(&self) -> &Learner {
        &self.learner
    }

    /// What the policy sees the world through.
    #[must_use]
    pub fn normaliser(&self) -> Option<&RunningMoments> {
        self.observations.as_ref()
    }

    /// The horizon is reached.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.learner
            .hyper()
            .n_timesteps
            .is_some_and(|horizon| self.progress.steps >= horizon)
    }

    /// One rollout and one update. Nothing is allocated.
    pub fn advance(&mut self) -> Statistics {
        self.collect();
        let left = remaining(self.progress.steps, self.learner.hyper().n_timesteps);
        let statistics = self
            .learner
            .update(&self.rollout, left, |order| self.order.shuffle(order));
        self.progress.updates += 1;
        if statistics.outcome == Outcome::Undone {
            self.progress.undone += 1;
            self.progress.undone_in_a_row += 1;
        } else {
            self.progress.undone_in_a_row = 0;
        }
        statistics
    }

    fn collect(&mut self) {
        let shape = self.rollout.shape();
        let environments = shape.environments;
        for step in 0..shape.steps {
            let rows = step * environments..(step + 1) * environments;
            let of = |width: usize| rows.start * width..rows.end * width;
            self.rollout.observations[of(shape.inputs)].copy_from_slice(&self.inputs);
            self.rollout.starts[rows.clone()].copy_from_slice(&self.starts);
            let actions = &mut self.rollout.actions[of(shape.action)];
            let mut to = Actions {
                actions,
                log_probs: &mut self.rollout.log_probs[rows.clone()],
                values: &mut self.rollout.values[rows.clone()],
            };
            let draw = Draw::Sample(&mut self.actions);
            self.learner
                .policy()
                .act(&self.inputs, &[], &mut self.tape, draw, &mut to);
            clip(
                self.vector.action_space(),
                to.actions,
                &mut self.scratch.env_actions,
            );
            self.vector.step(&self.scratch.env_actions);
            self.observe();
            self.reward();
            self.rollout.rewards[rows].copy_from_slice(&self.scratch.rewards);
            for finished in self.vector.finished() {
                self.progress.finished(finished.episode_return);
            }
        }
        self.progress.steps += self.rollout.rows() as u64;
        let Scratch { values, .. } = &mut self.scratch;
        self.learner
            .policy()
            .values(&self.inputs, &mut self.tape, values);
        let hyper = self.learner.hyper();
        self.rollout.finish(
            values,
            &self.starts,
            hyper.gamma as f32,
            hyper.gae_lambda as f32,
        );
    }

    /// Makes the network's input of what the environments show.
    fn observe(&mut self) {
        let space = self.vector.observation_space();
        let observations = self.vector.observations().chunks_exact(space.width());
        let width = inputs(space);
        for (observation, inputs) in observations.zip(self.inputs.chunks_exact_mut(width)) {
            encode(space, observation, inputs);
        }
        if let Some(moments) = &mut self.observations {
            moments.update(&self.inputs);
            moments.normalise(&mut self.inputs);
        }
    }

    /// Scales the rewards, and adds to that of an episode which was cut off what its last state was worth (Pardo and others,
    /// "Time Limits in Reinforcement Learning", 2018).
    fn reward(&mut self) {
        let Scratch {
            rewards,
            final_inputs,
            final_values,
            ..
        } = &mut self.scratch;
        let steps = self.vector.steps();
        for ((reward, start), step) in rewards.iter_mut().zip(&mut self.starts).zip(steps) {
            *reward = step.reward as f32;
            *start = step.done();
        }
        if let Some(scale) = &mut self.rewards {
            scale.step(rewards, &self.starts);
        }
        let space = self.vector.observation_space();
        let finals = self.vector.final_observations().chunks_exact(space.width());
        for ((reward, step), observation) in rewards.iter_mut().zip(steps).zip(finals) {
            if step.cut_off() {
                encode(space, observation, final_inputs);
                if let Some(moments) = &self.observations {
                    moments.normalise(final_inputs);
                }
                self.learner
                    .policy()
                    .values(final_inputs, &mut self.tape, final_values);
                *reward += self.learner.hyper().gamma as f32 * final_values[0];
            }
        }
    }
}

/// What the environment gets of an action: within the bounds of a Box.
fn clip(space: &Space, actions: &[f32], env_actions: &mut [f32]) {
    env_actions.copy_from_slice(actions);
    if let Space::Box { low, high } = space {
        for action in env_actions.chunks_exact_mut(low.len()) {
            for ((x, low), high) in action.iter_mut().zip(low).zip(high) {
                *x = x.clamp(*low, *high);
            }
        }
    }
}

/// The returns of `episodes` fresh episodes in which the policy takes its mode, side by side.
///
/// # Errors
/// If there is no such environment, or no room.
pub fn evaluate(
    environment: &str,
    policy: Policy<'_>,
    normaliser: Option<&RunningMoments>,
    episodes: usize,
    seed: u64,
    budget: &MemoryBudget,
) -> Result<Vec<f64>, CannotTrain> {
    let mut vector = Vector::new(environment, episodes, seed, EVALUATION)?;
    let mut tape = Tape::inference(policy.net, budget, episodes)?;
    let width = policy.net.architecture().inputs;
    let action_width = policy.distribution.action_width();
    let mut rows = vec![0.0; episodes * width];
    let (mut actions, mut env_actions) = (
        vec![0.0; episodes * action_width],
        vec![0.0; episodes * action_width],
    );
    let (mut log_probs, mut values) = (vec![0.0; episodes], vec![0.0; episodes]);
    let mut returns = vec![None; episodes];
    while returns.contains(&None) {
        let space = vector.observation_space();
        let observations = vector.observations().chunks_exact(space.width());
        for (observation, row) in observations.zip(rows.chunks_exact_mut(width)) {
            encode(space, observation, row);
        }
        if let Some(moments) = normaliser {
            moments.normalise(&mut rows);
        }
        let mut to = Actions {
            actions: &mut actions,
            log_probs: &mut log_probs,
            values: &mut values,
        };
        policy.act(&rows, &[], &mut tape, Draw::Mode, &mut to);
        clip(vector.action_space(), &actions, &mut env_actions);
        vector.step(&env_actions);
        for finished in vector.finished() {
            returns[finished.environment].get_or_insert(finished.episode_return);
        }
    }
    Ok(returns.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests;
