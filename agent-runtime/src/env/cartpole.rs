//! CartPole-v1 as in Gymnasium (`gymnasium/envs/classic_control/cartpole.py`), after Barto, Sutton and Anderson, "Neuronlike
//! Adaptive Elements That Can Solve Difficult Learning Control Problems", 1983. Sums and products are in Gymnasium's order, so
//! that they round as there.

use std::f64::consts::TAU;

use super::{Space, episode::Dynamics};
use crate::rng::Rng;

const GRAVITY: f64 = 9.8;
const MASS_POLE: f64 = 0.1;
const MASS: f64 = MASS_POLE + 1.0;
/// Half the pole's length.
const LENGTH: f64 = 0.5;
const POLE_MASS_LENGTH: f64 = MASS_POLE * LENGTH;
const FORCE: f64 = 10.0;
const SECONDS: f64 = 0.02;
const MAX_ANGLE: f64 = 12.0 * TAU / 360.0;
const MAX_POSITION: f64 = 2.4;

/// A pole on a cart that is pushed left or right. Pays 1 a step for as long as the pole stands.
#[derive(Debug, Default)]
pub(super) struct CartPole {
    /// Position, velocity, angle, angular velocity.
    state: [f64; 4],
}

impl Dynamics for CartPole {
    const MAX_EPISODE_STEPS: u32 = 500;

    #[allow(
        clippy::cast_possible_truncation,
        reason = "bounds are f32, as Gymnasium's"
    )]
    fn observation_space(&self) -> Space {
        let high = vec![
            (2.0 * MAX_POSITION) as f32,
            f32::INFINITY,
            (2.0 * MAX_ANGLE) as f32,
            f32::INFINITY,
        ];
        Space::Box {
            low: high.iter().map(|x| -x).collect(),
            high,
        }
    }

    fn action_space(&self) -> Space {
        Space::Discrete(2)
    }

    fn begin(&mut self, rng: &mut Rng) {
        self.state = std::array::from_fn(|_| rng.uniform() * 0.1 - 0.05);
    }

    fn advance(&mut self, action: &[f32], _: &mut Rng) -> (f64, bool) {
        let [position, velocity, angle, angular] = self.state;
        let force = if action[0] == 1.0 { FORCE } else { -FORCE };
        let (sin, cos) = (angle.sin(), angle.cos());
        let temp = (force + POLE_MASS_LENGTH * (angular * angular) * sin) / MASS;
        let angular_acceleration =
            (GRAVITY * sin - cos * temp) / (LENGTH * (4.0 / 3.0 - MASS_POLE * (cos * cos) / MASS));
        let acceleration = temp - POLE_MASS_LENGTH * angular_acceleration * cos / MASS;
        self.state = [
            position + SECONDS * velocity,
            velocity + SECONDS * acceleration,
            angle + SECONDS * angular,
            angular + SECONDS * angular_acceleration,
        ];
        let fallen = self.state[0].abs() > MAX_POSITION || self.state[2].abs() > MAX_ANGLE;
        (1.0, fallen)
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
