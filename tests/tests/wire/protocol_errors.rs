//! What servers refuse, each in its own words: the proxy lets them speak.

use tars_tests::dialogue::Dialogue;
use tars_tests::resp::pipeline;
use tars_tests::server::{Kind, Server};

/// Answers to what came before a protocol error still arrive. `bytes` are what the server closes at the end of.
fn after_answers(bytes: &[u8], then: &[u8]) -> Dialogue {
    let mut all = pipeline(&["SET k v", "XADD s 1-1 f v", "GET k"]);
    all.extend_from_slice(bytes);
    let closing = all.len();
    all.extend_from_slice(then);
    Dialogue::new().bytes(all).turns_raw().cut_up_to(closing)
}

#[test]
fn lengths_that_are_none() {
    for (bytes, then) in [
        ("*x\r\n", ""),
        ("*1\r\n$-1\r\n", ""),
        ("*1\r\n$x\r\n", ""),
        ("*1\r\nPING\r\n", ""),
        ("*2147483648\r\n", ""),
        ("*01\r\n", "$4\r\nPING\r\n"),
    ] {
        after_answers(bytes.as_bytes(), then.as_bytes())
            .closes()
            .check_all();
    }
}

#[test]
fn a_length_beyond_what_a_server_takes() {
    // Where this command ends is known; that the server refuses it makes no difference to pairing.
    Dialogue::new()
        .commands(&["SET k v"])
        .bytes("*1\r\n$9999999999\r\n")
        .closes()
        .check_all();
}

#[test]
fn lengths_that_are_none_within_a_command() {
    for bytes in [
        "*2\r\n$3\r\nGET\r\n$-1\r\n",
        "*5\r\n$4\r\nXADD\r\n$1\r\ns\r\n$x\r\n",
        "*3\r\n$3\r\nSET\r\n$1\r\nk\r\nv\r\n",
    ] {
        after_answers(bytes.as_bytes(), b"").closes().check_all();
    }
}

#[test]
fn cr_and_another_byte() {
    // Redis takes it for a line's end, and Valkey does not.
    let dialogue = after_answers(b"*1\rx", b"$4\r\nPING\r\n");
    for kind in [Kind::Redis70, Kind::Redis82] {
        dialogue.check(Server::of(kind));
    }
    dialogue.closes().check(Server::of(Kind::Valkey));
}

#[test]
fn a_bulk_that_ends_otherwise() {
    // Redis does not look at the last two bytes, Valkey does; a message that ends so is not rewritten.
    let bytes = "*2\r\n$3\r\nGET??$1\r\nk??*5\r\n$4\r\nXADD\r\n$1\r\ns\r\n$3\r\n1-1\r\n$1\r\nfxx$1\r\nv\r\n";
    for kind in [Kind::Redis70, Kind::Redis82] {
        Dialogue::new().bytes(bytes).check(Server::of(kind));
    }
    Dialogue::new()
        .bytes(bytes)
        .cut_up_to("*2\r\n$3\r\nGET??".len())
        .closes()
        .check(Server::of(Kind::Valkey));
}

#[test]
fn http() {
    let ping = ("PING\r\n", "+PONG\r\n");
    let get = ("GET / HTTP/1.1\r\n", "'get' command\r\n");
    for ((before, answer), bytes, then) in [
        (ping, "POST / HTTP/1.1\r\n", "Host: x\r\n\r\n"),
        (get, "Host: x\r\n", "\r\n"),
        (ping, "*1\r\n$4\r\nPOST\r\n", ""),
        (ping, "*2\r\n$5\r\nHost:\r\n$1\r\nx\r\n", ""),
    ] {
        // Answers that have not been sent when the server closes are lost: that depends on what it reads at once.
        let all = [before, bytes, then].concat();
        let at_once = Dialogue::new().bytes(all).uncut();
        at_once.turns_raw().closes().check_all();
        Dialogue::new()
            .bytes(before)
            .hear(answer)
            .bytes([bytes, then].concat())
            .cut_up_to(before.len() + bytes.len())
            .turns_raw()
            .closes()
            .check_all();
    }
}
