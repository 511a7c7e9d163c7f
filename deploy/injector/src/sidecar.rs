//! The containers that are injected, fit for the `restricted` Pod Security Standard (the redirecting init container aside).

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::annotations::{AgentVolume, Wishes, resources};
use crate::names::{AGENT, INTERCEPT, PROXY, UID};
use crate::settings::Settings;
use crate::variables::{Listener, copy_name};

/// Where the program is in its image, which holds nothing else.
const PROXY_PROGRAM: &str = "/tars-proxy";
/// The same of the learner.
const AGENT_PROGRAM: &str = "/tars-agent";
/// Where the learner keeps its files.
const AGENT_DIR: &str = "/var/lib/tars-agent";
/// What Kubernetes gives a pod that says nothing.
const DEFAULT_GRACE: u64 = 30;
/// What stays of it for the last spans.
const FLUSH_SECONDS: u64 = 5;
/// Seconds in which a sidecar has to start. It waits for nothing but its sockets.
const START_SECONDS: u64 = 60;
/// Shares of the memory limit for messages that are held, and for commands that wait. The rest is for connections, deliveries and spans.
const HELD_SHARE: f64 = 0.25;
const PENDING_SHARE: f64 = 0.125;

/// What the proxy's container is made of.
#[derive(Debug)]
pub(crate) struct Proxy<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) wishes: &'a Wishes,
    /// None: connections are redirected.
    pub(crate) listeners: &'a [Listener],
    /// To this port.
    pub(crate) redirected: u16,
    pub(crate) copies: &'a [Value],
    pub(crate) service_name: &'a str,
    pub(crate) admin_port: u16,
    pub(crate) grace: Option<u64>,
    pub(crate) native: bool,
    pub(crate) guaranteed: bool,
}

impl Proxy<'_> {
    pub(crate) fn container(&self) -> Value {
        let mut container = json!({
            "name": PROXY,
            "image": self.settings.proxy_image,
            "imagePullPolicy": self.settings.pull_policy,
            "command": [PROXY_PROGRAM, "run"],
            "env": self.env(),
            "ports": [{"name": "tars-admin", "containerPort": self.admin_port, "protocol": "TCP"}],
            "resources": resources(Some(&self.wishes.cpu), &self.wishes.memory, self.guaranteed),
            "securityContext": restricted(),
            // By exec: what listens on loopback only the container itself reaches. It asks whether the proxy serves, not whether Redis is up.
            "startupProbe": {
                "exec": {"command": [PROXY_PROGRAM, "check-live"]},
                "periodSeconds": 1,
                "timeoutSeconds": 2,
                "failureThreshold": START_SECONDS,
            },
        });
        if let Some(fields) = container.as_object_mut() {
            if self.native {
                fields.insert("restartPolicy".to_owned(), "Always".into());
            } else {
                // The kubelet starts the next container after postStart, and sends SIGTERM after preStop.
                fields.insert(
                    "lifecycle".to_owned(),
                    json!({
                        "postStart": {"exec": {"command": [PROXY_PROGRAM, "check-live", "--wait", format!("{START_SECONDS}s")]}},
                        "preStop": {"exec": {"command": [PROXY_PROGRAM, "await-clients", "--wait", self.drain_timeout()]}},
                    }),
                );
            }
        }
        container
    }

    fn drain_timeout(&self) -> String {
        let grace = self.grace.unwrap_or(DEFAULT_GRACE);
        format!("{}s", grace.saturating_sub(FLUSH_SECONDS).max(1))
    }

    fn env(&self) -> Value {
        let mut env = Vec::new();
        for (name, field) in [
            ("K8S_POD_NAME", "metadata.name"),
            ("K8S_POD_UID", "metadata.uid"),
            ("K8S_NAMESPACE_NAME", "metadata.namespace"),
            ("K8S_NODE_NAME", "spec.nodeName"),
            ("K8S_NODE_IP", "status.hostIP"),
        ] {
            // With the version, as the API server would fill it in.
            env.push(json!({"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": field}}}));
        }
        for (number, reference) in self.copies.iter().enumerate() {
            env.push(json!({"name": copy_name(number), "valueFrom": reference}));
        }
        let secrets = self.listeners.iter().enumerate();
        for (number, reference) in
            secrets.filter_map(|(number, l)| Some((number, l.secret.as_ref()?)))
        {
            env.push(json!({"name": secret_name(number), "valueFrom": reference}));
        }
        let mut set = |name: &str, value: &str| env.push(json!({"name": name, "value": value}));
        match self.listeners {
            [] => {
                set("TARS_LISTEN", &format!("127.0.0.1:{}", self.redirected));
                set("TARS_UPSTREAM", "original");
            }
            [one] => {
                set("TARS_LISTEN", &format!("127.0.0.1:{}", one.port));
                if let Some(upstream) = &one.upstream {
                    set("TARS_UPSTREAM", upstream);
                }
                if one.secret.is_some() {
                    set("TARS_UPSTREAM_ENV", &secret_name(0));
                }
            }
            several => set("TARS_CONFIG_INLINE", &configuration(several)),
        }
        set("TARS_ADMIN", &format!("0.0.0.0:{}", self.admin_port));
        set("TARS_DRAIN_TIMEOUT", &self.drain_timeout());
        set("TARS_LOG_FORMAT", "json");
        if let Some(limit) = self.wishes.memory.limit() {
            set("TARS_MAX_HELD_BYTES", &format!("{:.0}", limit * HELD_SHARE));
            set(
                "TARS_MAX_PENDING_BYTES",
                &format!("{:.0}", limit * PENDING_SHARE),
            );
        }
        for (name, value) in [
            ("TARS_INFER_PARENT", &self.wishes.infer_parent),
            ("TARS_SAMPLE", &self.wishes.sample),
            ("TARS_LOG_LEVEL", &self.wishes.log_level),
        ] {
            if let Some(value) = value {
                set(name, value);
            }
        }
        if !self.service_name.is_empty() {
            set("OTEL_SERVICE_NAME", self.service_name);
        }
        set(
            "OTEL_RESOURCE_ATTRIBUTES",
            "k8s.namespace.name=$(K8S_NAMESPACE_NAME),k8s.node.name=$(K8S_NODE_NAME),k8s.pod.name=$(K8S_POD_NAME),k8s.pod.uid=$(K8S_POD_UID)",
        );
        let endpoint = self.wishes.otlp_endpoint.as_ref();
        if let Some(endpoint) = endpoint.or(self.settings.otlp_endpoint.as_ref()) {
            set("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
        }
        Value::Array(env)
    }
}

/// The proxy's variable for the URL of a listener that nobody here reads.
fn secret_name(number: usize) -> String {
    format!("UPSTREAM_{number}_URL")
}

/// The configuration file of a proxy with several listeners. What is written in it was checked: it needs no escapes.
fn configuration(listeners: &[Listener]) -> String {
    let mut text = String::new();
    for (number, listener) in listeners.iter().enumerate() {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "[[listener]]\nlisten = \"127.0.0.1:{}\"",
            listener.port
        );
        if let Some(upstream) = &listener.upstream {
            let _ = writeln!(text, "upstream = \"{upstream}\"");
        }
        if listener.secret.is_some() {
            let _ = writeln!(text, "upstream_env = \"{}\"", secret_name(number));
        }
    }
    text
}

/// Redirects the pod's connections to the proxy's port; ends before the application starts.
pub(crate) fn intercept(settings: &Settings, wishes: &Wishes, to: u16) -> Value {
    let ports: Vec<String> = wishes.ports.iter().map(ToString::to_string).collect();
    json!({
        "name": INTERCEPT,
        "image": settings.proxy_image,
        "imagePullPolicy": settings.pull_policy,
        "command": [
            PROXY_PROGRAM, "intercept",
            "--ports", ports.join(","),
            "--to", to.to_string(),
            "--except-uid", UID.to_string(),
        ],
        "resources": {"limits": {"cpu": "100m", "memory": "32Mi"}, "requests": {"cpu": "100m", "memory": "32Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]},
            "privileged": false,
            "readOnlyRootFilesystem": true,
            "runAsGroup": 0,
            "runAsNonRoot": false,
            "runAsUser": 0,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    })
}

/// The learner; `redis` is where the proxy listens, if it does.
pub(crate) fn agent(
    settings: &Settings,
    wishes: &Wishes,
    redis: Option<u16>,
    native: bool,
    guaranteed: bool,
) -> Value {
    let mut env = vec![json!({"name": "TARS_AGENT_DATA", "value": AGENT_DIR})];
    if let Some(port) = redis {
        env.push(json!({"name": "TARS_AGENT_REDIS", "value": format!("redis://127.0.0.1:{port}")}));
    }
    let cpu = guaranteed.then_some(&wishes.cpu);
    let mut container = json!({
        "name": AGENT,
        "image": settings.agent_image,
        "imagePullPolicy": settings.pull_policy,
        "command": [AGENT_PROGRAM, "serve"],
        "env": env,
        "resources": resources(cpu, &wishes.agent_memory, guaranteed),
        "securityContext": restricted(),
        "volumeMounts": [{"name": AGENT, "mountPath": AGENT_DIR}],
    });
    if let (true, Some(fields)) = (native, container.as_object_mut()) {
        fields.insert("restartPolicy".to_owned(), "Always".into());
    }
    container
}

/// The learner's volume.
pub(crate) fn volume(kind: &AgentVolume) -> Value {
    match kind {
        AgentVolume::EmptyDir => json!({"name": AGENT, "emptyDir": {}}),
        AgentVolume::Claim(claim) => {
            json!({"name": AGENT, "persistentVolumeClaim": {"claimName": claim}})
        }
    }
}

fn restricted() -> Value {
    json!({
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
        "privileged": false,
        "readOnlyRootFilesystem": true,
        "runAsGroup": UID,
        "runAsNonRoot": true,
        "runAsUser": UID,
        "seccompProfile": {"type": "RuntimeDefault"},
    })
}
