//! Three services in three languages, in a row, with streams between them: none of them knows of the proxy or of traces.

use std::collections::HashMap;

use serde_json::Value;

use crate::cluster::{Namespace, PATIENCE, calm, eventually, has_proxy};
use crate::manifests::{CLUSTER, REDIS, Workload};

const MESSAGES: usize = 10_000;

/// The spans of a message in their order: name, service.
const CHAIN: [(&str, &str); 5] = [
    ("send orders", "orders"),
    ("process orders", "payments"),
    ("send payments", "payments"),
    ("process payments", "receipts"),
    ("send receipts", "receipts"),
];

/// Whether these spans are the chain, each the child of the one before.
fn is_chain(spans: &[&Value]) -> bool {
    let mut parent = &Value::Null;
    for (name, service) in CHAIN {
        let mut these = spans.iter().filter(|span| span["name"] == name);
        match (these.next(), these.next()) {
            (Some(span), None) if span["service"] == service && span["parent"] == *parent => {
                parent = &span["id"];
            }
            _ => return false,
        }
    }
    spans.len() == CHAIN.len()
}

/// Every message must be one trace, of services that are as `orders`, `payments` and `receipts` say.
fn assert_one_trace_a_message(namespace: &Namespace, services: [Workload; 3]) {
    let [orders, payments, receipts] = services;
    namespace.apply(&payments.manifest());
    namespace.apply(&receipts.manifest());
    for workload in ["payments", "receipts"] {
        namespace.wait_rollout(&format!("deployment/{workload}"));
    }
    // Not faster than a busy machine gets rid of spans: those that find the queue full are dropped, as documented.
    let orders = orders
        .env("COUNT", &MESSAGES.to_string())
        .env("PACE", "0.004");
    namespace.apply(&orders.manifest());

    // It ends, although its proxy would serve for ever.
    namespace.wait("job/orders", "condition=complete");
    let pods = ["orders", "payments", "receipts"].map(|app| namespace.pods(app));
    assert!(pods.iter().flatten().all(has_proxy), "{pods:#?}");
    assert_eq!(pods[0][0]["status"]["phase"], "Succeeded");

    eventually("every order has its receipt", PATIENCE, || {
        (namespace.redis_number("XLEN receipts") >= MESSAGES).then_some(())
    });
    // And those of what was said with goodbye.
    eventually("all spans have arrived", PATIENCE, || {
        (namespace.count_spans() > CHAIN.len() * MESSAGES).then_some(())
    });
    let spans = namespace.spans();
    let mut traces: HashMap<&str, Vec<&Value>> = HashMap::new();
    for span in spans.iter().filter(|span| span["name"] != "send goodbyes") {
        traces
            .entry(span["trace"].as_str().unwrap())
            .or_default()
            .push(span);
    }
    let linked = traces.values().filter(|spans| is_chain(spans)).count();
    let other = traces.values().find(|spans| !is_chain(spans));
    assert_eq!(
        (linked, traces.len()),
        (MESSAGES, MESSAGES),
        "another one: {other:#?}"
    );
}

#[test]
#[ignore = "needs a cluster: make e2e-k8s"]
fn every_message_is_one_trace_from_the_first_service_to_the_last() {
    let _calm = calm();
    let namespace = Namespace::injected("shop");
    namespace.apply(REDIS);
    namespace.wait_rollout("deployment/redis");
    let services = [
        Workload::new("Job", "orders"),
        Workload::new("Deployment", "payments").annotation("infer-parent", "connection"),
        Workload::new("Deployment", "receipts").annotation("infer-parent", "process"),
    ];
    assert_one_trace_a_message(&namespace, services);
}

#[test]
#[ignore = "needs a cluster: make e2e-k8s"]
fn in_transparent_mode_too_with_a_redis_cluster() {
    let _calm = calm();
    let namespace = Namespace::labelled("cluster", "privileged", &["tars.dev/inject=enabled"]);
    namespace.apply(CLUSTER);
    namespace.wait_rollout("statefulset/redis");
    let pods = namespace.pods("redis");
    let nodes = pods
        .iter()
        .map(|pod| format!("{}:6379", pod["status"]["podIP"].as_str().unwrap()));
    let nodes: Vec<String> = nodes.collect();
    let mut args = vec!["exec", "redis-0", "--", "redis-cli", "--cluster", "create"];
    args.extend(nodes.iter().map(String::as_str));
    namespace.kubectl(&[&args[..], &["--cluster-yes"]].concat());
    eventually("the cluster is formed", PATIENCE, || {
        namespace
            .redis("CLUSTER INFO")
            .contains("cluster_state:ok")
            .then_some(())
    });
    // The streams lie on different nodes, and so do the connections of one service.
    let slots = ["orders", "payments", "receipts"]
        .map(|key| namespace.redis_number(&format!("CLUSTER KEYSLOT {key}")) * 3 / 16384);
    assert!(slots.iter().any(|node| *node != slots[0]), "{slots:?}");

    let services = [
        ("Job", "orders"),
        ("Deployment", "payments"),
        ("Deployment", "receipts"),
    ];
    let services = services.map(|(kind, name)| {
        let workload = Workload::new(kind, name).env("CLUSTER", "yes");
        workload
            .annotation("mode", "transparent")
            .annotation("infer-parent", "process")
    });
    assert_one_trace_a_message(&namespace, services);
}
