//! Several environments side by side, begun again as they end.

use super::{Environment, Space, Step, UnknownEnvironment, make};
use crate::rng::Rng;

/// An episode that ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Finished {
    /// The environment that it was played in.
    pub environment: usize,
    /// The sum of its rewards.
    pub episode_return: f64,
    /// Its steps.
    pub length: u32,
}

struct Lane {
    environment: Box<dyn Environment>,
    rng: Rng,
    episode_return: f64,
    length: u32,
}

/// Environments of one name, stepped together. Each draws its chance from a stream of its own.
///
/// One that ends begins anew within the same step (Gymnasium's `AutoresetMode.SAME_STEP`, as Stable-Baselines3 has it), so that
/// [`observations`](Self::observations) is always what to act upon next, and what the episode closed with is in
/// [`final_observations`](Self::final_observations). A transition whose [`Step::cut_off`] holds is worth its reward plus the
/// discounted value of that final observation: the limit of time is no property of the state. (Pardo et al., "Time Limits in
/// Reinforcement Learning", 2018, section 3.2.)
///
/// Nothing here allocates after [`new`](Self::new).
pub struct Vector {
    lanes: Vec<Lane>,
    observation_space: Space,
    action_space: Space,
    width: usize,
    action_width: usize,
    observations: Vec<f32>,
    final_observations: Vec<f32>,
    steps: Vec<Step>,
    finished: Vec<Finished>,
}

impl Vector {
    /// `count` environments named `name`; number `i` draws from stream `first_stream + i` of `seed`.
    ///
    /// # Errors
    /// If no environment has this name.
    ///
    /// # Panics
    /// If `count` is zero.
    pub fn new(
        name: &str,
        count: usize,
        seed: u64,
        first_stream: u64,
    ) -> Result<Self, UnknownEnvironment> {
        assert!(count > 0, "there is nothing to step");
        let lanes = (first_stream..)
            .take(count)
            .map(|stream| {
                Ok(Lane {
                    environment: make(name)?,
                    rng: Rng::new(seed, stream),
                    episode_return: 0.0,
                    length: 0,
                })
            })
            .collect::<Result<Vec<_>, UnknownEnvironment>>()?;
        let observation_space = lanes[0].environment.observation_space();
        let action_space = lanes[0].environment.action_space();
        let (width, action_width) = (observation_space.width(), action_space.width());
        let step = Step {
            reward: 0.0,
            terminated: false,
            truncated: false,
        };
        let mut vector = Self {
            observation_space,
            action_space,
            width,
            action_width,
            observations: vec![0.0; count * width],
            final_observations: vec![0.0; count * width],
            steps: vec![step; count],
            finished: Vec::with_capacity(count),
            lanes,
        };
        vector.reset();
        Ok(vector)
    }

    /// Begins an episode in every environment.
    pub fn reset(&mut self) {
        self.finished.clear();
        let observations = self.observations.chunks_exact_mut(self.width);
        for (lane, observation) in self.lanes.iter_mut().zip(observations) {
            lane.environment.reset(&mut lane.rng, observation);
            lane.episode_return = 0.0;
            lane.length = 0;
        }
    }

    /// Takes one action in every environment; `actions` holds them one after the other.
    ///
    /// # Panics
    /// If `actions` has another length.
    pub fn step(&mut self, actions: &[f32]) {
        assert_eq!(actions.len(), self.lanes.len() * self.action_width);
        self.finished.clear();
        let actions = actions.chunks_exact(self.action_width);
        let observations = self.observations.chunks_exact_mut(self.width);
        let finals = self.final_observations.chunks_exact_mut(self.width);
        let outer = self.lanes.iter_mut().zip(&mut self.steps).enumerate();
        for ((((environment, (lane, step)), action), observation), last) in
            outer.zip(actions).zip(observations).zip(finals)
        {
            *step = lane.environment.step(action, &mut lane.rng, observation);
            lane.episode_return += step.reward;
            lane.length += 1;
            if step.done() {
                self.finished.push(Finished {
                    environment,
                    episode_return: std::mem::take(&mut lane.episode_return),
                    length: std::mem::take(&mut lane.length),
                });
                last.copy_from_slice(observation);
                lane.environment.reset(&mut lane.rng, observation);
            }
        }
    }

    /// How many environments there are.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "it never is")]
    pub fn len(&self) -> usize {
        self.lanes.len()
    }

    /// What an observation holds.
    #[must_use]
    pub fn observation_space(&self) -> &Space {
        &self.observation_space
    }

    /// What an action holds.
    #[must_use]
    pub fn action_space(&self) -> &Space {
        &self.action_space
    }

    /// What to act upon next, one environment after the other.
    #[must_use]
    pub fn observations(&self) -> &[f32] {
        &self.observations
    }

    /// What the episodes that the last step ended closed with; of the others, something older.
    #[must_use]
    pub fn final_observations(&self) -> &[f32] {
        &self.final_observations
    }

    /// What came of the last actions.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The episodes that the last step ended.
    #[must_use]
    pub fn finished(&self) -> &[Finished] {
        &self.finished
    }

    /// Appends all that the next step depends on: states, generators, and what has been gathered of the running episodes.
    pub fn save(&self, states: &mut Vec<Saved>) {
        for (lane, observation) in self
            .lanes
            .iter()
            .zip(self.observations.chunks_exact(self.width))
        {
            let mut state = Vec::new();
            lane.environment.save(&mut state);
            states.push(Saved {
                state,
                rng: lane.rng.save(),
                observation: observation.to_vec(),
                episode_return: lane.episode_return,
                length: lane.length,
            });
        }
    }

    /// Takes up what was saved. `false` if it is not of as many environments of this kind; then some may have been replaced, and a
    /// [`reset`](Self::reset) is due.
    #[must_use]
    pub fn restore(&mut self, states: &[Saved]) -> bool {
        if states.len() != self.lanes.len() {
            return false;
        }
        self.finished.clear();
        let observations = self.observations.chunks_exact_mut(self.width);
        self.lanes
            .iter_mut()
            .zip(observations)
            .zip(states)
            .all(|((lane, observation), saved)| {
                if saved.observation.len() != observation.len() {
                    return false;
                }
                observation.copy_from_slice(&saved.observation);
                lane.rng = Rng::restore(saved.rng);
                lane.episode_return = saved.episode_return;
                lane.length = saved.length;
                lane.environment.restore(&saved.state)
            })
    }
}

/// One environment of a [`Vector`], as it was saved.
#[derive(Clone, Debug, PartialEq)]
pub struct Saved {
    /// What [`Environment::save`] appended.
    pub state: Vec<f64>,
    /// What [`Rng::save`] returned.
    pub rng: [u64; 4],
    /// What to act upon next.
    pub observation: Vec<f32>,
    /// The rewards of the running episode.
    pub episode_return: f64,
    /// The steps of the running episode.
    pub length: u32,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Every environment plays what it plays alone, whatever the others do, and closes with the observation it would close with alone.
    #[test]
    fn each_environment_plays_as_if_alone() {
        let mut vector = Vector::new("Pendulum-v1", 3, 9, 100).unwrap();
        let mut alone: Vec<_> = (100..103)
            .map(|stream| {
                let mut env = make("Pendulum-v1").unwrap();
                let (mut rng, mut observation) = (Rng::new(9, stream), vec![0.0; 3]);
                env.reset(&mut rng, &mut observation);
                (env, rng, observation)
            })
            .collect();
        let mut chance = Rng::new(1, 1);
        for at in 1..=450 {
            let mut actions = [0.0; 3];
            actions.fill_with(|| {
                #[allow(clippy::cast_possible_truncation, reason = "any torque will do")]
                let torque = chance.normal() as f32;
                torque
            });
            vector.step(&actions);
            for (i, (env, rng, observation)) in alone.iter_mut().enumerate() {
                let step = env.step(&actions[i..=i], rng, observation);
                assert_eq!(vector.steps()[i], step);
                let of_mine = 3 * i..3 * i + 3;
                if step.done() {
                    assert!(step.cut_off() && at % 200 == 0);
                    assert_eq!(
                        &vector.final_observations()[of_mine.clone()],
                        &observation[..]
                    );
                    env.reset(rng, observation);
                }
                assert_eq!(&vector.observations()[of_mine], &observation[..]);
            }
            let ended = if at % 200 == 0 { 3 } else { 0 };
            assert_eq!(vector.finished().len(), ended);
            assert!(vector.finished().iter().all(|e| e.length == 200));
        }
    }

    #[test]
    fn a_fallen_pole_is_not_cut_off() {
        let mut vector = Vector::new("CartPole-v1", 2, 0, 0).unwrap();
        let mut ends = 0;
        for _ in 0..100 {
            vector.step(&[1.0, 0.0]);
            ends += vector.finished().len();
            for finished in vector.finished() {
                let step = vector.steps()[finished.environment];
                assert!(step.done() && !step.cut_off());
                assert_eq!(finished.episode_return, f64::from(finished.length));
            }
        }
        assert!(ends > 10);
    }

    #[test]
    fn a_saved_vector_goes_on_to_the_bit() {
        let mut vector = Vector::new("CartPole-v1", 2, 0, 0).unwrap();
        for _ in 0..5 {
            vector.step(&[1.0, 0.0]);
        }
        let mut saved = Vec::new();
        vector.save(&mut saved);
        let mut again = Vector::new("CartPole-v1", 2, 77, 0).unwrap();
        assert!(again.restore(&saved));
        for _ in 0..50 {
            vector.step(&[0.0, 1.0]);
            again.step(&[0.0, 1.0]);
            assert_eq!(vector.observations(), again.observations());
            assert_eq!(vector.finished(), again.finished());
        }
        assert!(!again.restore(&saved[1..]));
        let mut other = Vector::new("Acrobot-v1", 2, 77, 0).unwrap();
        assert!(!other.restore(&saved));
    }
}
