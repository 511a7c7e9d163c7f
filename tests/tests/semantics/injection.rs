//! XADD without a context: what is added, where, and when not.

use tars_tests::otlp::SpanKind;
use tars_tests::resp::encode;
use tars_tests::server::{Kind, Server};
use tars_tests::stage::Stage;

use crate::{ids, stored, without_flags};

#[test]
fn a_context_is_appended_and_is_the_span_s() {
    for kind in Kind::ALL {
        let stage = Stage::configured(kind, |proxy| proxy.args(["--region", "eu"]));
        assert_eq!(
            stage
                .connect()
                .call(&["XADD", "s", "1-1", "f", "v", "g", "w"]),
            "$3\r\n1-1\r\n"
        );
        let span = stage.wait_span("send s", "1-1");
        let fields = stored(&stage, "s");
        assert_eq!(fields[..5], ["f", "v", "g", "w", "traceparent"], "{kind}");
        assert_eq!(fields.len(), 6);
        assert_eq!(without_flags(&fields[5]), ids(&span));
        // New, sampled, and of a random id.
        assert!(fields[5].ends_with("-03"));
        assert_eq!(
            (span.kind, span.parent.as_deref()),
            (SpanKind::Producer, None)
        );
        let port = stage
            .server
            .url()
            .rsplit(':')
            .next()
            .unwrap()
            .parse::<u16>()
            .unwrap();
        for (name, value) in [
            ("messaging.system", "redis"),
            ("messaging.operation.name", "send"),
            ("messaging.operation.type", "send"),
            ("messaging.destination.name", "s"),
            ("server.address", "127.0.0.1"),
            ("tars.region", "eu"),
        ] {
            assert_eq!(span.attr(name), value, "{name}");
        }
        assert_eq!(span.attr("server.port"), port);
        assert!(span.attr("error.type").is_null() && span.attr("tars.outcome").is_null());
    }
}

#[test]
fn options_in_any_order_and_any_case() {
    let everywhere = [
        "XADD s * f v",
        "xadd s nomkstream MAXLEN 100 * f v",
        "XADD s MAXLEN ~ 100 LIMIT 5 * f v",
        "XADD s maxlen = 100 NOMKSTREAM * f v",
        "XADD s MINID 0 * f v",
        "XADD s MinId ~ 0-1 limit 0 NoMkStream * f v",
        "XADD s 99999999999999-* f v",
        "XADD s 99999999999999-77 f v",
        "XADD s 999999999999999 * v",
    ];
    let from_8_2 = [
        "XADD s KEEPREF MAXLEN 100 9999999999999999-1 f v",
        "XADD s MAXLEN ~ 100 delref 9999999999999999-2 f v",
        "XADD s NOMKSTREAM Acked MINID = 0 9999999999999999-3 f v",
    ];
    for kind in Kind::ALL {
        let stage = Stage::of(kind);
        stage.direct("XADD s 0-1 f v");
        let mut client = stage.connect();
        let newer = from_8_2.iter().filter(|_| kind == Kind::Redis82);
        let mut count = 0;
        for command in everywhere.iter().chain(newer) {
            let args: Vec<&str> = command.split(' ').collect();
            let answer = client.call(&args);
            assert!(answer.starts_with('$'), "{kind}: {command}: {answer}");
            let fields = stored(&stage, "s");
            assert_eq!(
                fields[fields.len() - 2],
                "traceparent",
                "{kind}: {command}: {fields:?}"
            );
            assert_eq!(fields.len(), 4);
            count += 1;
        }
        stage.wait_named("send s", count);
        assert_eq!(
            stage
                .proxy
                .metric("tars_proxy_contexts_injected_total", &[("kind", "new")]),
            count as f64
        );
    }
}

#[test]
fn what_is_malformed_is_refused_in_the_server_s_words_and_has_no_span() {
    let commands = [
        "XADD",
        "XADD s",
        "XADD s *",
        "XADD s * f",
        "XADD s * f v g",
        "XADD s WHAT * f v",
        "XADD s MAXLEN * f v",
        "XADD s x-1 f v",
        "XADD s 1-1-1 f v",
        "XADD s -1 f v",
        "XADD s MAXLEN 10",
    ];
    for kind in Kind::ALL {
        let stage = Stage::of(kind);
        let (mut direct, mut proxied) = (stage.server.connect(), stage.connect());
        for command in commands {
            let args: Vec<&str> = command.split(' ').collect();
            let answer = proxied.call(&args);
            assert_eq!(answer, direct.call(&args), "{kind}: {command}");
            assert!(answer.starts_with('-'), "{command}: {answer}");
        }
        let spans = stage.settle_spans();
        assert_eq!(spans.len(), 1, "{spans:#?}");
    }
}

#[test]
fn grammar_that_looks_odd_is_read_as_the_server_does() {
    // A key, an id and fields may look like options; `MAXLEN` as a value is none.
    for kind in Kind::ALL {
        let stage = Stage::of(kind);
        let mut client = stage.connect();
        for (command, expected) in [
            (
                "XADD MAXLEN 1-1 NOMKSTREAM * * MAXLEN",
                vec!["NOMKSTREAM", "*", "*", "MAXLEN"],
            ),
            (
                "XADD MAXLEN 2-1 traceparen v Traceparent x",
                vec!["traceparen", "v", "Traceparent", "x"],
            ),
        ] {
            let args: Vec<&str> = command.split(' ').collect();
            assert!(client.call(&args).starts_with('$'));
            let fields = stored(&stage, "MAXLEN");
            assert_eq!(fields[..expected.len()], expected, "{kind}");
            assert_eq!(fields[expected.len()], "traceparent");
        }
        stage.wait_named("send MAXLEN", 2);
    }
}

#[test]
fn bytes_of_all_kinds_are_kept() {
    let stage = Stage::of(Kind::Redis70);
    let value: Vec<u8> = (0..=255).collect();
    let key = b"\xff\r\n$";
    let mut client = stage.connect();
    client.command(&[b"XADD".as_slice(), key, b"1-1", &value, &value, b"", b""]);
    assert_eq!(client.reply(), b"$3\r\n1-1\r\n");
    let mut direct = stage.server.connect();
    direct.command(&[b"XRANGE".as_slice(), key, b"-", b"+"]);
    let reply = direct.reply();
    let fields = encode(&[value.as_slice(), &value, b"", b"", b"traceparent"]);
    let (_, kept) = fields.split_at(b"*5\r\n".len());
    assert!(reply.windows(kept.len()).any(|window| window == kept));
    stage.wait_span("send \u{fffd}\r\n$", "1-1");
}

#[test]
fn a_rule_leaves_a_stream_alone() {
    let rules = "[[stream]]\npattern = \"private:*\"\ntrace = false\n";
    let stage = Stage::configured(Kind::Redis82, |proxy| proxy.config(rules));
    let mut client = stage.connect();
    client.call(&["XADD", "private:s", "1-1", "f", "v"]);
    assert_eq!(stored(&stage, "private:s"), ["f", "v"]);
    client.call(&["XREAD", "STREAMS", "private:s", "0"]);
    assert_eq!(stage.settle_spans().len(), 1);
    assert_eq!(
        stage
            .proxy
            .metric("tars_proxy_contexts_skipped_total", &[("reason", "rule")]),
        1.0
    );
    let sent = [("stream", "private:s")];
    assert_eq!(
        stage.proxy.metric("tars_stream_messages_sent_total", &sent),
        1.0
    );
}

#[test]
fn no_trace_changes_no_byte_and_makes_no_span() {
    for server in Server::all() {
        let stage = Stage::with(server, |proxy| proxy.args(["--no-trace"]));
        let mut client = stage.connect();
        client.call(&["XADD", "s", "1-1", "f", "v"]);
        client.call(&["XADD", "s", "2-1", "f", "v", "traceparent", "x"]);
        assert_eq!(stored(&stage, "s"), ["f", "v", "traceparent", "x"]);
        let (mut direct, read) = (stage.server.connect(), ["XREAD", "STREAMS", "s", "0"]);
        assert_eq!(client.call(&read), direct.call(&read));
        drop(client);
        let Stage {
            mut proxy,
            collector,
            ..
        } = stage;
        proxy.drain();
        assert_eq!(collector.spans(), []);
    }
}

#[test]
fn an_entry_over_the_limit_passes_and_the_next_does_not() {
    let stage = Stage::configured(Kind::Valkey, |proxy| {
        proxy.args(["--max-message-bytes", "4KiB"])
    });
    let mut client = stage.connect();
    let large = "x".repeat(5_000);
    client.call(&["XADD", "s", "1-1", "f", &large]);
    assert_eq!(stored(&stage, "s"), ["f", &large]);
    client.call(&["XADD", "s", "2-1", "f", &large[..3_000]]);
    assert_eq!(stored(&stage, "s").len(), 4);
    assert_eq!(
        stage.proxy.metric(
            "tars_proxy_contexts_skipped_total",
            &[("reason", "too_large")]
        ),
        1.0
    );
    let reply = client.call(&["XREAD", "STREAMS", "s", "0"]);
    assert_eq!(reply, stage.direct("XREAD STREAMS s 0"));
    let spans = stage.settle_spans();
    let received = spans.iter().filter(|span| span.name == "receive s").count();
    assert_eq!(received, 1, "{spans:#?}");
}

#[test]
fn what_is_beyond_the_bound_of_pending_replies_passes() {
    let mut stage = Stage::configured(Kind::Redis82, |proxy| {
        proxy.args(["--max-pending-replies", "10"])
    });
    let mut client = stage.connect();
    client.call(&["PING"]);
    stage.server.pause();
    let adds: Vec<String> = (1..=20).map(|n| format!("XADD s {n}-1 f v")).collect();
    client.send(tars_tests::resp::pipeline(
        &adds.iter().map(String::as_str).collect::<Vec<_>>(),
    ));
    let passed = [("reason", "pending_replies")];
    stage.proxy.wait_metric(
        "tars_proxy_contexts_injected_total",
        &[("kind", "new")],
        |count| count == 10.0,
    );
    stage.server.resume();
    for n in 1..=20 {
        let id = format!("{n}-1");
        assert_eq!(
            client.reply().escape_ascii().to_string(),
            format!("${}\\r\\n{id}\\r\\n", id.len())
        );
    }
    assert_eq!(
        stage
            .proxy
            .metric("tars_proxy_contexts_skipped_total", &passed),
        10.0
    );
    stage.wait_named("send s", 10);
    client.call(&["XADD", "s", "21-1", "f", "v"]);
    stage.wait_span("send s", "21-1");
}
