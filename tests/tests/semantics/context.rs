//! XADD with a context of the application's own, or with what looks like one.

use tars_tests::otlp::SpanKind;
use tars_tests::server::Kind;
use tars_tests::stage::Stage;

use crate::{OWN, OWN_SPAN, OWN_TRACE, UNSAMPLED, ids, stored, without_flags};

fn injected(stage: &Stage, kind: &str) -> f64 {
    stage
        .proxy
        .metric("tars_proxy_contexts_injected_total", &[("kind", kind)])
}

#[test]
fn an_own_context_is_the_parent_and_no_byte_changes() {
    for kind in Kind::ALL {
        let stage = Stage::of(kind);
        stage.connect().call(&[
            "XADD",
            "s",
            "1-1",
            "f",
            "v",
            "traceparent",
            OWN,
            "tracestate",
            "a=1,b=2",
            "g",
            "w",
        ]);
        assert_eq!(
            stored(&stage, "s"),
            [
                "f",
                "v",
                "traceparent",
                OWN,
                "tracestate",
                "a=1,b=2",
                "g",
                "w"
            ],
            "{kind}"
        );
        let span = stage.wait_span("send s", "1-1");
        assert_eq!(span.kind, SpanKind::Client);
        assert_eq!(
            (span.trace_id.as_str(), span.parent.as_deref()),
            (OWN_TRACE, Some(OWN_SPAN))
        );
        assert_eq!(span.trace_state, "a=1,b=2");
        assert_eq!(
            stage
                .proxy
                .metric("tars_proxy_contexts_found_total", &[("source", "field")]),
            1.0
        );
        assert_eq!(injected(&stage, "new"), 0.0);
    }
}

#[test]
fn an_own_context_in_multi_and_as_a_line_is_seen_too() {
    let stage = Stage::of(Kind::Redis70);
    let mut client = stage.connect();
    client.send(format!(
        "XADD s 1-1 traceparent {OWN}\r\nMULTI\r\nXADD s 2-1 traceparent {OWN}\r\nEXEC\r\n"
    ));
    client.replies(4);
    for id in ["1-1", "2-1"] {
        let span = stage.wait_span("send s", id);
        assert_eq!(
            (span.kind, span.parent.as_deref()),
            (SpanKind::Client, Some(OWN_SPAN))
        );
    }
}

#[test]
fn a_later_version_counts_as_far_as_it_is_known() {
    let stage = Stage::of(Kind::Redis82);
    let later = format!("cc-{OWN_TRACE}-{OWN_SPAN}-01-what-comes");
    stage
        .connect()
        .call(&["XADD", "s", "1-1", "traceparent", &later]);
    assert_eq!(stored(&stage, "s"), ["traceparent", &later]);
    assert_eq!(
        stage.wait_span("send s", "1-1").parent.as_deref(),
        Some(OWN_SPAN)
    );
}

#[test]
fn an_invalid_context_is_replaced_and_the_state_beside_it_emptied() {
    let invalid = [
        "",
        "x",
        "00-00000000000000000000000000000000-0123456789abcdef-01",
        "00-0123456789abcdef0123456789abcdef-0000000000000000-01",
        "00-0123456789ABCDEF0123456789abcdef-0123456789abcdef-01",
        "ff-0123456789abcdef0123456789abcdef-0123456789abcdef-01",
        "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01-x",
        " 00-0123456789abcdef0123456789abcdef-0123456789abcdef-01",
        "00-0123456789abcdef0123456789abcdef-0123456789abcdef-0",
    ];
    for kind in Kind::ALL {
        let stage = Stage::of(kind);
        let mut client = stage.connect();
        for (n, value) in invalid.iter().enumerate() {
            let id = format!("{}-1", n + 1);
            client.call(&[
                "XADD",
                "s",
                &id,
                "a",
                "b",
                "traceparent",
                value,
                "tracestate",
                "x=1",
                "c",
                "d",
            ]);
            let span = stage.wait_span("send s", &id);
            let fields = stored(&stage, "s");
            assert_eq!(
                (span.kind, span.parent.as_deref(), span.trace_state.as_str()),
                (SpanKind::Producer, None, "")
            );
            assert_eq!(without_flags(&fields[3]), ids(&span), "{kind}: {value:?}");
            assert_eq!(
                [&fields[..3], &fields[4..]].concat(),
                ["a", "b", "traceparent", "tracestate", "", "c", "d"],
                "{kind}: {value:?}"
            );
        }
        assert_eq!(injected(&stage, "replaced"), invalid.len() as f64);
    }
}

#[test]
fn two_contexts_are_none_and_both_are_replaced() {
    let stage = Stage::of(Kind::Valkey);
    let other = OWN.replace("abcdef-01", "abcdee-01");
    let mut client = stage.connect();
    client.call(&[
        "XADD",
        "s",
        "1-1",
        "traceparent",
        OWN,
        "tracestate",
        "a=1",
        "traceparent",
        &other,
        "tracestate",
        "b=1",
    ]);
    let span = stage.wait_span("send s", "1-1");
    let fields = stored(&stage, "s");
    assert_eq!(
        (span.kind, span.parent.as_deref()),
        (SpanKind::Producer, None)
    );
    assert_eq!([&fields[3], &fields[7]], ["", ""]);
    assert_eq!(
        [without_flags(&fields[1]), without_flags(&fields[5])],
        [ids(&span), ids(&span)]
    );
    assert_eq!(fields.len(), 8);
}

#[test]
fn several_states_are_joined_for_reading() {
    let stage = Stage::of(Kind::Redis82);
    let fields = [
        "tracestate",
        "a=1",
        "traceparent",
        OWN,
        "tracestate",
        "b=2,c=3",
    ];
    stage
        .connect()
        .call(&[["XADD", "s", "1-1"].as_slice(), &fields].concat());
    assert_eq!(stored(&stage, "s"), fields);
    assert_eq!(stage.wait_span("send s", "1-1").trace_state, "a=1,b=2,c=3");
}

#[test]
fn a_state_without_a_context_is_emptied() {
    // It belongs to no context: under the new one it would be another's.
    let stage = Stage::of(Kind::Redis82);
    stage
        .connect()
        .call(&["XADD", "s", "1-1", "tracestate", "a=1", "f", "v"]);
    let fields = stored(&stage, "s");
    assert_eq!(fields[..5], ["tracestate", "", "f", "v", "traceparent"]);
    assert_eq!(stage.wait_span("send s", "1-1").trace_state, "");
}

#[test]
fn an_envelope_is_an_own_context_and_is_added_flat() {
    for kind in Kind::ALL {
        let stage = Stage::of(kind);
        let mut client = stage.connect();
        let envelope = format!("{{\"tracestate\":\"a=1\",\"x\":[1],\"traceparent\":\"{OWN}\"}}");
        client.call(&["XADD", "s", "1-1", "f", "v", "_trace_context", &envelope]);
        let fields = stored(&stage, "s");
        assert_eq!(
            fields,
            [
                "f",
                "v",
                "_trace_context",
                &envelope,
                "traceparent",
                OWN,
                "tracestate",
                "a=1"
            ],
            "{kind}"
        );
        let span = stage.wait_span("send s", "1-1");
        assert_eq!(
            (span.kind, span.parent.as_deref()),
            (SpanKind::Client, Some(OWN_SPAN))
        );
        assert_eq!(
            (span.trace_id.as_str(), span.trace_state.as_str()),
            (OWN_TRACE, "a=1")
        );
        assert_eq!(injected(&stage, "envelope"), 1.0);
    }
}

#[test]
fn an_envelope_that_is_none_counts_for_nothing() {
    let stage = Stage::of(Kind::Redis70);
    let mut client = stage.connect();
    for (n, envelope) in [
        "",
        "{",
        "[]",
        "{\"traceparent\":1}",
        "{\"traceparent\":\"x\"}",
    ]
    .iter()
    .enumerate()
    {
        let id = format!("{}-1", n + 1);
        client.call(&["XADD", "s", &id, "_trace_context", envelope]);
        let span = stage.wait_span("send s", &id);
        assert_eq!(
            (span.kind, span.parent.as_deref()),
            (SpanKind::Producer, None),
            "{envelope}"
        );
        let fields = stored(&stage, "s");
        assert_eq!(fields[..3], ["_trace_context", envelope, "traceparent"]);
        assert_eq!(without_flags(&fields[3]), ids(&span));
    }
}

#[test]
fn a_flat_context_goes_over_an_envelope() {
    let stage = Stage::of(Kind::Redis70);
    let envelope = format!("{{\"traceparent\":\"{}\"}}", OWN.replace("0123", "9999"));
    let fields = ["_trace_context", &envelope, "traceparent", OWN];
    stage
        .connect()
        .call(&[["XADD", "s", "1-1"].as_slice(), &fields].concat());
    assert_eq!(stored(&stage, "s"), fields);
    assert_eq!(
        stage.wait_span("send s", "1-1").parent.as_deref(),
        Some(OWN_SPAN)
    );
}

#[test]
fn not_sampled_travels_on_and_has_no_span() {
    let stage = Stage::of(Kind::Redis82);
    let mut client = stage.connect();
    stage.direct("XGROUP CREATE s g 0 MKSTREAM");
    client.call(&["XADD", "s", "1-1", "traceparent", UNSAMPLED]);
    let envelope = format!(
        "{{\"traceparent\":\"{}\"}}",
        UNSAMPLED.replace("-00", "-02")
    );
    client.call(&["XADD", "s", "2-1", "_trace_context", &envelope]);
    // The flag that says that the id is random is passed on as it came.
    assert_eq!(
        stored(&stage, "s")[3],
        UNSAMPLED.replace("-00", "-02").replacen("02-", "00-", 0)
    );
    client.call(&["XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">"]);
    client.call(&["XACK", "s", "g", "1-1", "2-1"]);
    let spans = stage.settle_spans();
    assert_eq!(spans.len(), 1, "{spans:#?}");
    assert_eq!(
        stage
            .proxy
            .metric("tars_stream_messages_sent_total", &[("stream", "s")]),
        2.0
    );
}
