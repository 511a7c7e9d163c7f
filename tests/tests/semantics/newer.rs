//! Commands of Redis 8.4 to 8.10, which no server at hand knows: scripted ones answer as those would.

use tars_tests::otlp::span::StatusCode;
use tars_tests::otlp::{Collector, Span};
use tars_tests::proxy::Proxy;
use tars_tests::resp::Client;
use tars_tests::scripted::{Exchange, Scripted};
use tars_tests::wait::PATIENCE;

use crate::{OWN, OWN_SPAN};

struct Newer {
    proxy: Proxy,
    collector: Collector,
    client: Client,
}

impl Newer {
    fn serving(script: &[Exchange]) -> Self {
        let server = Scripted::serving(script);
        let collector = Collector::start();
        let proxy = Proxy::to_url(&server.url())
            .otlp_grpc(&collector.grpc())
            .start();
        let client = proxy.connect();
        Self {
            proxy,
            collector,
            client,
        }
    }

    fn call(&mut self, command: &str) -> String {
        self.client.call(&command.split(' ').collect::<Vec<_>>())
    }

    fn wait(&self, name: &str, count: usize) -> Vec<Span> {
        let is = |span: &&Span| span.name == name;
        let spans = self
            .collector
            .wait_for(PATIENCE, |spans| spans.iter().filter(is).count() == count);
        spans.into_iter().filter(|span| span.name == name).collect()
    }
}

/// An entry of XREADGROUP … CLAIM: how long idle, and how often delivered before.
fn entry(id: &str, field: &str, value: &str, idle: u32, before: u32) -> String {
    let (id, field, value) = (bulk(id), bulk(field), bulk(value));
    format!("*4\r\n{id}*2\r\n{field}{value}:{idle}\r\n:{before}\r\n")
}

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

fn one_stream(entries: &[String], resp3: bool) -> String {
    let head = if resp3 { "%1\r\n" } else { "*1\r\n*2\r\n" };
    format!(
        "{head}{}*{}\r\n{}",
        bulk("s"),
        entries.len(),
        entries.concat()
    )
}

#[test]
fn idmpauto_is_never_injected_and_idmp_is() {
    let mut newer = Newer::serving(&[
        ("XADD s IDMPAUTO p * f v", bulk("1-1")),
        (
            "xadd s NOMKSTREAM idmpauto p MAXLEN ~ 10 * f v",
            bulk("2-1"),
        ),
        ("XADD s IDMP p i * f v traceparent 00-*", bulk("3-1")),
        (
            "XADD s KEEPREF IDMP p i MINID = 0 * f v traceparent 00-*",
            bulk("3-1"),
        ),
    ]);
    assert_eq!(newer.call("XADD s IDMPAUTO p * f v"), bulk("1-1"));
    assert_eq!(
        newer.call("xadd s NOMKSTREAM idmpauto p MAXLEN ~ 10 * f v"),
        bulk("2-1")
    );
    assert_eq!(newer.call("XADD s IDMP p i * f v"), bulk("3-1"));
    assert_eq!(
        newer.call("XADD s KEEPREF IDMP p i MINID = 0 * f v"),
        bulk("3-1")
    );
    let skipped = newer.proxy.metric(
        "tars_proxy_contexts_skipped_total",
        &[("reason", "idmpauto")],
    );
    assert_eq!(skipped, 2.0);
    newer.wait("send s", 2);
}

#[test]
fn idmpauto_with_an_own_context_has_its_span() {
    let command = format!("XADD s IDMPAUTO p * traceparent {OWN}");
    let mut newer = Newer::serving(&[(command.clone().leak(), bulk("1-1"))]);
    assert_eq!(newer.call(&command), bulk("1-1"));
    assert_eq!(newer.wait("send s", 1)[0].parent.as_deref(), Some(OWN_SPAN));
}

#[test]
fn xnack_ends_an_attempt() {
    let read = |id: &str| {
        one_stream(
            &[format!(
                "*2\r\n{}*2\r\n{}{}",
                bulk(id),
                bulk("traceparent"),
                bulk(OWN)
            )],
            false,
        )
    };
    let mut newer = Newer::serving(&[
        ("XREADGROUP*", read("1-1")),
        ("XNACK s g SILENT IDS 1 1-1", ":1\r\n".to_owned()),
        ("XREADGROUP*", read("2-1")),
        ("XNACK s g FAIL IDS 1 2-1", ":1\r\n".to_owned()),
        ("XREADGROUP*", read("3-1")),
        (
            "XNACK s g fatal IDS 1 3-1 RETRYCOUNT 3",
            ":1\r\n".to_owned(),
        ),
        ("XREADGROUP*", read("4-1")),
        ("XNACK s g FAIL IDS 1 4-1", "-NOGROUP no\r\n".to_owned()),
    ]);
    for nack in [
        "XNACK s g SILENT IDS 1 1-1",
        "XNACK s g FAIL IDS 1 2-1",
        "XNACK s g fatal IDS 1 3-1 RETRYCOUNT 3",
    ] {
        newer.call("XREADGROUP GROUP g c STREAMS s >");
        assert_eq!(newer.call(nack), ":1\r\n");
    }
    newer.call("XREADGROUP GROUP g c STREAMS s >");
    assert!(
        newer
            .call("XNACK s g FAIL IDS 1 4-1")
            .starts_with("-NOGROUP")
    );
    let mut spans = newer.wait("process s", 3);
    spans.sort_by_key(|span| span.start);
    let [silent, fail, fatal] = spans.as_slice() else {
        panic!("{spans:#?}")
    };
    assert_eq!(
        (silent.attr("tars.outcome"), silent.status),
        (&"released".into(), StatusCode::Unset)
    );
    assert_eq!(
        (fail.attr("error.type"), fail.status),
        (&"fail".into(), StatusCode::Error)
    );
    assert_eq!(
        (fatal.attr("error.type"), fatal.status),
        (&"fatal".into(), StatusCode::Error)
    );
    assert_eq!(newer.proxy.metric("tars_proxy_deliveries", &[]), 1.0);
}

#[test]
fn claiming_reads_tell_the_delivery_count() {
    for resp3 in [false, true] {
        let entries = [
            entry("1-1", "traceparent", OWN, 60_000, 4),
            entry("2-1", "f", "v", 0, 0),
        ];
        let reply = one_stream(&entries, resp3);
        let mut newer = Newer::serving(&[
            (
                "HELLO*",
                if resp3 {
                    "%1\r\n+proto\r\n:3\r\n"
                } else {
                    "*2\r\n+proto\r\n:2\r\n"
                }
                .to_owned(),
            ),
            ("XREADGROUP GROUP g c CLAIM 1000 STREAMS s >", reply.clone()),
            ("XACK s g 1-1 2-1", ":2\r\n".to_owned()),
        ]);
        newer.call(if resp3 { "HELLO 3" } else { "HELLO 2" });
        assert_eq!(
            newer.call("XREADGROUP GROUP g c CLAIM 1000 STREAMS s >"),
            reply
        );
        assert_eq!(newer.call("XACK s g 1-1 2-1"), ":2\r\n");
        let mut spans = newer.wait("process s", 2);
        spans.sort_by_key(|span| span.attr("messaging.message.id").to_string());
        assert_eq!(spans[0].attr("tars.delivery_count"), 5);
        assert_eq!(spans[0].parent.as_deref(), Some(OWN_SPAN));
        assert_eq!(spans[1].attr("tars.delivery_count"), 1);
    }
}

#[test]
fn streamed_strings_and_aggregates_keep_the_pairing() {
    // RESP3 has them, and no server sends them yet.
    let streamed = "*2\r\n$?\r\n;4\r\nab\r\n\r\n;1\r\nc\r\n;0\r\n*?\r\n:1\r\n*?\r\n.\r\n%?\r\n+k\r\n+v\r\n.\r\n.\r\n";
    let mut newer = Newer::serving(&[
        ("HELLO*", "%1\r\n+proto\r\n:3\r\n".to_owned()),
        ("ODD", streamed.to_owned()),
        ("XADD s*", bulk("1-1")),
    ]);
    newer.call("HELLO 3");
    newer.client.command(&["ODD"]);
    assert_eq!(
        newer.client.read_until_ends_with(b".\r\n.\r\n"),
        streamed.as_bytes()
    );
    assert_eq!(newer.call("XADD s * f v"), bulk("1-1"));
    assert_eq!(
        newer.wait("send s", 1)[0].attr("messaging.message.id"),
        "1-1"
    );
}
