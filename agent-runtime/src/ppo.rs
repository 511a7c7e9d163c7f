//! The learner: acts, and updates its policy from what came of it, as Stable-Baselines3's `PPO` does.

mod part;
mod statistics;
#[cfg(test)]
mod tests;
mod workers;

use std::sync::Arc;

use crate::adam::{self, Adam};
use crate::distribution::{Distribution, Draw, Row};
use crate::hyper::HyperParameters;
use crate::loss::{Scale, Settings, Sums};
use crate::memory::{Buffer, Component, MemoryBudget, OverBudget};
use crate::net::{Architecture, Net, Tape};
use crate::rng::Rng;
use crate::rollout::{Rollout, Shape};
use crate::simd::{Kernel, Simd, Vector};

use part::{Part, Sum};
use workers::{Task, Workers};

pub use statistics::{Outcome, Statistics, explained_variance};
pub use workers::{CannotStart, MOST_THREADS};

/// So many rows go through the network at once: their activations stay in the caches next to the processor. A minibatch is the sum of such
/// parts in their order, whichever thread computed them.
const PART: usize = 64;

/// How far beyond `target_kl` an update may go: Stable-Baselines3's factor.
const KL_TOLERANCE: f64 = 1.5;

/// A network, its optimiser, and all the room that an update needs.
#[derive(Debug)]
pub struct Learner {
    hyper: HyperParameters,
    model: Arc<Model>,
    /// Threads that compute a part hold it, too; between two waves of parts none does.
    parameters: Arc<Buffer<f32>>,
    adam: Adam,
    gradient: Buffer<f32>,
    part: Part,
    workers: Workers,
    order: Buffer<u32>,
    undo: Undo,
    shape: Shape,
}

/// What computes: the same for every thread, and it never changes.
#[derive(Debug)]
struct Model {
    simd: Simd,
    net: Net,
    distribution: Distribution,
}

/// A copy of all that an update changes.
#[derive(Debug)]
struct Undo {
    parameters: Buffer<f32>,
    mean: Buffer<f32>,
    square: Buffer<f32>,
    steps: u64,
}

impl Learner {
    /// A learner for observations of `inputs` numbers and actions of this distribution, with fresh parameters.
    ///
    /// # Errors
    /// If it does not fit into the budget.
    pub fn new(
        inputs: usize,
        distribution: Distribution,
        masked: bool,
        hyper: HyperParameters,
        budget: &MemoryBudget,
        rng: &mut Rng,
    ) -> Result<Self, OverBudget> {
        let net = Net::new(architecture(inputs, &distribution, &hyper));
        let shape = Shape {
            steps: hyper.n_steps,
            environments: hyper.n_envs,
            inputs,
            action: distribution.action_width(),
            mask: if masked { distribution.outputs() } else { 0 },
        };
        let rows = shape.steps * shape.environments;
        let parameters = net.parameters();
        let copy = || budget.buffer(Component::Undo, parameters, 0.0);
        let log_std = hyper.log_std_init as f32;
        let model = Model {
            simd: Simd::detect(),
            net,
            distribution,
        };
        Ok(Self {
            parameters: Arc::new(model.net.initial(budget, rng, hyper.ortho_init, log_std)?),
            adam: Adam::new(budget, parameters)?,
            gradient: budget.buffer(Component::Gradient, parameters, 0.0)?,
            part: Part::new(&model, budget, rows_of_part(&hyper, shape), shape)?,
            workers: Workers::default(),
            order: budget.buffer(Component::Minibatch, rows, 0)?,
            undo: Undo {
                parameters: copy()?,
                mean: copy()?,
                square: copy()?,
                steps: 0,
            },
            hyper,
            model: Arc::new(model),
            shape,
        })
    }

    /// Updates with so many threads from now on, the caller's among them: the same bits in less time. No more are started than a minibatch has parts
    /// of 64 rows. They end with the learner.
    ///
    /// # Errors
    /// If there are none or too many, they do not fit into the budget, or the system refuses one. Updates then take one thread.
    pub fn set_threads(
        &mut self,
        threads: usize,
        budget: &MemoryBudget,
    ) -> Result<(), CannotStart> {
        // What the old ones had is free for the new ones.
        self.workers = Workers::default();
        let rows = self.shape.steps * self.shape.environments;
        let parts = self.hyper.batch_size.min(rows).div_ceil(PART);
        let part = rows_of_part(&self.hyper, self.shape);
        self.workers = Workers::start(threads, parts, &self.model, budget, part, self.shape)?;
        Ok(())
    }

    /// How many threads an update takes.
    #[must_use]
    pub fn threads(&self) -> usize {
        1 + self.workers.len()
    }

    /// What it was told.
    #[must_use]
    pub fn hyper(&self) -> &HyperParameters {
        &self.hyper
    }

    /// The shape of a rollout that it learns from.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Its network.
    #[must_use]
    pub fn net(&self) -> &Net {
        &self.model.net
    }

    /// Its parameters, laid out as its network says.
    #[must_use]
    pub fn parameters(&self) -> &[f32] {
        &self.parameters
    }

    /// The same, to be loaded.
    pub fn parameters_mut(&mut self) -> &mut [f32] {
        own(&mut self.parameters)
    }

    /// Its optimiser.
    #[must_use]
    pub fn adam(&self) -> &Adam {
        &self.adam
    }

    /// The same, to be loaded.
    pub fn adam_mut(&mut self) -> &mut Adam {
        &mut self.adam
    }

    /// The last minibatch's gradient, as it was before it was clipped.
    #[must_use]
    pub fn gradient(&self) -> &[f32] {
        &self.gradient
    }

    /// What acts.
    #[must_use]
    pub fn policy(&self) -> Policy<'_> {
        let Model {
            simd,
            net,
            distribution,
        } = &*self.model;
        Policy {
            simd: *simd,
            net,
            distribution,
            parameters: &self.parameters,
        }
    }

    /// Learns from a rollout, of which `remaining` of the horizon is left. `shuffle` orders its rows anew for each epoch.
    ///
    /// An update in which a loss, a gradient or a parameter is not finite is undone: parameters and optimiser are what they
    /// were, and the outcome says so.
    pub fn update(
        &mut self,
        rollout: &Rollout,
        remaining: f64,
        mut shuffle: impl FnMut(&mut [u32]),
    ) -> Statistics {
        self.keep();
        let simd = self.model.simd;
        self.order
            .iter_mut()
            .enumerate()
            .for_each(|(at, row)| *row = at as u32);
        let learning_rate = self.hyper.learning_rate.at(remaining);
        let mut statistics =
            Statistics::new(rollout, learning_rate, self.hyper.clip_range.at(remaining));
        let (rows, batch_size) = (rollout.rows(), self.hyper.batch_size);
        'epochs: for _ in 0..self.hyper.n_epochs {
            shuffle(&mut self.order[..rows]);
            statistics.begin_epoch();
            for start in (0..rows).step_by(batch_size) {
                let end = rows.min(start + batch_size);
                let means = self.minibatch(rollout, start..end, remaining);
                let norm = adam::norm(simd, &self.gradient);
                statistics.minibatch(means, norm, &self.hyper);
                if !(statistics.loss.is_finite() && norm.is_finite()) {
                    return self.undone(statistics);
                }
                if self
                    .hyper
                    .target_kl
                    .is_some_and(|target| means.approx_kl > KL_TOLERANCE * target)
                {
                    statistics.outcome = Outcome::StoppedByKl;
                    break 'epochs;
                }
                let scale = adam::clip(norm, self.hyper.max_grad_norm);
                self.adam.step(
                    simd,
                    own(&mut self.parameters),
                    &self.gradient,
                    scale,
                    learning_rate,
                );
            }
        }
        if !adam::norm(simd, &self.parameters).is_finite() {
            return self.undone(statistics);
        }
        statistics
    }

    /// Loss and gradient of the rows at these places of the order.
    fn minibatch(
        &mut self,
        rollout: &Rollout,
        places: std::ops::Range<usize>,
        remaining: f64,
    ) -> Sums {
        let hyper = &self.hyper;
        let rows = &self.order[places];
        let per_row = 1.0 / rows.len() as f64;
        let settings = Settings {
            clip_range: hyper.clip_range.at(remaining) as f32,
            clip_range_vf: hyper.clip_range_vf.map(|range| range.at(remaining) as f32),
            ent_coef: hyper.ent_coef as f32,
            vf_coef: hyper.vf_coef as f32,
            advantage: if hyper.normalize_advantage {
                Scale::standard(rows.iter().map(|&row| rollout.advantages[row as usize]))
            } else {
                Scale::NONE
            },
            per_row: per_row as f32,
        };
        let Self {
            model,
            parameters,
            gradient,
            part,
            workers,
            ..
        } = self;
        gradient.fill(0.0);
        let mut sums = Sums::default();
        let task = Task {
            parameters: Arc::clone(parameters),
            settings,
        };
        for wave in rows.chunks(PART * (1 + workers.len())) {
            // The first part is this thread's own, which adds to the gradient at once.
            let mut parts = wave.chunks(PART);
            let first = parts.next().unwrap_or_default();
            let others = parts.len();
            workers.begin(parts, &task, |part, rows| part.gather(rollout, rows));
            part.gather(rollout, first);
            sums.add(part.learn(model, parameters, settings, gradient));
            workers.finish(others, |of, part| {
                sums.add(of);
                model.simd.run(Sum {
                    to: gradient,
                    of: part,
                });
            });
        }
        sums.scaled(per_row)
    }

    fn keep(&mut self) {
        self.undo.parameters.copy_from_slice(&self.parameters);
        self.undo.mean.copy_from_slice(&self.adam.mean);
        self.undo.square.copy_from_slice(&self.adam.square);
        self.undo.steps = self.adam.steps;
    }

    fn undone(&mut self, mut statistics: Statistics) -> Statistics {
        own(&mut self.parameters).copy_from_slice(&self.undo.parameters);
        self.adam.mean.copy_from_slice(&self.undo.mean);
        self.adam.square.copy_from_slice(&self.undo.square);
        self.adam.steps = self.undo.steps;
        statistics.outcome = Outcome::Undone;
        statistics
    }
}

/// The parameters, to be changed.
fn own(parameters: &mut Arc<Buffer<f32>>) -> &mut [f32] {
    Arc::get_mut(parameters).expect("a worker lets go of them before it hands its part over")
}

/// How many rows a part has at most.
fn rows_of_part(hyper: &HyperParameters, shape: Shape) -> usize {
    PART.min(hyper.batch_size)
        .min(shape.steps * shape.environments)
}

/// The network that these hyper-parameters ask for.
#[must_use]
pub fn architecture(
    inputs: usize,
    distribution: &Distribution,
    hyper: &HyperParameters,
) -> Architecture {
    Architecture {
        inputs,
        outputs: distribution.outputs(),
        log_std: distribution.log_std(),
        shared: hyper.shared.clone(),
        policy: hyper.policy.clone(),
        value: hyper.value().clone(),
        activation: hyper.activation,
    }
}

/// What acts: a network and its parameters, the same that training uses.
#[derive(Clone, Copy, Debug)]
pub struct Policy<'a> {
    /// How it computes.
    pub simd: Simd,
    /// Its network.
    pub net: &'a Net,
    /// What the head means.
    pub distribution: &'a Distribution,
    /// The network's parameters.
    pub parameters: &'a [f32],
}

/// What acting gives: a row for each observation.
#[derive(Debug)]
pub struct Actions<'a> {
    /// What to do.
    pub actions: &'a mut [f32],
    /// ln π(a|s).
    pub log_probs: &'a mut [f32],
    /// V(s).
    pub values: &'a mut [f32],
}

impl Policy<'_> {
    /// Acts on as many observations as `to` has values. `masks`, where not empty, says what may be done.
    pub fn act(
        &self,
        observations: &[f32],
        masks: &[bool],
        tape: &mut Tape,
        mut draw: Draw<'_>,
        to: &mut Actions<'_>,
    ) {
        let rows = to.values.len();
        self.net
            .forward(self.simd, self.parameters, observations, rows, tape);
        self.simd.run(DrawRows {
            policy: self,
            logits: tape.logits(),
            masks,
            draw: &mut draw,
            actions: to.actions,
            log_probs: to.log_probs,
        });
        self.read_values(tape, to.values);
    }

    /// V(s) of as many observations as there is room for.
    pub fn values(&self, observations: &[f32], tape: &mut Tape, values: &mut [f32]) {
        self.net
            .forward(self.simd, self.parameters, observations, values.len(), tape);
        self.read_values(tape, values);
    }

    fn read_values(&self, tape: &Tape, values: &mut [f32]) {
        for (value, row) in values
            .iter_mut()
            .zip(tape.values().chunks_exact(self.net.value_stride()))
        {
            *value = row[0];
        }
    }
}

struct DrawRows<'a, 'r> {
    policy: &'a Policy<'a>,
    logits: &'a [f32],
    masks: &'a [bool],
    draw: &'a mut Draw<'r>,
    actions: &'a mut [f32],
    log_probs: &'a mut [f32],
}

impl Kernel for DrawRows<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let Policy {
            net,
            distribution,
            parameters,
            ..
        } = *self.policy;
        let (outputs, width) = (distribution.outputs(), distribution.action_width());
        let heads = self.logits.chunks_exact(net.logits_stride());
        let rows = self
            .actions
            .chunks_exact_mut(width)
            .zip(self.log_probs)
            .zip(heads);
        for (at, ((action, log_prob), head)) in rows.enumerate() {
            let row = Row {
                head: &head[..outputs],
                log_std: &parameters[net.log_std()],
                mask: self
                    .masks
                    .get(at * outputs..(at + 1) * outputs)
                    .unwrap_or(&[]),
            };
            *log_prob = distribution.draw::<V>(row, self.draw, action);
        }
    }
}
