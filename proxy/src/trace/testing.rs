//! Spans for the tests beside.

use std::sync::Arc;

use super::context::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};
use super::span::{Endpoint, Operation, Outcome, Span};

/// A send of the service `shop`, one second long, whose ids are the numbers given.
pub(crate) fn span(trace: u128, span: u64) -> Span {
    Span {
        context: context(trace, span),
        parent: None,
        trace_state: TraceState::default(),
        operation: Operation::Send,
        endpoint: endpoint("shop"),
        stream: "orders".into(),
        group: None,
        consumer: None,
        message: None,
        delivery_count: None,
        batch: None,
        inferred: false,
        start: 1_000_000_000,
        end: 2_000_000_000,
        outcome: Outcome::Done,
        links: Vec::new(),
    }
}

pub(crate) fn of_service(service: &str, mut span: Span) -> Span {
    span.endpoint = endpoint(service);
    span
}

pub(crate) fn context(trace: u128, span: u64) -> SpanContext {
    SpanContext {
        trace_id: TraceId::from_bytes(trace.to_be_bytes()),
        span_id: SpanId::from_bytes(span.to_be_bytes()),
        flags: TraceFlags::SAMPLED,
    }
}

fn endpoint(service: &str) -> Arc<Endpoint> {
    Arc::new(Endpoint {
        service_name: service.into(),
        server_address: "redis.internal".into(),
        server_port: Some(6379),
        region: None,
    })
}
