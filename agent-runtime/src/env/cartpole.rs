//! CartPole-v1 as in Gymnasium (`gymnasium/envs/classic_control/cartpole.py`), after Barto, Sutton and Anderson, "Neuronlike
//! Adaptive Elements That Can Solve Difficult Learning Control Problems", 1983.

use std::f64::consts::TAU;

use super::{Environment, Space, Step};
use crate::rng::Rng;

const GRAVITY: f64 = 9.8;
const MASS_POLE: f64 = 0.1;
const MASS: f64 = 1.0 + MASS_POLE;
/// Half the pole's length.
const LENGTH: f64 = 0.5;
const FORCE: f64 = 10.0;
const TAU_SECONDS: f64 = 0.02;
const MAX_ANGLE: f64 = 12.0 * TAU / 360.0;
const MAX_POSITION: f64 = 2.4;
const MAX_STEPS: u32 = 500;

/// A pole on a cart that is pushed left or right.
#[derive(Debug, Default)]
pub struct CartPole {
    /// Position, velocity, angle, angular velocity.
    state: [f64; 4],
    steps: u32,
}

impl CartPole {
    #[allow(
        clippy::cast_possible_truncation,
        reason = "observations are f32, as Gymnasium's"
    )]
    fn observe(&self, observation: &mut [f32]) {
        for (out, value) in observation.iter_mut().zip(self.state) {
            *out = value as f32;
        }
    }
}

impl Environment for CartPole {
    #[allow(
        clippy::cast_possible_truncation,
        reason = "bounds are f32, as Gymnasium's"
    )]
    fn observation_space(&self) -> Space {
        let high = vec![
            2.0 * MAX_POSITION as f32,
            f32::INFINITY,
            2.0 * MAX_ANGLE as f32,
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

    fn reset(&mut self, rng: &mut Rng, observation: &mut [f32]) {
        self.state = std::array::from_fn(|_| 0.1 * rng.uniform() - 0.05);
        self.steps = 0;
        self.observe(observation);
    }

    fn step(&mut self, action: &[f32], _: &mut Rng, observation: &mut [f32]) -> Step {
        let [position, velocity, angle, angular] = self.state;
        let force = if action[0] == 1.0 { FORCE } else { -FORCE };
        let (sin, cos) = angle.sin_cos();
        let pole = MASS_POLE * LENGTH;
        let temp = (force + pole * angular * angular * sin) / MASS;
        let angular_acceleration =
            (GRAVITY * sin - cos * temp) / (LENGTH * (4.0 / 3.0 - MASS_POLE * cos * cos / MASS));
        let acceleration = temp - pole * angular_acceleration * cos / MASS;
        self.state = [
            position + TAU_SECONDS * velocity,
            velocity + TAU_SECONDS * acceleration,
            angle + TAU_SECONDS * angular,
            angular + TAU_SECONDS * angular_acceleration,
        ];
        self.steps += 1;
        self.observe(observation);
        Step {
            reward: 1.0,
            terminated: self.state[0].abs() > MAX_POSITION || self.state[2].abs() > MAX_ANGLE,
            truncated: self.steps >= MAX_STEPS,
        }
    }

    fn save(&self, state: &mut Vec<f64>) {
        state.extend(self.state);
        state.push(f64::from(self.steps));
    }

    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "what `save` made of a u32"
    )]
    fn restore(&mut self, state: &[f64]) -> bool {
        let &[position, velocity, angle, angular, steps] = state else {
            return false;
        };
        self.state = [position, velocity, angle, angular];
        self.steps = steps as u32;
        true
    }
}
