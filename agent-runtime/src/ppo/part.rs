//! A part of a minibatch: what one thread computes at a time.

use super::Model;
use crate::loss::{Loss, Settings, Sums};
use crate::memory::{Buffer, Component, MemoryBudget, OverBudget};
use crate::net::Tape;
use crate::rollout::{Minibatch, Rollout, Shape};
use crate::simd::{Kernel, Vector};

/// The room for one.
#[derive(Debug)]
pub(super) struct Part {
    rows: Minibatch,
    tape: Tape,
    log_std: Buffer<f32>,
}

impl Part {
    pub(super) fn new(
        model: &Model,
        budget: &MemoryBudget,
        rows: usize,
        shape: Shape,
    ) -> Result<Self, OverBudget> {
        Ok(Self {
            tape: Tape::new(&model.net, budget, rows)?,
            rows: Minibatch::new(budget, rows, shape)?,
            log_std: budget.buffer(Component::Gradient, model.net.log_std().len(), 0.0)?,
        })
    }

    /// Takes these rows of `rollout`.
    pub(super) fn gather(&mut self, rollout: &Rollout, rows: &[u32]) {
        self.rows.gather(rollout, rows);
    }

    /// Gives the loss of the rows it took, and adds their gradient to `gradient`. To each number just one sum is added: it makes no difference to
    /// the bits whether that happens here, or to zeros that are added to `gradient` later.
    pub(super) fn learn(
        &mut self,
        model: &Model,
        parameters: &[f32],
        settings: Settings,
        gradient: &mut [f32],
    ) -> Sums {
        let Model {
            simd,
            net,
            distribution,
        } = model;
        let transitions = self.rows.transitions();
        let (rows, observations) = (transitions.values.len(), &self.rows.observations);
        net.forward(*simd, parameters, observations, rows, &mut self.tape);
        self.log_std.fill(0.0);
        let sums = simd.run(Loss {
            distribution,
            settings,
            heads: self.tape.heads(rows),
            log_std: &parameters[net.log_std()],
            log_std_gradient: &mut self.log_std,
            transitions,
        });
        simd.run(Sum {
            to: &mut gradient[net.log_std()],
            of: &self.log_std,
        });
        net.backward(
            *simd,
            parameters,
            observations,
            rows,
            &mut self.tape,
            gradient,
        );
        sums
    }
}

/// `to ← to + of`.
pub(super) struct Sum<'a> {
    pub(super) to: &'a mut [f32],
    pub(super) of: &'a [f32],
}

impl Kernel for Sum<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        for (to, of) in self.to.iter_mut().zip(self.of) {
            *to += of;
        }
    }
}
