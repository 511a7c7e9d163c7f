//! The API server calls a webhook again when others changed the pod after it: whatever they did, the outcome is the same.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};
use tars_injector::inject::{Decision, Namespace, Outcome, Reason, inject};
use tars_injector::settings::{Settings, Version};
use tars_injector::status::Status;

fn namespace() -> Namespace {
    Namespace {
        name: "shop".to_owned(),
        labels: Some(BTreeMap::from([(
            "tars.dev/inject".to_owned(),
            "enabled".to_owned(),
        )])),
    }
}

fn settings(minor: u32) -> Settings {
    Settings {
        kubernetes_version: Some(Version { minor }),
        ..Settings::default()
    }
}

fn injected(pod: &Value, settings: &Settings) -> Outcome {
    inject(pod, "shop", &namespace(), settings)
}

fn simple() -> Value {
    json!({"metadata": {"name": "shop"}, "spec": {"containers": [
        {"name": "app", "image": "app", "env": [{"name": "REDIS_URL", "value": "redis://redis:6379"}]}]}})
}

fn find<'a>(pod: &'a mut Value, list: &str, name: &str) -> &'a mut Value {
    let all = pod["spec"][list].as_array_mut().unwrap();
    all.iter_mut().find(|one| one["name"] == name).unwrap()
}

#[test]
fn what_others_did_to_the_sidecar_stays() {
    for (minor, list) in [(34, "initContainers"), (28, "containers")] {
        let mut pod = injected(&simple(), &settings(minor)).pod;
        let proxy = find(&mut pod, list, "tars-proxy");
        // The API server's defaults and its token, a mirror of the registry, a policy.
        proxy["terminationMessagePath"] = json!("/dev/termination-log");
        proxy["startupProbe"]["successThreshold"] = json!(1);
        proxy["volumeMounts"] =
            json!([{"name": "kube-api-access", "mountPath": "/var/run/secrets"}]);
        proxy["image"] = json!("mirror.example/tars-proxy:1");
        proxy["env"]
            .as_array_mut()
            .unwrap()
            .push(json!({"name": "TEAM", "value": "shop"}));
        let again = injected(&pod, &settings(minor));
        assert_eq!(again.patch, [], "1.{minor}");

        // What the injector wants changed now changes, and only that.
        let newer = Settings {
            proxy_image: "tars-proxy:2".to_owned(),
            otlp_endpoint: Some("http://collector:4318".to_owned()),
            ..settings(minor)
        };
        let mut upgraded = injected(&pod, &newer).pod;
        let proxy = find(&mut upgraded, list, "tars-proxy");
        assert_eq!(proxy["image"], "tars-proxy:2");
        assert_eq!(proxy["startupProbe"]["successThreshold"], 1);
        assert_eq!(proxy["volumeMounts"][0]["name"], "kube-api-access");
        let env = proxy["env"].as_array().unwrap();
        let value = |name: &str| {
            env.iter()
                .filter(|entry| entry["name"] == name)
                .map(|entry| &entry["value"])
                .collect::<Vec<_>>()
        };
        assert_eq!(value("TEAM"), ["shop"]);
        assert_eq!(
            value("OTEL_EXPORTER_OTLP_ENDPOINT"),
            ["http://collector:4318"]
        );
        assert_eq!(value("TARS_LISTEN").len(), 1);
        assert_eq!(injected(&upgraded, &newer).patch, []);
    }
}

#[test]
fn containers_and_values_of_others_are_included() {
    let settings = settings(34);
    let mut pod = injected(&simple(), &settings).pod;
    let redis = json!([{"name": "REDIS_URL", "value": "redis://other:6379"}]);
    pod["spec"]["initContainers"]
        .as_array_mut()
        .unwrap()
        .insert(0, json!({"name": "early", "env": redis}));
    // Somebody points the application elsewhere: that is the original now.
    find(&mut pod, "containers", "app")["env"][0]["value"] = json!("redis://third:6379");
    let mut again = injected(&pod, &settings).pod;
    let names: Vec<_> = again["spec"]["initContainers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].clone())
        .collect();
    assert_eq!(names, ["tars-proxy", "early"]);
    assert_eq!(
        find(&mut again, "initContainers", "early")["env"][0]["value"],
        "redis://127.0.0.1:16380"
    );
    assert_eq!(
        find(&mut again, "containers", "app")["env"][0]["value"],
        "redis://127.0.0.1:16381"
    );
    let proxy = find(&mut again, "initContainers", "tars-proxy").to_string();
    assert!(
        proxy.contains("redis://third:6379") && !proxy.contains("redis://redis:6379"),
        "{proxy}"
    );
    assert_eq!(injected(&again, &settings).patch, []);
}

#[test]
fn opting_out_takes_everything_back() {
    let pod = injected(&simple(), &settings(28)).pod;
    for (minor, change) in [
        (34, json!({"labels": {"tars.dev/inject": "disabled"}})),
        (28, json!({"labels": {"tars.dev/inject": "disabled"}})),
    ] {
        let mut pod = pod.clone();
        pod["metadata"]["labels"] = change["labels"].clone();
        let outcome = injected(&pod, &settings(minor));
        assert_eq!(outcome.decision, Decision::Skipped(Reason::OptedOut));
        let mut expected = simple();
        expected["metadata"]["labels"] = change["labels"].clone();
        assert_eq!(outcome.pod, expected);
    }
}

/// A pod that says it listens on these ports.
fn declaring(ports: impl Iterator<Item = u16>, annotations: &Value) -> Value {
    let mut pod = simple();
    pod["metadata"]["annotations"] = annotations.clone();
    pod["spec"]["containers"][0]["ports"] =
        ports.map(|port| json!({"containerPort": port})).collect();
    pod
}

#[test]
fn no_port_of_the_application_is_taken() {
    // The last that is free, found among all others that are not, and none at all.
    let all_but_two = (16380..=u16::MAX).filter(|port| ![60_000, 60_001].contains(port));
    let mut pod = injected(&declaring(all_but_two, &json!({})), &settings(34)).pod;
    let proxy = find(&mut pod, "initContainers", "tars-proxy");
    assert_eq!(proxy["ports"][0]["containerPort"], 60_001);
    assert_eq!(
        find(&mut pod, "containers", "app")["env"][0]["value"],
        "redis://127.0.0.1:60000"
    );
    // Where connections are redirected to, too.
    let transparent = json!({"tars.dev/mode": "transparent"});
    let mut pod = injected(&declaring(16380..=16381, &transparent), &settings(34)).pod;
    let intercept = find(&mut pod, "initContainers", "tars-intercept");
    assert!(
        intercept["command"]
            .to_string()
            .contains(r#""--to","16382""#),
        "{intercept}"
    );
    let proxy = find(&mut pod, "initContainers", "tars-proxy");
    assert!(
        proxy["env"].to_string().contains("127.0.0.1:16382"),
        "{proxy}"
    );
    for (first, annotations) in [
        (16380, json!({})),
        (16380, transparent),
        (16380, json!({"tars.dev/agent": "enabled"})),
        (
            16380,
            json!({"tars.dev/env": "X", "tars.dev/upstream": "redis://r:1"}),
        ),
        (16381, json!({})),
        (19464, json!({"tars.dev/mode": "transparent"})),
    ] {
        let pod = declaring(first..=u16::MAX, &annotations);
        let outcome = injected(&pod, &settings(34));
        assert_eq!(outcome.decision, Decision::Skipped(Reason::NoPort));
        assert_eq!(outcome.patch, [], "{annotations}");
        let last = outcome.warnings.last().unwrap();
        assert!(last.contains("every port"), "{last}");
    }
}

/// The names are checked of what would be injected alone, and what the injector made itself is nobody else's.
#[test]
fn a_container_that_would_not_be_injected_may_bear_its_name() {
    for minor in [34, 28] {
        let mut pod = simple();
        for name in ["tars-agent", "tars-intercept"] {
            let spec = pod["spec"]["containers"].as_array_mut().unwrap();
            spec.push(json!({"name": name, "image": "mine"}));
        }
        let outcome = injected(&pod, &settings(minor));
        assert_eq!(outcome.decision, Decision::Injected, "1.{minor}");

        let mut pod = simple();
        pod["metadata"]["annotations"] =
            json!({"tars.dev/agent": "enabled", "tars.dev/mode": "transparent"});
        let once = injected(&pod, &settings(minor));
        let twice = injected(&once.pod, &settings(minor));
        assert_eq!(
            (once.decision, twice.decision, twice.patch),
            (Decision::Injected, Decision::Injected, vec![]),
            "1.{minor}"
        );
    }
}

#[test]
fn a_record_that_cannot_be_read_changes_nothing() {
    for status in ["", "no json", "{\"format\":99}", "[]"] {
        let mut pod = injected(&simple(), &settings(34)).pod;
        pod["metadata"]["annotations"]["tars.dev/status"] = json!(status);
        let outcome = injected(&pod, &settings(34));
        assert_eq!(
            outcome.decision,
            Decision::Skipped(Reason::BadAnnotation),
            "{status}"
        );
        assert_eq!(
            (outcome.patch, outcome.warnings.len()),
            (vec![], 1),
            "{status}"
        );
    }
}

fn variable() -> impl Strategy<Value = Value> {
    let value = prop_oneof![
        Just("redis://redis:6379"),
        Just("rediss://u:p@redis:6380/1?x=y"),
        Just("redis://:$(PASSWORD)@$(HOST)/0"),
        Just("redis://127.0.0.1:16380"),
        Just("other:7000"),
        Just("unix:/run/redis.sock"),
        Just("redis"),
        Just(""),
    ];
    let name = prop_oneof![
        Just("REDIS_URL"),
        Just("HOST"),
        Just("PORT"),
        Just("CACHE"),
        Just("X")
    ];
    let from = prop_oneof![
        Just(json!({"secretKeyRef": {"name": "s", "key": "a"}})),
        Just(json!({"secretKeyRef": {"name": "s", "key": "b", "optional": true}})),
        Just(json!({"configMapKeyRef": {"name": "c", "key": "a"}})),
        Just(json!({"resourceFieldRef": {"resource": "limits.cpu"}})),
    ];
    (name, prop_oneof![value.prop_map(|value| ("value", json!(value))), from.prop_map(|from| ("valueFrom", from))])
        .prop_map(|(name, (kind, value))| json!({"name": name, kind: value, "unknown": {"kept": [1.5, null]}}))
}

fn container(name: String) -> impl Strategy<Value = Value> {
    (
        prop::collection::vec(variable(), 0..5),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(move |(env, env_from, sidecar, port)| {
            let mut container = json!({"name": name, "image": "i", "env": env, "unknown": "kept"});
            if env_from {
                container["envFrom"] = json!([{"configMapRef": {"name": "c"}}]);
            }
            if sidecar {
                container["restartPolicy"] = json!("Always");
            }
            if port {
                container["ports"] = json!([{"containerPort": 16380}]);
            }
            container
        })
}

fn pod() -> impl Strategy<Value = Value> {
    let env = prop_oneof![
        Just("REDIS_URL"),
        Just("REDIS_URL,CACHE,HOST+PORT"),
        Just("X,HOST"),
        Just("?"),
        Just("")
    ];
    let list = |prefix: &'static str, size: std::ops::Range<usize>| {
        prop::collection::vec(any::<()>(), size).prop_flat_map(move |all| {
            (0..all.len())
                .map(|number| container(format!("{prefix}{number}")))
                .collect::<Vec<_>>()
        })
    };
    let extra = prop::collection::btree_map(
        prop_oneof![
            Just(("agent", "enabled")),
            Just(("upstream", "redis://elsewhere:1")),
            Just(("proxy-memory", "64Mi")),
            Just(("mode", "transparent")),
        ],
        Just(()),
        0..2,
    );
    (env, list("init", 0..3), list("app", 1..3), extra).prop_map(|(env, init, apps, extra)| {
        let mut pod = json!({"metadata": {"name": "p", "annotations": {"tars.dev/env": env, "other": "kept"}},
            "spec": {"containers": apps, "volumes": [{"name": "v"}], "unknown": true}});
        for ((name, value), ()) in extra {
            pod["metadata"]["annotations"][format!("tars.dev/{name}")] = json!(value);
        }
        if !init.is_empty() {
            pod["spec"]["initContainers"] = json!(init);
        }
        pod
    })
}

/// JSON that looks like parts of a pod, in places where it does not belong.
fn odd() -> impl Strategy<Value = Value> {
    let key = prop::sample::select(vec![
        "metadata",
        "annotations",
        "labels",
        "ownerReferences",
        "spec",
        "containers",
        "initContainers",
        "volumes",
        "imagePullSecrets",
        "env",
        "envFrom",
        "name",
        "value",
        "valueFrom",
        "secretKeyRef",
        "ports",
        "containerPort",
        "resources",
        "limits",
        "securityContext",
        "restartPolicy",
        "tars.dev/env",
        "tars.dev/agent",
        "tars.dev/status",
        "tars.dev/upstream",
    ]);
    let word = prop::sample::select(vec![
        "REDIS_URL",
        "redis://redis:1",
        "$(REDIS_URL)",
        "rediss://a@b",
        "enabled",
        "tars-proxy",
        "",
        "é",
        "Always",
        r#"{"format":1,"variables":[{"list":"containers","container":"","name":"REDIS_URL","was":"absent","now":""}],"containers":{"x":{},"containers/":{}}}"#,
    ]);
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        word.prop_map(Value::from)
    ];
    leaf.prop_recursive(7, 96, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(key.clone(), inner, 0..6).prop_map(|map| json!(map)),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_comes_is_decided_about(metadata in odd(), spec in odd(), containers in odd(), minor in prop_oneof![Just(34u32), Just(28)]) {
        let mut pod = json!({"metadata": metadata, "spec": spec});
        if let Some(spec) = pod["spec"].as_object_mut() {
            spec.insert("containers".to_owned(), json!([containers, {"name": "a", "env": [{"name": "REDIS_URL", "value": "r:1"}]}]));
        }
        let once = injected(&pod, &settings(minor));
        let patch: json_patch::Patch = serde_json::from_value(json!(once.patch)).unwrap();
        let mut patched = pod.clone();
        json_patch::patch(&mut patched, &patch).unwrap();
        prop_assert_eq!(&patched, &once.pod);
        prop_assert_eq!(injected(&patched, &settings(minor)).patch, vec![]);
        let _ = tars_injector::update::keep(&once.pod, &pod);
    }

    #[test]
    fn a_second_call_changes_nothing_and_all_can_be_taken_back(pod in pod(), minor in prop_oneof![Just(34u32), Just(28)]) {
        let settings = settings(minor);
        let once = injected(&pod, &settings);
        let patch: json_patch::Patch = serde_json::from_value(json!(once.patch)).unwrap();
        let mut patched = pod.clone();
        json_patch::patch(&mut patched, &patch).unwrap();
        prop_assert_eq!(&patched, &once.pod);
        let twice = injected(&patched, &settings);
        prop_assert_eq!(&twice.patch, &vec![]);
        prop_assert_eq!(&twice.decision, &once.decision);
        prop_assert_eq!(&twice.warnings, &once.warnings);
        let mut back = once.pod;
        if let Some(status) = Status::read(&back).unwrap() {
            status.undo(&mut back);
        }
        prop_assert_eq!(back, pod);
    }

    #[test]
    fn a_container_that_comes_later_is_treated_as_if_it_had_been_there(
        pod in pod(),
        init in container("late-init".to_owned()),
        late in container("late".to_owned()),
    ) {
        let settings = settings(34);
        let with = |mut pod: Value| {
            let spec = pod["spec"].as_object_mut().unwrap();
            for (list, one) in [("initContainers", &init), ("containers", &late)] {
                spec.entry(list).or_insert_with(|| json!([])).as_array_mut().unwrap().push(one.clone());
            }
            pod
        };
        let later = injected(&with(injected(&pod, &settings).pod), &settings);
        prop_assert_eq!(later.pod, injected(&with(pod), &settings).pod);
    }
}
