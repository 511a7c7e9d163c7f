//! Replies that never come, and what ends the pairing.

use super::*;

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
