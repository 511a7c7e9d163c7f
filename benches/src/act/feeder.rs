//! Sends experience at a steady pace, so that an agent keeps learning; the echo gets as many bytes as often.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::json;
use tars_tests::address::Address;
use tars_tests::http::post;

use super::{NAME, Running, Server, status};

/// Of a request, and of an update.
pub(super) const TRANSITIONS: usize = 2_048;
/// How often they come: an update takes most of this.
const EVERY: Duration = Duration::from_millis(125);

/// Sends until it is dropped.
pub(super) struct Feeder {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Feeder {
    pub(super) fn start(to: &Running) -> Self {
        let (stop, at, server) = (Arc::new(AtomicBool::new(false)), to.at(), to.server);
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            // Written once: the client's own work is not what is measured.
            let transitions = transitions();
            let (begin, mut due) = (Instant::now(), Duration::ZERO);
            let mut seq = 0;
            while !stopped.load(Relaxed) {
                if server == Server::Axum || !behind(&at) {
                    send(server, &at, &transitions, seq);
                    seq += 1;
                }
                due += EVERY;
                thread::sleep(due.saturating_sub(begin.elapsed()));
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

/// Whether more would come than can be learnt from here: it would be stale.
fn behind(at: &Address) -> bool {
    status(at, "/ledger/pending") >= 2 * TRANSITIONS as u64
}

fn send(server: Server, at: &Address, transitions: &str, seq: usize) {
    let (path, version) = match server {
        Server::Agent => (
            format!("/v1/agents/{NAME}/experience"),
            status(at, "/policy_version"),
        ),
        Server::Axum => ("/100".to_owned(), 0),
    };
    let at_seq = seq * TRANSITIONS;
    let batch = format!(
        r#"{{"producer":"bench","epoch":1,"seq":{seq},"fragments":[{{"env_id":0,"seq":{at_seq},"policy_version":{version},"transitions":{transitions}}}]}}"#
    );
    let answer = post(at, &path, "application/json", batch.as_bytes());
    let answer = answer.unwrap_or_else(|error| panic!("{path}: {error}"));
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
}

fn transitions() -> String {
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
    let all: Vec<_> = (0..TRANSITIONS).map(transition).collect();
    json!(all).to_string()
}
