//! Hyper-parameters, named and defaulted as in Stable-Baselines3's `PPO`, checked against what makes sense.

use std::fmt::Display;

use serde::{Deserialize, Serialize};

use crate::net::Activation;
use crate::schedule::Schedule;

/// No more parallel environments, layers, or neurons in one are taken for what was meant.
const MOST_ENVIRONMENTS: usize = 4_096;
const MOST_LAYERS: usize = 8;
const MOST_NEURONS: usize = 4_096;
const MOST_TRANSITIONS: usize = 1 << 24;

/// What training is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "an object, of what is to be other than usual"
)]
pub struct HyperParameters {
    /// Environment steps in all, over which schedules fall; none: for ever, and nothing falls.
    pub n_timesteps: Option<u64>,
    /// Environments side by side.
    pub n_envs: usize,
    /// Steps of each environment between two updates.
    pub n_steps: usize,
    /// Transitions in a minibatch.
    pub batch_size: usize,
    /// How often an update goes over the rollout.
    pub n_epochs: usize,
    /// Discount.
    pub gamma: f64,
    /// λ of generalised advantage estimation.
    pub gae_lambda: f64,
    /// Adam's step.
    pub learning_rate: Schedule,
    /// How far the ratio of probabilities may leave 1.
    pub clip_range: Schedule,
    /// How far a value may leave the old one; none: as far as it likes.
    pub clip_range_vf: Option<Schedule>,
    /// Advantages are brought to scale in each minibatch.
    pub normalize_advantage: bool,
    /// What entropy is worth.
    pub ent_coef: f64,
    /// What an error of the value costs.
    pub vf_coef: f64,
    /// The longest gradient.
    pub max_grad_norm: f64,
    /// An update stops when the policy has gone 1.5 times this far.
    pub target_kl: Option<f64>,
    /// Observations are brought to scale by running moments (`VecNormalize`).
    pub normalize_observation: bool,
    /// So are rewards.
    pub normalize_reward: bool,
    /// Widths of layers that policy and value share.
    pub shared: Vec<usize>,
    /// Widths of the policy's hidden layers.
    pub policy: Vec<usize>,
    /// Widths of the value's hidden layers; not given: the policy's.
    pub value: Option<Vec<usize>>,
    /// What follows a hidden layer.
    pub activation: Activation,
    /// Weights are orthogonal at first; else as PyTorch initialises its layers.
    pub ortho_init: bool,
    /// The logarithm of the standard deviations of continuous actions, at first.
    pub log_std_init: f64,
}

impl Default for HyperParameters {
    fn default() -> Self {
        Self {
            n_timesteps: None,
            n_envs: 1,
            n_steps: 2_048,
            batch_size: 64,
            n_epochs: 10,
            gamma: 0.99,
            gae_lambda: 0.95,
            learning_rate: Schedule::Constant(3e-4),
            clip_range: Schedule::Constant(0.2),
            clip_range_vf: None,
            normalize_advantage: true,
            ent_coef: 0.0,
            vf_coef: 0.5,
            max_grad_norm: 0.5,
            target_kl: None,
            normalize_observation: false,
            normalize_reward: false,
            shared: vec![],
            policy: vec![64, 64],
            value: None,
            activation: Activation::Tanh,
            ortho_init: true,
            log_std_init: 0.0,
        }
    }
}

/// A hyper-parameter that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} = {value} is out of range: it must be {range}")]
pub struct OutOfRange {
    name: &'static str,
    value: String,
    range: String,
}

impl HyperParameters {
    /// Widths of the value's hidden layers.
    #[must_use]
    pub fn value(&self) -> &Vec<usize> {
        self.value.as_ref().unwrap_or(&self.policy)
    }

    /// One that is to fall, and never does for want of a horizon.
    #[must_use]
    pub fn never_falls(&self) -> Option<&'static str> {
        let falls = |schedule| matches!(schedule, Some(Schedule::Linear(_)));
        [
            ("learning_rate", Some(self.learning_rate)),
            ("clip_range", Some(self.clip_range)),
            ("clip_range_vf", self.clip_range_vf),
        ]
        .into_iter()
        .find(|&(_, schedule)| self.n_timesteps.is_none() && falls(schedule))
        .map(|(name, _)| name)
    }

    /// Checks every one.
    ///
    /// # Errors
    /// The first that is out of range, and the range.
    pub fn validate(&self) -> Result<(), OutOfRange> {
        check(
            "n_timesteps",
            self.n_timesteps.unwrap_or(1),
            |&n| n >= 1,
            "at least 1",
        )?;
        check(
            "n_envs",
            self.n_envs,
            |n| (1..=MOST_ENVIRONMENTS).contains(n),
            format!("between 1 and {MOST_ENVIRONMENTS}"),
        )?;
        let most_steps = MOST_TRANSITIONS / self.n_envs;
        check(
            "n_steps",
            self.n_steps,
            |n| (1..=most_steps).contains(n),
            format!("between 1 and {most_steps} with n_envs = {}", self.n_envs),
        )?;
        let rows = self.n_steps * self.n_envs;
        check(
            "n_steps",
            self.n_steps,
            |_| rows > 1 || !self.normalize_advantage,
            "such that n_steps * n_envs is more than 1, as advantages are normalised",
        )?;
        // As in SB3, which would normalise by a single number.
        let least = if self.normalize_advantage { 2 } else { 1 };
        check(
            "batch_size",
            self.batch_size,
            |n| (least..=MOST_TRANSITIONS).contains(n),
            format!("between {least} and {MOST_TRANSITIONS}"),
        )?;
        check(
            "n_epochs",
            self.n_epochs,
            |n| (1..=1_000).contains(n),
            "between 1 and 1000",
        )?;
        check(
            "gamma",
            self.gamma,
            |x| (0.0..=1.0).contains(x),
            "between 0 and 1",
        )?;
        check(
            "gae_lambda",
            self.gae_lambda,
            |x| (0.0..=1.0).contains(x),
            "between 0 and 1",
        )?;
        let positive = |most: f64| move |x: &f64| *x > 0.0 && *x <= most;
        check(
            "learning_rate",
            self.learning_rate.initial(),
            positive(1.0),
            "above 0 and at most 1",
        )?;
        check(
            "clip_range",
            self.clip_range.initial(),
            |x| *x > 0.0 && *x < 1.0,
            "above 0 and below 1",
        )?;
        if let Some(range) = self.clip_range_vf {
            check(
                "clip_range_vf",
                range.initial(),
                positive(f64::MAX),
                "above 0 and finite, or not given",
            )?;
        }
        check(
            "ent_coef",
            self.ent_coef,
            |x| (0.0..=1.0).contains(x),
            "between 0 and 1",
        )?;
        check(
            "vf_coef",
            self.vf_coef,
            |x| (0.0..=100.0).contains(x),
            "between 0 and 100",
        )?;
        check(
            "max_grad_norm",
            self.max_grad_norm,
            positive(f64::MAX),
            "above 0, and finite",
        )?;
        if let Some(kl) = self.target_kl {
            check(
                "target_kl",
                kl,
                positive(f64::MAX),
                "above 0 and finite, or not given",
            )?;
        }
        check(
            "log_std_init",
            self.log_std_init,
            |x| (-10.0..=5.0).contains(x),
            "between -10 and 5",
        )?;
        for (name, widths) in [
            ("shared", &self.shared),
            ("policy", &self.policy),
            ("value", self.value()),
        ] {
            let fits = widths.len() <= MOST_LAYERS
                && widths
                    .iter()
                    .all(|width| (1..=MOST_NEURONS).contains(width));
            let range = format!("at most {MOST_LAYERS} layers of 1 to {MOST_NEURONS} neurons");
            if !fits {
                return Err(OutOfRange {
                    name,
                    value: format!("{widths:?}"),
                    range,
                });
            }
        }
        Ok(())
    }
}

/// A value that fits, or what it must be.
pub(crate) fn check<T: Display>(
    name: &'static str,
    value: T,
    fits: impl Fn(&T) -> bool,
    range: impl Into<String>,
) -> Result<(), OutOfRange> {
    if fits(&value) {
        return Ok(());
    }
    Err(OutOfRange {
        name,
        value: value.to_string(),
        range: range.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_refused_with_its_range() {
        type Change = fn(&mut HyperParameters);
        let cases: &[(Change, &str)] = &[
            (
                |h| h.gamma = 1.5,
                "gamma = 1.5 is out of range: it must be between 0 and 1",
            ),
            (
                |h| h.gae_lambda = f64::NAN,
                "gae_lambda = NaN is out of range: it must be between 0 and 1",
            ),
            (
                |h| h.n_envs = 0,
                "n_envs = 0 is out of range: it must be between 1 and 4096",
            ),
            (
                |h| h.batch_size = 1,
                "batch_size = 1 is out of range: it must be between 2 and 16777216",
            ),
            (
                |h| h.n_epochs = 0,
                "n_epochs = 0 is out of range: it must be between 1 and 1000",
            ),
            (
                |h| h.learning_rate = Schedule::Linear(-0.1),
                "learning_rate = -0.1 is out of range: it must be above 0 and at most 1",
            ),
            (
                |h| h.policy = vec![0],
                "policy = [0] is out of range: it must be at most 8 layers of 1 to 4096 neurons",
            ),
            (
                |h| h.n_steps = usize::MAX,
                "n_steps = 18446744073709551615 is out of range: it must be between 1 and 16777216 with n_envs = 1",
            ),
        ];
        assert_eq!(HyperParameters::default().validate(), Ok(()));
        for (change, message) in cases {
            let mut hyper = HyperParameters::default();
            change(&mut hyper);
            assert_eq!(hyper.validate().expect_err(message).to_string(), *message);
        }
    }

    #[test]
    fn what_is_to_fall_needs_a_horizon() {
        let mut hyper = HyperParameters::default();
        assert_eq!(hyper.never_falls(), None);
        hyper.clip_range = Schedule::Linear(0.2);
        assert_eq!(hyper.never_falls(), Some("clip_range"));
        hyper.n_timesteps = Some(1);
        assert_eq!(hyper.never_falls(), None);
    }

    #[test]
    fn unknown_names_are_errors() {
        let error = toml::from_str::<HyperParameters>("gama = 0.9").expect_err("no such name");
        assert!(
            error.to_string().contains("unknown field `gama`"),
            "{error}"
        );
    }
}
