//! What is down: the injector, one replica of it, Redis, the collector.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::Value;

use crate::cluster::{
    Namespace, PATIENCE, TARS, calm, eventually, has_proxy, kubectl, storm, try_kubectl,
};
use crate::manifests::{REDIS, Workload};

#[test]
#[ignore = "needs a cluster: make e2e-k8s"]
fn pods_start_with_redis_and_the_collector_down() {
    let _calm = calm();
    let namespace = Namespace::injected("down");
    // Nobody answers to these names yet, or ever.
    let payments =
        Workload::new("Deployment", "payments").annotation("otlp-endpoint", "http://nobody:4317");
    namespace.apply(&payments.manifest());
    namespace.wait_rollout("deployment/payments");
    let pod = &namespace.pods("payments")[0];
    assert!(has_proxy(pod), "{pod:#}");

    namespace.apply(REDIS);
    namespace.wait_rollout("deployment/redis");
    namespace.apply(&Workload::new("Job", "orders").env("COUNT", "10").manifest());
    eventually("the orders are paid", PATIENCE, || {
        (namespace.redis("XLEN payments") == "10").then_some(())
    });
    let pod = &namespace.pods("payments")[0];
    for kind in ["initContainerStatuses", "containerStatuses"] {
        assert_eq!(pod["status"][kind][0]["restartCount"], 0, "{pod:#}");
    }
}

/// Brings the injector back, whatever became of the test.
struct Restored;

impl Drop for Restored {
    fn drop(&mut self) {
        for args in [
            &[
                "--namespace",
                TARS,
                "scale",
                "deployment/tars-injector",
                "--replicas=2",
            ][..],
            &[
                "--namespace",
                TARS,
                "rollout",
                "status",
                "--timeout=120s",
                "deployment/tars-injector",
            ],
        ] {
            let answer = try_kubectl(args, "");
            assert!(answer.ok || thread::panicking(), "{}", answer.err);
        }
    }
}

#[test]
#[ignore = "needs a cluster: make e2e-k8s"]
fn pods_start_while_the_injector_is_down() {
    let _storm = storm();
    let namespace = Namespace::injected("alone");
    let restored = Restored;
    kubectl(
        &[
            "--namespace",
            TARS,
            "scale",
            "deployment/tars-injector",
            "--replicas=0",
        ],
        "",
    );
    let gone = [
        "wait",
        "--for=delete",
        "--timeout=60s",
        "pod",
        "--selector=app.kubernetes.io/name=tars-injector",
    ];
    kubectl(&[&["--namespace", TARS], &gone[..]].concat(), "");

    namespace.apply(&Workload::new("Pod", "orders").manifest());
    namespace.wait("pod/orders", "condition=Ready");
    assert!(!has_proxy(&namespace.get("pod/orders")));

    drop(restored);
    eventually("pods get the proxy again", PATIENCE, || {
        has_proxy(&created(&namespace)).then_some(())
    });
}

/// The pod that would be, if it were created now.
fn created(namespace: &Namespace) -> Value {
    let args = ["create", "--dry-run=server", "--output=json", "-f", "-"];
    let answer = namespace.kubectl_with(&args, &Workload::new("Pod", "payments").manifest());
    serde_json::from_str(&answer.out).unwrap()
}

/// Kills one process of the injector, from a pod that sees those of its node.
const KILLER: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: killer, labels: {app: killer}}
spec:
  hostPID: true
  restartPolicy: Never
  containers:
    - name: killer
      image: tars-e2e-orders:1
      command:
        - /usr/bin/python3
        - -c
        - |
          import os
          for pid in filter(str.isdigit, os.listdir("/proc")):
              try:
                  program = open(f"/proc/{pid}/cmdline").read().split("\0")[0]
              except OSError:
                  continue
              if program == "/tars-injector":
                  os.kill(int(pid), 9)
                  break
          else:
              raise SystemExit("no injector on this node")
"#;

/// How often the containers of the injector ended so far.
fn restarts() -> u64 {
    let args = [
        "get",
        "pods",
        "--selector=app.kubernetes.io/name=tars-injector",
        "--output=json",
    ];
    let pods = kubectl(&[&["--namespace", TARS], &args[..]].concat(), "").out;
    let pods: Value = serde_json::from_str(&pods).unwrap();
    let pods = pods["items"].as_array().unwrap().clone();
    let restarts = pods
        .iter()
        .map(|pod| &pod["status"]["containerStatuses"][0]["restartCount"]);
    restarts.filter_map(Value::as_u64).sum()
}

/// Says so when it is dropped, by a failure too.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
#[ignore = "needs a cluster: make e2e-k8s"]
fn one_replica_is_killed_and_no_review_fails() {
    let _storm = storm();
    let _restored = Restored;
    let namespace = Namespace::injected("killed");
    let killers = Namespace::labelled("killers", "privileged", &[]);
    let before = restarts();
    let done = AtomicBool::new(false);
    let (reviews, failed) = thread::scope(|scope| {
        let ended = Ended(&done);
        let reviewing = scope.spawn(|| {
            let (mut reviews, mut failed) = (0, 0);
            while !done.load(Ordering::Relaxed) {
                reviews += 1;
                failed += usize::from(!has_proxy(&created(&namespace)));
            }
            (reviews, failed)
        });
        killers.apply(KILLER);
        killers.wait("pod/killer", "jsonpath={.status.phase}=Succeeded");
        eventually("a replica has ended", PATIENCE, || {
            (restarts() > before).then_some(())
        });
        let status = [
            "rollout",
            "status",
            "--timeout=60s",
            "deployment/tars-injector",
        ];
        kubectl(&[&["--namespace", TARS], &status[..]].concat(), "");
        drop(ended);
        reviewing.join().unwrap()
    });
    assert_eq!(failed, 0, "of {reviews} reviews");
}
