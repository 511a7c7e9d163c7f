//! A URL with user, password and database, of which the client knows nothing.

use std::net::TcpListener;
use std::thread;

use tars_tests::address::Address;
use tars_tests::chopper::Chopper;
use tars_tests::proxy::Proxy;
use tars_tests::resp::{End, encode, pipeline};
use tars_tests::server::{Kind, Server};
use tars_tests::stage::Stage;
use tars_tests::tls::Authority;
use tars_tests::wait::{self, PATIENCE};

/// Not to be found in anything that the proxy says.
const SECRET: &str = "p@ss/w%rd";
const ENCODED: &str = "p%40ss%2Fw%25rd";

/// A server that wants a password of everybody.
fn locked(kind: Kind) -> Server {
    let password = format!(">{SECRET}");
    Server::builder(kind)
        .args(["--requirepass", "of-default"])
        .args(["--user", "shop", "on", &password, "~*", "&*", "+@all"])
        .start()
}

fn url(account: &str, address: &Address, database: u32) -> String {
    format!("redis://{account}@{address}/{database}")
}

/// A proxy that comes as the user `shop`, and begins in database 3.
fn stage(kind: Kind) -> Stage {
    let server = locked(kind);
    let url = url(&format!("shop:{ENCODED}"), server.address(), 3);
    let stage = Stage::with(server, |proxy| proxy.upstream_env(&url));
    stage.direct("AUTH of-default");
    stage
}

/// A command of eleven arguments once a context is added: one more than may come before AUTH.
const LONG: &str = "XADD s * f v g w h x";

/// Everything that a client may say of who and where it is. The answers that are expected, but for ids.
const TALK: [(&str, &str); 16] = [
    ("PING", "+PONG\r\n"),
    ("ACL WHOAMI", "$4\r\nshop\r\n"),
    ("SET k three", "+OK\r\n"),
    (LONG, "$"),
    ("HELLO 3", "%"),
    ("ACL WHOAMI", "$4\r\nshop\r\n"),
    ("SELECT 0", "+OK\r\n"),
    ("GET k", "_\r\n"),
    ("AUTH default of-default", "+OK\r\n"),
    ("ACL WHOAMI", "$7\r\ndefault\r\n"),
    ("RESET", "+RESET\r\n"),
    ("ACL WHOAMI", "$4\r\nshop\r\n"),
    ("GET k", "$5\r\nthree\r\n"),
    ("GET none", "$-1\r\n"),
    ("MULTI", "+OK\r\n"),
    ("RESET", "+RESET\r\n"),
];

#[test]
fn clients_that_know_nothing_are_served() {
    for kind in Kind::ALL {
        let stage = stage(kind);
        let mut client = stage.connect();
        for (command, expected) in TALK {
            let args: Vec<&str> = command.split(' ').collect();
            let answer = client.call(&args);
            assert!(answer.starts_with(expected), "{kind}: {command}: {answer}");
        }
        stage.direct("SELECT 3");
        assert_eq!(stage.direct("GET k"), "$5\r\nthree\r\n");
        let message = stage.direct("XREVRANGE s + - COUNT 1");
        assert!(message.contains("traceparent"), "{kind}: {message}");
        assert_eq!(stage.raw_relays(), 0.0);
    }
}

#[test]
fn a_pipeline_in_the_first_packet_waits_and_is_answered_in_order() {
    // AUTH behind replies that are under way would make a raw relay, of which nobody sees RESET.
    let commands: Vec<&str> = TALK.iter().map(|(command, _)| *command).collect();
    let auth = commands.iter().position(|c| c.starts_with("AUTH")).unwrap();
    for kind in Kind::ALL {
        let stage = stage(kind);
        for bytewise in [false, true] {
            let mut client = stage.connect();
            let mut send = |bytes: Vec<u8>| match bytewise {
                true => client.send_bytewise(bytes),
                false => client.send(bytes),
            };
            send(pipeline(&commands[..auth]));
            let before: Vec<_> = client.replies(auth);
            assert_eq!(before.last().unwrap(), b"_\r\n");
            assert_eq!(client.call(&["AUTH", "default", "of-default"]), "+OK\r\n");
            client.send(pipeline(&commands[auth + 1..]));
            let after = client.replies(commands.len() - auth - 1);
            let expected = TALK[auth + 1..].iter().map(|(_, answer)| *answer);
            for (answer, expected) in after.iter().zip(expected) {
                assert!(
                    answer.starts_with(expected.as_bytes()),
                    "{}",
                    answer.escape_ascii()
                );
            }
            assert_eq!(client.call(&["GET", "k"]), "$5\r\nthree\r\n");
        }
        assert_eq!(stage.raw_relays(), 0.0);
    }
}

#[test]
fn answers_are_taken_out_wherever_they_are_cut() {
    for kind in Kind::ALL {
        let server = locked(kind);
        let chopper = Chopper::before(server.address());
        let url = chopper
            .url()
            .replacen("://", &format!("://shop:{ENCODED}@"), 1)
            + "/3";
        let stage = Stage::with(server, |proxy| proxy.upstream_env(&url));
        let mut client = stage.connect();
        for (command, _) in TALK {
            client.command(&command.split(' ').collect::<Vec<_>>());
            let expected = TALK.iter().find(|(c, _)| *c == command).unwrap().1;
            let answer = client.reply();
            // The same command is answered by whoever one is.
            let same = command == "ACL WHOAMI" || command == "GET k";
            assert!(
                same || answer.starts_with(expected.as_bytes()),
                "{}",
                answer.escape_ascii()
            );
        }
        assert_eq!(client.call(&["GET", "k"]), "$5\r\nthree\r\n");
    }
}

/// What a client hears that says nothing, and one that sends a message.
fn refused(stage: &Stage) -> String {
    let (silent, _) = stage.connect().read_until_closed();
    let mut client = stage.connect();
    // The connection may be gone before all is said.
    let _ = client.try_send(&encode(&["SET", "k", "v"]));
    let (heard, end) = client.read_until_closed();
    assert_eq!((heard.as_slice(), end), (silent.as_slice(), End::Closed));
    String::from_utf8(heard).unwrap()
}

#[test]
fn who_is_refused_is_told_why_and_nothing_is_done() {
    for kind in Kind::ALL {
        // With a default user who may do everything, too, and where nothing is read of what passes.
        for (locked_default, no_trace) in [(true, false), (false, false), (false, true)] {
            let server = match locked_default {
                true => locked(kind),
                false => Server::of(kind),
            };
            let at = server.address().clone();
            let mut stage = Stage::with(server, |proxy| {
                proxy
                    .upstream_env(&url("shop:wrong-secret", &at, 3))
                    .args([format!("--no-trace={no_trace}")])
            });
            if locked_default {
                stage.direct("AUTH of-default");
            }
            let heard = refused(&stage);
            assert!(heard.starts_with("-WRONGPASS "), "{kind}: {heard}");
            assert!(
                heard.ends_with("\r\n") && heard.lines().count() == 1,
                "{heard}"
            );
            assert_eq!(stage.direct("DBSIZE"), ":0\r\n");
            stage.proxy.wait_log("the server refuses what the URL says");
            let log = stage.proxy.stderr();
            assert_eq!(log.matches("the server refuses").count(), 1, "{log}");
            let said = log + &stage.proxy.get("/config").body + &stage.proxy.get("/ready").body;
            assert!(!said.contains("secret"), "{said}");
            assert!(
                stage
                    .proxy
                    .metric("tars_proxy_errors_total", &[("side", "server")])
                    >= 2.0
            );
        }
    }
}

#[test]
fn a_database_that_is_not_there_is_refused() {
    for kind in Kind::ALL {
        let server = Server::of(kind);
        let url = format!("redis://{}/99", server.address());
        let stage = Stage::with(server, |proxy| proxy.upstream_env(&url));
        assert_eq!(refused(&stage), "-ERR DB index is out of range\r\n");
        assert_eq!(stage.direct("DBSIZE"), ":0\r\n");
    }
}

#[test]
fn a_password_that_the_server_does_not_want_does_no_harm() {
    for kind in Kind::ALL {
        let server = Server::of(kind);
        let url = url(":needless-secret", server.address(), 0);
        let mut stage = Stage::with(server, |proxy| proxy.upstream_env(&url));
        for _ in 0..2 {
            assert_eq!(stage.connect().call(&["SET", "k", "v"]), "+OK\r\n");
        }
        stage.proxy.wait_log("the server wants none");
        let log = stage.proxy.stderr();
        assert_eq!(log.matches("the server wants none").count(), 1, "{log}");
        assert!(!log.contains("secret"), "{log}");
    }
}

#[test]
fn a_password_that_is_changed_meanwhile_ends_the_connection_at_reset() {
    for kind in Kind::ALL {
        let stage = stage(kind);
        let mut client = stage.connect();
        assert_eq!(client.call(&["SET", "k", "v"]), "+OK\r\n");
        stage.direct("ACL SETUSER shop resetpass >another");
        client.send(pipeline(&["RESET", "SET", "other v"]));
        let (heard, _) = client.read_until_closed();
        let heard = String::from_utf8(heard).unwrap();
        assert!(
            heard.starts_with("+RESET\r\n-WRONGPASS "),
            "{kind}: {heard}"
        );
        assert_eq!(heard.lines().count(), 2, "{heard}");
        stage.direct("SELECT 0");
        assert_eq!(stage.direct("DBSIZE"), ":0\r\n");
    }
}

#[test]
fn messages_are_settled_in_the_database_of_the_url() {
    for kind in Kind::ALL {
        let stage = stage(kind);
        let mut reader = stage.connect();
        for database in ["0", "3"] {
            reader.call(&["SELECT", database]);
            reader.call(&["XGROUP", "CREATE", "s", "g", "0", "MKSTREAM"]);
            reader.call(&["XADD", "s", "1-1", "f", "v"]);
        }
        assert_eq!(reader.call(&["RESET"]), "+RESET\r\n");
        let read = ["XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">"];
        assert!(reader.call(&read).starts_with('*'));
        // The same id of another database settles nothing here.
        let mut other = stage.connect();
        other.call(&["SELECT", "0"]);
        assert!(other.call(&read).starts_with('*'));
        assert_eq!(other.call(&["XACK", "s", "g", "1-1"]), ":1\r\n");
        let sent = stage.wait_named("send s", 2);
        let one = stage.wait_named("process s", 1);
        assert!(one[0].is_child_of(&sent[0]), "{kind}");
        other.call(&["SELECT", "3"]);
        assert_eq!(other.call(&["XACK", "s", "g", "1-1"]), ":1\r\n");
        let both = stage.wait_named("process s", 2);
        assert!(both.iter().any(|span| span.is_child_of(&sent[1])), "{kind}");
    }
}

#[test]
fn over_tls() {
    let authority = Authority::new("authority");
    let server = locked(Kind::Redis70);
    let tls = authority
        .sign("entrance", "localhost")
        .args("--tls-cert", "--tls-key");
    let entrance = Proxy::to(&server).args(tls).start();
    let port = entrance.address().to_string();
    let port = port.rsplit_once(':').unwrap().1.to_owned();
    let proxy = Proxy::to(&server)
        .upstream_env(&format!("rediss://shop:{ENCODED}@localhost:{port}/3"))
        .args(["--upstream-ca", &authority.ca().display().to_string()])
        .start();
    let mut client = proxy.connect();
    let commands: Vec<&str> = TALK.iter().map(|(command, _)| *command).collect();
    for command in &commands[..4] {
        client.command(&command.split(' ').collect::<Vec<_>>());
    }
    assert!(client.replies(4).last().unwrap().starts_with(b"$"));
    client.send(pipeline(&["RESET", "GET k"]));
    assert_eq!(
        client.replies(2),
        [b"+RESET\r\n".to_vec(), b"$5\r\nthree\r\n".to_vec()]
    );
}

#[test]
fn a_proxy_that_only_forwards_says_it_too() {
    let server = locked(Kind::Redis82);
    let url = url(&format!("shop:{ENCODED}"), server.address(), 3);
    let mut proxy = Proxy::to(&server)
        .upstream_env(&url)
        .args(["--no-trace"])
        .start();
    let mut client = proxy.connect();
    client.send(pipeline(&["SET k v", "ACL WHOAMI"]));
    assert_eq!(
        client.replies(2),
        [b"+OK\r\n".to_vec(), b"$4\r\nshop\r\n".to_vec()]
    );
    proxy.drain();
}

#[test]
fn nobody_is_left_behind_who_leaves_before_the_server_has_agreed() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::Tcp(silent.local_addr().unwrap().to_string());
    // Says nothing, and ends when it is told the end.
    thread::spawn(move || {
        for stream in silent.incoming() {
            thread::spawn(move || std::io::copy(&mut stream.unwrap(), &mut std::io::sink()));
        }
    });
    let url = url(&format!("shop:{ENCODED}"), &address, 3);
    let proxy = Proxy::to_url(&url).upstream_env(&url).start_unready();
    for _ in 0..5 {
        drop(proxy.connect());
    }
    proxy.wait_metric("tars_proxy_connections_total", &[], |n| n >= 5.0);
    proxy.wait_metric("tars_proxy_connections", &[], |n| n == 0.0);
}

#[test]
fn a_reset_that_is_never_answered_ends_with_either_side() {
    for kind in Kind::ALL {
        let stage = stage(kind);
        let gone = || (stage.proxy).wait_metric("tars_proxy_connections", &[], |n| n == 0.0);
        let mut client = stage.connect();
        client.send(b"QUIT\r\nRESET\r\n");
        let _ = client.read_until_closed();
        drop(client);
        gone();
        let mut client = stage.connect();
        client.send(b"BLPOP none 0\r\nRESET\r\n");
        drop(client);
        gone();
        let mut client = stage.connect();
        client.send(b"BLPOP none 0\r\nRESET\r\n");
        wait::until("the client blocks", PATIENCE, || {
            let clients = stage.direct("INFO clients");
            clients.contains("blocked_clients:1").then_some(())
        });
        stage.direct("CLIENT KILL TYPE normal SKIPME yes");
        let _ = client.read_until_closed();
        gone();
    }
}

#[test]
fn who_waits_for_a_frozen_server_is_served_when_it_is_back() {
    let mut server = locked(Kind::Redis70);
    let url = url(&format!("shop:{ENCODED}"), server.address(), 3);
    let mut proxy = Proxy::to(&server).upstream_env(&url).start();
    server.pause();
    let mut waiting = proxy.connect();
    waiting.command(&["SET", "k", "v"]);
    waiting.half_close();
    let impatient = proxy.connect();
    drop(impatient);
    server.resume();
    assert_eq!(waiting.reply(), b"+OK\r\n");
    assert_eq!(waiting.read_until_closed(), (Vec::new(), End::Closed));
    proxy.wait_metric("tars_proxy_connections", &[], |open| open == 0.0);
    proxy.drain();
}
