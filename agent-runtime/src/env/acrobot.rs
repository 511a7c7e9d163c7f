//! Acrobot-v1 as in Gymnasium (`gymnasium/envs/classic_control/acrobot.py`): the equations of Sutton and Barto, "Reinforcement Learning:
//! An Introduction", 1998, section 11.3, integrated by the classical Runge-Kutta method of fourth order.

use std::f64::consts::{FRAC_PI_2, PI};

use super::{Space, episode::Dynamics};
use crate::rng::Rng;

const SECONDS: f64 = 0.2;
/// Both links: length, mass, centre of mass and moment of inertia.
const LENGTH: f64 = 1.0;
const MASS: f64 = 1.0;
const CENTRE: f64 = 0.5;
const INERTIA: f64 = 1.0;
const GRAVITY: f64 = 9.8;
const MAX_VELOCITY: [f64; 2] = [4.0 * PI, 9.0 * PI];

/// Two links that hang from each other, with a motor between them. Costs 1 a step until the free end is one link above the pivot.
#[derive(Debug, Default)]
pub(super) struct Acrobot {
    /// Angle of the first link from hanging down, of the second from the first, and their velocities.
    state: [f64; 4],
}

/// The velocity of a state under a torque between the links.
fn derivative([angle1, angle2, velocity1, velocity2]: [f64; 4], torque: f64) -> [f64; 4] {
    let (sin2, cos2) = (angle2.sin(), angle2.cos());
    let d1 = MASS * CENTRE * CENTRE
        + MASS * (LENGTH * LENGTH + CENTRE * CENTRE + 2.0 * LENGTH * CENTRE * cos2)
        + INERTIA
        + INERTIA;
    let d2 = MASS * (CENTRE * CENTRE + LENGTH * CENTRE * cos2) + INERTIA;
    let phi2 = MASS * CENTRE * GRAVITY * (angle1 + angle2 - FRAC_PI_2).cos();
    let phi1 = -MASS * LENGTH * CENTRE * (velocity2 * velocity2) * sin2
        - 2.0 * MASS * LENGTH * CENTRE * velocity2 * velocity1 * sin2
        + (MASS * CENTRE + MASS * LENGTH) * GRAVITY * (angle1 - FRAC_PI_2).cos()
        + phi2;
    let acceleration2 =
        (torque + d2 / d1 * phi1 - MASS * LENGTH * CENTRE * (velocity1 * velocity1) * sin2 - phi2)
            / (MASS * CENTRE * CENTRE + INERTIA - d2 * d2 / d1);
    let acceleration1 = -(d2 * acceleration2 + phi1) / d1;
    [velocity1, velocity2, acceleration1, acceleration2]
}

/// One step of the classical Runge-Kutta method.
fn runge_kutta(state: [f64; 4], torque: f64) -> [f64; 4] {
    let along = |slope: [f64; 4], seconds: f64| -> [f64; 4] {
        std::array::from_fn(|i| state[i] + seconds * slope[i])
    };
    let k1 = derivative(state, torque);
    let k2 = derivative(along(k1, SECONDS / 2.0), torque);
    let k3 = derivative(along(k2, SECONDS / 2.0), torque);
    let k4 = derivative(along(k3, SECONDS), torque);
    std::array::from_fn(|i| state[i] + SECONDS / 6.0 * (k1[i] + 2.0 * k2[i] + 2.0 * k3[i] + k4[i]))
}

/// The same angle within ±π.
fn wrap(mut angle: f64) -> f64 {
    while angle > PI {
        angle -= 2.0 * PI;
    }
    while angle < -PI {
        angle += 2.0 * PI;
    }
    angle
}

impl Dynamics for Acrobot {
    const MAX_EPISODE_STEPS: u32 = 500;

    #[allow(
        clippy::cast_possible_truncation,
        reason = "bounds are f32, as Gymnasium's"
    )]
    fn observation_space(&self) -> Space {
        let [first, second] = MAX_VELOCITY;
        let high = vec![1.0, 1.0, 1.0, 1.0, first as f32, second as f32];
        Space::Box {
            low: high.iter().map(|x| -x).collect(),
            high,
        }
    }

    /// Torque −1, 0 or 1.
    fn action_space(&self) -> Space {
        Space::Discrete(3)
    }

    #[allow(
        clippy::cast_possible_truncation,
        reason = "Gymnasium begins with f32 too"
    )]
    fn begin(&mut self, rng: &mut Rng) {
        self.state = std::array::from_fn(|_| f64::from((rng.uniform() * 0.2 - 0.1) as f32));
    }

    fn advance(&mut self, action: &[f32], _: &mut Rng) -> (f64, bool) {
        let torque = f64::from(action[0]) - 1.0;
        let [angle1, angle2, velocity1, velocity2] = runge_kutta(self.state, torque);
        let [max1, max2] = MAX_VELOCITY;
        self.state = [
            wrap(angle1),
            wrap(angle2),
            velocity1.clamp(-max1, max1),
            velocity2.clamp(-max2, max2),
        ];
        let [angle1, angle2, ..] = self.state;
        let above = -angle1.cos() - (angle2 + angle1).cos() > 1.0;
        (if above { 0.0 } else { -1.0 }, above)
    }

    #[allow(
        clippy::cast_possible_truncation,
        reason = "observations are f32, as Gymnasium's"
    )]
    fn observe(&self, observation: &mut [f32]) {
        let [angle1, angle2, velocity1, velocity2] = self.state;
        let seen = [
            angle1.cos(),
            angle1.sin(),
            angle2.cos(),
            angle2.sin(),
            velocity1,
            velocity2,
        ];
        for (out, value) in observation.iter_mut().zip(seen) {
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
