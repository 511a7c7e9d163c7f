//! What an update must not do. What it does is held against Stable-Baselines3 in `tests/reference.rs`.

use super::*;
use crate::schedule::Schedule;

fn learner(hyper: HyperParameters, budget: &MemoryBudget) -> (Learner, Rollout) {
    let mut rng = Rng::new(1, 0);
    let distribution = Distribution::Categorical(vec![3]);
    let learner = Learner::new(2, distribution, false, hyper, budget, &mut rng).expect("fits");
    let mut rollout = Rollout::new(budget, learner.shape()).expect("fits");
    rollout.observations.fill_with(|| rng.normal() as f32);
    rollout.actions.fill_with(|| rng.below(3) as f32);
    rollout.log_probs.fill(-1.0);
    rollout.advantages.fill_with(|| rng.normal() as f32);
    rollout.returns.fill_with(|| rng.normal() as f32);
    (learner, rollout)
}

fn small() -> HyperParameters {
    HyperParameters {
        n_steps: 100,
        batch_size: 32,
        n_epochs: 2,
        ..HyperParameters::default()
    }
}

#[test]
fn what_is_not_finite_is_undone_and_what_comes_next_is_learnt() {
    for poison in [f32::NAN, f32::INFINITY] {
        let budget = MemoryBudget::new(1 << 24);
        let (mut learner, mut rollout) = learner(small(), &budget);
        assert_eq!(
            learner.update(&rollout, 1.0, |_| ()).outcome,
            Outcome::Complete
        );
        let before = learner.parameters().to_vec();
        let (mean, square, steps) = (
            learner.adam.mean.to_vec(),
            learner.adam.square.to_vec(),
            learner.adam.steps,
        );

        // In the last minibatch of the epoch, after three steps were taken.
        let sound = std::mem::replace(&mut rollout.returns[99], poison);
        assert_eq!(
            learner.update(&rollout, 1.0, |_| ()).outcome,
            Outcome::Undone
        );
        assert_eq!(learner.parameters(), before);
        assert_eq!(
            (&*learner.adam.mean, &*learner.adam.square),
            (&*mean, &*square)
        );
        assert_eq!(learner.adam.steps, steps);

        rollout.returns[99] = sound;
        assert_eq!(
            learner.update(&rollout, 1.0, |_| ()).outcome,
            Outcome::Complete
        );
        assert_ne!(learner.parameters(), before);
    }
}

#[test]
fn nothing_is_learnt_when_nothing_of_the_horizon_is_left() {
    let budget = MemoryBudget::new(1 << 24);
    let hyper = HyperParameters {
        learning_rate: Schedule::Linear(1e-3),
        clip_range: Schedule::Linear(0.2),
        ..small()
    };
    let (mut learner, rollout) = learner(hyper, &budget);
    let before = learner.parameters().to_vec();
    learner.update(&rollout, 0.0, |_| ());
    assert_eq!(learner.parameters(), before);
}

#[test]
fn values_that_foresee_everything_explain_everything() {
    assert_eq!(explained_variance(&[1.0, 2.0, 4.0], &[1.0, 2.0, 4.0]), 1.0);
    assert_eq!(explained_variance(&[3.0, 3.0, 3.0], &[1.0, 2.0, 4.0]), 0.0);
    assert!(explained_variance(&[1.0, 2.0], &[5.0, 5.0]).is_nan());
}

#[test]
fn threads_end_with_the_learner_and_give_their_room_back() {
    let budget = MemoryBudget::new(1 << 24);
    let hyper = HyperParameters {
        batch_size: 256,
        ..small()
    };
    let (mut learner, rollout) = learner(hyper, &budget);
    let alone = budget.reserved();
    learner.set_threads(7, &budget).expect("fits");
    // A minibatch of 100 rows has two parts.
    assert_eq!(learner.threads(), 2);
    let with_another = budget.reserved();
    assert!(with_another > alone);
    learner.set_threads(2, &budget).expect("fits");
    assert_eq!(budget.reserved(), with_another);
    learner.update(&rollout, 1.0, |_| ());
    let model = Arc::downgrade(&learner.model);
    learner.set_threads(1, &budget).expect("fits");
    assert_eq!((learner.threads(), budget.reserved()), (1, alone));
    // The learner's own: those of the threads are gone, and so are they.
    assert_eq!(model.strong_count(), 1);
}

#[test]
fn threads_that_cannot_be_are_refused() {
    let budget = MemoryBudget::new(1_000_000);
    let hyper = HyperParameters {
        batch_size: 256,
        n_steps: 256,
        ..HyperParameters::default()
    };
    let (mut learner, _) = learner(hyper, &budget);
    for threads in [0, MOST_THREADS + 1] {
        let refused = learner.set_threads(threads, &budget).expect_err("range");
        assert_eq!(
            refused.to_string(),
            format!("threads = {threads} is out of range: it must be between 1 and 64")
        );
    }
    let reserved = budget.reserved();
    let kept = budget.buffer(Component::Rollout, 1_000_000 - reserved - 100_000, 0u8);
    let refused = learner.set_threads(4, &budget).expect_err("no room");
    assert!(
        refused
            .to_string()
            .starts_with("the memory budget of 1000000 bytes has "),
        "{refused}"
    );
    drop(kept);
    assert_eq!((learner.threads(), budget.reserved()), (1, reserved));
}

#[test]
fn a_thread_that_panics_is_no_hang() {
    let budget = MemoryBudget::new(1 << 24);
    let hyper = HyperParameters {
        batch_size: 256,
        ..small()
    };
    let (mut learner, rollout) = learner(hyper, &budget);
    learner.set_threads(2, &budget).expect("fits");
    let none = budget.buffer(Component::Parameters, 0, 0.0).expect("fits");
    let task = Task {
        parameters: Arc::new(none),
        settings: Settings {
            clip_range: 0.2,
            clip_range_vf: None,
            ent_coef: 0.0,
            vf_coef: 0.5,
            advantage: Scale::NONE,
            per_row: 1.0,
        },
    };
    let rows: &[u32] = &[0, 1];
    let part = std::panic::AssertUnwindSafe(|| {
        let gather = |part: &mut Part, rows: &[u32]| part.gather(&rollout, rows);
        learner.workers.begin(std::iter::once(rows), &task, gather);
        learner.workers.finish(1, |_, _| ());
    });
    assert!(std::panic::catch_unwind(part).is_err());
    drop((learner, rollout, task));
    assert_eq!(budget.reserved(), 0);
}
