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

/// The policy for clusters in which pods must not start undecided.
const REQUIRED: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../deploy/injector/required.yaml"
);
/// The injector's pods.
const REPLICAS: [&str; 2] = ["tars-injector-0", "tars-injector-1"];

/// Runs kubectl in the injector's namespace.
#[track_caller]
fn tars(args: &[&str]) {
    kubectl(&[&["--namespace", TARS], args].concat(), "");
}

/// Ends both replicas.
fn down() {
    tars(&["scale", "statefulset/tars-injector", "--replicas=0"]);
    tars(&[
        "wait",
        "--for=delete",
        "--timeout=60s",
        "pod",
        "--selector=app.kubernetes.io/name=tars-injector",
    ]);
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
                "statefulset/tars-injector",
                "--replicas=2",
            ][..],
            &[
                "--namespace",
                TARS,
                "rollout",
                "status",
                "--timeout=120s",
                "statefulset/tars-injector",
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
    down();
    namespace.apply(&Workload::new("Pod", "orders").manifest());
    namespace.wait("pod/orders", "condition=Ready");
    assert!(!has_proxy(&namespace.get("pod/orders")));

    drop(restored);
    eventually("pods get the proxy again", PATIENCE, || {
        is_injected(&namespace).then_some(())
    });
}

/// Whether a pod would have the proxy, if it were created now.
fn is_injected(namespace: &Namespace) -> bool {
    let pod = Workload::new("Pod", "payments").manifest();
    try_create(namespace, &pod).is_ok_and(|pods| pods.iter().all(has_proxy))
}

/// The pods as they would be if they were created now, or what is said against it.
fn try_create(namespace: &Namespace, manifests: &str) -> Result<Vec<Value>, String> {
    let args = ["create", "--dry-run=server", "--output=json", "-f", "-"];
    let answer = namespace.try_kubectl(&args, manifests);
    let pods = serde_json::Deserializer::from_str(&answer.out).into_iter();
    match answer.ok {
        true => Ok(pods.map(Result::unwrap).collect()),
        false => Err(answer.err),
    }
}

/// Kills the process of one replica, from a pod that sees those of its node.
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
      # For reading whose process it is.
      securityContext: {capabilities: {add: [SYS_PTRACE]}}
      command:
        - /usr/bin/python3
        - -c
        - |
          import os
          def read(pid, file):
              try:
                  return open(f"/proc/{pid}/{file}").read().split("\0")
              except OSError:
                  return [""]
          for pid in filter(str.isdigit, os.listdir("/proc")):
              if read(pid, "cmdline")[0] == "/tars-injector" and "POD_NAME=REPLICA" in read(pid, "environ"):
                  os.kill(int(pid), 9)
                  break
          else:
              raise SystemExit("REPLICA is not on this node")
"#;

/// How often a replica's container ended so far.
fn restarts(replica: &str) -> u64 {
    let args = [
        "get",
        "pod",
        replica,
        "--output=jsonpath={.status.containerStatuses[0].restartCount}",
    ];
    let answer = kubectl(&[&["--namespace", TARS], &args[..]].concat(), "");
    answer.out.parse().unwrap()
}

/// Kills a replica, and waits until it is back.
fn kill(killers: &Namespace, replica: &str) {
    let before = restarts(replica);
    killers.apply(&KILLER.replace("REPLICA", replica));
    killers.wait("pod/killer", "jsonpath={.status.phase}=Succeeded");
    eventually("the replica has ended", PATIENCE, || {
        (restarts(replica) > before).then_some(())
    });
    killers.kubectl(&["delete", "pod", "killer", "--grace-period=0", "--force"]);
    wait_injector();
}

/// Says so when it is dropped, by a failure too.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Pods that a command creates: one after another, as fast as the API server takes them.
const AT_ONCE: usize = 20;
/// Commands that create pods at the same time.
const CREATORS: usize = 3;

/// Creates pods without a pause while `disturb` runs. Gives how many they were, and what was wrong with any of them.
fn create_while(namespace: &Namespace, pod: &str, disturb: impl FnOnce()) -> (usize, Vec<String>) {
    let done = AtomicBool::new(false);
    let manifests = vec![pod; AT_ONCE].join("\n---\n");
    let create = || {
        let (mut created, mut wrong) = (0, Vec::new());
        while !done.load(Ordering::Relaxed) {
            match try_create(namespace, &manifests) {
                Ok(pods) => {
                    created += pods.len();
                    let undecided = pods.iter().filter(|pod| !is_decided(pod));
                    wrong.extend(undecided.map(Value::to_string));
                }
                Err(refused) => wrong.push(refused),
            }
        }
        (created, wrong)
    };
    thread::scope(|scope| {
        let ended = Ended(&done);
        let creating: Vec<_> = (0..CREATORS).map(|_| scope.spawn(create)).collect();
        disturb();
        drop(ended);
        let all = creating.into_iter().map(|one| one.join().unwrap());
        all.reduce(|(created, wrong), (more, worse)| (created + more, [wrong, worse].concat()))
            .unwrap()
    })
}

/// Whether the injector has left its decision on a pod: the proxy, or why there is none.
fn is_decided(pod: &Value) -> bool {
    let status = pod["metadata"]["annotations"]["tars.dev/status"].as_str();
    status.is_some_and(|status| has_proxy(pod) || status.contains("skipped"))
}

/// Waits until both replicas of the injector are there.
fn wait_injector() {
    tars(&[
        "rollout",
        "status",
        "--timeout=120s",
        "statefulset/tars-injector",
    ]);
}

#[test]
#[ignore = "needs a cluster: make e2e-k8s"]
fn replicas_are_replaced_and_no_review_fails() {
    let _storm = storm();
    let namespace = Namespace::injected("replaced");
    let pod = Workload::new("Pod", "payments").manifest();
    let (created, wrong) = create_while(&namespace, &pod, || {
        tars(&["rollout", "restart", "statefulset/tars-injector"]);
        wait_injector();
    });
    assert!(wrong.is_empty(), "of {created} pods: {wrong:?}");
}

#[test]
#[ignore = "needs a cluster: make e2e-k8s"]
fn a_replica_is_killed_and_no_review_fails() {
    let _storm = storm();
    let _restored = Restored;
    let namespace = Namespace::injected("killed");
    let killers = Namespace::labelled("killers", "privileged", &[]);
    let pod = Workload::new("Pod", "payments").manifest();
    let before = passed_over();
    for replica in REPLICAS {
        let (created, wrong) = create_while(&namespace, &pod, || kill(&killers, replica));
        println!("{replica} killed: {} of {created} pods", wrong.len());
        assert!(wrong.is_empty(), "of {created} pods: {wrong:?}");
    }
    assert!(passed_over() > before, "nobody was asked who was dead");
}

/// How many certificates a replica has taken into use.
fn certificates(replica: &str) -> u64 {
    let metrics = format!("/api/v1/namespaces/{TARS}/pods/{replica}:9464/proxy/metrics");
    let metrics = kubectl(&["get", "--raw", &metrics], "").out;
    let taken = metrics
        .lines()
        .find_map(|line| line.strip_prefix("tars_injector_certificates_total "));
    taken.unwrap().parse().unwrap()
}

#[test]
#[ignore = "needs a cluster: make e2e-k8s"]
fn a_new_authority_and_no_review_fails() {
    let _storm = storm();
    let namespace = Namespace::injected("rotation");
    let pod = Workload::new("Pod", "payments").manifest();
    let before = REPLICAS.map(certificates);
    // No replica makes good for the other.
    let passed_over_before = passed_over();
    let (created, wrong) = create_while(&namespace, &pod, || {
        tars(&["delete", "secret", "tars-injector-certificate"]);
        eventually("both show another certificate", PATIENCE, || {
            let now = REPLICAS.map(certificates);
            (now[0] > before[0] && now[1] > before[1]).then_some(())
        });
    });
    assert!(wrong.is_empty(), "of {created} pods: {wrong:?}");
    assert_eq!(passed_over(), passed_over_before, "of {created} pods");
}

/// How often the API server passed over an entry that did not answer.
fn passed_over() -> u64 {
    let metrics = kubectl(&["get", "--raw", "/metrics"], "").out;
    let counts = metrics.lines().filter_map(|line| {
        let labels = line.strip_prefix("apiserver_admission_webhook_fail_open_count{")?;
        let ours = labels.contains(".pods.tars.dev");
        ours.then(|| labels.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap())
    });
    counts.sum()
}

/// The policy that no pod starts without a decision; withdrawn when this is dropped.
struct Required;

impl Required {
    fn new() -> Self {
        let required = Self;
        tars(&[
            "set",
            "env",
            "statefulset/tars-injector",
            "TARS_INJECTOR_RECORD_SKIPPED=true",
        ]);
        wait_injector();
        kubectl(&["apply", "-f", REQUIRED], "");
        required
    }
}

impl Drop for Required {
    fn drop(&mut self) {
        for args in [
            &["delete", "--ignore-not-found", "-f", REQUIRED][..],
            &[
                "--namespace",
                TARS,
                "set",
                "env",
                "statefulset/tars-injector",
                "TARS_INJECTOR_RECORD_SKIPPED-",
            ],
        ] {
            let answer = try_kubectl(args, "");
            assert!(answer.ok || thread::panicking(), "{}", answer.err);
        }
    }
}

#[test]
#[ignore = "needs a cluster: make e2e-k8s"]
fn no_pod_starts_undecided_where_that_is_required() {
    let _storm = storm();
    let _restored = Restored;
    let namespace = Namespace::injected("required");
    let unlabelled = Namespace::labelled("free", "restricted", &[]);
    let killers = Namespace::labelled("enders", "privileged", &[]);
    let payments = Workload::new("Pod", "payments").manifest();
    let no_redis = Workload::new("Pod", "orders")
        .env("REDIS_URL", "")
        .manifest();
    let required = Required::new();

    down();
    let refused = eventually("pods are refused", PATIENCE, || {
        try_create(&namespace, &payments).err()
    });
    assert!(
        refused.contains("tars-injector has not answered"),
        "{refused}"
    );
    try_create(&unlabelled, &payments).unwrap();
    let opted_out = Workload::new("Pod", "orders").label("tars.dev/inject", "disabled");
    try_create(&namespace, &opted_out.manifest()).unwrap();

    drop(Restored);
    eventually("pods get the proxy again", PATIENCE, || {
        is_injected(&namespace).then_some(())
    });
    // Pods without Redis, too, which get nothing but the decision.
    let both = [payments, no_redis].join("\n---\n");
    for replica in REPLICAS {
        let (created, wrong) = create_while(&namespace, &both, || kill(&killers, replica));
        println!("{replica} killed: {} of {created} pods", wrong.len());
        assert!(wrong.is_empty(), "of {created} pods: {wrong:?}");
    }
    drop(required);
}
