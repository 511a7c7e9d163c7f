//! How pods with the proxy come and go.

use std::collections::BTreeSet;

use crate::cluster::{Namespace, PATIENCE, calm, eventually, has_proxy};
use crate::manifests::{REDIS, Workload};

/// The values of the field `order` in a stream; each once, unless it is there twice.
fn orders(namespace: &Namespace, stream: &str) -> (usize, BTreeSet<String>) {
    let entries = namespace.redis(&format!("XRANGE {stream} - +"));
    let lines: Vec<&str> = entries.lines().collect();
    let values = lines
        .windows(2)
        .filter(|pair| pair[0] == "order")
        .map(|pair| pair[1].to_owned());
    let values: Vec<String> = values.collect();
    (values.len(), values.into_iter().collect())
}

#[test]
#[ignore = "needs a cluster: make e2e-k8s"]
fn a_rolling_restart_loses_no_message() {
    let _calm = calm();
    let namespace = Namespace::injected("rolling");
    namespace.apply(REDIS);
    namespace.wait_rollout("deployment/redis");
    for workload in [
        Workload::new("Deployment", "orders").env("PACE", "0.01"),
        Workload::new("Deployment", "payments").replicas(2),
        Workload::new("Deployment", "receipts").replicas(2),
    ] {
        namespace.apply(&workload.manifest());
    }
    let apps = ["orders", "payments", "receipts"];
    let deployments = apps.map(|app| format!("deployment/{app}"));
    for deployment in &deployments {
        namespace.wait_rollout(deployment);
    }
    let names = |app: &str| -> BTreeSet<String> {
        let pods = namespace.pods(app);
        pods.iter()
            .map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let before = apps.map(names);
    eventually("messages flow", PATIENCE, || {
        (namespace.redis_number("XLEN receipts") > 50).then_some(())
    });
    for deployment in &deployments {
        namespace.kubectl(&["rollout", "restart", deployment]);
    }
    for deployment in &deployments {
        namespace.wait_rollout(deployment);
    }
    // A program that is told to end before it listens for that is killed in the end.
    let new = names("orders");
    eventually("the new pod makes orders", PATIENCE, || {
        let made = orders(&namespace, "orders").1;
        let by = |pod: &String| made.iter().any(|order| order.starts_with(pod.as_str()));
        new.iter()
            .filter(|pod| !before[0].contains(*pod))
            .any(by)
            .then_some(())
    });
    // Who makes orders says how many they were when it ends.
    namespace.kubectl(&["scale", "deployment/orders", "--replicas=0"]);
    eventually("no pod is as before", PATIENCE, || {
        let after = apps.map(names);
        let same = before
            .iter()
            .zip(&after)
            .any(|(before, after)| !before.is_disjoint(after));
        (!same && after[0].is_empty()).then_some(())
    });
    let sent: usize = namespace
        .redis("HVALS sent")
        .lines()
        .map(|n| n.parse::<usize>().unwrap())
        .sum();
    eventually("every order has its receipt", PATIENCE, || {
        (orders(&namespace, "receipts").1.len() >= sent).then_some(())
    });
    for stream in ["orders", "payments", "receipts"] {
        let (entries, different) = orders(&namespace, stream);
        assert_eq!((entries, different.len()), (sent, sent), "{stream}");
    }
    assert_eq!(namespace.redis("HGETALL faults"), "");
    for (stream, group) in [("orders", "payments"), ("payments", "receipts")] {
        let pending = namespace.redis(&format!("XPENDING {stream} {group}"));
        assert_eq!(pending.lines().next(), Some("0"), "{stream}: {pending}");
    }
}

#[test]
#[ignore = "needs a cluster: make e2e-k8s"]
fn the_proxy_outlives_the_application_and_hands_over_its_last_spans() {
    let _calm = calm();
    let namespace = Namespace::injected("drain");
    namespace.apply(REDIS);
    namespace.wait_rollout("deployment/redis");
    let apps = ["orders", "payments", "receipts"];
    for app in apps {
        // Seconds after SIGTERM, in which a proxy that does not wait would end.
        let pod = Workload::new("Pod", app)
            .env("LINGER", "3")
            .env("PACE", "0.1");
        namespace.apply(&pod.manifest());
    }
    for app in apps {
        namespace.wait(&format!("pod/{app}"), "condition=Ready");
        assert!(has_proxy(&namespace.pods(app)[0]));
    }
    eventually("a message has come through", PATIENCE, || {
        (namespace.redis_number("XLEN receipts") > 0).then_some(())
    });

    namespace.kubectl(&["delete", "pod", "orders", "payments", "receipts"]);
    assert_eq!(namespace.redis("HGETALL faults"), "");
    assert_eq!(namespace.redis("XLEN goodbyes"), "3");
    let goodbyes = namespace.redis("XRANGE goodbyes - +");
    let spans = eventually("the last spans have arrived", PATIENCE, || {
        let spans = namespace.spans();
        let last = spans
            .into_iter()
            .filter(|span| span["name"] == "send goodbyes");
        let last: Vec<_> = last.collect();
        (last.len() == 3).then_some(last)
    });
    for span in &spans {
        let id = span["message"].as_str().unwrap();
        assert!(
            goodbyes.lines().any(|line| line == id),
            "{span} is none of {goodbyes}"
        );
    }
    let pods: BTreeSet<&str> = spans
        .iter()
        .filter_map(|span| span["pod"].as_str())
        .collect();
    assert_eq!(pods, BTreeSet::from(apps));
}
