//! Every kind of space that Gymnasium names, over HTTP alone.

use serde_json::{Value, json};
use tars_tests::agent::Agent;

fn agent(service: &Agent, name: &str, observation: &Value, action: &Value, masked: bool) {
    service.create(&json!({
        "name": name, "observation_space": observation, "action_space": action, "masked": masked,
        "hyperparameters": {"n_steps": 8, "batch_size": 8, "n_epochs": 1},
    }));
}

/// Acts, sends what came of it, and waits for the update.
fn learn(service: &Agent, name: &str, observations: &[Value], masks: Option<&Value>) -> Value {
    let mut asked = json!({"observations": observations});
    if let Some(masks) = masks {
        asked["masks"] = masks.clone();
    }
    let answer = service
        .post(&format!("/v1/agents/{name}/act"), &asked)
        .expect(200);
    let transitions: Vec<Value> = (0..observations.len())
        .map(|at| {
            let mut transition = json!({
                "observation": observations[at], "action": answer["actions"][at], "log_prob": answer["log_probs"][at],
                "reward": 0.5, "truncated": at + 1 == observations.len(),
            });
            if at + 1 == observations.len() {
                transition["final_observation"] = observations[0].clone();
            }
            if let Some(masks) = masks {
                transition["mask"] = masks[at].clone();
            }
            transition
        })
        .collect();
    let sent = json!({"producer": "p", "epoch": 1, "seq": 0, "fragments": [
        {"env_id": "e", "seq": 0, "policy_version": answer["policy_version"], "transitions": transitions}]});
    let accepted = service
        .post(&format!("/v1/agents/{name}/experience"), &sent)
        .expect(200);
    assert_eq!(accepted["accepted"], 8);
    service.wait_status(name, "an update", |status| status["policy_version"] == 1);
    answer
}

#[test]
fn discrete_multi_discrete_masked_binary_and_continuous() {
    let service = Agent::start();
    let pairs: Vec<Value> = (0..8).map(|n| json!([n, -n])).collect();
    let boxed = json!({"type": "Box", "shape": [2]});

    agent(
        &service,
        "discrete",
        &json!({"type": "Discrete", "n": 5, "start": 10}),
        &json!({"type": "Discrete", "n": 3, "start": -7}),
        false,
    );
    let observations: Vec<Value> = (0..8).map(|n| json!(10 + n % 5)).collect();
    let answer = learn(&service, "discrete", &observations, None);
    for (raw, env) in answer["actions"]
        .as_array()
        .unwrap()
        .iter()
        .zip(answer["env_actions"].as_array().unwrap())
    {
        assert_eq!(env.as_i64().unwrap(), raw.as_i64().unwrap() - 7);
    }

    agent(
        &service,
        "multi",
        &json!({"type": "MultiDiscrete", "nvec": [3, 9]}),
        &json!({"type": "MultiDiscrete", "nvec": [2, 4]}),
        false,
    );
    let observations: Vec<Value> = (0..8).map(|n| json!([n % 3, n])).collect();
    let answer = learn(&service, "multi", &observations, None);
    for row in answer["actions"].as_array().unwrap() {
        assert!(
            row[0].as_u64().unwrap() < 2 && row[1].as_u64().unwrap() < 4,
            "{row}"
        );
    }

    agent(
        &service,
        "masked",
        &boxed,
        &json!({"type": "Discrete", "n": 3}),
        true,
    );
    let masks = json!(vec![[false, true, false]; 8]);
    let answer = learn(&service, "masked", &pairs, Some(&masks));
    assert_eq!(
        answer["actions"],
        json!([1, 1, 1, 1, 1, 1, 1, 1]),
        "only what its mask allows"
    );
    let sentence = service
        .post("/v1/agents/masked/act", &json!({"observations": [[0, 0]]}))
        .problem(422, "invalid");
    assert!(
        sentence.contains("masks: expected one for each"),
        "{sentence}"
    );

    agent(
        &service,
        "binary",
        &json!({"type": "MultiBinary", "n": 2}),
        &json!({"type": "MultiBinary", "n": 3}),
        false,
    );
    let bits: Vec<Value> = (0..8).map(|n| json!([n % 2, n / 4])).collect();
    let answer = learn(&service, "binary", &bits, None);
    assert_eq!(answer["actions"][0].as_array().unwrap().len(), 3);

    agent(
        &service,
        "continuous",
        &boxed,
        &json!({"type": "Box", "shape": [2], "low": -0.01, "high": [0.01, null]}),
        false,
    );
    let answer = learn(&service, "continuous", &pairs, None);
    for row in answer["env_actions"].as_array().unwrap() {
        assert!(
            row[0].as_f64().unwrap().abs() <= 0.0101,
            "{row} is within its bounds"
        );
    }
    let likeliest = |_| {
        service
            .post(
                "/v1/agents/continuous/act",
                &json!({"observations": [1, 2], "deterministic": true}),
            )
            .expect(200)["actions"]
            .clone()
    };
    assert_eq!(likeliest(()), likeliest(()));
}
