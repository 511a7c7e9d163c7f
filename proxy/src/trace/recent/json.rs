//! The answer of `/traces.json`.
//!
//! Times are Unix times in nanoseconds, as decimal text: JSON's numbers do not hold them everywhere (OTLP's JSON does the
//! same). Durations and offsets are numbers.

use std::fmt::Display;

use serde::{Serialize, Serializer};

use super::{ANSWER_BYTES, Query, Recent, Trace, weight};
use crate::trace::context::{SpanId, TraceId};
use crate::trace::span::{EntryId, Link, Outcome, Span, Value};

/// What of a trace is wanted besides its summary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    /// Nothing.
    Summary,
    /// Its spans.
    Spans,
    /// Its spans, and their attributes as they are exported.
    Attributes,
}

#[derive(Serialize)]
struct Answer<'a> {
    /// Where clients connect.
    listeners: &'a [String],
    /// Why no trace ever comes, where that is so.
    #[serde(skip_serializing_if = "Option::is_none")]
    off: Option<&'static str>,
    /// Spans since the proxy started.
    spans_seen: u64,
    /// Spans in memory.
    spans_held: usize,
    /// The latest first.
    traces: Vec<TraceJson<'a>>,
    /// More traces would have been found without the limit.
    more: bool,
}

#[derive(Serialize)]
struct TraceJson<'a> {
    #[serde(serialize_with = "display")]
    trace_id: TraceId,
    /// Name of the span that the others came of, as far as it is held.
    name: String,
    #[serde(serialize_with = "display")]
    start: u64,
    duration_ns: u64,
    services: Vec<&'a str>,
    span_count: usize,
    error_count: usize,
    /// May be fewer than `span_count`: an answer is bounded.
    #[serde(skip_serializing_if = "Option::is_none")]
    spans: Option<Vec<SpanJson<'a>>>,
}

#[derive(Serialize)]
struct SpanJson<'a> {
    #[serde(serialize_with = "display")]
    span_id: SpanId,
    #[serde(serialize_with = "display_some")]
    parent: Option<SpanId>,
    name: String,
    operation: &'static str,
    kind: &'static str,
    service: &'a str,
    stream: &'a str,
    group: Option<&'a str>,
    consumer: Option<&'a str>,
    #[serde(serialize_with = "display_some")]
    message_id: Option<EntryId>,
    delivery_count: Option<u32>,
    batch: Option<u32>,
    #[serde(serialize_with = "display")]
    start: u64,
    #[serde(serialize_with = "display")]
    end: u64,
    /// From the trace's start.
    offset_ns: u64,
    duration_ns: u64,
    outcome: &'static str,
    error: Option<&'a str>,
    inferred: bool,
    links: Vec<LinkJson>,
    trace_state: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attributes: Option<Attributes>,
}

/// As they are exported, in the order of the conventions.
struct Attributes(Vec<(&'static str, Value)>);

#[derive(Serialize)]
struct LinkJson {
    #[serde(serialize_with = "display")]
    trace_id: TraceId,
    #[serde(serialize_with = "display")]
    span_id: SpanId,
    kind: &'static str,
}

impl Recent {
    /// The answer to a query, as JSON.
    pub(super) fn answer(&self, query: &Query, detail: Detail) -> serde_json::Result<Vec<u8>> {
        let ring = self.lock();
        let (traces, more) = ring.traces(query);
        let mut room = ANSWER_BYTES;
        serde_json::to_vec(&Answer {
            listeners: &self.listeners,
            off: self.off,
            spans_seen: ring.seen,
            spans_held: ring.spans.len(),
            traces: traces
                .iter()
                .map(|trace| trace_json(trace, detail, &mut room))
                .collect(),
            more,
        })
    }

    /// Changes whenever an answer may.
    pub(super) fn etag(&self) -> String {
        format!("\"{:x}-{:x}\"", self.instance, self.lock().seen)
    }
}

/// The trace, with as many spans as there is room for.
fn trace_json<'a>(trace: &Trace<'a>, detail: Detail, room: &mut usize) -> TraceJson<'a> {
    let fits = |span: &&&Span| {
        let left = room.checked_sub(weight(span));
        *room = left.unwrap_or(0);
        left.is_some()
    };
    let spans = (detail != Detail::Summary).then(|| {
        let spans = trace.spans.iter().take_while(fits);
        spans
            .map(|span| span_json(span, trace.start, detail))
            .collect()
    });
    TraceJson {
        trace_id: trace.id,
        name: trace.root().map(Span::name).unwrap_or_default(),
        start: trace.start,
        duration_ns: trace.end.saturating_sub(trace.start),
        services: trace.services(),
        span_count: trace.spans.len(),
        error_count: trace.errors,
        spans,
    }
}

fn span_json(span: &Span, trace_start: u64, detail: Detail) -> SpanJson<'_> {
    SpanJson {
        span_id: span.context.span_id,
        parent: span.parent,
        name: span.name(),
        operation: span.operation.name(),
        kind: span.operation.kind(),
        service: &span.endpoint.service_name,
        stream: &span.stream,
        group: span.group.as_deref(),
        consumer: span.consumer.as_deref(),
        message_id: span.message,
        delivery_count: span.delivery_count.map(Into::into),
        batch: span.batch,
        start: span.start,
        end: span.end,
        offset_ns: span.start.saturating_sub(trace_start),
        duration_ns: span.end.saturating_sub(span.start),
        outcome: outcome(&span.outcome),
        error: span.outcome.error_type(),
        inferred: span.inferred,
        links: span.links.iter().map(link_json).collect(),
        trace_state: Some(span.trace_state.as_str()).filter(|state| !state.is_empty()),
        attributes: (detail == Detail::Attributes).then(|| {
            let mut attributes = Vec::new();
            span.attributes(|key, value| attributes.push((key, value)));
            Attributes(attributes)
        }),
    }
}

fn link_json(link: &Link) -> LinkJson {
    LinkJson {
        trace_id: link.context.trace_id,
        span_id: link.context.span_id,
        kind: link.kind.name(),
    }
}

/// How it ended, in a word for each way.
fn outcome(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Done => "done",
        Outcome::NotSent => "not_sent",
        Outcome::Settled => "settled",
        Outcome::Uncertain => "uncertain",
        Outcome::Released => "released",
        Outcome::Superseded => "superseded",
        Outcome::Timeout => "timeout",
        Outcome::Evicted => "evicted",
        Outcome::Drained => "drained",
        Outcome::Unknown => "unknown",
        Outcome::Error(_) => "error",
    }
}

impl Serialize for Attributes {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(
            self.0
                .iter()
                .map(|(key, value)| (key, AttributeJson(value))),
        )
    }
}

struct AttributeJson<'a>(&'a Value);

impl Serialize for AttributeJson<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Int(n) => to.serialize_i64(*n),
            text => to.collect_str(text),
        }
    }
}

fn display<S: Serializer>(value: &impl Display, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}

fn display_some<S: Serializer>(value: &Option<impl Display>, to: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => to.collect_str(value),
        None => to.serialize_none(),
    }
}
