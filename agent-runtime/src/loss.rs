//! PPO's loss and its gradient with respect to what the network put out: Schulman and others, "Proximal Policy Optimization
//! Algorithms", 2017, equations 7 and 9; in its details as Stable-Baselines3's `PPO.train`.

use crate::distribution::{Distribution, Evaluation, Row};
use crate::math::exp;
use crate::net::Heads;
use crate::simd::{Kernel, Vector};

/// What the loss weighs and clips, for one minibatch.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// ε of equation 7.
    pub clip_range: f32,
    /// The same for values, if they are clipped at all.
    pub clip_range_vf: Option<f32>,
    /// c₂ of equation 9: what entropy is worth.
    pub ent_coef: f32,
    /// c₁ of equation 9: what an error of the value costs.
    pub vf_coef: f32,
    /// What advantages are brought to scale with.
    pub advantage: Scale,
    /// One over the number of rows in the minibatch, of which this may be a part.
    pub per_row: f32,
}

/// `(x - mean) * factor`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// Taken off.
    pub mean: f32,
    /// Multiplied by.
    pub factor: f32,
}

impl Scale {
    /// Leaves a number as it is.
    pub const NONE: Self = Self {
        mean: 0.0,
        factor: 1.0,
    };

    /// Mean 0 and standard deviation 1, that of a sample (divided by n − 1), with 1e-8 added. Of a single number nothing can be
    /// said: it is left as it is.
    #[must_use]
    pub fn standard(numbers: impl ExactSizeIterator<Item = f32> + Clone) -> Self {
        let count = numbers.len() as f64;
        if count < 2.0 {
            return Self::NONE;
        }
        let mean = numbers.clone().map(f64::from).sum::<f64>() / count;
        let squares = numbers
            .map(|x| (f64::from(x) - mean) * (f64::from(x) - mean))
            .sum::<f64>();
        Self {
            mean: mean as f32,
            factor: (1.0 / ((squares / (count - 1.0)).sqrt() + 1e-8)) as f32,
        }
    }
}

/// Rows of transitions, each number of which was recorded when the behaviour's policy acted.
#[derive(Clone, Copy, Debug)]
pub struct Transitions<'a> {
    /// What was done: a row as wide as the action.
    pub actions: &'a [f32],
    /// What might have been done: a row as wide as the logits; empty: anything.
    pub masks: &'a [bool],
    /// ln π(a|s) of the behaviour.
    pub log_probs: &'a [f32],
    /// V(s) of then.
    pub values: &'a [f32],
    /// Â.
    pub advantages: &'a [f32],
    /// What V(s) should have been.
    pub returns: &'a [f32],
}

/// Sums over rows. Divided by their number they are what Stable-Baselines3 logs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sums {
    /// −min(rₜÂₜ, clip(rₜ)Âₜ).
    pub policy_loss: f64,
    /// (V − return)².
    pub value_loss: f64,
    /// −H.
    pub entropy_loss: f64,
    /// (r − 1) − ln r: Schulman, "Approximating KL Divergence", 2020, estimator k₃.
    pub approx_kl: f64,
    /// How many ratios were out of range.
    pub clipped: f64,
}

impl Sums {
    /// Adds another part's.
    pub fn add(&mut self, other: Self) {
        self.policy_loss += other.policy_loss;
        self.value_loss += other.value_loss;
        self.entropy_loss += other.entropy_loss;
        self.approx_kl += other.approx_kl;
        self.clipped += other.clipped;
    }

    /// All of them times `factor`.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        Self {
            policy_loss: self.policy_loss * factor,
            value_loss: self.value_loss * factor,
            entropy_loss: self.entropy_loss * factor,
            approx_kl: self.approx_kl * factor,
            clipped: self.clipped * factor,
        }
    }
}

/// Computes the loss of each row, and leaves its gradient in the heads and in `log_std_gradient`.
#[derive(Debug)]
pub struct Loss<'a> {
    /// What the policy head means.
    pub distribution: &'a Distribution,
    /// What is weighed and clipped.
    pub settings: Settings,
    /// What the network put out, and where the gradient goes.
    pub heads: Heads<'a>,
    /// Parameters of a Gaussian.
    pub log_std: &'a [f32],
    /// To which their gradient is added.
    pub log_std_gradient: &'a mut [f32],
    /// What was recorded.
    pub transitions: Transitions<'a>,
}

impl Kernel for Loss<'_> {
    type Output = Sums;

    #[inline(always)]
    fn run<V: Vector>(self) -> Sums {
        let Self {
            distribution,
            settings,
            heads,
            log_std,
            log_std_gradient,
            transitions,
        } = self;
        let rows = transitions.log_probs.len();
        let (outputs, width) = (distribution.outputs(), distribution.action_width());
        let (logits_stride, value_stride) = (
            heads.logits_gradient.len() / rows,
            heads.values_gradient.len() / rows,
        );
        let mut sums = Sums::default();
        for row in 0..rows {
            let head = Row {
                head: &heads.logits[row * logits_stride..][..outputs],
                log_std,
                mask: transitions
                    .masks
                    .get(row * outputs..(row + 1) * outputs)
                    .unwrap_or(&[]),
            };
            let action = &transitions.actions[row * width..][..width];
            let (work, padding) =
                heads.logits_gradient[row * logits_stride..][..logits_stride].split_at_mut(outputs);
            padding.fill(0.0);
            let evaluation = distribution.evaluate::<V>(head, action, work);

            let advantage =
                (transitions.advantages[row] - settings.advantage.mean) * settings.advantage.factor;
            let log_ratio = evaluation.log_prob - transitions.log_probs[row];
            let (policy_loss, log_prob_gradient) =
                policy::<V>(log_ratio, advantage, settings.clip_range, &mut sums);
            sums.policy_loss += f64::from(policy_loss);
            sums.entropy_loss -= f64::from(evaluation.entropy);
            let weights = Evaluation {
                log_prob: log_prob_gradient * settings.per_row,
                entropy: -settings.ent_coef * settings.per_row,
            };
            distribution.gradient::<V>(head, action, weights, work, log_std_gradient);

            let values_gradient = &mut heads.values_gradient[row * value_stride..][..value_stride];
            values_gradient.fill(0.0);
            let (error, inside) = value_error(
                heads.values[row * value_stride],
                transitions.values[row],
                transitions.returns[row],
                settings.clip_range_vf,
            );
            sums.value_loss += f64::from(error) * f64::from(error);
            if inside {
                values_gradient[0] = 2.0 * settings.vf_coef * settings.per_row * error;
            }
        }
        sums
    }
}

/// The clipped objective with its sign turned (equation 7), and its gradient with respect to ln π(a|s): −r·Â where the
/// unclipped term is the smaller one or both are equal, else none.
#[inline(always)]
fn policy<V: Vector>(
    log_ratio: f32,
    advantage: f32,
    clip_range: f32,
    sums: &mut Sums,
) -> (f32, f32) {
    let ratio = exp::<V>(log_ratio);
    let clipped = ratio.clamp(1.0 - clip_range, 1.0 + clip_range);
    sums.approx_kl += f64::from((ratio - 1.0) - log_ratio);
    if (ratio - 1.0).abs() > clip_range {
        sums.clipped += 1.0;
    }
    let (free, bounded) = (ratio * advantage, clipped * advantage);
    if bounded < free {
        (-bounded, 0.0)
    } else {
        (-free, -free)
    }
}

/// How far the value is off, and whether it has a gradient: clipped to the neighbourhood of the old one, it has none outside.
#[inline(always)]
fn value_error(value: f32, old: f32, target: f32, clip_range: Option<f32>) -> (f32, bool) {
    match clip_range {
        None => (value - target, true),
        Some(range) => {
            let change = value - old;
            (
                old + change.clamp(-range, range) - target,
                change.abs() <= range,
            )
        }
    }
}

#[cfg(test)]
mod tests;
