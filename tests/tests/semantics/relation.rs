//! `relation = "link"`: deliveries are roots that point at their messages.

use tars_tests::otlp::SpanKind;
use tars_tests::server::Kind;
use tars_tests::stage::Stage;

use crate::{UNSAMPLED, make_group};

fn stage(kind: Kind) -> Stage {
    Stage::configured(kind, |proxy| proxy.args(["--relation", "link"]))
}

#[test]
fn a_process_span_is_a_root_with_a_link() {
    for kind in Kind::ALL {
        let stage = stage(kind);
        make_group(&stage, "s");
        let mut client = stage.connect();
        client.call(&["XADD", "s", "1-1", "f", "v"]);
        client.call(&["XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">"]);
        client.call(&["XACK", "s", "g", "1-1"]);
        let (sent, span) = (
            stage.wait_span("send s", "1-1"),
            stage.wait_span("process s", "1-1"),
        );
        assert_eq!(
            (span.parent.as_deref(), span.kind),
            (None, SpanKind::Consumer),
            "{kind}"
        );
        assert_ne!(span.trace_id, sent.trace_id);
        let [link] = span.links.as_slice() else {
            panic!("{span:#?}")
        };
        assert_eq!(
            (&link.trace_id, &link.span_id),
            (&sent.trace_id, &sent.span_id)
        );
        assert_eq!(link.attributes["tars.link"], "message");
    }
}

#[test]
fn what_is_received_is_one_span_a_stream_a_reply() {
    for kind in Kind::ALL {
        for hello in ["2", "3"] {
            let stage = stage(kind);
            let mut client = stage.connect();
            client.call(&["HELLO", hello]);
            for id in ["1-1", "2-1", "3-1"] {
                client.call(&["XADD", "s", id, "f", "v"]);
            }
            client.call(&["XADD", "t", "1-1", "f", "v"]);
            client.call(&["XREAD", "STREAMS", "s", "t", "0", "0"]);
            let span = &stage.wait_named("receive s", 1)[0];
            assert_eq!(
                (span.kind, span.parent.as_deref()),
                (SpanKind::Client, None),
                "{kind}"
            );
            assert_eq!(span.attr("messaging.batch.message_count"), 3);
            assert!(span.attr("messaging.message.id").is_null());
            let sent = stage.wait_named("send s", 3);
            let linked: Vec<_> = span.links.iter().map(|link| &link.span_id).collect();
            assert_eq!(
                linked,
                sent.iter().map(|sent| &sent.span_id).collect::<Vec<_>>()
            );
            assert_eq!(
                stage.wait_named("receive t", 1)[0].attr("messaging.batch.message_count"),
                1
            );
        }
    }
}

#[test]
fn an_unsampled_message_has_no_span_either_way() {
    let stage = stage(Kind::Redis82);
    make_group(&stage, "s");
    let mut client = stage.connect();
    client.call(&["XADD", "s", "1-1", "traceparent", UNSAMPLED]);
    client.call(&["XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">"]);
    client.call(&["XACK", "s", "g", "1-1"]);
    assert_eq!(stage.settle_spans().len(), 1);
}
