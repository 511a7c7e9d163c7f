//! Three services in three languages, in a row, with streams between them: none of them knows of the proxy or of traces.

use std::collections::HashMap;

use serde_json::Value;

use crate::cluster::{Namespace, PATIENCE, calm, eventually, has_proxy};
use crate::manifests::{REDIS, Workload};

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

#[test]
#[ignore = "needs a cluster: make e2e-k8s"]
fn every_message_is_one_trace_from_the_first_service_to_the_last() {
    let _calm = calm();
    let namespace = Namespace::injected("shop");
    namespace.apply(REDIS);
    let payments = Workload::new("Deployment", "payments").annotation("infer-parent", "connection");
    let receipts = Workload::new("Deployment", "receipts").annotation("infer-parent", "process");
    namespace.apply(&payments.manifest());
    namespace.apply(&receipts.manifest());
    for workload in ["redis", "payments", "receipts"] {
        namespace.wait_rollout(&format!("deployment/{workload}"));
    }
    namespace.apply(
        &Workload::new("Job", "orders")
            .env("COUNT", &MESSAGES.to_string())
            .manifest(),
    );

    // It ends, although its proxy would serve for ever.
    namespace.wait("job/orders", "condition=complete");
    let pods = ["orders", "payments", "receipts"].map(|app| namespace.pods(app));
    assert!(pods.iter().flatten().all(has_proxy), "{pods:#?}");
    assert_eq!(pods[0][0]["status"]["phase"], "Succeeded");

    eventually("every order has its receipt", PATIENCE, || {
        (namespace.redis_number("XLEN receipts") >= MESSAGES).then_some(())
    });
    eventually("all spans have arrived", PATIENCE, || {
        (namespace.count_spans() >= CHAIN.len() * MESSAGES).then_some(())
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
