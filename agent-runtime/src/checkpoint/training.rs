//! Training as tensors, and back.

use std::collections::VecDeque;

use super::{BadCheckpoint, Checkpoint, POLICY, Reason, TRAINING, bad};
use crate::env::vector::Saved;
use crate::memory::MemoryBudget;
use crate::normalise::RunningMoments;
use crate::ppo::Learner;
use crate::rng::Rng;
use crate::tensors::{BadTensors, Read, Tensors};
use crate::train::{Progress, Trainer, WINDOW};

/// Before the names of the observations' moments.
pub(super) const MOMENTS: &str = "observation.";
pub(super) const REWARDS: &str = "reward.";
const ADAM_MEAN: &str = "adam.mean.";
const ADAM_SQUARE: &str = "adam.square.";

/// `policy.safetensors`.
pub(super) fn policy(trainer: &Trainer) -> Result<Vec<u8>, BadTensors> {
    policy_of(trainer.learner(), trainer.normaliser())
}

/// The same of a learner and what it sees the world through.
pub(super) fn policy_of(
    learner: &Learner,
    normaliser: Option<&RunningMoments>,
) -> Result<Vec<u8>, BadTensors> {
    let mut tensors = Tensors::default();
    tensors.network("", learner.net(), learner.parameters());
    if let Some(moments) = normaliser {
        write_moments(&mut tensors, MOMENTS, moments);
    }
    tensors.to_bytes()
}

/// What every learner's training depends on: optimiser, order of rows, and the latest returns.
pub(super) fn write_learner(
    tensors: &mut Tensors,
    learner: &Learner,
    order: &Rng,
    returns: &VecDeque<f64>,
) {
    tensors.network(ADAM_MEAN, learner.net(), &learner.adam().mean);
    tensors.network(ADAM_SQUARE, learner.net(), &learner.adam().square);
    tensors.u64("rng.order", &[4], order.save());
    tensors.f64("returns", &[returns.len()], returns.iter().copied());
}

/// `training.safetensors`.
pub(super) fn training(trainer: &Trainer) -> Result<Vec<u8>, BadTensors> {
    let mut tensors = Tensors::default();
    let returns = &trainer.progress().returns;
    write_learner(&mut tensors, trainer.learner(), &trainer.order, returns);
    tensors.u64("rng.actions", &[4], trainer.actions.save());
    tensors.f32(
        "inputs",
        &[trainer.inputs.len()],
        trainer.inputs.iter().copied(),
    );
    tensors.u64(
        "starts",
        &[trainer.starts.len()],
        trainer.starts.iter().map(|&start| u64::from(start)),
    );
    if let Some(scale) = &trainer.rewards {
        let (moments, returns) = scale.save();
        write_moments(&mut tensors, REWARDS, moments);
        tensors.f64(
            format!("{REWARDS}returns"),
            &[returns.len()],
            returns.iter().copied(),
        );
    }
    let mut states = Vec::new();
    trainer.vector.save(&mut states);
    for (at, saved) in states.iter().enumerate() {
        let name = |part: &str| format!("environment.{at}.{part}");
        tensors.f64(
            name("state"),
            &[saved.state.len()],
            saved.state.iter().copied(),
        );
        tensors.u64(name("rng"), &[4], saved.rng);
        tensors.f32(
            name("observation"),
            &[saved.observation.len()],
            saved.observation.iter().copied(),
        );
        tensors.f64(name("return"), &[1], [saved.episode_return]);
        tensors.u64(name("length"), &[1], [u64::from(saved.length)]);
    }
    tensors.to_bytes()
}

pub(super) fn write_moments(tensors: &mut Tensors, prefix: &str, moments: &RunningMoments) {
    let (mean, variance, count) = moments.save();
    tensors.f64(format!("{prefix}mean"), &[mean.len()], mean.iter().copied());
    tensors.f64(
        format!("{prefix}variance"),
        &[variance.len()],
        variance.iter().copied(),
    );
    tensors.f64(format!("{prefix}count"), &[1], [count]);
}

pub(super) fn moments(
    read: &Read<'_>,
    prefix: &str,
    width: usize,
) -> Result<RunningMoments, BadTensors> {
    let name = |part: &str| format!("{prefix}{part}");
    let (mean, variance) = (read.f64(&name("mean"))?, read.f64(&name("variance"))?);
    let count = read.f64(&name("count"))?.first().copied().unwrap_or(0.0);
    if mean.len() != width {
        return Err(BadTensors::Shape {
            name: name("mean"),
            found: vec![mean.len()],
            wanted: vec![width],
        });
    }
    RunningMoments::restore(mean, variance, count)
        .ok_or_else(|| BadTensors::NotFinite(name("variance")))
}

impl Checkpoint {
    /// Training as it was, to go on from here. `n_timesteps` replaces the horizon, where given.
    ///
    /// # Errors
    /// If what was read does not fit together, or the budget is too small.
    pub fn resume(
        &self,
        n_timesteps: Option<u64>,
        budget: &MemoryBudget,
    ) -> Result<Trainer, BadCheckpoint> {
        self.try_resume(n_timesteps, budget)
            .map_err(|reason| bad(&self.path, reason))
    }

    fn try_resume(
        &self,
        n_timesteps: Option<u64>,
        budget: &MemoryBudget,
    ) -> Result<Trainer, Reason> {
        let manifest = &self.manifest;
        let mut hyper = manifest.hyperparameters.clone();
        hyper.n_timesteps = n_timesteps.or(hyper.n_timesteps);
        let mut trainer = Trainer::new(&manifest.environment, hyper, manifest.seed, budget)?;
        let misfit = |what| self.misfit(what);
        trainer.progress = self.load_learner(
            &mut trainer.learner,
            &mut trainer.observations,
            &mut trainer.order,
        )?;
        let read = Read::new(&self.training).map_err(of_training)?;
        trainer.actions = self.rng(&read, "rng.actions")?;
        let (inputs, starts) = (
            read.f32("inputs").map_err(of_training)?,
            read.u64("starts").map_err(of_training)?,
        );
        if inputs.len() != trainer.inputs.len() || starts.len() != trainer.starts.len() {
            return Err(misfit("the number of environments"));
        }
        trainer.inputs = inputs;
        trainer.starts = starts.iter().map(|&start| start == 1).collect();
        if let Some(scale) = &mut trainer.rewards {
            let moments = moments(&read, REWARDS, 1).map_err(of_training)?;
            let returns = read
                .f64(&format!("{REWARDS}returns"))
                .map_err(of_training)?;
            if !scale.restore(moments, returns) {
                return Err(misfit("the scale of rewards"));
            }
        }
        let states = (0..trainer.vector.len())
            .map(|at| environment(&read, at))
            .collect::<Result<Vec<_>, _>>();
        let states = states.map_err(of_training)?;
        if !states
            .into_iter()
            .collect::<Option<Vec<_>>>()
            .is_some_and(|states| trainer.vector.restore(&states))
        {
            return Err(misfit("an environment's state"));
        }
        Ok(trainer)
    }
}

fn of_policy(error: BadTensors) -> Reason {
    Reason::Tensors {
        file: POLICY,
        error,
    }
}

pub(super) fn of_training(error: BadTensors) -> Reason {
    Reason::Tensors {
        file: TRAINING,
        error,
    }
}

impl Checkpoint {
    pub(super) fn misfit(&self, what: &'static str) -> Reason {
        Reason::State(what, self.manifest.environment.clone())
    }

    fn rng(&self, read: &Read<'_>, name: &str) -> Result<Rng, Reason> {
        let state = read.u64(name).map_err(of_training)?;
        let state = state.try_into().map(Rng::restore);
        state.map_err(|_| self.misfit("a generator"))
    }

    /// Loads what every learner's training depends on, and says how far it had come.
    pub(super) fn load_learner(
        &self,
        learner: &mut Learner,
        observations: &mut Option<RunningMoments>,
        order: &mut Rng,
    ) -> Result<Progress, Reason> {
        let manifest = &self.manifest;
        let read = Read::new(&self.policy).map_err(of_policy)?;
        let net = learner.net().clone();
        read.network("", &net, learner.parameters_mut())
            .map_err(of_policy)?;
        if let Some(observations) = observations {
            *observations = moments(&read, MOMENTS, observations.width()).map_err(of_policy)?;
        }
        let read = Read::new(&self.training).map_err(of_training)?;
        let adam = learner.adam_mut();
        read.network(ADAM_MEAN, &net, &mut adam.mean)
            .map_err(of_training)?;
        read.network(ADAM_SQUARE, &net, &mut adam.square)
            .map_err(of_training)?;
        adam.steps = manifest.adam_steps;
        *order = self.rng(&read, "rng.order")?;
        let latest = read.f64("returns").map_err(of_training)?;
        if latest.len() > WINDOW {
            return Err(self.misfit("the number of returns"));
        }
        let mut returns = VecDeque::with_capacity(WINDOW);
        returns.extend(latest);
        Ok(Progress {
            steps: manifest.steps,
            updates: manifest.updates,
            episodes: manifest.episodes,
            undone: manifest.undone,
            undone_in_a_row: manifest.undone_in_a_row,
            returns,
        })
    }
}

/// One environment; none if it has another shape than any.
fn environment(read: &Read<'_>, at: usize) -> Result<Option<Saved>, BadTensors> {
    let name = |part: &str| format!("environment.{at}.{part}");
    let (state, observation) = (read.f64(&name("state"))?, read.f32(&name("observation"))?);
    let (rng, length) = (read.u64(&name("rng"))?, read.u64(&name("length"))?);
    let episode_return = read.f64(&name("return"))?;
    let (Ok(rng), [episode_return], [length]) = (rng.try_into(), &*episode_return, &*length) else {
        return Ok(None);
    };
    Ok(u32::try_from(*length).ok().map(|length| Saved {
        state,
        rng,
        observation,
        episode_return: *episode_return,
        length,
    }))
}
