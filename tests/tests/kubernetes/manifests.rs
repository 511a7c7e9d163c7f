//! What is applied: Redis, and services that know nothing of the proxy.

use std::fmt::Write as _;

use crate::cluster::TARS;

/// Redis as a Service, found by its name.
pub(crate) const REDIS: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: redis}
spec:
  selector: {matchLabels: {app: redis}}
  template:
    metadata: {labels: {app: redis}}
    spec:
      terminationGracePeriodSeconds: 1
      securityContext: {runAsNonRoot: true, runAsUser: 10001, seccompProfile: {type: RuntimeDefault}}
      containers:
        - name: redis
          image: tars-e2e-redis:1
          args: [--save, '', --protected-mode, 'no', --dir, /tmp]
          resources: {requests: {cpu: 10m, memory: 16Mi}, limits: {memory: 512Mi, cpu: '2'}}
          readinessProbe: {tcpSocket: {port: 6379}, periodSeconds: 1}
          securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
---
apiVersion: v1
kind: Service
metadata: {name: redis}
spec:
  selector: {app: redis}
  ports: [{port: 6379}]
";

/// Three servers that are to be a Redis Cluster, in a namespace where users are nobody's concern.
pub(crate) const CLUSTER: &str = "
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: redis}
spec:
  replicas: 3
  serviceName: redis
  podManagementPolicy: Parallel
  selector: {matchLabels: {app: redis}}
  template:
    metadata: {labels: {app: redis}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: redis
          image: tars-e2e-redis:1
          args: [--save, '', --protected-mode, 'no', --dir, /tmp, --cluster-enabled, 'yes', --cluster-announce-ip, $(POD_IP)]
          env: [{name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]
          readinessProbe: {tcpSocket: {port: 6379}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: redis}
spec:
  selector: {app: redis}
  ports: [{port: 6379}]
";

/// A workload of one container, `name: app`, whose image is `tars-e2e-NAME`.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    kind: &'static str,
    name: &'static str,
    labels: Vec<(String, String)>,
    annotations: Vec<(String, String)>,
    env: Vec<(String, String)>,
    replicas: u32,
    limits: &'static str,
}

impl Workload {
    pub(crate) fn new(kind: &'static str, name: &'static str) -> Self {
        let workload = Self {
            kind,
            name,
            labels: Vec::new(),
            annotations: Vec::new(),
            env: Vec::new(),
            replicas: 1,
            limits: "",
        };
        workload
            .env("REDIS_URL", "redis://redis:6379/0")
            .annotation("otlp-endpoint", &format!("http://sink.{TARS}:4317"))
    }

    pub(crate) fn label(mut self, name: &str, value: &str) -> Self {
        self.labels.push((name.to_owned(), value.to_owned()));
        self
    }

    /// An annotation of the injector's.
    pub(crate) fn annotation(mut self, name: &str, value: &str) -> Self {
        let name = format!("tars.dev/{name}");
        self.annotations.retain(|(known, _)| *known != name);
        self.annotations.push((name, value.to_owned()));
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn replicas(mut self, replicas: u32) -> Self {
        self.replicas = replicas;
        self
    }

    /// Of the application's container, as YAML.
    pub(crate) fn limits(mut self, limits: &'static str) -> Self {
        self.limits = limits;
        self
    }

    pub(crate) fn manifest(&self) -> String {
        let Self { kind, name, .. } = self;
        let api = match *kind {
            "Job" => "batch/v1",
            "Deployment" => "apps/v1",
            _ => "v1",
        };
        let body = match *kind {
            "Pod" => return format!("apiVersion: {api}\nkind: Pod\n{}", self.pod(true)),
            "Job" => "backoffLimit: 0".to_owned(),
            _ => format!(
                "replicas: {}, selector: {{matchLabels: {{app: {name}}}}}",
                self.replicas
            ),
        };
        let pod = self.pod(false).replace('\n', "\n    ");
        let body = body.replace(", ", "\n  ");
        format!(
            "apiVersion: {api}\nkind: {kind}\nmetadata: {{name: {name}}}\nspec:\n  {body}\n  template:\n    {pod}\n"
        )
    }

    fn pod(&self, named: bool) -> String {
        let pairs = |pairs: &[(String, String)]| {
            pairs.iter().fold(String::new(), |mut text, (name, value)| {
                let _ = write!(text, ", {name}: '{value}'");
                text
            })
        };
        let name = if named {
            format!("name: {}, ", self.name)
        } else {
            String::new()
        };
        let annotations = pairs(&self.annotations);
        let env = self
            .env
            .iter()
            .fold(String::new(), |mut text, (name, value)| {
                let _ = write!(text, "{{name: {name}, value: '{value}'}}, ");
                text
            });
        let limits = if self.limits.is_empty() {
            String::new()
        } else {
            format!(", limits: {}", self.limits)
        };
        let restart = if self.kind == "Job" {
            "Never"
        } else {
            "Always"
        };
        format!(
            "metadata: {{{name}labels: {{app: {app}{labels}}}, annotations: {{e2e: x{annotations}}}}}
spec:
  restartPolicy: {restart}
  securityContext: {{runAsNonRoot: true, runAsUser: 10001, seccompProfile: {{type: RuntimeDefault}}}}
  containers:
    - name: app
      image: tars-e2e-{app}:1
      env: [{env}]
      resources: {{requests: {{cpu: 10m, memory: 32Mi}}{limits}}}
      securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
",
            app = self.name,
            labels = pairs(&self.labels),
        )
    }
}
