//! Every way in which the service says 503, and that it is over when its reason is.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::process::Command;

use serde_json::json;
use tars_tests::agent::{Agent, Answer, batch, cart, fragment, read};
use tars_tests::wait::{self, PATIENCE};

#[track_caller]
fn unavailable(answer: Answer, reason: &str, after: &str) -> String {
    assert_eq!(answer.header("retry-after"), Some(after));
    answer.problem(503, reason)
}

#[test]
fn while_agents_are_being_started_and_of_one_that_could_not_be() {
    let mut service = Agent::start();
    service.create(&cart("a", 64));
    service.kill();
    // Whoever reads a pipe waits for somebody who writes.
    let spec = service.data().join("a/agent.json");
    fs::remove_file(&spec).unwrap();
    assert!(
        Command::new("mkfifo")
            .arg(&spec)
            .status()
            .unwrap()
            .success()
    );
    service.spawn_again();
    let ask = json!({"observations": [0, 0, 0, 0]}).to_string();
    let act = || service.try_ask("POST", "/v1/agents/a/act", &[], ask.as_bytes());
    let answer = wait::until("it answers", PATIENCE, || act().ok());
    let sentence = unavailable(answer, "starting", "1");
    assert_eq!(sentence, "agents are being started");
    fs::write(&spec, "{").unwrap();
    service.wait_ready();
    let sentence = unavailable(service.post("/v1/agents/a/act", &json!({})), "failed", "5");
    assert!(
        sentence.starts_with("the agent could not be started: "),
        "{sentence}"
    );
    // It is there, and whoever makes it again is not told to delete it.
    let again = service.post("/v1/agents", &cart("a", 64));
    assert_eq!(unavailable(again, "failed", "5"), sentence);
    let failed = service.get("/v1/agents").expect(200)["failed"]["a"].take();
    assert!(sentence.ends_with(failed.as_str().unwrap()), "{sentence}");
    assert_eq!(service.metrics().sum("tars_agent_failed_agents", &[]), 1.0);
}

#[test]
fn when_the_disk_refuses() {
    let service = Agent::start();
    service.create(&cart("a", 64));
    // Nobody makes a directory where a file is.
    fs::write(service.data().join("b"), "").unwrap();
    let sentence = unavailable(service.post("/v1/agents", &cart("b", 64)), "disk", "5");
    assert!(sentence.contains("b: "), "{sentence}");
    fs::remove_file(service.data().join("b")).unwrap();
    service.create(&cart("b", 64));

    let (checkpoints, aside) = (
        service.data().join("a/checkpoints"),
        service.data().join("a/aside"),
    );
    fs::rename(&checkpoints, &aside).unwrap();
    fs::write(&checkpoints, "").unwrap();
    let pin = || service.post("/v1/agents/a/checkpoints", &json!({"pin": "mine"}));
    let _ = unavailable(pin(), "disk", "5");
    let act = service.post("/v1/agents/a/act", &json!({"observations": [0, 0, 0, 0]}));
    assert_eq!(act.status, 200, "it acts meanwhile");
    fs::remove_file(&checkpoints).unwrap();
    fs::rename(&aside, &checkpoints).unwrap();
    wait::until("it is written", PATIENCE, || {
        (pin().status == 201).then_some(())
    });
}

#[test]
fn experience_that_cannot_be_made_durable_is_logged_once_an_outage() {
    let service = Agent::start();
    service.create(&cart("a", 64));
    let (journal, aside) = (
        service.data().join("a/journal"),
        service.data().join("a/aside"),
    );
    let logged = |what: &str| {
        let log = service.stderr();
        let lines = log.lines().filter(|line| line.contains(what));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let send = || {
        service.post(
            "/v1/agents/a/experience",
            &batch("p", 0, fragment(0, 0, 0, 1)),
        )
    };
    fs::rename(&journal, &aside).unwrap();
    fs::write(&journal, "").unwrap();
    for _ in 0..3 {
        let _ = unavailable(send(), "disk", "5");
    }
    fs::remove_file(&journal).unwrap();
    fs::rename(&aside, &journal).unwrap();
    let _ = send().expect(200);
    // What had been accepted, and what is new.
    let _ = send().expect(200);
    for what in ["nothing is accepted", "can be made durable again"] {
        let lines = logged(what);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("agent=\"a\""), "{lines:?}");
    }
}

#[test]
fn of_an_agent_that_ends_while_experience_comes() {
    let service = Agent::start();
    service.create(&cart("a", 64));
    let body = batch("p", 0, fragment(0, 0, 0, 16)).to_string();
    let (first, rest) = body.split_at(10);
    // As many as may bring experience at once: one more is refused as soon as all of them have the agent.
    let mut held: Vec<TcpStream> = (0..32)
        .map(|_| {
            let mut stream = service.connect().unwrap();
            write!(
                stream,
                "POST /v1/agents/a/experience HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{first}",
                service.address(),
                body.len()
            )
            .unwrap();
            stream
        })
        .collect();
    wait::until("all have the agent", PATIENCE, || {
        let answer = service.post("/v1/agents/a/experience", &json!({}));
        (answer.status == 429).then_some(())
    });
    assert_eq!(service.ask("DELETE", "/v1/agents/a", &[], b"").status, 204);
    let mut last = held.pop().unwrap();
    last.write_all(rest.as_bytes()).unwrap();
    let _ = unavailable(read(last).unwrap(), "ending", "5");
}
