//! Fragments out of JSON: what is right, and every way to be wrong.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn spec(observation: &Value, action: &Value, masked: bool) -> AgentSpec {
    serde_json::from_value(json!({
        "name": "a", "observation_space": observation, "action_space": action, "masked": masked,
    }))
    .expect("a specification")
}

fn cart() -> AgentSpec {
    spec(
        &json!({"type": "Box", "shape": [2]}),
        &json!({"type": "Discrete", "n": 3}),
        true,
    )
}

fn read(spec: &AgentSpec, fragment: Value) -> Result<Experience, String> {
    let fragment: FragmentSpec =
        serde_json::from_value(fragment).map_err(|error| error.to_string())?;
    fragment.check("fragments[0]", spec, &spec.validate().expect("sane"))
}

fn sound() -> Value {
    json!({
        "env_id": "one", "seq": 4, "policy_version": 2,
        "transitions": [
            {"observation": [1, 2], "action": 1, "log_prob": -0.5, "mask": [true, true, false], "reward": 1,
             "truncated": true, "final_observation": [3, 4]},
            {"observation": [5, 6], "action": 2, "log_prob": -1.5, "mask": [0, 0, 1], "reward": -1},
        ],
        "next_observation": [[7], [8]],
    })
}

#[test]
fn columns_of_a_sound_fragment() {
    let experience = read(&cart(), sound()).expect("sound");
    assert_eq!(experience.observations, [1.0, 2.0, 5.0, 6.0]);
    assert_eq!(experience.closings, [3.0, 4.0, 7.0, 8.0]);
    assert_eq!(experience.ends, [End::Truncated, End::GoesOn]);
    assert_eq!(experience.masks, [true, true, false, false, false, true]);
    assert_eq!((experience.seq, experience.version), (4, 2));
}

#[test]
fn indices_may_begin_anywhere() {
    let spec = spec(
        &json!({"type": "Discrete", "n": 3, "start": -1}),
        &json!({"type": "MultiDiscrete", "nvec": [2, 2]}),
        false,
    );
    let experience = read(
        &spec,
        json!({"env_id": 1, "seq": 0, "policy_version": 0,
        "transitions": [{"observation": -1, "action": [0, 1], "log_prob": 0, "reward": 0, "terminated": true}]}),
    )
    .expect("sound");
    assert_eq!(experience.observations, [0.0]);
    let mut room = Encoded::default();
    let spaces = spec.validate().expect("sane");
    let fragment = experience.fragment(0, &spaces.observation, &mut room);
    assert_eq!(fragment.observations, [1.0, 0.0, 0.0]);
}

#[test]
fn what_is_wrong_is_said() {
    type Change = fn(&mut Value);
    let cases: &[(Change, &str)] = &[
        (
            |f| f["transitions"] = json!([]),
            "fragments[0].transitions: expected at least one",
        ),
        (
            |f| {
                for transition in f["transitions"].as_array_mut().expect("an array") {
                    transition["observation"] = json!([1]);
                }
                f["transitions"][0]["final_observation"] = json!([1]);
            },
            "fragments[0].transitions[0].observation: expected 2 numbers for each of 2, found 2 in all",
        ),
        // As many in all as there should be: but whose?
        (
            |f| {
                f["transitions"][0]["observation"] = json!([1]);
                f["transitions"][0]["final_observation"] = json!([1]);
                f["transitions"][1]["observation"] = json!([2, 3, 4]);
            },
            "observation: expected as many numbers in each transition, found 1 in the first and 3 in transitions[1]",
        ),
        (
            |f| {
                f["transitions"][0]["action"] = json!([]);
                f["transitions"][1]["action"] = json!([1, 2]);
            },
            "action: expected as many numbers in each transition, found 0 in the first and 2 in transitions[1]",
        ),
        (
            |f| f["transitions"][0]["final_observation"] = json!([1, 2, 3]),
            "final_observation of transitions[0]: expected as many numbers as observation has, 2, found 3",
        ),
        (
            |f| f["seq"] = json!(u64::MAX - 1),
            "fragments[0].seq: expected at most 18446744073709551613 for 2 transitions",
        ),
        (
            |f| f["env_id"] = json!(-1),
            "expected env_id as a string, or as a whole number from 0 on",
        ),
        (
            |f| f["transitions"][0]["action"] = json!(3),
            "fragments[0].transitions[0].action: expected a whole number from 0 to 2, found 3",
        ),
        (
            |f| f["transitions"][0]["action"] = json!(0.5),
            "fragments[0].transitions[0].action: expected a whole number from 0 to 2, found 0.5",
        ),
        (
            |f| f["transitions"][1]["action"] = json!(0),
            "fragments[0].transitions[1].action: expected one that its mask allows, found 0",
        ),
        (
            |f| f["transitions"][1]["mask"] = json!([0, 0, 0]),
            "fragments[0].transitions[1].mask: expected at least one possible action of each choice",
        ),
        (
            |f| f["transitions"][1]["mask"] = json!([0, 0, 2]),
            "fragments[0].transitions[1].mask: expected true and false, or 1 and 0, found 2",
        ),
        (
            |f| f["transitions"][1]["mask"] = Value::Null,
            "mask: expected as many numbers in each transition, found 3 in the first and 0 in transitions[1]",
        ),
        (
            |f| f["transitions"][0]["final_observation"] = Value::Null,
            "fragments[0].transitions[0].final_observation: expected one, as the transition was truncated",
        ),
        (
            |f| f["next_observation"] = Value::Null,
            "fragments[0].next_observation: expected one, as the last transition did not end its episode",
        ),
        (
            |f| f["transitions"][0]["log_prob"] = json!(1e300),
            "expected a finite number of 32 bits, found 1e300",
        ),
        (
            |f| f["transitions"][0]["reward"] = json!(-1e39),
            "expected a finite number of 32 bits, found -1e39",
        ),
        (
            |f| f["transitions"][1]["log_prob"] = json!(0.002),
            "fragments[0].transitions[1].log_prob: expected at most 0, as the logarithm of a probability is, found 0.002",
        ),
        (
            |f| f["transitions"][1] = json!([[5, 6], 2, -1.5, [0, 0, 1], -1]),
            "invalid type: sequence, expected a transition: an object with observation, action, log_prob and reward",
        ),
        (
            |f| f["transitions"][0]["rewrd"] = json!(1),
            "unknown field `rewrd`, expected one of `observation`, `action`, `log_prob`, `mask`, `reward`, `terminated`, `truncated`, `final_observation`",
        ),
        (
            |f| f["env_id"] = json!("x".repeat(257)),
            "fragments[0].env_id: expected at most 256 bytes",
        ),
    ];
    for (change, said) in cases {
        let mut fragment = sound();
        change(&mut fragment);
        assert_eq!(read(&cart(), fragment).expect_err(said), *said);
    }
}

#[test]
fn a_density_may_exceed_one_and_a_probability_only_by_rounding() {
    let log_prob = |action: Value, value: Value, log_prob: f64| {
        let spec = spec(&json!({"type": "Box", "shape": [1]}), &action, false);
        let transition = json!({"observation": 0, "action": value, "log_prob": log_prob, "reward": 0, "terminated": true});
        read(
            &spec,
            json!({"env_id": 1, "seq": 0, "policy_version": 0, "transitions": [transition]}),
        )
        .is_ok()
    };
    let boxed = json!({"type": "Box", "shape": [1]});
    assert!(log_prob(boxed, json!(0), 7.0));
    for (action, value) in [
        (json!({"type": "Discrete", "n": 2}), json!(1)),
        (
            json!({"type": "MultiDiscrete", "nvec": [2, 2]}),
            json!([1, 0]),
        ),
        (json!({"type": "MultiBinary", "n": 1}), json!([1])),
    ] {
        assert!(log_prob(action.clone(), value.clone(), 1e-4), "{action}");
        assert!(!log_prob(action.clone(), value, 0.01), "{action}");
    }
}

fn experiences() -> impl Strategy<Value = Experience> {
    let ends = prop_oneof![
        Just(End::GoesOn),
        Just(End::Terminated),
        Just(End::Truncated)
    ];
    let numbers =
        || prop::collection::vec(any::<f32>().prop_filter("finite", |x| x.is_finite()), 0..20);
    let rows = prop::collection::vec((any::<i16>(), any::<i16>(), ends), 0..20);
    let masks = prop::collection::vec(any::<bool>(), 0..20);
    let heads = (any::<u64>(), any::<u64>(), any::<u64>());
    (heads, numbers(), numbers(), numbers(), masks, rows).prop_map(
        |((environment, seq, version), observations, actions, closings, masks, rows)| Experience {
            environment,
            seq,
            version,
            observations,
            actions,
            masks,
            closings,
            log_probs: rows.iter().map(|row| f32::from(row.0)).collect(),
            rewards: rows.iter().map(|row| f32::from(row.1)).collect(),
            ends: rows.iter().map(|row| row.2).collect(),
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_is_read(experience in experiences()) {
        let mut written = Vec::new();
        experience.write(&mut written);
        prop_assert_eq!(Experience::read(&written), Some(experience));
    }

    /// The journal's checksum stands before this; it is still no reason to panic.
    #[test]
    fn anything_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Experience::read(&bytes);
    }
}
