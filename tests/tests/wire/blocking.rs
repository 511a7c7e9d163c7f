//! Commands that wait.

use std::time::Duration;

use tars_tests::dialogue::Dialogue;
use tars_tests::resp::{Client, pipeline};
use tars_tests::server::Kind;
use tars_tests::stage::{self, Stage};
use tars_tests::wait::{self, PATIENCE};

/// Waits until the server has a blocked client.
fn wait_blocked(stage: &Stage, count: usize) {
    wait::until("a client is blocked", PATIENCE, || {
        stage
            .direct("INFO clients")
            .contains(&format!("blocked_clients:{count}\r"))
            .then_some(())
    });
}

fn id(client: &mut Client) -> String {
    client
        .call(&["CLIENT", "ID"])
        .trim_start_matches(':')
        .trim_end()
        .to_owned()
}

#[test]
fn each_waits_for_what_others_write() {
    for hello in ["HELLO 2", "HELLO 3"] {
        Dialogue::new()
            .with_client_ids()
            .commands(&[hello, "XGROUP CREATE s g $ MKSTREAM"])
            .commands(&[
                "XREADGROUP GROUP g c BLOCK 0 STREAMS s >",
                "XACK s g 1-1",
                "XREAD BLOCK 0 STREAMS none s $ $",
                "BZPOPMIN z 0",
                "BLMPOP 0 2 none l LEFT COUNT 2",
                "XLEN s",
            ])
            .blocks()
            .meanwhile("XADD s 1-1 f v")
            .blocks()
            .meanwhile("XADD s 2-1 f v")
            .blocks()
            .meanwhile("ZADD z 1.5 a")
            .blocks()
            .meanwhile("RPUSH l a b c")
            .check_all();
    }
}

#[test]
fn what_a_reader_waits_for_goes_away() {
    for change in [
        "DEL s",
        "SET s v",
        "XGROUP DESTROY s g",
        "RENAME s t",
        "FLUSHALL",
        "SWAPDB 0 1",
        "XGROUP SETID s g 0",
    ] {
        Dialogue::new()
            .commands(&["CLIENT SETNAME me", "XGROUP CREATE s g $ MKSTREAM"])
            .commands(&["XREADGROUP GROUP g c BLOCK 0 STREAMS s >", "GET none"])
            .blocks()
            .meanwhile(change)
            // Where that did not end it.
            .meanwhile("CLIENT UNBLOCK {id}")
            .check_all();
    }
}

#[test]
fn reads_wait_for_what_comes_and_what_is_behind_them_waits_too() {
    for kind in Kind::ALL {
        for hello in ["2", "3"] {
            let stage = Stage::of(kind);
            stage.direct("XGROUP CREATE s g $ MKSTREAM");
            let mut client = stage.connect();
            client.call(&["HELLO", hello]);
            client.send(pipeline(&[
                "XREADGROUP GROUP g c BLOCK 0 STREAMS s >",
                "XACK s g 1-1",
                "BLPOP l 0",
                "XREAD BLOCK 0 STREAMS s $",
                "PING x",
            ]));
            wait_blocked(&stage, 1);
            stage.connect().call(&["XADD", "s", "1-1", "f", "v"]);
            client.reply();
            assert_eq!(client.reply(), b":1\r\n", "{kind}");
            wait_blocked(&stage, 1);
            stage.direct("RPUSH l a");
            assert_eq!(client.reply(), b"*2\r\n$1\r\nl\r\n$1\r\na\r\n");
            wait_blocked(&stage, 1);
            stage.connect().call(&["XADD", "s", "2-1", "f", "v"]);
            client.read_until_ends_with(b"$1\r\nx\r\n");
            let (sent, process) = (
                stage.wait_span("send s", "1-1"),
                stage.wait_span("process s", "1-1"),
            );
            assert!(process.is_child_of(&sent));
            let (sent, receive) = (
                stage.wait_span("send s", "2-1"),
                stage.wait_span("receive s", "2-1"),
            );
            assert!(receive.is_child_of(&sent));
            assert_eq!(stage.raw_relays(), 0.0);
        }
    }
}

#[test]
fn time_outs_and_unblocked_reads_are_empty() {
    for kind in Kind::ALL {
        let stage = Stage::of(kind);
        let mut client = stage.connect();
        let id = id(&mut client);
        assert_eq!(
            client.call(&["XREAD", "BLOCK", "1", "STREAMS", "s", "$"]),
            "*-1\r\n"
        );
        assert_eq!(client.call(&["BLPOP", "l", "0.01"]), "*-1\r\n");
        assert_eq!(client.call(&["WAIT", "1", "10"]), ":0\r\n");
        client.command(&["XREAD", "BLOCK", "0", "STREAMS", "s", "$"]);
        wait_blocked(&stage, 1);
        assert_eq!(stage.direct(&format!("CLIENT UNBLOCK {id}")), ":1\r\n");
        assert_eq!(client.reply(), b"*-1\r\n");
        client.command(&["XREAD", "BLOCK", "0", "STREAMS", "s", "$"]);
        wait_blocked(&stage, 1);
        stage.direct(&format!("CLIENT UNBLOCK {id} ERROR"));
        assert!(client.reply().starts_with(b"-UNBLOCKED"));
        stage::prove(&mut client, "proof");
        stage.wait_spans(|spans| stage::proved(spans, "proof"));
        assert_eq!(stage.raw_relays(), 0.0);
    }
}

#[test]
fn a_client_that_goes_while_it_waits_takes_its_connection_along() {
    let stage = Stage::of(Kind::Redis82);
    let mut client = stage.connect();
    client.command(&["BLPOP", "l", "0"]);
    wait_blocked(&stage, 1);
    drop(client);
    wait_blocked(&stage, 0);
}

#[test]
fn a_group_that_is_destroyed_under_a_reader() {
    for kind in Kind::ALL {
        let stage = Stage::of(kind);
        stage.direct("XGROUP CREATE s g $ MKSTREAM");
        let mut client = stage.connect();
        client.command(&[
            "XREADGROUP",
            "GROUP",
            "g",
            "c",
            "BLOCK",
            "0",
            "STREAMS",
            "s",
            ">",
        ]);
        wait_blocked(&stage, 1);
        stage.direct("XGROUP DESTROY s g");
        assert!(client.reply().starts_with(b"-NOGROUP"), "{kind}");
        stage::prove(&mut client, "proof");
        stage.wait_spans(|spans| stage::proved(spans, "proof"));
        assert_eq!(stage.raw_relays(), 0.0);
    }
}

#[test]
fn nothing_arrives_before_there_is_something() {
    let stage = Stage::of(Kind::Valkey);
    let mut client = stage.connect();
    client.send(pipeline(&["SET k v", "BLPOP l 0"]));
    wait_blocked(&stage, 1);
    // Replies before one that is waited for are not held back.
    assert_eq!(client.reply(), b"+OK\r\n");
    assert_eq!(client.read_until_quiet(Duration::from_millis(20)), b"");
}
