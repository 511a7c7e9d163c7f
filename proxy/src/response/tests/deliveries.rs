//! What a reply delivers, and what settles it.

use super::*;

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
