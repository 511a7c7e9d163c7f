//! The names that others rely on: label, annotations, containers. [`ANNOTATIONS`] is what the documentation's table is held to.

/// The label that switches injection on (namespace) or off (pod).
pub const INJECT: &str = "tars.dev/inject";
/// Its value on a namespace.
pub const ENABLED: &str = "enabled";
/// Its value on a pod that opts out.
pub const DISABLED: &str = "disabled";

/// What every annotation begins with.
pub const PREFIX: &str = "tars.dev/";
/// Where the injector records what it changed; written by it alone.
pub const STATUS: &str = "tars.dev/status";
/// What kubectl takes for `logs` and `exec` when nobody names a container.
pub const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// An annotation that a pod may carry.
#[derive(Clone, Copy, Debug)]
pub struct Annotation {
    /// Behind [`PREFIX`].
    pub name: &'static str,
    /// What holds without it, as the documentation says it.
    pub default: &'static str,
}

const fn annotation(name: &'static str, default: &'static str) -> Annotation {
    Annotation { name, default }
}

/// All annotations that a pod may carry, [`STATUS`] aside.
pub const ANNOTATIONS: [Annotation; 13] = [
    annotation("env", "REDIS_URL"),
    annotation("upstream", "what the variables say"),
    annotation("mode", "explicit"),
    annotation("ports", "6379"),
    annotation("sample", "1"),
    annotation("service-name", "the workload's name"),
    annotation("otlp-endpoint", "the injector's"),
    annotation("infer-parent", "off"),
    annotation("agent", "none"),
    annotation("agent-memory", "256Mi"),
    annotation("log-level", "info"),
    annotation("proxy-cpu", "20m"),
    annotation("proxy-memory", "32Mi/256Mi"),
];

/// The proxy's container.
pub const PROXY: &str = "tars-proxy";
/// The init container that redirects ports (transparent mode).
pub const INTERCEPT: &str = "tars-intercept";
/// The learner's container, and its volume.
pub const AGENT: &str = "tars-agent";
/// The label and its value on the injector's own pods.
pub const OWN: (&str, &str) = ("app.kubernetes.io/name", "tars-injector");

/// User and group of what is injected: `TARS` on a telephone's keys. Not 1337, 2102 or 65532, which meshes use.
pub const UID: u32 = 8277;
