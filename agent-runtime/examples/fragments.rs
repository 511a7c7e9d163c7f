//! Fragments in memory beside fragments in files: `cargo run --release -p tars-agent --example fragments -- DIRECTORY ...` (docs/adr/0010).
//!
//! A buffer of 100,000 transitions, kept nearly full, as it is when experience comes faster than it is learnt from: for every update 16 fragments of
//! 128 transitions are pushed, and 2048 transitions taken, loaded and settled, at which those that wait move up.

use std::path::Path;
use std::time::Instant;

use tars_agent::distribution::Distribution;
use tars_agent::fragments::{End, Fate, Fragment, Fragments, Limits, Room};
use tars_agent::hyper::HyperParameters;
use tars_agent::memory::{MemoryBudget, Storage};
use tars_agent::ppo::Learner;
use tars_agent::rng::Rng;
use tars_agent::rollout::Rollout;

const UPDATES: usize = 200;
const LENGTH: usize = 128;
const UPDATE: usize = 2048;

/// Nanoseconds a transition: to push it, to take and load it, to settle it.
fn measure(inputs: usize, storage: Storage<'_>) -> Result<[f64; 3], Box<dyn std::error::Error>> {
    let budget = MemoryBudget::new(1 << 30);
    let hyper = HyperParameters {
        n_steps: UPDATE,
        ..HyperParameters::default()
    };
    let distribution = Distribution::Categorical(vec![2]);
    let learner = Learner::new(
        inputs,
        distribution,
        false,
        hyper,
        &budget,
        &mut Rng::new(1, 0),
    )?;
    let mut fragments = Fragments::new(&budget, learner.shape(), Limits::default(), storage)?;
    let mut room = Room::new(&budget, &fragments, learner.net())?;
    let mut rollout = Rollout::new(&budget, learner.shape())?;
    let (observations, closing) = (vec![0.5; LENGTH * inputs], vec![0.25; inputs]);
    let mut tag = 0;
    let mut push = |fragments: &mut Fragments| {
        tag += 1;
        fragments.push(
            &Fragment {
                tag,
                environment: tag % 8,
                seq: tag / 8 * LENGTH as u64,
                version: 1,
                observations: &observations,
                actions: &[1.0; LENGTH],
                masks: &[],
                log_probs: &[-0.7; LENGTH],
                rewards: &[1.0; LENGTH],
                ends: &[End::GoesOn; LENGTH],
                closings: &closing,
            },
            |_| (),
        )
    };
    while push(&mut fragments).is_ok() {}
    let mut best = [f64::INFINITY; 3];
    for _ in 0..UPDATES {
        let began = Instant::now();
        let taken = fragments.take(1, |_| ());
        fragments.load(&learner, None, None, &mut room, &mut rollout);
        let loaded = Instant::now();
        fragments.finish(Fate::Trained, |_| ());
        let settled = Instant::now();
        for _ in 0..UPDATE / LENGTH {
            push(&mut fragments)?;
        }
        assert_eq!(taken, UPDATE, "the buffer is never too empty");
        let times = [settled.elapsed(), loaded - began, settled - loaded];
        for (best, time) in best.iter_mut().zip(times) {
            *best = best.min(time.as_nanos() as f64 / UPDATE as f64);
        }
    }
    Ok(best)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!(
        "| Numbers in an observation | Where | push | take and load | settle |\n| --- | --- | --- | --- | --- |"
    );
    let directories: Vec<String> = std::env::args().skip(1).collect();
    for inputs in [4, 128] {
        let files = directories
            .iter()
            .map(|at| (at.as_str(), Storage::Mapped(Path::new(at))));
        for (name, storage) in [("memory", Storage::Memory)].into_iter().chain(files) {
            let [push, load, settle] = measure(inputs, storage)?;
            println!("| {inputs} | {name} | {push:.1} ns | {load:.1} ns | {settle:.1} ns |");
        }
    }
    Ok(())
}
