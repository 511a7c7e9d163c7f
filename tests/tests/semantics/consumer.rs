//! Deliveries of every kind: which span each makes.

use tars_tests::otlp::SpanKind;
use tars_tests::server::Kind;
use tars_tests::stage::Stage;

use crate::{OWN, OWN_SPAN, OWN_TRACE, make_group};

/// Every kind of server, in both protocols, and the newest with every reply in single bytes.
fn each(test: impl Fn(&str, &Stage, &mut tars_tests::resp::Client)) {
    let plain = Kind::ALL.map(|kind| (kind, false));
    for (kind, chopped) in plain.into_iter().chain([(Kind::Redis82, true)]) {
        for hello in ["2", "3"] {
            let stage = if chopped {
                Stage::chopped(kind)
            } else {
                Stage::of(kind)
            };
            make_group(&stage, "s");
            let mut client = stage.connect();
            client.call(&["HELLO", hello]);
            let on = format!("{kind}, RESP{hello}, chopped: {chopped}");
            test(&on, &stage, &mut client);
        }
    }
}

#[test]
fn a_group_processes_until_xack() {
    each(|on, stage, client| {
        client.call(&["XADD", "s", "1-1", "f", "v"]);
        client.call(&["XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">"]);
        let sent = stage.wait_span("send s", "1-1");
        assert_eq!(
            stage.collector.spans().len(),
            1,
            "{on}: a delivery ends with its settlement"
        );
        assert_eq!(stage.proxy.metric("tars_proxy_deliveries", &[]), 1.0);
        assert_eq!(stage.connect().call(&["XACK", "s", "g", "1-1"]), ":1\r\n");
        let span = stage.wait_span("process s", "1-1");
        assert!(span.is_child_of(&sent), "{on}");
        assert_eq!(span.kind, SpanKind::Consumer);
        for (name, value) in [
            ("messaging.operation.name", "process"),
            ("messaging.operation.type", "process"),
            ("messaging.consumer.group.name", "g"),
            ("tars.consumer", "c"),
        ] {
            assert_eq!(span.attr(name), value, "{on}: {name}");
        }
        assert_eq!(span.attr("tars.delivery_count"), 1);
        assert!(span.links.is_empty() && span.attr("tars.outcome").is_null());
    });
}

#[test]
fn a_batch_over_several_streams() {
    each(|on, stage, client| {
        make_group(stage, "t");
        for n in 1..=3 {
            client.call(&["XADD", "s", &format!("{n}-1"), "f", "v"]);
            client.call(&["XADD", "t", &format!("{n}-2"), "f", "v"]);
        }
        client.call(&[
            "XREADGROUP",
            "GROUP",
            "g",
            "c",
            "COUNT",
            "10",
            "STREAMS",
            "s",
            "t",
            ">",
            ">",
        ]);
        client.call(&["XACK", "s", "g", "1-1", "2-1", "3-1"]);
        client.call(&["XACK", "t", "g", "1-2", "2-2", "3-2"]);
        for n in 1..=3 {
            for (stream, id) in [("s", format!("{n}-1")), ("t", format!("{n}-2"))] {
                let sent = stage.wait_span(&format!("send {stream}"), &id);
                let processed = stage.wait_span(&format!("process {stream}"), &id);
                assert!(processed.is_child_of(&sent), "{on}: {id}");
            }
        }
    });
}

#[test]
fn no_group_or_noack_receives_at_once() {
    each(|on, stage, client| {
        client.call(&["XADD", "s", "1-1", "f", "v"]);
        client.call(&["XREAD", "STREAMS", "s", "0"]);
        client.call(&[
            "XREADGROUP",
            "GROUP",
            "g",
            "c",
            "NOACK",
            "STREAMS",
            "s",
            ">",
        ]);
        let sent = stage.wait_span("send s", "1-1");
        let spans = stage.wait_named("receive s", 2);
        for span in &spans {
            assert!(span.is_child_of(&sent), "{on}");
            assert_eq!(
                (span.kind, span.attr("messaging.message.id")),
                (SpanKind::Consumer, &"1-1".into())
            );
        }
        assert!(spans[0].attr("messaging.consumer.group.name").is_null());
        assert_eq!(spans[1].attr("messaging.consumer.group.name"), "g");
        assert_eq!(stage.proxy.metric("tars_proxy_deliveries", &[]), 0.0);
    });
}

#[test]
fn empty_polls_and_ids_alone_make_no_span() {
    each(|on, stage, client| {
        client.call(&["XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">"]);
        client.call(&["XREAD", "STREAMS", "s", "0"]);
        client.call(&["XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", "0"]);
        stage.direct("XADD s 1-1 f v");
        stage.direct("XREADGROUP GROUP g other STREAMS s >");
        assert_eq!(
            client.call(&["XCLAIM", "s", "g", "c", "0", "1-1", "JUSTID"]),
            "*1\r\n$3\r\n1-1\r\n",
            "{on}"
        );
        assert!(
            client
                .call(&["XAUTOCLAIM", "s", "g", "c", "0", "0", "JUSTID"])
                .contains("1-1")
        );
        client.call(&["XRANGE", "s", "-", "+"]);
        client.call(&["XACK", "s", "g", "1-1"]);
        assert_eq!(stage.settle_spans().len(), 1, "{on}");
        assert_eq!(stage.raw_relays(), 0.0);
    });
}

#[test]
fn messages_without_a_context_begin_a_trace() {
    each(|on, stage, client| {
        stage.direct("XADD s 1-1 f v");
        stage.direct("XADD s 2-1 f v traceparent broken");
        stage.direct(&format!(
            "XADD s 3-1 _trace_context {{\"traceparent\":\"{OWN}\"}}"
        ));
        client.call(&["XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">"]);
        client.call(&["XACK", "s", "g", "1-1", "2-1", "3-1"]);
        for id in ["1-1", "2-1"] {
            assert_eq!(stage.wait_span("process s", id).parent, None, "{on}");
        }
        let span = stage.wait_span("process s", "3-1");
        assert_eq!(
            (span.trace_id.as_str(), span.parent.as_deref()),
            (OWN_TRACE, Some(OWN_SPAN))
        );
        for source in ["none", "invalid", "envelope"] {
            assert_eq!(
                stage
                    .proxy
                    .metric("tars_proxy_contexts_extracted_total", &[("source", source)]),
                1.0
            );
        }
    });
}

#[test]
fn deleted_messages_have_no_span() {
    each(|on, stage, client| {
        for id in ["1-1", "2-1", "3-1"] {
            client.call(&["XADD", "s", id, "f", "v"]);
        }
        stage.direct("XREADGROUP GROUP g c STREAMS s >");
        stage.direct("XDEL s 2-1");
        // One's own history shows a deleted message with nil for its fields.
        let history = client.call(&["XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", "0"]);
        assert!(
            history.contains("2-1\r\n*-1\r\n") || history.contains("2-1\r\n_\r\n"),
            "{on}: {history}"
        );
        client.call(&["XAUTOCLAIM", "s", "g", "d", "0", "0"]);
        client.call(&["XACK", "s", "g", "1-1", "3-1"]);
        stage.wait_named("process s", 4);
        let spans = stage.settle_spans();
        let deleted = spans
            .iter()
            .filter(|s| s.name == "process s" && s.attr("messaging.message.id") == "2-1");
        assert_eq!(deleted.count(), 0, "{on}");
        assert_eq!(stage.raw_relays(), 0.0);
    });
}

#[test]
fn within_exec() {
    each(|on, stage, client| {
        for command in [
            ["MULTI"].as_slice(),
            &["XADD", "s", "1-1", "f", "v"],
            &["XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">"],
            &["XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">"],
            &["XREAD", "STREAMS", "s", "0"],
            &["XCLAIM", "s", "g", "d", "0", "1-1"],
            &["XAUTOCLAIM", "s", "g", "e", "0", "0"],
            &["XACK", "s", "g", "1-1"],
            &["EXEC"],
        ] {
            client.call(command);
        }
        let sent = stage.wait_span("send s", "1-1");
        let spans = stage.wait_named("process s", 3);
        let consumers: Vec<_> = spans
            .iter()
            .map(|span| span.attr("tars.consumer").clone())
            .collect();
        assert_eq!(consumers, ["c", "d", "e"], "{on}");
        assert!(spans.iter().all(|span| span.is_child_of(&sent)), "{on}");
        assert!(stage.wait_span("receive s", "1-1").is_child_of(&sent));
    });
}
