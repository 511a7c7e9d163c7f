//! The limit of time around the dynamics, as Gymnasium's `TimeLimit` wrapper sets it.

use super::{Environment, Space, Step};
use crate::rng::Rng;

/// How something moves, for as long as it is asked to.
pub(super) trait Dynamics: Default + Send {
    /// An episode is truncated by its step of this number.
    const MAX_EPISODE_STEPS: u32;

    fn observation_space(&self) -> Space;
    fn action_space(&self) -> Space;

    /// Draws a state to begin with.
    fn begin(&mut self, rng: &mut Rng);

    /// Moves on by one step: the reward, and whether this ended the episode.
    fn advance(&mut self, action: &[f32], rng: &mut Rng) -> (f64, bool);

    fn observe(&self, observation: &mut [f32]);

    /// All that the next step depends on.
    fn state(&self) -> &[f64];
    fn state_mut(&mut self) -> &mut [f64];
}

/// Dynamics that are cut off in time.
#[derive(Debug, Default)]
pub(super) struct Episode<D> {
    pub(super) dynamics: D,
    steps: u32,
}

impl<D: Dynamics> Environment for Episode<D> {
    fn observation_space(&self) -> Space {
        self.dynamics.observation_space()
    }

    fn action_space(&self) -> Space {
        self.dynamics.action_space()
    }

    fn reset(&mut self, rng: &mut Rng, observation: &mut [f32]) {
        self.dynamics.begin(rng);
        self.steps = 0;
        self.dynamics.observe(observation);
    }

    fn step(&mut self, action: &[f32], rng: &mut Rng, observation: &mut [f32]) -> Step {
        let (reward, terminated) = self.dynamics.advance(action, rng);
        self.steps += 1;
        self.dynamics.observe(observation);
        Step {
            reward,
            terminated,
            truncated: self.steps >= D::MAX_EPISODE_STEPS,
        }
    }

    fn save(&self, state: &mut Vec<f64>) {
        state.extend_from_slice(self.dynamics.state());
        state.push(f64::from(self.steps));
    }

    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "within bounds"
    )]
    fn restore(&mut self, state: &[f64]) -> bool {
        let Some((steps, state)) = state.split_last() else {
            return false;
        };
        let own = self.dynamics.state_mut();
        if state.len() != own.len()
            || !state.iter().all(|value| value.is_finite())
            || !(0.0..f64::from(D::MAX_EPISODE_STEPS)).contains(steps)
        {
            return false;
        }
        own.copy_from_slice(state);
        self.steps = *steps as u32;
        true
    }
}
