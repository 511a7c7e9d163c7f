//! The same seed gives the same bits, whatever else runs, and with any number of threads.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::thread;

use tars_agent::checkpoint::Store;
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
    parameters(&trainer)
}

fn parameters(trainer: &Trainer) -> Vec<u32> {
    let parameters = trainer.learner().parameters().iter();
    parameters.map(|x| x.to_bits()).collect()
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

/// Two updates by so many threads; a checkpoint; two more by so many others.
fn threaded(batch_size: usize, [before, after]: [usize; 2]) -> Vec<u32> {
    let hyper = HyperParameters {
        n_envs: 4,
        n_steps: 275,
        batch_size,
        n_epochs: 2,
        shared: vec![32],
        policy: vec![16],
        ..HyperParameters::default()
    };
    let budget = MemoryBudget::new(1 << 24);
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    // Its policy is a Gaussian, whose standard deviation is learnt too.
    let mut trainer = Trainer::new("Pendulum-v1", hyper, 3, &budget).unwrap();
    trainer.set_threads(before, &budget).unwrap();
    let parts = batch_size.div_ceil(64);
    assert_eq!(trainer.learner().threads(), before.min(parts));
    trainer.advance();
    trainer.advance();
    store.save(&trainer).unwrap();
    drop(trainer);
    let checkpoint = store.latest(|_| ()).unwrap();
    let mut trainer = checkpoint.resume(None, &budget).unwrap();
    trainer.set_threads(after, &budget).unwrap();
    trainer.advance();
    trainer.advance();
    parameters(&trainer)
}

#[test]
fn any_number_of_threads_gives_the_same_bits_also_after_a_resume() {
    for batch_size in [64, 100, 256, 1000] {
        let alone = threaded(batch_size, [1, 1]);
        for threads in [[2, 2], [3, 3], [7, 7], [1, 7], [3, 2]] {
            assert!(
                threaded(batch_size, threads) == alone,
                "minibatches of {batch_size}, {threads:?} threads"
            );
        }
    }
}
