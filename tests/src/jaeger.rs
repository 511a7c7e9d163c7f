//! A real Jaeger v2, all in one and in memory.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::address::Address;
use crate::http;
use crate::parts;
use crate::port::Port;
use crate::process::Process;
use crate::wait::{self, PATIENCE};

/// Enough for every trace that a test sends.
const MAX_TRACES: u32 = 200_000;

/// A running Jaeger.
#[derive(Debug)]
pub struct Jaeger {
    // Declared first, so that it ends first.
    _process: Process,
    grpc: Port,
    http: Port,
    query: Port,
    _query_grpc: Port,
    _dir: TempDir,
}

/// A span as Jaeger's API tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// The service it is of.
    pub service: String,
    /// Its name.
    pub name: String,
    /// Its id.
    pub span_id: String,
    /// The id of its parent, when that is in the same trace.
    pub parent: Option<String>,
    /// The ids of the spans that it links to. A link to the parent itself would replace `parent`: so Jaeger has it.
    pub links: Vec<String>,
    /// Its tags: attributes, and what Jaeger adds, such as `span.kind`.
    pub tags: BTreeMap<String, Value>,
}

impl Jaeger {
    /// Starts it on free ports and waits until it answers.
    ///
    /// # Panics
    /// When it does not, or is not installed.
    #[track_caller]
    #[must_use]
    pub fn start() -> Self {
        let (grpc, http, query, query_grpc) =
            (Port::claim(), Port::claim(), Port::claim(), Port::claim());
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("jaeger.yaml");
        std::fs::write(&config, configuration(&grpc, &http, &query, &query_grpc)).unwrap();
        let binary = parts::cached("TARS_JAEGER", "jaeger", "JAEGER_VERSION", "jaeger");
        let mut process = Process::start(&binary, |command| {
            command.arg("--config").arg(&config);
        });
        let address = Address::Tcp(query.addr());
        process.wait_until("its API answers", PATIENCE, |_| {
            http::get(&address, "/api/services")
                .is_ok_and(|answer| answer.status == 200)
                .then_some(())
        });
        Self {
            _process: process,
            grpc,
            http,
            query,
            _query_grpc: query_grpc,
            _dir: dir,
        }
    }

    /// Its endpoint for OTLP/gRPC.
    #[must_use]
    pub fn grpc(&self) -> String {
        self.grpc.url()
    }

    /// Its endpoint for OTLP/HTTP, without `/v1/traces`.
    #[must_use]
    pub fn http(&self) -> String {
        self.http.url()
    }

    /// `GET path` from its query API, such as `/api/services` or `/api/v3/traces/ID`.
    ///
    /// # Panics
    /// When the answer is not JSON.
    #[track_caller]
    #[must_use]
    pub fn get(&self, path: &str) -> Value {
        let answer = http::get(&Address::Tcp(self.query.addr()), path).unwrap();
        serde_json::from_str(&answer.body)
            .unwrap_or_else(|e| panic!("GET {path}: {e}: {}", answer.body))
    }

    /// The spans of a trace; none when it is unknown.
    #[track_caller]
    #[must_use]
    pub fn trace(&self, trace_id: &str) -> Vec<Span> {
        spans(&self.get(&format!("/api/traces/{trace_id}")))
    }

    /// Waits until a trace is as wanted, and returns its spans.
    ///
    /// # Panics
    /// When it is not in time, with what there is of it.
    #[track_caller]
    #[must_use]
    pub fn wait_trace(
        &self,
        trace_id: &str,
        limit: Duration,
        wanted: impl Fn(&[Span]) -> bool,
    ) -> Vec<Span> {
        let mut last = Vec::new();
        let found = wait::poll(limit, || {
            last = self.trace(trace_id);
            wanted(&last).then(|| last.clone())
        });
        found.unwrap_or_else(|| {
            panic!("after {limit:?} trace {trace_id} is not as wanted, but: {last:#?}")
        })
    }
}

fn configuration(grpc: &Port, http: &Port, query: &Port, query_grpc: &Port) -> String {
    format!(
        "service:
  extensions: [jaeger_storage, jaeger_query]
  pipelines:
    traces: {{receivers: [otlp], exporters: [jaeger_storage_exporter]}}
  telemetry:
    metrics: {{level: none}}
    logs: {{level: warn}}
extensions:
  jaeger_storage:
    backends: {{memory: {{memory: {{max_traces: {MAX_TRACES}}}}}}}
  jaeger_query:
    storage: {{traces: memory}}
    http: {{endpoint: \"{}\"}}
    grpc: {{endpoint: \"{}\"}}
receivers:
  otlp:
    protocols: {{grpc: {{endpoint: \"{}\"}}, http: {{endpoint: \"{}\"}}}}
exporters:
  jaeger_storage_exporter: {{trace_storage: memory}}
",
        query.addr(),
        query_grpc.addr(),
        grpc.addr(),
        http.addr()
    )
}

fn spans(answer: &Value) -> Vec<Span> {
    let trace = &answer["data"][0];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let references = |span: &Value, kind: &str| {
        let mut all = list(&span["references"]);
        all.retain(|reference| reference["refType"] == kind);
        all.iter()
            .map(|reference| text(&reference["spanID"]))
            .collect::<Vec<_>>()
    };
    let one = |span: &Value| Span {
        service: text(&trace["processes"][text(&span["processID"])]["serviceName"]),
        name: text(&span["operationName"]),
        span_id: text(&span["spanID"]),
        parent: references(span, "CHILD_OF").pop(),
        links: references(span, "FOLLOWS_FROM"),
        tags: list(&span["tags"])
            .iter()
            .map(|tag| (text(&tag["key"]), tag["value"].clone()))
            .collect(),
    };
    list(&trace["spans"]).iter().map(one).collect()
}
