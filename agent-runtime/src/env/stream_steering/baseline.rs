//! What an agent must beat: a setting that never changes, and a rule with thresholds such as operators write. Both see what the agent
//! sees, and both are tuned to this very model: no other setting of the grids in the tests does better.

use super::{BATCHES, LOAD_UNIT, MAX_CONSUMERS, capacity};
use crate::{
    env::{Environment, episode::Episode},
    rng::Rng,
};

/// A policy without learning.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Baseline {
    /// Always the same.
    Fixed {
        /// The index of the batch size.
        batch: usize,
        /// The number of consumers.
        consumers: usize,
    },
    /// Consumers are added when utilisation is high, and removed when it is low. Utilisation is the smoothed load, plus the backlog
    /// spread over 5 seconds, over the capacity of all consumers, those starting included.
    Threshold {
        /// Above this utilisation consumers are added, as many as bring it down to this.
        up: f64,
        /// Below this utilisation one consumer is removed.
        down: f64,
        /// The index of the batch size in quiet times.
        quiet_batch: usize,
        /// The same in busy ones.
        busy_batch: usize,
        /// The load from which on times are busy, in messages a second, that spread backlog included.
        busy: f64,
    },
}

/// The best of all fixed settings.
pub const FIXED: Baseline = Baseline::Fixed {
    batch: 2,
    consumers: 6,
};

/// The best of the threshold rules.
pub const THRESHOLD: Baseline = Baseline::Threshold {
    up: 0.6,
    down: 0.3,
    quiet_batch: 2,
    busy_batch: 3,
    busy: 750.0,
};

/// Seconds in which a backlog should be gone.
const DRAIN_SECONDS: f64 = 5.0;

impl Baseline {
    /// Chooses an action.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "an action is a small whole number"
    )]
    pub fn act(&self, observation: &[f32], action: &mut [f32]) {
        let (batch, consumers) = match *self {
            Self::Fixed { batch, consumers } => (batch, consumers),
            Self::Threshold {
                up,
                down,
                quiet_batch,
                busy_batch,
                busy,
            } => {
                let seen = |i: usize| f64::from(observation[i]);
                let backlog = (seen(0) * 10.0).exp_m1();
                let load = seen(2) * LOAD_UNIT + backlog / DRAIN_SECONDS;
                let now = ((seen(3) + seen(4)) * MAX_CONSUMERS as f64).round() as usize;
                let chosen = if load > busy { busy_batch } else { quiet_batch };
                let utilisation =
                    |consumers: usize| load / capacity(consumers as f64, BATCHES[chosen].into());
                let wanted = if utilisation(now) > up {
                    (now..MAX_CONSUMERS)
                        .find(|&consumers| utilisation(consumers) <= up)
                        .unwrap_or(MAX_CONSUMERS)
                } else if now > 1 && utilisation(now) < down {
                    now - 1
                } else {
                    now
                };
                (chosen, wanted)
            }
        };
        action[0] = batch as f32;
        action[1] = (consumers - 1) as f32;
    }

    /// Its mean return over so many episodes.
    #[must_use]
    pub fn mean_return(&self, episodes: u32, seed: u64) -> f64 {
        let mut env = Episode::<super::StreamSteering>::default();
        let mut rng = Rng::new(seed, 0);
        let (mut observation, mut action) = ([0.0; 9], [0.0; 2]);
        let mut sum = 0.0;
        for _ in 0..episodes {
            env.reset(&mut rng, &mut observation);
            loop {
                self.act(&observation, &mut action);
                let step = env.step(&action, &mut rng, &mut observation);
                sum += step.reward;
                if step.done() {
                    break;
                }
            }
        }
        sum / f64::from(episodes)
    }
}
