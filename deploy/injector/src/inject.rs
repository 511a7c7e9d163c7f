//! The decision about a pod: a pure function. What an earlier call changed is taken back first, then all is decided anew, so that
//! any number of calls, with changes by others between them, ends in the same pod.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Value, json};

use crate::annotations::{Mode, Wishes};
use crate::names::{
    AGENT, DEFAULT_CONTAINER, DISABLED, ENABLED, INJECT, INTERCEPT, OWN, PREFIX, PROXY, STATUS, UID,
};
use crate::patch::{Operation, diff};
use crate::pod;
use crate::settings::{OnBadAnnotation, Settings};
use crate::sidecar::{self, Proxy};
use crate::status::{Status, digests, merge};
use crate::variables::{Rewriting, rewrite};

/// The label by which a namespace says which pods it admits.
const POD_SECURITY: &str = "pod-security.kubernetes.io/enforce";
/// The warning of [`Reason::NoPort`].
const NO_PORT: &str = "no tars-proxy in this pod: its containers declare every port that the proxy could take; declare those alone that they listen on";
/// What the kubelet marks the images of its own static pods with.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// What is known of a pod's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Its labels; none if they could not be had.
    pub labels: Option<BTreeMap<String, String>>,
}

/// Why a pod gets no sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Its namespace has no label `tars.dev/inject=enabled`.
    Namespace,
    /// It says `tars.dev/inject: disabled`.
    OptedOut,
    /// It is in the node's network: what is redirected or bound there is everybody's.
    HostNetwork,
    /// The kubelet's own, which nobody can change.
    Mirror,
    /// The injector's own.
    Own,
    /// Not Linux.
    Windows,
    /// A container of a name that would be injected, which somebody else put there.
    HasProxy,
    /// Ends by itself, and this Kubernetes has no sidecars that let it.
    Job,
    /// None of its containers has a variable that names Redis.
    NoRedis,
    /// Its namespace's Pod Security admits no transparent mode.
    PodSecurity,
    /// Its containers declare every port that the sidecar could take.
    NoPort,
    /// Its annotations cannot be understood.
    BadAnnotation,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Namespace,
        Self::OptedOut,
        Self::HostNetwork,
        Self::Mirror,
        Self::Own,
        Self::Windows,
        Self::HasProxy,
        Self::Job,
        Self::NoRedis,
        Self::PodSecurity,
        Self::NoPort,
        Self::BadAnnotation,
    ];

    /// For metrics and logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Namespace => "namespace",
            Self::OptedOut => "opted_out",
            Self::HostNetwork => "host_network",
            Self::Mirror => "mirror",
            Self::Own => "own",
            Self::Windows => "windows",
            Self::HasProxy => "has_proxy",
            Self::Job => "job",
            Self::NoRedis => "no_redis",
            Self::PodSecurity => "pod_security",
            Self::NoPort => "no_port",
            Self::BadAnnotation => "bad_annotation",
        }
    }
}

/// What was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It has its sidecars.
    Injected,
    /// It has none.
    Skipped(Reason),
    /// It is not to be created.
    Refused(String),
}

/// The decision, and what comes of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// What was decided.
    pub decision: Decision,
    /// The pod as it should be.
    pub pod: Value,
    /// What makes it that; empty if it is that already.
    pub patch: Vec<Operation>,
    /// For whoever created it.
    pub warnings: Vec<String>,
}

/// Decides about a pod. `workload` is its name for people, which [`pod::workload`] finds.
#[must_use]
pub fn inject(pod: &Value, workload: &str, namespace: &Namespace, settings: &Settings) -> Outcome {
    let mut outcome = decide(pod, workload, namespace, settings);
    if settings.record_skipped
        && let Decision::Skipped(reason) = outcome.decision
        // A record that cannot be read is somebody's all the same; and nobody may change the kubelet's own pods.
        && pod::meta(&outcome.pod, "annotations", STATUS).is_none()
        && reason != Reason::Mirror
        && pod::is_whole(pod)
    {
        let mut status = Status::new();
        status.skipped = Some(reason.label().to_owned());
        status.write(&mut outcome.pod);
        outcome.patch = diff(pod, &outcome.pod);
    }
    outcome
}

fn decide(pod: &Value, workload: &str, namespace: &Namespace, settings: &Settings) -> Outcome {
    if !pod::is_whole(pod) {
        // Whoever stores pods will say so.
        let decision = Decision::Skipped(Reason::NoRedis);
        return outcome(pod, pod.clone(), decision, Vec::new());
    }
    let status = Status::read(pod);
    let mut warnings = Vec::new();
    let mut clean = pod.clone();
    let (status, now) = match status {
        Ok(Some(status)) => {
            let now = status.undo(&mut clean);
            (Some(status), now)
        }
        Ok(None) => (None, BTreeMap::new()),
        Err(error) => {
            let why =
                format!("{STATUS} cannot be read: {error}; remove it, and the container {PROXY}");
            return bad(pod, pod.clone(), &why, settings);
        }
    };
    if let Some(reason) = skipped(&clean, pod, namespace, settings) {
        return outcome(pod, clean, Decision::Skipped(reason), warnings);
    }
    let wishes = match Wishes::read(pod) {
        Ok(wishes) => wishes,
        Err(error) => return bad(pod, clean, &error.to_string(), settings),
    };
    warnings.extend(wishes.warnings.iter().cloned());
    if let Some(name) = foreign(&clean, &wishes) {
        warnings.push(format!(
            "no tars-proxy in this pod: it has a container {name} that is not the injector's; rename it"
        ));
        return outcome(pod, clean, Decision::Skipped(Reason::HasProxy), warnings);
    }
    if wishes.mode == Mode::Transparent {
        if wishes.ports.contains(&settings.proxy_port) {
            let why = format!(
                "{PREFIX}ports: {} is where the proxy itself listens; leave it out, and write the ports of Redis",
                settings.proxy_port
            );
            return bad(pod, clean, &why, settings);
        }
        if let Some(why) = inadmissible(namespace) {
            warnings.push(why);
            let decision = Decision::Skipped(Reason::PodSecurity);
            return outcome(pod, clean, decision, warnings);
        }
        if runs_as_proxy(&clean) {
            let why = format!(
                "a container runs as user {UID}, which is the proxy's own: its connections would not be redirected"
            );
            return bad(pod, clean, &why, settings);
        }
    }
    let mut after = clean.clone();
    let native = settings.native_sidecars();
    let rewriting = match wishes.mode {
        Mode::Explicit => explicit(&mut after, &wishes, settings, native),
        Mode::Transparent => Rewriting::default(),
    };
    warnings.extend(rewriting.warnings.iter().cloned());
    let redirected = wishes.mode == Mode::Transparent;
    let with_proxy = redirected || !rewriting.listeners.is_empty();
    let ports = Ports::find(
        &clean,
        &rewriting,
        redirected.then_some(&wishes.ports[..]),
        settings,
    );
    if rewriting.exhausted || with_proxy && ports.is_none() {
        warnings.push(NO_PORT.to_owned());
        return outcome(pod, clean, Decision::Skipped(Reason::NoPort), warnings);
    }
    if !with_proxy && wishes.agent.is_none() {
        return outcome(pod, clean, Decision::Skipped(Reason::NoRedis), warnings);
    }
    let service_name = wishes.service_name.as_deref().unwrap_or(workload);
    let build = Build {
        before: &clean,
        settings,
        wishes: &wishes,
        rewriting: &rewriting,
        native,
        ports: ports.filter(|_| with_proxy),
        service_name,
        earlier: status.as_ref(),
        now: &now,
    };
    build.build(&mut after);
    outcome(pod, after, Decision::Injected, warnings)
}

fn outcome(before: &Value, after: Value, decision: Decision, warnings: Vec<String>) -> Outcome {
    Outcome {
        decision,
        patch: diff(before, &after),
        pod: after,
        warnings,
    }
}

/// What cannot be understood: by policy the pod starts without sidecar, or not at all.
fn bad(before: &Value, clean: Value, why: &str, settings: &Settings) -> Outcome {
    match settings.on_bad_annotation {
        OnBadAnnotation::Allow => {
            let warning = format!("no tars-proxy in this pod: {why}");
            outcome(
                before,
                clean,
                Decision::Skipped(Reason::BadAnnotation),
                vec![warning],
            )
        }
        OnBadAnnotation::Deny => outcome(
            before,
            before.clone(),
            Decision::Refused(why.to_owned()),
            Vec::new(),
        ),
    }
}

fn skipped(
    clean: &Value,
    pod: &Value,
    namespace: &Namespace,
    settings: &Settings,
) -> Option<Reason> {
    let labels = namespace.labels.as_ref();
    let enabled = |labels: &BTreeMap<_, _>| labels.get(INJECT).map(String::as_str) == Some(ENABLED);
    let opted_out = |of| pod::meta(pod, of, INJECT) == Some(DISABLED);
    let spec = clean.get("spec")?;
    let windows = |at: &str| spec.pointer(at).and_then(Value::as_str) == Some("windows");
    let ends = pod::controller(clean).is_some_and(|owner| pod::text(owner, "kind") == "Job")
        || !matches!(pod::text(spec, "restartPolicy"), "" | "Always");
    let checks = [
        (Reason::Own, pod::meta(pod, "labels", OWN.0) == Some(OWN.1)),
        (
            Reason::Mirror,
            pod::meta(pod, "annotations", MIRROR).is_some(),
        ),
        (Reason::Namespace, !labels.is_none_or(enabled)),
        (
            Reason::OptedOut,
            opted_out("labels") || opted_out("annotations"),
        ),
        (
            Reason::HostNetwork,
            spec.get("hostNetwork").and_then(Value::as_bool) == Some(true),
        ),
        (
            Reason::Windows,
            windows("/os/name") || windows("/nodeSelector/kubernetes.io~1os"),
        ),
        (Reason::HasProxy, pod::has_container(clean, PROXY)),
        (Reason::Job, ends && !settings.native_sidecars()),
    ];
    checks
        .into_iter()
        .find(|(_, holds)| *holds)
        .map(|(reason, _)| reason)
}

/// Why a namespace does not admit a container that is root and may change the network.
fn inadmissible(namespace: &Namespace) -> Option<String> {
    let Some(labels) = &namespace.labels else {
        return Some(format!(
            "no tars-proxy in this pod: whether namespace {} admits tars.dev/mode: transparent could not be found out",
            namespace.name
        ));
    };
    match labels.get(POD_SECURITY).map(String::as_str) {
        None | Some("privileged") => None,
        Some(level) => Some(format!(
            "no tars-proxy in this pod: tars.dev/mode: transparent needs NET_ADMIN, which {POD_SECURITY}={level} forbids; use explicit"
        )),
    }
}

/// The name of a container that would be injected beside the proxy, and is somebody else's already: no pod may have two of one name.
fn foreign(clean: &Value, wishes: &Wishes) -> Option<&'static str> {
    let wanted = [
        (AGENT, wishes.agent.is_some()),
        (INTERCEPT, wishes.mode == Mode::Transparent),
    ];
    let found = wanted
        .into_iter()
        .find(|(name, wanted)| *wanted && pod::has_container(clean, name));
    found.map(|(name, _)| name)
}

/// Ports of the proxy's own: what is wanted, or the next that no container declares.
#[derive(Clone, Copy, Debug)]
struct Ports {
    /// Where it serves metrics and health.
    admin: u16,
    /// Where redirected connections come.
    redirected: u16,
}

impl Ports {
    fn find(
        clean: &Value,
        rewriting: &Rewriting,
        redirected: Option<&[u16]>,
        settings: &Settings,
    ) -> Option<Self> {
        let listening = rewriting.listeners.iter().map(|one| u64::from(one.port));
        let from = redirected
            .unwrap_or_default()
            .iter()
            .copied()
            .map(u64::from);
        let mut taken: HashSet<u64> = pod::ports(clean).chain(listening).chain(from).collect();
        let mut free = |first: u16| {
            let port = (first..=u16::MAX).find(|port| !taken.contains(&u64::from(*port)))?;
            taken.insert(port.into());
            Some(port)
        };
        let admin = free(settings.proxy_admin_port)?;
        let redirected = match redirected {
            Some(_) => free(settings.proxy_port)?,
            None => settings.proxy_port,
        };
        Some(Self { admin, redirected })
    }
}

fn runs_as_proxy(pod: &Value) -> bool {
    let of = |object: Option<&Value>| {
        let context = object.and_then(|object| object.get("securityContext"));
        context
            .and_then(|context| context.get("runAsUser"))
            .and_then(Value::as_u64)
    };
    let pods = of(pod.get("spec"));
    pod::containers(pod).any(|(_, one)| of(Some(one)).or(pods) == Some(u64::from(UID)))
}

/// The variables of all containers that start after the proxy.
fn explicit(pod: &mut Value, wishes: &Wishes, settings: &Settings, native: bool) -> Rewriting {
    let lists = if native {
        &pod::LISTS[..]
    } else {
        &pod::LISTS[1..]
    };
    let mut early = Rewriting::default();
    if !native {
        let mut tried = pod.clone();
        early = rewrite(
            &mut tried,
            &pod::LISTS[..1],
            &wishes.variables,
            None,
            settings.proxy_port,
            &[],
        );
    }
    let mut rewriting = rewrite(
        pod,
        lists,
        &wishes.variables,
        wishes.upstream.as_deref(),
        settings.proxy_port,
        &[settings.proxy_admin_port],
    );
    for changed in early.changed {
        rewriting.warnings.push(format!(
            "init container {}: {} stays as it is: before Kubernetes 1.29 the proxy starts after it",
            changed.container, changed.name
        ));
    }
    rewriting
}

/// Everything that a pod gets, variables aside.
struct Build<'a> {
    before: &'a Value,
    settings: &'a Settings,
    wishes: &'a Wishes,
    rewriting: &'a Rewriting,
    native: bool,
    /// The proxy's; none if the pod needs no proxy.
    ports: Option<Ports>,
    service_name: &'a str,
    /// What an earlier call wrote, and what became of it.
    earlier: Option<&'a Status>,
    now: &'a BTreeMap<String, Value>,
}

impl Build<'_> {
    fn build(&self, pod: &mut Value) {
        let mut status = Status::new();
        status.variables.clone_from(&self.rewriting.changed);
        let guaranteed = pod::is_guaranteed(self.before);
        let (settings, wishes) = (self.settings, self.wishes);
        let mut sidecars = Vec::new();
        if let Some(ports) = self.ports {
            sidecars.push(self.proxy(ports, guaranteed).container());
        }
        if let Some(kind) = &wishes.agent {
            let redis = self
                .rewriting
                .listeners
                .first()
                .map(|listener| listener.port);
            sidecars.push(sidecar::agent(
                settings,
                wishes,
                redis,
                self.native,
                guaranteed,
            ));
            self.add(pod, "volumes", sidecar::volume(kind), &mut status.volumes);
        }
        for secret in &settings.pull_secrets {
            self.add(
                pod,
                "imagePullSecrets",
                json!({"name": secret}),
                &mut status.pull_secrets,
            );
        }
        let transparent = wishes.mode == Mode::Transparent;
        let redirected = self.ports.filter(|_| transparent);
        let intercept =
            redirected.map(|ports| sidecar::intercept(settings, wishes, ports.redirected));
        if self.native {
            let init: Vec<_> = sidecars.into_iter().chain(intercept).collect();
            let at = self.first_init(transparent);
            self.insert(pod, "initContainers", at, init, &mut status);
        } else {
            // The redirection is the last before the application: init containers have no proxy yet.
            let at = pod::list(pod, "initContainers").len();
            self.insert(
                pod,
                "initContainers",
                at,
                intercept.into_iter().collect(),
                &mut status,
            );
            self.insert(pod, "containers", 0, sidecars, &mut status);
            self.keep_default_container(pod, &mut status);
        }
        status.write(pod);
    }

    fn proxy(&self, ports: Ports, guaranteed: bool) -> Proxy<'_> {
        Proxy {
            settings: self.settings,
            wishes: self.wishes,
            listeners: &self.rewriting.listeners,
            copies: &self.rewriting.copies,
            service_name: self.service_name,
            admin_port: ports.admin,
            redirected: ports.redirected,
            grace: self
                .before
                .pointer("/spec/terminationGracePeriodSeconds")
                .and_then(Value::as_u64),
            native: self.native,
            guaranteed,
        }
    }

    /// Before the first init container whose variables lead to the proxy; behind all of them if none does. Where connections are
    /// redirected nobody knows who needs it: before all.
    fn first_init(&self, transparent: bool) -> usize {
        let init = pod::list(self.before, "initContainers");
        if transparent {
            return 0;
        }
        let uses = |one: &Value| {
            let name = pod::text(one, "name");
            self.rewriting
                .changed
                .iter()
                .any(|changed| changed.list == "initContainers" && changed.container == name)
        };
        init.iter().position(uses).unwrap_or(init.len())
    }

    fn insert(
        &self,
        pod: &mut Value,
        list: &'static str,
        at: usize,
        ours: Vec<Value>,
        status: &mut Status,
    ) {
        if ours.is_empty() {
            return;
        }
        let Some(all) = pod::list_mut(pod, list) else {
            return;
        };
        let at = at.min(all.len());
        for (offset, ours) in ours.into_iter().enumerate() {
            let key = format!("{list}/{}", pod::text(&ours, "name"));
            let before = self.earlier.and_then(|status| status.containers.get(&key));
            all.insert(at + offset, merge(&ours, self.now.get(&key), before));
            status.containers.insert(key, digests(&ours));
        }
    }

    /// Adds to a list of named things what is not in it.
    fn add(&self, pod: &mut Value, list: &str, what: Value, added: &mut Vec<String>) {
        let name = pod::text(&what, "name").to_owned();
        if pod::named(pod::list(pod, list), &name).is_some() {
            return;
        }
        if let Some(all) = pod::list_mut(pod, list) {
            all.push(what);
            added.push(name);
        }
    }

    /// The proxy is the first container now; `kubectl logs` shows the application's all the same.
    fn keep_default_container(&self, pod: &mut Value, status: &mut Status) {
        let first = pod::list(self.before, "containers")
            .first()
            .map(|one| pod::text(one, "name"));
        let Some(first) =
            first.filter(|_| pod::meta(self.before, "annotations", DEFAULT_CONTAINER).is_none())
        else {
            return;
        };
        if let Some(annotations) = pod::annotations_mut(pod) {
            annotations.insert(DEFAULT_CONTAINER.to_owned(), first.into());
            status.default_container = Some(first.to_owned());
        }
    }
}
