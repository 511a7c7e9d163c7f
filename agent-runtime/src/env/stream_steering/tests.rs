#![allow(clippy::unwrap_used)]

use super::{baseline::*, *};
use crate::env::{Environment, Step, episode::Episode};

const EPISODES: u32 = 50;

/// A stream without swing, burst or chance to look at: what arrives is what the test says.
fn steady(level: f64) -> Episode<StreamSteering> {
    let mut env = Episode::<StreamSteering>::default();
    env.reset(&mut Rng::new(0, 0), &mut [0.0; 9]);
    env.dynamics.state[LEVEL_NOW] = level;
    env
}

fn step(env: &mut Episode<StreamSteering>, batch: usize, consumers: u8, rng: &mut Rng) -> Step {
    let action = [batch as f32, f32::from(consumers) - 1.0];
    env.step(&action, rng, &mut [0.0; 9])
}

#[test]
fn capacity_is_what_one_reckons_by_hand() {
    // 16 messages in 20 + 16 ms.
    assert!((capacity(1.0, 16.0) - 16.0 / 0.036).abs() < 1e-9);
    // Six of them slow each other by a tenth.
    assert!((capacity(6.0, 16.0) - 6.0 * 16.0 / 0.036 / 1.1).abs() < 1e-9);
}

#[test]
fn a_batch_is_late_when_large_and_slow_when_small() {
    // One consumer, 100 a second: 16 gather in 160 ms, and take 36.
    assert!((batch_seconds(100.0, 1.0, 16.0) - (0.08 + 0.036)).abs() < 1e-9);
    // 256 do not gather within the second: 100 do.
    assert!((batch_seconds(100.0, 1.0, 256.0) - (0.5 + 0.12)).abs() < 1e-9);
    // Nothing arrives: a message alone waits for no other longer than a second.
    assert!((batch_seconds(0.0, 1.0, 16.0) - (0.5 + 0.021)).abs() < 1e-9);
    assert!(capacity(1.0, 256.0) > 2.0 * capacity(1.0, 16.0));
}

#[test]
fn no_message_is_lost_or_made() {
    let mut env = steady(3000.0);
    let mut rng = Rng::new(2, 0);
    for at in 0..100 {
        let before = env.dynamics.state[BACKLOG];
        step(
            &mut env,
            at % 5,
            1 + u8::try_from(at % 10).unwrap(),
            &mut rng,
        );
        let state = env.dynamics.state;
        let capacity = capacity(state[ACTIVE], BATCHES[at % 5].into());
        let served = before + state[ARRIVALS] - state[BACKLOG];
        assert!(served <= capacity + 1e-6, "second {at}: {served} served");
        assert!(
            state[BACKLOG] == 0.0 || served >= capacity - 1e-6,
            "second {at}: idle beside a backlog"
        );
    }
}

#[test]
fn a_consumer_reads_eight_seconds_after_it_was_added_and_stops_at_once() {
    let mut env = steady(300.0);
    let mut rng = Rng::new(2, 0);
    for second in 1..=8 {
        step(&mut env, 2, 5, &mut rng);
        let active = if second < 8 { 2.0 } else { 5.0 };
        assert_eq!(env.dynamics.state[ACTIVE], active, "second {second}");
    }
    step(&mut env, 2, 8, &mut rng);
    assert_eq!(env.dynamics.starting(), 3.0);
    step(&mut env, 2, 4, &mut rng);
    let state = env.dynamics.state;
    assert_eq!((state[ACTIVE], env.dynamics.starting()), (4.0, 0.0));
}

#[test]
fn those_still_starting_stop_first_and_cost_meanwhile() {
    let mut env = steady(300.0);
    let mut rng = Rng::new(2, 0);
    let two = step(&mut env, 2, 2, &mut rng);
    let seven = step(&mut env, 2, 7, &mut rng);
    let lag = |step: Step, consumers: f64| -step.reward - consumers * CONSUMER_COST;
    assert!((lag(seven, 7.0) - env.dynamics.state[LAG]).abs() < 1e-9);
    assert!(two.reward > seven.reward);
    step(&mut env, 2, 3, &mut rng);
    let state = env.dynamics.state;
    assert_eq!((state[ACTIVE], env.dynamics.starting()), (2.0, 1.0));
}

#[test]
fn the_load_swings_bursts_and_is_as_uneven_as_arrivals_are() {
    let mut env = steady(1000.0);
    env.dynamics.state[CLOCK] = 25.0;
    assert!((env.dynamics.rate() - 1800.0).abs() < 1e-6);
    env.dynamics.state[CLOCK] = 75.0;
    assert!((env.dynamics.rate() - 200.0).abs() < 1e-6);
    env.dynamics.state[IN_BURST] = 1.0;
    assert!((env.dynamics.rate() - 400.0).abs() < 1e-6);
    // Over many seconds: the mean over the cycle, a burst in 1 of 11 of them, deviation as the square root.
    let mut rng = Rng::new(3, 0);
    let (mut sum, mut bursts, mut square) = (0.0, 0.0, 0.0);
    let n = 100_000;
    for _ in 0..n {
        let arrivals = env.dynamics.arrive(&mut rng);
        let rate = env.dynamics.rate();
        sum += arrivals / (rate / env.dynamics.state[LEVEL_NOW]);
        bursts += env.dynamics.state[IN_BURST];
        square += (arrivals - rate).powi(2) / rate;
    }
    let n = f64::from(n);
    assert!((sum / n - 1000.0).abs() < 1.0, "{}", sum / n);
    assert!((bursts / n - 1.0 / 11.0).abs() < 0.01, "{}", bursts / n);
    assert!((square / n - 1.0).abs() < 0.02, "{}", square / n);
}

#[test]
fn an_episode_is_cut_off_and_never_ends() {
    let mut env = steady(1500.0);
    let mut rng = Rng::new(4, 0);
    for second in 1..=300 {
        let step = step(&mut env, 0, 1, &mut rng);
        assert!(!step.terminated);
        assert_eq!(step.cut_off(), second == 300);
        assert!(step.reward >= -MAX_LAG - 10.0 * CONSUMER_COST);
    }
    assert_eq!(env.dynamics.state[LAG], MAX_LAG);
}

fn all_fixed() -> Vec<Baseline> {
    (0..BATCHES.len())
        .flat_map(|batch| {
            (1..=MAX_CONSUMERS).map(move |consumers| Baseline::Fixed { batch, consumers })
        })
        .collect()
}

fn all_thresholds() -> Vec<Baseline> {
    let mut all = Vec::new();
    for up in 4..=9 {
        for down in 1..up {
            for quiet_batch in 1..BATCHES.len() {
                for busy_batch in quiet_batch..BATCHES.len() {
                    for busy in [500.0, 750.0, 1000.0, 1500.0, 2000.0] {
                        all.push(Baseline::Threshold {
                            up: f64::from(up) / 10.0,
                            down: f64::from(down) / 10.0,
                            quiet_batch,
                            busy_batch,
                            busy,
                        });
                    }
                }
            }
        }
    }
    all
}

/// Otherwise what the agent is held against would be a straw man.
#[test]
fn no_other_setting_of_a_baseline_does_better() {
    for (tuned, all) in [(FIXED, all_fixed()), (THRESHOLD, all_thresholds())] {
        let best = all
            .into_iter()
            .map(|baseline| (baseline.mean_return(EPISODES, 1), baseline))
            .max_by(|(a, _), (b, _)| a.total_cmp(b));
        let (best_return, best) = best.unwrap();
        println!("{tuned:?}: {:.1}", tuned.mean_return(1000, 2));
        assert_eq!(best, tuned, "with {best_return}");
    }
}
