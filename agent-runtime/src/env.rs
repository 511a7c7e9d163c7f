//! Environments: what there is to learn.
//!
//! - [`Environment`]: what each of them can do; [`make`] finds one by its name.
//! - `episode`: the limit of time around the dynamics.
//! - `cartpole`, `acrobot`, `mountain_car`, `pendulum`: Gymnasium's, number for number.
//! - [`stream_steering`]: batch size and consumers of a stream under changing load.
//! - [`vector`]: several at once, begun again as they end.

mod acrobot;
mod cartpole;
mod episode;
mod mountain_car;
mod pendulum;
pub mod stream_steering;
pub mod vector;

#[cfg(test)]
mod trajectories;

use crate::rng::Rng;
use episode::Episode;

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

impl Space {
    /// The numbers that hold one of its values.
    #[must_use]
    pub fn width(&self) -> usize {
        match self {
            Self::Box { low, .. } => low.len(),
            Self::Discrete(_) => 1,
            Self::MultiDiscrete(bounds) => bounds.len(),
            Self::MultiBinary(width) => *width,
        }
    }

    /// Draws one of its values, each as likely as any other. A number without bounds is drawn from the standard normal distribution.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "values are f32, as Gymnasium's, and there are never 2²⁴ of one kind"
    )]
    pub fn sample(&self, rng: &mut Rng, value: &mut [f32]) {
        let mut below = |bound: usize| rng.below(bound as u32) as f32;
        match self {
            Self::Box { low, high } => {
                for ((value, &low), &high) in value.iter_mut().zip(low).zip(high) {
                    *value = if low.is_finite() && high.is_finite() {
                        (f64::from(low) + f64::from(high - low) * rng.uniform()) as f32
                    } else {
                        rng.normal() as f32
                    };
                }
            }
            Self::Discrete(bound) => value[0] = below(*bound),
            Self::MultiDiscrete(bounds) => {
                for (value, &bound) in value.iter_mut().zip(bounds) {
                    *value = below(bound);
                }
            }
            Self::MultiBinary(_) => value.fill_with(|| below(2)),
        }
    }
}

/// What came of an action, besides the next observation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// What the action was worth.
    pub reward: f64,
    /// The episode came to an end of its own.
    pub terminated: bool,
    /// The episode was cut off from outside, by a limit of time: what would have come after still counts. Where both are set, the
    /// end is the episode's own.
    pub truncated: bool,
}

impl Step {
    /// The episode is over.
    #[must_use]
    pub fn done(&self) -> bool {
        self.terminated || self.truncated
    }

    /// The episode is over, but only because it was cut off: the value of the final observation belongs to its return.
    #[must_use]
    pub fn cut_off(&self) -> bool {
        self.truncated && !self.terminated
    }
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

    /// Takes up a saved state. `false` if it is not one of this environment's, which is then left as it was.
    #[must_use]
    fn restore(&mut self, state: &[f64]) -> bool;
}

/// No environment has this name.
#[derive(Debug, thiserror::Error)]
#[error("there is no environment named {name:?}; the nearest is {nearest:?} of {}", NAMES.join(", "))]
pub struct UnknownEnvironment {
    /// The name that was asked for.
    pub name: String,
    /// The nearest name that there is.
    pub nearest: &'static str,
}

/// The names of all environments.
pub const NAMES: &[&str] = &[
    "CartPole-v1",
    "Acrobot-v1",
    "MountainCarContinuous-v0",
    "Pendulum-v1",
    "stream-steering",
];

/// The environment of this name, in any case, and with or without its version.
///
/// # Errors
/// If there is none; the error names the nearest.
pub fn make(name: &str) -> Result<Box<dyn Environment>, UnknownEnvironment> {
    Ok(match full_name(name)? {
        "CartPole-v1" => Box::new(Episode::<cartpole::CartPole>::default()),
        "Acrobot-v1" => Box::new(Episode::<acrobot::Acrobot>::default()),
        "MountainCarContinuous-v0" => Box::new(Episode::<mountain_car::MountainCar>::default()),
        "Pendulum-v1" => Box::new(Episode::<pendulum::Pendulum>::default()),
        _ => Box::new(Episode::<stream_steering::StreamSteering>::default()),
    })
}

/// An environment's full name.
///
/// # Errors
/// If there is none; the error names the nearest.
pub fn full_name(name: &str) -> Result<&'static str, UnknownEnvironment> {
    let asked = name.to_ascii_lowercase();
    let is_asked = |known: &&&str| {
        let known = known.to_ascii_lowercase();
        asked == known || Some(asked.as_str()) == without_version(&known)
    };
    NAMES
        .iter()
        .find(is_asked)
        .copied()
        .ok_or_else(|| UnknownEnvironment {
            name: name.to_owned(),
            nearest: nearest(&asked),
        })
}

fn without_version(name: &str) -> Option<&str> {
    name.rsplit_once("-v").map(|(name, _)| name)
}

fn nearest(asked: &str) -> &'static str {
    let likeness = |name: &str| strsim::jaro_winkler(&name.to_ascii_lowercase(), asked);
    NAMES
        .iter()
        .copied()
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_name_makes_an_environment_whose_observations_lie_in_its_space() {
        for &name in NAMES {
            let mut env = make(name).unwrap();
            let (seen, act) = (env.observation_space(), env.action_space());
            let mut observation = vec![0.0; seen.width()];
            let mut action = vec![0.0; act.width()];
            let mut rng = Rng::new(3, 0);
            env.reset(&mut rng, &mut observation);
            for _ in 0..3000 {
                let Space::Box { low, high } = &seen else {
                    unreachable!("every environment here observes real numbers");
                };
                for ((value, low), high) in observation.iter().zip(low).zip(high) {
                    assert!((low..=high).contains(&value), "{name}: {observation:?}");
                }
                act.sample(&mut rng, &mut action);
                if env.step(&action, &mut rng, &mut observation).done() {
                    env.reset(&mut rng, &mut observation);
                }
            }
        }
    }

    #[test]
    fn a_saved_state_goes_on_to_the_bit() {
        for &name in NAMES {
            let mut env = make(name).unwrap();
            let act = env.action_space();
            let mut observation = vec![0.0; env.observation_space().width()];
            let mut action = vec![0.0; act.width()];
            let mut rng = Rng::new(4, 0);
            env.reset(&mut rng, &mut observation);
            for _ in 0..5 {
                act.sample(&mut rng, &mut action);
                env.step(&action, &mut rng, &mut observation);
            }
            let (mut state, mut again) = (Vec::new(), make(name).unwrap());
            env.save(&mut state);
            assert!(again.restore(&state), "{name}");
            let mut rng_again = rng.clone();
            let mut observation_again = observation.clone();
            for _ in 0..5 {
                let step = env.step(&action, &mut rng, &mut observation);
                let step_again = again.step(&action, &mut rng_again, &mut observation_again);
                assert_eq!(
                    (step, &observation),
                    (step_again, &observation_again),
                    "{name}"
                );
            }
            assert!(
                !again.restore(&state[1..]),
                "{name} takes half a state for whole"
            );
            state[0] = f64::NAN;
            assert!(!again.restore(&state), "{name} takes NaN for a state");
        }
    }

    #[test]
    fn names_are_found_in_any_case_and_the_nearest_is_named() {
        assert!(make("cartpole").is_ok());
        assert!(make("mountaincarcontinuous").is_ok());
        assert!(make("PENDULUM-V1").is_ok());
        for (asked, nearest) in [
            ("CartPool-v1", "CartPole-v1"),
            ("mountaincar", "MountainCarContinuous-v0"),
            ("acro", "Acrobot-v1"),
            ("CartPole-v0", "CartPole-v1"),
            ("steering", "stream-steering"),
        ] {
            let error = make(asked).err().unwrap();
            assert_eq!(error.nearest, nearest, "{asked}");
        }
    }
}
