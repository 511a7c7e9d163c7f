//! Who sees the added fields.

use tars_tests::otlp::SpanKind;
use tars_tests::proxy::Proxy;
use tars_tests::resp::encode;
use tars_tests::server::{Kind, Server};
use tars_tests::stage::Stage;

const FIELD: &str = "$11\r\ntraceparent\r\n$55\r\n";

/// Before each kind of server, with `strip` and one message on `s`.
fn each(test: impl Fn(&Stage)) {
    for kind in Kind::ALL {
        let stage = Stage::configured(kind, |proxy| proxy.args(["--deliver", "*=strip"]));
        let mut client = stage.connect();
        client.call(&["XADD", "s", "1-1", "f", "v"]);
        assert!(!client.call(&["XRANGE", "s", "-", "+"]).contains(FIELD));
        test(&stage);
    }
}

#[test]
fn xinfo_stream() {
    each(|stage| {
        let mut client = stage.connect();
        client.call(&["XADD", "s", "2-1", "f", "v"]);
        assert_eq!(
            client
                .call(&["XINFO", "STREAM", "s"])
                .matches(FIELD)
                .count(),
            2
        );
        assert_eq!(
            client
                .call(&["XINFO", "STREAM", "s", "FULL"])
                .matches(FIELD)
                .count(),
            2
        );
    });
}

#[test]
fn copies_of_the_stream() {
    each(|stage| {
        let mut client = stage.connect();
        client.command(&["DUMP", "s"]);
        let dump = client.reply();
        let text = String::from_utf8_lossy(&dump);
        assert!(text.contains("traceparent"));
        let start = text.find('\n').unwrap() + 1;
        let payload = &dump[start..dump.len() - 2];
        client.send(encode(&[&b"RESTORE"[..], b"copy", b"0", payload]));
        assert_eq!(client.reply(), b"+OK\r\n");
        assert!(stage.direct("XRANGE copy - +").contains(FIELD));
        // An RDB file, written and read.
        assert_eq!(client.call(&["DEBUG", "RELOAD"]), "+OK\r\n");
        assert!(stage.direct("XRANGE s - +").contains(FIELD));
    });
    for kind in Kind::ALL {
        let always = ["--appendonly", "yes", "--appendfsync", "always"];
        let mut server = Server::builder(kind).args(always).start();
        let proxy = Proxy::to(&server).start();
        proxy.connect().call(&["XADD", "s", "1-1", "f", "v"]);
        server.restart();
        assert!(
            server
                .connect()
                .call(&["XRANGE", "s", "-", "+"])
                .contains(FIELD),
            "{kind}"
        );
    }
}

#[test]
fn memory() {
    each(|stage| {
        for n in 1..=500 {
            stage.direct(&format!("XADD without {n}-1 f v"));
            stage
                .connect()
                .call(&["XADD", "with", &format!("{n}-1"), "f", "v"]);
        }
        let usage = |key: &str| -> u64 {
            let usage = stage.direct(&format!("MEMORY USAGE {key} SAMPLES 0"));
            usage.trim_start_matches(':').trim_end().parse().unwrap()
        };
        // 55 bytes of each value are in no two messages the same.
        assert!(usage("with") > usage("without") + 500 * 55);
    });
}

#[test]
fn who_sees_commands() {
    each(|stage| {
        let mut monitor = stage.server.connect();
        monitor.call(&["MONITOR"]);
        stage.direct("CONFIG SET slowlog-log-slower-than 0");
        stage.connect().call(&["XADD", "s", "2-1", "f", "v"]);
        stage.direct("CONFIG SET slowlog-log-slower-than -1");
        let told = String::from_utf8(monitor.reply()).unwrap();
        assert!(
            told.contains("\"XADD\" \"s\" \"2-1\" \"f\" \"v\" \"traceparent\" \"00-"),
            "{told}"
        );
        assert!(stage.direct("SLOWLOG GET 10").contains(FIELD));
        // To a proxy behind another it is a context of the application's own.
        let before = Proxy::to_url(&format!("redis://{}", stage.proxy.address())).start();
        before.connect().call(&["XADD", "s", "3-1", "f", "v"]);
        let span = stage.wait_span("send s", "3-1");
        assert!(span.kind == SpanKind::Client && span.parent.is_some());
    });
}

#[test]
fn scripts() {
    each(|stage| {
        let mut client = stage.connect();
        let read = "return redis.call('XRANGE','s','-','+')";
        assert!(client.call(&["EVAL", read, "0"]).contains(FIELD));
        let read = "return redis.call('XREAD','STREAMS','s','0')";
        assert!(client.call(&["EVAL", read, "0"]).contains(FIELD));
        client.call(&["XGROUP", "CREATE", "s", "g", "0"]);
        let read = "return redis.call('XREADGROUP','GROUP','g','c','STREAMS','s','>')";
        assert!(client.call(&["EVAL", read, "0"]).contains(FIELD));
    });
}

#[test]
fn readers_elsewhere() {
    each(|stage| assert!(stage.direct("XRANGE s - +").contains(FIELD)));
}

#[test]
fn large_entries_and_raw_relays() {
    for kind in Kind::ALL {
        let stage = Stage::configured(kind, |proxy| {
            proxy.args(["--deliver", "*=strip", "--max-message-bytes", "64KiB"])
        });
        let mut client = stage.connect();
        // What is added takes the entry over the limit.
        let value = "v".repeat((64 << 10) - 60);
        assert_eq!(
            client.call(&["XADD", "large", "1-1", "f", &value]),
            "$3\r\n1-1\r\n"
        );
        assert!(
            client.call(&["XRANGE", "large", "-", "+"]).contains(FIELD),
            "{kind}"
        );
        client.call(&["XADD", "s", "1-1", "f", "v"]);
        let mut raw = stage.connect();
        raw.send("REPLCONF capa eof\r\nXRANGE s - +\r\n");
        raw.reply();
        let read = raw.reply();
        assert!(String::from_utf8_lossy(&read).contains(FIELD), "{kind}");
    }
}

#[test]
fn fields_of_the_producer() {
    const OWN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const PLAIN: &str = "*2\r\n$1\r\na\r\n$1\r\nb\r\n";
    each(|stage| {
        let mut client = stage.connect();
        let mut sent = |fields: &[&str]| {
            client.call(&["DEL", "s"]);
            client.call(&[&["XADD", "s", "1-1"], fields].concat());
            client.call(&["XRANGE", "s", "-", "+"])
        };
        for last in [OWN, "invalid"] {
            let read = sent(&["a", "b", "traceparent", last]);
            assert!(read.ends_with(PLAIN), "{read}");
        }
        let read = sent(&["traceparent", "invalid", "a", "b"]);
        assert!(read.contains(FIELD), "{read}");
        let read = sent(&["tracestate", "a=b"]);
        assert!(read.ends_with("$10\r\ntracestate\r\n$0\r\n\r\n"), "{read}");
        // What is certainly the application's own comes back as it was sent.
        let read = sent(&["traceparent", OWN, "a", "b"]);
        assert!(read.contains(OWN), "{read}");
    });
}
