//! A span as the OpenTelemetry SDK's exporters take it.

use std::borrow::Cow;
use std::str::FromStr;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{self as otel, SpanKind, Status};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use crate::trace::context::{SpanContext, TraceState};
use crate::trace::span::{Link, LinkKind, Operation, Span, Value};

/// The attribute of a link that says why it is there.
const LINK_KIND: &str = "tars.link";

/// Who made the spans.
static SCOPE: LazyLock<InstrumentationScope> = LazyLock::new(|| {
    InstrumentationScope::builder("tars-proxy")
        .with_version(env!("CARGO_PKG_VERSION"))
        .build()
});

/// Converts a span, with no more than `max_links` of its links; the others are counted in it.
pub(super) fn span_data(span: &Span, max_links: usize) -> SpanData {
    let mut attributes = Vec::with_capacity(16);
    span.attributes(|key, value| attributes.push(KeyValue::new(key, attribute(value))));
    let mut links = SpanLinks::default();
    links.links = span.links.iter().take(max_links).map(link).collect();
    links.dropped_count = u32::try_from(span.links.len() - links.links.len()).unwrap_or(u32::MAX);
    SpanData {
        span_context: context(&span.context, false, trace_state(&span.trace_state)),
        parent_span_id: span.parent.map_or(otel::SpanId::INVALID, |id| {
            otel::SpanId::from_bytes(id.to_bytes())
        }),
        // A parent that was read came in a message; one that was inferred is a span of this process.
        parent_span_is_remote: span.parent.is_some() && !span.inferred,
        span_kind: kind(span.operation),
        name: Cow::Owned(span.name()),
        start_time: time(span.start),
        end_time: time(span.end),
        attributes,
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links,
        status: span
            .outcome
            .error_type()
            .map_or(Status::Unset, |error| Status::error(error.to_owned())),
        instrumentation_scope: SCOPE.clone(),
    }
}

fn context(context: &SpanContext, is_remote: bool, state: otel::TraceState) -> otel::SpanContext {
    otel::SpanContext::new(
        otel::TraceId::from_bytes(context.trace_id.to_bytes()),
        otel::SpanId::from_bytes(context.span_id.to_bytes()),
        otel::TraceFlags::new(context.flags.to_byte()),
        is_remote,
        state,
    )
}

/// The SDK's own reading of a `tracestate` that ours has accepted; none where the two differ, rather than half of it.
fn trace_state(state: &TraceState) -> otel::TraceState {
    otel::TraceState::from_str(state.as_str()).unwrap_or_default()
}

fn link(link: &Link) -> otel::Link {
    let is_remote = match link.kind {
        LinkKind::Message | LinkKind::Unsampled => true,
        LinkKind::PreviousAttempt => false,
    };
    otel::Link::new(
        context(&link.context, is_remote, otel::TraceState::NONE),
        vec![KeyValue::new(LINK_KIND, link.kind.name())],
        0,
    )
}

fn kind(operation: Operation) -> SpanKind {
    match operation {
        Operation::Send => SpanKind::Producer,
        Operation::SendClient | Operation::ReceiveBatch => SpanKind::Client,
        Operation::Process | Operation::Receive => SpanKind::Consumer,
    }
}

fn attribute(value: Value) -> opentelemetry::Value {
    match value {
        Value::Static(text) => text.into(),
        Value::Shared(text) => text.into(),
        Value::Text(text) => text.into(),
        Value::Int(n) => n.into(),
    }
}

fn time(unix_nanos: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(unix_nanos)
}

#[cfg(test)]
mod tests;
