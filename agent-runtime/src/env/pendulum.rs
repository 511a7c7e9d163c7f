//! Pendulum-v1 as in Gymnasium (`gymnasium/envs/classic_control/pendulum.py`).

use std::f64::consts::PI;

use super::{Space, episode::Dynamics};
use crate::rng::Rng;

const MAX_SPEED: f64 = 8.0;
const MAX_TORQUE: f32 = 2.0;
const SECONDS: f64 = 0.05;
const GRAVITY: f64 = 10.0;

/// A pendulum that a motor too weak to lift it is to hold upright. Costs its angle, its speed and the torque, each squared.
#[derive(Debug, Default)]
pub(super) struct Pendulum {
    /// Angle from upright and angular velocity.
    state: [f64; 2],
}

impl Dynamics for Pendulum {
    const MAX_EPISODE_STEPS: u32 = 200;

    #[allow(
        clippy::cast_possible_truncation,
        reason = "bounds are f32, as Gymnasium's"
    )]
    fn observation_space(&self) -> Space {
        let high = vec![1.0, 1.0, MAX_SPEED as f32];
        Space::Box {
            low: high.iter().map(|x| -x).collect(),
            high,
        }
    }

    fn action_space(&self) -> Space {
        Space::Box {
            low: vec![-MAX_TORQUE],
            high: vec![MAX_TORQUE],
        }
    }

    fn begin(&mut self, rng: &mut Rng) {
        self.state = [(2.0 * rng.uniform() - 1.0) * PI, 2.0 * rng.uniform() - 1.0];
    }

    fn advance(&mut self, action: &[f32], _: &mut Rng) -> (f64, bool) {
        let [angle, velocity] = self.state;
        // What numpy makes of an f32 and a Python float is an f32.
        let torque = action[0].clamp(-MAX_TORQUE, MAX_TORQUE);
        let effort = 0.001 * (torque * torque);
        let from_upright = (angle + PI).rem_euclid(2.0 * PI) - PI;
        let cost = from_upright * from_upright + 0.1 * (velocity * velocity) + f64::from(effort);
        let acceleration = 3.0 * GRAVITY / 2.0 * angle.sin() + f64::from(3.0 * torque);
        let velocity = (velocity + acceleration * SECONDS).clamp(-MAX_SPEED, MAX_SPEED);
        self.state = [angle + velocity * SECONDS, velocity];
        (-cost, false)
    }

    #[allow(
        clippy::cast_possible_truncation,
        reason = "observations are f32, as Gymnasium's"
    )]
    fn observe(&self, observation: &mut [f32]) {
        let [angle, velocity] = self.state;
        for (out, value) in observation
            .iter_mut()
            .zip([angle.cos(), angle.sin(), velocity])
        {
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
