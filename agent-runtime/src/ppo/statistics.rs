//! What an update says of itself, as Stable-Baselines3 logs it.

use serde::{Deserialize, Deserializer, Serialize};

use crate::hyper::HyperParameters;
use crate::loss::Sums;
use crate::rollout::Rollout;

/// How an update ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// After all epochs.
    Complete,
    /// Before, as the policy had gone far enough.
    StoppedByKl,
    /// Something was not finite: nothing has changed.
    Undone,
}

/// Means over an update's minibatches.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Statistics {
    /// How it ended.
    pub outcome: Outcome,
    /// How many epochs it began.
    pub epochs: usize,
    /// Of the clipped objective, its sign turned.
    #[serde(deserialize_with = "or_null")]
    pub policy_loss: f64,
    /// Of the squared error of values.
    #[serde(deserialize_with = "or_null")]
    pub value_loss: f64,
    /// Of the entropy, its sign turned.
    #[serde(deserialize_with = "or_null")]
    pub entropy_loss: f64,
    /// The last minibatch's whole loss.
    #[serde(deserialize_with = "or_null")]
    pub loss: f64,
    /// How far the policy went, by the last epoch.
    #[serde(deserialize_with = "or_null")]
    pub approx_kl: f64,
    /// The fraction of ratios that were clipped.
    #[serde(deserialize_with = "or_null")]
    pub clip_fraction: f64,
    /// The last gradient's norm before it was clipped.
    #[serde(deserialize_with = "or_null")]
    pub gradient_norm: f64,
    /// How much of the returns' variance the values had foreseen.
    #[serde(deserialize_with = "or_null")]
    pub explained_variance: f64,
    /// Adam's step.
    #[serde(deserialize_with = "or_null")]
    pub learning_rate: f64,
    /// How far a ratio might go.
    #[serde(deserialize_with = "or_null")]
    pub clip_range: f64,
    #[serde(skip)]
    minibatches: f64,
    #[serde(skip)]
    minibatches_of_epoch: f64,
}

/// JSON has null for what is not finite.
fn or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

impl Statistics {
    pub(super) fn new(rollout: &Rollout, learning_rate: f64, clip_range: f64) -> Self {
        let rows = rollout.rows();
        Self {
            outcome: Outcome::Complete,
            epochs: 0,
            policy_loss: 0.0,
            value_loss: 0.0,
            entropy_loss: 0.0,
            loss: 0.0,
            approx_kl: 0.0,
            clip_fraction: 0.0,
            gradient_norm: 0.0,
            explained_variance: explained_variance(
                &rollout.values[..rows],
                &rollout.returns[..rows],
            ),
            learning_rate,
            clip_range,
            minibatches: 0.0,
            minibatches_of_epoch: 0.0,
        }
    }

    pub(super) fn begin_epoch(&mut self) {
        self.epochs += 1;
        self.minibatches_of_epoch = 0.0;
        self.approx_kl = 0.0;
    }

    /// Takes in the means of a minibatch.
    pub(super) fn minibatch(&mut self, means: Sums, norm: f64, hyper: &HyperParameters) {
        self.minibatches += 1.0;
        self.minibatches_of_epoch += 1.0;
        let average = |mean: &mut f64, x: f64, count: f64| *mean += (x - *mean) / count;
        average(&mut self.policy_loss, means.policy_loss, self.minibatches);
        average(&mut self.value_loss, means.value_loss, self.minibatches);
        average(&mut self.entropy_loss, means.entropy_loss, self.minibatches);
        average(&mut self.clip_fraction, means.clipped, self.minibatches);
        average(
            &mut self.approx_kl,
            means.approx_kl,
            self.minibatches_of_epoch,
        );
        self.loss = means.policy_loss
            + hyper.ent_coef * means.entropy_loss
            + hyper.vf_coef * means.value_loss;
        self.gradient_norm = norm;
    }
}

/// 1 − Var(returns − values) / Var(returns): 1 is perfect, 0 no better than a constant, less is worse. NaN if all returns are equal.
#[must_use]
pub fn explained_variance(values: &[f32], returns: &[f32]) -> f64 {
    let errors = values
        .iter()
        .zip(returns)
        .map(|(value, target)| f64::from(*target) - f64::from(*value));
    let spread = variance(returns.iter().map(|&target| f64::from(target)));
    if spread == 0.0 {
        f64::NAN
    } else {
        1.0 - variance(errors) / spread
    }
}

fn variance(numbers: impl ExactSizeIterator<Item = f64> + Clone) -> f64 {
    let count = numbers.len() as f64;
    let mean = numbers.clone().sum::<f64>() / count;
    numbers.map(|x| (x - mean) * (x - mean)).sum::<f64>() / count
}
