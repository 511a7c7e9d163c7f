//! Fragments in files: the same is learnt as from memory, and a full disk is an error at start.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::Path;
use std::process::Command;

use tars_agent::distribution::Distribution;
use tars_agent::fragments::{
    End, Fate, Fragment, Fragments, Ledger, Limits, Overflow, Rewards, Room,
};
use tars_agent::hyper::HyperParameters;
use tars_agent::memory::{Component, MemoryBudget, Storage};
use tars_agent::normalise::RunningMoments;
use tars_agent::ppo::Learner;
use tars_agent::rng::Rng;
use tars_agent::rollout::{Rollout, Shape};

/// Set in the process that has a small disk.
const DISK: &str = "TARS_AGENT_TEST_DISK";

/// Parameters after some updates, and where every transition went.
fn learnt(storage: Storage<'_>, overflow: Overflow) -> (Vec<u32>, Ledger) {
    let hyper = HyperParameters {
        n_steps: 64,
        n_epochs: 2,
        ..HyperParameters::default()
    };
    let budget = MemoryBudget::new(1 << 24);
    let (mut rng, mut order) = (Rng::new(7, 0), Rng::new(7, 1));
    let distribution = Distribution::Categorical(vec![2]);
    let mut learner = Learner::new(3, distribution, true, hyper, &budget, &mut rng).unwrap();
    let limits = Limits {
        transitions: 120,
        overflow,
        ..Limits::default()
    };
    let mut fragments = Fragments::new(&budget, learner.shape(), limits, storage).unwrap();
    let mut room = Room::new(&budget, &fragments, learner.net()).unwrap();
    let mut rollout = Rollout::new(&budget, learner.shape()).unwrap();
    let mut rewards = Rewards::new(&budget, &fragments, 0.99).unwrap();
    let mut moments = RunningMoments::new(3);
    let mapped = budget.by_component().find(|one| one.0.is_mapped());
    assert_eq!(mapped.unwrap().1 > 0, storage != Storage::Memory);
    let ends = [End::GoesOn, End::Truncated, End::Terminated, End::GoesOn];
    for tag in 0..400 {
        let mut numbers =
            |count: usize| -> Vec<f32> { (0..count).map(|_| rng.normal() as f32).collect() };
        let (observations, earned, closings) = (numbers(12), numbers(4), numbers(6));
        let fragment = Fragment {
            tag,
            environment: tag % 3,
            seq: tag / 3 * 4,
            version: tag / 50,
            observations: &observations,
            actions: &[0.0, 1.0, 1.0, 0.0],
            masks: &[true; 8],
            log_probs: &[-0.7; 4],
            rewards: &earned,
            ends: &ends,
            closings: &closings,
        };
        let _ = fragments.push(&fragment, |_| ());
        if tag % 35 == 0 && fragments.take(tag / 40, |_| ()) > 0 {
            let rewards = Some(&mut rewards);
            fragments.load(&learner, Some(&moments), rewards, &mut room, &mut rollout);
            learner.update(&rollout, 1.0, |rows| order.shuffle(rows));
            fragments.observe(&mut moments);
            fragments.finish(Fate::Trained, |_| ());
        }
    }
    let parameters = learner.parameters().iter().map(|x| x.to_bits()).collect();
    (parameters, fragments.ledger())
}

#[test]
fn what_lies_in_files_teaches_the_same_to_the_bit() {
    let directory = tempfile::tempdir().unwrap();
    for overflow in [Overflow::Backpressure, Overflow::DropOldest] {
        let in_memory = learnt(Storage::Memory, overflow);
        assert!(in_memory.1.trained > 0 && in_memory.1.stale > 0);
        assert_eq!(
            learnt(Storage::Mapped(directory.path()), overflow),
            in_memory
        );
    }
}

/// Not a test by itself: what [`a_full_disk_is_an_error_at_start`] runs on a disk of 1 MiB.
#[test]
fn asked_on_a_small_disk() {
    let Some(disk) = std::env::var_os(DISK) else {
        return;
    };
    let budget = MemoryBudget::new(1 << 24);
    let shape = Shape {
        steps: 8,
        environments: 1,
        inputs: 8,
        action: 1,
        mask: 0,
    };
    let bytes = |transitions| {
        let limits = Limits {
            transitions,
            ..Limits::default()
        };
        let fragments = Fragments::new(&budget, shape, limits, Storage::Mapped(Path::new(&disk)))?;
        let mapped = budget.by_component().map(|one| match one.0 {
            Component::FragmentsMapped => one.1,
            _ => 0,
        });
        let mapped = mapped.sum::<usize>();
        drop(fragments);
        Ok::<_, tars_agent::memory::NoRoom>(mapped)
    };
    println!("small: {}", bytes(10_000).unwrap());
    println!("large: {}", bytes(100_000).unwrap_err());
    // What was made before the disk was full is given back.
    println!("small: {}", bytes(10_000).unwrap());
}

#[test]
fn a_full_disk_is_an_error_at_start() {
    let disk = tempfile::tempdir().unwrap();
    // A mount of its own, which goes with the process.
    let mounted = r#"mount -t tmpfs -o size=1m none "$0" && exec "$@""#;
    let run = |program: &[&str]| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "--map-root-user", "--mount", "sh", "-c", mounted]);
        unshare.arg(disk.path()).args(program);
        unshare.env(DISK, disk.path()).output()
    };
    if !run(&["true"]).is_ok_and(|output| output.status.success()) {
        eprintln!("not tested: no file system can be mounted here");
        return;
    }
    let this = std::env::current_exe().unwrap();
    let this = [
        this.to_str().unwrap(),
        "--exact",
        "asked_on_a_small_disk",
        "--nocapture",
    ];
    let output = run(&this).unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    // Ten numbers and a closing observation for every four transitions, more or less.
    assert_eq!(said.matches("small: 520000\n").count(), 2, "{said}");
    let place = disk.path().display();
    let refused =
        format!("large: cannot map a file of 3200000 bytes in {place}: No space left on device");
    assert!(said.contains(&refused), "{said}");
    assert!(output.status.success(), "{said}");
}
