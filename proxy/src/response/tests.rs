#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::Arc;

use super::*;
use crate::config::{
    Config, Deliver as DeliverRule, InferParent, Limits, Override, Relation, Rules, StreamRule,
};
use crate::testing::{Link, NOW, World, command, line};
use crate::trace::context::parse_traceparent;
use crate::trace::span::{EntryId, LinkKind, Operation, Span};
use crate::worker::Moment;

mod pipelines;

const CONTEXT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn with_rules(rules: Rules) -> World {
    let config = Config {
        rules: Arc::new(rules),
        ..Config::default()
    };
    World::new(config, InferParent::Off)
}

fn delivering(value: DeliverRule) -> World {
    with_rules(Rules {
        deliver: vec![Override {
            pattern: "*".parse().unwrap(),
            value,
        }],
        ..Rules::default()
    })
}

/// A list of entries with one field each, as a reply shows it.
fn entries(ids: &[&str]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", ids.len()).into_bytes();
    for id in ids {
        out.extend_from_slice(&entry(id, &["f", "v", "traceparent", CONTEXT]));
    }
    out
}

fn entry(id: &str, fields: &[&str]) -> Vec<u8> {
    [&b"*2\r\n"[..], &bulk(id), &command(fields)].concat()
}

fn bulk(text: &str) -> Vec<u8> {
    format!("${}\r\n{text}\r\n", text.len()).into_bytes()
}

/// XREADGROUP's reply: streams with their entries.
fn read(streams: &[(&str, &[&str])]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", streams.len()).into_bytes();
    for (key, ids) in streams {
        out.extend_from_slice(b"*2\r\n");
        out.extend_from_slice(&bulk(key));
        out.extend_from_slice(&entries(ids));
    }
    out
}

/// Sends a command, has it answered, and returns the spans that ended.
fn exchange(world: &World, link: &mut Link, words: &str, reply: impl AsRef<[u8]>) -> Vec<Span> {
    assert!(!link.client(&line(words)).is_empty());
    assert_eq!(link.server(reply.as_ref()), reply.as_ref(), "{words}");
    assert_eq!(link.raw(), None, "{words}");
    world.spans()
}

fn outcomes(spans: &[Span]) -> Vec<(String, Outcome)> {
    spans
        .iter()
        .map(|span| {
            (
                span.message.map(|id| id.to_string()).unwrap_or_default(),
                span.outcome.clone(),
            )
        })
        .collect()
}

// ---- XADD

#[test]
fn the_reply_ends_the_send_span() {
    for (reply, message, outcome) in [
        (
            "$3\r\n5-1\r\n",
            Some(EntryId { ms: 5, seq: 1 }),
            Outcome::Done,
        ),
        ("$-1\r\n", None, Outcome::NotSent),
        ("_\r\n", None, Outcome::NotSent),
        (
            "-WRONGTYPE Operation against a key\r\n",
            None,
            Outcome::Error("WRONGTYPE".into()),
        ),
        ("-ERR no\r\n", None, Outcome::Error("ERR".into())),
        ("-\r\n", None, Outcome::Error("ERR".into())),
        ("-lower case\r\n", None, Outcome::Error("ERR".into())),
        ("!9\r\nOOM twice\r\n", None, Outcome::Error("OOM".into())),
    ] {
        let world = World::default();
        let mut link = world.connect();
        let sent = link.client(&line("XADD s * f v"));
        link.cx.now = Moment::at(NOW + 5);
        assert_eq!(link.server(reply.as_bytes()), reply.as_bytes());
        let [span] = &world.spans()[..] else {
            panic!("one span")
        };
        assert_eq!(
            (span.operation, span.message, span.outcome.clone()),
            (Operation::Send, message, outcome),
            "{reply}"
        );
        assert_eq!((span.parent, span.end - span.start), (None, 5));
        let written = String::from_utf8(span.context.traceparent().to_vec()).unwrap();
        assert_eq!(
            sent,
            command(["XADD", "s", "*", "f", "v", "traceparent", &written])
        );
        assert_eq!(
            world.metric("tars_stream_messages_sent_total", &[]),
            f64::from(u8::from(message.is_some()))
        );
    }
}

#[test]
fn an_application_s_own_context_is_left_alone() {
    let world = World::default();
    let mut link = world.connect();
    let bytes = command([
        "XADD",
        "s",
        "*",
        "traceparent",
        CONTEXT,
        "tracestate",
        "a=1",
    ]);
    assert_eq!(link.client(&bytes), bytes);
    link.server(b"$3\r\n5-1\r\n");
    let [span] = &world.spans()[..] else {
        panic!("one span")
    };
    let context = parse_traceparent(CONTEXT.as_bytes()).unwrap();
    assert_eq!(span.operation, Operation::SendClient);
    assert_eq!(
        (span.parent, span.context.trace_id),
        (Some(context.span_id), context.trace_id)
    );
    assert_eq!(span.trace_state.as_str(), "a=1");
}

#[test]
fn an_xadd_in_a_transaction_ends_with_exec() {
    let ok = "+OK\r\n+QUEUED\r\n";
    for (end, reply, outcome) in [
        ("EXEC", "*1\r\n$3\r\n5-1\r\n", Outcome::Done),
        (
            "EXEC",
            "*1\r\n-WRONGTYPE no\r\n",
            Outcome::Error("WRONGTYPE".into()),
        ),
        ("EXEC", "*-1\r\n", Outcome::NotSent),
        ("EXEC", "_\r\n", Outcome::NotSent),
        ("EXEC", "-EXECABORT no\r\n", Outcome::NotSent),
        ("DISCARD", "+OK\r\n", Outcome::NotSent),
        ("RESET", "+RESET\r\n", Outcome::NotSent),
    ] {
        let reply = [ok, reply].concat();
        for cut in 0..=reply.len() {
            let world = World::default();
            let mut link = world.connect();
            link.client(&[line("MULTI"), line("XADD s * f v"), line(end)].concat());
            assert_eq!(
                [
                    link.server(&reply.as_bytes()[..cut]),
                    link.server(&reply.as_bytes()[cut..])
                ]
                .concat(),
                reply.as_bytes()
            );
            assert_eq!(link.raw(), None);
            let spans = world.spans();
            assert_eq!(outcomes(&spans)[0].1, outcome, "{end} {reply} cut at {cut}");
            assert_eq!(spans.len(), 1);
            let spans = exchange(&world, &mut link, "XADD s * f v", "$3\r\n9-9\r\n");
            assert_eq!(outcomes(&spans), [("9-9".to_owned(), Outcome::Done)]);
        }
    }
}

#[test]
fn a_push_within_exec_is_no_element() {
    // PUBLISH to one's own channel, before Redis 7.0.12.
    let world = World::default();
    let mut link = world.connect();
    link.client(
        &[
            line("MULTI"),
            line("PUBLISH c m"),
            line("XADD s * f v"),
            line("EXEC"),
        ]
        .concat(),
    );
    let reply = b"+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n>3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n:1\r\n$3\r\n5-1\r\n";
    for byte in reply {
        link.server(&[*byte]);
    }
    assert_eq!(
        outcomes(&world.spans()),
        [("5-1".to_owned(), Outcome::Done)]
    );
    let spans = exchange(&world, &mut link, "XADD s * f v", "$3\r\n9-9\r\n");
    assert_eq!(outcomes(&spans), [("9-9".to_owned(), Outcome::Done)]);
}

// ---- Replies that are left out

#[test]
fn a_subscription_is_acknowledged_also_after_a_skipped_reply() {
    let world = World::default();
    let mut link = world.connect();
    exchange(&world, &mut link, "HELLO 3", "%1\r\n$5\r\nproto\r\n:3\r\n");
    for skip in [
        [line("CLIENT REPLY SKIP"), line("PING")],
        [line("CLIENT REPLY SKIP"), line("XADD s * f v")],
    ] {
        link.client(&[skip.concat(), line("SUBSCRIBE a b"), line("UNSUBSCRIBE")].concat());
        for (what, channel, count) in [
            ("subscribe", "a", 1),
            ("subscribe", "b", 2),
            ("unsubscribe", "a", 1),
            ("unsubscribe", "b", 0),
        ] {
            link.server(
                format!(
                    ">3\r\n${}\r\n{what}\r\n$1\r\n{channel}\r\n:{count}\r\n",
                    what.len()
                )
                .as_bytes(),
            );
        }
        assert!(link.cx.inflight.is_empty());
        world.spans();
        let spans = exchange(&world, &mut link, "XADD s * f v", "$3\r\n9-9\r\n");
        assert_eq!(outcomes(&spans), [("9-9".to_owned(), Outcome::Done)]);
    }
}

#[test]
fn a_refused_client_reply_is_the_end_of_pairing() {
    for refusal in [
        "-NOPERM no\r\n",
        "-NOAUTH Authentication required.\r\n",
        "-ERR unknown subcommand\r\n",
        "-ERR Can't execute 'client|reply': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context\r\n",
        "-BUSY Redis is busy running a script.\r\n",
        "-LOADING Redis is loading the dataset in memory\r\n",
        "-MASTERDOWN Link with MASTER is down\r\n",
    ] {
        for words in ["CLIENT REPLY SKIP", "CLIENT REPLY OFF"] {
            let world = World::default();
            let mut link = world.connect();
            link.client(&[line(words), line("PING"), line("XADD s * f v")].concat());
            for byte in refusal.as_bytes() {
                link.server(&[*byte]);
            }
            assert_eq!(
                link.raw(),
                Some("client_reply_refused"),
                "{words} {refusal}"
            );
        }
    }
}

#[test]
fn a_raw_relay_says_why() {
    for (words, reason) in [
        ("CLIENT REPLY OFF", "client_reply_in_multi"),
        ("SUBSCRIBE a", "subscribe_in_multi"),
        ("MONITOR", "monitor"),
        ("SYNC", "replication"),
    ] {
        let world = World::default();
        let mut link = world.connect();
        link.client(&[line("MULTI"), line("XADD s * f v"), line(words)].concat());
        link.server(b"+OK\r\n+QUEUED\r\n+QUEUED\r\n");
        assert_eq!(link.raw(), Some(reason));
        assert_eq!(
            outcomes(&world.spans()),
            [(String::new(), Outcome::Unknown)]
        );
        let own = line("XADD s * f v");
        assert_eq!(link.client(&own), own);
    }
}

// ---- Deliveries

#[test]
fn a_delivery_is_over_with_the_last_byte_of_the_reply() {
    // Nothing may follow it for long: a consumer handles the message first.
    let world = World::default();
    let mut link = world.connect();
    let reply = read(&[("s", &["1-1"])]);
    link.client(&line("XREADGROUP GROUP g c STREAMS s >"));
    for cut in 0..reply.len() {
        assert_eq!(world.metric("tars_proxy_deliveries", &[]), 0.0, "{cut}");
        link.server(&reply[cut..=cut]);
    }
    assert_eq!(world.metric("tars_proxy_deliveries", &[]), 1.0);
    link.client(&line("XADD t * f v"));
    assert_eq!(
        world.metric(
            "tars_proxy_inferences_total",
            &[("found", "one"), ("scope", "connection")]
        ),
        1.0
    );
    assert_eq!(
        world.metric(
            "tars_proxy_inferences_total",
            &[("found", "one"), ("scope", "process")]
        ),
        1.0
    );
}

#[test]
fn a_batch_ends_with_the_last_byte_of_the_reply() {
    let world = with_rules(Rules {
        relation: Relation::Link,
        ..Rules::default()
    });
    let mut link = world.connect();
    let spans = exchange(
        &world,
        &mut link,
        "XREAD STREAMS s t 0 0",
        read(&[("s", &["1-1", "1-2"]), ("t", &["2-1"])]),
    );
    let found: Vec<_> = spans
        .iter()
        .map(|span| (&*span.stream, span.operation, span.batch, span.links.len()))
        .collect();
    assert_eq!(
        found,
        [
            ("s", Operation::ReceiveBatch, Some(2), 2),
            ("t", Operation::ReceiveBatch, Some(1), 1)
        ]
    );
    assert!(
        spans
            .iter()
            .flat_map(|span| &span.links)
            .all(|link| link.kind == LinkKind::Message)
    );
}

#[test]
fn settlements_end_what_they_name() {
    for (settle, reply, expected) in [
        (
            "XACK s g 1-1 1-2",
            ":2\r\n",
            vec![("1-1", Outcome::Settled), ("1-2", Outcome::Settled)],
        ),
        (
            "XACK s g 1-1 1-2",
            ":1\r\n",
            vec![("1-1", Outcome::Uncertain), ("1-2", Outcome::Uncertain)],
        ),
        ("XACK s g 1-1", ":1\r\n", vec![("1-1", Outcome::Settled)]),
        ("XACK s g 1-1", "-NOGROUP no\r\n", vec![]),
        ("XACK s h 1-1", ":1\r\n", vec![]),
        ("XACK t g 1-1", ":1\r\n", vec![]),
        ("XACK s g 3-3", ":1\r\n", vec![]),
        (
            "XACKDEL s g IDS 2 1-1 1-2",
            "*2\r\n:1\r\n:-1\r\n",
            vec![("1-1", Outcome::Settled), ("1-2", Outcome::Uncertain)],
        ),
        ("XACKDEL s g IDS 2 1-1 1-2", "*1\r\n:1\r\n", vec![]),
        (
            "XNACK s g SILENT IDS 1 1-1",
            ":1\r\n",
            vec![("1-1", Outcome::Released)],
        ),
        (
            "XNACK s g FAIL IDS 1 1-1",
            ":1\r\n",
            vec![("1-1", Outcome::Error("fail".into()))],
        ),
        (
            "XNACK s g FATAL IDS 1 1-2",
            ":1\r\n",
            vec![("1-2", Outcome::Error("fatal".into()))],
        ),
    ] {
        let world = World::default();
        let (mut reader, mut other) = (world.connect(), world.connect());
        exchange(
            &world,
            &mut reader,
            "XREADGROUP GROUP g c STREAMS s >",
            read(&[("s", &["1-1", "1-2"])]),
        );
        let spans = exchange(&world, &mut other, settle, reply);
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(id, outcome)| (id.to_owned(), outcome))
            .collect();
        assert_eq!(outcomes(&spans), expected, "{settle} {reply}");
        let left = 2.0 - expected.len() as f64;
        assert_eq!(world.metric("tars_proxy_deliveries", &[]), left);
    }
}

#[test]
fn redeliveries_are_counted_linked_and_supersede() {
    let world = World::default();
    let mut link = world.connect();
    exchange(
        &world,
        &mut link,
        "XREADGROUP GROUP g c STREAMS s >",
        read(&[("s", &["1-1"])]),
    );
    for (command, reply, count) in [
        (
            "XREADGROUP GROUP g c STREAMS s 0",
            read(&[("s", &["1-1"])]),
            1,
        ),
        ("XCLAIM s g d 0 1-1", entries(&["1-1"]), 2),
        ("XCLAIM s g d 0 1-1 RETRYCOUNT 7", entries(&["1-1"]), 3),
        (
            "XAUTOCLAIM s g e 0 0",
            [&b"*3\r\n$3\r\n0-0\r\n"[..], &entries(&["1-1"]), b"*0\r\n"].concat(),
            7,
        ),
        ("XACK s g 1-1", b":1\r\n".to_vec(), 8),
    ] {
        let spans = exchange(&world, &mut link, command, reply);
        let [span] = &spans[..] else {
            panic!("one span")
        };
        assert_eq!(span.delivery_count.map(u32::from), Some(count), "{command}");
        assert_eq!(span.links.len(), usize::from(count > 1));
        let parent = parse_traceparent(CONTEXT.as_bytes()).unwrap();
        assert_eq!(
            (span.parent, span.context.trace_id),
            (Some(parent.span_id), parent.trace_id)
        );
    }
    assert_eq!(
        world.metric("tars_stream_messages_redelivered_total", &[]),
        4.0
    );
    assert_eq!(
        world.metric("tars_stream_messages_delivered_total", &[]),
        5.0
    );
}

#[test]
fn justid_nil_and_deleted_entries_are_no_deliveries() {
    let world = World::default();
    let mut link = world.connect();
    for (command, reply) in [
        ("XCLAIM s g c 0 1-1 JUSTID", "*1\r\n$3\r\n1-1\r\n"),
        ("XCLAIM s g c 0 1-1", "*1\r\n*-1\r\n"),
        ("XCLAIM s g c 0 1-1", "*1\r\n_\r\n"),
        (
            "XAUTOCLAIM s g c 0 0 JUSTID",
            "*3\r\n$3\r\n0-0\r\n*1\r\n$3\r\n1-1\r\n*0\r\n",
        ),
        ("XAUTOCLAIM s g c 0 0", "*2\r\n$3\r\n0-0\r\n*1\r\n*-1\r\n"),
        (
            "XREADGROUP GROUP g c STREAMS s 0",
            "*1\r\n*2\r\n$1\r\ns\r\n*1\r\n*2\r\n$3\r\n1-1\r\n*-1\r\n",
        ),
        (
            "XREADGROUP GROUP g c STREAMS s 0",
            "%1\r\n$1\r\ns\r\n*1\r\n*2\r\n$3\r\n1-1\r\n_\r\n",
        ),
        ("XREADGROUP GROUP g c STREAMS s >", "*-1\r\n"),
        ("XREADGROUP GROUP g c STREAMS s >", "-NOGROUP no\r\n"),
    ] {
        assert!(exchange(&world, &mut link, command, reply).is_empty());
        assert_eq!(
            world.metric("tars_stream_messages_delivered_total", &[]),
            0.0,
            "{command}"
        );
    }
    let spans = exchange(&world, &mut link, "XADD s * f v", "$3\r\n9-9\r\n");
    assert_eq!(outcomes(&spans), [("9-9".to_owned(), Outcome::Done)]);
}

#[test]
fn propagate_and_strip_change_what_is_read() {
    let reply = read(&[("s", &["1-1", "1-2"])]);
    let given = entries(&["1-1", "1-2"]);
    for cut in 0..reply.len() {
        let world = delivering(DeliverRule::Propagate);
        let mut link = world.connect();
        link.client(&line("XREADGROUP GROUP g c STREAMS s >"));
        let got = [link.server(&reply[..cut]), link.server(&reply[cut..])].concat();
        assert_eq!(got.len(), reply.len());
        let spans = exchange(&world, &mut link, "XACK s g 1-1 1-2", ":2\r\n");
        let mut expected = reply.clone();
        for span in &spans {
            let at = memchr::memmem::find(&expected, CONTEXT.as_bytes()).unwrap();
            expected[at..at + CONTEXT.len()].copy_from_slice(&span.context.traceparent());
        }
        assert_eq!(got, expected, "cut at {cut}");

        let world = delivering(DeliverRule::Strip);
        let mut link = world.connect();
        link.client(
            &[
                line("XREADGROUP GROUP g c STREAMS s >"),
                line("XRANGE s - +"),
            ]
            .concat(),
        );
        let reply = [&reply[..], &given].concat();
        let got = [link.server(&reply[..cut]), link.server(&reply[cut..])].concat();
        let bare = [
            &b"*2\r\n"[..],
            &entry("1-1", &["f", "v"]),
            &entry("1-2", &["f", "v"]),
        ]
        .concat();
        let expected = [&b"*1\r\n*2\r\n$1\r\ns\r\n"[..], &bare, &bare].concat();
        assert_eq!(
            String::from_utf8(got),
            String::from_utf8(expected),
            "cut at {cut}"
        );
    }
}

#[test]
fn a_long_read_is_followed_before_anything_proves_that_no_auth_is_needed() {
    let long = line("XREADGROUP GROUP g c COUNT 1 BLOCK 5 STREAMS s t > >");
    let reply = read(&[("s", &["1-1"])]);
    let bare = [
        &b"*1\r\n*2\r\n$1\r\ns\r\n*1\r\n"[..],
        &entry("1-1", &["f", "v"]),
    ]
    .concat();
    let world = delivering(DeliverRule::Strip);
    world.destination.upstream.set_open(false);
    assert_eq!(world.connect().client(&long), long);
    let mut link = world.connect();
    link.client(&long);
    assert_eq!(link.server(&reply), bare);
    // In pieces it passes at once: the server may close at the header.
    let mut link = world.connect();
    let (first, rest) = long.split_at(40);
    assert_eq!(link.client(first), first);
    assert_eq!(link.client(rest), rest);
    assert_eq!(link.server(&reply), reply);
}

#[test]
fn strip_removes_only_what_stands_at_the_end() {
    let world = delivering(DeliverRule::Strip);
    for (fields, left) in [
        (
            &["f", "v", "traceparent", CONTEXT, "tracestate", "a=1"][..],
            Some(2),
        ),
        (&["f", "v", "traceparent", CONTEXT], Some(2)),
        (&["f", "v", "tracestate", "a=1"], None),
        (
            &["f", "v", "tracestate", "a=1", "traceparent", CONTEXT],
            Some(4),
        ),
        (&["traceparent", CONTEXT, "f", "v"], None),
        (&["traceparent", CONTEXT], None),
        (&["traceparent", CONTEXT, "tracestate", "a=1"], None),
        (&["f", "traceparent"], None),
        (&["f", "v"], None),
    ] {
        let mut link = world.connect();
        link.client(&line("XRANGE s - +"));
        let got = link.server(&[&b"*1\r\n"[..], &entry("1-1", fields)].concat());
        let expected = [
            &b"*1\r\n"[..],
            &entry("1-1", &fields[..left.unwrap_or(fields.len())]),
        ]
        .concat();
        assert_eq!(String::from_utf8(got), String::from_utf8(expected));
    }
}

// ---- Bounds

fn limited(limits: Limits, infer_parent: InferParent) -> World {
    World::new(
        Config {
            limits,
            ..Config::default()
        },
        infer_parent,
    )
}

#[test]
fn messages_beyond_the_bound_pass_unread_whatever_the_splits() {
    let limits = Limits {
        max_message_bytes: 300,
        ..Limits::default()
    };
    let large = "x".repeat(300);
    let xadd = line(&format!("XADD s * f {large}"));
    let reply = [
        &b"*1\r\n*2\r\n$1\r\ns\r\n*2\r\n"[..],
        &entry("1-1", &["f", &large]),
        &entry("1-2", &["f", "v"]),
    ]
    .concat();
    for cut in (0..xadd.len()).chain([xadd.len()]) {
        let world = limited(limits, InferParent::Off);
        let mut link = world.connect();
        assert_eq!(
            String::from_utf8([link.client(&xadd[..cut]), link.client(&xadd[cut..])].concat()),
            String::from_utf8(xadd.clone()),
            "cut at {cut}"
        );
        link.server(b"$3\r\n1-1\r\n");
        assert_eq!(
            world.metric(
                "tars_proxy_contexts_skipped_total",
                &[("reason", "too_large")]
            ),
            1.0,
            "cut at {cut}"
        );
        assert!(world.spans().is_empty());
    }
    for cut in 0..=reply.len() {
        let world = limited(limits, InferParent::Off);
        let mut link = world.connect();
        link.client(&line("XREADGROUP GROUP g c STREAMS s >"));
        assert_eq!(
            [link.server(&reply[..cut]), link.server(&reply[cut..])].concat(),
            reply
        );
        assert_eq!(
            world.metric(
                "tars_proxy_contexts_extracted_total",
                &[("source", "too_large")]
            ),
            1.0,
            "cut at {cut}"
        );
        assert_eq!(
            world.metric("tars_proxy_deliveries", &[]),
            1.0,
            "cut at {cut}"
        );
        let spans = exchange(&world, &mut link, "XADD s * f v", "$3\r\n9-9\r\n");
        assert_eq!(outcomes(&spans), [("9-9".to_owned(), Outcome::Done)]);
    }
}

#[test]
fn a_message_that_is_not_followed_is_still_one_of_several() {
    // A reply of two messages does not become one of one because the other was large, or of a stream that is not traced.
    let limits = Limits {
        max_message_bytes: 300,
        ..Limits::default()
    };
    let rules = Rules {
        streams: vec![StreamRule {
            trace: false,
            ..StreamRule::new("quiet".parse().unwrap())
        }],
        ..Rules::default()
    };
    let large = "x".repeat(300);
    let one = entry("1-1", &["f", "v"]);
    for reply in [
        [
            &b"*1\r\n*2\r\n$1\r\ns\r\n*2\r\n"[..],
            &entry("1-0", &["f", &large]),
            &one,
        ]
        .concat(),
        [
            &b"*1\r\n*2\r\n$1\r\ns\r\n*2\r\n"[..],
            &one,
            &entry("1-2", &["f", &large]),
        ]
        .concat(),
        [
            &b"*2\r\n*2\r\n$5\r\nquiet\r\n*1\r\n"[..],
            &one,
            b"*2\r\n$1\r\ns\r\n*1\r\n",
            &one,
        ]
        .concat(),
        [
            &b"*2\r\n*2\r\n$1\r\ns\r\n*1\r\n"[..],
            &one,
            b"*2\r\n$5\r\nquiet\r\n*1\r\n",
            &one,
        ]
        .concat(),
    ] {
        let config = Config {
            limits,
            rules: Arc::new(rules.clone()),
            ..Config::default()
        };
        let world = World::new(config, InferParent::Connection);
        let mut link = world.connect();
        exchange(
            &world,
            &mut link,
            "XREADGROUP GROUP g c STREAMS s quiet > >",
            &reply,
        );
        let spans = exchange(&world, &mut link, "XADD t * f v", "$3\r\n9-9\r\n");
        assert!(!spans[0].inferred, "{}", String::from_utf8_lossy(&reply));
    }
}

#[test]
fn what_waits_for_replies_is_bounded() {
    let limits = Limits {
        max_pending_replies: 10,
        ..Limits::default()
    };
    // A client that pipelines without end.
    for words in [
        "MULTI",
        "XADD s * f v",
        "XACK s g 1-1",
        "XREAD STREAMS s 0",
        "AUTH x",
        "SELECT 1",
        "SUBSCRIBE a",
        "HELLO 3",
    ] {
        let world = limited(limits, InferParent::Off);
        let mut link = world.connect();
        for _ in 0..100 {
            link.client(&[line(words), line("GET a")].concat());
        }
        assert!(
            link.cx.inflight.len() <= 12,
            "{words}: {}",
            link.cx.inflight.len()
        );
    }
    // A transaction that grows without end: its replies come, and EXEC does not.
    for words in [
        "XADD s * f v",
        "XACK s g 1-1",
        "XREAD STREAMS s 0",
        "SELECT 1",
        "HELLO 3",
    ] {
        let world = limited(limits, InferParent::Off);
        let mut link = world.connect();
        link.client(&line("MULTI"));
        link.server(b"+OK\r\n");
        for _ in 0..100 {
            link.client(&[line(words), line("GET a")].concat());
            link.server(b"+QUEUED\r\n+QUEUED\r\n");
        }
        assert!(
            link.cx.inflight.queue_len() <= 12,
            "{words}: {}",
            link.cx.inflight.queue_len()
        );
    }
}

#[test]
fn names_are_bounded_in_length() {
    let world = World::default();
    let mut link = world.connect();
    let key = "k".repeat(100_000);
    let spans = exchange(
        &world,
        &mut link,
        &format!("XADD {key} * f v"),
        "$3\r\n9-9\r\n",
    );
    assert!(spans[0].stream.len() <= 1024, "{}", spans[0].stream.len());
    let spans = exchange(
        &world,
        &mut link,
        &format!("XREAD STREAMS {key} 0"),
        read(&[(&key, &["1-1"])]),
    );
    assert!(spans[0].stream.len() <= 1024);
    // As a label such a name would be the longest line of every scrape.
    assert_eq!(
        world.metric("tars_stream_messages_sent_total", &[("stream", "other")]),
        1.0
    );
    assert_eq!(
        world.metric(
            "tars_stream_messages_delivered_total",
            &[("stream", "other")]
        ),
        1.0
    );
}

#[test]
fn before_auth_is_proved_nothing_is_added_that_would_close_the_connection() {
    for (fields, added, skipped) in [
        ("a 1", 2, 0.0),
        ("a 1 b 2", 2, 0.0),
        ("a 1 b 2 c 3", 0, 1.0),
        ("a 1 b 2 c 3 d 4", 0, 1.0),
    ] {
        let world = World::default();
        world.destination.upstream.set_open(false);
        let mut link = world.connect();
        let xadd = format!("XADD s * {fields}");
        let argc = xadd.split(' ').count();
        assert!(
            link.client(&line(&xadd))
                .starts_with(format!("*{}\r\n", argc + added).as_bytes()),
            "{xadd}"
        );
        assert_eq!(
            world.metric(
                "tars_proxy_contexts_skipped_total",
                &[("reason", "unauthenticated")]
            ),
            skipped,
            "{xadd}"
        );
        // An answer proves that commands are taken; an error does not.
        link.server(b"-NOAUTH Authentication required.\r\n");
        assert!(!link.cx.authenticated);
        link.client(&line("AUTH x"));
        link.server(b"+OK\r\n");
        assert!(link.cx.authenticated);
        assert!(
            link.client(&line(&xadd))
                .starts_with(format!("*{}\r\n", argc + 2).as_bytes()),
            "{xadd}"
        );
    }
}

// ---- Rest

#[test]
fn a_connection_within_a_reply_is_not_at_rest() {
    let world = World::default();
    let mut link = world.connect();
    link.client(&line("GET a"));
    assert!(link.replies().is_between());
    link.server(b"$5\r\nhel");
    assert!(link.cx.inflight.is_empty());
    assert!(!link.replies().is_between());
    link.server(b"lo\r\n");
    assert!(link.replies().is_between());
    link.client(&line("XREADGROUP GROUP g c STREAMS s >"));
    let reply = read(&[("s", &["1-1"])]);
    link.server(&reply[..reply.len() - 1]);
    assert!(!link.replies().is_between());
    link.server(&reply[reply.len() - 1..]);
    assert!(link.replies().is_between());
    link.client(&[line("MULTI"), line("PING"), line("PING"), line("EXEC")].concat());
    link.server(b"+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+PONG\r\n");
    assert!(!link.replies().is_between());
    link.server(b"+PONG\r\n");
    assert!(link.replies().is_between());
    // A subscriber waits for messages, which nobody promised.
    link.client(&line("MULTI"));
    link.server(b"+OK\r\n");
    assert!(link.replies().is_between());
}

#[test]
fn a_connection_within_a_command_is_not_at_rest() {
    let world = World::default();
    let mut link = world.connect();
    link.client(
        &[
            line("CLIENT REPLY OFF"),
            b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$100\r\nxx".to_vec(),
        ]
        .concat(),
    );
    assert!(!link.requests().is_between());
    link.client(&[&b"x".repeat(98)[..], b"\r\n"].concat());
    assert!(link.requests().is_between());
}

// ---- Pushes within replies

#[test]
fn what_cannot_be_followed_within_multi_is_named() {
    for (words, reason) in [
        ("SUBSCRIBE c", "subscribe_in_multi"),
        ("UNSUBSCRIBE c", "subscribe_in_multi"),
        ("CLIENT REPLY OFF", "client_reply_in_multi"),
        ("MONITOR", "monitor"),
    ] {
        for answer in ["+QUEUED\r\n", "-ERR no\r\n"] {
            let world = World::default();
            let mut link = world.connect();
            link.client(&[line("MULTI"), line("PING"), line(words)].concat());
            link.server(b"+OK\r\n+QUEUED\r\n");
            assert_eq!(link.raw(), None);
            link.server(answer.as_bytes());
            assert_eq!(link.raw(), Some(reason), "{words}: {answer}");
        }
    }
}

#[test]
fn a_push_within_a_reply_is_no_element() {
    // Redis before 7.2 says in the midst of a RESP3 client's reply what the command itself causes: here that a consumer
    // came to be, or that a key expired.
    let push = ">4\r\n$8\r\npmessage\r\n$6\r\n__key*\r\n$16\r\n__keyspace@0__:s\r\n$21\r\nxgroup-createconsumer\r\n";
    let stored = entry("1-1", &["f", "v", "traceparent", CONTEXT]);
    let stored = String::from_utf8(stored).unwrap();
    let stripped = String::from_utf8(entry("1-1", &["f", "v"])).unwrap();
    let replies = |entry: &str| {
        [
            (
                "XREADGROUP GROUP g c STREAMS s >",
                format!("%1\r\n$1\r\ns\r\n{push}{push}*1\r\n{entry}"),
            ),
            (
                "XREADGROUP GROUP g d STREAMS s t 0 >",
                format!("{push}%2\r\n{push}$1\r\ns\r\n*1\r\n{entry}{push}$1\r\nt\r\n{push}*0\r\n"),
            ),
            ("XCLAIM s g e 0 1-1", format!("*1\r\n{push}{push}{entry}")),
            (
                "XAUTOCLAIM s g f 0 0",
                format!("*3\r\n$3\r\n0-0\r\n*1\r\n{push}{push}{entry}{push}*0\r\n"),
            ),
            ("MGET a b", format!("*2\r\n{push}$-1\r\n$1\r\nb\r\n")),
            (
                "HGETALL a",
                format!("%1\r\n{push}$1\r\nb\r\n{push}*1\r\n{push}$1\r\nc\r\n"),
            ),
        ]
    };
    for whole in [false, true] {
        let world = delivering(DeliverRule::Strip);
        let mut link = world.connect();
        for ((words, reply), (_, read)) in replies(&stored).into_iter().zip(replies(&stripped)) {
            link.client(&line(words));
            let piece = if whole { reply.len() } else { 1 };
            let got: Vec<u8> = reply
                .as_bytes()
                .chunks(piece)
                .flat_map(|piece| link.server(piece))
                .collect();
            assert_eq!(String::from_utf8(got).unwrap(), read, "{words}");
            assert_eq!((link.raw(), link.kept()), (None, 0), "{words}");
            assert!(
                link.replies().is_between() && link.cx.inflight.is_empty(),
                "{words}"
            );
        }
        // Each of the four superseded the one before it.
        assert_eq!(world.spans().len(), 3);
        let spans = exchange(&world, &mut link, "XADD s * f v", "$3\r\n9-9\r\n");
        assert_eq!(outcomes(&spans), [("9-9".to_owned(), Outcome::Done)]);
    }
}
