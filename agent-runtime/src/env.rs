//! Environments: what there is to learn.

use crate::rng::Rng;

/// The values that an observation or an action may take, named as Gymnasium names them.
#[derive(Clone, Debug, PartialEq)]
pub enum Space {
    /// Real numbers, each within its bounds.
    Box {
        /// The least value of each number.
        low: Vec<f32>,
        /// The greatest value of each number.
        high: Vec<f32>,
    },
    /// One whole number below this.
    Discrete(usize),
    /// Several whole numbers, each below its own bound.
    MultiDiscrete(Vec<usize>),
    /// So many numbers, each zero or one.
    MultiBinary(usize),
}

/// What came of an action, besides the next observation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// What the action was worth.
    pub reward: f64,
    /// The episode came to an end of its own.
    pub terminated: bool,
    /// The episode was cut off from outside, by a limit of time: what would have come after still counts.
    pub truncated: bool,
}

/// Something that observes, is acted upon, and rewards. All its chance comes from the generator it is handed.
pub trait Environment: Send {
    /// What `observation` holds: a number each for Box and `MultiBinary`, an index each for Discrete and `MultiDiscrete`.
    fn observation_space(&self) -> Space;

    /// What `action` holds, in the same manner.
    fn action_space(&self) -> Space;

    /// Begins an episode.
    fn reset(&mut self, rng: &mut Rng, observation: &mut [f32]);

    /// Takes one action. After the end of an episode comes a reset.
    fn step(&mut self, action: &[f32], rng: &mut Rng, observation: &mut [f32]) -> Step;

    /// Appends to `state` all that the next step depends on, so that training resumed from a checkpoint continues bit for bit.
    fn save(&self, state: &mut Vec<f64>);

    /// Takes up a saved state. `false` if it is not one of this environment's.
    #[must_use]
    fn restore(&mut self, state: &[f64]) -> bool;
}

/// No environment has this name.
#[derive(Debug, thiserror::Error)]
#[error("there is no environment named {name:?}; the nearest is {nearest:?}")]
pub struct UnknownEnvironment {
    /// The name that was asked for.
    pub name: String,
    /// The nearest name that there is.
    pub nearest: &'static str,
}

/// The names of all environments.
pub const NAMES: &[&str] = &["CartPole-v1"];

/// The environment of this name.
///
/// # Errors
/// If there is none; the error names the nearest.
pub fn make(name: &str) -> Result<Box<dyn Environment>, UnknownEnvironment> {
    match name {
        "CartPole-v1" => Ok(Box::new(cartpole::CartPole::default())),
        _ => Err(UnknownEnvironment {
            name: name.to_owned(),
            nearest: NAMES
                .iter()
                .max_by(|a, b| {
                    strsim::jaro_winkler(a, name).total_cmp(&strsim::jaro_winkler(b, name))
                })
                .copied()
                .unwrap_or_default(),
        }),
    }
}

pub mod cartpole;
