//! Against the scale of environments side by side, over updates; and what is remembered between them.

use super::super::{End, Fate, Fragment, Limits};
use super::*;
use crate::distribution::Distribution;
use crate::fragments::Room;
use crate::hyper::HyperParameters;
use crate::memory::Storage;
use crate::normalise::RewardScale;
use crate::ppo::Learner;
use crate::rng::Rng;

const ENVIRONMENTS: usize = 3;
const STEPS: usize = 20;
const GAMMA: f64 = 0.9;

struct Bench {
    learner: Learner,
    fragments: Fragments,
    room: Room,
    rollout: Rollout,
    rewards: Rewards,
}

impl Bench {
    fn new() -> Self {
        let budget = MemoryBudget::new(1 << 24);
        let hyper = HyperParameters {
            n_steps: STEPS,
            n_envs: ENVIRONMENTS,
            ..HyperParameters::default()
        };
        let distribution = Distribution::Categorical(vec![2]);
        let mut rng = Rng::new(3, 0);
        let learner = Learner::new(1, distribution, false, hyper, &budget, &mut rng).expect("fits");
        let limits = Limits {
            transitions: 1_000,
            ..Limits::default()
        };
        let fragments =
            Fragments::new(&budget, learner.shape(), limits, Storage::Memory).expect("fits");
        Self {
            room: Room::new(&budget, &fragments, learner.net()).expect("fits"),
            rollout: Rollout::new(&budget, learner.shape()).expect("fits"),
            rewards: Rewards::new(&budget, &fragments, GAMMA).expect("fits"),
            learner,
            fragments,
        }
    }

    /// Ends are none or terminations: what is added to the reward of a truncation is tested where it is done.
    fn push(&mut self, environment: u64, seq: usize, rewards: &[f32], ends: &[bool]) {
        let rows = rewards.len();
        let goes_on = ends.last() == Some(&false);
        let fragment = Fragment {
            tag: 0,
            environment,
            seq: seq as u64,
            version: 1,
            observations: &vec![0.0; rows],
            actions: &vec![0.0; rows],
            masks: &[],
            log_probs: &vec![-1.0; rows],
            rewards,
            ends: &ends
                .iter()
                .map(|&end| End::of(end, false))
                .collect::<Vec<_>>(),
            closings: &[0.0][..usize::from(goes_on)],
        };
        self.fragments.push(&fragment, |_| ()).expect("fits");
    }

    /// The scaled rewards of all that was pushed.
    fn update(&mut self) -> Vec<f32> {
        // What is not enough for an update by itself is not all that waits for one.
        while !self.fragments.is_ready() {
            self.push(u64::MAX, 0, &[0.0], &[true]);
        }
        self.fragments.take(1, |_| ());
        let Self {
            learner,
            fragments,
            room,
            rollout,
            rewards,
        } = self;
        let rows = fragments.load(learner, None, Some(rewards), room, rollout);
        fragments.finish(Fate::Trained, |_| ());
        rollout.rewards[..rows].to_vec()
    }
}

/// Six updates, cut elsewhere each, an environment's fragments apart from each other; saved and restored after each.
#[test]
fn over_updates_rewards_are_those_of_environments_side_by_side() {
    let mut bench = Bench::new();
    let mut scale = RewardScale::new(ENVIRONMENTS, GAMMA);
    let mut rng = Rng::new(9, 0);
    for update in 0..6 {
        let mut expected = vec![0.0; ENVIRONMENTS * STEPS];
        let (mut rewards, mut ends) = (expected.clone(), vec![false; ENVIRONMENTS * STEPS]);
        for step in 0..STEPS {
            let mut of_step = [0.0; ENVIRONMENTS].map(|_: f32| rng.normal() as f32 * 5.0);
            let end_of_step = [0.0; ENVIRONMENTS].map(|_: f32| rng.normal() > 1.5);
            for environment in 0..ENVIRONMENTS {
                rewards[environment * STEPS + step] = of_step[environment];
                ends[environment * STEPS + step] = end_of_step[environment];
            }
            scale.step(&mut of_step, &end_of_step);
            for environment in 0..ENVIRONMENTS {
                expected[environment * STEPS + step] = of_step[environment];
            }
        }
        let cut = 3 * update + 1;
        for (from, to) in [(cut, STEPS), (0, cut)] {
            for environment in (0..ENVIRONMENTS).rev() {
                let of = environment * STEPS + from..environment * STEPS + to;
                let seq = update * STEPS + from;
                bench.push(environment as u64 * 7, seq, &rewards[of.clone()], &ends[of]);
            }
        }
        assert_eq!(bench.update(), expected, "update {update}");
        let (moments, running) = bench.rewards.save();
        let (moments, mut running) = (moments.clone(), running.to_vec());
        running.reverse();
        let mut again = Bench::new();
        assert!(again.rewards.restore(moments, &running));
        assert_eq!(again.rewards.save(), bench.rewards.save());
        bench = again;
    }
    assert!(bench.rewards.moments.moments(0).1 > 1.0);
}

fn sum(rewards: &Rewards, environment: u64) -> Option<(u64, f64)> {
    let one = &rewards.running[rewards.find(environment).ok()?];
    Some((one.next_seq, one.sum))
}

#[test]
fn a_return_goes_on_where_it_was_left_and_begins_anew_after_a_gap_or_an_end() {
    let mut bench = Bench::new();
    bench.push(1, 0, &[1.0, 1.0], &[false, false]);
    bench.push(2, 0, &[1.0, 1.0], &[false, true]);
    // Of two stretches the later counts, though the earlier is the longer.
    bench.push(3, 0, &[1.0; 5], &[false; 5]);
    bench.push(3, 8, &[2.0], &[false]);
    bench.update();
    assert_eq!(sum(&bench.rewards, 1), Some((2, 1.0 + GAMMA)));
    assert_eq!(sum(&bench.rewards, 2), Some((2, 0.0)));
    assert_eq!(sum(&bench.rewards, 3), Some((9, 2.0)));
    bench.push(1, 2, &[1.0], &[false]);
    bench.push(2, 2, &[1.0], &[false]);
    bench.push(3, 10, &[1.0], &[false]);
    bench.update();
    assert_eq!(
        sum(&bench.rewards, 1),
        Some((3, (1.0 + GAMMA) * GAMMA + 1.0))
    );
    assert_eq!(sum(&bench.rewards, 2), Some((3, 1.0)));
    assert_eq!(sum(&bench.rewards, 3), Some((11, 1.0)));
    // One that begins again, with its first number.
    bench.push(1, 0, &[4.0], &[false]);
    bench.update();
    assert_eq!(sum(&bench.rewards, 1), Some((1, 4.0)));
    // And after all of this has begun again.
    let mut again = Bench::new();
    let (moments, running) = bench.rewards.save();
    assert!(again.rewards.restore(moments.clone(), running));
    again.push(1, 0, &[5.0], &[false]);
    again.update();
    assert_eq!(sum(&again.rewards, 1), Some((1, 5.0)));
}

#[test]
fn of_too_many_environments_those_heard_of_latest_are_remembered() {
    let mut rewards = Bench::new().rewards;
    let one = |environment: u64, update: u64| Running {
        environment,
        next_seq: 1,
        sum: environment as f64,
        update,
    };
    let most = MOST_ENVIRONMENTS as u64;
    // In no order; 10 and 20 were heard of first, 30 would have been but was heard of again.
    for at in 0..most {
        let environment = at * 1_001 % most;
        let update = if [10, 20, 30].contains(&environment) {
            1
        } else {
            2
        };
        rewards.remember(one(environment, update));
    }
    rewards.remember(one(30, 3));
    rewards.remember(one(most + 5, 3));
    rewards.remember(one(most + 6, 3));
    let kept: Vec<u64> = rewards.save().1.iter().map(|one| one.environment).collect();
    let expected = (0..most)
        .filter(|environment| ![10, 20].contains(environment))
        .chain([most + 5, most + 6]);
    assert!(kept.iter().copied().eq(expected), "in order");
    assert!(
        rewards
            .save()
            .1
            .iter()
            .all(|one| one.sum == one.environment as f64)
    );
    // What was saved by a program that remembered more is taken up as far as there is room.
    let more: Vec<Running> = (0..most + 9).map(|at| one(at, at)).collect();
    assert!(rewards.restore(RunningMoments::new(1), &more));
    assert_eq!(*rewards.save().1, more[9..]);
    let mut broken = more[..3].to_vec();
    broken[1].sum = f64::NAN;
    assert!(!rewards.restore(RunningMoments::new(1), &broken));
    assert!(!rewards.restore(RunningMoments::new(2), &[]));
    assert_eq!(*rewards.save().1, more[9..]);
}
