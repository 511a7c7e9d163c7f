//! Passwords: what an unauthenticated client is told is what the server says.

use tars_tests::dialogue::Dialogue;
use tars_tests::resp::encode;
use tars_tests::server::{Kind, Server};

fn locked() -> impl Iterator<Item = Server> {
    let start = |kind| Server::builder(kind).args(["--requirepass", "secret", "--user", "u on >pass ~* &* +@all"]).start();
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
                dialogue = dialogue.closes();
            } else {
                dialogue = dialogue.commands(&["AUTH secret", "GET none"]);
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
            let mut dialogue = Dialogue::new().locked_by("secret").bytes(encode(&["XADD", "s", "1-1", "f", &value]));
            if length > 16_384 {
                dialogue = dialogue.closes();
            } else {
                dialogue = dialogue.commands(&["AUTH secret", "GET none"]);
            }
            dialogue.check(server);
        }
    }
}

#[test]
fn noauth_and_auth_in_a_pipeline() {
    let commands = [
        "PING",
        "XADD s 1-1 f v",
        "MULTI",
        "SUBSCRIBE a",
        "SELECT 1",
        "HELLO 3",
        "AUTH wrong",
        "AUTH u wrong",
        "AUTH u pass",
        "XADD s 1-1 f v",
        "HELLO 3 AUTH default secret",
        "XADD s 2-1 f v",
        "RESET",
        "XADD s 3-1 f v a b",
        "AUTH secret",
        "XLEN s",
    ];
    for server in locked() {
        Dialogue::new().locked_by("secret").with_client_ids().commands(&commands).check(server);
    }
}
