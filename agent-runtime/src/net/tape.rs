//! What a forward pass leaves for the backward pass.

use super::Net;
use super::layer::{Input, Layer};
use crate::gemm::padded;
use crate::memory::{Buffer, Component, MemoryBudget, OverBudget};

/// The outputs of all layers and their gradients, for so many rows. Allocated once, used again and again.
#[derive(Debug)]
pub struct Tape {
    rows: usize,
    pub(super) shared: Vec<Output>,
    pub(super) policy: Vec<Output>,
    pub(super) value: Vec<Output>,
    /// Room for one layer's transposed weights.
    pub(super) transposed: Buffer<f32>,
}

/// One layer's output, and its gradient.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) values: Buffer<f32>,
    pub(super) gradient: Buffer<f32>,
}

impl Tape {
    /// Room for `rows` observations, forward and backward.
    ///
    /// # Errors
    /// If it does not fit into the budget.
    pub fn new(net: &Net, budget: &MemoryBudget, rows: usize) -> Result<Self, OverBudget> {
        let layers = || net.shared.iter().chain(&net.policy).chain(&net.value);
        let largest = layers()
            .map(|layer| layer.outputs() * padded(layer.inputs()))
            .max();
        Self::with_room(net, budget, rows, rows, largest.unwrap_or(0))
    }

    /// Room for `rows` observations, forward only.
    ///
    /// # Errors
    /// If it does not fit into the budget.
    pub fn inference(net: &Net, budget: &MemoryBudget, rows: usize) -> Result<Self, OverBudget> {
        Self::with_room(net, budget, rows, 0, 0)
    }

    fn with_room(
        net: &Net,
        budget: &MemoryBudget,
        rows: usize,
        backward: usize,
        transposed: usize,
    ) -> Result<Self, OverBudget> {
        let buffer = |len| budget.buffer(Component::Activations, len, 0.0);
        let outputs = |layers: &[Layer]| {
            let output = |layer: &Layer| {
                Ok(Output {
                    values: buffer(rows * layer.stride())?,
                    gradient: buffer(backward * layer.stride())?,
                })
            };
            layers.iter().map(output).collect::<Result<_, OverBudget>>()
        };
        Ok(Self {
            rows,
            shared: outputs(&net.shared)?,
            policy: outputs(&net.policy)?,
            value: outputs(&net.value)?,
            transposed: buffer(transposed)?,
        })
    }

    /// The policy head's output: a row an observation, each [`Net::logits_stride`] long.
    #[must_use]
    pub fn logits(&self) -> &[f32] {
        self.policy.last().map_or(&[], |output| &output.values)
    }

    /// The value head's output: a row an observation, each [`Net::value_stride`] long, the value first.
    #[must_use]
    pub fn values(&self) -> &[f32] {
        self.value.last().map_or(&[], |output| &output.values)
    }

    /// What a loss reads and writes of the first `rows`: logits and their gradient, values and theirs.
    pub fn heads(&mut self, rows: usize) -> Heads<'_> {
        fn of(outputs: &mut [Output], rows: usize, room: usize) -> (&[f32], &mut [f32]) {
            let Some(Output { values, gradient }) = outputs.last_mut() else {
                return (&[], &mut []);
            };
            let used = gradient.len() / room * rows;
            (&values[..used], &mut gradient[..used])
        }
        let (logits, logits_gradient) = of(&mut self.policy, rows, self.rows);
        let (values, values_gradient) = of(&mut self.value, rows, self.rows);
        Heads {
            logits,
            logits_gradient,
            values,
            values_gradient,
        }
    }
}

/// The outputs of both heads, and where their gradients go.
#[derive(Debug)]
pub struct Heads<'a> {
    /// The policy's.
    pub logits: &'a [f32],
    /// To be written, padding included.
    pub logits_gradient: &'a mut [f32],
    /// The value's.
    pub values: &'a [f32],
    /// To be written, padding included.
    pub values_gradient: &'a mut [f32],
}

/// What both branches start from: the last shared layer's output, or the observations.
pub(super) fn features<'a>(
    shared: &'a [Output],
    layers: &[Layer],
    observations: Input<'a>,
) -> Input<'a> {
    match (shared.last(), layers.last()) {
        (Some(output), Some(layer)) => (&output.values, layer.stride()),
        _ => observations,
    }
}

/// The same, and where their gradient goes, if anybody wants it.
pub(super) fn features_and_gradient<'a>(
    shared: &'a mut [Output],
    layers: &[Layer],
    observations: Input<'a>,
) -> (Input<'a>, Option<&'a mut [f32]>) {
    match (shared.last_mut(), layers.last()) {
        (Some(Output { values, gradient }), Some(layer)) => {
            ((values, layer.stride()), Some(gradient))
        }
        _ => (observations, None),
    }
}
