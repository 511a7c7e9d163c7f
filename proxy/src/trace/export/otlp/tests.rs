#![allow(clippy::unwrap_used)]

use std::num::NonZeroU32;
use std::sync::Arc;

use super::*;
use crate::trace::context::parse_tracestate;
use crate::trace::span::{Endpoint, EntryId, Outcome};
use crate::trace::testing::{context as ids, span};

/// A span in which every field is set.
fn full() -> Span {
    Span {
        parent: Some(ids(7, 8).span_id),
        trace_state: parse_tracestate([b"vendor=a,other=b".as_slice()]),
        operation: Operation::Process,
        endpoint: Arc::new(Endpoint {
            service_name: "payment".into(),
            server_address: "redis.internal".into(),
            server_port: Some(6380),
            region: Some("eu".into()),
        }),
        group: Some("payments".into()),
        consumer: Some("worker-1".into()),
        message: Some(EntryId { ms: 1700, seq: 2 }),
        delivery_count: NonZeroU32::new(3),
        batch: Some(4),
        inferred: true,
        start: 1_700_000_000_123_456_789,
        end: 1_700_000_001_000_000_001,
        outcome: Outcome::Error("fail".into()),
        links: vec![
            Link {
                context: ids(1, 2),
                kind: LinkKind::Message,
            },
            Link {
                context: ids(3, 4),
                kind: LinkKind::PreviousAttempt,
            },
            Link {
                context: ids(5, 6),
                kind: LinkKind::Unsampled,
            },
        ],
        ..span(7, 9)
    }
}

#[test]
fn every_field_arrives() {
    let data = span_data(&full(), 128);
    assert_eq!(data.span_context.trace_id(), otel::TraceId::from(7));
    assert_eq!(data.span_context.span_id(), otel::SpanId::from(9));
    assert_eq!(data.span_context.trace_flags(), otel::TraceFlags::SAMPLED);
    assert_eq!(data.span_context.trace_state().header(), "vendor=a,other=b");
    assert!(!data.span_context.is_remote());
    assert_eq!(data.parent_span_id, otel::SpanId::from(8));
    assert_eq!(data.span_kind, SpanKind::Consumer);
    assert_eq!(data.name, "process orders");
    let since = |time: SystemTime| {
        time.duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_nanos()
    };
    assert_eq!(since(data.start_time), 1_700_000_000_123_456_789);
    assert_eq!(since(data.end_time), 1_700_000_001_000_000_001);
    assert_eq!(data.status, Status::error("fail"));
    assert!(data.events.is_empty());
    assert_eq!(data.instrumentation_scope.name(), "tars-proxy");
    assert_eq!(
        data.instrumentation_scope.version(),
        Some(env!("CARGO_PKG_VERSION"))
    );
    let attributes: Vec<_> = data
        .attributes
        .iter()
        .map(|a| (a.key.as_str(), a.value.clone()))
        .collect();
    assert_eq!(
        attributes,
        [
            ("messaging.system", "redis".into()),
            ("messaging.operation.name", "process".into()),
            ("messaging.operation.type", "process".into()),
            ("messaging.destination.name", "orders".into()),
            ("messaging.consumer.group.name", "payments".into()),
            ("tars.consumer", "worker-1".into()),
            ("messaging.message.id", "1700-2".into()),
            ("messaging.batch.message_count", 4.into()),
            ("tars.delivery_count", 3.into()),
            ("server.address", "redis.internal".into()),
            ("server.port", 6380.into()),
            ("tars.region", "eu".into()),
            ("tars.parent", "inferred".into()),
            ("error.type", "fail".into()),
        ]
    );
    assert_eq!(data.dropped_attributes_count, 0);
}

#[test]
fn links_say_why_they_are_there() {
    let links = span_data(&full(), 128).links;
    let said: Vec<_> = links
        .iter()
        .map(|link| {
            let context = &link.span_context;
            let [kind] = link.attributes.as_slice() else {
                unreachable!()
            };
            assert_eq!(kind.key.as_str(), "tars.link");
            (
                context.trace_id(),
                context.span_id(),
                context.is_remote(),
                kind.value.to_string(),
            )
        })
        .collect();
    let (trace, span) = (
        |n: u128| otel::TraceId::from(n),
        |n: u64| otel::SpanId::from(n),
    );
    assert_eq!(
        said,
        [
            (trace(1), span(2), true, "message".into()),
            (trace(3), span(4), false, "previous_attempt".into()),
            (trace(5), span(6), true, "unsampled".into()),
        ]
    );
}

#[test]
fn links_over_the_limit_are_counted() {
    let links = span_data(&full(), 2).links;
    assert_eq!((links.len(), links.dropped_count), (2, 1));
    let links = span_data(&full(), 3).links;
    assert_eq!((links.len(), links.dropped_count), (3, 0));
}

#[test]
fn a_span_of_few_fields_has_few_attributes() {
    let data = span_data(&span(7, 9), 128);
    assert_eq!(data.parent_span_id, otel::SpanId::INVALID);
    assert_eq!(data.span_context.trace_state(), &otel::TraceState::NONE);
    assert_eq!(data.status, Status::Unset);
    assert_eq!(data.name, "send orders");
    let keys: Vec<_> = data.attributes.iter().map(|a| a.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "messaging.system",
            "messaging.operation.name",
            "messaging.operation.type",
            "messaging.destination.name",
            "server.address",
            "server.port",
        ]
    );
}

#[test]
fn a_parent_is_remote_unless_it_was_inferred() {
    let remote = |parent, inferred| {
        span_data(
            &Span {
                parent,
                inferred,
                ..span(7, 9)
            },
            0,
        )
        .parent_span_is_remote
    };
    let parent = Some(ids(7, 8).span_id);
    assert!(remote(parent, false));
    assert!(!remote(parent, true));
    assert!(!remote(None, false));
}

#[test]
fn kinds_and_status_follow_operation_and_outcome() {
    let kinds = [
        (Operation::Send, SpanKind::Producer),
        (Operation::SendClient, SpanKind::Client),
        (Operation::Process, SpanKind::Consumer),
        (Operation::Receive, SpanKind::Consumer),
        (Operation::ReceiveBatch, SpanKind::Client),
    ];
    for (operation, kind) in kinds {
        let data = span_data(
            &Span {
                operation,
                ..span(1, 2)
            },
            0,
        );
        assert_eq!(data.span_kind, kind, "{operation:?}");
        // The page shows the word, the exporter takes the kind: they are the same.
        assert_eq!(
            format!("{:?}", data.span_kind).to_uppercase(),
            operation.kind()
        );
    }
    let statuses = [
        (Outcome::Settled, Status::Unset),
        (Outcome::Superseded, Status::Unset),
        (Outcome::Timeout, Status::error("timeout")),
        (
            Outcome::Error("WRONGTYPE".into()),
            Status::error("WRONGTYPE"),
        ),
    ];
    for (outcome, status) in statuses {
        let data = span_data(
            &Span {
                outcome: outcome.clone(),
                ..span(1, 2)
            },
            0,
        );
        assert_eq!(data.status, status, "{outcome:?}");
    }
}

#[test]
fn a_trace_state_that_the_sdk_does_not_take_is_left_out() {
    let trace_state = parse_tracestate([b"not a list".as_slice()]);
    let data = span_data(
        &Span {
            trace_state,
            ..span(1, 2)
        },
        0,
    );
    assert_eq!(data.span_context.trace_state(), &otel::TraceState::NONE);
}
