//! Configured limits that no other suite goes to.

use tars_tests::resp::{Client, End, encode};
use tars_tests::server::Kind;
use tars_tests::stage::Stage;
use tars_tests::wait::{self, PATIENCE};

use crate::delivered;

fn not_followed(stage: &Stage, reason: &str) -> f64 {
    let reason = [("reason", reason)];
    stage
        .proxy
        .metric("tars_proxy_commands_not_followed_total", &reason)
}

#[test]
fn commands_that_are_too_large_to_be_followed() {
    let stage = Stage::configured(Kind::Redis82, |proxy| {
        proxy.args(["--max-message-bytes", "64KiB"])
    });
    delivered(&stage);
    let mut client = stage.connect();
    let id = format!("1-{}1", "0".repeat(10));
    let mut xack = vec!["XACK", "s", "g", "1-1"];
    xack.resize(8_000, &id);
    assert_eq!(client.call(&xack), ":1\r\n");
    assert_eq!(not_followed(&stage, "too_large"), 1.0);
    // Not settled, as far as the proxy knows.
    assert_eq!(stage.proxy.metric("tars_proxy_deliveries", &[]), 1.0);
}

#[test]
fn reads_and_settlements_beyond_the_pending_replies() {
    let mut stage = Stage::configured(Kind::Valkey, |proxy| {
        proxy.args(["--max-pending-replies", "2", "--deliver", "*=strip"])
    });
    delivered(&stage);
    let mut client = stage.connect();
    client.call(&["PING"]);
    stage.server.pause();
    let waiting = ["XADD", "t", "*", "f", "v"];
    client.send(encode(&waiting).repeat(2));
    client.command(&["XREAD", "STREAMS", "s", "0"]);
    client.command(&["XACK", "s", "g", "1-1"]);
    stage.proxy.wait_metric(
        "tars_proxy_commands_not_followed_total",
        &[("reason", "pending_replies")],
        |passed| passed == 2.0,
    );
    stage.server.resume();
    client.replies(2);
    assert!(
        String::from_utf8_lossy(&client.reply()).contains("traceparent"),
        "not stripped"
    );
    assert_eq!(client.reply(), b":1\r\n");
    assert_eq!(stage.proxy.metric("tars_proxy_deliveries", &[]), 1.0);
}

/// To the byte, in commands and in entries.
#[test]
fn max_message_bytes() {
    const LIMIT: usize = 4096;
    let stage = Stage::configured(Kind::Redis82, |proxy| {
        proxy.args(["--max-message-bytes", "4KiB", "--deliver", "stripped=strip"])
    });
    assert_eq!(limit(&stage, "max_message_bytes"), LIMIT as f64);
    let mut client = stage.connect();
    let fill = |length: &dyn Fn(&str) -> usize, wanted: usize| {
        let value = "x".repeat(wanted - length(&"x".repeat(1000)) + 1000);
        assert_eq!(length(&value), wanted);
        value
    };
    let command = |id: &str, value: &str| encode(&["XADD", "sent", id, "f", value]);
    for (n, (length, injected)) in [(LIMIT, true), (LIMIT + 1, false)].into_iter().enumerate() {
        for pieces in [1, 2] {
            let id = format!("{}-{pieces}", n + 1);
            let value = fill(&|value| command(&id, value).len(), length);
            let bytes = command(&id, &value);
            for piece in bytes.chunks(length.div_ceil(pieces)) {
                client.send(piece);
                // Another's answer: this piece has been read.
                stage.connect().call(&["PING"]);
            }
            assert!(client.reply().starts_with(b"$"));
            let stored = stage.direct(&format!("XRANGE sent {id} {id}"));
            assert_eq!(
                stored.contains("traceparent"),
                injected,
                "{length} {pieces}"
            );
        }
    }

    let context = format!("00-{:032x}-{:016x}-01", 1, 1);
    let entry = |value: &str| {
        let fields = encode(&["f", value, "traceparent", &context]);
        "*2\r\n$3\r\n1-1\r\n".len() + fields.len()
    };
    for (n, (length, stripped)) in [(LIMIT, true), (LIMIT + 1, false)].into_iter().enumerate() {
        let (id, value) = (format!("{}-1", n + 1), fill(&entry, length));
        stage.direct(&format!(
            "XADD stripped {id} f {value} traceparent {context}"
        ));
        let read = client.call(&["XRANGE", "stripped", &id, &id]);
        assert!(read.contains(&value));
        assert_eq!(!read.contains("traceparent"), stripped, "{length}");
    }
    let passed = |name| stage.proxy.metric(name, &[("reason", "too_large")]);
    assert_eq!(passed("tars_proxy_contexts_skipped_total"), 2.0);
}

/// The value of a metric without labels.
fn now(stage: &Stage, name: &str) -> f64 {
    stage.proxy.metric(name, &[])
}

/// A limit in force, as the metrics tell it.
fn limit(stage: &Stage, setting: &str) -> f64 {
    let setting = [("setting", setting)];
    stage.proxy.metric("tars_proxy_limit", &setting)
}

/// Messages of which all but the end has been sent: two find room, the third passes as it comes.
#[test]
fn max_held_bytes() {
    let stage = Stage::configured(Kind::Redis82, |proxy| {
        proxy.args(["--max-held-bytes", "2MiB"])
    });
    assert_eq!(limit(&stage, "max_held_bytes"), 2097152.0);
    let value = "x".repeat(900 << 10);
    let message = encode(&["XADD", "s", "*", "f", &value]);
    let (half, rest) = message.split_at(message.len() - 10);
    let mut clients = Vec::new();
    for n in 1..=2 {
        let mut client = stage.connect();
        client.send(half);
        stage
            .proxy
            .wait_metric("tars_proxy_held_bytes", &[], |held| {
                held >= (n * (half.len() - (64 << 10))) as f64
            });
        clients.push(client);
    }
    assert_eq!(now(&stage, "tars_proxy_held_refused_total"), 0.0);
    let mut third = stage.connect();
    third.send(half);
    stage
        .proxy
        .wait_metric("tars_proxy_held_refused_total", &[], |refused| {
            refused == 1.0
        });
    let held = now(&stage, "tars_proxy_held_bytes");
    assert!(held <= limit(&stage, "max_held_bytes"), "{held}");
    clients.push(third);
    for client in &mut clients {
        client.send(rest);
        assert!(client.reply().starts_with(b"$"));
    }
    // Two with a context, one without: nothing is lost of either.
    let entries = stage.direct("XRANGE s - +");
    assert_eq!(entries.matches("traceparent").count(), 2);
    assert_eq!(entries.matches(&value).count(), 3);
    stage
        .proxy
        .wait_metric("tars_proxy_held_bytes", &[], |held| held == 0.0);
    // There is room again.
    clients[0].call(&["XADD", "t", "*", "f", &value]);
    assert!(stage.direct("XRANGE t - +").contains("traceparent"));
}

#[test]
fn max_pending_bytes() {
    const MESSAGES: usize = 4_000;
    let mut stage = Stage::configured(Kind::Valkey, |proxy| {
        proxy.args(["--max-pending-bytes", "256KiB"])
    });
    assert_eq!(limit(&stage, "max_pending_bytes"), 262144.0);
    let mut client = stage.connect();
    client.call(&["PING"]);
    stage.server.pause();
    for n in 0..MESSAGES {
        client.command(&["XADD", "s", &format!("1-{}", n + 1), "f", "v"]);
    }
    let skipped = [("reason", "pending_replies")];
    let (passed, injected) = wait::until("all have passed", PATIENCE, || {
        let metrics = stage.proxy.metrics();
        let injected = metrics.sum("tars_proxy_contexts_injected_total", &[("kind", "new")]);
        if injected == MESSAGES as f64 {
            panic!("all found room");
        }
        if !metrics
            .names()
            .contains("tars_proxy_contexts_skipped_total")
        {
            return None;
        }
        let passed = metrics.sum("tars_proxy_contexts_skipped_total", &skipped);
        (passed + injected == MESSAGES as f64).then_some((passed, injected))
    });
    assert!(passed > 0.0 && injected > 0.0);
    assert!(now(&stage, "tars_proxy_pending_refused_total") >= passed);
    // One connection has half at most.
    let pending = now(&stage, "tars_proxy_pending_bytes");
    assert!(pending > 0.0 && pending <= 131072.0, "{pending}");
    stage.server.resume();
    for n in 0..MESSAGES {
        let id = format!("1-{}", n + 1);
        let reply = format!("${}\r\n{id}\r\n", id.len());
        assert_eq!(client.reply(), reply.as_bytes());
    }
    stage
        .proxy
        .wait_metric("tars_proxy_pending_bytes", &[], |pending| pending == 0.0);
}

#[test]
fn max_metric_names() {
    let stage = Stage::configured(Kind::Redis82, |proxy| {
        proxy.args(["--max-metric-names", "2"])
    });
    assert_eq!(limit(&stage, "max_metric_names"), 2.0);
    let mut client = stage.connect();
    let counted = |name: &str, kind: &str| stage.proxy.metric(name, &[("kind", kind)]);
    for (n, stream) in ["a", "b", "c", "d"].into_iter().enumerate() {
        client.call(&["XADD", stream, "*", "f", "v"]);
        client.call(&["XREAD", "STREAMS", stream, "0"]);
        for kind in ["stream", "group"] {
            let (own, other) = ((n + 1).min(2), (n + 1).saturating_sub(2));
            assert_eq!(counted("tars_proxy_metric_names", kind), own as f64);
            assert_eq!(
                counted("tars_proxy_metric_names_refused_total", kind),
                other as f64
            );
        }
    }
    let sent = |stream: &str| {
        stage
            .proxy
            .metric("tars_stream_messages_sent_total", &[("stream", stream)])
    };
    assert_eq!(
        ["a", "b", "c", "d", "other"].map(sent),
        [1.0, 1.0, 0.0, 0.0, 2.0]
    );
}

#[test]
fn max_recent_spans() {
    let stage = Stage::configured(Kind::Redis82, |proxy| {
        proxy.args(["--max-recent-spans", "10"])
    });
    assert_eq!(limit(&stage, "max_recent_spans"), 10.0);
    let mut client = stage.connect();
    for (sent, held) in [(10, 10), (25, 10)] {
        while client.call(&["XADD", "s", "*", "f", "v"]).starts_with('$')
            && stage.direct("XLEN s") != format!(":{sent}\r\n")
        {}
        wait::until("all spans have been seen", PATIENCE, || {
            let answer: serde_json::Value =
                serde_json::from_str(&stage.proxy.get("/traces.json").body).unwrap();
            (answer["spans_seen"] == sent).then(|| assert_eq!(answer["spans_held"], held))
        });
        let evicted = now(&stage, "tars_proxy_recent_spans_evicted_total");
        assert_eq!(now(&stage, "tars_proxy_recent_spans"), f64::from(held));
        assert_eq!(evicted, f64::from(sent - held));
    }
}

/// What Redis says beyond its own limit.
const REFUSAL: &[u8] = b"-ERR max number of clients reached\r\n";

#[test]
fn max_connections() {
    let mut stage = Stage::configured(Kind::Redis82, |proxy| {
        proxy.args(["--max-connections", "2"])
    });
    assert_eq!(limit(&stage, "max_connections"), 2.0);
    let mut served: Vec<Client> = (0..2).map(|_| stage.connect()).collect();
    for client in &mut served {
        assert_eq!(client.call(&["PING"]), "+PONG\r\n");
    }
    assert_eq!(now(&stage, "tars_proxy_connections_refused_total"), 0.0);
    // One that listens, and one that talks before it does.
    for question in ["", "*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n"] {
        let mut client = stage.connect();
        client.send(question);
        assert_eq!(
            (client.read_until_closed(), question),
            ((REFUSAL.to_vec(), End::Closed), question)
        );
    }
    assert_eq!(now(&stage, "tars_proxy_connections_refused_total"), 2.0);
    assert_eq!(now(&stage, "tars_proxy_connections"), 2.0);
    stage.proxy.wait_log("max_connections are open");
    for client in &mut served {
        assert_eq!(client.call(&["PING"]), "+PONG\r\n");
    }
    served.pop();
    wait::until("there is a place again", PATIENCE, || {
        let mut client = stage.connect();
        client.try_send(b"PING\r\n").ok()?;
        (client.try_reply().ok()? == b"+PONG\r\n").then_some(())
    });
    let log = stage.proxy.stderr();
    assert_eq!(log.matches("max_connections are open").count(), 1, "{log}");
}

/// Those who come beyond and stay take no descriptors from those who are served: so many are told, the others reset.
#[test]
fn a_flood_beyond_max_connections() {
    const FLOOD: usize = 500;
    let stage = Stage::configured(Kind::Redis82, |proxy| {
        proxy.args(["--max-connections", "1"])
    });
    let mut served = stage.connect();
    assert_eq!(served.call(&["PING"]), "+PONG\r\n");
    let before = now(&stage, "process_open_fds");
    let flood: Vec<Client> = (0..FLOOD).map(|_| stage.connect()).collect();
    stage
        .proxy
        .wait_metric("tars_proxy_connections_refused_total", &[], |refused| {
            refused == FLOOD as f64
        });
    let more = now(&stage, "process_open_fds") - before;
    assert!(more <= 40.0, "{more} descriptors");
    assert_eq!(served.call(&["PING"]), "+PONG\r\n");
    let mut told = 0;
    for mut client in flood {
        match client.read_until_closed() {
            (said, End::Closed) if said == REFUSAL => told += 1,
            (said, End::Reset) if said.is_empty() => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(told > 0, "nobody was told");
    stage
        .proxy
        .wait_metric("process_open_fds", &[], |open| open <= before + 8.0);
    assert_eq!(served.call(&["PING"]), "+PONG\r\n");
}
