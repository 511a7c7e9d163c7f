//! The cluster that `KUBECONFIG` names, through `kubectl`.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// For what a cluster does: pull, schedule, start. Only a failure waits it out.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks: each is a program of its own.
const PAUSE: Duration = Duration::from_millis(300);
/// Where the injector and the sink are.
pub(crate) const TARS: &str = "tars";

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) ok: bool,
    pub(crate) out: String,
    /// Warnings of webhooks are here too.
    pub(crate) err: String,
}

/// Runs kubectl.
pub(crate) fn try_kubectl(args: &[&str], input: &str) -> Answer {
    let mut child = Command::new("kubectl")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("kubectl is in PATH");
    // A command that does not read its input may have ended already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    Answer {
        ok: output.status.success(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs kubectl, which must succeed.
#[track_caller]
pub(crate) fn kubectl(args: &[&str], input: &str) -> Answer {
    let answer = try_kubectl(args, input);
    assert!(answer.ok, "kubectl {}: {}", args.join(" "), answer.err);
    answer
}

/// Looks until `look` finds something.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            Instant::now() < deadline,
            "waited {limit:?} in vain: {what}"
        );
        thread::sleep(PAUSE);
    }
}

/// The injector is everybody's: who disturbs it is alone.
static INJECTOR: RwLock<()> = RwLock::new(());

/// Until this is dropped, the injector is as it should be.
pub(crate) fn calm() -> RwLockReadGuard<'static, ()> {
    INJECTOR.read().unwrap_or_else(|e| e.into_inner())
}

/// Until this is dropped, no other test needs the injector. It is as before then.
pub(crate) fn storm() -> RwLockWriteGuard<'static, ()> {
    INJECTOR.write().unwrap_or_else(|e| e.into_inner())
}

/// A namespace of a test's own. It is deleted in the end, with all that is in it.
#[derive(Debug)]
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    /// One whose pods get the proxy, under the `restricted` Pod Security Standard.
    pub(crate) fn injected(name: &str) -> Self {
        Self::labelled(name, "restricted", &["tars.dev/inject=enabled"])
    }

    /// One with these labels, which admits what `level` admits.
    pub(crate) fn labelled(name: &str, level: &str, labels: &[&str]) -> Self {
        let name = format!("e2e-{name}-{}", std::process::id());
        kubectl(&["create", "namespace", &name], "");
        let level = format!("pod-security.kubernetes.io/enforce={level}");
        let mut args = vec!["label", "namespace", &name, &level];
        args.extend(labels);
        kubectl(&args, "");
        let namespace = Self { name };
        // Pods are refused before their account is there.
        namespace.kubectl(&["wait", "--for=create", "serviceaccount/default"]);
        namespace
    }

    /// Runs kubectl in it, which must succeed.
    #[track_caller]
    pub(crate) fn kubectl(&self, args: &[&str]) -> Answer {
        self.kubectl_with(args, "")
    }

    /// The same, with input.
    #[track_caller]
    pub(crate) fn kubectl_with(&self, args: &[&str], input: &str) -> Answer {
        kubectl(&[&["--namespace", &self.name], args].concat(), input)
    }

    /// Runs kubectl in it.
    pub(crate) fn try_kubectl(&self, args: &[&str], input: &str) -> Answer {
        try_kubectl(&[&["--namespace", &self.name], args].concat(), input)
    }

    #[track_caller]
    pub(crate) fn apply(&self, manifest: &str) -> Answer {
        self.kubectl_with(&["apply", "-f", "-"], manifest)
    }

    /// Waits until a condition holds, as `kubectl wait --for` says it.
    #[track_caller]
    pub(crate) fn wait(&self, what: &str, condition: &str) {
        let limit = format!("--timeout={}s", PATIENCE.as_secs());
        let condition = format!("--for={condition}");
        self.kubectl(&["wait", &limit, &condition, what]);
    }

    /// Waits until a workload has rolled out.
    #[track_caller]
    pub(crate) fn wait_rollout(&self, what: &str) {
        let limit = format!("--timeout={}s", PATIENCE.as_secs());
        self.kubectl(&["rollout", "status", &limit, what]);
    }

    /// Objects, as JSON.
    #[track_caller]
    pub(crate) fn get(&self, what: &str) -> Value {
        let answer = self.kubectl(&["get", what, "--output=json"]);
        serde_json::from_str(&answer.out).unwrap()
    }

    /// The pods with the label `app`.
    #[track_caller]
    pub(crate) fn pods(&self, app: &str) -> Vec<Value> {
        let label = format!("--selector=app={app}");
        let answer = self.kubectl(&["get", "pods", &label, "--output=json"]);
        let list: Value = serde_json::from_str(&answer.out).unwrap();
        list["items"].as_array().unwrap().clone()
    }

    /// What a command of Redis is answered, as redis-cli prints it.
    #[track_caller]
    pub(crate) fn redis(&self, command: &str) -> String {
        let mut args = vec!["exec", "service/redis", "--", "redis-cli", "-c", "--raw"];
        args.extend(command.split(' '));
        self.kubectl(&args).out.trim_end().to_owned()
    }

    /// The same, as a number.
    #[track_caller]
    pub(crate) fn redis_number(&self, command: &str) -> usize {
        let answer = self.redis(command);
        answer
            .parse()
            .unwrap_or_else(|_| panic!("{command}: {answer}"))
    }

    /// The spans that came from its pods.
    #[track_caller]
    pub(crate) fn spans(&self) -> Vec<Value> {
        serde_json::from_str(&self.ask_sink("spans")).unwrap()
    }

    /// How many they are.
    #[track_caller]
    pub(crate) fn count_spans(&self) -> usize {
        self.ask_sink("count").parse().unwrap()
    }

    #[track_caller]
    fn ask_sink(&self, what: &str) -> String {
        let service = format!("/api/v1/namespaces/{TARS}/services/sink:8080/proxy");
        let path = format!("{service}/{what}?namespace={}", self.name);
        kubectl(&["get", "--raw", &path], "").out
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if thread::panicking() {
            for args in [
                &["get", "pods", "--output=wide"][..],
                &["get", "events", "--sort-by=.lastTimestamp"],
                &[
                    "logs",
                    "--selector=app",
                    "--all-containers",
                    "--prefix",
                    "--tail=15",
                    "--max-log-requests=20",
                ],
            ] {
                let answer = self.try_kubectl(args, "");
                eprintln!("{}: {}{}", args.join(" "), answer.out, answer.err);
            }
        }
        let _ = try_kubectl(&["delete", "namespace", &self.name, "--wait=false"], "");
    }
}

/// The names of a pod's containers that have one of these roles: `containers`, `initContainers`.
pub(crate) fn containers(pod: &Value, role: &str) -> Vec<String> {
    let list = pod["spec"][role].as_array().cloned().unwrap_or_default();
    list.iter()
        .map(|container| container["name"].as_str().unwrap().to_owned())
        .collect()
}

/// Whether a pod has the proxy.
pub(crate) fn has_proxy(pod: &Value) -> bool {
    let all = [
        containers(pod, "initContainers"),
        containers(pod, "containers"),
    ]
    .concat();
    all.contains(&"tars-proxy".to_owned())
}
