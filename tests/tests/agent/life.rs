//! An agent's life: made, asked, taught, ended, and there again.

use serde_json::json;
use tars_tests::agent::{Agent, batch, cart, fragment, run_to_end};
use tars_tests::wait;

#[test]
fn an_agent_is_made_acts_learns_and_is_there_after_a_restart() {
    let mut service = Agent::start();
    let made = service.post("/v1/agents", &cart("a", 64));
    assert_eq!(made.header("location"), Some("/v1/agents/a"));
    let made = made.expect(201);
    assert_eq!(made["status"]["policy_version"], 0);
    let same = service.post("/v1/agents", &cart("a", 64)).expect(200);
    assert_eq!(same["spec"], made["spec"]);
    let sentence = service
        .post("/v1/agents", &cart("a", 128))
        .problem(409, "exists");
    assert!(sentence.contains("delete it first"), "{sentence}");
    assert!(
        sentence.contains("hyperparameters.n_steps differs"),
        "{sentence}"
    );

    let answer = service
        .post(
            "/v1/agents/a/act",
            &json!({"observations": [[0, 0, 0, 0], [1, 1, 1, 1]]}),
        )
        .expect(200);
    assert_eq!(answer["actions"], answer["env_actions"]);
    for part in ["actions", "log_probs", "values"] {
        assert_eq!(answer[part].as_array().unwrap().len(), 2, "{part}");
    }
    assert!(answer["actions"][0].is_u64(), "an index is a whole number");

    for seq in 0..2 {
        let sent = batch("p", seq, fragment(0, seq * 32, 0, 32));
        let answer = service.post("/v1/agents/a/experience", &sent).expect(200);
        assert_eq!(
            (&answer["accepted"], &answer["duplicates"]),
            (&json!(32), &json!(0))
        );
    }
    let status = service.wait_status("a", "an update", |status| status["policy_version"] == 1);
    assert_eq!(
        status["ledger"],
        json!({"accepted": 64, "trained": 64, "stale": 0, "dropped": 0, "pending": 0})
    );

    let stop = |verb: &str| service.ask("POST", &format!("/v1/agents/a/{verb}"), &[], b"");
    assert_eq!((stop("pause").status, stop("resume").status), (200, 200));
    let kept = service.data().join("a");
    let (ended, inspected, said) = run_to_end(&["inspect", kept.to_str().unwrap()]);
    assert!(ended.success(), "{said}");
    assert!(
        inspected.contains("a/checkpoints/checkpoint-000000000001"),
        "{inspected}"
    );

    service.drain();
    let log = wait::until("its last line", wait::PATIENCE, || {
        let log = service.stderr();
        log.trim_end().ends_with("stopped").then_some(log)
    });
    for line in [
        "created agent=\"a\"",
        "paused agent=\"a\"",
        "resumed agent=\"a\"",
    ] {
        assert!(log.contains(line), "{line}: {log}");
    }
    service.start_again();
    let status = service.status("a");
    assert_eq!(status["policy_version"], 1);
    assert_eq!(status["ledger"]["trained"], 64);
    // It knows what it was sent before.
    let again = batch("p", 1, fragment(0, 32, 0, 32));
    let answer = service.post("/v1/agents/a/experience", &again).expect(200);
    assert_eq!(
        (&answer["accepted"], &answer["duplicates"]),
        (&json!(0), &json!(1))
    );
    assert_eq!(service.ask("DELETE", "/v1/agents/a", &[], b"").status, 204);
    let sentence = service.get("/v1/agents/a").problem(404, "unknown_agent");
    assert!(sentence.contains("\"a\""), "{sentence}");
}
