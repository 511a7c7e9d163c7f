//! Every rule of the trace semantics against real servers, and against scripted ones where no real one is new enough. One file
//! a subject.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod consumer;
mod context;
mod deliver;
mod inference;
mod injection;
mod newer;
mod outcomes;
mod redelivery;
mod relation;
mod reload;
mod sampling;
mod settlement;

use tars_tests::otlp::Span;
use tars_tests::stage::Stage;

/// An application's own context: sampled.
const OWN: &str = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01";
/// The same, not sampled.
const UNSAMPLED: &str = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-00";
const OWN_TRACE: &str = "0123456789abcdef0123456789abcdef";
const OWN_SPAN: &str = "0123456789abcdef";

/// The bulk strings of a reply, in order.
fn bulks(reply: &str) -> Vec<String> {
    let mut lines = reply.split("\r\n");
    let mut all = Vec::new();
    while let Some(line) = lines.next() {
        if line.starts_with('$') && line != "$-1" {
            all.extend(lines.next().map(str::to_owned));
        }
    }
    all
}

/// The fields of a stream's last entry as it is stored: names and values in turn.
#[track_caller]
fn stored(stage: &Stage, key: &str) -> Vec<String> {
    let mut bulks = bulks(&stage.direct(&format!("XREVRANGE {key} + - COUNT 1")));
    assert!(!bulks.is_empty(), "{key} has no entry");
    bulks.remove(0);
    bulks
}

/// The context of a span as a `traceparent`, flags aside.
fn ids(span: &Span) -> String {
    format!("00-{}-{}-", span.trace_id, span.span_id)
}

/// A `traceparent` without its flags.
fn without_flags(traceparent: &str) -> &str {
    &traceparent[..traceparent.len() - 2]
}

/// A group from the beginning of a stream that need not exist yet.
fn make_group(stage: &Stage, key: &str) {
    stage.direct(&format!("XGROUP CREATE {key} g 0 MKSTREAM"));
}
