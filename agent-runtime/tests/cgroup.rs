//! A process in a cgroup that was made for it sees its limit, and its learner keeps within it.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tars_agent::memory::cgroup::Cgroup;

const LIMIT: u64 = 40 << 20;
/// What 40 MiB leave to the budget.
const BUDGET: u64 = 24 << 20;
/// Set in the process that is asked.
const ASKED: &str = "TARS_AGENT_TEST_CGROUP";

/// A cgroup, until it is dropped.
struct Made(PathBuf);

impl Made {
    /// Of whichever version has the memory controller.
    fn new(name: &str) -> io::Result<Self> {
        let name = format!("tars-agent-{name}-{}", std::process::id());
        let version_1 = Path::new("/sys/fs/cgroup/memory");
        let (parent, limit) = if version_1.exists() {
            (version_1, "memory.limit_in_bytes")
        } else {
            (Path::new("/sys/fs/cgroup"), "memory.max")
        };
        let directory = parent.join(name);
        fs::create_dir(&directory)?;
        let made = Self(directory);
        let limit = made.0.join(limit);
        // Not to be created: on a file system of another kind it could.
        let mut limit = fs::OpenOptions::new().write(true).open(limit)?;
        io::Write::write_all(&mut limit, LIMIT.to_string().as_bytes())?;
        Ok(made)
    }

    fn run(&self, program: &Path, arguments: &[&str]) -> Output {
        let enter = r#"echo $$ > "$0/cgroup.procs" && exec "$@""#;
        Command::new("sh")
            .args(["-c", enter])
            .arg(&self.0)
            .arg(program)
            .args(arguments)
            .env(ASKED, "1")
            .output()
            .unwrap()
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        fs::remove_dir(&self.0).unwrap();
    }
}

fn made(name: &str) -> Option<Made> {
    match Made::new(name) {
        Ok(made) => Some(made),
        Err(error) => {
            eprintln!("not tested: no memory cgroup can be made here: {error}");
            None
        }
    }
}

/// Not a test by itself: what [`a_process_sees_the_limit_of_its_cgroup`] runs in a cgroup.
#[test]
fn asked_in_a_cgroup() {
    if std::env::var_os(ASKED).is_none() {
        return;
    }
    // Memory that is used is of the working set; what lies in files is not.
    let touched = vec![1u8; 8 << 20];
    let cgroup = Cgroup::find().unwrap();
    let working_set = cgroup.working_set().unwrap();
    println!("limit {}", cgroup.limit().unwrap());
    println!("enough {}", working_set >= touched.len() as u64);
    println!("not too much {}", working_set <= LIMIT);
    let there = Path::new("/proc/pressure/memory").exists();
    println!("pressure {}", cgroup.pressure().is_some() == there);
}

#[test]
fn a_process_sees_the_limit_of_its_cgroup() {
    let Some(made) = made("sees") else { return };
    let this = std::env::current_exe().unwrap();
    let output = made.run(&this, &["--exact", "asked_in_a_cgroup", "--nocapture"]);
    let said = String::from_utf8(output.stdout).unwrap();
    for line in [
        &*format!("limit {LIMIT}"),
        "enough true",
        "not too much true",
        "pressure true",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
}

#[test]
fn a_learner_keeps_within_its_cgroup() {
    let Some(made) = made("keeps") else { return };
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("large.toml");
    fs::write(&config, "[\"CartPole-v1\"]\nn_envs = 4096\nn_steps = 256\n").unwrap();
    let train = Path::new(env!("CARGO_BIN_EXE_tars-agent"));
    let (config, out) = (config.to_str().unwrap(), directory.path().join("runs"));
    let common = ["train", "--env", "CartPole-v1", "--steps", "256"];
    let arguments = [&common[..], &["--out", out.to_str().unwrap()]].concat();
    let refused = made.run(train, &[&arguments[..], &["--config", config]].concat());
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(64), "{said}");
    let expected = format!("the memory budget of {BUDGET} bytes has ");
    assert!(said.contains(&expected), "{said}");
    let small = made.run(train, &arguments);
    assert!(small.status.success(), "{small:?}");
    // What is configured counts, whatever the limit.
    let told = made.run(train, &[&arguments[..], &["--memory", "1KiB"]].concat());
    let said = String::from_utf8(told.stderr).unwrap();
    assert_eq!(told.status.code(), Some(64), "{said}");
}
