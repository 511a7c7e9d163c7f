//! What a policy's head means: a distribution over actions, its log-probabilities and entropy, and their gradients.
//!
//! The head's output for one observation is one row: logits, or means. Every function takes one row. Gradients come in two steps, as a loss needs the
//! log-probability before it knows what to weigh its gradient by: [`Distribution::evaluate`] leaves in `work` what
//! [`Distribution::gradient`] goes on from.

mod categorical;
mod gaussian;

use crate::env::Space;
use crate::rng::Rng;
use crate::simd::Vector;

/// A distribution over actions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Distribution {
    /// One choice, or several that are independent of each other, each among so many. The head gives their logits, one after
    /// the other; those of a mask's `false` are left out.
    Categorical(Vec<usize>),
    /// So many numbers, normally distributed and independent of each other. The head gives their means; the logarithms of
    /// their standard deviations are parameters. Exploration that depends on the state (gSDE) is left out.
    Gaussian(usize),
}

/// An action's log-probability, and the distribution's entropy.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Evaluation {
    /// ln π(a|s).
    pub log_prob: f32,
    /// −Σ π·ln π, or its integral.
    pub entropy: f32,
}

/// How an action is drawn.
#[derive(Debug)]
pub enum Draw<'a> {
    /// By chance.
    Sample(&'a mut Rng),
    /// The likeliest.
    Mode,
}

/// One observation's distribution.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// The head's output: logits, or means.
    pub head: &'a [f32],
    /// Logarithms of the standard deviations of a Gaussian.
    pub log_std: &'a [f32],
    /// Which of the logits may be chosen; empty: all. Of each choice one at least must be allowed.
    pub mask: &'a [bool],
}

impl Distribution {
    /// The distribution over this space. Each bit of `MultiBinary` is a choice among two.
    #[must_use]
    pub fn over(space: &Space) -> Self {
        match space {
            Space::Box { low, .. } => Self::Gaussian(low.len()),
            Space::Discrete(n) => Self::Categorical(vec![*n]),
            Space::MultiDiscrete(sizes) => Self::Categorical(sizes.clone()),
            Space::MultiBinary(n) => Self::Categorical(vec![2; *n]),
        }
    }

    /// How many numbers the head gives.
    #[must_use]
    pub fn outputs(&self) -> usize {
        match self {
            Self::Categorical(sizes) => sizes.iter().sum(),
            Self::Gaussian(width) => *width,
        }
    }

    /// How many numbers an action has.
    #[must_use]
    pub fn action_width(&self) -> usize {
        match self {
            Self::Categorical(sizes) => sizes.len(),
            Self::Gaussian(width) => *width,
        }
    }

    /// How many standard deviations are parameters.
    #[must_use]
    pub fn log_std(&self) -> usize {
        match self {
            Self::Categorical(_) => 0,
            Self::Gaussian(width) => *width,
        }
    }

    /// Draws an action, and gives its log-probability.
    #[inline(always)]
    pub fn draw<V: Vector>(&self, row: Row<'_>, draw: &mut Draw<'_>, action: &mut [f32]) -> f32 {
        match self {
            Self::Categorical(sizes) => categorical::draw::<V>(sizes, row, draw, action),
            Self::Gaussian(_) => gaussian::draw::<V>(row, draw, action),
        }
    }

    /// The log-probability of `action` and the entropy. `work`, as long as the head's row, is for [`Distribution::gradient`].
    #[inline(always)]
    pub fn evaluate<V: Vector>(
        &self,
        row: Row<'_>,
        action: &[f32],
        work: &mut [f32],
    ) -> Evaluation {
        match self {
            Self::Categorical(sizes) => categorical::evaluate::<V>(sizes, row, action, work),
            Self::Gaussian(_) => gaussian::evaluate::<V>(row, action, work),
        }
    }

    /// Turns `work` into the gradient of `weights.log_prob · ln π(a|s) + weights.entropy · H` with respect to the head's
    /// output, and adds that with respect to `log_std` to `log_std_gradient`.
    #[inline(always)]
    pub fn gradient<V: Vector>(
        &self,
        row: Row<'_>,
        action: &[f32],
        weights: Evaluation,
        work: &mut [f32],
        log_std_gradient: &mut [f32],
    ) {
        match self {
            Self::Categorical(sizes) => categorical::gradient::<V>(sizes, action, weights, work),
            Self::Gaussian(_) => gaussian::gradient::<V>(row, weights, work, log_std_gradient),
        }
    }
}

#[cfg(test)]
mod tests;
