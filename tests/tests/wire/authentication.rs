//! Passwords: what an unauthenticated client is told is what the server says.

use tars_tests::dialogue::Dialogue;
use tars_tests::resp::encode;
use tars_tests::server::{Kind, Server};

fn locked() -> impl Iterator<Item = Server> {
    let start = |kind| {
        Server::builder(kind)
            .args([
                "--requirepass",
                "secret",
                "--user",
                "u",
                "on",
                ">pass",
                "~*",
                "&*",
                "+@all",
            ])
            .start()
    };
    Kind::ALL.into_iter().map(start)
}

#[test]
fn messages_around_the_limit_of_an_unauthenticated_client() {
    // Without AUTH a command of eleven arguments is refused otherwise than one of nine, and closes.
    for count in [9, 10, 11, 12] {
        let mut args = vec!["XADD", "s", "1-1"];
        args.extend(std::iter::repeat_n("x", count - 3));
        let closes = count > 10;
        for server in locked() {
            let mut dialogue = Dialogue::new().locked_by("secret").bytes(encode(&args));
            if closes {
                dialogue = dialogue.closes().cut_up_to("*11\r\n".len());
            } else {
                dialogue = dialogue.hear(LOCKED).commands(&["AUTH secret", "GET none"]);
            }
            dialogue.check(server);
        }
    }
}

#[test]
fn a_long_argument_of_an_unauthenticated_client() {
    for length in [16_384, 16_385] {
        let value = "v".repeat(length);
        for server in locked() {
            let bytes = encode(&["XADD", "s", "1-1", "f", &value]);
            let header = bytes.len() - length - "\r\n".len();
            let mut dialogue = Dialogue::new().locked_by("secret").bytes(bytes);
            if length > 16_384 {
                dialogue = dialogue.closes().cut_up_to(header);
            } else {
                dialogue = dialogue.hear(LOCKED).commands(&["AUTH secret", "GET none"]);
            }
            dialogue.check(server);
        }
    }
}

const LOCKED: &str = "-NOAUTH Authentication required.\r\n";

#[test]
fn refused_before_and_served_after() {
    for server in locked() {
        Dialogue::new()
            .locked_by("secret")
            .with_client_ids()
            .commands(&["AUTH u wrong"])
            .hear("disabled.\r\n")
            .commands(&["PING", "XADD s 1-1 f v", "GET k", "SUBSCRIBE a", "SELECT 1"])
            .hear(&LOCKED.repeat(5))
            .commands(&["AUTH u pass", "XADD s 1-1 f v"])
            .hear("+OK\r\n$3\r\n1-1\r\n")
            .commands(&["RESET"])
            .hear("+RESET\r\n")
            .commands(&["XADD s 3-1 f v a b"])
            .hear(LOCKED)
            .commands(&[
                "HELLO 3 AUTH default secret",
                "XLEN s",
                "XADD s 2-1 f v a b c d e",
            ])
            .check(server);
    }
}

#[test]
fn a_password_behind_replies_that_are_under_way_makes_a_raw_relay() {
    // From 7.2 on, the server says nothing of a wrong password while it has replies to send.
    for commands in [
        ["PING", "AUTH u wrong", "ECHO x", "AUTH u pass", "ECHO y"],
        [
            "PING",
            "HELLO 3 AUTH u wrong",
            "ECHO x",
            "HELLO 3 AUTH u pass",
            "ECHO y",
        ],
    ] {
        let dialogue = Dialogue::new()
            .locked_by("secret")
            .with_client_ids()
            .uncut();
        for server in locked() {
            dialogue
                .clone()
                .commands(&commands)
                .turns_raw()
                .check(server);
        }
    }
}

#[test]
fn a_password_within_multi_makes_a_raw_relay() {
    for auth in ["AUTH u wrong", "HELLO 3 AUTH u wrong"] {
        for server in locked() {
            Dialogue::new()
                .locked_by("secret")
                .commands(&["AUTH secret"])
                .hear("+OK\r\n")
                .commands(&["MULTI", "SET k v", auth, "GET k", "EXEC"])
                .turns_raw()
                .check(server);
        }
    }
}
