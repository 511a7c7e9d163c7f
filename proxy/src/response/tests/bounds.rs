//! Nothing grows with what a peer sends.

use super::*;

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
