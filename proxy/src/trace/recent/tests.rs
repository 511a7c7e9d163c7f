#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::num::NonZeroU32;

use serde_json::Value;

use super::json::Detail;
use super::*;
use crate::trace::context::parse_tracestate;
use crate::trace::span::{EntryId, Link, LinkKind, Operation, Outcome};
use crate::trace::testing::{context, of_service, span};

fn everything() -> Query {
    Query {
        stream: None,
        trace: None,
        text: None,
        errors: false,
        limit: NonZeroUsize::new(50).unwrap(),
    }
}

fn answer(recent: &Recent, query: &Query, detail: Detail) -> Value {
    serde_json::from_slice(&recent.answer(query, detail).unwrap()).unwrap()
}

/// Trace ids, as numbers, of the traces that are found.
fn found(recent: &Recent, query: &Query) -> Vec<u128> {
    let ring = recent.lock();
    let (traces, _) = ring.traces(query);
    traces
        .iter()
        .map(|trace| u128::from_be_bytes(trace.id.to_bytes()))
        .collect()
}

fn at(start: u64, span: Span) -> Span {
    Span {
        start,
        end: start + 10,
        ..span
    }
}

// ---- The ring

#[test]
fn the_oldest_leave_when_there_are_too_many() {
    let recent = Recent::new(3);
    assert!(recent.is_empty());
    recent.extend((0..5).map(|n| at(n, span(n.into(), n))));
    assert_eq!(recent.len(), 3);
    assert_eq!(found(&recent, &everything()), [4, 3, 2]);
    assert_eq!(
        answer(&recent, &everything(), Detail::Summary)["spans_seen"],
        5
    );
}

#[test]
fn the_oldest_leave_when_they_are_too_large() {
    let recent = Recent::new(10);
    let large = |n: u64| Span {
        stream: "x".repeat(3000).into(),
        ..at(n, span(n.into(), n))
    };
    recent.extend((0..10).map(large));
    assert_eq!(found(&recent, &everything()), [9, 8, 7]);
    let ring = recent.lock();
    let held: usize = ring.spans.iter().map(weight).sum();
    assert_eq!(ring.bytes, held);
    assert!(held <= recent.max_bytes);
}

#[test]
fn a_span_larger_than_the_ring_empties_it_and_no_more() {
    let recent = Recent::new(2);
    recent.push(span(1, 1));
    recent.push(Span {
        stream: "x".repeat(5000).into(),
        ..span(2, 2)
    });
    assert!(recent.is_empty());
    assert_eq!(recent.lock().bytes, 0);
    recent.push(span(3, 3));
    assert_eq!(recent.len(), 1);
}

#[test]
fn the_weight_counts_what_a_client_can_make_large() {
    let empty = weight(&Span {
        stream: "".into(),
        ..span(1, 1)
    });
    let links = vec![
        Link {
            context: context(1, 2),
            kind: LinkKind::Message
        };
        3
    ];
    let full = Span {
        stream: "12345".into(),
        group: Some("1234".into()),
        consumer: Some("123".into()),
        trace_state: parse_tracestate([b"a=1".as_slice()]),
        outcome: Outcome::Error("12".into()),
        links,
        ..span(1, 1)
    };
    assert_eq!(
        weight(&full) - empty,
        5 + 4 + 3 + 3 + 2 + 3 * size_of::<Link>()
    );
}

#[test]
fn a_batch_keeps_some_of_its_links() {
    let recent = Recent::new(10);
    let links = vec![
        Link {
            context: context(1, 2),
            kind: LinkKind::Message
        };
        1000
    ];
    recent.push(Span {
        links,
        ..span(1, 1)
    });
    let ring = recent.lock();
    assert_eq!(ring.spans[0].links.len(), MAX_LINKS);
    assert_eq!(ring.spans[0].links.capacity(), MAX_LINKS);
}

// ---- Queries

#[test]
fn id_prefixes() {
    let id = TraceId::from_bytes(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes());
    for prefix in ["4", "4b", "4BF92f3", "4bf92f3577b34da6a3ce929d0e0e4736"] {
        assert!(IdPrefix::parse(prefix).unwrap().matches(id), "{prefix}");
    }
    for prefix in ["5", "bf", "4bf92f3577b34da6a3ce929d0e0e4737"] {
        assert!(!IdPrefix::parse(prefix).unwrap().matches(id), "{prefix}");
    }
    for text in ["", "+1", "-1", "0x4b", "g", "é", &"0".repeat(33)] {
        assert_eq!(IdPrefix::parse(text), None, "{text}");
    }
}

/// Three traces: orders of a shop, payments with an error, and jobs.
fn three() -> Recent {
    let recent = Recent::new(100);
    let top = 0xabcd_ef00_u128 << 96;
    let payment = Span {
        stream: "payments".into(),
        group: Some("workers".into()),
        outcome: Outcome::Timeout,
        ..of_service("payment", at(200, span(top + 2, 3)))
    };
    recent.extend([
        at(100, span(1, 1)),
        payment,
        at(210, span(top + 2, 4)),
        Span {
            stream: "jobs".into(),
            ..at(150, span(3, 5))
        },
    ]);
    recent
}

#[test]
fn queries_select_traces() {
    let recent = three();
    let top = 0xabcd_ef00_u128 << 96;
    let select = |change: fn(&mut Query)| {
        let mut query = everything();
        change(&mut query);
        found(&recent, &query)
    };
    let all = [top + 2, 3, 1];
    assert_eq!(select(|_| {}), all, "the latest first");
    assert_eq!(
        select(|q| q.stream = Some("rder".into())),
        [top + 2, 1],
        "any span of the trace"
    );
    assert_eq!(select(|q| q.stream = Some("workers".into())), []);
    assert_eq!(select(|q| q.errors = true), [top + 2]);
    assert_eq!(select(|q| q.trace = IdPrefix::parse("abc")), [top + 2]);
    assert_eq!(select(|q| q.trace = IdPrefix::parse("0")), [3, 1]);
    assert_eq!(select(|q| q.text = Some("jobs".into())), [3]);
    assert_eq!(select(|q| q.text = Some("workers".into())), [top + 2]);
    assert_eq!(select(|q| q.text = Some("shop".into())), all);
    assert_eq!(select(|q| q.text = Some("abcdef".into())), [top + 2]);
    assert_eq!(
        select(|q| q.text = Some("abc".into())),
        [],
        "too short for an id"
    );
    let both = |q: &mut Query| (q.errors, q.stream) = (true, Some("jobs".into()));
    assert_eq!(select(both), []);
}

#[test]
fn a_text_finds_a_consumer_and_a_message() {
    let recent = Recent::new(10);
    recent.push(Span {
        consumer: Some("worker-7".into()),
        message: EntryId::parse(b"1795343538384-0"),
        ..at(1, span(1, 1))
    });
    recent.push(Span {
        message: EntryId::parse(b"17-12"),
        ..at(2, span(2, 2))
    });
    for (text, expected) in [
        ("worker-7", &[1][..]),
        ("ker-", &[1]),
        ("1795343538384-0", &[1]),
        ("1795343538384", &[1]),
        ("179534", &[1]),
        ("17953", &[]),
        ("795343538384", &[]),
        ("1795343538384-1", &[]),
        ("17-12", &[2]),
        ("17-1", &[2]),
        ("17-", &[2]),
        ("17", &[]),
        ("-12", &[]),
        ("17-12-", &[]),
    ] {
        let query = Query {
            text: Some(text.into()),
            ..everything()
        };
        assert_eq!(found(&recent, &query), expected, "{text}");
    }
}

#[test]
fn the_limit_says_that_there_are_more() {
    let recent = three();
    let limited = |n| {
        let query = Query {
            limit: NonZeroUsize::new(n).unwrap(),
            ..everything()
        };
        let answer = answer(&recent, &query, Detail::Summary);
        (
            answer["traces"].as_array().unwrap().len(),
            answer["more"].as_bool().unwrap(),
        )
    };
    assert_eq!(limited(2), (2, true));
    assert_eq!(limited(3), (3, false));
}

// ---- Answers

#[test]
fn the_shape_of_an_answer() {
    let recent = Recent::new(100).listening_on(["127.0.0.1:6380".to_owned()]);
    let process = Span {
        parent: Some(context(7, 1).span_id),
        operation: Operation::Process,
        group: Some("payments".into()),
        consumer: Some("worker-1".into()),
        message: Some(EntryId { ms: 1700, seq: 2 }),
        delivery_count: NonZeroU32::new(2),
        inferred: true,
        trace_state: parse_tracestate([b"a=1".as_slice()]),
        start: 1_700_000_000_000_000_250,
        end: 1_700_000_000_000_001_000,
        outcome: Outcome::Error("fail".into()),
        links: vec![Link {
            context: context(8, 9),
            kind: LinkKind::PreviousAttempt,
        }],
        ..of_service("payment", span(7, 2))
    };
    // Spans come when they end, so the child may come first.
    recent.push(process);
    recent.push(at(1_700_000_000_000_000_000, span(7, 1)));
    let expected = r#"{
    "listeners": ["127.0.0.1:6380"],
    "spans_seen": 2,
    "spans_held": 2,
    "more": false,
    "traces": [{
        "trace_id": "00000000000000000000000000000007",
        "name": "send orders",
        "start": "1700000000000000000",
        "duration_ns": 1000,
        "services": ["shop", "payment"],
        "span_count": 2,
        "error_count": 1,
        "spans": [
            {
                "span_id": "0000000000000001",
                "parent": null,
                "name": "send orders",
                "operation": "send",
                "kind": "PRODUCER",
                "service": "shop",
                "stream": "orders",
                "group": null,
                "consumer": null,
                "message_id": null,
                "delivery_count": null,
                "batch": null,
                "start": "1700000000000000000",
                "end": "1700000000000000010",
                "offset_ns": 0,
                "duration_ns": 10,
                "outcome": "done",
                "error": null,
                "inferred": false,
                "links": [],
                "trace_state": null,
                "attributes": {
                    "messaging.system": "redis",
                    "messaging.operation.name": "send",
                    "messaging.operation.type": "send",
                    "messaging.destination.name": "orders",
                    "server.address": "redis.internal",
                    "server.port": 6379
                }
            },
            {
                "span_id": "0000000000000002",
                "parent": "0000000000000001",
                "name": "process orders",
                "operation": "process",
                "kind": "CONSUMER",
                "service": "payment",
                "stream": "orders",
                "group": "payments",
                "consumer": "worker-1",
                "message_id": "1700-2",
                "delivery_count": 2,
                "batch": null,
                "start": "1700000000000000250",
                "end": "1700000000000001000",
                "offset_ns": 250,
                "duration_ns": 750,
                "outcome": "error",
                "error": "fail",
                "inferred": true,
                "links": [{
                    "trace_id": "00000000000000000000000000000008",
                    "span_id": "0000000000000009",
                    "kind": "previous_attempt"
                }],
                "trace_state": "a=1",
                "attributes": {
                    "messaging.system": "redis",
                    "messaging.operation.name": "process",
                    "messaging.operation.type": "process",
                    "messaging.destination.name": "orders",
                    "messaging.consumer.group.name": "payments",
                    "tars.consumer": "worker-1",
                    "messaging.message.id": "1700-2",
                    "tars.delivery_count": 2,
                    "server.address": "redis.internal",
                    "server.port": 6379,
                    "tars.parent": "inferred",
                    "error.type": "fail"
                }
            }
        ]
    }]
    }"#;
    let expected: Value = serde_json::from_str(expected).unwrap();
    assert_eq!(answer(&recent, &everything(), Detail::Attributes), expected);
}

#[test]
fn an_answer_says_why_no_trace_will_come() {
    let off = |recent: &Recent| answer(recent, &everything(), Detail::Summary)["off"].clone();
    let no_trace = "tracing is off (no_trace)";
    assert_eq!(off(&Recent::new(1).off(None)), Value::Null);
    assert_eq!(off(&Recent::new(1).off(Some(no_trace))), no_trace);
    assert_eq!(off(&Recent::new(0).off(None)), NO_SPANS);
    assert_eq!(off(&Recent::new(0).off(Some(no_trace))), no_trace);
}

#[test]
fn less_is_told_where_less_is_asked() {
    let recent = three();
    let summary = answer(&recent, &everything(), Detail::Summary);
    assert_eq!(summary["traces"][0].get("spans"), None);
    assert_eq!(summary["traces"][0]["span_count"], 2);
    let spans = answer(&recent, &everything(), Detail::Spans);
    assert_eq!(spans["traces"][0]["spans"][0]["stream"], "payments");
    assert_eq!(spans["traces"][0]["spans"][0].get("attributes"), None);
}

#[test]
fn a_trace_without_its_root_is_named_after_its_first_span() {
    let recent = Recent::new(10);
    let parent = Some(context(1, 99).span_id);
    recent.push(Span {
        parent,
        stream: "second".into(),
        ..at(20, span(1, 2))
    });
    recent.push(Span {
        parent,
        stream: "first".into(),
        ..at(10, span(1, 1))
    });
    assert_eq!(
        answer(&recent, &everything(), Detail::Summary)["traces"][0]["name"],
        "send first"
    );
    recent.push(Span {
        stream: "root".into(),
        ..at(30, span(1, 3))
    });
    assert_eq!(
        answer(&recent, &everything(), Detail::Summary)["traces"][0]["name"],
        "send root"
    );
}

#[test]
fn every_outcome_has_its_word() {
    let words = [
        (Outcome::Done, "done"),
        (Outcome::NotSent, "not_sent"),
        (Outcome::Settled, "settled"),
        (Outcome::Uncertain, "uncertain"),
        (Outcome::Released, "released"),
        (Outcome::Superseded, "superseded"),
        (Outcome::Timeout, "timeout"),
        (Outcome::Evicted, "evicted"),
        (Outcome::Drained, "drained"),
        (Outcome::Unknown, "unknown"),
        (Outcome::Error("x".into()), "error"),
    ];
    for (outcome, word) in words {
        let recent = Recent::new(1);
        recent.push(Span {
            outcome,
            ..span(1, 1)
        });
        let answer = answer(&recent, &everything(), Detail::Spans);
        assert_eq!(answer["traces"][0]["spans"][0]["outcome"], word);
    }
}

#[test]
fn an_answer_is_bounded_and_says_what_it_left_out() {
    let recent = Recent::new(20_000);
    let name: Arc<str> = "x".repeat(700).into();
    recent.extend((0..20_000).map(|n| Span {
        stream: name.clone(),
        ..at(n, span(1, n))
    }));
    let held = recent.len();
    let answer = answer(&recent, &everything(), Detail::Spans);
    let spans = answer["traces"][0]["spans"].as_array().unwrap();
    let weight = weight(&Span {
        stream: name,
        ..span(1, 1)
    });
    assert_eq!(spans.len(), ANSWER_BYTES / weight);
    assert_eq!(answer["traces"][0]["span_count"], held);
    assert_eq!(spans[0]["offset_ns"], 0, "the first are shown");
}

#[test]
fn the_tag_changes_with_the_content() {
    let recent = Recent::new(1);
    let before = recent.etag();
    assert_eq!(recent.etag(), before);
    recent.push(span(1, 1));
    let after = recent.etag();
    assert_ne!(after, before);
    recent.push(span(1, 1));
    assert_ne!(recent.etag(), after, "as many as before, but others");
    assert_ne!(Recent::new(1).etag(), before, "another process");
}
