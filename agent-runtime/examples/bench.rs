//! What the learner costs, as one line of JSON: `make bench-agent` sets it beside Stable-Baselines3's.
//!
//! Processor time of the one thread that does everything, so that what else runs on the machine counts as little as can be; but for the time
//! to act on one observation, which is by the clock.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a measurement that cannot be made is a failure"
)]

use std::fs;
use std::time::Instant;

use tars_agent::distribution::{Distribution, Draw};
use tars_agent::hyper::HyperParameters;
use tars_agent::memory::MemoryBudget;
use tars_agent::net::Tape;
use tars_agent::ppo::{Actions, Learner};
use tars_agent::rng::Rng;
use tars_agent::rollout::Rollout;
use tars_agent::train::Trainer;
use tars_agent::zoo;

const ACTS: usize = 100_000;

/// Seconds of this thread on a processor.
fn processor_time() -> f64 {
    let schedstat = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let nanoseconds: f64 = schedstat.split(' ').next().unwrap().parse().unwrap();
    nanoseconds / 1e9
}

fn steps_per_second(hyper: HyperParameters, steps: u64) -> f64 {
    let mut trainer = Trainer::new("CartPole-v1", hyper, 0, &MemoryBudget::new(1 << 30)).unwrap();
    let began = processor_time();
    while trainer.progress().steps < steps {
        trainer.advance();
    }
    trainer.progress().steps as f64 / (processor_time() - began)
}

struct Prepared {
    learner: Learner,
    rollout: Rollout,
    rng: Rng,
    budget: MemoryBudget,
    inputs: usize,
}

/// A learner with SB3's defaults, and a rollout of nothing in particular.
fn prepare(inputs: usize, outputs: usize, width: usize) -> Prepared {
    let hyper = HyperParameters {
        policy: vec![width; 2],
        ..HyperParameters::default()
    };
    let (budget, mut rng) = (MemoryBudget::new(1 << 30), Rng::new(0, 0));
    let distribution = Distribution::Categorical(vec![outputs]);
    let learner = Learner::new(inputs, distribution, false, hyper, &budget, &mut rng).unwrap();
    let mut rollout = Rollout::new(&budget, learner.shape()).unwrap();
    rollout.observations.fill_with(|| rng.normal() as f32);
    rollout.actions.fill_with(|| rng.below(2) as f32);
    rollout.advantages.fill_with(|| rng.normal() as f32);
    rollout.returns.fill_with(|| rng.normal() as f32);
    rollout.log_probs.fill(-(outputs as f32).ln());
    Prepared {
        learner,
        rollout,
        rng,
        budget,
        inputs,
    }
}

/// Milliseconds of one update; the median of five.
fn update(prepared: &mut Prepared) -> f64 {
    let Prepared {
        learner,
        rollout,
        rng,
        ..
    } = prepared;
    let mut times = [0.0; 5].map(|_: f64| {
        let began = processor_time();
        learner.update(rollout, 1.0, |order| rng.shuffle(order));
        (processor_time() - began) * 1e3
    });
    times.sort_by(f64::total_cmp);
    times[2]
}

/// Microseconds to act on one observation: the median and the 99th percentile.
fn act(prepared: &mut Prepared) -> (f64, f64) {
    let Prepared {
        learner,
        rng,
        budget,
        inputs,
        ..
    } = prepared;
    let mut tape = Tape::inference(learner.net(), budget, 1).unwrap();
    let observation: Vec<f32> = (0..*inputs).map(|_| rng.normal() as f32).collect();
    let (mut action, mut log_prob, mut value) = ([0.0], [0.0], [0.0]);
    let mut times: Vec<u128> = Vec::with_capacity(ACTS);
    for _ in 0..ACTS {
        let began = Instant::now();
        let mut to = Actions {
            actions: &mut action,
            log_probs: &mut log_prob,
            values: &mut value,
        };
        learner
            .policy()
            .act(&observation, &[], &mut tape, Draw::Sample(rng), &mut to);
        times.push(began.elapsed().as_nanos());
    }
    times.sort_unstable();
    let at = |percent: usize| times[ACTS / 100 * percent] as f64 / 1e3;
    (at(50), at(99))
}

/// The most that was ever resident, in megabytes.
fn peak_resident() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    let kilobytes: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kilobytes / 1024.0
}

fn main() {
    let defaults = steps_per_second(HyperParameters::default(), 40_960);
    let zoo = steps_per_second(zoo::built_in("CartPole-v1"), 40_960);
    let resident = peak_resident();
    let mut small = prepare(4, 2, 64);
    let update_small = update(&mut small);
    let (act_p50, act_p99) = act(&mut small);
    let update_large = update(&mut prepare(64, 16, 256));
    println!(
        "{}",
        serde_json::json!({
            "steps_defaults": defaults, "steps_zoo": zoo, "update_small": update_small, "update_large": update_large,
            "act_p50": act_p50, "act_p99": act_p99, "resident": resident,
        })
    );
}
