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

/// How many reviews there were while `disturb` ran, and how many of these pods would have started without the proxy.
fn review_while(namespace: &Namespace, disturb: impl FnOnce()) -> (usize, usize) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let ended = Ended(&done);
        let reviewing = scope.spawn(|| {
            let (mut reviews, mut without) = (0, 0);
            while !done.load(Ordering::Relaxed) {
                reviews += 1;
                without += usize::from(!has_proxy(&created(namespace)));
            }
            (reviews, without)
        });
        disturb();
        drop(ended);
        reviewing.join().unwrap()
    })
}

/// Waits until both replicas of the injector are there.
fn wait_injector() {
    let status = [
        "rollout",
        "status",
        "--timeout=120s",
        "deployment/tars-injector",
    ];
    kubectl(&[&["--namespace", TARS], &status[..]].concat(), "");
}

#[test]
#[ignore = "needs a cluster: make e2e-k8s"]
fn replicas_are_replaced_and_no_review_fails() {
    let _storm = storm();
    let namespace = Namespace::injected("replaced");
    let (reviews, without) = review_while(&namespace, || {
        kubectl(
            &[
                "--namespace",
                TARS,
                "rollout",
                "restart",
                "deployment/tars-injector",
            ],
            "",
        );
        wait_injector();
        // The old ones are gone, too.
        eventually("two pods are left", PATIENCE, || {
            let args = [
                "get",
                "pods",
                "--selector=app.kubernetes.io/name=tars-injector",
                "--output=name",
            ];
            let pods = kubectl(&[&["--namespace", TARS], &args[..]].concat(), "").out;
            (pods.lines().count() == 2).then_some(())
        });
    });
    assert_eq!(without, 0, "of {reviews} reviews");
}

#[test]
#[ignore = "needs a cluster: make e2e-k8s"]
fn a_replica_is_killed_and_the_other_goes_on() {
    let _storm = storm();
    let _restored = Restored;
    let namespace = Namespace::injected("killed");
    let killers = Namespace::labelled("killers", "privileged", &[]);
    let before = restarts();
    // No creation fails. Some pods start without the proxy: a connection that the dead process held, or that is opened to it until
    // the cluster has taken it out of the Service, is a review that fails, and API servers do not try again.
    let (reviews, without) = review_while(&namespace, || {
        killers.apply(KILLER);
        killers.wait("pod/killer", "jsonpath={.status.phase}=Succeeded");
        eventually("a replica has ended", PATIENCE, || {
            (restarts() > before).then_some(())
        });
        wait_injector();
    });
    println!("{without} of {reviews} pods would have started without the proxy");
    assert!(without < reviews / 2, "{without} of {reviews}");
    let (reviews, without) = review_while(&namespace, || {
        thread::sleep(std::time::Duration::from_secs(2));
    });
    assert_eq!(without, 0, "of {reviews} reviews afterwards");
}
