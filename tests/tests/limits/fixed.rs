//! Fixed limits that can be reached over the wire.

use tars_tests::parrot::Parrot;
use tars_tests::proxy::{Proxy, run_to_end};
use tars_tests::server::Kind;
use tars_tests::stage::{Stage, raw_relays, raw_relays_for};

const CONTEXT: &str = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01";

#[test]
fn an_inline_command() {
    let stage = Stage::of(Kind::Redis82);
    // With its CR.
    for (length, raw) in [((64 << 10) - 1, 0.0), (64 << 10, 1.0)] {
        let mut client = stage.connect();
        client.send([b"NOSUCH ", &*vec![b'x'; length - 7], b"\r\n"].concat());
        assert!(client.reply().starts_with(b"-ERR "));
        assert_eq!(raw_relays_for(&stage.proxy, "protocol"), raw, "{length}");
    }
}

#[test]
fn a_reply_that_must_be_whole() {
    let stage = Stage::of(Kind::Redis82);
    crate::delivered(&stage);
    let mut client = stage.connect();
    // An answer of five bytes an id; what two reads bring at once is whole.
    let count = 3 * (64 << 10) / 5;
    let mut xackdel = vec!["XACKDEL", "s", "g", "IDS"];
    let (number, id) = (count.to_string(), "1-1");
    xackdel.push(&number);
    xackdel.resize(xackdel.len() + count, id);
    assert!(
        client
            .call(&xackdel)
            .starts_with(&format!("*{count}\r\n:1\r\n:-1\r\n"))
    );
    assert_eq!(
        stage.wait_span("process s", "1-1").attr("tars.outcome"),
        "uncertain"
    );
}

/// What a parrot's reply makes of a connection.
fn relayed(reply: &[u8]) -> f64 {
    let parrot = Parrot::start();
    let proxy = Proxy::to_url(&parrot.url()).start();
    let mut client = proxy.connect();
    client.command(&[b"SAY", reply]);
    assert!(client.read_exactly(reply.len()) == reply);
    raw_relays(&proxy)
}

#[test]
fn streamed_aggregates_within_each_other() {
    let nested = |depth: usize| [b"*?\r\n".repeat(depth), b".\r\n".repeat(depth)].concat();
    assert_eq!(relayed(&nested(32)), 0.0);
    assert_eq!(relayed(&nested(33)), 1.0);
}

#[test]
fn elements_of_one_reply() {
    let declared = |count: u64| format!("*{count}\r\n:1\r\n").into_bytes();
    assert_eq!(relayed(&declared(1 << 39)), 0.0);
    assert_eq!(relayed(&declared((1 << 40) + 1)), 1.0);
}

#[test]
fn an_envelope() {
    let stage = Stage::of(Kind::Redis82);
    let mut client = stage.connect();
    for (id, length, read) in [("1-1", 4096, true), ("2-1", 4097, false)] {
        let begin = format!("{{\"traceparent\":\"{CONTEXT}\",\"x\":\"");
        let envelope = format!("{begin}{}\"}}", "x".repeat(length - begin.len() - 2));
        client.call(&["XADD", "s", id, "_trace_context", &envelope]);
        assert_eq!(
            stage.wait_span("send s", id).parent.is_some(),
            read,
            "{length}"
        );
    }
}

#[test]
fn a_tracestate() {
    let stage = Stage::of(Kind::Redis82);
    let member = |n: usize| format!("k{n:02}={}", "v".repeat(95));
    let state = (0..10).map(member).collect::<Vec<_>>().join(",");
    let envelope = format!("{{\"traceparent\":\"{CONTEXT}\",\"tracestate\":\"{state}\"}}");
    stage
        .connect()
        .call(&["XADD", "s", "1-1", "_trace_context", &envelope]);
    // Five whole members are 499 characters, with the four commas between.
    let kept = (0..5).map(member).collect::<Vec<_>>().join(",");
    let stored = stage.direct("XRANGE s - +");
    assert!(
        stored.contains(&format!("$10\r\ntracestate\r\n$499\r\n{kept}\r\n")),
        "{stored}"
    );
}

#[test]
fn links_of_a_batch() {
    let stage = Stage::configured(Kind::Redis82, |proxy| proxy.args(["--relation", "link"]));
    let mut client = stage.connect();
    for _ in 0..130 {
        client.call(&["XADD", "s", "*", "f", "v"]);
    }
    client.call(&["XREAD", "STREAMS", "s", "0"]);
    let receive = &stage.wait_named("receive s", 1)[0];
    assert_eq!(receive.attr("messaging.batch.message_count"), 130);
    assert_eq!(receive.links.len(), 128);
}

#[test]
fn a_name_in_a_span() {
    let stage = Stage::of(Kind::Redis82);
    let key = "k".repeat(2_000);
    stage.connect().call(&["XADD", &key, "1-1", "f", "v"]);
    let spans = stage.settle_spans();
    let name = spans[0]
        .attr("messaging.destination.name")
        .as_str()
        .unwrap();
    assert_eq!((name.len(), name), (1024, &key[..1024]));
}

#[test]
fn a_pattern() {
    let refused = |length: usize| {
        let rule = format!("{}=strip", "x".repeat(length));
        let (status, _, error) = run_to_end(&["check-config", "--deliver", &rule]);
        (!status.success(), error)
    };
    assert!(!refused(4096).0);
    let (failed, error) = refused(4097);
    assert!(failed && error.contains("at most 4096"), "{error}");
}

#[test]
fn the_configuration_file() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |length: usize| {
        let path = folder.path().join("tars-proxy.toml");
        std::fs::write(&path, format!("#{}\n", "x".repeat(length - 2))).unwrap();
        let (status, _, error) = run_to_end(&["check-config", "--config", path.to_str().unwrap()]);
        (!status.success(), error)
    };
    assert!(!refused(1 << 20).0);
    let (failed, error) = refused((1 << 20) + 1);
    assert!(failed && error.contains("larger than 1MiB"), "{error}");
}
