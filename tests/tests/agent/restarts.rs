//! What is known of episodes and of learning is the same after a restart, whatever ended the process.

use serde_json::{Value, json};
use tars_tests::agent::{Agent, batch, cart, fragment};
use tars_tests::wait::{self, PATIENCE};

/// Steps of an episode. Fragments are of other lengths, so that episodes go on from one to the next.
const EPISODE: u64 = 7;
const TOTAL: u64 = 1_000;
const LONGEST: u64 = 64;
/// Transitions of an update: fragments do not fill it evenly.
const UPDATE: usize = 100;

/// Transitions `from` to `to` of one environment whose episodes earn as much as their number says.
fn steps(from: u64, to: u64, version: u64) -> Value {
    let transition = |at: u64| {
        let earned = if at.is_multiple_of(EPISODE) {
            at / EPISODE
        } else {
            0
        };
        json!({
            "observation": [0.1, -0.2, 0.3, 0.0], "action": 0, "log_prob": -0.69, "reward": earned,
            "terminated": (at + 1).is_multiple_of(EPISODE),
        })
    };
    let transitions: Vec<Value> = (from..to).map(transition).collect();
    json!({
        "env_id": "e", "seq": from, "policy_version": version, "transitions": transitions,
        "next_observation": [0.0, 0.0, 0.0, 0.0],
    })
}

/// Holds what is said of episodes against what was accepted: transitions `0..to`.
#[track_caller]
fn check(status: &Value, to: u64) {
    assert_eq!(status["ledger"]["accepted"], to);
    let episodes = to / EPISODE;
    let window = episodes.min(100);
    // The latest earned their numbers.
    let mean = (window > 0).then(|| (episodes - window + episodes - 1) as f64 / 2.0);
    let parts = ["episodes", "window", "mean_return"].map(|part| &status[part]);
    assert_eq!(parts, [&json!(episodes), &json!(window), &json!(mean)]);
}

#[test]
fn episodes_are_counted_once_whatever_ends_the_process_in_between() {
    let mut service = Agent::start();
    let mut spec = cart("a", UPDATE);
    spec["buffer"] = json!({"max_policy_lag": 1_000});
    service.create(&spec);
    let (mut sent, mut seq) = (0, 0);
    while sent < TOTAL {
        // Lengths from 1 to the longest, one after the other.
        let to = (sent + 1 + seq * 29 % LONGEST).min(TOTAL);
        let body = batch("p", seq, steps(sent, to, 0));
        let _ = service.post("/v1/agents/a/experience", &body).expect(200);
        (sent, seq) = (to, seq + 1);
        if seq % 4 != 0 {
            continue;
        }
        if seq % 3 == 0 {
            let written = service.post("/v1/agents/a/checkpoints", &json!({}));
            let _ = written.expect(201);
        }
        if seq % 5 < 2 {
            service.drain();
        } else {
            service.kill();
        }
        service.start_again();
        check(&service.status("a"), sent);
        // In every other life nothing is learnt: much waits then when it ends.
        if seq % 8 == 0 {
            let _ = service.post("/v1/agents/a/pause", &json!({})).expect(200);
        }
    }
    assert!(seq > 25, "{seq} fragments are too few");
    check(&service.status("a"), TOTAL);
}

#[test]
fn the_curves_of_learning_go_on_after_a_restart() {
    let mut service = Agent::start();
    service.create(&cart("a", 16));
    let points = |service: &Agent, count: usize| {
        wait::until("so many updates are told of", PATIENCE, || {
            let answer = service.get("/v1/agents/a/metrics").expect(200);
            let points = answer["points"].as_array().unwrap().clone();
            (points.len() == count).then_some(points)
        })
    };
    let mut known = Vec::new();
    for life in 0..3 {
        assert_eq!(points(&service, known.len()), known);
        let sent = batch("p", life, fragment(0, 16 * life, life, 16));
        let _ = service.post("/v1/agents/a/experience", &sent).expect(200);
        known = points(&service, known.len() + 1);
        assert_eq!(known.last().unwrap()["updates"], life + 1);
        if life == 0 {
            service.drain();
        } else {
            service.kill();
        }
        service.start_again();
    }
    assert_eq!(points(&service, 3), known);
}
