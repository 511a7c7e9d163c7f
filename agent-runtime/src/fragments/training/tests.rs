//! What is learnt from fragments, against what is learnt from the rollout they were cut from.

use super::super::{End, Fate, Fragment, Fragments, Limits, Rewards};
use super::Room;
use crate::distribution::Distribution;
use crate::gae::{self, Trajectory};
use crate::hyper::HyperParameters;
use crate::memory::{MemoryBudget, Storage};
use crate::net::Tape;
use crate::normalise::{RewardScale, RunningMoments};
use crate::ppo::{Learner, Outcome};
use crate::rng::Rng;
use crate::rollout::{Rollout, Shape};

/// Two environments of 60 steps each, their episodes ending in every way, cut anywhere and pushed in any order, teach what they teach uncut.
#[test]
fn a_rollout_cut_into_fragments_gives_the_advantages_of_the_whole() {
    [false, true].into_iter().for_each(cut_and_whole);
}

fn cut_and_whole(scaled: bool) {
    const STEPS: usize = 60;
    let ends_of = |environment: usize, step: usize| match (environment, step) {
        (0, 12 | 44) | (1, 59) => End::Terminated,
        (0, 29) | (1, 19 | 20) => End::Truncated,
        _ => End::GoesOn,
    };
    let budget = MemoryBudget::new(1 << 24);
    let hyper = HyperParameters {
        n_steps: STEPS,
        n_envs: 2,
        batch_size: 32,
        ..HyperParameters::default()
    };
    let learner = || {
        let distribution = Distribution::Categorical(vec![3]);
        Learner::new(
            2,
            distribution,
            true,
            hyper.clone(),
            &budget,
            &mut Rng::new(3, 0),
        )
        .expect("fits")
    };
    let mut rng = Rng::new(5, 0);
    let mut normals =
        |count: usize| -> Vec<f32> { (0..count).map(|_| rng.normal() as f32).collect() };
    let rows = 2 * STEPS;
    let (observations, finals) = (normals(rows * 2), normals(rows * 2));
    let (rewards, closing) = (normals(rows), normals(4));
    let log_probs: Vec<f32> = normals(rows).iter().map(|x| -1.0 - x.abs()).collect();
    let actions: Vec<f32> = (0..rows).map(|at| (at % 3) as f32).collect();
    let mut moments = RunningMoments::new(2);
    moments.update(
        &normals(64)
            .iter()
            .map(|x| x * 3.0 + 1.0)
            .collect::<Vec<_>>(),
    );

    // The whole: environment after environment, as the loop in `train` has it.
    let whole_learner = learner();
    let mut whole = Rollout::new(&budget, whole_learner.shape()).expect("fits");
    let mut tape = Tape::inference(whole_learner.net(), &budget, 1).expect("fits");
    let mut value_of = |observation: &[f32]| {
        let mut observation = observation.to_vec();
        moments.normalise(&mut observation);
        let mut value = [0.0];
        whole_learner
            .policy()
            .values(&observation, &mut tape, &mut value);
        value[0]
    };
    whole.observations.copy_from_slice(&observations);
    moments.normalise(&mut whole.observations);
    whole.actions.copy_from_slice(&actions);
    whole.log_probs.copy_from_slice(&log_probs);
    whole.rewards.copy_from_slice(&rewards);
    if scaled {
        let mut scale = RewardScale::new(2, hyper.gamma);
        for step in 0..STEPS {
            let rows = [step, STEPS + step];
            let mut rewards = rows.map(|row| rewards[row]);
            let ends = [0, 1].map(|environment| ends_of(environment, step) != End::GoesOn);
            scale.step(&mut rewards, &ends);
            rows.iter()
                .zip(rewards)
                .for_each(|(&row, reward)| whole.rewards[row] = reward);
        }
    }
    let (gamma, lambda) = (hyper.gamma as f32, hyper.gae_lambda as f32);
    for environment in 0..2 {
        for step in 0..STEPS {
            let row = environment * STEPS + step;
            whole.values[row] = value_of(&observations[row * 2..][..2]);
            if ends_of(environment, step) == End::Truncated {
                whole.rewards[row] += gamma * value_of(&finals[row * 2..][..2]);
            }
            whole.starts[row] = step == 0 || ends_of(environment, step - 1) != End::GoesOn;
        }
        let of = environment * STEPS..(environment + 1) * STEPS;
        let last_value = value_of(&closing[environment * 2..][..2]);
        let trajectory = Trajectory {
            rewards: &whole.rewards[of.clone()],
            values: &whole.values[of.clone()],
            starts: &whole.starts[of.clone()],
            last_values: &[last_value],
            last_ends: &[ends_of(environment, STEPS - 1) != End::GoesOn],
        };
        let (advantages, returns) = (&mut whole.advantages[of.clone()], &mut whole.returns[of]);
        gae::advantages(trajectory, gamma, lambda, advantages, returns);
    }

    for cuts in [
        &[][..],
        &[1, 13, 20, 45],
        &[12, 19, 29, 30, 59],
        &[20, 21, 40],
    ] {
        let mut cut_learner = learner();
        let mut fragments = Fragments::new(
            &budget,
            cut_learner.shape(),
            Limits::default(),
            Storage::Memory,
        )
        .expect("fits");
        let mut room = Room::new(&budget, &fragments, cut_learner.net()).expect("fits");
        let mut rollout = Rollout::new(&budget, cut_learner.shape()).expect("fits");
        let new = || Rewards::new(&budget, &fragments, hyper.gamma).expect("fits");
        let mut scale = scaled.then(new);
        let edges: Vec<usize> = [0].iter().chain(cuts).chain(&[STEPS]).copied().collect();
        // The latest first, environment by environment.
        for piece in edges.windows(2).rev() {
            for environment in 0..2 {
                let ends: Vec<End> = (piece[0]..piece[1])
                    .map(|step| ends_of(environment, step))
                    .collect();
                let of = environment * STEPS + piece[0]..environment * STEPS + piece[1];
                let mut closings = Vec::new();
                for (row, end) in of.clone().zip(&ends) {
                    if *end == End::Truncated {
                        closings.extend_from_slice(&finals[row * 2..][..2]);
                    }
                }
                if ends.last() == Some(&End::GoesOn) {
                    let after = if piece[1] == STEPS {
                        &closing[environment * 2..]
                    } else {
                        &observations[of.end * 2..]
                    };
                    closings.extend_from_slice(&after[..2]);
                }
                let fragment = Fragment {
                    tag: 0,
                    environment: environment as u64,
                    seq: piece[0] as u64,
                    version: 1,
                    observations: &observations[of.start * 2..of.end * 2],
                    actions: &actions[of.clone()],
                    masks: &vec![true; of.len() * 3],
                    log_probs: &log_probs[of.clone()],
                    rewards: &rewards[of],
                    ends: &ends,
                    closings: &closings,
                };
                fragments.push(&fragment, |_| ()).expect("fits");
            }
        }
        assert_eq!(fragments.take(1, |_| ()), rows);
        assert_eq!(
            fragments.load(
                &cut_learner,
                Some(&moments),
                scale.as_mut(),
                &mut room,
                &mut rollout
            ),
            rows
        );
        assert_eq!(*rollout.observations, *whole.observations);
        assert_eq!(*rollout.log_probs, *log_probs, "the behaviour's");
        assert_eq!(*rollout.values, *whole.values);
        assert_eq!(*rollout.advantages, *whole.advantages, "{cuts:?}");
        assert_eq!(*rollout.returns, *whole.returns, "{cuts:?}");

        // And so the same is learnt, to the bit.
        let mut once = learner();
        let of_whole = once.update(&whole, 1.0, |_| ());
        let of_cut = cut_learner.update(&rollout, 1.0, |_| ());
        assert_eq!(once.parameters(), cut_learner.parameters());
        assert_eq!(of_whole.approx_kl, of_cut.approx_kl);
    }
}

/// Neither over a gap in an environment nor from one environment to the next: each is worth what it is worth alone.
#[test]
fn what_does_not_follow_is_not_joined() {
    let budget = MemoryBudget::new(1 << 24);
    let hyper = HyperParameters {
        n_steps: 12,
        ..HyperParameters::default()
    };
    let distribution = Distribution::Categorical(vec![3]);
    let mut rng = Rng::new(3, 0);
    let learner = Learner::new(2, distribution, false, hyper, &budget, &mut rng).expect("fits");
    let mut rollout = Rollout::new(&budget, learner.shape()).expect("fits");
    let numbers: Vec<f32> = (0..24).map(|_| rng.normal() as f32).collect();
    let mut advantages = |pieces: &[(u64, u64, usize)]| {
        let limits = Limits {
            transitions: 12,
            ..Limits::default()
        };
        let mut fragments =
            Fragments::new(&budget, learner.shape(), limits, Storage::Memory).expect("fits");
        let mut room = Room::new(&budget, &fragments, learner.net()).expect("fits");
        for &(environment, seq, from) in pieces {
            let fragment = Fragment {
                tag: 0,
                environment,
                seq,
                version: 1,
                observations: &numbers[from * 2..][..8],
                actions: &[0.0; 4],
                masks: &[],
                log_probs: &[-1.0; 4],
                rewards: &numbers[from..][..4],
                ends: &[End::GoesOn; 4],
                closings: &numbers[from + 2..][..2],
            };
            // One alone is not enough for an update until the next is refused.
            while fragments.push(&fragment, |_| ()).is_ok() && pieces.len() == 1 {}
        }
        fragments.take(1, |_| ());
        fragments.load(&learner, None, None, &mut room, &mut rollout);
        rollout.advantages[..pieces.len() * 4].to_vec()
    };
    // The second would follow the first if nothing were between them, the third the second if it were of the same environment.
    let pieces = [(1, 0, 0), (1, 5, 4), (2, 9, 8)];
    let alone: Vec<f32> = pieces
        .iter()
        .flat_map(|&piece| advantages(&[piece]))
        .collect();
    assert_eq!(advantages(&pieces), alone);
    let joined = advantages(&[(1, 0, 0), (1, 4, 4), (2, 9, 8)]);
    assert_ne!(joined[..4], alone[..4]);
    assert_eq!(joined[4..], alone[4..]);
}

/// What an update learns from, and nothing else, changes what the next version sees the world through.
#[test]
fn a_normaliser_sees_what_was_learnt_from() {
    let budget = MemoryBudget::new(1 << 24);
    let shape = Shape {
        steps: 8,
        environments: 1,
        inputs: 2,
        action: 1,
        mask: 0,
    };
    let mut fragments =
        Fragments::new(&budget, shape, Limits::default(), Storage::Memory).expect("fits");
    let mut rng = Rng::new(5, 0);
    let observations: Vec<f32> = (0..32).map(|_| rng.normal() as f32).collect();
    // The second is stale, and the last has no place in the update.
    for (tag, version) in [(0, 3), (1, 1), (2, 3), (3, 3)] {
        let fragment = Fragment {
            tag,
            environment: 0,
            seq: tag * 4,
            version,
            observations: &observations[tag as usize * 8..][..8],
            actions: &[0.0; 4],
            masks: &[],
            log_probs: &[-1.0; 4],
            rewards: &[1.0; 4],
            ends: &[End::GoesOn; 4],
            closings: &[100.0; 2],
        };
        fragments.push(&fragment, |_| ()).expect("fits");
    }
    let mut moments = RunningMoments::new(2);
    fragments.observe(&mut moments);
    assert_eq!(moments, RunningMoments::new(2), "nothing is taken");
    assert_eq!(fragments.take(3, |_| ()), 8);
    fragments.observe(&mut moments);
    let mut expected = RunningMoments::new(2);
    expected.update(&observations[..8]);
    expected.update(&observations[16..24]);
    assert_eq!(moments, expected);
    fragments.finish(Fate::Trained, |_| ());
    fragments.observe(&mut moments);
    assert_eq!(moments, expected);
}

#[test]
fn an_update_may_be_smaller_than_the_rollout() {
    let budget = MemoryBudget::new(1 << 24);
    let hyper = HyperParameters {
        n_steps: 40,
        batch_size: 16,
        ..HyperParameters::default()
    };
    let learner = || {
        let distribution = Distribution::Categorical(vec![3]);
        Learner::new(
            2,
            distribution,
            true,
            hyper.clone(),
            &budget,
            &mut Rng::new(3, 0),
        )
        .expect("fits")
    };
    let mut poisoned = learner();
    let mut rollout = Rollout::new(&budget, poisoned.shape()).expect("fits");
    rollout.log_probs.fill(-1.0);
    rollout.returns.fill(1.0);
    rollout.set_rows(20);
    rollout.returns[20..].fill(f32::NAN);
    let mut seen = 0;
    let statistics = poisoned.update(&rollout, 1.0, |order| seen = order.len());
    assert_eq!((seen, statistics.outcome), (20, Outcome::Complete));
    assert_ne!(poisoned.parameters(), learner().parameters());
}
