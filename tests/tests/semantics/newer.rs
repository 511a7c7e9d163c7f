//! Commands of Redis 8.4 to 8.10, which no server at hand knows: scripted ones answer as those would.

use tars_tests::otlp::span::StatusCode;
use tars_tests::otlp::{Collector, Span};
use tars_tests::proxy::{Builder, Proxy};
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
        Self::configured(script, |proxy| proxy)
    }

    fn configured(script: &[Exchange], configure: impl FnOnce(Builder) -> Builder) -> Self {
        let server = Scripted::serving(script);
        let collector = Collector::start();
        let proxy = Proxy::to_url(&server.url()).otlp_grpc(&collector.grpc());
        let proxy = configure(proxy).start();
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

/// An entry with a value and the context beside it; without the context, as `strip` leaves it.
fn with_context(id: &str, context: Option<&str>, after: &str) -> String {
    let own = [bulk("f"), bulk("v")].concat();
    let (count, context) = match context {
        Some(context) => (4, bulk("traceparent") + &bulk(context)),
        None => (2, String::new()),
    };
    let elements = 2 + after.matches(':').count();
    format!(
        "*{elements}\r\n{}*{count}\r\n{own}{context}{after}",
        bulk(id)
    )
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

/// Caps over all streams, of Redis 8.10. The reply has the form it has.
#[test]
fn reads_with_caps_over_all_streams_are_followed() {
    const READ: &str = "XREAD COUNT 2 MAXCOUNT 3 MAXSIZE 9000 BLOCK 0 STREAMS s 0";
    const GROUPED: &str =
        "XREADGROUP GROUP g c COUNT 2 maxcount 3 MAXSIZE 9000 BLOCK 0 CLAIM 5 NOACK STREAMS s >";
    let stored = one_stream(&[with_context("1-1", Some(OWN), "")], false);
    let script = [(READ, stored.clone()), (GROUPED, stored)];
    let mut newer = Newer::configured(&script, |proxy| proxy.args(["--deliver", "*=strip"]));
    let stripped = one_stream(&[with_context("1-1", None, "")], false);
    for read in [READ, GROUPED] {
        assert_eq!(newer.call(read), stripped, "{read}");
    }
    for span in newer.wait("receive s", 2) {
        assert_eq!(span.parent.as_deref(), Some(OWN_SPAN));
    }
}

/// What comes after the fields of an entry stays behind them.
#[test]
fn claiming_reads_are_stripped_and_propagated_within_their_entries() {
    const READ: &str = "XREADGROUP GROUP g c CLAIM 1000 STREAMS s >";
    let entries = |context: Option<&str>| {
        let claimed = with_context("1-1", context, ":60000\r\n:4\r\n");
        // Deleted since it was delivered: nothing but its id.
        let deleted = format!("*4\r\n{}*-1\r\n:60000\r\n:1\r\n", bulk("1-2"));
        [
            claimed,
            deleted,
            with_context("2-1", context, ":0\r\n:0\r\n"),
        ]
    };
    for resp3 in [false, true] {
        let hello = if resp3 { "HELLO 3" } else { "HELLO 2" };
        let answered = if resp3 {
            "%1\r\n+proto\r\n:3\r\n"
        } else {
            "*2\r\n+proto\r\n:2\r\n"
        };
        let reply = one_stream(&entries(Some(OWN)), resp3);
        let script = [(hello, answered.to_owned()), (READ, reply)];
        let mut strict = Newer::configured(&script, |proxy| proxy.args(["--deliver", "*=strip"]));
        strict.call(hello);
        assert_eq!(strict.call(READ), one_stream(&entries(None), resp3));

        let propagate = ["--deliver", "*=propagate"];
        let mut newer = Newer::configured(&script, |proxy| proxy.args(propagate));
        newer.call(hello);
        let read = newer.call(READ);
        let contexts: Vec<&str> = read
            .split("\r\n")
            .filter(|word| word.starts_with("00-"))
            .collect();
        let [first, second] = contexts.as_slice() else {
            panic!("{read}")
        };
        assert!(first != second && !read.contains(OWN));
        let put_back = read.replace(first, OWN).replace(second, OWN);
        assert_eq!(put_back, one_stream(&entries(Some(OWN)), resp3));
        assert_eq!(newer.proxy.metric("tars_proxy_deliveries", &[]), 2.0);
    }
}

#[test]
fn xnack_of_several_is_certain_of_all_or_of_none() {
    let read = |ids: &[&str]| {
        let entries: Vec<_> = ids
            .iter()
            .map(|id| with_context(id, Some(OWN), ""))
            .collect();
        one_stream(&entries, false)
    };
    let mut newer = Newer::serving(&[
        ("XREADGROUP*", read(&["1-1", "1-2"])),
        ("XNACK s g FAIL IDS 2 1-1 1-2 FORCE", ":2\r\n".to_owned()),
        ("XREADGROUP*", read(&["2-1", "2-2"])),
        (
            "XNACK s g FATAL IDS 2 2-1 2-2 RETRYCOUNT 9 FORCE",
            ":1\r\n".to_owned(),
        ),
    ]);
    newer.call("XREADGROUP GROUP g c STREAMS s >");
    newer.call("XNACK s g FAIL IDS 2 1-1 1-2 FORCE");
    newer.call("XREADGROUP GROUP g c STREAMS s >");
    newer.call("XNACK s g FATAL IDS 2 2-1 2-2 RETRYCOUNT 9 FORCE");
    for span in newer.wait("process s", 4) {
        let id = span.attr("messaging.message.id").as_str().unwrap();
        if id.starts_with("1-") {
            assert_eq!(span.attr("error.type"), "fail", "{id}");
        } else {
            assert_eq!(span.attr("tars.outcome"), "uncertain", "{id}");
        }
    }
}

/// A producer that sends the same again gets the id of the first: both attempts are spans of that message.
#[test]
fn what_idmp_found_to_be_sent_already_has_the_first_ones_id() {
    let mut newer = Newer::serving(&[
        ("XADD s IDMP p i * f v traceparent 00-*", bulk("1-1")),
        ("XADD s IDMP p i * f v traceparent 00-*", bulk("1-1")),
        (
            "XADD s IDMPAUTO p",
            "-ERR wrong number of arguments\r\n".to_owned(),
        ),
        ("XCFGSET s IDMP-DURATION 10", "+OK\r\n".to_owned()),
    ]);
    for _ in 0..2 {
        assert_eq!(newer.call("XADD s IDMP p i * f v"), bulk("1-1"));
    }
    assert!(newer.call("XADD s IDMPAUTO p").starts_with("-ERR wrong"));
    assert_eq!(newer.call("XCFGSET s IDMP-DURATION 10"), "+OK\r\n");
    for span in newer.wait("send s", 2) {
        assert_eq!(span.attr("messaging.message.id"), "1-1");
    }
}

/// Redis 8.4 fetches a slot: what the source says after this is a stream of commands.
#[test]
fn a_node_that_fetches_a_slot_gets_it_as_it_is() {
    let stream =
        "+SLOTSSNAPSHOT\r\n*5\r\n$4\r\nXADD\r\n$1\r\ns\r\n$3\r\n1-1\r\n$1\r\nf\r\n$1\r\nv\r\n";
    for sync in [
        "CLUSTER SYNCSLOTS SYNC 0 100",
        "cluster syncslots rdbchannel id",
    ] {
        let mut newer = Newer::serving(&[(sync, stream.to_owned())]);
        newer.client.command(&sync.split(' ').collect::<Vec<_>>());
        let got = newer.client.read_until_ends_with(b"$1\r\nv\r\n");
        assert_eq!(String::from_utf8_lossy(&got), stream);
        let raw = newer
            .proxy
            .metric("tars_proxy_raw_relays_total", &[("reason", "replication")]);
        assert_eq!(raw, 1.0);
    }
}
