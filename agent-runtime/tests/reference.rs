//! The learner against what PyTorch and Stable-Baselines3 answer: `fixtures/README.md`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a fixture that cannot be read is a failure"
)]

use std::fs;
use std::path::Path;

use safetensors::tensor::SafeTensors;
use serde_json::Value;
use tars_agent::distribution::{Distribution, Draw, Evaluation, Row};
use tars_agent::env::Space;
use tars_agent::gae::{Trajectory, advantages};
use tars_agent::hyper::HyperParameters;
use tars_agent::memory::MemoryBudget;
use tars_agent::net::Tape;
use tars_agent::normalise::{RewardScale, RunningMoments};
use tars_agent::ppo::{Actions, Learner, Outcome};
use tars_agent::rng::Rng;
use tars_agent::rollout::Rollout;
use tars_agent::simd::{Kernel, Vector};
use tars_agent::tensors::Read;

struct Case {
    name: String,
    file: Vec<u8>,
    case: Value,
}

impl Case {
    /// All cases of a kind; there is one at least.
    fn of(kind: &str) -> Vec<Self> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let mut cases: Vec<Self> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| {
                path.extension()
                    .is_some_and(|extension| extension == "safetensors")
            })
            .map(|path| {
                let file = fs::read(&path).unwrap();
                let (_, metadata) = SafeTensors::read_metadata(&file).unwrap();
                let case = metadata.metadata().as_ref().unwrap()["case"].clone();
                Self {
                    name: path.file_stem().unwrap().to_string_lossy().into_owned(),
                    case: serde_json::from_str(&case).unwrap(),
                    file,
                }
            })
            .filter(|case| case.case["kind"] == kind)
            .collect();
        assert!(!cases.is_empty(), "no case of {kind}");
        cases.sort_by(|a, b| a.name.cmp(&b.name));
        cases
    }

    fn read(&self) -> Read<'_> {
        Read::new(&self.file).unwrap()
    }

    fn f32(&self, name: &str) -> Vec<f32> {
        self.read().f32(name).unwrap()
    }

    fn number(&self, name: &str) -> f64 {
        self.case["hyperparameters"][name].as_f64().unwrap()
    }

    fn expected(&self, name: &str) -> f64 {
        self.case["expected"][name].as_f64().unwrap()
    }

    fn distribution(&self) -> Distribution {
        let (kind, size) = self.case["action_space"]
            .as_object()
            .unwrap()
            .iter()
            .next()
            .unwrap();
        let size = || serde_json::from_value(size.clone()).unwrap();
        Distribution::over(&match kind.as_str() {
            "discrete" => Space::Discrete(size()),
            "box" => Space::Box {
                low: vec![f32::NEG_INFINITY; size()],
                high: vec![f32::INFINITY; size()],
            },
            _ => Space::MultiDiscrete(
                serde_json::from_value(self.case["action_space"][kind].clone()).unwrap(),
            ),
        })
    }

    /// A learner with the case's parameters, and a rollout with its transitions.
    fn learner(&self, budget: &MemoryBudget) -> (Learner, Rollout) {
        let hyper: HyperParameters =
            serde_json::from_value(self.case["hyperparameters"].clone()).unwrap();
        let inputs =
            usize::try_from(self.case["observation_space"]["box"].as_u64().unwrap()).unwrap();
        let masked = self.read().has("masks");
        let mut rng = Rng::new(0, 0);
        let mut learner =
            Learner::new(inputs, self.distribution(), masked, hyper, budget, &mut rng).unwrap();
        let net = learner.net().clone();
        self.read()
            .network("initial.", &net, learner.parameters_mut())
            .unwrap();
        let mut rollout = Rollout::new(budget, learner.shape()).unwrap();
        rollout
            .observations
            .copy_from_slice(&self.f32("observations"));
        rollout.actions.copy_from_slice(&self.f32("actions"));
        if masked {
            rollout
                .masks
                .iter_mut()
                .zip(self.f32("masks"))
                .for_each(|(to, x)| *to = x == 1.0);
        }
        if self.case["kind"] != "policy" {
            rollout.log_probs.copy_from_slice(&self.f32("old_log_prob"));
            rollout.values.copy_from_slice(&self.f32("old_values"));
            rollout.advantages.copy_from_slice(&self.f32("advantages"));
            rollout.returns.copy_from_slice(&self.f32("returns"));
        }
        (learner, rollout)
    }

    /// The parameters, or their gradient, are those of the tensors behind this prefix.
    fn assert_network(&self, prefix: &str, learner: &Learner, numbers: &[f32], tolerance: f32) {
        for named in learner.net().named() {
            let expected = self.f32(&format!("{prefix}{}", named.name));
            let found: Vec<f32> = named.at.iter().map(|&at| numbers[at]).collect();
            self.assert_close(
                &format!("{prefix}{}", named.name),
                &found,
                &expected,
                tolerance,
            );
        }
    }

    fn assert_close(&self, what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
        assert_eq!(found.len(), expected.len(), "{}: {what}", self.name);
        for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
            let error = (found - expected).abs();
            let bound = tolerance * expected.abs().max(1.0);
            assert!(
                error <= bound,
                "{}: {what}[{at}] is {found}, not {expected}",
                self.name
            );
        }
    }

    fn assert_number(&self, what: &str, found: f64, tolerance: f64) {
        let expected = self.expected(what);
        let error = (found - expected).abs();
        assert!(
            error <= tolerance * expected.abs().max(1.0),
            "{}: {what} is {found}, not {expected}",
            self.name
        );
    }
}

fn budget() -> MemoryBudget {
    MemoryBudget::new(1 << 28)
}

#[test]
fn one_minibatch_is_pytorchs() {
    for case in Case::of("minibatch") {
        let budget = budget();
        let (mut learner, rollout) = case.learner(&budget);
        let statistics = learner.update(&rollout, 1.0, |_| ());
        assert_eq!(statistics.outcome, Outcome::Complete);
        case.assert_network("gradient.", &learner, learner.gradient(), 1e-5);
        case.assert_network("expected.", &learner, learner.parameters(), 1e-5);
        case.assert_number("policy_loss", statistics.policy_loss, 1e-5);
        case.assert_number("value_loss", statistics.value_loss, 1e-5);
        case.assert_number("entropy_loss", statistics.entropy_loss, 1e-5);
        case.assert_number("approx_kl", statistics.approx_kl, 1e-5);
        case.assert_number("clip_fraction", statistics.clip_fraction, 1e-6);
        case.assert_number("gradient_norm", statistics.gradient_norm, 1e-5);
    }
}

#[test]
fn one_update_is_stable_baselines() {
    for case in Case::of("update") {
        let budget = budget();
        let (mut learner, rollout) = case.learner(&budget);
        let order = case.read().i64("order").unwrap();
        let mut epochs = order.chunks_exact(rollout.rows());
        let statistics = learner.update(&rollout, 1.0, |rows| {
            let epoch = epochs.next().expect("as many epochs as Stable-Baselines3");
            rows.iter_mut()
                .zip(epoch)
                .for_each(|(row, &of)| *row = u32::try_from(of).unwrap());
        });
        let stops = case.case["hyperparameters"]["target_kl"].is_number();
        let outcome = if stops {
            Outcome::StoppedByKl
        } else {
            Outcome::Complete
        };
        assert_eq!(statistics.outcome, outcome);
        assert_eq!(statistics.epochs as f64, case.expected("n_updates"));
        case.assert_network("expected.", &learner, learner.parameters(), 1e-3);
        case.assert_number("policy_loss", statistics.policy_loss, 1e-3);
        case.assert_number("value_loss", statistics.value_loss, 1e-3);
        case.assert_number("entropy_loss", statistics.entropy_loss, 1e-3);
        case.assert_number("approx_kl", statistics.approx_kl, 1e-3);
        case.assert_number("clip_fraction", statistics.clip_fraction, 1e-3);
    }
}

struct Evaluate<'a>(&'a Distribution, Row<'a>, &'a [f32]);

impl Kernel for Evaluate<'_> {
    type Output = Evaluation;

    #[inline(always)]
    fn run<V: Vector>(self) -> Evaluation {
        self.0
            .evaluate::<V>(self.1, self.2, &mut vec![0.0; self.1.head.len()])
    }
}

#[test]
fn a_policy_says_what_pytorchs_says() {
    for case in Case::of("policy") {
        let budget = budget();
        let (learner, rollout) = case.learner(&budget);
        let policy = learner.policy();
        let (rows, outputs) = (rollout.rows(), policy.distribution.outputs());
        let mut tape = Tape::inference(learner.net(), &budget, rows).unwrap();
        let (mut actions, mut log_probs, mut values) =
            (rollout.actions.to_vec(), vec![0.0; rows], vec![0.0; rows]);
        let mut to = Actions {
            actions: &mut actions,
            log_probs: &mut log_probs,
            values: &mut values,
        };
        policy.act(
            &rollout.observations,
            &rollout.masks,
            &mut tape,
            Draw::Mode,
            &mut to,
        );
        case.assert_close("values", &values, &case.f32("expected.values"), 1e-5);
        let (mut logits, mut log_probs, mut entropies) = (vec![], vec![], vec![]);
        for row in 0..rows {
            let head = &tape.logits()[row * learner.net().logits_stride()..][..outputs];
            logits.extend_from_slice(head);
            let width = policy.distribution.action_width();
            let row = Row {
                head,
                log_std: &learner.parameters()[learner.net().log_std()],
                mask: rollout
                    .masks
                    .get(row * outputs..(row + 1) * outputs)
                    .unwrap_or(&[]),
            };
            let action = &rollout.actions[log_probs.len() * width..][..width];
            let evaluation = policy.simd.run(Evaluate(policy.distribution, row, action));
            log_probs.push(evaluation.log_prob);
            entropies.push(evaluation.entropy);
        }
        case.assert_close("logits", &logits, &case.f32("expected.logits"), 1e-5);
        case.assert_close("log_prob", &log_probs, &case.f32("expected.log_prob"), 1e-5);
        case.assert_close("entropy", &entropies, &case.f32("expected.entropy"), 1e-5);
    }
}

#[test]
fn advantages_are_stable_baselines() {
    for case in Case::of("gae") {
        let bools =
            |name: &str| -> Vec<bool> { case.f32(name).iter().map(|&x| x == 1.0).collect() };
        let rewards = case.f32("rewards");
        let (mut found, mut returns) = (vec![0.0; rewards.len()], vec![0.0; rewards.len()]);
        let trajectory = Trajectory {
            rewards: &rewards,
            values: &case.f32("values"),
            starts: &bools("episode_starts"),
            last_values: &case.f32("last_values"),
            last_ends: &bools("dones"),
        };
        let (gamma, lambda) = (
            case.number("gamma") as f32,
            case.number("gae_lambda") as f32,
        );
        advantages(trajectory, gamma, lambda, &mut found, &mut returns);
        case.assert_close("advantages", &found, &case.f32("expected.advantages"), 1e-5);
        case.assert_close("returns", &returns, &case.f32("expected.returns"), 1e-5);
    }
}

#[test]
fn normalised_is_as_vec_normalize_does_it() {
    for case in Case::of("normalise") {
        let shape = case.read().shape("observations").unwrap();
        let (environments, inputs) = (shape[1], shape[2]);
        let mut moments = RunningMoments::new(inputs);
        let mut observations = case.f32("observations");
        for step in observations.chunks_exact_mut(environments * inputs) {
            moments.update(step);
            moments.normalise(step);
        }
        case.assert_close(
            "observations",
            &observations,
            &case.f32("expected.observations"),
            1e-5,
        );

        let mut scale = RewardScale::new(environments, case.number("gamma"));
        let mut rewards = case.f32("rewards");
        let dones = case.f32("dones");
        for (step, dones) in rewards
            .chunks_exact_mut(environments)
            .zip(dones.chunks_exact(environments))
        {
            let ends: Vec<bool> = dones.iter().map(|&x| x == 1.0).collect();
            scale.step(step, &ends);
        }
        case.assert_close("rewards", &rewards, &case.f32("expected.rewards"), 1e-5);
    }
}
