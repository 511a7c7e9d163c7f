//! The ports beside Gymnasium itself: episodes that `agent-runtime/scripts/trajectories.py` wrote down.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{fs, path::Path};

use safetensors::{SafeTensors, tensor::TensorView};

use super::{
    Environment, acrobot::Acrobot, cartpole::CartPole, episode::Dynamics, episode::Episode,
    mountain_car::MountainCar, pendulum::Pendulum,
};
use crate::rng::Rng;

const TOLERANCE: f64 = 1e-6;

struct Trajectories {
    lengths: Vec<f64>,
    initial_states: Vec<f64>,
    actions: Vec<f64>,
    observations: Vec<f64>,
    rewards: Vec<f64>,
    terminated: Vec<f64>,
    truncated: Vec<f64>,
}

#[allow(clippy::cast_precision_loss, reason = "lengths of episodes are small")]
fn numbers(tensor: &TensorView<'_>) -> Vec<f64> {
    use safetensors::Dtype;
    let data = tensor.data();
    match tensor.dtype() {
        Dtype::F64 => chunks(data).map(f64::from_le_bytes).collect(),
        Dtype::F32 => chunks(data).map(|b| f32::from_le_bytes(b).into()).collect(),
        Dtype::I64 => chunks(data).map(|b| i64::from_le_bytes(b) as f64).collect(),
        Dtype::U8 => data.iter().map(|&b| b.into()).collect(),
        other => unreachable!("no fixture holds {other:?}"),
    }
}

fn chunks<const N: usize>(data: &[u8]) -> impl Iterator<Item = [u8; N]> {
    data.chunks_exact(N).map(|chunk| chunk.try_into().unwrap())
}

fn read(name: &str) -> Trajectories {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(format!("tests/fixtures/trajectory-{name}.safetensors"));
    let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let get = |name| numbers(&tensors.tensor(name).unwrap());
    Trajectories {
        lengths: get("lengths"),
        initial_states: get("initial_states"),
        actions: get("actions"),
        observations: get("observations"),
        rewards: get("rewards"),
        terminated: get("terminated"),
        truncated: get("truncated"),
    }
}

/// Plays the actions of every episode from its initial state, without looking at the recorded states again, and compares everything.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "lengths are small, actions are f32"
)]
fn replay<D: Dynamics>(name: &str, initial_width: usize) {
    let recorded = read(name);
    let mut env = Episode::<D>::default();
    let width = env.observation_space().width();
    let action_width = env.action_space().width();
    let mut initial = recorded.initial_states.chunks(initial_width);
    let mut observations = recorded.observations.chunks(width);
    let mut actions = recorded.actions.chunks(action_width);
    let mut ends = recorded.terminated.iter().zip(&recorded.truncated);
    let mut rewards = recorded.rewards.iter();
    let mut rng = Rng::new(0, 0);
    let mut observation = vec![0.0; width];
    let mut worst = 0.0_f64;
    for (episode, &length) in recorded.lengths.iter().enumerate() {
        env.reset(&mut rng, &mut observation);
        env.dynamics.state_mut()[..initial_width].copy_from_slice(initial.next().unwrap());
        env.dynamics.observe(&mut observation);
        let mut compare = |step: usize, observation: &[f32]| {
            for (&ours, theirs) in observation.iter().zip(observations.next().unwrap()) {
                let distance = (f64::from(ours) - theirs).abs() / theirs.abs().max(1.0);
                worst = worst.max(distance);
                assert!(
                    distance <= TOLERANCE,
                    "{name}, episode {episode}, step {step}: {ours} for {theirs}"
                );
            }
        };
        compare(0, &observation);
        for at in 1..=length as usize {
            let action: Vec<f32> = actions.next().unwrap().iter().map(|&a| a as f32).collect();
            let step = env.step(&action, &mut rng, &mut observation);
            compare(at, &observation);
            let reward = rewards.next().unwrap();
            assert!(
                (step.reward - reward).abs() <= TOLERANCE,
                "{name}, episode {episode}, step {at}: {} for {reward}",
                step.reward
            );
            let (&terminated, &truncated) = ends.next().unwrap();
            assert_eq!(
                (step.terminated, step.truncated),
                (terminated == 1.0, truncated == 1.0),
                "{name}, episode {episode}, step {at}"
            );
        }
    }
    assert!(observations.next().is_none() && rewards.next().is_none());
    println!("{name}: off by at most {worst:.1e}");
}

#[test]
fn cartpole_moves_as_in_gymnasium() {
    replay::<CartPole>("CartPole-v1", 4);
}

#[test]
fn acrobot_moves_as_in_gymnasium() {
    replay::<Acrobot>("Acrobot-v1", 4);
}

#[test]
fn mountain_car_moves_as_in_gymnasium() {
    replay::<MountainCar>("MountainCarContinuous-v0", 2);
}

#[test]
fn pendulum_moves_as_in_gymnasium() {
    replay::<Pendulum>("Pendulum-v1", 2);
}
