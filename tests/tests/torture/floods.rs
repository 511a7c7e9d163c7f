//! Clients that send without end, and do not read.

use std::thread;

use tars_tests::resp::pipeline;
use tars_tests::server::{Kind, Server};

use crate::scene::{ALLOWANCE, DIRECTION, Scene, answer};

#[test]
fn lines_of_the_longest_length_and_longer() {
    for kind in Kind::ALL {
        let scene = Scene::of(kind);
        for length in [65_534, 65_535, 65_536, 65_537] {
            for end in ["", "\n", "\r\n"] {
                let line = format!("PING {}{end}", "x".repeat(length - 5));
                // Its last byte may be one more than a server reads: then that makes its close a reset.
                let server = answer(scene.stage.server.address(), |client| client.send(&line));
                let proxy = answer(scene.stage.proxy.address(), |client| client.send(&line));
                assert_eq!(proxy.0, server.0, "{kind}: {length} bytes and {end:?}");
            }
        }
        scene.over(DIRECTION);
    }
}

#[test]
fn a_line_without_end() {
    const VOLUME: usize = 2 * (ALLOWANCE + DIRECTION);
    for kind in Kind::ALL {
        let scene = Scene::of(kind);
        let line = vec![b'x'; VOLUME];
        let attack = |address| {
            answer(address, |client| {
                let _ = client.try_send(&line);
            })
        };
        let (refusal, _) = attack(scene.stage.server.address());
        let (got, _) = attack(scene.stage.proxy.address());
        // What the server has not read makes its close a reset, which may take its words along.
        let said = "-ERR Protocol error: too big inline request\\r\\n";
        assert!([said, ""].contains(&&*refusal), "{kind}: {refusal}");
        assert!([said, ""].contains(&&*got), "{kind}: {got}");
        scene.over(DIRECTION);
    }
}

#[test]
fn a_million_inline_commands() {
    const COMMANDS: usize = 1_000_000;
    let scene = Scene::of(Kind::Redis82);
    let mut client = scene.connect();
    for _ in 0..COMMANDS / 10_000 {
        client.send("PING\r\n".repeat(10_000));
    }
    // Until here nothing has been read: the answers wait in the server, and in the kernel.
    let bytes = client.read_exactly(COMMANDS * "+PONG\r\n".len());
    assert!(bytes.chunks(7).all(|reply| reply == b"+PONG\r\n"));
    scene.over(DIRECTION);
}

#[test]
fn empty_commands_and_commands_without_replies() {
    for kind in Kind::ALL {
        let scene = Scene::of(kind);
        for flood in [
            b"\r\n".repeat(500_000),
            b"*0\r\n".repeat(500_000),
            b"*-5\r\n".repeat(500_000),
            [
                pipeline(&["CLIENT REPLY OFF"]),
                pipeline(&["XADD flood * f v", "GET k"]).repeat(50_000),
                pipeline(&["CLIENT REPLY ON"]),
            ]
            .concat(),
        ] {
            let mut client = scene.connect();
            client.send(&flood);
            client.send(pipeline(&["ECHO last"]));
            client.read_until_ends_with(b"$4\r\nlast\r\n");
        }
        assert_eq!(scene.stage.direct("XLEN flood"), ":50000\r\n", "{kind}");
        scene.over(DIRECTION);
    }
}

/// A subscriber that does not read is closed by the server at its bound, and not by the proxy before.
#[test]
fn messages_for_a_subscriber_that_does_not_read() {
    for kind in Kind::ALL {
        let server = Server::builder(kind)
            .args(["--client-output-buffer-limit", "pubsub 16mb 0 0"])
            .start();
        let scene = Scene::with(server, |proxy| proxy);
        let mut client = scene.connect();
        client.call(&["SUBSCRIBE", "channel"]);
        let message = "m".repeat(10_000);
        let publish = pipeline(&[&format!("PUBLISH channel {message}")]).repeat(10_000);
        let mut publisher = scene.stage.server.connect();
        thread::scope(|scope| {
            scope.spawn(|| publisher.send(&publish));
            scene.wait_alone_but(1);
        });
        drop(publisher);
        let (bytes, _) = client.read_until_closed();
        let said = format!("*3\r\n$7\r\nmessage\r\n$7\r\nchannel\r\n$10000\r\n{message}\r\n");
        let whole = bytes.len() / said.len() * said.len();
        assert!(whole > 0 && bytes.len() < 10_000 * said.len(), "{kind}");
        let mut messages = bytes[..whole].chunks(said.len());
        assert!(messages.all(|message| message == said.as_bytes()), "{kind}");
        scene.over(DIRECTION);
    }
}
