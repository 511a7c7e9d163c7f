//! What bounds a client, and what it cannot do to others.

use std::io::{Read as _, Write as _};
use std::thread;

use serde_json::json;
use tars_tests::agent::{Agent, batch, cart, fragment, read};
use tars_tests::wait::{self, PATIENCE};

#[test]
fn a_full_buffer_is_back_pressure_and_nothing_acknowledged_is_lost() {
    let service = Agent::start();
    let mut spec = cart("a", 64);
    spec["buffer"] = json!({"transitions": 64});
    service.create(&spec);
    assert_eq!(
        service.ask("POST", "/v1/agents/a/pause", &[], b"").status,
        200
    );
    let mut accepted = 0;
    let refused = (0..).find_map(|seq| {
        let answer = service.post(
            "/v1/agents/a/experience",
            &batch("p", seq, fragment(0, seq * 16, 0, 16)),
        );
        if answer.status == 200 {
            accepted += 16;
            return None;
        }
        Some(answer)
    });
    let refused = refused.unwrap();
    assert_eq!(refused.header("retry-after"), Some("1"));
    let _ = refused.problem(429, "full");
    let status = service.status("a");
    assert_eq!(status["ledger"]["pending"], accepted);
    assert_eq!(status["paused"], "paused by request");
    let act = service.post("/v1/agents/a/act", &json!({"observations": [0, 0, 0, 0]}));
    assert_eq!(act.status, 200, "it acts meanwhile");
}

#[test]
fn a_slow_body_is_answered_and_holds_up_nobody() {
    let service = Agent::start();
    service.create(&cart("a", 64));
    let mut slow = service.connect().unwrap();
    write!(slow, "POST /v1/agents/a/act HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{{", service.address()).unwrap();
    let others = service.post("/v1/agents/a/act", &json!({"observations": [0, 0, 0, 0]}));
    assert_eq!(others.status, 200);
    let sentence = read(slow).unwrap().problem(408, "slow");
    assert_eq!(sentence, "expected the whole body within 10 seconds");
}

#[test]
fn whoever_trickles_a_large_body_loses_its_place_to_others() {
    let service = Agent::start();
    service.create(&cart("a", 64));
    // It takes all the room that large bodies have, and then its time.
    let mut slow = service.connect().unwrap();
    write!(slow, "POST /v1/agents/a/act HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", service.address(), 8 << 20).unwrap();
    slow.write_all(&[b' '; 20 << 10]).unwrap();
    // Others are answered meanwhile, which takes longer than to see what it has sent.
    assert_eq!(service.get("/v1/agents/a").status, 200);
    let rows = vec![[0.25; 4]; 4_096];
    let others = service.post("/v1/agents/a/act", &json!({"observations": rows}));
    assert_eq!(others.status, 200, "{}", others.json());
    let sentence = read(slow).unwrap().problem(408, "slow");
    assert_eq!(
        sentence,
        "expected a body of more than 16384 bytes at 1048576 bytes a second, after 1 second"
    );
}

#[test]
fn who_rests_makes_room_once_all_connections_are_taken() {
    let service = Agent::builder().args(["--max-connections", "3"]).start();
    service.create(&cart("a", 64));
    let host = service.address();
    // One has been answered, one is within its headers, and one within its body.
    let mut idle = service.connect().unwrap();
    write!(idle, "GET /v1/agents/a HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
    assert!(idle.read(&mut [0; 1 << 16]).unwrap() > 0);
    let mut half = service.connect().unwrap();
    write!(half, "GET /v1/agents/a HTTP/1.1\r\nHost:").unwrap();
    let mut busy = service.connect().unwrap();
    write!(busy, "POST /v1/agents/a/act HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: 33\r\nConnection: close\r\n\r\n").unwrap();
    // Those who come get the places of the two who rest, and neither that of the third.
    let mut others = Vec::new();
    for _ in 0..2 {
        let mut other = service.connect().unwrap();
        write!(other, "GET /v1/agents HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
        assert!(other.read(&mut [0; 1 << 16]).unwrap() > 0);
        others.push(other);
    }
    assert_eq!(idle.read(&mut [0; 8]).unwrap_or(0), 0);
    assert_eq!(half.read(&mut [0; 8]).unwrap_or(0), 0);
    busy.write_all(b"{\"observations\":[[1, 2, 3, 4.0]]}")
        .unwrap();
    assert_eq!(read(busy).unwrap().status, 200);
}

#[test]
fn an_agent_that_is_asked_too_much_holds_up_no_other() {
    let service = Agent::start();
    for name in ["greedy", "other"] {
        service.create(&cart(name, 64));
    }
    // Each holds a turn of the greedy one until its body has come.
    let mut held: Vec<_> = (0..64).map(|_| {
        let mut stream = service.connect().unwrap();
        write!(stream, "POST /v1/agents/greedy/act HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: 33\r\n\r\n", service.address()).unwrap();
        stream
    }).collect();
    let ask = |name: &str| {
        service.post(
            &format!("/v1/agents/{name}/act"),
            &json!({"observations": [0, 0, 0, 0]}),
        )
    };
    let answer = wait::until("its turns are taken", PATIENCE, || {
        Some(ask("greedy")).filter(|answer| answer.status == 429)
    });
    let sentence = answer.problem(429, "busy");
    assert!(
        sentence.contains("at most 64 requests to act"),
        "{sentence}"
    );
    assert_eq!(ask("other").status, 200);
    for stream in &mut held {
        stream
            .write_all(b"{\"observations\":[[1, 2, 3, 4.0]]}")
            .unwrap();
    }
    wait::until("its turns are free again", PATIENCE, || {
        Some(ask("greedy")).filter(|answer| answer.status == 200)
    });
}

#[test]
fn large_bodies_of_one_do_not_stop_another_from_acting() {
    let service = Agent::start();
    for name in ["large", "other"] {
        service.create(&cart(name, 2048));
    }
    let body = json!({"observations": vec![[0.123_456_789, 1.5, -2.25, 1e-3]; 4_096]});
    thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..5 {
                        let answer = service.post("/v1/agents/large/act", &body).expect(200);
                        assert_eq!(answer["actions"].as_array().unwrap().len(), 4_096);
                    }
                })
            })
            .collect();
        while workers.iter().any(|worker| !worker.is_finished()) {
            assert_eq!(
                service
                    .post(
                        "/v1/agents/other/act",
                        &json!({"observations": [0, 0, 0, 0]})
                    )
                    .status,
                200
            );
        }
    });
}

#[test]
fn the_policy_is_downloaded_once_and_checkpoints_are_kept_by_name() {
    let service = Agent::start();
    service.create(&cart("a", 64));
    let answer = service.get("/v1/agents/a/policy");
    assert_eq!(
        (answer.status, answer.header("tars-policy-version")),
        (200, Some("0"))
    );
    let length = usize::try_from(u64::from_le_bytes(answer.body[..8].try_into().unwrap())).unwrap();
    assert!(
        answer.body[8..8 + length].starts_with(b"{"),
        "safetensors begin with their header"
    );
    let tag = answer.header("etag").unwrap();
    let again = service.ask("GET", "/v1/agents/a/policy", &[("If-None-Match", tag)], b"");
    assert_eq!((again.status, again.body.len()), (304, 0));
    let kept = service
        .post("/v1/agents/a/checkpoints", &json!({"pin": "first"}))
        .expect(201);
    assert_eq!(kept["pins"], json!(["first"]));
    for round in 0..7 {
        let sent = batch("p", round, fragment(0, round * 64, round, 64));
        let _ = service.post("/v1/agents/a/experience", &sent).expect(200);
        service.wait_status("a", "an update", |status| {
            status["policy_version"] == round + 1
        });
    }
    let new = service.ask("GET", "/v1/agents/a/policy", &[("If-None-Match", tag)], b"");
    assert_eq!(
        (new.status, new.header("tars-policy-version")),
        (200, Some("7"))
    );
    let all = service.get("/v1/agents/a/checkpoints").expect(200);
    let all = all["checkpoints"].as_array().unwrap().clone();
    assert!(all.iter().any(|one| one["name"] == kept["name"]), "{all:?}");
    assert!(
        all.len() <= 7,
        "the latest 5, the best, and the one that is kept: {all:?}"
    );
    let history = service.get("/v1/agents/a/metrics?since=5").expect(200);
    assert_eq!(history["points"].as_array().unwrap().len(), 2);
    assert!(history["points"][1]["approx_kl"].is_number());
}
