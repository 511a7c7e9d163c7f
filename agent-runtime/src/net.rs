//! The policy's and the value's network: one or two multi-layer perceptrons.
//!
//! ```text
//!                        ┌─► policy: hidden layers ─► head: logits, or means
//! observation ─► shared ─┤
//!                        └─► value:  hidden layers ─► head: one number
//! ```
//! Shared layers may be none (separate trunks, Stable-Baselines3's default) and so may each branch's hidden layers. All
//! parameters lie in one flat buffer, as do their gradients, so that the optimiser sees one vector. A layer's weights are stored
//! input by input, each row padded with zeros to whole vectors: their gradients are zero, and so they stay.

mod init;
mod layer;
mod tape;

use std::ops::Range;

use crate::memory::{Buffer, Component, MemoryBudget, OverBudget};
use crate::rng::Rng;
use crate::simd::Simd;

pub use layer::{Activation, Layer};
pub use tape::{Heads, Tape};

/// The shape of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Architecture {
    /// Numbers in an observation.
    pub inputs: usize,
    /// Numbers in the policy head: logits, or means.
    pub outputs: usize,
    /// Logarithms of standard deviations that do not depend on the observation: as many as there are means, or none.
    pub log_std: usize,
    /// Widths of the layers that both share.
    pub shared: Vec<usize>,
    /// Widths of the policy's hidden layers.
    pub policy: Vec<usize>,
    /// Widths of the value's hidden layers.
    pub value: Vec<usize>,
    /// What follows each hidden layer.
    pub activation: Activation,
}

/// One of the parameters, named as Stable-Baselines3 names it in a policy's `state_dict`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// `mlp_extractor.policy_net.0.weight`, say.
    pub name: String,
    /// As in PyTorch: outputs, inputs; or outputs.
    pub shape: Vec<usize>,
    /// Where each of its numbers lies in the flat buffer, in PyTorch's order.
    pub at: Vec<usize>,
}

/// The layers, and where their parameters are.
#[derive(Clone, Debug)]
pub struct Net {
    architecture: Architecture,
    shared: Vec<Layer>,
    policy: Vec<Layer>,
    value: Vec<Layer>,
    log_std: Range<usize>,
}

impl Net {
    /// The network of this shape.
    #[must_use]
    pub fn new(architecture: Architecture) -> Self {
        let mut offset = 0;
        let mut chain = |mut inputs: usize, widths: &[usize], head: Option<usize>| {
            let activation = architecture.activation;
            let hidden = widths.iter().map(|&width| (width, activation));
            let layers: Vec<Layer> = hidden
                .chain(head.map(|width| (width, Activation::None)))
                .map(|(width, activation)| {
                    let layer = Layer::new(inputs, width, activation, offset);
                    offset = layer.end();
                    inputs = width;
                    layer
                })
                .collect();
            (layers, inputs)
        };
        let (shared, features) = chain(architecture.inputs, &architecture.shared, None);
        let (policy, _) = chain(features, &architecture.policy, Some(architecture.outputs));
        let (value, _) = chain(features, &architecture.value, Some(1));
        Self {
            log_std: offset..offset + architecture.log_std,
            architecture,
            shared,
            policy,
            value,
        }
    }

    /// Its shape.
    #[must_use]
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// How many numbers its parameters take, padding included.
    #[must_use]
    pub fn parameters(&self) -> usize {
        self.log_std.end
    }

    /// From one row of the policy head's output to the next.
    #[must_use]
    pub fn logits_stride(&self) -> usize {
        self.policy.last().map_or(0, Layer::stride)
    }

    /// From one row of the value head's output to the next.
    #[must_use]
    pub fn value_stride(&self) -> usize {
        self.value.last().map_or(0, Layer::stride)
    }

    /// Where the logarithms of the standard deviations are.
    #[must_use]
    pub fn log_std(&self) -> Range<usize> {
        self.log_std.clone()
    }

    /// Fresh parameters as Stable-Baselines3 draws them. Orthogonal: with gain √2, of the policy head 0.01, of the value head 1,
    /// and biases zero. Else uniform, as PyTorch initialises a layer. `log_std` as given.
    ///
    /// # Errors
    /// If they do not fit into the budget.
    pub fn initial(
        &self,
        budget: &MemoryBudget,
        rng: &mut Rng,
        orthogonal: bool,
        log_std: f32,
    ) -> Result<Buffer<f32>, OverBudget> {
        let mut parameters = budget.buffer(Component::Parameters, self.parameters(), 0.0)?;
        for (layers, head_gain) in [
            (&self.shared, None),
            (&self.policy, Some(0.01)),
            (&self.value, Some(1.0)),
        ] {
            let last = layers.len().saturating_sub(1);
            for (at, layer) in layers.iter().enumerate() {
                if orthogonal {
                    let gain = head_gain
                        .filter(|_| at == last)
                        .unwrap_or(std::f64::consts::SQRT_2);
                    let weights = init::orthogonal(rng, layer.outputs(), layer.inputs(), gain);
                    for (at, weight) in layer.weight_positions().zip(weights) {
                        parameters[at] = weight;
                    }
                } else {
                    let biases = layer.biases().take(layer.outputs());
                    for at in layer.weight_positions().chain(biases) {
                        parameters[at] = init::uniform(rng, layer.inputs());
                    }
                }
            }
        }
        parameters[self.log_std()].fill(log_std);
        Ok(parameters)
    }

    /// Policy head and value head for each of `rows` observations: into `tape`.
    pub fn forward(
        &self,
        simd: Simd,
        parameters: &[f32],
        observations: &[f32],
        rows: usize,
        tape: &mut Tape,
    ) {
        let inputs = self.architecture.inputs;
        let Tape {
            shared,
            policy,
            value,
            ..
        } = tape;
        layer::forward(
            simd,
            &self.shared,
            parameters,
            (observations, inputs),
            rows,
            shared,
        );
        let features = tape::features(shared, &self.shared, (observations, inputs));
        layer::forward(simd, &self.policy, parameters, features, rows, policy);
        layer::forward(simd, &self.value, parameters, features, rows, value);
    }

    /// Adds to `gradient` what follows from the heads' gradients, which the loss has left in `tape` after
    /// [`Net::forward`] of the same observations.
    pub fn backward(
        &self,
        simd: Simd,
        parameters: &[f32],
        observations: &[f32],
        rows: usize,
        tape: &mut Tape,
        gradient: &mut [f32],
    ) {
        let inputs = self.architecture.inputs;
        let Tape {
            shared,
            policy,
            value,
            transposed,
            ..
        } = tape;
        let mut pass = layer::Backward {
            simd,
            parameters,
            rows,
            gradient,
            transposed,
        };
        let (features, mut into) =
            tape::features_and_gradient(shared, &self.shared, (observations, inputs));
        pass.chain(&self.policy, features, policy, into.as_deref_mut(), false);
        pass.chain(&self.value, features, value, into, true);
        pass.chain(&self.shared, (observations, inputs), shared, None, false);
    }

    /// All parameters by name.
    #[must_use]
    pub fn named(&self) -> Vec<Named> {
        let mut named = Vec::new();
        for (layers, net, head) in [
            (&self.shared, "shared_net", None),
            (&self.policy, "policy_net", Some("action_net")),
            (&self.value, "value_net", Some("value_net")),
        ] {
            let last = layers.len().saturating_sub(1);
            for (at, layer) in layers.iter().enumerate() {
                let prefix = match head {
                    Some(head) if at == last => head.to_owned(),
                    // SB3 counts the activations between the layers too.
                    _ => format!("mlp_extractor.{net}.{}", 2 * at),
                };
                named.push(Named {
                    name: format!("{prefix}.weight"),
                    shape: vec![layer.outputs(), layer.inputs()],
                    at: layer.weight_positions().collect(),
                });
                named.push(Named {
                    name: format!("{prefix}.bias"),
                    shape: vec![layer.outputs()],
                    at: layer.biases().take(layer.outputs()).collect(),
                });
            }
        }
        if !self.log_std.is_empty() {
            named.push(Named {
                name: "log_std".to_owned(),
                shape: vec![self.log_std.len()],
                at: self.log_std().collect(),
            });
        }
        named
    }
}

#[cfg(test)]
mod tests;
