//! A message that is delivered once more.

use tars_tests::otlp::Span;
use tars_tests::resp::Client;
use tars_tests::server::Kind;
use tars_tests::stage::Stage;

use crate::make_group;

/// Message 1-1 is delivered to c, then once more to whom `again` says; both attempts, and the message's own span.
fn attempts(kind: Kind, again: impl Fn(&mut Client)) -> (Span, Vec<Span>) {
    let stage = Stage::of(kind);
    make_group(&stage, "s");
    let mut client = stage.connect();
    client.call(&["XADD", "s", "1-1", "f", "v"]);
    client.call(&["XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">"]);
    again(&mut client);
    assert_eq!(client.call(&["XACK", "s", "g", "1-1"]), ":1\r\n");
    assert_eq!(stage.raw_relays(), 0.0);
    let redelivered = [("stream", "s"), ("group", "g")];
    assert_eq!(
        stage
            .proxy
            .metric("tars_stream_messages_redelivered_total", &redelivered),
        1.0
    );
    (
        stage.wait_span("send s", "1-1"),
        stage.wait_named("process s", 2),
    )
}

#[track_caller]
fn assert_superseded(sent: &Span, attempts: &[Span], consumer: &str) {
    let [first, second] = attempts else {
        panic!("{attempts:#?}")
    };
    assert_eq!(first.attr("tars.outcome"), "superseded");
    assert!(second.attr("tars.outcome").is_null());
    assert_eq!(second.attr("tars.consumer"), consumer);
    assert!(first.is_child_of(sent) && second.is_child_of(sent));
    assert!(first.links.is_empty());
    let [link] = second.links.as_slice() else {
        panic!("{second:#?}")
    };
    assert_eq!(
        (&link.trace_id, &link.span_id),
        (&first.trace_id, &first.span_id)
    );
    assert_eq!(link.attributes["tars.link"], "previous_attempt");
}

#[test]
fn by_a_claim() {
    for kind in Kind::ALL {
        for hello in ["2", "3"] {
            let (sent, both) = attempts(kind, |client| {
                client.call(&["HELLO", hello]);
                client.call(&["XCLAIM", "s", "g", "d", "0", "1-1"]);
            });
            assert_superseded(&sent, &both, "d");
            assert_eq!(both[1].attr("tars.delivery_count"), 2);
        }
    }
}

#[test]
fn by_a_claim_that_sets_the_count() {
    let (sent, both) = attempts(Kind::Redis82, |client| {
        client.call(&["XCLAIM", "s", "g", "d", "0", "1-1", "RETRYCOUNT", "7"]);
    });
    assert_superseded(&sent, &both, "d");
    assert_eq!(both[1].attr("tars.delivery_count"), 7);
}

#[test]
fn by_an_automatic_claim() {
    for kind in Kind::ALL {
        for hello in ["2", "3"] {
            let (sent, both) = attempts(kind, |client| {
                client.call(&["HELLO", hello]);
                client.call(&["XAUTOCLAIM", "s", "g", "d", "0", "0"]);
            });
            assert_superseded(&sent, &both, "d");
            assert_eq!(both[1].attr("tars.delivery_count"), 2);
        }
    }
}

#[test]
fn by_a_read_of_one_s_own_history() {
    for kind in Kind::ALL {
        let (sent, both) = attempts(kind, |client| {
            client.call(&["XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", "0"]);
        });
        assert_superseded(&sent, &both, "c");
    }
}

#[test]
fn of_an_attempt_that_this_proxy_did_not_see() {
    for kind in Kind::ALL {
        let stage = Stage::of(kind);
        make_group(&stage, "s");
        let mut client = stage.connect();
        client.call(&["XADD", "s", "1-1", "f", "v"]);
        stage.direct("XREADGROUP GROUP g c STREAMS s >");
        client.call(&["XCLAIM", "s", "g", "d", "0", "1-1"]);
        client.call(&["XACK", "s", "g", "1-1"]);
        let span = stage.wait_span("process s", "1-1");
        assert!(span.links.is_empty() && span.is_child_of(&stage.wait_span("send s", "1-1")));
        // How often before, no reply says.
        assert!(span.attr("tars.delivery_count").is_null(), "{kind}");
    }
}

#[test]
fn another_group_is_another_delivery() {
    let stage = Stage::of(Kind::Redis82);
    make_group(&stage, "s");
    stage.direct("XGROUP CREATE s h 0");
    let mut client = stage.connect();
    client.call(&["XADD", "s", "1-1", "f", "v"]);
    for group in ["g", "h"] {
        client.call(&["XREADGROUP", "GROUP", group, "c", "STREAMS", "s", ">"]);
    }
    for group in ["g", "h"] {
        client.call(&["XACK", "s", group, "1-1"]);
    }
    for span in stage.wait_named("process s", 2) {
        assert!(span.links.is_empty() && span.attr("tars.outcome").is_null());
    }
}

#[test]
fn history_and_news_in_one_reply_are_told_apart() {
    for kind in Kind::ALL {
        let stage = Stage::of(kind);
        let mut client = stage.connect();
        for stream in ["s", "t"] {
            make_group(&stage, stream);
            client.call(&["XADD", stream, "1-1", "f", "v"]);
        }
        client.call(&["XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">"]);
        client.call(&[
            "XREADGROUP",
            "GROUP",
            "g",
            "c",
            "STREAMS",
            "s",
            "t",
            "0",
            ">",
        ]);
        client.call(&["XACK", "s", "g", "1-1"]);
        client.call(&["XACK", "t", "g", "1-1"]);
        let again = stage.wait_named("process s", 2);
        assert_eq!(again[0].attr("tars.outcome"), "superseded", "{kind}");
        assert_eq!(again[1].attr("tars.delivery_count"), 2);
        let new = &stage.wait_named("process t", 1)[0];
        assert!(new.links.is_empty());
        assert_eq!(new.attr("tars.delivery_count"), 1);
    }
}
