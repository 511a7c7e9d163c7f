//! The program as a person meets it.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

fn agent(directory: &Path, args: &[&str]) -> Output {
    command(directory, args).output().unwrap()
}

fn command(directory: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tars-agent"));
    command.args(args).current_dir(directory);
    command
}

/// Fails with one sentence on standard error, which is returned.
fn refused(directory: &Path, args: &[&str]) -> String {
    let output = agent(directory, args);
    assert_eq!(output.status.code(), Some(64), "{args:?}");
    let sentence = String::from_utf8(output.stderr).unwrap();
    assert_eq!(sentence.lines().count(), 1, "{sentence}");
    sentence.trim_end().to_owned()
}

fn accepted(directory: &Path, args: &[&str]) -> String {
    let output = agent(directory, args);
    assert!(
        output.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn an_agent_learns_is_evaluated_and_inspected() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let trained = accepted(
        path,
        &[
            "train",
            "--env",
            "cartpole",
            "--steps",
            "20000",
            "--plot",
            "curve.svg",
        ],
    );
    assert!(
        trained
            .lines()
            .last()
            .unwrap()
            .starts_with("done after 20,224 steps: mean return "),
        "{trained}"
    );
    assert!(
        fs::read_to_string(path.join("curve.svg"))
            .unwrap()
            .contains("<path class=\"line s0\" d=\"M")
    );

    let evaluated = accepted(
        path,
        &["eval", "runs/CartPole-v1", "--json", "--episodes", "20"],
    );
    let answer: serde_json::Value = serde_json::from_str(&evaluated).unwrap();
    // A random policy comes to 22.
    assert!(answer["mean"].as_f64().unwrap() > 100.0, "{answer}");
    let again = accepted(
        path,
        &[
            "eval",
            "runs/CartPole-v1/checkpoint-000000020224",
            "--json",
            "--episodes",
            "20",
        ],
    );
    assert_eq!(again, evaluated);

    let inspected = accepted(path, &["inspect", "runs/CartPole-v1"]);
    assert!(
        inspected.contains("CartPole-v1: 4 inputs, a choice among 2"),
        "{inspected}"
    );
    assert!(
        inspected.contains("9,155 parameters; shared none, policy 64-64, value 64-64"),
        "{inspected}"
    );
    assert_eq!(
        refused(path, &["train", "--env", "cartpole"]),
        "runs/CartPole-v1 already holds checkpoints: --resume goes on from them, --out names another directory"
    );
}

/// Ctrl-C in the middle, and what comes of going on is what comes of never having stopped.
#[test]
fn interrupted_training_is_saved_and_goes_on_to_the_same_bits() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let train = ["train", "--env", "cartpole", "--steps", "60000", "--out"];
    accepted(
        path,
        &[&train[..], &["whole", "--plot", "whole.svg"]].concat(),
    );

    let mut child = command(path, &[&train[..], &["parts"]].concat())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    // Its header, and the first line of progress: it is at work.
    lines.next().unwrap();
    lines.next().unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(
        rest.last().unwrap(),
        "--resume goes on from there",
        "{rest:?}"
    );

    let resumed = accepted(
        path,
        &[
            &train[..],
            &["parts", "--resume", "--threads", "3", "--plot", "parts.svg"],
        ]
        .concat(),
    );
    assert!(
        resumed.contains(" 8 environments, 3 threads, "),
        "{resumed}"
    );
    let last = "checkpoint-000000060160";
    for file in [
        "policy.safetensors",
        "training.safetensors",
        "manifest.json",
    ] {
        let read = |run: &str| fs::read(path.join(run).join(last).join(file)).unwrap();
        assert!(read("whole") == read("parts"), "{file}");
    }
    // The curve is that of the whole run, too.
    let curve = |name: &str| fs::read_to_string(path.join(name)).unwrap();
    assert_eq!(curve("parts.svg"), curve("whole.svg"));
    assert_eq!(curve("parts/curve.json"), curve("whole/curve.json"));

    // A broken one is said, and does not stop training.
    fs::write(path.join("parts/curve.json"), "{").unwrap();
    let resume = [
        "train", "--env", "cartpole", "--steps", "60500", "--out", "parts", "--resume",
    ];
    let warned = agent(path, &resume);
    assert!(warned.status.success());
    let warned = String::from_utf8(warned.stderr).unwrap();
    assert!(
        warned.starts_with("parts/curve.json cannot be used: ")
            && warned.ends_with("; the learning curve begins anew\n"),
        "{warned}"
    );
}

/// `train | head` and a log on a full disk: training goes on, and is saved.
#[test]
fn training_goes_on_when_nobody_hears_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let train = ["train", "--env", "cartpole", "--steps", "2000", "--out"];
    let (heard, unheard) = std::io::pipe().unwrap();
    drop(heard);
    let full = fs::File::create("/dev/full").unwrap();
    for (out, stdout) in [("left", Stdio::from(unheard)), ("full", Stdio::from(full))] {
        let status = command(path, &[&train[..], &[out]].concat())
            .stdout(stdout)
            .status();
        assert_eq!(status.unwrap().code(), Some(0), "{out}");
        assert!(path.join(out).join("checkpoint-000000002048").is_dir());
    }
}

/// A process that does not outlive its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn two_do_not_train_in_one_directory() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let endless = (u64::MAX / 2).to_string();
    let endless = [
        "train", "--env", "cartpole", "--out", "run", "--steps", &endless,
    ];
    let mut first = Killed(
        command(path, &endless)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut lines = BufReader::new(first.0.stdout.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    let second = ["train", "--env", "cartpole", "--out", "run"];
    let sentence = "another training writes its checkpoints in run";
    let refusals = [
        refused(path, &second),
        refused(path, &[&second[..], &["--resume"]].concat()),
    ];
    // However the first one ends, another may follow.
    drop(first);
    assert_eq!(refusals, [sentence; 2]);
    accepted(path, &[&second[..], &["--steps", "256"]].concat());
}

#[test]
fn no_checkpoint_fails_for_want_of_the_curve() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    fs::create_dir_all(path.join("run/curve.json")).unwrap();
    let trained = agent(
        path,
        &[
            "train", "--env", "cartpole", "--steps", "256", "--out", "run",
        ],
    );
    assert!(trained.status.success());
    let warned = String::from_utf8(trained.stderr).unwrap();
    assert!(
        warned.starts_with("cannot write run/curve.json: "),
        "{warned}"
    );
    assert!(path.join("run/checkpoint-000000000256").is_dir());
    assert!(!path.join("run/.partial-curve.json").exists());
}

#[test]
fn what_cannot_be_done_is_said_in_one_sentence_and_nothing_is_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let zoo = |text: &str| fs::write(path.join("zoo.toml"), text).unwrap();
    assert_eq!(
        refused(path, &["train", "--env", "cartpool"]),
        "there is no environment named \"cartpool\"; the nearest is \"CartPole-v1\" of CartPole-v1, Acrobot-v1, MountainCarContinuous-v0, Pendulum-v1, stream-steering"
    );
    zoo("[CartPole-v1]\ngamma = 2");
    let configured = ["train", "--env", "cartpole", "--config", "zoo.toml"];
    assert_eq!(
        refused(path, &configured),
        "gamma = 2 is out of range: it must be between 0 and 1"
    );
    zoo("[CartPole-v1]\nbatch = 2");
    assert!(
        refused(path, &configured).starts_with("zoo.toml: unknown field `batch`, expected one of ")
    );
    assert!(
        refused(
            path,
            &["train", "--env", "cartpole", "--config", "none.toml"]
        )
        .starts_with("cannot read none.toml: ")
    );
    assert!(
        refused(path, &["train", "--env", "cartpole", "--out", "/proc/none"])
            .starts_with("cannot write /proc/none: ")
    );
    assert!(
        refused(
            path,
            &["train", "--env", "cartpole", "--plot", "/none/a.svg"]
        )
        .starts_with("cannot write /none/a.svg: ")
    );
    fs::create_dir(path.join("drawings")).unwrap();
    assert_eq!(
        refused(path, &["train", "--env", "cartpole", "--plot", "drawings"]),
        "cannot write drawings: is a directory"
    );
    assert_eq!(
        refused(path, &["train", "--env", "cartpole", "--memory", "1KiB"]),
        "the memory budget of 1024 bytes has 1024 left, and parameters wants 44160: give it more (--memory), or ask for less (smaller layers)"
    );
    let mib = agent(path, &["train", "--env", "cartpole", "--memory", "64"]);
    assert_eq!(mib.status.code(), Some(64));
    let said = String::from_utf8(mib.stderr).unwrap();
    assert!(said.contains("such as 64MiB"), "{said}");
    for threads in ["0", "1000"] {
        assert_eq!(
            refused(path, &["train", "--env", "cartpole", "--threads", threads]),
            format!("threads = {threads} is out of range: it must be between 1 and 64")
        );
    }
    assert_eq!(
        refused(path, &["eval", "."]),
        ". is no checkpoint and holds none that is intact"
    );
    assert_eq!(
        refused(path, &["train", "--env", "cartpole", "--resume"]),
        "runs/CartPole-v1 is no checkpoint and holds none that is intact"
    );

    accepted(
        path,
        &[
            "train", "--env", "cartpole", "--steps", "256", "--out", "run",
        ],
    );
    // However far off the next checkpoint is.
    let far = u64::MAX.to_string();
    let resume = ["train", "--env", "cartpole", "--out", "run", "--resume"];
    accepted(
        path,
        &[&resume[..], &["--steps", "256", "--checkpoint-every", &far]].concat(),
    );
    let policy = path.join("run/checkpoint-000000000256/policy.safetensors");
    fs::write(&policy, "foreign").unwrap();
    assert_eq!(
        refused(path, &["eval", "run/checkpoint-000000000256"]),
        "the checkpoint run/checkpoint-000000000256 cannot be used: policy.safetensors is not the file that was written: its checksum or length differs"
    );
    let wrong = agent(
        path,
        &["train", "--env", "cartpole", "--out", "run", "--resume"],
    );
    assert_eq!(wrong.status.code(), Some(64));
    assert_eq!(fs::read_to_string(&policy).unwrap(), "foreign");
    assert!(
        !path.join("runs").exists(),
        "a refused run leaves nothing behind"
    );
}

#[test]
fn time_that_cannot_be_lived_through_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    for (flag, number, found) in [
        ("hours", "nan", "NaN"),
        ("hours", "inf", "inf"),
        ("hours", "0", "0"),
        ("hours", "-1", "-1"),
        ("speed", "0", "0"),
        ("speed", "nan", "NaN"),
        ("speed", "inf", "inf"),
        ("speed", "1e7", "10000000"),
    ] {
        let said = refused(directory.path(), &["soak", &format!("--{flag}={number}")]);
        assert_eq!(
            said,
            format!("--{flag}: expected a number above zero and up to 1000000, found {found}")
        );
    }
    assert!(!directory.path().join("soak").exists());
}

/// What is too short to judge is judged so, and says nothing that is no number.
#[test]
fn a_soak_of_seconds_is_a_verdict_that_says_what_it_does_not_know() {
    let directory = tempfile::tempdir().unwrap();
    let output = agent(
        directory.path(),
        &["soak", "--hours", "0.05", "--speed", "96"],
    );
    assert_eq!(output.status.code(), Some(64));
    let said = String::from_utf8(output.stderr).unwrap();
    let sentence = "it was too short to tell whether memory grows";
    assert!(said.lines().last().unwrap().contains(sentence), "{said}");
    let verdict = fs::read_to_string(directory.path().join("soak/soak.json")).unwrap();
    assert!(
        verdict.contains(sentence) && !verdict.contains("null"),
        "{verdict}"
    );
    assert!(!verdict.contains("growth\""), "{verdict}");
    assert!(directory.path().join("soak/soak.svg").exists());
}
