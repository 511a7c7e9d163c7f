//! Runs unmodified Rust libraries against the server that `REDIS_URL` names, which may be a proxy before one.
//!
//! ```sh
//! tars-clients LIBRARY     # every feature with redis-rs, redis-rs tokio or fred, one line of JSON a feature
//! tars-clients versions    # the libraries and their versions, as JSON
//! ```
//!
//! `CONTROL_URL` names the server itself, for what another client does to it. Every key, stream and channel begins with
//! `PREFIX`. The exit status is 0 when it ran to the end, whatever the features came to.

mod check;
mod fred;
mod redis_rs;

use std::env;
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::json;

use check::{Features, Outcome};

/// A feature takes a second or two where it waits on purpose; the rest is for a machine with much to do.
const FEATURE_LIMIT: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    let features = match env::args().nth(1).as_deref() {
        Some("versions") => {
            println!("{}", versions());
            return ExitCode::SUCCESS;
        }
        Some("redis-rs") => redis_rs::features::<redis_rs::Synchronous>(),
        Some("redis-rs tokio") => redis_rs::features::<redis_rs::Tokio>(),
        Some("fred") => fred::features(),
        _ => {
            eprintln!("usage: tars-clients 'redis-rs' | 'redis-rs tokio' | fred | versions");
            return ExitCode::from(2);
        }
    };
    for name in ["REDIS_URL", "CONTROL_URL", "PREFIX"] {
        if env::var(name).is_err() {
            eprintln!("{name} is not set");
            return ExitCode::from(2);
        }
    }
    run(features);
    ExitCode::SUCCESS
}

fn versions() -> serde_json::Value {
    let redis = locked("redis");
    json!({ "redis-rs": redis, "redis-rs tokio": redis, "fred": locked("fred") })
}

/// The version that `Cargo.lock` pins.
fn locked(name: &str) -> &'static str {
    let lock = include_str!("../../../../Cargo.lock");
    let rest = lock.split_once(&format!("name = \"{name}\"\nversion = \""));
    rest.and_then(|(_, rest)| rest.split('"').next())
        .unwrap_or("unknown")
}

fn run(features: Features) {
    for (name, feature) in features {
        let line = match bounded(feature) {
            Ok(None) => json!({ "feature": name, "ok": true }),
            Ok(Some(check::Remark::Note(note))) => {
                json!({ "feature": name, "ok": true, "note": note })
            }
            Ok(Some(check::Remark::Lacks(why))) => {
                json!({ "feature": name, "ok": null, "why": why, "note": why })
            }
            Err(failure) => json!({ "feature": name, "ok": false, "why": failure.to_string() }),
        };
        println!("{line}");
    }
}

/// A feature that takes too long is left behind, with its thread.
fn bounded(feature: fn() -> Outcome) -> Outcome {
    let (done, outcome) = mpsc::channel();
    thread::spawn(move || done.send(feature()));
    outcome.recv_timeout(FEATURE_LIMIT).unwrap_or_else(|why| {
        Err(match why {
            mpsc::RecvTimeoutError::Timeout => {
                check::failure(format!("no end after {FEATURE_LIMIT:?}"))
            }
            mpsc::RecvTimeoutError::Disconnected => check::failure("it panicked: see stderr"),
        })
    })
}
