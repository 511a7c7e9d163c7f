//! When a connection is at rest, and pushes within replies.

use super::*;

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
