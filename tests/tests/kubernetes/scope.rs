//! Who gets the proxy, and that nothing else of a cluster is in its way.

use serde_json::Value;

use crate::cluster::{Namespace, calm, containers, has_proxy};
use crate::manifests::Workload;

/// The application's variable, in the pod as the API server has it.
fn redis_url(pod: &Value) -> &str {
    let app = pod["spec"]["containers"].as_array().unwrap();
    let app = app
        .iter()
        .find(|container| container["name"] == "app")
        .unwrap();
    let env = app["env"].as_array().unwrap();
    let variable = env
        .iter()
        .find(|variable| variable["name"] == "REDIS_URL")
        .unwrap();
    variable["value"].as_str().unwrap()
}

fn assert_untouched(pod: &Value) {
    assert!(!has_proxy(pod), "{pod:#}");
    assert_eq!(redis_url(pod), "redis://redis:6379/0");
    let annotations = &pod["metadata"]["annotations"];
    assert!(
        annotations.get("tars.dev/status").is_none(),
        "{annotations}"
    );
}

fn assert_injected(pod: &Value) {
    assert!(has_proxy(pod), "{pod:#}");
    assert_eq!(redis_url(pod), "redis://127.0.0.1:16380/0");
}

#[test]
#[ignore = "needs a cluster: make e2e-k8s"]
fn unlabelled_namespaces_and_pods_that_opt_out_are_untouched() {
    let _calm = calm();
    let pod = Workload::new("Pod", "orders");
    let unlabelled = Namespace::labelled("unlabelled", "restricted", &[]);
    unlabelled.apply(&pod.manifest());
    assert_untouched(&unlabelled.get("pod/orders"));

    let labelled = Namespace::injected("labelled");
    labelled.apply(&pod.label("tars.dev/inject", "disabled").manifest());
    assert_untouched(&labelled.get("pod/orders"));
    // The namespace is one that injects all the same.
    labelled.apply(&Workload::new("Pod", "payments").manifest());
    assert_injected(&labelled.get("pod/payments"));
}

#[test]
#[ignore = "needs a cluster: make e2e-k8s"]
fn what_is_applied_again_is_unchanged() {
    let _calm = calm();
    let namespace = Namespace::injected("again");
    let deployment = Workload::new("Deployment", "payments").manifest();
    let pod = Workload::new("Pod", "orders").manifest();
    for manifest in [&deployment, &pod] {
        namespace.apply(manifest);
    }
    namespace.wait_rollout("deployment/payments");
    namespace.wait("pod/orders", "condition=Ready");
    let before = ["deployment/payments", "pod/orders"].map(|what| namespace.get(what));
    let answer = namespace.apply(&deployment);
    assert!(
        answer.out.contains(" unchanged"),
        "{}{}",
        answer.out,
        answer.err
    );
    // Of a bare pod kubectl sends the variables as they were, and the webhook puts them back.
    namespace.apply(&pod);
    // A change of the pod itself passes, and takes nothing away.
    namespace.apply(&pod.replace("e2e: x", "e2e: other"));
    let after = ["deployment/payments", "pod/orders"].map(|what| namespace.get(what));
    for (before, after) in before.iter().zip(&after) {
        for field in ["uid", "generation"] {
            assert_eq!(before["metadata"][field], after["metadata"][field]);
        }
        assert_eq!(before["spec"], after["spec"]);
    }
    assert_eq!(after[1]["metadata"]["annotations"]["e2e"], "other");
}

#[test]
#[ignore = "needs a cluster: make e2e-k8s"]
fn a_dry_run_shows_the_proxy_and_leaves_nothing() {
    let _calm = calm();
    let namespace = Namespace::injected("dry");
    // Its annotation would cause an event, too.
    for (pod, injected) in [
        (Workload::new("Pod", "orders"), true),
        (
            Workload::new("Pod", "orders").annotation("mode", "sideways"),
            false,
        ),
    ] {
        let args = ["apply", "--dry-run=server", "--output=json", "-f", "-"];
        let answer = namespace.kubectl_with(&args, &pod.manifest());
        let shown: Value = serde_json::from_str(&answer.out).unwrap();
        assert_eq!(has_proxy(&shown), injected, "{shown:#}");
        assert_eq!(
            answer.err.contains("tars.dev/mode"),
            !injected,
            "{}",
            answer.err
        );
    }
    let left = namespace
        .kubectl(&["get", "pods,events", "--output=name"])
        .out;
    assert_eq!(left, "");
}

#[test]
#[ignore = "needs a cluster: make e2e-k8s"]
fn a_bad_annotation_leaves_the_pod_alone_with_a_warning_and_an_event() {
    let _calm = calm();
    let namespace = Namespace::injected("bad");
    let pod = Workload::new("Pod", "orders").annotation("mode", "sideways");
    let answer = namespace.apply(&pod.manifest());
    // Both replicas were asked, and it is said once.
    let said = |text: &str| {
        text.lines()
            .filter(|line| line.contains("tars.dev/mode"))
            .count()
    };
    assert!(
        answer.err.contains("Warning:") && said(&answer.err) == 1,
        "{}",
        answer.err
    );
    assert_untouched(&namespace.get("pod/orders"));
    let events = crate::cluster::eventually("an event", crate::cluster::PATIENCE, || {
        let events = namespace.kubectl(&["get", "events"]).out;
        events.contains("tars.dev/mode").then_some(events)
    });
    assert!(events.contains("Warning") && said(&events) == 1, "{events}");
}

const QUOTA: &str = "
apiVersion: v1
kind: ResourceQuota
metadata: {name: quota}
spec: {hard: {limits.cpu: '4', limits.memory: 2Gi, requests.cpu: '1', requests.memory: 1Gi, pods: '5'}}
";

const LIMIT_RANGE: &str = "
apiVersion: v1
kind: LimitRange
metadata: {name: limits}
spec: {limits: [{type: Container, default: {cpu: 500m, memory: 300Mi}, max: {cpu: '2', memory: 1Gi}}]}
";

#[test]
#[ignore = "needs a cluster: make e2e-k8s"]
fn a_quota_counts_the_proxy() {
    let _calm = calm();
    let namespace = Namespace::injected("quota");
    namespace.apply(QUOTA);
    namespace.wait("resourcequota/quota", "jsonpath={.status.hard}");
    // As the documentation says: the quota wants a limit of processor time, which the proxy has only if it is asked for.
    let pod = Workload::new("Pod", "orders").limits("{cpu: 500m, memory: 64Mi}");
    let refused = namespace.try_kubectl(&["apply", "-f", "-"], &pod.manifest());
    assert!(
        !refused.ok && refused.err.contains("limits.cpu for: tars-proxy"),
        "{}",
        refused.err
    );

    namespace.apply(&pod.annotation("proxy-cpu", "20m/1").manifest());
    let pod = namespace.get("pod/orders");
    assert_injected(&pod);
    let used = namespace.get("resourcequota/quota");
    assert_eq!(used["status"]["used"]["limits.cpu"], "1500m");
    assert_eq!(used["status"]["used"]["limits.memory"], "320Mi");
    assert_eq!(used["status"]["used"]["requests.cpu"], "30m");
}

#[test]
#[ignore = "needs a cluster: make e2e-k8s"]
fn a_limit_range_applies_to_the_proxy() {
    let _calm = calm();
    let namespace = Namespace::injected("range");
    for manifest in [QUOTA, LIMIT_RANGE] {
        namespace.apply(manifest);
    }
    namespace.wait("resourcequota/quota", "jsonpath={.status.hard}");
    namespace.apply(
        &Workload::new("Pod", "orders")
            .limits("{cpu: 500m, memory: 64Mi}")
            .manifest(),
    );
    let pod = namespace.get("pod/orders");
    assert_injected(&pod);
    assert_eq!(containers(&pod, "initContainers"), ["tars-proxy"]);
    let proxy = &pod["spec"]["initContainers"][0]["resources"];
    assert_eq!(proxy["limits"]["cpu"], "500m", "{proxy}");
    assert_eq!(proxy["limits"]["memory"], "256Mi", "{proxy}");
}
