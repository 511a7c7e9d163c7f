//! The log of a process, as whoever collects its standard error sees it. A process has one log, hence child processes.
#![allow(clippy::unwrap_used)]

use std::env;
use std::process::Command;

use tars_sidecar::logging::{self, Error};

/// Set in the child process: the format of its log.
const CHILD: &str = "TARS_TEST_LOGGING_CHILD";

#[test]
#[ignore = "started by the tests below, in a process of its own"]
fn child() {
    let Ok(format) = env::var(CHILD) else { return };
    let level = logging::init("warn,logging=info", format.parse().unwrap()).unwrap();
    tracing::info!(stream = "orders", "shown");
    tracing::debug!("hidden");
    level.set("off").unwrap();
    tracing::error!("hidden too");
    assert!(matches!(
        logging::init("info", format.parse().unwrap()),
        Err(Error::Twice)
    ));
}

fn lines(format: &str) -> Vec<String> {
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env(CHILD, format)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stderr)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

#[test]
fn text_for_people() {
    let lines = lines("text");
    assert_eq!(lines.len(), 1, "{lines:?}");
    let line = lines.first().unwrap();
    assert!(
        line.ends_with(" INFO logging: shown stream=\"orders\""),
        "{line}, without colours"
    );
}

#[test]
fn json_for_machines() {
    let lines = lines("json");
    assert_eq!(lines.len(), 1, "{lines:?}");
    let line: serde_json::Value = serde_json::from_str(lines.first().unwrap()).unwrap();
    let of = |key: &str| {
        line.get(key)
            .and_then(|value| value.as_str())
            .map(str::to_owned)
    };
    assert_eq!(of("message").as_deref(), Some("shown"));
    assert_eq!(of("stream").as_deref(), Some("orders"));
    assert_eq!(of("level").as_deref(), Some("INFO"));
    assert_eq!(of("target").as_deref(), Some("logging"));
}
