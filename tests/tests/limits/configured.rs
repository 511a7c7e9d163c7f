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
    wait::until("both have passed", PATIENCE, || {
        (not_followed(&stage, "pending_replies") == 2.0).then_some(())
    });
    stage.server.resume();
    client.replies(2);
    assert!(
        String::from_utf8_lossy(&client.reply()).contains("traceparent"),
        "not stripped"
    );
    assert_eq!(client.reply(), b":1\r\n");
    assert_eq!(stage.proxy.metric("tars_proxy_deliveries", &[]), 1.0);
}

#[test]
fn max_metric_names() {
    let stage = Stage::configured(Kind::Redis82, |proxy| {
        proxy.args(["--max-metric-names", "2"])
    });
    let mut client = stage.connect();
    for stream in ["a", "b", "c", "d"] {
        client.call(&["XADD", stream, "*", "f", "v"]);
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
    let mut client = stage.connect();
    for _ in 0..25 {
        client.call(&["XADD", "s", "*", "f", "v"]);
    }
    wait::until("all spans have been seen", PATIENCE, || {
        let answer: serde_json::Value =
            serde_json::from_str(&stage.proxy.get("/traces.json").body).unwrap();
        (answer["spans_seen"] == 25).then(|| assert_eq!(answer["spans_held"], 10))
    });
}

#[test]
fn max_connections() {
    let stage = Stage::configured(Kind::Redis82, |proxy| {
        proxy.args(["--max-connections", "2"])
    });
    let mut served: Vec<Client> = (0..2).map(|_| stage.connect()).collect();
    for client in &mut served {
        assert_eq!(client.call(&["PING"]), "+PONG\r\n");
    }
    assert_eq!(
        stage.connect().read_until_closed(),
        (Vec::new(), End::Reset)
    );
    assert_eq!(
        stage
            .proxy
            .metric("tars_proxy_connections_refused_total", &[]),
        1.0
    );
    served.pop();
    wait::until("there is a place again", PATIENCE, || {
        let mut client = stage.connect();
        client.try_send(b"PING\r\n").ok()?;
        client.try_reply().ok()
    });
}
