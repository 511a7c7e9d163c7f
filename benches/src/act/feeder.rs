//! Keeps an agent learning: sends as much as an update takes whenever less than that waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::{Value, json};
use tars_tests::address::Address;
use tars_tests::http::post;

use super::{NAME, Running, status};

/// Of a request, and of an update.
pub(super) const TRANSITIONS: usize = 2_048;
/// How often it is asked what waits: often enough beside an update, and not as often as to count.
const EVERY: Duration = Duration::from_millis(20);

/// Sends until it is dropped.
pub(super) struct Feeder {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Feeder {
    pub(super) fn start(to: &Running) -> Self {
        let (stop, at) = (Arc::new(AtomicBool::new(false)), to.at());
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let transitions = transitions();
            let mut seq = 0;
            while !stopped.load(Relaxed) {
                if !send(&at, &transitions, &mut seq) {
                    thread::sleep(EVERY);
                }
            }
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            // A thread that has panicked has said why.
            let _ = thread.join();
        }
    }
}

/// Sends a fragment if an update could begin with it, and says whether it did.
fn send(at: &Address, transitions: &Value, seq: &mut u64) -> bool {
    if status(at, "/ledger/pending") >= TRANSITIONS as u64 {
        return false;
    }
    let fragment = json!({
        "env_id": 0,
        "seq": *seq * TRANSITIONS as u64,
        "policy_version": status(at, "/policy_version"),
        "transitions": transitions,
    });
    let batch = json!({"producer": "bench", "epoch": 1, "seq": *seq, "fragments": [fragment]});
    let path = format!("/v1/agents/{NAME}/experience");
    let answer = post(at, &path, "application/json", batch.to_string().as_bytes());
    let answer = answer.unwrap_or_else(|error| panic!("{path}: {error}"));
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    *seq += 1;
    true
}

fn transitions() -> Value {
    let transition = |at: usize| {
        let x = at as f64 / TRANSITIONS as f64;
        json!({
            "observation": [x, -x, 0.5 - x, 0.25],
            "action": at % 2,
            "log_prob": -0.69,
            "reward": 1.0,
            "terminated": at % 100 == 99 || at + 1 == TRANSITIONS,
        })
    };
    (0..TRANSITIONS).map(transition).collect()
}
