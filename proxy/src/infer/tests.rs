#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use super::*;
use crate::config::{Config, InferParent, Limits};
use crate::testing::{Link, World, command, line};
use crate::trace::span::Span;

/// XREADGROUP's reply with messages of one stream.
fn messages(ids: &[&str]) -> Vec<u8> {
    let mut out = format!("*1\r\n*2\r\n$1\r\ns\r\n*{}\r\n", ids.len()).into_bytes();
    for id in ids {
        out.extend_from_slice(format!("*2\r\n${}\r\n{id}\r\n", id.len()).as_bytes());
        out.extend_from_slice(&command(["f", "v"]));
    }
    out
}

const READ: &str = "XREADGROUP GROUP g c STREAMS s >";

fn given(link: &mut Link, ids: &[&str]) {
    link.client(&line(READ));
    link.server(&messages(ids));
}

fn world(infer_parent: InferParent) -> World {
    World::new(Config::default(), infer_parent)
}

/// Sends an XADD, settles all, and says which message's `process` span is its parent.
fn parent(world: &World, link: &mut Link) -> Option<String> {
    link.client(&line("XADD t * f v"));
    link.server(b"$3\r\n9-9\r\n");
    let mut spans = world.spans();
    let send = spans.pop().unwrap();
    world
        .worker
        .shared
        .deliveries
        .lock()
        .drain(u64::MAX, &mut spans);
    assert_eq!(send.inferred, send.parent.is_some());
    let is_parent = |span: &&Span| Some(span.context.span_id) == send.parent;
    let parent = spans.iter().find(is_parent)?;
    assert_eq!(parent.context.trace_id, send.context.trace_id);
    parent.message.map(|id| id.to_string())
}

fn counted(world: &World, scope: &str) -> [f64; 3] {
    ["one", "none", "several"].map(|found| {
        world.metric(
            "tars_proxy_inferences_total",
            &[("scope", scope), ("found", found)],
        )
    })
}

#[test]
fn the_one_message_being_handled_is_the_parent() {
    for scope in [InferParent::Connection, InferParent::Process] {
        let world = world(scope);
        let mut link = world.connect();
        given(&mut link, &["1-1"]);
        assert_eq!(
            parent(&world, &mut link).as_deref(),
            Some("1-1"),
            "{scope:?}"
        );
        let world = self::world(scope);
        let mut link = world.connect();
        // Several XADDs belong to it.
        given(&mut link, &["1-1"]);
        link.client(&line("XADD t * f v"));
        assert_eq!(
            parent(&world, &mut link).as_deref(),
            Some("1-1"),
            "{scope:?}"
        );
    }
}

#[test]
fn when_it_is_off_it_only_counts() {
    let world = world(InferParent::Off);
    let mut link = world.connect();
    given(&mut link, &["1-1"]);
    assert_eq!(parent(&world, &mut link), None);
    assert_eq!(
        (counted(&world, "connection"), counted(&world, "process")),
        ([1.0, 0.0, 0.0], [1.0, 0.0, 0.0])
    );
    // An XADD with a context of its own asks for none.
    let own = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    link.client(&command(["XADD", "s", "*", "traceparent", own]));
    assert_eq!(counted(&world, "connection"), [1.0, 0.0, 0.0]);
}

#[test]
fn each_condition_holds_it_back() {
    type Before = fn(&World, &mut Link);
    let cases: [(&str, Before, [f64; 3]); 11] = [
        ("nothing was delivered", |_, _| {}, [0.0, 1.0, 0.0]),
        (
            "an empty poll",
            |_, link| {
                link.client(&line(READ));
                link.server(b"*-1\r\n");
            },
            [0.0, 1.0, 0.0],
        ),
        (
            "two messages",
            |_, link| given(link, &["1-1", "1-2"]),
            [0.0, 0.0, 1.0],
        ),
        (
            "it has not reached the client",
            |_, link| {
                link.client(&line(READ));
                let reply = messages(&["1-1"]);
                link.server(&reply[..reply.len() - 1]);
            },
            [0.0, 1.0, 0.0],
        ),
        (
            "it is settled",
            |_, link| {
                given(link, &["1-1"]);
                link.client(&line("XACK s g 1-1"));
                link.server(b":1\r\n");
            },
            [0.0, 1.0, 0.0],
        ),
        (
            "its settlement has been sent",
            |_, link| {
                given(link, &["1-1"]);
                link.client(&line("XACK s g 1-1"));
            },
            [0.0, 1.0, 0.0],
        ),
        (
            "a newer read has been sent",
            |_, link| {
                given(link, &["1-1"]);
                link.client(&line(READ));
            },
            [0.0, 1.0, 0.0],
        ),
        (
            "a newer claim has been sent",
            |_, link| {
                given(link, &["1-1"]);
                link.client(&line("XAUTOCLAIM s g c 0 0"));
            },
            [0.0, 1.0, 0.0],
        ),
        (
            "the delivery answers an older read",
            |_, link| {
                link.client(&[line(READ), line(READ)].concat());
                link.server(&messages(&["1-1"]));
            },
            [0.0, 1.0, 0.0],
        ),
        (
            "it expired",
            |world, link| {
                given(link, &["1-1"]);
                world
                    .worker
                    .shared
                    .deliveries
                    .lock()
                    .expire(u64::MAX, u64::MAX, &mut Vec::new());
            },
            [0.0, 1.0, 0.0],
        ),
        (
            "it was read without a group",
            |_, link| {
                link.client(&line("XREAD STREAMS s 0"));
                link.server(&messages(&["1-1"]));
            },
            [0.0, 1.0, 0.0],
        ),
    ];
    for scope in [InferParent::Connection, InferParent::Process] {
        for (what, before, expected) in cases {
            let world = world(scope);
            let mut link = world.connect();
            before(&world, &mut link);
            link.client(&line("XADD t * f v"));
            let label = if scope == InferParent::Connection {
                "connection"
            } else {
                "process"
            };
            assert_eq!(counted(&world, label), expected, "{what}, {scope:?}");
        }
    }
}

#[test]
fn a_read_that_is_not_followed_is_a_read_all_the_same() {
    let full = Limits {
        max_pending_replies: 1,
        ..Limits::default()
    };
    let small = Limits {
        max_message_bytes: 300,
        ..Limits::default()
    };
    let many = format!(
        "XREADGROUP GROUP g c STREAMS {} {}",
        "s ".repeat(4),
        "> ".repeat(4)
    );
    let long = format!("XREADGROUP GROUP g {} STREAMS s >", "c".repeat(300));
    for (limits, before, words) in [
        (full, "WATCH a", READ),
        (full, "XREAD STREAMS s 0", "XAUTOCLAIM s g c 0 0"),
        (small, "PING", long.as_str()),
        (small, "PING", many.as_str()),
    ] {
        let world = World::new(
            Config {
                limits,
                ..Config::default()
            },
            InferParent::Off,
        );
        let (mut reader, mut writer) = (world.connect(), world.connect());
        given(&mut reader, &["1-1"]);
        if words == many {
            // More arguments than are taken before AUTH.
            world.destination.upstream.set_open(false);
            reader.cx.authenticated = false;
        }
        reader.client(&[line(before), line(words)].concat());
        writer.client(&line("XADD t * f v"));
        assert_eq!(counted(&world, "process"), [0.0, 1.0, 0.0], "{words}");
    }
}

#[test]
fn noack_is_settled_at_once() {
    let world = world(InferParent::Connection);
    let mut link = world.connect();
    link.client(&line("XREADGROUP GROUP g c NOACK STREAMS s >"));
    link.server(&messages(&["1-1"]));
    assert_eq!(parent(&world, &mut link), None);
}

#[test]
fn another_connection_sends_for_the_process_only() {
    for (scope, expected) in [
        (InferParent::Connection, None),
        (InferParent::Process, Some("1-1")),
    ] {
        let world = world(scope);
        let (mut reader, mut writer) = (world.connect(), world.connect());
        given(&mut reader, &["1-1"]);
        assert_eq!(
            parent(&world, &mut writer).as_deref(),
            expected,
            "{scope:?}"
        );
    }
}

#[test]
fn over_the_process_a_second_message_anywhere_is_a_second_candidate() {
    let world = world(InferParent::Process);
    let (mut one, mut two, mut writer) = (world.connect(), world.connect(), world.connect());
    given(&mut one, &["1-1"]);
    given(&mut two, &["1-2"]);
    writer.client(&line("XADD t * f v"));
    assert_eq!(counted(&world, "process"), [0.0, 0.0, 1.0]);
    // The other is settled: one is left.
    one.client(&line("XACK s g 1-1"));
    one.server(b":1\r\n");
    writer.client(&line("XADD t * f v"));
    assert_eq!(counted(&world, "process"), [1.0, 0.0, 1.0]);
    // A newer read anywhere, and none is known to be handled.
    one.client(&line(READ));
    writer.client(&line("XADD t * f v"));
    assert_eq!(counted(&world, "process"), [1.0, 1.0, 1.0]);
}

#[test]
fn replies_that_come_in_another_order_than_the_reads_leave_several() {
    // Both blocked; the later read is answered first. Then each has a message.
    let world = world(InferParent::Process);
    let (mut one, mut two, mut writer) = (world.connect(), world.connect(), world.connect());
    one.client(&line(READ));
    two.client(&line(READ));
    two.server(&messages(&["1-2"]));
    one.server(&messages(&["1-1"]));
    assert_eq!(parent(&world, &mut writer), None);
    assert_eq!(counted(&world, "process"), [0.0, 0.0, 1.0]);
}

#[test]
fn a_connection_that_is_gone_handles_nothing() {
    let world = world(InferParent::Process);
    let (mut one, mut two, mut writer) = (world.connect(), world.connect(), world.connect());
    given(&mut one, &["1-1"]);
    given(&mut two, &["1-2"]);
    one.close();
    writer.client(&line("XADD t * f v"));
    assert_eq!(counted(&world, "process"), [1.0, 0.0, 0.0]);
    two.close();
    writer.client(&line("XADD t * f v"));
    assert_eq!(counted(&world, "process"), [1.0, 1.0, 0.0]);
}

#[test]
fn labels_are_words() {
    let context = SpanContext::root(true);
    assert_eq!(Found::One(context, TraceState::default()).label(), "one");
    assert_eq!(
        (Found::None.label(), Found::Several.label()),
        ("none", "several")
    );
}

#[test]
fn an_inferred_parent_takes_its_state_along_only_where_there_is_room() {
    // Before AUTH is proved, a command of more than ten arguments would close the connection.
    let own = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let reply = [
        &b"*1\r\n*2\r\n$1\r\ns\r\n*1\r\n*2\r\n$3\r\n1-1\r\n"[..],
        &command(["traceparent", own, "tracestate", "a=1"]),
    ]
    .concat();
    for (fields, arguments) in [("a 1", 9), ("a 1 b 2", 9)] {
        let world = world(InferParent::Process);
        let (mut reader, mut writer) = (world.connect(), world.connect());
        reader.client(&line(READ));
        reader.server(&reply);
        world.destination.upstream.set_open(false);
        let sent = writer.client(&line(&format!("XADD t * {fields}")));
        assert!(
            sent.starts_with(format!("*{arguments}\r\n").as_bytes()),
            "{}",
            String::from_utf8_lossy(&sent)
        );
    }
}
