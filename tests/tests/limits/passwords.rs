//! Passwords: what is injected around AUTH, and what a password that comes or goes does.

use tars_tests::proxy::Builder;
use tars_tests::resp::{Client, encode, pipeline};
use tars_tests::server::{Kind, Server};
use tars_tests::stage::Stage;

/// A command of eleven arguments once a context is added: one more than may come before AUTH.
const LONG: [&str; 9] = ["XADD", "s", "*", "f", "v", "g", "w", "h", "x"];

fn locked(kind: Kind) -> Stage {
    let server = Server::builder(kind)
        .args(["--requirepass", "secret"])
        .start();
    let stage = Stage::with(server, |proxy: Builder| proxy);
    stage.direct("AUTH secret");
    stage
}

/// Whether the message that was sent last carries a context.
fn injected(stage: &Stage) -> bool {
    stage
        .direct("XREVRANGE s + - COUNT 1")
        .contains("traceparent")
}

fn skipped(stage: &Stage) -> f64 {
    let unauthenticated = [("reason", "unauthenticated")];
    let metrics = stage.proxy.metrics();
    match metrics
        .samples
        .iter()
        .any(|sample| sample.name == "tars_proxy_contexts_skipped_total")
    {
        true => metrics.sum("tars_proxy_contexts_skipped_total", &unauthenticated),
        false => 0.0,
    }
}

#[test]
fn auth_and_then_a_message() {
    for kind in Kind::ALL {
        let stage = locked(kind);
        let mut client = stage.connect();
        assert_eq!(client.call(&["AUTH", "secret"]), "+OK\r\n");
        assert!(client.call(&LONG).starts_with('$'));
        assert!(injected(&stage), "{kind}");
        assert_eq!(skipped(&stage), 0.0);
    }
}

#[test]
fn auth_and_a_message_at_once() {
    for kind in Kind::ALL {
        let stage = locked(kind);
        let eleven = [&LONG[..], &["i", "y"]].concat();
        for (args, expected) in [(&LONG[..], false), (&eleven, false), (&LONG[..7], true)] {
            let mut client = stage.connect();
            client.send([pipeline(&["AUTH secret"]), encode(args)].concat());
            assert_eq!(client.reply(), b"+OK\r\n");
            assert!(client.reply().starts_with(b"$"));
            assert_eq!(injected(&stage), expected, "{kind}: {args:?}");
            // From the first reply on it is as ever.
            assert!(client.call(&LONG).starts_with('$'));
            assert!(injected(&stage));
        }
        assert_eq!(skipped(&stage), 2.0);
    }
}

/// A read is only looked at: it is followed, however many streams it names, before it is known whether the server takes it.
#[test]
fn auth_and_a_read_at_once() {
    for kind in Kind::ALL {
        let server = Server::builder(kind)
            .args(["--requirepass", "secret"])
            .start();
        let stage = Stage::with(server, |proxy: Builder| {
            proxy.args(["--deliver", "*=strip"])
        });
        stage.direct("AUTH secret");
        stage.direct(&format!(
            "XADD a 1-1 f v traceparent 00-{:032x}-{:016x}-01",
            1, 2
        ));
        let mut client = stage.connect();
        let read = "XREAD COUNT 9 STREAMS a b c d e 0 0 0 0 0";
        client.send(pipeline(&["AUTH secret", read]));
        assert_eq!(client.reply(), b"+OK\r\n");
        let entries = String::from_utf8(client.reply()).unwrap();
        assert!(
            entries.contains("1-1") && !entries.contains("traceparent"),
            "{kind}: {entries}"
        );
    }
}

#[test]
fn a_password_that_comes() {
    for kind in Kind::ALL {
        let stage = Stage::of(kind);
        assert_eq!(stage.direct("CONFIG SET requirepass secret"), "+OK\r\n");
        let refused = |mut client: Client| {
            client.send(encode(&LONG));
            String::from_utf8(client.reply()).unwrap()
        };
        assert!(
            refused(stage.server.connect()).starts_with("-NOAUTH"),
            "{kind}"
        );
        let first = refused(stage.connect());
        assert_eq!(
            first, "-ERR Protocol error: unauthenticated multibulk length\r\n",
            "{kind}"
        );
        // Then the proxy knows.
        assert!(refused(stage.connect()).starts_with("-NOAUTH"));
        let mut client = stage.connect();
        assert_eq!(client.call(&["AUTH", "secret"]), "+OK\r\n");
        assert!(client.call(&LONG).starts_with('$'));
        assert!(injected(&stage));
    }
}

#[test]
fn a_password_that_goes() {
    for kind in Kind::ALL {
        let stage = locked(kind);
        // To nothing.
        assert_eq!(stage.direct("CONFIG SET requirepass "), "+OK\r\n");
        let mut client = stage.connect();
        assert!(client.call(&LONG).starts_with('$'), "{kind}");
        assert!(client.call(&LONG).starts_with('$'));
        assert!(injected(&stage), "{kind}");
    }
}
