//! XADD that writes nothing, or fails, or waits for EXEC.

use tars_tests::otlp::Span;
use tars_tests::otlp::span::StatusCode;
use tars_tests::server::Kind;
use tars_tests::stage::Stage;

#[track_caller]
fn assert_not_sent(spans: &[Span]) {
    for span in spans {
        assert_eq!(span.attr("tars.outcome"), "not_sent", "{span:#?}");
        assert!(span.attr("messaging.message.id").is_null() && span.attr("error.type").is_null());
        assert_eq!(span.status, StatusCode::Unset);
    }
}

#[test]
fn no_stream_to_add_to() {
    for kind in Kind::ALL {
        for (hello, nil) in [("2", "$-1\r\n"), ("3", "_\r\n")] {
            let stage = Stage::of(kind);
            let mut client = stage.connect();
            client.call(&["HELLO", hello]);
            assert_eq!(
                client.call(&["XADD", "s", "NOMKSTREAM", "*", "f", "v"]),
                nil,
                "{kind}"
            );
            assert_not_sent(&stage.wait_named("send s", 1));
        }
    }
}

#[test]
fn an_error_is_named() {
    for kind in Kind::ALL {
        let stage = Stage::of(kind);
        let mut client = stage.connect();
        client.call(&["SET", "k", "v"]);
        assert!(
            client
                .call(&["XADD", "k", "*", "f", "v"])
                .starts_with("-WRONGTYPE")
        );
        client.call(&["XADD", "s", "2-1", "f", "v"]);
        assert!(
            client
                .call(&["XADD", "s", "1-1", "f", "v"])
                .starts_with("-ERR")
        );
        let span = &stage.wait_named("send k", 1)[0];
        assert_eq!(
            (span.attr("error.type"), span.status),
            (&"WRONGTYPE".into(), StatusCode::Error)
        );
        assert!(span.attr("messaging.message.id").is_null());
        let spans = stage.wait_named("send s", 2);
        assert_eq!(spans[1].attr("error.type"), "ERR");
        assert_eq!(
            stage
                .proxy
                .metric("tars_stream_messages_sent_total", &[("stream", "s")]),
            1.0
        );
    }
}

#[test]
fn multi_ends_with_exec_s_result() {
    for kind in Kind::ALL {
        for hello in ["2", "3"] {
            let stage = Stage::of(kind);
            let mut client = stage.connect();
            for command in [
                ["HELLO", hello].as_slice(),
                &["SET", "k", "v"],
                &["MULTI"],
                &["XADD", "s", "1-1", "f", "v"],
                &["XADD", "k", "1-1", "f", "v"],
                &["GET", "k"],
                &["XADD", "s", "2-1", "f", "v"],
                &["XADD", "none", "NOMKSTREAM", "*", "f", "v"],
            ] {
                client.call(command);
            }
            assert_eq!(stage.collector.spans(), []);
            client.call(&["EXEC"]);
            for id in ["1-1", "2-1"] {
                stage.wait_span("send s", id);
            }
            assert_eq!(
                stage.wait_named("send k", 1)[0].attr("error.type"),
                "WRONGTYPE",
                "{kind}"
            );
            assert_not_sent(&stage.wait_named("send none", 1));
        }
    }
}

#[test]
fn discard_execabort_and_a_nil_exec_send_nothing() {
    for kind in Kind::ALL {
        let stage = Stage::of(kind);
        let mut client = stage.connect();
        let add = ["XADD", "s", "*", "f", "v"];
        client.call(&["MULTI"]);
        client.call(&add);
        client.call(&["DISCARD"]);
        assert_not_sent(&stage.wait_named("send s", 1));
        client.call(&["MULTI"]);
        client.call(&add);
        client.call(&["SET", "k"]);
        assert!(client.call(&["EXEC"]).starts_with("-EXECABORT"));
        assert_not_sent(&stage.wait_named("send s", 2));
        client.call(&["WATCH", "k"]);
        stage.direct("SET k v");
        client.call(&["MULTI"]);
        client.call(&add);
        assert_eq!(client.call(&["EXEC"]), "*-1\r\n");
        assert_not_sent(&stage.wait_named("send s", 3));
        client.call(&["MULTI"]);
        client.call(&add);
        client.call(&["RESET"]);
        assert_not_sent(&stage.wait_named("send s", 4));
        assert_eq!(stage.direct("XLEN s"), ":0\r\n");
    }
}

#[test]
fn a_connection_that_ends_leaves_the_outcome_open() {
    let mut stage = Stage::of(Kind::Redis82);
    stage.connect().call(&["PING"]);
    let mut client = stage.connect();
    client.call(&["PING"]);
    stage.server.pause();
    client.command(&["XADD", "s", "*", "f", "v"]);
    stage.proxy.wait_metric(
        "tars_proxy_contexts_injected_total",
        &[("kind", "new")],
        |count| count == 1.0,
    );
    stage.server.stop();
    client.read_until_closed();
    assert_eq!(
        stage.wait_named("send s", 1)[0].attr("tars.outcome"),
        "unknown"
    );
}

#[test]
fn replies_that_are_off_leave_the_outcome_open() {
    let stage = Stage::of(Kind::Valkey);
    let mut client = stage.connect();
    client.command(&["CLIENT", "REPLY", "SKIP"]);
    client.command(&["XADD", "s", "1-1", "f", "v"]);
    assert_eq!(client.call(&["XLEN", "s"]), ":1\r\n");
    assert_eq!(
        stage.wait_named("send s", 1)[0].attr("tars.outcome"),
        "unknown"
    );
}
