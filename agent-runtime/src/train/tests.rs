//! What a rollout holds is what the environments show when the same actions are taken again.

use super::*;

fn trainer(environment: &str, n_steps: usize) -> Trainer {
    let hyper = HyperParameters {
        n_envs: 2,
        n_steps,
        // Wide enough that Pendulum's bounds are crossed.
        log_std_init: 1.0,
        ..HyperParameters::default()
    };
    Trainer::new(environment, hyper, 5, &MemoryBudget::new(1 << 24)).expect("room")
}

/// Collects a rollout and plays it again; returns how many episodes ended by themselves, and how many were cut off.
fn replay(environment: &str, n_steps: usize) -> (usize, usize) {
    let mut trainer = trainer(environment, n_steps);
    trainer.collect();
    let Trainer {
        rollout,
        learner,
        tape,
        ..
    } = &mut trainer;
    let mut vector = Vector::new(environment, 2, 5, ENVIRONMENTS).expect("its name");
    let gamma = learner.hyper().gamma as f32;
    let (width, action_width) = (rollout.shape().inputs, rollout.shape().action);
    let mut starts = [true; 2];
    let mut ends = (0, 0);
    for step in 0..n_steps {
        let rows = step * 2..step * 2 + 2;
        assert_eq!(
            &rollout.observations[rows.start * width..rows.end * width],
            vector.observations()
        );
        assert_eq!(rollout.starts[rows.clone()], starts);
        let actions = &rollout.actions[rows.start * action_width..rows.end * action_width];
        let mut env_actions = actions.to_vec();
        clip(vector.action_space(), actions, &mut env_actions);
        vector.step(&env_actions);
        for (environment, row) in rows.enumerate() {
            let taken = vector.steps()[environment];
            let mut reward = taken.reward as f32;
            if taken.cut_off() {
                let mut value = [0.0];
                let observation = &vector.final_observations()[environment * width..][..width];
                learner.policy().values(observation, tape, &mut value);
                assert_ne!(value[0], 0.0);
                reward += gamma * value[0];
                ends.1 += 1;
            }
            ends.0 += usize::from(taken.terminated);
            assert_eq!(rollout.rewards[row], reward);
            starts[environment] = taken.done();
        }
    }
    // What the last step led to is what comes next.
    assert_eq!(trainer.inputs, vector.observations());
    assert_eq!(trainer.starts, starts);
    ends
}

#[test]
fn what_is_cut_off_is_worth_what_would_have_come() {
    assert_eq!(replay("Pendulum-v1", 450), (0, 4));
}

#[test]
fn what_ended_by_itself_is_worth_what_it_earned() {
    let (ended, cut_off) = replay("CartPole-v1", 300);
    assert!(ended > 10 && cut_off == 0, "{ended} {cut_off}");
}

#[test]
fn an_evaluation_is_the_same_for_the_same_seed_and_leaves_training_alone() {
    let budget = MemoryBudget::new(1 << 24);
    let (mut beside, mut alone) = (trainer("CartPole-v1", 64), trainer("CartPole-v1", 64));
    let returns = |trainer: &Trainer, seed| {
        evaluate(
            "CartPole-v1",
            trainer.learner().policy(),
            None,
            7,
            seed,
            &budget,
        )
        .expect("room")
    };
    beside.advance();
    alone.advance();
    let first = returns(&beside, 1);
    assert_eq!(first.len(), 7);
    assert_eq!(returns(&beside, 1), first);
    assert_ne!(returns(&beside, 2), first);
    beside.advance();
    alone.advance();
    assert_eq!(beside.learner().parameters(), alone.learner().parameters());
}
