//! What turns a connection into a raw relay: a test for each reason, and of its name.

use tars_tests::proxy::{Builder, Proxy};
use tars_tests::resp::{Client, encode, pipeline};
use tars_tests::scripted::Scripted;
use tars_tests::server::{Kind, Server};
use tars_tests::stage::{Stage, raw_relays_for};
use tars_tests::wait::{self, PATIENCE};
use tars_tests::ways::Pool;

/// Says this to a server of every kind, after the words before it have been answered: a raw relay for this reason.
#[track_caller]
fn turns(reason: &str, said_before: &[&str], said: impl AsRef<[u8]>) {
    let pool = Pool::shared();
    for kind in Kind::ALL {
        let ways = pool.borrow(kind);
        let proxy = &ways.stage.proxy;
        let before_that = raw_relays_for(proxy, reason);
        let mut client = proxy.connect();
        for words in said_before {
            client.send(pipeline(&[words]));
            client.reply();
        }
        client.send(&said);
        wait_count(proxy, reason, before_that + 1.0);
    }
}

/// A proxy before a server that is told what to say, and a client of it.
fn before_scripted(answers: &[(&'static str, &str)]) -> (Proxy, Client) {
    let script = answers
        .iter()
        .map(|(command, answer)| (*command, (*answer).to_owned()));
    let server = Scripted::serving(&script.collect::<Vec<_>>());
    let proxy = Proxy::to_url(&server.url()).start();
    let client = proxy.connect();
    (proxy, client)
}

#[track_caller]
fn wait(proxy: &Proxy, reason: &str) {
    wait_count(proxy, reason, 1.0);
}

#[track_caller]
fn wait_count(proxy: &Proxy, reason: &str, count: f64) {
    wait::until(reason, PATIENCE, || {
        (raw_relays_for(proxy, reason) == count).then_some(())
    });
}

#[test]
fn protocol() {
    for bytes in [
        &b"\x16\x03\x01\x00\x05"[..],
        b"PING\rPING\r\n*1\rx",
        b"*01\r\n",
        b"PING \0\r\n",
        b"SET k \"v\r\n",
    ] {
        turns("protocol", &["PING"], bytes);
    }
}

#[test]
fn monitor() {
    turns("monitor", &["PING"], "MONITOR\r\n");
}

#[test]
fn replication() {
    for command in [
        "SYNC",
        "PSYNC ? -1",
        "REPLCONF capa eof",
        "CLUSTER SYNCSLOTS x",
    ] {
        turns("replication", &["PING"], pipeline(&[command]));
    }
}

#[test]
fn http() {
    for line in ["POST / HTTP/1.1\r\n", "Host: x\r\n"] {
        turns("http", &["PING"], line);
    }
}

/// A server that wants a password.
fn locked(configure: impl FnOnce(Builder) -> Builder) -> Stage {
    let server = Server::builder(Kind::Redis82).args(["--requirepass", "secret"]);
    Stage::with(server.start(), configure)
}

#[test]
fn unauthenticated() {
    let stage = locked(|proxy| proxy);
    let mut client = stage.connect();
    client.send("*11\r\n");
    assert_eq!(
        String::from_utf8_lossy(&client.read_until_closed().0),
        "-ERR Protocol error: unauthenticated multibulk length\r\n"
    );
    wait(&stage.proxy, "unauthenticated");
}

#[test]
fn password_in_pipeline() {
    let auth = "AUTH default x";
    for commands in [
        &["PING", auth][..],
        &["PING", "HELLO 3 AUTH default x"],
        &["MULTI", auth],
    ] {
        turns("password_in_pipeline", &["PING"], pipeline(commands));
    }
}

#[test]
fn pending_replies() {
    let stage = Stage::configured(Kind::Valkey, |proxy| {
        proxy.args(["--max-pending-replies", "4"])
    });
    let mut client = stage.connect();
    client.send(pipeline(&["BLPOP l 0"]));
    // Each of these means something; so many plain commands in a row would count as one.
    client.send(pipeline(&[
        "XADD s 1-1 f v",
        "XADD s 2-1 f v",
        "XADD s 3-1 f v",
        "XADD s 4-1 f v",
    ]));
    client.send(pipeline(&["MULTI"]));
    wait(&stage.proxy, "pending_replies");
}

#[test]
fn large_command() {
    let stage = Stage::configured(Kind::Redis70, |proxy| {
        proxy.args(["--max-message-bytes", "64KiB"])
    });
    let name = "n".repeat(70_000);
    stage.connect().send(encode(&["CLIENT", "SETNAME", &name]));
    wait(&stage.proxy, "large_command");
}

#[test]
fn empty_after_skip() {
    for empty in ["*0\r\n", "\r\n"] {
        let said = [&pipeline(&["CLIENT REPLY SKIP"]), empty.as_bytes()].concat();
        turns("empty_after_skip", &["PING"], said);
    }
}

#[test]
fn client_reply_after_skip() {
    for mode in ["ON", "SKIP"] {
        let again = format!("CLIENT REPLY {mode}");
        let said = pipeline(&["CLIENT REPLY SKIP", &again]);
        turns("client_reply_after_skip", &["PING"], said);
    }
}

#[test]
fn client_reply_in_multi() {
    turns(
        "client_reply_in_multi",
        &["MULTI"],
        pipeline(&["CLIENT REPLY OFF"]),
    );
}

/// A user who may do all but this.
fn refused(stage: &Stage, command: &str) -> Client {
    stage.direct(&format!(
        "ACL SETUSER u on nopass allkeys allchannels +@all -{command}"
    ));
    let mut client = stage.connect();
    assert_eq!(client.call(&["AUTH", "u", "x"]), "+OK\r\n");
    client
}

#[test]
fn client_reply_refused() {
    for kind in Kind::ALL {
        let stage = Stage::of(kind);
        let mut client = refused(&stage, "client|reply");
        client.send(pipeline(&["CLIENT REPLY OFF", "PING"]));
        assert!(client.reply().starts_with(b"-NOPERM"));
        assert_eq!(client.reply(), b"+PONG\r\n");
        wait(&stage.proxy, "client_reply_refused");
    }
}

#[test]
fn state_while_replies_off() {
    for command in ["MULTI", "HELLO 3", "SELECT 1", "RESET", "SUBSCRIBE a"] {
        let said = pipeline(&["CLIENT REPLY OFF", command]);
        turns("state_while_replies_off", &["PING"], said);
    }
}

#[test]
fn subscribe_in_multi() {
    for command in ["SUBSCRIBE a", "PUNSUBSCRIBE", "SSUBSCRIBE a"] {
        turns("subscribe_in_multi", &["MULTI"], pipeline(&[command]));
    }
}

/// A transaction that the proxy takes for over: DISCARD was refused.
fn undiscarded(kind: Kind) -> (Stage, Client) {
    let stage = Stage::of(kind);
    let mut client = refused(&stage, "discard");
    client.call(&["MULTI"]);
    assert!(client.call(&["DISCARD"]).starts_with("-NOPERM"));
    (stage, client)
}

#[test]
fn state_in_multi() {
    for kind in Kind::ALL {
        for command in ["CLIENT REPLY SKIP", "SUBSCRIBE a"] {
            if kind == Kind::Valkey && command.starts_with("CLIENT") {
                continue;
            }
            let (stage, mut client) = undiscarded(kind);
            client.send(pipeline(&[command]));
            assert_eq!(client.reply(), b"+QUEUED\r\n", "{kind}");
            wait(&stage.proxy, "state_in_multi");
            assert!(client.call(&["EXEC"]).starts_with("-EXECABORT"));
        }
    }
}

#[test]
fn client_reply_refused_in_multi() {
    let (stage, mut client) = undiscarded(Kind::Valkey);
    client.send(pipeline(&["CLIENT REPLY SKIP", "GET k", "GET k"]));
    assert!(
        client
            .reply()
            .starts_with(b"-ERR Command 'client|reply' not allowed")
    );
    assert_eq!(client.replies(2), [b"+QUEUED\r\n", b"+QUEUED\r\n"]);
    wait(&stage.proxy, "client_reply_refused");
}

#[test]
fn subscription() {
    let name = "n".repeat(200_000);
    turns("subscription", &["PING"], encode(&["SUBSCRIBE", &name]));
    let (proxy, mut client) = before_scripted(&[("SUBSCRIBE a", "+QUEUED\r\n")]);
    assert_eq!(client.call(&["SUBSCRIBE", "a"]), "+QUEUED\r\n");
    wait(&proxy, "subscription");
}

#[test]
fn unexpected_reply() {
    let server = Server::builder(Kind::Redis82)
        .args(["--maxclients", "2"])
        .start();
    let stage = Stage::with(server, |proxy| proxy);
    // One place is the stage's own; the proxy's look at the server has given its place back.
    let _last = stage.server.connect();
    let refused = stage.connect().read_until_closed().0;
    assert_eq!(refused, b"-ERR max number of clients reached\r\n");
    wait(&stage.proxy, "unexpected_reply");

    let stage = Stage::of(Kind::Redis82);
    let mut client = stage.connect();
    client.send(pipeline(&["SCRIPT DEBUG YES"]));
    client.reply();
    client.send(pipeline(&["EVAL return{1,2} 0"]));
    client.reply();
    client.send(pipeline(&["continue"]));
    let end = client.read_until_closed().0;
    assert!(
        end.starts_with(b"*1\r\n+<endsession>\r\n"),
        "{}",
        end.escape_ascii()
    );
    wait(&stage.proxy, "unexpected_reply");
}

#[test]
fn exec_mismatch() {
    let exec = "*2\r\n+PONG\r\n+PONG\r\n";
    let (proxy, mut client) = before_scripted(&[
        ("MULTI", "+OK\r\n"),
        ("GET k", "+QUEUED\r\n"),
        ("EXEC", exec),
    ]);
    client.send(pipeline(&["MULTI", "GET k", "EXEC"]));
    client.replies(2);
    assert_eq!(client.reply(), exec.as_bytes());
    wait(&proxy, "exec_mismatch");
}

#[test]
fn no_trace_is_not_counted() {
    let stage = Stage::configured(Kind::Redis82, |proxy| proxy.args(["--no-trace"]));
    let mut client = stage.connect();
    client.call(&["XADD", "s", "1-1", "f", "v"]);
    client.call(&["MONITOR"]);
    assert_eq!(stage.raw_relays(), 0.0);
    assert_eq!(stage.direct("XLEN s"), ":1\r\n");
    assert!(!stage.direct("XRANGE s - +").contains("traceparent"));
}
