//! A receiver of spans in a cluster: OTLP on 4317 (gRPC) and 4318 (HTTP), and on 8080 what it received.
//!
//! `GET /spans?namespace=NAME`: a JSON array of the spans that came from pods of that namespace. `GET /count?namespace=NAME`: how many.

// What it cannot serve with is said by its end.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tars_tests::otlp::{Collector, Mode, Span};
use tokio::net::TcpListener;

fn main() {
    let at = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let collector = Arc::new(Collector::at(at(4317), at(4318), Mode::Accepting));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(serve(at(8080), collector));
}

async fn serve(at: SocketAddr, collector: Arc<Collector>) {
    let router = Router::new()
        .route("/spans", get(spans))
        .route("/count", get(count))
        .with_state(collector);
    let listener = TcpListener::bind(at).await.unwrap();
    axum::serve(listener, router).await.unwrap();
}

type Asked = Query<BTreeMap<String, String>>;

fn of_namespace(query: &Asked) -> impl Fn(&&Span) -> bool {
    let namespace = query.get("namespace").cloned().unwrap_or_default();
    move |span| resource(span, "k8s.namespace.name") == namespace
}

async fn spans(State(collector): State<Arc<Collector>>, query: Asked) -> Json<Vec<Value>> {
    let wanted = of_namespace(&query);
    Json(collector.with_spans(|all| all.iter().filter(wanted).map(shown).collect()))
}

async fn count(State(collector): State<Arc<Collector>>, query: Asked) -> String {
    let wanted = of_namespace(&query);
    collector
        .with_spans(|all| all.iter().filter(wanted).count())
        .to_string()
}

fn shown(span: &Span) -> Value {
    json!({
        "service": span.service,
        "pod": resource(span, "k8s.pod.name"),
        "trace": span.trace_id,
        "id": span.span_id,
        "parent": span.parent,
        "name": span.name,
        "message": span.attr("messaging.message.id"),
    })
}

fn resource<'a>(span: &'a Span, name: &str) -> &'a str {
    span.resource
        .get(name)
        .and_then(Value::as_str)
        .unwrap_or_default()
}
