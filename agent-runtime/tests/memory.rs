//! What training allocates: what the budget says when it begins, and nothing after that.

#![allow(unsafe_code, reason = "an allocator that counts is an allocator")]
#![allow(clippy::unwrap_used, reason = "a test")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use tars_agent::distribution::Distribution;
use tars_agent::fragments::{End, Fate, Fragment, Fragments, Limits, Overflow, Rewards, Room};
use tars_agent::hyper::HyperParameters;
use tars_agent::memory::{MemoryBudget, Storage};
use tars_agent::normalise::RunningMoments;
use tars_agent::ppo::Learner;
use tars_agent::rng::Rng;
use tars_agent::rollout::Rollout;
use tars_agent::schedule::Schedule;
use tars_agent::train::Trainer;

thread_local! {
    /// Allocations of this thread, and the bytes it holds.
    static COUNT: Cell<usize> = const { Cell::new(0) };
    static LIVE: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: everything is handed on to the system's allocator; besides, only numbers are counted, which allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        LIVE.set(LIVE.get() + layout.size().cast_signed());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.set(LIVE.get() - layout.size().cast_signed());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn cases() -> Vec<(&'static str, HyperParameters)> {
    let zoo = HyperParameters {
        n_envs: 8,
        n_steps: 32,
        batch_size: 256,
        learning_rate: Schedule::Linear(1e-3),
        ..HyperParameters::default()
    };
    let wide = HyperParameters {
        n_envs: 3,
        n_steps: 150,
        batch_size: 100,
        n_epochs: 2,
        shared: vec![256],
        normalize_observation: true,
        normalize_reward: true,
        clip_range_vf: Some(Schedule::Constant(0.2)),
        target_kl: Some(0.05),
        ..HyperParameters::default()
    };
    vec![
        ("CartPole-v1", zoo),
        // Episodes of 200 steps: some are cut off in each of these rollouts.
        ("Pendulum-v1", wide),
        ("CartPole-v1", HyperParameters::default()),
        ("stream-steering", HyperParameters::default()),
    ]
}

#[test]
fn training_allocates_nothing() {
    for (environment, hyper) in cases() {
        let budget = MemoryBudget::new(1 << 28);
        let mut trainer = Trainer::new(environment, hyper, 1, &budget).unwrap();
        trainer.advance();
        let before = COUNT.get();
        for _ in 0..4 {
            trainer.advance();
        }
        assert_eq!(COUNT.get() - before, 0, "{environment}");
        assert!(trainer.progress().episodes > 0, "{environment}");
    }
}

#[test]
fn learning_from_fragments_allocates_nothing() {
    let hyper = HyperParameters {
        n_steps: 128,
        n_epochs: 2,
        ..HyperParameters::default()
    };
    let directory = tempfile::tempdir().unwrap();
    let mapped = Storage::Mapped(directory.path());
    for (overflow, storage) in [
        (Overflow::Backpressure, Storage::Memory),
        (Overflow::DropOldest, Storage::Memory),
        (Overflow::Backpressure, mapped),
        (Overflow::DropOldest, mapped),
    ] {
        let budget = MemoryBudget::new(1 << 24);
        let before = LIVE.get();
        let mut rng = Rng::new(1, 0);
        let distribution = Distribution::Categorical(vec![2]);
        let mut learner =
            Learner::new(3, distribution, true, hyper.clone(), &budget, &mut rng).unwrap();
        let limits = Limits {
            transitions: 200,
            overflow,
            ..Limits::default()
        };
        let mut fragments = Fragments::new(&budget, learner.shape(), limits, storage).unwrap();
        let mut room = Room::new(&budget, &fragments, learner.net()).unwrap();
        let mut rollout = Rollout::new(&budget, learner.shape()).unwrap();
        let mut rewards = Rewards::new(&budget, &fragments, 0.99).unwrap();
        let mut moments = RunningMoments::new(3);
        let measured = LIVE.get() - before;
        let reserved = budget.reserved().cast_signed();
        assert!(
            (reserved - measured).abs() < measured / 10,
            "{reserved} bytes reserved, {measured} allocated"
        );

        let ends = [End::GoesOn, End::Truncated, End::GoesOn, End::GoesOn];
        let (mut settled, mut refused) = (0, 0);
        let before = COUNT.get();
        for tag in 0..2_000 {
            let fragment = Fragment {
                tag,
                environment: tag % 3,
                seq: tag / 3 * 4,
                version: tag / 500,
                observations: &[0.5; 12],
                actions: &[1.0; 4],
                masks: &[true; 8],
                log_probs: &[-0.7; 4],
                rewards: &[1.0, 0.0, 0.5, 0.0],
                ends: &ends,
                closings: &[0.25; 6],
            };
            if fragments.push(&fragment, |_| settled += 1).is_err() {
                refused += 1;
            }
            // An update now and then, so that each rule has its turn.
            if tag % 70 == 0 && fragments.take(tag / 300, |_| settled += 1) > 0 {
                let rewards = Some(&mut rewards);
                fragments.load(&learner, Some(&moments), rewards, &mut room, &mut rollout);
                learner.update(&rollout, 1.0, |order| rng.shuffle(order));
                fragments.observe(&mut moments);
                fragments.finish(Fate::Trained, |_| settled += 1);
            }
        }
        assert_eq!(COUNT.get() - before, 0, "{overflow:?}");
        let ledger = fragments.ledger();
        assert!(
            ledger.trained > 0 && ledger.stale > 0 && settled > 0,
            "{ledger:?}"
        );
        match overflow {
            Overflow::Backpressure => assert!(refused > 0 && ledger.dropped == 0, "{ledger:?}"),
            Overflow::DropOldest => assert!(ledger.dropped > 0, "{ledger:?}"),
        }
    }
}

#[test]
#[allow(clippy::cast_precision_loss, reason = "a quotient")]
fn the_budget_says_how_much_is_allocated() {
    for (threads, (environment, hyper)) in [1, 4, 7]
        .into_iter()
        .flat_map(|threads| cases().into_iter().map(move |case| (threads, case)))
    {
        let budget = MemoryBudget::new(1 << 28);
        let before = LIVE.get();
        let mut trainer = Trainer::new(environment, hyper, 1, &budget).unwrap();
        trainer.set_threads(threads, &budget).unwrap();
        let measured = (LIVE.get() - before) as f64;
        let predicted = budget.reserved() as f64;
        assert!(
            (predicted / measured - 1.0).abs() < 0.1,
            "{environment}, {threads} threads: {predicted} bytes reserved, {measured} allocated"
        );
        drop(trainer);
        assert_eq!(budget.reserved(), 0);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let budget = MemoryBudget::new(100_000);
    let refused = Trainer::new("CartPole-v1", HyperParameters::default(), 1, &budget)
        .err()
        .unwrap();
    assert!(
        refused
            .to_string()
            .starts_with("the memory budget of 100000 bytes has "),
        "{refused}"
    );
    assert_eq!(budget.reserved(), 0);
}
