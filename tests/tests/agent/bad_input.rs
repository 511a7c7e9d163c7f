//! Whatever a client does wrong: a sentence that says what was expected, and nothing is lost.

use serde_json::{Value, json};
use tars_tests::agent::{Agent, batch, cart, fragment, run_to_end};

/// The answer to a POST of this text.
fn refused(service: &Agent, path: &str, body: &str, status: u16, reason: &str, says: &str) {
    let answer = service.ask("POST", path, &[], body.as_bytes());
    let sentence = answer.problem(status, reason);
    assert!(sentence.contains(says), "{path} {body:.200}: {sentence}");
}

#[test]
fn agents_that_cannot_be() {
    let service = Agent::start();
    let before = service.get("/v1/agents").expect(200);
    let with = |key: &str, value: Value| {
        let mut spec = cart("a", 64);
        spec[key] = value;
        spec.to_string()
    };
    let boxed = |shape: Value| json!({"type": "Box", "shape": shape});
    for (body, status, reason, says) in [
        (String::new(), 400, "json", "expected JSON"),
        ("{\"name\":".to_owned(), 400, "json", "line 1 column 8"),
        ("nonsense".to_owned(), 400, "json", "expected JSON"),
        ("{}".to_owned(), 422, "invalid", "missing field `name`"),
        (
            "[]".to_owned(),
            422,
            "invalid",
            "expected an object with name",
        ),
        (
            with("name", json!("../etc")),
            422,
            "invalid",
            "a name has 1 to 63",
        ),
        (
            with("name", json!("a/b")),
            422,
            "invalid",
            "a name has 1 to 63",
        ),
        (
            with("name", json!("a".repeat(64))),
            422,
            "invalid",
            "a name has 1 to 63",
        ),
        (with("colour", json!(1)), 422, "invalid", "colour"),
        (
            with("observation_space", json!({"type": "Text"})),
            422,
            "invalid",
            "observation_space",
        ),
        (
            with(
                "observation_space",
                json!({"type": "Discrete", "n": 5, "start": 100_000_001}),
            ),
            422,
            "invalid",
            "between -16777216 and 16777216",
        ),
        (
            with(
                "action_space",
                json!({"type": "Discrete", "n": 3, "start": i64::MAX}),
            ),
            422,
            "invalid",
            "between -16777216 and 16777216",
        ),
        (
            with("observation_space", json!("Box")),
            422,
            "invalid",
            "an object with a type",
        ),
        // A terabyte, and more than can be counted.
        (
            with("observation_space", boxed(json!([1_000_000_000_000_u64]))),
            422,
            "invalid",
            "1 to 1048576 numbers",
        ),
        (
            with(
                "observation_space",
                boxed(json!([4_294_967_296_u64, 4_294_967_296_u64])),
            ),
            422,
            "invalid",
            "1 to 1048576 numbers",
        ),
        (
            with("observation_space", boxed(json!([0]))),
            422,
            "invalid",
            "1 to 1048576 numbers",
        ),
        (
            with("action_space", json!({"type": "Discrete", "n": 0})),
            422,
            "invalid",
            "n of a Discrete space",
        ),
        (
            with("action_space", json!({"type": "Discrete", "n": -1})),
            422,
            "invalid",
            "action_space",
        ),
        (
            with("hyperparameters", json!({"gamma": 2.0})),
            422,
            "invalid",
            "gamma = 2",
        ),
        (
            with("hyperparameters", json!({"gama": 0.9})),
            422,
            "invalid",
            "gama",
        ),
        (
            with("buffer", json!({"transitions": 1})),
            422,
            "invalid",
            "buffer.transitions = 1",
        ),
        // Sane by itself, and more than there is.
        (
            with("buffer", json!({"transitions": 10_000_000})),
            409,
            "over_budget",
            "and this agent takes ",
        ),
        (
            with("observation_space", json!({"type": "Discrete", "n": -1})),
            422,
            "invalid",
            "expected a whole number from 0 on",
        ),
        (
            "{\"name\": NaN}".to_owned(),
            400,
            "json",
            "neither NaN nor Infinity",
        ),
    ] {
        refused(&service, "/v1/agents", &body, status, reason, says);
    }
    let all = service.get("/v1/agents").expect(200);
    assert_eq!(all["agents"], json!([]));
    assert_eq!(all["memory"], before["memory"], "nothing is left behind");
}

#[test]
fn experience_and_observations_that_do_not_suit() {
    let service = Agent::start();
    service.create(&cart("a", 64));
    let act = "/v1/agents/a/act";
    for (body, status, reason, says) in [
        (
            "{\"observations\": [[1, 2, 3]]}",
            422,
            "invalid",
            "4 numbers",
        ),
        (
            "{\"observations\": []}",
            422,
            "invalid",
            "1 to 4096 of 4 numbers",
        ),
        (
            "{\"observations\": [[1, 2, 3], [1, 2, 3, 4, 5]]}",
            422,
            "invalid",
            "rows of different lengths",
        ),
        ("5", 422, "invalid", "an object with observations"),
        (
            "{\"observations\": [[1, 2, 3, \"4\"]]}",
            422,
            "invalid",
            "observations[0][3]",
        ),
        (
            "{\"observations\": [[1, 2, 3, null]]}",
            422,
            "invalid",
            "observations[0][3]",
        ),
        (
            "{\"observations\": [[1, 2, 3, 1e39]]}",
            422,
            "invalid",
            "not finite",
        ),
        (
            "{\"observations\": [[1, 2, 3, 1e999]]}",
            400,
            "json",
            "number out of range",
        ),
        (
            "{\"observations\": [[1, 2, 3, NaN]]}",
            400,
            "json",
            "column 29",
        ),
        (
            "{\"observations\": [[1, 2, 3, Infinity]]}",
            400,
            "json",
            "expected JSON",
        ),
        (
            "{\"observations\": [[1, 2, 3, 4]], \"masks\": [[true, true]]}",
            422,
            "invalid",
            "masks: expected none",
        ),
        (
            "{\"observations\": [[1, 2, 3, 4]], \"greedy\": true}",
            422,
            "invalid",
            "greedy",
        ),
        ("{\"observations\": [[1, 2, 3, 4]]", 400, "json", "EOF"),
    ] {
        refused(&service, act, body, status, reason, says);
    }
    let deep = format!(
        "{{\"observations\": {}1{}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    refused(&service, act, &deep, 422, "invalid", "more than 10 deep");
    let many = json!({"observations": vec![[0, 0, 0, 0]; 4_097]}).to_string();
    refused(&service, act, &many, 422, "invalid", "1 to 4096");

    let path = "/v1/agents/a/experience";
    let wrong = |key: &str, value: Value| {
        let mut sent = fragment(0, 0, 0, 2);
        sent["transitions"][1][key] = value;
        batch("p", 0, sent).to_string()
    };
    for (body, says) in [
        (
            wrong("observation", json!([1, 2, 3])),
            "observation: expected as many numbers in each transition, found 4 in the first and 3 in transitions[1]",
        ),
        (
            wrong("action", json!(2)),
            "fragments[0].transitions[1].action: expected a whole number from 0 to 1, found 2",
        ),
        (
            wrong("action", json!(0.5)),
            "fragments[0].transitions[1].action: expected a whole number from 0 to 1, found 0.5",
        ),
        (
            wrong("reward", json!("a")),
            "fragments[0].transitions[1].reward",
        ),
        (
            wrong("reward", json!(1e300)),
            "fragments[0].transitions[1].reward: expected a finite number of 32 bits, found 1e300",
        ),
        (
            wrong("log_prob", json!(0.5)),
            "fragments[0].transitions[1].log_prob: expected at most 0, as the logarithm of a probability is, found 0.5",
        ),
        (
            wrong("terminated", json!(false)),
            "next_observation: expected one",
        ),
        (
            wrong("mask", json!([true, true])),
            "mask: expected as many numbers in each transition, found 0 in the first",
        ),
        (
            batch("p", 0, fragment(0, u64::MAX, 0, 2)).to_string(),
            "fragments[0].seq: expected at most 18446744073709551613",
        ),
        (wrong("truncated", json!(1)), "truncated"),
        (batch("", 0, fragment(0, 0, 0, 2)).to_string(), "producer"),
        (
            batch("p", 0, fragment(0, 0, 7, 2)).to_string(),
            "policy_version: expected at most 0",
        ),
        (
            json!({"producer": "p", "epoch": 1, "seq": 0, "fragments": []}).to_string(),
            "fragments: expected 1 to 1024",
        ),
        (
            json!({"producer": "p", "epoch": -1, "seq": 0, "fragments": []}).to_string(),
            "epoch",
        ),
    ] {
        refused(&service, path, &body, 422, "invalid", says);
    }
    refused(
        &service,
        path,
        &batch("p", 3, fragment(0, 0, 0, 2)).to_string(),
        409,
        "out_of_order",
        "seq = 0",
    );
    let accepted = service
        .post(path, &batch("p", 0, fragment(0, 0, 0, 2)))
        .expect(200);
    assert_eq!(
        accepted["accepted"], 2,
        "what was refused has changed nothing"
    );
    refused(
        &service,
        path,
        &batch("p", 2, fragment(0, 2, 0, 2)).to_string(),
        409,
        "out_of_order",
        "1 comes next",
    );
    let ledger = &service.status("a")["ledger"];
    assert_eq!(
        (&ledger["accepted"], &ledger["pending"]),
        (&json!(2), &json!(2))
    );
    let refusals = |reason| {
        service
            .metrics()
            .sum("tars_agent_http_refused_total", &[("reason", reason)])
    };
    assert!(refusals("invalid") >= 20.0);
    assert!(refusals("out_of_order") >= 2.0);
}

#[test]
fn paths_methods_and_bodies_that_are_none() {
    let service = Agent::builder().args(["--max-body", "64KiB"]).start();
    service.create(&cart("a", 64));
    for path in [
        "/nothing",
        "/v1/agents/",
        "/v1/agents/..",
        "/v1/agents/../../etc/passwd",
        "/v1/agents/..%2f..%2fetc%2fpasswd/policy",
        "/v1/agents/a/../a",
        "/v1/agents/.lock",
        "/v1/agents/a%00",
    ] {
        let sentence = service.get(path).problem(404, "not_found");
        assert!(sentence.contains("/openapi.json"), "{path}: {sentence}");
    }
    let sentence = service
        .get("/v1/agents/b/policy")
        .problem(404, "unknown_agent");
    assert_eq!(sentence, "there is no agent named \"b\"");
    let answer = service.ask("PUT", "/v1/agents/a", &[], b"");
    assert_eq!(answer.header("allow"), Some("GET, HEAD, DELETE"));
    assert_eq!(answer.problem(405, "method"), "expected GET, HEAD, DELETE");
    let text = [("Content-Type", "text/plain")];
    let sentence = service
        .ask("POST", "/v1/agents/a/act", &text, b"{}")
        .problem(415, "media_type");
    assert!(sentence.contains("application/json"), "{sentence}");
    let sentence = service
        .ask("POST", "/v1/agents/a/act", &[], &vec![b' '; (64 << 10) + 1])
        .problem(413, "too_large");
    assert!(sentence.contains("at most 65536 bytes"), "{sentence}");
    let since = service
        .get("/v1/agents/a/metrics?since=x")
        .problem(422, "invalid");
    assert!(since.contains("since"), "{since}");

    let pin = service
        .post("/v1/agents/a/checkpoints", &json!({"pin": "../x"}))
        .problem(422, "invalid");
    assert!(pin.contains("pin: expected"), "{pin}");
}

#[test]
fn an_agent_that_the_disk_does_not_let_go_of_stays() {
    let service = Agent::start();
    service.create(&cart("a", 64));
    let delete = || service.ask("DELETE", "/v1/agents/a", &[], b"");
    // Where an agent is put before it is removed.
    let taken = service.data().join(".removed-a");
    std::fs::write(&taken, "").unwrap();
    let said = delete().problem(503, "disk");
    assert!(said.contains("Not a directory"), "{said}");
    let _ = service.status("a");
    let observations = json!({"observations": [[0, 0, 0, 0]]});
    let _ = service.post("/v1/agents/a/act", &observations).expect(200);
    std::fs::remove_file(&taken).unwrap();
    let _ = delete().expect(204);
    let _ = service.get("/v1/agents/a").expect(404);
}

#[test]
fn a_start_that_cannot_be_is_one_sentence() {
    let service = Agent::start();
    let data = service.data().display().to_string();
    let none = ["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    for (args, says) in [
        (vec!["--data", &data], "belongs to another tars-agent"),
        (vec!["--data", "/proc/nothing"], "--data: /proc/nothing"),
        (
            vec!["--data", "/proc/self/status"],
            "--data: /proc/self/status: this is no directory",
        ),
        (
            vec!["--data", &data, "--token-file", "/nothing"],
            "--token-file: /nothing",
        ),
        (
            vec![
                "--data",
                &data,
                "--tls-cert",
                "/nothing",
                "--tls-key",
                "/nothing",
            ],
            "/nothing",
        ),
    ] {
        let all: Vec<&str> = none.iter().copied().chain(args).collect();
        let (status, _, said) = run_to_end(&all);
        assert_eq!(status.code(), Some(64), "{said}");
        assert!(
            said.contains(says) && said.trim_end().lines().count() == 1,
            "{said}"
        );
    }
    let (status, _, said) = run_to_end(&["serve", "--memory", "much"]);
    assert_eq!(status.code(), Some(64));
    assert!(said.contains("expected a size such as 256MiB"), "{said}");
    for (flag, value, says) in [
        ("--memory", "10", "such as 64MiB"),
        (
            "--memory",
            "1KiB",
            "--memory: the memory budget of 1024 bytes",
        ),
        ("--max-body", "1GiB", "--max-body: the memory budget of"),
        ("--workers", "0", "expected a whole number from 1 to 64"),
        (
            "--max-connections",
            "x",
            "expected a whole number from 1 to",
        ),
        ("--log-level", "loud", "info,tars_sidecar=debug"),
    ] {
        let elsewhere = tempfile::tempdir().unwrap();
        let data = elsewhere.path().to_str().unwrap();
        let args = [&none[..], &["--data", data, flag, value]].concat();
        let (status, _, said) = run_to_end(&args);
        assert_eq!(status.code(), Some(64), "{flag} {value}: {said}");
        assert!(said.contains(says), "{flag} {value}: {said}");
    }
}
