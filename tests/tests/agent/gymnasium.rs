//! Environments of Gymnasium that the service knows nothing of, driven by the examples of its documentation as they are.

use std::path::Path;

use serde_json::Value;
use tars_tests::agent::Agent;
use tars_tests::parts;
use tars_tests::process::Process;
use tars_tests::server::Kind;
use tars_tests::stage::Stage;
use tars_tests::wait::PATIENCE;

/// What everything here learns with: updates of 64 transitions.
const SPEC: &str = r#"{"buffer": {"transitions": 512}, "hyperparameters": {"n_steps": 64, "batch_size": 64, "n_epochs": 10, "learning_rate": 0.003}}"#;

/// Runs an example to its end; whether it ended well, and what it said.
fn play(example: &str, environment: &[(&str, &str)], args: &[&str]) -> (bool, String) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let pinned = root.join("docs/examples/requirements.txt");
    let python = parts::locked("gymnasium", "gymnasium", &pinned).join("bin/python");
    let mut process = Process::start(&python, |command| {
        command
            .arg(root.join("docs/examples").join(example))
            .args(args)
            .env("PYTHONPATH", root.join("tests/clients/gymnasium"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .envs(environment.iter().copied());
    });
    let status = process.wait_exit(PATIENCE * 4);
    (status.success(), process.stdout() + &process.stderr())
}

/// Plays over HTTP, and tells how the agent did, which is called as the environment.
#[track_caller]
fn learns(service: &Agent, environment: &str, steps: u64) -> Value {
    let url = format!("http://{}", service.address());
    let args = [environment, &steps.to_string(), SPEC];
    let (well, said) = play("gymnasium_over_http.py", &[("SERVICE", &url)], &args);
    assert!(well, "{environment}: {said}");
    let name = environment.split(':').next_back().unwrap();
    let status = service.wait_status(name, "all but the last is settled", |status| {
        status["ledger"]["pending"].as_u64() < Some(64)
    });
    assert_eq!(
        status["ledger"]["accepted"], steps,
        "{environment}: {status}"
    );
    // The player waits for nobody: what it plays under a version that is too old by then is stale.
    assert!(
        status["ledger"]["trained"].as_u64() >= Some(128),
        "{environment}: {status}"
    );
    assert!(
        status["policy_version"].as_u64() > Some(1),
        "{environment}: {status}"
    );
    status
}

#[test]
fn discrete_continuous_and_masked_environments_are_played_and_learnt_from() {
    let service = Agent::start();
    learns(&service, "CartPole-v1", 640);
    learns(&service, "Pendulum-v1", 640);
    learns(&service, "Taxi-v4", 640);
    let taxi = service.get("/v1/agents/Taxi-v4").expect(200);
    assert_eq!(taxi["spec"]["masked"], true);
    assert_eq!(taxi["spec"]["observation_space"]["n"], 500);
}

#[test]
fn a_multi_discrete_environment_of_somebody_else_is_learnt() {
    let service = Agent::start();
    let status = learns(&service, "two_switches:TwoSwitches-v0", 4_096);
    // By chance it is 16 * (1/2 + 1/3) / 2 = 6.7, and 16 at best.
    assert!(status["mean_return"].as_f64() > Some(9.0), "{status}");
}

#[test]
fn an_environment_is_learnt_over_streams_and_one_that_cannot_be_is_refused() {
    let stage = Stage::of(Kind::Redis70);
    let redis = format!("redis://{}", stage.proxy.address());
    let service = Agent::builder().args(["--redis", &redis]).start();
    let url = format!("http://{}", service.address());
    let environment = [("SERVICE", url.as_str()), ("REDIS", redis.as_str())];
    let play = |name: &str| {
        play(
            "gymnasium_over_streams.py",
            &environment,
            &[name, "640", SPEC],
        )
    };
    let (well, said) = play("Acrobot-v1");
    assert!(well, "{said}");
    service.wait_status("Acrobot-v1-streams", "it has learnt", |status| {
        status["ledger"]["accepted"] == 640 && status["policy_version"].as_u64() > Some(1)
    });
    let (well, said) = play("Blackjack-v1");
    assert!(!well && said.contains("unknown variant `Tuple`"), "{said}");
}
