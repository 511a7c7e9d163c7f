//! A checkpoint is the whole of training; what is broken is found; what must be kept is kept.

#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::memory::MemoryBudget;
use crate::schedule::Schedule;
use crate::tensors::Tensors;
use crate::train::{WINDOW, evaluate};

fn hyper() -> HyperParameters {
    HyperParameters {
        n_timesteps: Some(10_000),
        n_envs: 3,
        n_steps: 64,
        n_epochs: 2,
        learning_rate: Schedule::Linear(1e-3),
        normalize_observation: true,
        normalize_reward: true,
        ..HyperParameters::default()
    }
}

fn trainer(environment: &str) -> Trainer {
    Trainer::new(environment, hyper(), 3, &MemoryBudget::new(1 << 24)).unwrap()
}

fn bits(trainer: &Trainer) -> Vec<u32> {
    let (learner, adam) = (trainer.learner(), trainer.learner().adam());
    let numbers = learner
        .parameters()
        .iter()
        .chain(&*adam.mean)
        .chain(&*adam.square);
    numbers
        .chain(&trainer.inputs)
        .map(|x| x.to_bits())
        .collect()
}

#[test]
fn what_is_resumed_continues_bit_for_bit() {
    for environment in crate::env::NAMES {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let mut straight = trainer(environment);
        for _ in 0..3 {
            straight.advance();
        }
        store.save(&straight).unwrap();
        let checkpoint = store.latest(|bad| unreachable!("{bad}")).unwrap();
        let mut resumed = checkpoint
            .resume(None, &MemoryBudget::new(1 << 24))
            .unwrap();
        assert_eq!(bits(&resumed), bits(&straight), "{environment}");
        for _ in 0..3 {
            straight.advance();
            resumed.advance();
        }
        assert_eq!(bits(&resumed), bits(&straight), "{environment}");
        assert_eq!(resumed.progress(), straight.progress());
        assert_eq!(resumed.normaliser(), straight.normaliser());
        assert_eq!(resumed.rewards, straight.rewards);
    }
}

#[test]
fn what_is_broken_is_skipped_with_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let mut trainer = trainer("CartPole-v1");
    let paths: Vec<PathBuf> = (0..4)
        .map(|_| {
            trainer.advance();
            store.save(&trainer).unwrap()
        })
        .collect();
    // One flipped bit; a file cut short; no manifest.
    let policy = paths[3].join(POLICY);
    let mut data = fs::read(&policy).unwrap();
    *data.last_mut().unwrap() ^= 1;
    fs::write(&policy, data).unwrap();
    let training = paths[2].join(TRAINING);
    fs::write(&training, &fs::read(&training).unwrap()[..100]).unwrap();
    fs::remove_file(paths[1].join(MANIFEST)).unwrap();
    let mut warnings = Vec::new();
    let latest = store.latest(|bad| warnings.push(bad.to_string())).unwrap();
    assert_eq!(latest.path(), paths[0]);
    assert_eq!(warnings.len(), 3);
    assert!(warnings[0].ends_with(
        "policy.safetensors is not the file that was written: its checksum or length differs"
    ));
    assert!(warnings[1].ends_with(
        "training.safetensors is not the file that was written: its checksum or length differs"
    ));
    assert!(
        warnings[2].contains("manifest.json: No such file"),
        "{}",
        warnings[2]
    );
}

#[test]
fn the_latest_the_best_and_the_pinned_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let mut trainer = trainer("CartPole-v1");
    let mut save = |mean: f64| {
        trainer.progress.steps += 1;
        trainer.progress.returns = vec![mean; WINDOW].into();
        store.save(&trainer).unwrap()
    };
    let pinned = save(1.0);
    store.pin("good", &pinned).unwrap();
    let best = save(9.0);
    let rest: Vec<PathBuf> = (0..7).map(|at| save(f64::from(at))).collect();
    let mut kept: Vec<PathBuf> = rest[2..].iter().rev().cloned().collect();
    kept.extend([best.clone(), pinned]);
    assert_eq!(store.checkpoints(), kept);
    assert_eq!(store.pinned(BEST), Some(best));
}

#[test]
fn what_a_kill_left_is_neither_read_nor_kept() {
    let directory = tempfile::tempdir().unwrap();
    let partial = directory.path().join(".partial-checkpoint-000000000001");
    fs::create_dir(&partial).unwrap();
    fs::write(partial.join(POLICY), "half").unwrap();
    let store = Store::open(directory.path()).unwrap();
    assert!(store.checkpoints().is_empty());
    assert!(!partial.exists());
}

/// On a full disk it would take the room of all that come after it.
#[test]
fn one_that_cannot_be_written_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let in_the_way = directory.path().join("checkpoint-000000000000");
    fs::write(&in_the_way, "no directory").unwrap();
    store.save(&trainer("CartPole-v1")).unwrap_err();
    let left: Vec<_> = fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(left, [in_the_way]);
}

/// Replaces a checkpoint's policy by other tensors, with the right checksum.
fn with_policy(path: &Path, policy: &[u8]) -> String {
    let mut manifest: Manifest =
        serde_json::from_slice(&fs::read(path.join(MANIFEST)).unwrap()).unwrap();
    manifest.files.insert(POLICY.to_owned(), File::of(policy));
    fs::write(path.join(MANIFEST), seal::seal(&manifest).unwrap()).unwrap();
    fs::write(path.join(POLICY), policy).unwrap();
    let checkpoint = Checkpoint::read(path).unwrap();
    let resumed = checkpoint
        .resume(None, &MemoryBudget::new(1 << 24))
        .err()
        .unwrap()
        .to_string();
    assert_eq!(resumed, checkpoint.policy().unwrap_err().to_string());
    resumed
        .split_once("policy.safetensors: ")
        .unwrap()
        .1
        .to_owned()
}

#[test]
fn tensors_of_another_network_are_refused_in_one_sentence() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let path = store.save(&trainer("CartPole-v1")).unwrap();
    assert!(
        with_policy(&path, b"not safetensors").starts_with("it is no intact safetensors file: ")
    );

    let other = |change: fn(&mut HyperParameters)| {
        let mut hyper = hyper();
        change(&mut hyper);
        let other = Trainer::new("CartPole-v1", hyper, 3, &MemoryBudget::new(1 << 24)).unwrap();
        training::policy(&other).unwrap()
    };
    assert_eq!(
        with_policy(&path, &other(|hyper| hyper.policy = vec![32])),
        "tensor \"mlp_extractor.policy_net.0.weight\" has shape [32, 4], where this network has [64, 4]"
    );
    assert_eq!(
        with_policy(&path, &other(|hyper| hyper.policy = vec![64])),
        "it holds no tensor named \"mlp_extractor.policy_net.2.weight\""
    );
    let mut tensors = Tensors::default();
    tensors.f64(
        "mlp_extractor.policy_net.0.weight",
        &[64, 4],
        vec![0.0; 256],
    );
    assert_eq!(
        with_policy(&path, &tensors.to_bytes().unwrap()),
        "tensor \"mlp_extractor.policy_net.0.weight\" holds F64 numbers, not F32"
    );
}

#[test]
fn another_format_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let path = store.save(&trainer("CartPole-v1")).unwrap();
    fs::write(path.join(MANIFEST), "{\"format\": 7}").unwrap();
    let error = Checkpoint::read(&path).unwrap_err().to_string();
    assert!(
        error.ends_with("its format is 7, and this program reads 1"),
        "{error}"
    );
}

/// A changed step, seed or hyper-parameter would be learnt from without a word.
#[test]
fn no_byte_of_a_manifest_can_change() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let path = store.save(&trainer("CartPole-v1")).unwrap();
    let manifest = fs::read(path.join(MANIFEST)).unwrap();
    for at in 0..manifest.len() {
        let mut flipped = manifest.clone();
        flipped[at] ^= 1;
        fs::write(path.join(MANIFEST), flipped).unwrap();
        assert!(Checkpoint::read(&path).is_err(), "byte {at}");
    }
    fs::write(path.join(MANIFEST), &manifest[..manifest.len() - 1]).unwrap();
    assert!(Checkpoint::read(&path).is_err());
    fs::write(path.join(MANIFEST), manifest).unwrap();
    Checkpoint::read(&path).unwrap();
}

/// A copy that somebody made is neither the newest nor one of the five.
#[test]
fn what_has_another_name_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let mut trainer = trainer("CartPole-v1");
    let copy = directory.path().join("checkpoint-first");
    for at in 0..7 {
        let saved = store.save(&trainer).unwrap();
        if at == 0 {
            fs::rename(saved, &copy).unwrap();
        }
        trainer.advance();
    }
    assert_eq!(store.checkpoints().len(), KEPT);
    assert!(copy.join(MANIFEST).exists());
    let latest = store.latest(|bad| unreachable!("{bad}")).unwrap();
    assert_eq!(latest.manifest().steps, 6 * 192);
}

/// All of the latest five are broken, and training goes on from one that was pinned.
#[test]
fn broken_ones_do_not_push_out_what_is_saved() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    for number in 10..10 + KEPT {
        fs::create_dir(directory.path().join(format!("checkpoint-{number:012}"))).unwrap();
    }
    let saved = store.save(&trainer("CartPole-v1")).unwrap();
    let mut broken = 0;
    let latest = store.latest(|_| broken += 1).unwrap();
    assert_eq!((latest.path(), broken), (&*saved, KEPT));
}

/// What another manifest says, sealed as this one was.
fn with_manifest(path: &Path, change: impl Fn(&mut Manifest)) -> Checkpoint {
    let mut manifest = Checkpoint::read(path).unwrap().manifest;
    change(&mut manifest);
    let other = path.with_file_name("other");
    fs::create_dir_all(&other).unwrap();
    for file in [POLICY, TRAINING] {
        fs::copy(path.join(file), other.join(file)).unwrap();
    }
    fs::write(other.join(MANIFEST), seal::seal(&manifest).unwrap()).unwrap();
    Checkpoint::read(&other).unwrap()
}

#[test]
fn a_manifest_that_claims_too_much_allocates_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let path = store.save(&trainer("CartPole-v1")).unwrap();
    let changes: [fn(&mut Manifest); 6] = [
        |it| it.inputs = 1 << 63,
        |it| it.inputs = 1_000_000_000,
        |it| it.actions = ActionKind::Categorical(vec![1 << 50]),
        |it| it.actions = ActionKind::Categorical(vec![1 << 63, 1 << 63]),
        |it| it.actions = ActionKind::Gaussian(1 << 62),
        |it| it.hyperparameters.policy = vec![4_096; 8],
    ];
    for change in changes {
        let error = with_manifest(&path, change).policy().unwrap_err();
        let error = error.to_string();
        assert!(
            error.ends_with("it is too small for the network that the manifest names"),
            "{error}"
        );
    }
}

#[test]
fn a_policy_of_another_environment_is_not_evaluated() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let path = store.save(&trainer("CartPole-v1")).unwrap();
    let changes: [fn(&mut Manifest); 2] = [
        |it| it.environment = "Pendulum-v1".to_owned(),
        |it| it.actions = ActionKind::Categorical(vec![1, 1]),
    ];
    for change in changes {
        let checkpoint = with_manifest(&path, change);
        let environment = &checkpoint.manifest().environment;
        let loaded = checkpoint.policy().unwrap();
        let budget = MemoryBudget::new(1 << 20);
        let error = evaluate(
            environment,
            loaded.policy(),
            loaded.normaliser(),
            1,
            0,
            &budget,
        )
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("the policy does not fit {environment}: it has other inputs or other actions")
        );
    }
}
