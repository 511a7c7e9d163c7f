//! Ends of connections, passed on as they came.

use tars_tests::dialogue::Dialogue;
use tars_tests::resp::{Client, End, pipeline};
use tars_tests::server::{Kind, Server};
use tars_tests::stage::Stage;
use tars_tests::wait::{self, PATIENCE};

/// Waits until the server has no connection but the one this asks on.
fn wait_alone(stage: &Stage) {
    wait::until("the server's connections are closed", PATIENCE, || {
        stage
            .direct("INFO clients")
            .contains("connected_clients:1\r")
            .then_some(())
    });
}

#[test]
fn a_half_close_is_passed_on_behind_what_was_sent() {
    for kind in Kind::ALL {
        let stage = Stage::of(kind);
        for end in [b"".as_slice(), b"*2\r\n$3\r\nGET\r\n$1", b"XADD s 2-1 f"] {
            let mut client = stage.connect();
            client.send([&pipeline(&["XADD s * f v", "SET k v"]), end].concat());
            client.half_close();
            let (bytes, how) = client.read_until_closed();
            let got = String::from_utf8_lossy(&bytes).into_owned();
            assert!(
                got.starts_with('$') && got.ends_with("+OK\r\n"),
                "{kind}: {got}"
            );
            assert_eq!(how, End::Closed);
        }
        wait_alone(&stage);
        stage.wait_named("send s", 3);
        assert_eq!(stage.raw_relays(), 0.0);
    }
}

#[test]
fn a_reset_by_the_client_ends_the_server_s_connection() {
    for kind in Kind::ALL {
        let stage = Stage::of(kind);
        let mut client = stage.connect();
        client.call(&["SUBSCRIBE", "a"]);
        client.reset();
        wait_alone(&stage);
    }
}

#[test]
fn half_a_message_is_no_message() {
    let stage = Stage::of(Kind::Redis82);
    let mut client = stage.connect();
    client.send("*5\r\n$4\r\nXADD\r\n$1\r\ns\r\n$1\r\n*\r\n$1\r\nf\r\n$5\r\nva");
    client.half_close();
    assert_eq!(client.read_until_closed(), (Vec::new(), End::Closed));
    assert_eq!(stage.direct("EXISTS s"), ":0\r\n");
    assert_eq!(stage.settle_spans().len(), 1);
}

/// What clients in different states hear of a SHUTDOWN, and how their connections end; the last of them asks for it.
fn shut_down(kind: Kind, through_proxy: bool) -> Vec<(Vec<u8>, End)> {
    let stage = Stage::of(kind);
    let connect = || match through_proxy {
        true => stage.connect(),
        false => stage.server.connect(),
    };
    let states: [(&[&str], usize); 4] = [
        (&["PING"], 1),
        (&["SUBSCRIBE a"], 1),
        (&["MULTI", "XADD s 1-1 f v"], 2),
        (&["PING", "XREAD BLOCK 0 STREAMS none $"], 1),
    ];
    let in_state = |(commands, replies): (&[&str], usize)| {
        let mut client = connect();
        client.send(pipeline(commands));
        client.replies(replies);
        client
    };
    let mut clients: Vec<Client> = states.into_iter().map(in_state).collect();
    let mut last = connect();
    last.call(&["XADD", "s", "1-1", "f", "v"]);
    last.command(&["SHUTDOWN", "NOSAVE"]);
    clients.push(last);
    clients.iter_mut().map(Client::read_until_closed).collect()
}

#[test]
fn a_server_that_shuts_down_closes_all() {
    for kind in Kind::ALL {
        let direct = shut_down(kind, false);
        assert_eq!(shut_down(kind, true), direct, "{kind}");
        assert!(direct.iter().all(|end| *end == (Vec::new(), End::Closed)));
    }
}

#[test]
fn a_shutdown_that_is_refused_is_an_answer() {
    // Nothing can be written there.
    for kind in Kind::ALL {
        let server = Server::builder(kind).args(["--dir", "/proc"]).start();
        Dialogue::new()
            .commands(&["SHUTDOWN SAVE", "SHUTDOWN ABORT", "XADD s 1-1 f v"])
            .check(server);
    }
}

#[test]
fn a_shutdown_that_is_given_up_is_an_answer() {
    for kind in Kind::ALL {
        let disk = ["--repl-diskless-sync", "no"];
        let server = Server::builder(kind).args(disk).start();
        let stage = Stage::with(server, |proxy| proxy);
        // A replica that never says how far it is, so that the server waits for it.
        let mut replica = stage.server.connect();
        replica.call(&["REPLCONF", "listening-port", "1"]);
        replica.command(&["PSYNC", "?", "-1"]);
        let told = |what: &'static str, text: &str| {
            wait::until(what, PATIENCE, || {
                stage.direct("INFO").contains(text).then_some(())
            });
        };
        told("the replica is online", "state=online");
        stage.direct("SET k v");
        // No server serves the connection after that; Redis 7.0 crashes at its next command.
        let answers = [stage.server.connect(), stage.connect()].map(|mut client| {
            client.command(&["SHUTDOWN", "NOSAVE"]);
            told("the server waits", "\nblocked_clients:1\r");
            assert_eq!(stage.direct("SHUTDOWN ABORT"), "+OK\r\n");
            client.reply()
        });
        assert!(answers[0].starts_with(b"-ERR Errors trying to SHUTDOWN"));
        assert_eq!(answers[0], answers[1], "{kind}");
    }
}
