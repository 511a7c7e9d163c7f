//! One layer, forward and backward: Y = φ(X·W + b).

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::tape::Output;
use crate::gemm::{Gemm, LANES, Left, padded};
use crate::math::tanh;
use crate::simd::{Kernel, Simd, Vector};

/// What follows a layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// The hyperbolic tangent.
    #[default]
    Tanh,
    /// max(0, x).
    Relu,
    /// Nothing: a head.
    #[serde(skip)]
    None,
}

/// The shape of a layer, and where its parameters are.
#[derive(Clone, Debug)]
pub struct Layer {
    inputs: usize,
    outputs: usize,
    activation: Activation,
    offset: usize,
}

impl Layer {
    pub(super) fn new(
        inputs: usize,
        outputs: usize,
        activation: Activation,
        offset: usize,
    ) -> Self {
        Self {
            inputs,
            outputs,
            activation,
            offset,
        }
    }

    /// How many numbers go in.
    #[must_use]
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// How many numbers come out.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// From a row of its output to the next.
    #[must_use]
    pub fn stride(&self) -> usize {
        padded(self.outputs)
    }

    /// Where its weights are: a row an input.
    pub(super) fn weights(&self) -> Range<usize> {
        self.offset..self.offset + self.inputs * self.stride()
    }

    /// Where its biases are.
    pub(super) fn biases(&self) -> Range<usize> {
        let start = self.weights().end;
        start..start + self.stride()
    }

    pub(super) fn end(&self) -> usize {
        self.biases().end
    }

    /// Where its weights are in PyTorch's order: a row an output.
    pub(super) fn weight_positions(&self) -> impl Iterator<Item = usize> + use<> {
        let (offset, inputs, stride) = (self.offset, self.inputs, self.stride());
        (0..self.outputs)
            .flat_map(move |output| (0..inputs).map(move |input| offset + input * stride + output))
    }
}

/// A matrix that layers read: its numbers, and from a row to the next.
pub(super) type Input<'a> = (&'a [f32], usize);

/// `layers`, one after the other.
pub(super) fn forward(
    simd: Simd,
    layers: &[Layer],
    parameters: &[f32],
    input: Input<'_>,
    rows: usize,
    outputs: &mut [Output],
) {
    for at in 0..layers.len() {
        let layer = &layers[at];
        let (before, after) = outputs.split_at_mut(at);
        let (data, stride) = match before.last() {
            Some(output) => (&*output.values, layers[at - 1].stride()),
            None => input,
        };
        let y = &mut after[0].values[..rows * layer.stride()];
        simd.run(Gemm {
            m: rows,
            k: layer.inputs,
            n: layer.stride(),
            a: Left::Rows { data, stride },
            b: &parameters[layer.weights()],
            c: y,
            accumulate: false,
        });
        simd.run(Activate {
            y,
            biases: &parameters[layer.biases()],
            activation: layer.activation,
        });
    }
}

/// Y ← φ(Y + b).
struct Activate<'a> {
    y: &'a mut [f32],
    biases: &'a [f32],
    activation: Activation,
}

impl Kernel for Activate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let Self {
            y,
            biases,
            activation,
        } = self;
        match activation {
            Activation::Tanh => each(y, biases, tanh::<V>),
            Activation::Relu => each(y, biases, |y| if y < 0.0 { 0.0 } else { y }),
            Activation::None => each(y, biases, |y| y),
        }
    }
}

#[inline(always)]
fn each(y: &mut [f32], biases: &[f32], activation: impl Fn(f32) -> f32) {
    for row in y.chunks_exact_mut(biases.len()) {
        for (y, bias) in row.iter_mut().zip(biases) {
            *y = activation(*y + bias);
        }
    }
}

/// A backward pass.
pub(super) struct Backward<'a> {
    pub(super) simd: Simd,
    pub(super) parameters: &'a [f32],
    pub(super) rows: usize,
    pub(super) gradient: &'a mut [f32],
    pub(super) transposed: &'a mut [f32],
}

impl Backward<'_> {
    /// From the gradient of the last layer's output to those of all parameters, and to that of the input where somebody wants
    /// it: added to what is there, or in its place.
    pub(super) fn chain(
        &mut self,
        layers: &[Layer],
        input: Input<'_>,
        outputs: &mut [Output],
        mut into: Option<&mut [f32]>,
        add: bool,
    ) {
        for at in (0..layers.len()).rev() {
            let layer = &layers[at];
            let (before, after) = outputs.split_at_mut(at);
            let Output { values, gradient } = &mut after[0];
            let delta = &mut gradient[..self.rows * layer.stride()];
            self.simd.run(Derive {
                delta,
                y: values,
                biases: &mut self.gradient[layer.biases()],
                // Nothing is transposed yet.
                sums: &mut self.transposed[..layer.stride()],
                activation: layer.activation,
            });
            match before.last_mut() {
                Some(before) => {
                    self.weights(layer, (&before.values, layers[at - 1].stride()), delta);
                    self.input(layer, delta, &mut before.gradient, false);
                }
                None => {
                    self.weights(layer, input, delta);
                    if let Some(into) = into.as_deref_mut() {
                        self.input(layer, delta, into, add);
                    }
                }
            }
        }
    }

    /// ∂W ← ∂W + Xᵀ·∂Y.
    fn weights(&mut self, layer: &Layer, (data, stride): Input<'_>, delta: &[f32]) {
        self.simd.run(Gemm {
            m: layer.inputs,
            k: self.rows,
            n: layer.stride(),
            a: Left::Columns { data, stride },
            b: delta,
            c: &mut self.gradient[layer.weights()],
            accumulate: true,
        });
    }

    /// ∂X ← ∂Y·Wᵀ.
    fn input(&mut self, layer: &Layer, delta: &[f32], into: &mut [f32], accumulate: bool) {
        let width = padded(layer.inputs);
        let transposed = &mut self.transposed[..layer.outputs * width];
        self.simd.run(Transpose {
            weights: &self.parameters[layer.weights()],
            stride: layer.stride(),
            transposed,
            width,
        });
        self.simd.run(Gemm {
            m: self.rows,
            k: layer.outputs,
            n: width,
            a: Left::Rows {
                data: delta,
                stride: layer.stride(),
            },
            b: transposed,
            c: &mut into[..self.rows * width],
            accumulate,
        });
    }
}

/// ∂Y ← ∂Y ⊙ φ'(Y), where φ' follows from φ's value; ∂b ← ∂b + Σ rows of ∂Y. The rows are summed up first: parts of a minibatch then give the same
/// bits whether each is added to those before it, or to zeros that are added to them later.
struct Derive<'a> {
    delta: &'a mut [f32],
    y: &'a [f32],
    biases: &'a mut [f32],
    sums: &'a mut [f32],
    activation: Activation,
}

impl Kernel for Derive<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        match self.activation {
            Activation::Tanh => self.each(|y| 1.0 - y * y),
            Activation::Relu => self.each(|y| if y > 0.0 { 1.0 } else { 0.0 }),
            Activation::None => self.each(|_| 1.0),
        }
    }
}

impl Derive<'_> {
    #[inline(always)]
    fn each(self, derivative: impl Fn(f32) -> f32) {
        let stride = self.biases.len();
        self.sums.fill(0.0);
        for (row, y) in self
            .delta
            .chunks_exact_mut(stride)
            .zip(self.y.chunks_exact(stride))
        {
            for ((delta, y), sum) in row.iter_mut().zip(y).zip(&mut *self.sums) {
                *delta *= derivative(*y);
                *sum += *delta;
            }
        }
        for (bias, sum) in self.biases.iter_mut().zip(self.sums) {
            *bias += *sum;
        }
    }
}

/// Wᵀ, an output's weights a row, padded with zeros: what pads a layer has no gradient.
struct Transpose<'a> {
    weights: &'a [f32],
    stride: usize,
    transposed: &'a mut [f32],
    width: usize,
}

impl Kernel for Transpose<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        // By blocks of columns, so that what is read of a line of the cache is used.
        for (block, rows) in self.transposed.chunks_mut(LANES * self.width).enumerate() {
            let inputs = self.weights.len() / self.stride;
            for row in rows.chunks_exact_mut(self.width) {
                row[inputs..].fill(0.0);
            }
            for (input, weights) in self.weights.chunks_exact(self.stride).enumerate() {
                let weights = &weights[block * LANES..];
                for (row, weight) in rows.chunks_exact_mut(self.width).zip(weights) {
                    row[input] = *weight;
                }
            }
        }
    }
}
