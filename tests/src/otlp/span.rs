//! A received span, in a form that tests compare.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1 as wire;
pub use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
pub use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
/// An attribute's value: compares with `==` to strings, numbers and booleans.
pub use serde_json::Value;

/// Attributes by their names.
pub type Attributes = BTreeMap<String, Value>;

/// A span as it was exported. Ids are in lower-case hexadecimal.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// `service.name` of its resource.
    pub service: String,
    /// All attributes of its resource.
    pub resource: Arc<Attributes>,
    /// The name of its instrumentation scope.
    pub scope: Arc<str>,
    /// Its trace.
    pub trace_id: String,
    /// Its id.
    pub span_id: String,
    /// Its parent's id.
    pub parent: Option<String>,
    /// Its `tracestate`.
    pub trace_state: String,
    /// Its flags: the trace flags of W3C in the lowest 8 bits.
    pub flags: u32,
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: SpanKind,
    /// Its start, in nanoseconds since the epoch.
    pub start: u64,
    /// Its end, in nanoseconds since the epoch.
    pub end: u64,
    /// Its attributes.
    pub attributes: Attributes,
    /// Its links.
    pub links: Vec<Link>,
    /// The names of its events.
    pub events: Vec<String>,
    /// Its status.
    pub status: StatusCode,
    /// What its status says.
    pub status_message: String,
}

/// A link to another span.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// The other's trace.
    pub trace_id: String,
    /// The other's id.
    pub span_id: String,
    /// The link's attributes.
    pub attributes: Attributes,
}

impl Span {
    /// An attribute; `Null` when there is none.
    #[must_use]
    pub fn attr(&self, name: &str) -> &Value {
        self.attributes.get(name).unwrap_or(&Value::Null)
    }

    /// Whether its parent is `other`.
    #[must_use]
    pub fn is_child_of(&self, other: &Self) -> bool {
        self.trace_id == other.trace_id && self.parent.as_ref() == Some(&other.span_id)
    }

    /// How long it took.
    #[must_use]
    pub fn duration(&self) -> Duration {
        Duration::from_nanos(self.end.saturating_sub(self.start))
    }
}

/// All spans of a request.
pub(super) fn all(request: ExportTraceServiceRequest) -> Vec<Span> {
    let mut spans = Vec::new();
    for group in request.resource_spans {
        let resource = Arc::new(attributes(group.resource.unwrap_or_default().attributes));
        let service = resource
            .get("service.name")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        for scoped in group.scope_spans {
            let scope: Arc<str> = scoped.scope.unwrap_or_default().name.into();
            spans.extend(
                scoped
                    .spans
                    .into_iter()
                    .map(|span| one(span, &service, &resource, &scope)),
            );
        }
    }
    spans
}

fn one(span: wire::Span, service: &str, resource: &Arc<Attributes>, scope: &Arc<str>) -> Span {
    let status = span.status.unwrap_or_default();
    Span {
        service: service.to_owned(),
        resource: Arc::clone(resource),
        scope: Arc::clone(scope),
        trace_id: hex(&span.trace_id),
        span_id: hex(&span.span_id),
        parent: (!span.parent_span_id.is_empty()).then(|| hex(&span.parent_span_id)),
        trace_state: span.trace_state,
        flags: span.flags,
        kind: SpanKind::try_from(span.kind).unwrap_or_default(),
        name: span.name,
        start: span.start_time_unix_nano,
        end: span.end_time_unix_nano,
        attributes: attributes(span.attributes),
        links: span.links.into_iter().map(link).collect(),
        events: span.events.into_iter().map(|event| event.name).collect(),
        status: StatusCode::try_from(status.code).unwrap_or_default(),
        status_message: status.message,
    }
}

fn link(link: wire::span::Link) -> Link {
    Link {
        trace_id: hex(&link.trace_id),
        span_id: hex(&link.span_id),
        attributes: attributes(link.attributes),
    }
}

fn attributes(list: Vec<KeyValue>) -> Attributes {
    list.into_iter()
        .map(|pair| (pair.key, value(pair.value)))
        .collect()
}

fn value(any: Option<AnyValue>) -> Value {
    use any_value::Value as Any;
    match any.and_then(|any| any.value) {
        Some(Any::StringValue(text)) => text.into(),
        Some(Any::BoolValue(yes)) => yes.into(),
        Some(Any::IntValue(number)) => number.into(),
        Some(Any::DoubleValue(number)) => number.into(),
        Some(Any::BytesValue(bytes)) => hex(&bytes).into(),
        Some(Any::ArrayValue(list)) => list
            .values
            .into_iter()
            .map(|item| value(Some(item)))
            .collect(),
        Some(Any::KvlistValue(list)) => list
            .values
            .into_iter()
            .map(|pair| (pair.key, value(pair.value)))
            .collect(),
        Some(Any::StringValueStrindex(_)) | None => Value::Null,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// More names than that are not told.
const NAMES: usize = 30;

/// How many there are of each service and name.
pub(super) fn summary(spans: &[Span]) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for span in spans {
        *counts
            .entry(format!("{}: {}", span.service, span.name))
            .or_default() += 1;
    }
    let named: BTreeMap<_, _> = counts.iter().take(NAMES).collect();
    let more = match counts.len() - named.len() {
        0 => String::new(),
        more => format!(" and {more} more names"),
    };
    format!("{} spans, {named:?}{more}", spans.len())
}
