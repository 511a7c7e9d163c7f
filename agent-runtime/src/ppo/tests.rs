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
