//! Programs in several languages that use a server through one client library each, and what they print.
//!
//! They are in `tests/clients`. All speak one protocol. `PROGRAM NAME` uses the library or application NAME, with `REDIS_URL`
//! (where it connects), `CONTROL_URL` (the server itself, for CLIENT KILL and the like) and `PREFIX` (with which every key begins).
//! It prints one line of JSON for each feature: `{"feature": "pipeline", "ok": true}`, with `"ok": false` and a `why`, or with
//! `"ok": null` and a `why` where the library has no such feature. A `note` says more. It ends with status 0.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::built;
use crate::parts;
use crate::process::Process;

/// How long a program may take: each of its features has a limit of its own.
const LIMIT: Duration = Duration::from_secs(180);

/// What a program is written in, and so how it is started and where the version of its library is pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// `tests/clients/python`
    Python,
    /// `tests/clients/node`
    Node,
    /// `tests/clients/go`
    Go,
    /// `tests/clients/rust`
    Rust,
    /// `tests/clients/java`
    Java,
}

/// What came of one feature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It works.
    Works,
    /// It fails, for this reason.
    Fails(String),
    /// The library does not have it.
    Absent,
}

/// What a program printed.
#[derive(Clone, Debug)]
pub struct Report {
    /// By feature.
    pub outcomes: BTreeMap<String, Outcome>,
    /// Notes by feature.
    pub notes: BTreeMap<String, String>,
    /// What it wrote to standard error.
    pub log: String,
}

impl Language {
    /// The version of `package` that is used.
    ///
    /// # Panics
    /// When nothing pins it.
    #[must_use]
    pub fn version(self, package: &str) -> String {
        let file = self.lock_file();
        let text = std::fs::read_to_string(&file).unwrap();
        let version = match self {
            Self::Python => text.lines().find_map(|line| {
                let pinned = line.strip_prefix(package)?.strip_prefix("==")?;
                Some(pinned.split(' ').next()?.to_owned())
            }),
            Self::Node => {
                let lock: Value = serde_json::from_str(&text).unwrap();
                let entry = &lock["packages"][format!("node_modules/{package}")];
                entry["version"].as_str().map(str::to_owned)
            }
            Self::Go => between(&text, &format!("{package} v"), "\n"),
            Self::Rust => between(&text, &format!("name = \"{package}\"\nversion = \""), "\""),
            Self::Java => {
                let artifact = format!("<artifactId>{package}</artifactId>");
                let dependency = between(&text, &artifact, "</dependency>").unwrap_or_default();
                between(&dependency, "<version>", "<").map(|v| v.replace(".RELEASE", ""))
            }
        };
        version.unwrap_or_else(|| panic!("{} does not pin {package}", file.display()))
    }

    fn lock_file(self) -> PathBuf {
        self.folder().join(match self {
            Self::Python => "requirements.txt",
            Self::Node => "package-lock.json",
            Self::Go => "go.mod",
            Self::Rust => "../../../Cargo.lock",
            Self::Java => "pom.xml",
        })
    }

    fn folder(self) -> PathBuf {
        folder(match self {
            Self::Python => "python",
            Self::Node => "node",
            Self::Go => "go",
            Self::Rust => "rust",
            Self::Java => "java",
        })
    }

    fn start(self, configure: impl FnOnce(&mut Command)) -> Process {
        let program = |file: &str| self.folder().join(file);
        match self {
            Self::Python => {
                let part = parts::locked("python-clients", "clients-python", &self.lock_file());
                Process::start(&part.join("bin/python"), |command| {
                    // Nothing is written into the repository.
                    command.arg("-B").arg(program("run.py"));
                    configure(command);
                })
            }
            Self::Node => {
                let part = parts::locked("node-clients", "clients-node", &self.lock_file());
                Process::start(Path::new("node"), |command| {
                    command.arg(program("run.js"));
                    command.env("NODE_PATH", part.join("node_modules"));
                    configure(command);
                })
            }
            Self::Go => {
                let part = parts::built("go-clients", "clients-go", &self.folder());
                Process::start(&part.join("clients"), configure)
            }
            Self::Rust => Process::start(&built::built("tars-clients"), configure),
            Self::Java => {
                let part = parts::built("java-clients", "clients-java", &self.folder());
                Process::start(&part.join("clients"), configure)
            }
        }
    }
}

/// Runs the program for `name` to its end.
///
/// # Panics
/// When it does not end as it should, or says other than one thing of each of `features`.
#[track_caller]
#[must_use]
pub fn run(
    language: Language,
    name: &str,
    features: &[&str],
    url: &str,
    control: &str,
    prefix: &str,
) -> Report {
    let mut process = language.start(|command| {
        command.arg(name);
        command.env("REDIS_URL", format!("{url}/0"));
        command.env("CONTROL_URL", format!("{control}/0"));
        command.env("PREFIX", prefix);
    });
    let status = process.wait_exit(LIMIT);
    let (printed, log) = (process.stdout(), process.stderr());
    assert!(
        status.success(),
        "{name} ended with {status}:\n{printed}{log}"
    );
    let mut report = Report {
        outcomes: BTreeMap::new(),
        notes: BTreeMap::new(),
        log,
    };
    for line in printed.lines() {
        let said: Value = serde_json::from_str(line)
            .unwrap_or_else(|e| panic!("{name} printed what is no JSON ({e}): {line}"));
        let feature = said["feature"].as_str().unwrap_or_default().to_owned();
        let why = said["why"].as_str().unwrap_or_default().to_owned();
        let outcome = match said["ok"].as_bool() {
            Some(true) => Outcome::Works,
            Some(false) => Outcome::Fails(why),
            None => Outcome::Absent,
        };
        if let Some(note) = said["note"].as_str() {
            report.notes.insert(feature.clone(), note.to_owned());
        }
        let before = report.outcomes.insert(feature, outcome);
        assert_eq!(before, None, "{name} said twice: {line}");
    }
    let mut wanted = features.to_vec();
    wanted.sort_unstable();
    let said: Vec<&String> = report.outcomes.keys().collect();
    assert_eq!(said, wanted, "{name} says other features:\n{}", report.log);
    report
}

impl fmt::Display for Outcome {
    /// As in a cell of the table.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Works => f.write_str("yes"),
            Self::Fails(why) => write!(f, "no: {}", why.replace('|', "/")),
            Self::Absent => f.write_str("-"),
        }
    }
}

/// What stands in `text` after `start` and before the next `end`.
fn between(text: &str, start: &str, end: &str) -> Option<String> {
    let (_, rest) = text.split_once(start)?;
    rest.split_once(end).map(|(found, _)| found.to_owned())
}

fn folder(language: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("clients")
        .join(language)
}
