//! The same seed gives the same bits.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::thread;

use tars_agent::hyper::HyperParameters;
use tars_agent::memory::MemoryBudget;
use tars_agent::train::Trainer;

fn bits(seed: u64) -> Vec<u32> {
    let hyper = HyperParameters {
        n_envs: 4,
        n_steps: 64,
        n_epochs: 3,
        normalize_observation: true,
        normalize_reward: true,
        ..HyperParameters::default()
    };
    let mut trainer = Trainer::new("Acrobot-v1", hyper, seed, &MemoryBudget::new(1 << 24)).unwrap();
    for _ in 0..10 {
        trainer.advance();
    }
    trainer
        .learner()
        .parameters()
        .iter()
        .map(|x| x.to_bits())
        .collect()
}

#[test]
fn the_same_seed_gives_the_same_bits_whatever_else_runs() {
    let alone = bits(7);
    let beside: Vec<_> = [7, 8, 7]
        .map(|seed| thread::spawn(move || bits(seed)))
        .into_iter()
        .collect();
    let beside: Vec<Vec<u32>> = beside
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .collect();
    assert_eq!(beside[0], alone);
    assert_eq!(beside[2], alone);
    assert_ne!(beside[1], alone);
}
