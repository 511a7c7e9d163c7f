//! Clients that write what no client writes: lengths that are none, too large or negative, depth, and bytes at random.

use tars_tests::resp::pipeline;
use tars_tests::server::{Kind, Server};
use tars_tests::stage::Stage;

use crate::scene::{Scene, alive, answer, same};

/// Aggregates within each other: more than any stack holds.
const DEPTH: usize = 200_000;

/// Pipelines with each server.
const MUTATIONS: u64 = 300;

/// Numbers as they may stand in a header line.
const NUMBERS: [&str; 30] = [
    "0",
    "-0",
    "00",
    "01",
    "+1",
    "-1",
    "-9",
    "-01",
    "--1",
    "- 1",
    " 1",
    "1 ",
    "1x",
    "0x1",
    "1e3",
    "1.0",
    "",
    "-",
    "?",
    "\0",
    "1\0",
    "1048577",
    "536870913",
    "2147483647",
    "2147483648",
    "-2147483649",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775809",
    "1234567890123456789012345678901234567890",
];

/// What else may stand in the place of a command.
const FRAMES: [&[u8]; 31] = [
    b"*",
    b"*1",
    b"*1\r",
    b"*1\n$4\nPING\n",
    b"*1\r\r",
    b"*1\rx",
    b"*1\r\n",
    b"*1\r\n$",
    b"*1\r\n$4",
    b"*1\r\n$4\r\nPIN",
    b"*1\r\n$4\n\nPING\r\n",
    b"*1\r\n*1\r\n",
    b"*1\r\n:1\r\n",
    b"*1\r\n+PING\r\n",
    b"*1\r\n\r\n",
    b"*2\r\n$4\r\nPING\r\n*1\r\n",
    b"*3\r\n$6\r\nCLIENT\r\n$5\r\nREPLY\r\n:1\r\n",
    b"*5\r\n$4\r\nXADD\r\n$1\r\ns\r\n*1\r\n",
    b"%1\r\n$4\r\nPING\r\n",
    b"$4\r\nPING\r\n",
    b":1\r\n",
    b"+PING\r\n",
    b"\0\r\n",
    b"PI\0NG\r\n",
    b"\0",
    b"\xff\xfe\r\n",
    b"\r\n\n\r\n\n",
    b"PING \"half\r\n",
    b"PING 'half\r\n",
    b"PING \"a\"b\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
];

/// The beginnings of commands: of one that passes as it comes, of one that is held, and of such that change the framing.
const BEGINNINGS: [&str; 5] = [
    "*2\r\n$4\r\nECHO\r\n",
    "*5\r\n$4\r\nXADD\r\n$1\r\ns\r\n",
    "*3\r\n$6\r\nCLIENT\r\n",
    "*2\r\n$9\r\nSUBSCRIBE\r\n",
    "*2\r\n$5\r\nHELLO\r\n",
];

/// Commands that are none. A server that closes does so at the last byte, or the rest would make it a reset.
fn hostile() -> impl Iterator<Item = Vec<u8>> {
    let counts = NUMBERS.iter().map(|n| format!("*{n}\r\n").into_bytes());
    let names = NUMBERS
        .iter()
        .map(|n| format!("*1\r\n${n}\r\n").into_bytes());
    let arguments = BEGINNINGS.iter().flat_map(|begin| {
        NUMBERS
            .iter()
            .map(move |n| format!("{begin}${n}\r\n").into_bytes())
    });
    let frames = FRAMES.iter().map(|frame| frame.to_vec());
    counts.chain(names).chain(arguments).chain(frames)
}

/// Commands whose answers must arrive, whatever follows them.
fn answered() -> Vec<u8> {
    pipeline(&["SET k v", "GET k"])
}

#[test]
fn headers_that_are_none() {
    for kind in Kind::ALL {
        let scene = Scene::of(kind);
        for bytes in hostile() {
            let what = bytes.escape_ascii().to_string();
            scene.same(&what, |client| {
                client.send([&answered(), &bytes[..]].concat());
            });
        }
        scene.over(0);
    }
}

#[test]
fn headers_that_are_none_a_byte_at_a_time() {
    for kind in Kind::ALL {
        let scene = Scene::of(kind);
        for bytes in hostile() {
            let what = bytes.escape_ascii().to_string();
            scene.same(&what, |client| {
                client.send(answered());
                client.replies(2);
                client.send_bytewise(&bytes);
            });
        }
        scene.over(0);
    }
}

#[test]
fn what_is_refused_before_a_password() {
    let short = [
        "*11\r\n",
        "*1\r\n$16385\r\n",
        "*2\r\n$4\r\nXADD\r\n$16385\r\n",
    ];
    let long = ["*10\r\n$4\r\nXADD\r\n", "*1\r\n$16384\r\n"];
    for kind in Kind::ALL {
        let server = Server::builder(kind)
            .args(["--requirepass", "secret"])
            .start();
        // The bystander would need the password.
        let mut stage = Stage::with(server, |proxy| proxy);
        for bytes in short.iter().chain(&long) {
            same(&stage, bytes, |client| client.send_bytewise(bytes));
        }
        alive(&mut stage.proxy);
    }
}

/// Arrays within arrays: a server refuses the second, and what it has not read then makes its close a reset, which may take
/// the answer along.
#[test]
fn depth() {
    for kind in Kind::ALL {
        let scene = Scene::of(kind);
        for header in ["*1\r\n", "*2147483647\r\n"] {
            let server = scene.stage.server.address();
            let (refusal, _) = answer(server, |client| client.send(header.repeat(2)));
            assert!(refusal.starts_with("-ERR Protocol error"), "{refusal}");
            let (got, _) = answer(scene.stage.proxy.address(), |client| {
                let _ = client.try_send(header.repeat(DEPTH).as_bytes());
            });
            assert!(refusal == got || got.is_empty(), "{kind}: {header:?}");
        }
        scene.over(0);
    }
}

/// Commands with a few bytes changed: most are still commands, some of them others.
#[test]
fn mutations() {
    let select = pipeline(&["SELECT 1"]);
    let whole = pipeline(&[
        "SET k v",
        "XADD s 1-1 f v g w",
        "MULTI",
        "XADD s 2-1 f v",
        "GET k",
        "EXEC",
        "XLEN s",
        "SUBSCRIBE c",
        "PING",
        "UNSUBSCRIBE c",
        "CLIENT REPLY SKIP",
        "GET k",
        "ECHO last",
    ]);
    for kind in Kind::ALL {
        let scene = Scene::of(kind);
        scene.stage.direct("SELECT 1");
        for seed in 1..=MUTATIONS {
            let bytes = [&select, &mutated(&whole, seed)[..]].concat();
            let what = bytes.escape_ascii().to_string();
            scene.same(&what, |client| {
                scene.stage.direct("FLUSHDB");
                client.send(&bytes);
            });
        }
        scene.over(0);
    }
}

/// One to four bytes are others, are gone or are there twice. A multiplicative generator: the same in every run.
fn mutated(bytes: &[u8], seed: u64) -> Vec<u8> {
    const INSTEAD: &[u8] = b"\0\r\n*$0123456789-+:%x \"\xff";
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = |bound: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    };
    let mut bytes = bytes.to_vec();
    for _ in 0..=next(4) {
        let at = next(bytes.len());
        match next(4) {
            0 => {
                bytes.remove(at);
            }
            1 => bytes.insert(at, bytes[at]),
            _ => bytes[at] = INSTEAD[next(INSTEAD.len())],
        }
    }
    bytes
}
