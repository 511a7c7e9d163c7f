//! MountainCarContinuous-v0 as in Gymnasium (`gymnasium/envs/classic_control/continuous_mountain_car.py`), after Moore, "Efficient
//! Memory-based Learning for Robot Control", 1990.
//!
//! Gymnasium rounds the state to f32 after every step and computes most of the next one in f32 (numpy's promotion of types, NEP 50); so
//! does this.

use super::{Space, episode::Dynamics};
use crate::rng::Rng;

const MIN_POSITION: f64 = -1.2;
const MAX_POSITION: f64 = 0.6;
const MAX_SPEED: f64 = 0.07;
const GOAL: f64 = 0.45;
const POWER: f64 = 0.0015;
const SLOPE: f64 = 0.0025;

/// A car too weak to drive up a hill in one go. Pays 100 at the top, and costs a tenth of the action squared.
#[derive(Debug, Default)]
pub(super) struct MountainCar {
    /// Position and velocity, and 1 if they have been rounded to f32, which Gymnasium does not do before the first step.
    state: [f64; 3],
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "rounding is what it is for"
)]
fn rounded(value: f64) -> f64 {
    f64::from(value as f32)
}

impl Dynamics for MountainCar {
    const MAX_EPISODE_STEPS: u32 = 999;

    #[allow(
        clippy::cast_possible_truncation,
        reason = "bounds are f32, as Gymnasium's"
    )]
    fn observation_space(&self) -> Space {
        Space::Box {
            low: vec![MIN_POSITION as f32, -MAX_SPEED as f32],
            high: vec![MAX_POSITION as f32, MAX_SPEED as f32],
        }
    }

    fn action_space(&self) -> Space {
        Space::Box {
            low: vec![-1.0],
            high: vec![1.0],
        }
    }

    fn begin(&mut self, rng: &mut Rng) {
        self.state = [rng.uniform() * 0.2 - 0.6, 0.0, 0.0];
    }

    fn advance(&mut self, action: &[f32], _: &mut Rng) -> (f64, bool) {
        let [mut position, mut velocity, is_rounded] = self.state;
        let round = |value: f64| {
            if is_rounded == 1.0 {
                rounded(value)
            } else {
                value
            }
        };
        let action = f64::from(action[0]);
        // math.cos is computed in f64, of an angle that is as exact as the position.
        let gravity = SLOPE * round(3.0 * position).cos();
        let push = if (-1.0..=1.0).contains(&action) {
            // An f32 times a Python float is an f32, and so is what is taken from it.
            rounded(rounded(action * rounded(POWER)) - rounded(gravity))
        } else {
            // A clipped action is a Python float.
            action.clamp(-1.0, 1.0) * POWER - gravity
        };
        velocity = round(velocity + round(push)).clamp(-MAX_SPEED, MAX_SPEED);
        position = round(position + round(velocity)).clamp(MIN_POSITION, MAX_POSITION);
        if position == MIN_POSITION && velocity < 0.0 {
            velocity = 0.0;
        }
        let at_goal = position >= round(GOAL) && velocity >= 0.0;
        let reward = f64::from(u8::from(at_goal)) * 100.0 - action * action * 0.1;
        self.state = [rounded(position), rounded(velocity), 1.0];
        (reward, at_goal)
    }

    #[allow(
        clippy::cast_possible_truncation,
        reason = "observations are f32, as Gymnasium's"
    )]
    fn observe(&self, observation: &mut [f32]) {
        for (out, value) in observation.iter_mut().zip(self.state) {
            *out = value as f32;
        }
    }

    fn state(&self) -> &[f64] {
        &self.state
    }

    fn state_mut(&mut self) -> &mut [f64] {
        &mut self.state
    }
}
