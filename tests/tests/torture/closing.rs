//! Connections that are half closed, reset or abandoned, in every state that a connection can be in.

use std::io;

use tars_tests::resp::{Client, End, encode, pipeline};
use tars_tests::server::Kind;

use crate::scene::{DIRECTION, Scene};

/// What has been sent when it happens: commands that are answered at once and their replies, and then half a command or one
/// that waits.
const STATES: [(&[&str], &str); 21] = [
    (&[], ""),
    (&[], "*"),
    (&[], "*2\r\n$3\r\nGET\r\n$100\r\nabc"),
    (
        &[],
        "*5\r\n$4\r\nXADD\r\n$1\r\ns\r\n$3\r\n1-1\r\n$1\r\nf\r\n$100\r\nabc",
    ),
    (&[], "XADD s 1-1 f"),
    (&["MULTI"], ""),
    (&["MULTI", "XADD s 1-1 f v"], "*1\r\n$4\r\nEX"),
    (&["WATCH k", "MULTI", "GET k"], "*1\r\n$4\r\nEXEC\r\n"),
    (&["SUBSCRIBE a"], ""),
    (&["SUBSCRIBE a"], "*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\n"),
    (&["PSUBSCRIBE a*", "PUNSUBSCRIBE"], ""),
    (&[], "*3\r\n$5\r\nBLPOP\r\n$4\r\nnone\r\n$1\r\n0\r\n"),
    (
        &[],
        "*6\r\n$5\r\nXREAD\r\n$5\r\nBLOCK\r\n$1\r\n0\r\n$7\r\nSTREAMS\r\n$4\r\nnone\r\n$1\r\n$\r\n",
    ),
    (&["MULTI", "BLPOP none 0"], "*1\r\n$4\r\nEXEC\r\n"),
    (
        &["SELECT 1"],
        "*3\r\n$6\r\nCLIENT\r\n$5\r\nREPLY\r\n$3\r\nOFF\r\n*1\r\n$4\r\nPING\r\n",
    ),
    (&[], "*3\r\n$6\r\nCLIENT\r\n$5\r\nREPLY\r\n$4\r\nSKIP\r\n"),
    (&["RESET"], ""),
    (&["QUIT"], ""),
    (&["GET k"], "*1\r\n$4\r\nQUIT\r\n*1\r\n$4\r\nPING\r\n"),
    (&["PING"], "*x\r\n"),
    (&["PING"], "\x16\x03\x01\x02\0\x01\0\x01\u{fc}"),
];

fn reach(client: &mut Client, (commands, rest): (&[&str], &str)) {
    client.send(pipeline(commands));
    client.replies(commands.len());
    client.send(rest);
}

#[test]
fn half_closed() {
    for kind in Kind::ALL {
        let scene = Scene::of(kind);
        for state in STATES {
            scene.same(&format!("{state:?}"), |client| reach(client, state));
        }
        scene.wait_alone();
        scene.over(0);
    }
}

#[test]
fn reset_by_the_client() {
    for kind in Kind::ALL {
        let scene = Scene::of(kind);
        for state in STATES.into_iter().chain([(&["MONITOR"][..], "")]) {
            let mut client = scene.connect();
            reach(&mut client, state);
            client.reset();
        }
        scene.wait_alone();
        scene.over(0);
    }
}

#[test]
fn reset_by_the_server_while_it_is_sent_to() {
    let scene = Scene::of_lies();
    let value = vec![b'x'; 20 << 20];
    for command in [
        encode(&[b"SET".as_slice(), b"k", &value]),
        encode(&[b"XADD".as_slice(), b"s", b"1-1", b"f", &value]),
        encode(&["XADD", "flood", "1-1", "f", "v"]).repeat(200_000),
    ] {
        let mut client = scene.connect_to(|mut server| {
            server.read_exactly(1 << 20);
            server.reset();
        });
        // Whoever asks first hears of a reset, the one who writes or the one who reads.
        let sent = client.try_send(&command).map_err(|e| e.kind());
        let (bytes, end) = client.read_until_closed();
        assert_eq!(bytes, b"");
        let reset = sent == Err(io::ErrorKind::ConnectionReset) || end == End::Reset;
        assert!(reset, "{sent:?}, {end:?}");
    }
    scene.over(DIRECTION);
}

/// Clients that go in the middle of 20 MB, in either direction.
#[test]
fn gone_in_the_middle_of_a_large_value() {
    const TIMES: usize = 5;
    let value = vec![b'x'; 20 << 20];
    for kind in Kind::ALL {
        let scene = Scene::of(kind);
        let mut client = scene.connect();
        client.command(&[b"SET".as_slice(), b"k", &value]);
        assert_eq!(client.reply(), b"+OK\r\n");
        client.command(&[b"XADD".as_slice(), b"s", b"1-1", b"f", &value]);
        assert_eq!(client.reply(), b"$3\r\n1-1\r\n");
        drop(client);
        for n in 0..TIMES {
            let over = |client: Client| match n % 2 {
                0 => client.reset(),
                _ => drop(client),
            };
            for command in [
                encode(&[b"SET".as_slice(), b"other", &value]),
                encode(&[b"XADD".as_slice(), b"s", b"2-1", b"f", &value]),
            ] {
                let mut client = scene.connect();
                client.send(&command[..command.len() / (n + 2)]);
                over(client);
            }
            for question in ["GET k", "XRANGE s - +", "XREAD STREAMS s 0"] {
                let mut client = scene.connect();
                client.send(pipeline(&[question]));
                client.read_exactly((n + 1) << 20);
                over(client);
            }
        }
        scene.wait_alone();
        assert_eq!(scene.stage.direct("EXISTS other"), ":0\r\n", "{kind}");
        assert_eq!(scene.stage.direct("XLEN s"), ":1\r\n", "{kind}");
        scene.over(5 * DIRECTION);
    }
}
