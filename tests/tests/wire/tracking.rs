//! CLIENT TRACKING: invalidations that come when others write.

use tars_tests::dialogue::Dialogue;
use tars_tests::resp::pipeline;
use tars_tests::server::Kind;
use tars_tests::stage::{self, Stage};

fn resp3(commands: &[&str]) -> Dialogue {
    let dialogue = Dialogue::new().with_client_ids();
    dialogue.commands(&[&["HELLO 3"], commands].concat())
}

const OF_K: &str = "$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n";
const OF_ALL: &str = "$10\r\ninvalidate\r\n_\r\n";

#[test]
fn of_what_was_read() {
    resp3(&["CLIENT TRACKING ON", "GET k", "XRANGE s - +", "PING x"])
        .hear("x\r\n")
        .meanwhile("SET k v")
        .hear(OF_K)
        .meanwhile("XADD s 1-1 f v")
        .hear("s\r\n")
        .commands(&["XREAD STREAMS s 0", "XADD s 2-1 f v", "GET k", "PING y"])
        .hear("y\r\n")
        .meanwhile("FLUSHALL")
        .hear(OF_ALL)
        .commands(&["CLIENT TRACKING OFF", "GET k"])
        .check_all();
}

#[test]
fn of_nothing_that_it_wrote_itself() {
    resp3(&["CLIENT TRACKING ON NOLOOP", "GET k", "SET k own", "GET k"])
        .hear("own\r\n")
        .meanwhile("SET k v")
        .hear(OF_K)
        .check_all();
}

#[test]
fn of_what_it_asked_for_or_did_not_ask_against() {
    resp3(&[
        "CLIENT TRACKING ON OPTIN",
        "GET a",
        "CLIENT CACHING YES",
        "GET k",
        "PING x",
    ])
    .hear("x\r\n")
    .meanwhile("SET a v")
    .meanwhile("SET k v")
    .hear(OF_K)
    .check_all();
    resp3(&[
        "CLIENT TRACKING ON OPTOUT",
        "CLIENT CACHING NO",
        "GET a",
        "GET k",
        "PING x",
    ])
    .hear("x\r\n")
    .meanwhile("SET a v")
    .meanwhile("SET k v")
    .hear(OF_K)
    .check_all();
    // The commands of a transaction are all asked for.
    resp3(&[
        "CLIENT TRACKING ON OPTIN",
        "CLIENT CACHING YES",
        "MULTI",
        "GET k",
        "XLEN s",
        "EXEC",
        "PING x",
    ])
    .hear("x\r\n")
    .meanwhile("SET k v")
    .hear(OF_K)
    .check_all();
}

#[test]
fn of_all_keys_with_a_prefix() {
    resp3(&[
        "CLIENT TRACKING ON BCAST PREFIX k PREFIX s",
        "XGROUP CREATE s g $ MKSTREAM",
    ])
    .hear("$1\r\ns\r\n")
    .meanwhile("SET a v")
    .meanwhile("SET k v")
    .hear(OF_K)
    .commands(&["XREADGROUP GROUP g c STREAMS s >", "PING x"])
    .hear("x\r\n")
    .meanwhile("XADD s 1-1 f v")
    .hear("$1\r\ns\r\n")
    .commands(&["XREADGROUP GROUP g c STREAMS s >"])
    .hear("$1\r\nv\r\n")
    .meanwhile("SET k w")
    .hear(OF_K)
    .check_all();
}

#[test]
fn while_subscribed() {
    resp3(&["SUBSCRIBE ch", "CLIENT TRACKING ON", "GET k"])
        .hear("_\r\n")
        .meanwhile("PUBLISH ch first")
        .meanwhile("SET k v")
        .meanwhile("PUBLISH ch last")
        .hear("last\r\n")
        .commands(&["XADD s 1-1 f v", "UNSUBSCRIBE"])
        .check_all();
}

#[test]
fn to_itself_in_resp2() {
    for kind in Kind::ALL {
        let stage = Stage::of(kind);
        let mut client = stage.connect();
        let id = client.call(&["CLIENT", "ID"]);
        let id = id.trim_start_matches(':').trim_end();
        client.send(pipeline(&[
            &format!("CLIENT TRACKING ON REDIRECT {id}"),
            "GET k",
            "SUBSCRIBE __redis__:invalidate",
        ]));
        client.read_until_ends_with(b":1\r\n");
        stage.direct("SET k v");
        let message = b"*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n*1\r\n$1\r\nk\r\n";
        assert_eq!(client.reply(), message, "{kind}");
        client.call(&["UNSUBSCRIBE"]);
        stage::prove(&mut client, "proof");
        stage.wait_spans(|spans| stage::proved(spans, "proof"));
        assert_eq!(stage.raw_relays(), 0.0);
    }
}

#[test]
fn to_one_that_has_gone() {
    for kind in Kind::ALL {
        let stage = Stage::of(kind);
        let mut other = stage.server.connect();
        let id = other.call(&["CLIENT", "ID"]);
        let mut client = stage.connect();
        client.send(pipeline(&[
            "HELLO 3",
            &format!(
                "CLIENT TRACKING ON REDIRECT {}",
                id.trim_start_matches(':').trim_end()
            ),
            "GET k",
        ]));
        client.replies(3);
        stage.direct(&format!(
            "CLIENT KILL ID {}",
            id.trim_start_matches(':').trim_end()
        ));
        stage.direct("SET k v");
        let broken = format!(">2\r\n$21\r\ntracking-redir-broken\r\n{id}");
        assert_eq!(String::from_utf8(client.reply()).unwrap(), broken, "{kind}");
        stage::prove(&mut client, "proof");
        stage.wait_spans(|spans| stage::proved(spans, "proof"));
        assert_eq!(stage.raw_relays(), 0.0);
    }
}
