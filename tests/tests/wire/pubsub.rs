//! Subscriptions, in both protocols.

use tars_tests::dialogue::Dialogue;
use tars_tests::resp::pipeline;
use tars_tests::server::Kind;
use tars_tests::stage::{self, Stage};
use tars_tests::wait::PATIENCE;

fn each_protocol(dialogue: impl Fn(Dialogue) -> Dialogue) {
    for hello in ["HELLO 2", "HELLO 3"] {
        dialogue(Dialogue::new().with_client_ids().commands(&[hello])).check_all();
    }
}

#[test]
fn messages_between_replies() {
    each_protocol(|d| {
        d.commands(&["SUBSCRIBE a b", "PSUBSCRIBE c*", "PING", "PING x"])
            .hear("x\r\n")
            .meanwhile("PUBLISH a first")
            .meanwhile("PUBLISH c1 second")
            .hear("second\r\n")
            .commands(&["SUBSCRIBE a", "PING y", "UNSUBSCRIBE b"])
            .hear(":2\r\n")
            .meanwhile("PUBLISH a third")
            .hear("third\r\n")
            .commands(&["UNSUBSCRIBE", "PUNSUBSCRIBE c*", "SET k v", "GET k"])
    });
}

#[test]
fn shard_channels_are_counted_apart() {
    each_protocol(|d| {
        d.commands(&[
            "SSUBSCRIBE s1 s2",
            "SUBSCRIBE a",
            "SUNSUBSCRIBE s1",
            "PING x",
        ])
        .hear("x\r\n")
        .meanwhile("SPUBLISH s2 message")
        .hear("message\r\n")
        .commands(&["UNSUBSCRIBE", "SUNSUBSCRIBE", "SUNSUBSCRIBE", "GET none"])
    });
}

#[test]
fn leaving_all_with_and_without_subscriptions() {
    each_protocol(|d| {
        d.commands(&[
            "UNSUBSCRIBE",
            "PUNSUBSCRIBE",
            "SUNSUBSCRIBE",
            "UNSUBSCRIBE x y",
            "SUBSCRIBE a b c",
            "PSUBSCRIBE p* q*",
            "PUNSUBSCRIBE",
            "UNSUBSCRIBE c x",
            "UNSUBSCRIBE",
            "UNSUBSCRIBE",
            "GET none",
        ])
    });
}

#[test]
fn commands_that_are_refused_while_subscribed() {
    each_protocol(|d| {
        d.commands(&[
            "SUBSCRIBE a",
            "GET k",
            "XADD s 1-1 f v",
            "SUBSCRIBE",
            "XLEN s",
            "PING x",
        ])
        .hear("x\r\n")
        .meanwhile("PUBLISH a message")
        .hear("message\r\n")
        .commands(&["UNSUBSCRIBE", "XLEN s"])
    });
}

#[test]
fn back_to_resp2_while_subscribed() {
    Dialogue::new()
        .with_client_ids()
        .commands(&["HELLO 3", "SUBSCRIBE a", "HELLO 2", "PING x"])
        .hear("x\r\n")
        .meanwhile("PUBLISH a message")
        .hear("message\r\n")
        .commands(&["GET k", "UNSUBSCRIBE", "HGETALL none"])
        .check_all();
}

#[test]
fn a_subscription_that_is_refused() {
    for hello in ["HELLO 2 AUTH u x", "HELLO 3 AUTH u x"] {
        Dialogue::new()
            .with_client_ids()
            .prepare("ACL SETUSER u on nopass allkeys +@all resetchannels &ok*")
            .commands(&[
                hello,
                "SUBSCRIBE ok1 no",
                "PSUBSCRIBE *",
                "SSUBSCRIBE no",
                "SUBSCRIBE ok2",
                "PING x",
            ])
            .hear("x\r\n")
            .meanwhile("PUBLISH ok2 message")
            .hear("message\r\n")
            .commands(&["SUBSCRIBE no", "UNSUBSCRIBE"])
            .check_all();
    }
}

#[test]
fn reset_leaves_all() {
    each_protocol(|d| {
        d.commands(&[
            "SUBSCRIBE a",
            "PSUBSCRIBE b*",
            "SSUBSCRIBE c",
            "RESET",
            "GET none",
        ])
        .hear("$-1\r\n")
        .meanwhile("PUBLISH a message")
        .commands(&["SUBSCRIBE b", "UNSUBSCRIBE b"])
    });
}

#[test]
fn other_commands_between_subscriptions_in_resp3() {
    Dialogue::new()
        .with_client_ids()
        .commands(&[
            "HELLO 3",
            "SUBSCRIBE a",
            "XADD s 1-1 f v",
            "PUBLISH a self",
            "LRANGE none 0 -1",
        ])
        .commands(&[
            "XGROUP CREATE s g 0",
            "XREADGROUP GROUP g c STREAMS s >",
            "PUBLISH a self",
            "XACK s g 1-1",
            "PING x",
        ])
        .hear("x\r\n")
        .meanwhile("PUBLISH a last")
        .hear("last\r\n")
        .check_all();
}

#[test]
fn notifications_within_the_reply_that_causes_them() {
    // Redis before 7.2 puts them between the elements of a RESP3 client's own reply; later servers send them behind it.
    Dialogue::new()
        .with_client_ids()
        .prepare("CONFIG SET notify-keyspace-events KEA")
        .commands(&["HELLO 3", "PSUBSCRIBE __key*", "XADD s 1-1 f v"])
        .commands(&[
            "XGROUP CREATE s g 0",
            "XREADGROUP GROUP g first STREAMS s >",
            "XREADGROUP GROUP g second STREAMS s 0",
            "XCLAIM s g third 0 1-1",
            "XAUTOCLAIM s g fourth 0 0",
            "ZADD z 1 a 2 b",
            "ZPOPMIN z 2",
        ])
        .commands(&[
            "MULTI",
            "XADD s 2-1 f v",
            "XREADGROUP GROUP g fifth STREAMS s >",
            "XRANGE s - +",
            "EXEC",
            "PUNSUBSCRIBE",
        ])
        .check_all();
}

#[test]
fn a_value_that_looks_like_a_message_is_a_reply() {
    Dialogue::new()
        .commands(&[
            "RPUSH l message a b",
            "RPUSH m subscribe a 1",
            "LRANGE l 0 -1",
            "LRANGE m 0 -1",
        ])
        .commands(&[
            "SUBSCRIBE a",
            "UNSUBSCRIBE a",
            "LRANGE l 0 -1",
            "LRANGE m 0 -1",
        ])
        .check_all();
}

#[test]
fn invalidations_redirected_to_a_subscriber_in_resp2() {
    for kind in Kind::ALL {
        let stage = Stage::of(kind);
        let mut listener = stage.connect();
        let id = listener.call(&["CLIENT", "ID"]);
        let id = id.trim_start_matches(':').trim_end();
        listener.call(&["SUBSCRIBE", "__redis__:invalidate"]);
        let mut client = stage.connect();
        client.send(pipeline(&[
            &format!("CLIENT TRACKING ON REDIRECT {id}"),
            "SET k v",
            "GET k",
        ]));
        client.read_until_ends_with(b"$1\r\nv\r\n");
        stage.direct("SET k w");
        let invalidation =
            b"*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n*1\r\n$1\r\nk\r\n";
        assert_eq!(listener.reply(), invalidation);
        stage.direct("FLUSHALL");
        assert_eq!(
            listener.reply(),
            b"*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n$-1\r\n"
        );
        listener.call(&["UNSUBSCRIBE"]);
        stage::prove(&mut listener, "listener");
        stage::prove(&mut client, "client");
        let spans = ["listener", "client"];
        stage.wait_spans(|all| spans.iter().all(|stream| stage::proved(all, stream)));
        assert_eq!(stage.raw_relays(), 0.0, "{kind}");
    }
}

#[test]
fn thousands_of_messages_while_commands_run() {
    const COUNT: usize = 3_000;
    let stage = Stage::of(Kind::Redis82);
    let mut client = stage.connect();
    client.call(&["HELLO", "3"]);
    client.call(&["SUBSCRIBE", "ch"]);
    std::thread::scope(|scope| {
        let server = &stage.server;
        scope.spawn(move || {
            let publishes = vec!["PUBLISH ch a-message"; COUNT];
            tars_tests::resp::exchange(server.address(), &pipeline(&publishes), COUNT)
        });
        for n in 1..=200 {
            client.command(&["XADD", "s", &format!("{n}-1"), "f", "v"]);
        }
        let mut messages = 0;
        let mut ids = 0;
        while messages < COUNT || ids < 200 {
            match client.reply().first() {
                Some(b'>') => messages += 1,
                _ => ids += 1,
            }
        }
    });
    let spans = stage
        .collector
        .wait_for(PATIENCE, |spans| spans.len() == 200);
    let sent = spans
        .iter()
        .filter(|span| span.attr("messaging.message.id").is_string());
    assert_eq!((sent.count(), stage.raw_relays()), (200, 0.0));
}
