//! What acts: the policy as it was published last, and room to act in.
//!
//! A version never changes once it is here. Learning writes the next one beside it and swaps the two, so that acting waits for nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use arc_swap::ArcSwap;

use super::spec::{AgentSpec, Spaces};
use crate::distribution::{Distribution, Draw};
use crate::env::Space;
use crate::memory::{Buffer, Component, MemoryBudget, OverBudget};
use crate::net::{Net, Tape};
use crate::normalise::RunningMoments;
use crate::observation::encode;
use crate::ppo::{Actions, Policy};
use crate::rng::Rng;
use crate::simd::Simd;

/// So many observations are acted on at once: then others have their turn.
pub const ROWS: usize = 64;
/// Or as many as this has room for, each with as many multiplications as there are parameters: about a millisecond.
const TURN: usize = 1 << 23;
/// Streams of the seed that draw actions begin here.
const ACTING: u64 = 1 << 40;

/// See the module.
#[derive(Debug)]
pub struct Acting {
    net: Net,
    distribution: Distribution,
    simd: Simd,
    spaces: Spaces,
    start: i64,
    current: ArcSwap<Version>,
    spare: Mutex<Option<Arc<Version>>>,
    budget: MemoryBudget,
    rooms: Vec<Mutex<Room>>,
}

/// A policy that was published.
#[derive(Debug)]
pub struct Version {
    number: u64,
    parameters: Buffer<f32>,
    normaliser: Option<RunningMoments>,
}

/// What acting needs besides.
#[derive(Debug)]
struct Room {
    tape: Tape,
    inputs: Buffer<f32>,
    rng: Rng,
}

/// What an agent is asked to act on: rows that were checked.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// What is seen.
    pub observations: &'a [f32],
    /// What is possible; empty: everything.
    pub masks: &'a [bool],
    /// The likeliest action instead of one by chance.
    pub deterministic: bool,
}

/// What it does.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// As the policy has drawn them: to be sent back with the experience.
    pub actions: Vec<f32>,
    /// ln π(a|s).
    pub log_probs: Vec<f32>,
    /// V(s).
    pub values: Vec<f32>,
    /// The version that acted.
    pub version: u64,
}

impl Acting {
    /// A policy that acts in `concurrency` places at once.
    ///
    /// # Errors
    /// If it does not fit into the budget.
    pub fn new(
        spec: &AgentSpec,
        spaces: &Spaces,
        policy: Policy<'_>,
        normaliser: Option<&RunningMoments>,
        number: u64,
        concurrency: usize,
        budget: &MemoryBudget,
    ) -> Result<Self, OverBudget> {
        let room = |at: usize| {
            Ok(Mutex::new(Room {
                tape: Tape::inference(policy.net, budget, ROWS)?,
                inputs: budget.buffer(Component::Activations, ROWS * spaces.inputs(), 0.0)?,
                rng: Rng::new(entropy(spec.seed), ACTING + at as u64),
            }))
        };
        let version = || {
            let mut version = Version {
                number,
                parameters: budget.buffer(Component::Parameters, policy.parameters.len(), 0.0)?,
                normaliser: normaliser.cloned(),
            };
            version.parameters.copy_from_slice(policy.parameters);
            Ok(Arc::new(version))
        };
        Ok(Self {
            net: policy.net.clone(),
            distribution: policy.distribution.clone(),
            simd: policy.simd,
            start: spec.action_space.start(),
            spaces: spaces.clone(),
            current: ArcSwap::new(version()?),
            spare: Mutex::new(Some(version()?)),
            rooms: (0..concurrency.max(1))
                .map(room)
                .collect::<Result<_, OverBudget>>()?,
            budget: budget.clone(),
        })
    }

    /// Publishes a version.
    ///
    /// # Errors
    /// If somebody still acts by the one before the last, and there is no room for a third.
    pub fn publish(
        &self,
        number: u64,
        parameters: &[f32],
        normaliser: Option<&RunningMoments>,
    ) -> Result<(), OverBudget> {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = match spare.take() {
            Some(spare) => spare,
            None => Arc::new(self.room_for(parameters.len())?),
        };
        if Arc::get_mut(&mut next).is_none() {
            next = Arc::new(self.room_for(parameters.len())?);
        }
        if let Some(version) = Arc::get_mut(&mut next) {
            version.number = number;
            version.parameters.copy_from_slice(parameters);
            version.normaliser.clone_from(&normaliser.cloned());
        }
        *spare = Some(self.current.swap(next));
        Ok(())
    }

    fn room_for(&self, parameters: usize) -> Result<Version, OverBudget> {
        Ok(Version {
            number: 0,
            parameters: self.budget.buffer(Component::Parameters, parameters, 0.0)?,
            normaliser: None,
        })
    }

    /// The version that acts now.
    #[must_use]
    pub fn current(&self) -> Arc<Version> {
        self.current.load_full()
    }

    /// How many rows are a turn: fewer of a large policy.
    #[must_use]
    pub fn rows_a_turn(&self, version: &Version) -> usize {
        (TURN / version.parameters.len().max(1)).clamp(1, ROWS)
    }

    /// What the agent sees and does.
    #[must_use]
    pub fn spaces(&self) -> &Spaces {
        &self.spaces
    }

    /// What its head means.
    #[must_use]
    pub fn distribution(&self) -> &Distribution {
        &self.distribution
    }

    /// Acts on at most [`ROWS`] rows, by this version, and appends to `answer`.
    pub fn act(&self, version: &Version, question: Question<'_>, answer: &mut Answer) {
        let (space, inputs) = (&self.spaces.observation, self.spaces.inputs());
        let rows = question.observations.len() / space.width();
        let mut guard = self.room();
        let Room {
            tape,
            inputs: numbers,
            rng,
        } = &mut *guard;
        let numbers = &mut numbers[..rows * inputs];
        let observations = question.observations.chunks_exact(space.width());
        for (observation, row) in observations.zip(numbers.chunks_exact_mut(inputs)) {
            encode(space, observation, row);
        }
        if let Some(moments) = &version.normaliser {
            moments.normalise(numbers);
        }
        let begin = answer.values.len();
        let width = self.distribution.action_width();
        answer.actions.resize((begin + rows) * width, 0.0);
        answer.log_probs.resize(begin + rows, 0.0);
        answer.values.resize(begin + rows, 0.0);
        answer.version = version.number;
        let draw = if question.deterministic {
            Draw::Mode
        } else {
            Draw::Sample(rng)
        };
        let mut to = Actions {
            actions: &mut answer.actions[begin * width..],
            log_probs: &mut answer.log_probs[begin..],
            values: &mut answer.values[begin..],
        };
        let policy = Policy {
            simd: self.simd,
            net: &self.net,
            distribution: &self.distribution,
            parameters: &version.parameters,
        };
        policy.act(numbers, question.masks, tape, draw, &mut to);
    }

    /// What the environment gets of an action: within the bounds of a Box, and from where a Discrete space begins.
    #[must_use]
    pub fn env_action(&self, at: usize, x: f32) -> f32 {
        match &self.spaces.action {
            Space::Box { low, high } => {
                let at = at % low.len();
                x.clamp(low[at], high[at])
            }
            Space::Discrete(_) => x + self.start as f32,
            Space::MultiDiscrete(_) | Space::MultiBinary(_) => x,
        }
    }

    /// A room that nobody acts in; if there is none, the first that is free again.
    fn room(&self) -> MutexGuard<'_, Room> {
        for room in &self.rooms {
            match room.try_lock() {
                Ok(room) => return room,
                Err(TryLockError::Poisoned(room)) => return room.into_inner(),
                Err(TryLockError::WouldBlock) => {}
            }
        }
        self.rooms[0].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Version {
    /// Its number.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }
}

/// What is drawn while serving is not to be repeated by a restart: the seed and the time.
fn entropy(seed: u64) -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    seed ^ now.map_or(0, |now| now.as_nanos() as u64)
}
