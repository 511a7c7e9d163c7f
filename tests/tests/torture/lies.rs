//! Servers that lie: any reply to any command, before it was sent, in pieces, cut off, without end.

use tars_tests::resp::{End, pipeline};

use crate::scene::Scene;

/// What a client asks: whatever the proxy reads the replies to, and something it does not.
const QUESTIONS: [&[&str]; 22] = [
    &["GET k"],
    &["XADD s 1-1 f v"],
    &["XADD s 1-1 f v", "XADD s 2-1 f v", "GET k"],
    &["XREADGROUP GROUP g c STREAMS s >"],
    &["XREADGROUP GROUP g c CLAIM 5 STREAMS s t > 0"],
    &["XREAD STREAMS s 0"],
    &["XRANGE s - +"],
    &["XCLAIM s g c 0 1-1"],
    &["XAUTOCLAIM s g c 0 0"],
    &["XACK s g 1-1 2-1"],
    &["XACKDEL s g IDS 2 1-1 2-1"],
    &["MULTI", "XADD s 1-1 f v", "EXEC"],
    &["MULTI", "XREADGROUP GROUP g c STREAMS s >", "DISCARD"],
    &["HELLO 3", "XREADGROUP GROUP g c STREAMS s >"],
    &["AUTH password", "XADD s 1-1 f v"],
    &["SELECT 1", "XACK s g 1-1"],
    &["SUBSCRIBE a b", "PING"],
    &["HELLO 3", "SUBSCRIBE a", "UNSUBSCRIBE"],
    &["CLIENT REPLY SKIP", "GET k", "XADD s 1-1 f v"],
    &["CLIENT REPLY OFF", "XADD s 1-1 f v", "CLIENT REPLY ON"],
    &["RESET", "XADD s 1-1 f v"],
    &["MONITOR"],
];

/// Replies of every type, right and wrong.
const REPLIES: [&str; 76] = [
    "",
    "+OK\r\n",
    "+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n",
    "+OK\r\n+QUEUED\r\n*1\r\n$3\r\n1-1\r\n",
    "+OK\r\n+QUEUED\r\n*2\r\n$3\r\n1-1\r\n",
    "+OK\r\n+QUEUED\r\n*1099511627776\r\n",
    "+QUEUED\r\n",
    "+QUEUED\r\n+QUEUED\r\n+OK\r\n",
    "+",
    "+\r",
    "+\r\r\n",
    "-ERR no\r\n",
    "-NOAUTH Authentication required.\r\n",
    "-\r\n",
    "!3\r\nERR\r\n",
    "!999999999\r\nERR",
    ":1\r\n",
    ":\r\n",
    ":9223372036854775808\r\n",
    "_\r\n",
    "_x\r\n",
    "#t\r\n",
    ",1.5\r\n",
    "(12345678901234567890\r\n",
    "=7\r\ntxt:abc\r\n",
    "$-1\r\n",
    "$-2\r\n",
    "$-9223372036854775808\r\n",
    "$0\r\n\r\n",
    "$3\r\n1-1\r\n",
    "$3\r\nabc\r\n",
    "$5\r\nab\r\n",
    "$1\r\nabc\r\n",
    "$41\r\n18446744073709551616-18446744073709551616\r\n",
    "$9223372036854775807\r\nx",
    "$9223372036854775808\r\n",
    "$1234567890123456789012345678901234567890\r\n",
    "$01\r\nx\r\n",
    "$+1\r\nx\r\n",
    "$1\n",
    "$?\r\n;1\r\na\r\n;0\r\n",
    "$?\r\n;9223372036854775807\r\n",
    "$?\r\n;-1\r\n",
    "*-1\r\n",
    "*-2\r\n",
    "*0\r\n",
    "*1\r\n",
    "*1\r\n+OK\r\n",
    "*1099511627776\r\n",
    "*1099511627777\r\n",
    "*9223372036854775807\r\n*9223372036854775807\r\n",
    "*?\r\n.\r\n",
    "*?\r\n+a\r\n*?\r\n.\r\n",
    ".\r\n",
    "%0\r\n",
    "%1\r\n$5\r\nproto\r\n:3\r\n",
    "%549755813888\r\n",
    "%9223372036854775807\r\n",
    "%?\r\n.\r\n",
    "~-1\r\n",
    "~1\r\n+a\r\n",
    "|1\r\n+a\r\n+b\r\n+OK\r\n",
    "|9223372036854775807\r\n",
    "|-1\r\n",
    ">0\r\n",
    ">-1\r\n",
    ">1\r\n+x\r\n+OK\r\n",
    ">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n",
    ">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:9223372036854775807\r\n+OK\r\n",
    ">3\r\n$11\r\nunsubscribe\r\n_\r\n:-1\r\n",
    "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nm\r\n",
    "*3\r\n$12\r\npunsubscribe\r\n*1\r\n:1\r\n:18446744073709551615\r\n",
    "\0\0\0\0",
    "\r\n",
    "HTTP/1.1 400 Bad Request\r\n\r\n",
    "\x15\x03\x03\0\x02\x02\x28",
];

/// Entries, and what stands in their places.
const ENTRIES: [&str; 27] = [
    "*2\r\n$3\r\n1-1\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n",
    "*2\r\n$3\r\n1-1\r\n*4\r\n$1\r\nf\r\n$1\r\nv\r\n$11\r\ntraceparent\r\n$55\r\n00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n",
    "*2\r\n$3\r\n1-1\r\n*2\r\n$11\r\ntraceparent\r\n$999999999\r\n00-0af7651916cd43dd8448eb211c80319c",
    "*2\r\n$3\r\n1-1\r\n*2\r\n$11\r\ntraceparent\r\n*1\r\n$1\r\nx\r\n",
    "*2\r\n$3\r\n1-1\r\n*2\r\n$14\r\n_trace_context\r\n$9\r\n{\"tracepa\r\n",
    "*2\r\n$3\r\n1-1\r\n*3\r\n$1\r\nf\r\n$1\r\nv\r\n$1\r\ng\r\n",
    "*2\r\n$3\r\n1-1\r\n*0\r\n",
    "*2\r\n$3\r\n1-1\r\n*-1\r\n",
    "*2\r\n$3\r\n1-1\r\n_\r\n",
    "*2\r\n$3\r\n1-1\r\n*1099511627776\r\n",
    "*2\r\n$3\r\n1-1\r\n*2\r\n:1\r\n:2\r\n",
    "*2\r\n$3\r\n1-1\r\n%1\r\n$1\r\nf\r\n%1\r\n$1\r\ng\r\n*1\r\n+x\r\n",
    "*2\r\n$3\r\n1-1\r\n*2\r\n*1\r\n*1\r\n*1\r\n*0\r\n%1\r\n+a\r\n%0\r\n",
    "*2\r\n$3\r\n1-1\r\n*?\r\n$1\r\nf\r\n$1\r\nv\r\n.\r\n",
    "*2\r\n$41\r\n18446744073709551616-18446744073709551616\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n",
    "*2\r\n$3\r\nabc\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n",
    "*2\r\n:1\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n",
    "*2\r\n$-1\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n",
    "*1\r\n$3\r\n1-1\r\n",
    "*3\r\n$3\r\n1-1\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n:1\r\n",
    "*4\r\n$3\r\n1-1\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n:1\r\n:18446744073709551615\r\n",
    "*4\r\n$3\r\n1-1\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n$1\r\nx\r\n$1\r\ny\r\n",
    "|1\r\n+a\r\n+b\r\n*2\r\n$3\r\n1-1\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n",
    ">1\r\n+x\r\n*2\r\n$3\r\n1-1\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n",
    "$3\r\n1-1\r\n",
    "*-1\r\n",
    ":1\r\n",
];

/// Where the entries are, in replies that are built as they should be and in others; `{}` stands for them.
const FRAMES: [&str; 14] = [
    "*1\r\n{}",
    "*3\r\n{}*2\r\n$3\r\n2-1\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n+OK\r\n",
    "*1\r\n*2\r\n$1\r\ns\r\n*1\r\n{}",
    "*1099511627776\r\n*2\r\n$1\r\ns\r\n*1099511627776\r\n{}",
    "*2\r\n*3\r\n$1\r\ns\r\n*1\r\n{}:1\r\n+OK\r\n",
    "*1\r\n*2\r\n:1\r\n*1\r\n{}",
    "*1\r\n*2\r\n$-1\r\n*1\r\n{}",
    "*1\r\n*2\r\n$999999999999\r\n*1\r\n{}",
    "*1\r\n*2\r\n$1\r\ns\r\n%1\r\n{}{}",
    "%1\r\n$1\r\ns\r\n*1\r\n{}",
    "%2\r\n$1\r\ns\r\n*-1\r\n$1\r\nt\r\n*2\r\n{}{}",
    "%-1\r\n{}",
    "*3\r\n$3\r\n0-0\r\n*1\r\n{}*1\r\n$3\r\n9-9\r\n",
    "*1\r\n$3\r\n0-0\r\n{}",
];

/// How a lie is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    AtOnce,
    ByteByByte,
    /// Before anything was asked.
    Early,
    /// And then the connection is reset.
    Reset,
}

/// What the client sees of a server that gives this answer to these commands, and then closes.
#[track_caller]
fn told(scene: &Scene, question: &[&str], answer: &[u8], manner: Manner) -> (Vec<u8>, End) {
    let (commands, lie) = (question.len(), answer.to_vec());
    let mut client = scene.connect_to(move |mut server| {
        if manner == Manner::Early {
            server.send(&lie);
        }
        // Whatever is not read would make the close a reset.
        for _ in 0..commands {
            if server.try_reply().is_err() {
                return;
            }
        }
        match manner {
            Manner::AtOnce => server.send(&lie),
            Manner::ByteByByte => server.send_bytewise(&lie),
            Manner::Early => {}
            Manner::Reset => {
                server.send(&lie);
                server.reset();
            }
        }
    });
    client.send(pipeline(question));
    client.read_until_closed()
}

#[track_caller]
fn check(scene: &Scene, question: &[&str], answer: &[u8], manner: Manner) {
    let (got, end) = told(scene, question, answer, manner);
    let expected = match manner {
        Manner::Reset => End::Reset,
        _ => End::Closed,
    };
    assert!(
        got == answer && end == expected,
        "{question:?} {manner:?}: {:?} was answered, and {:?} ({end:?}) came",
        answer.escape_ascii().to_string(),
        got.escape_ascii().to_string()
    );
}

#[test]
fn any_reply_to_any_command() {
    let scene = Scene::of_lies();
    for manner in [
        Manner::AtOnce,
        Manner::ByteByByte,
        Manner::Early,
        Manner::Reset,
    ] {
        for question in QUESTIONS {
            for reply in REPLIES {
                check(&scene, question, reply.as_bytes(), manner);
            }
        }
    }
    scene.over(0);
}

#[test]
fn entries_that_are_none() {
    let scene = Scene::of_lies();
    for question in QUESTIONS[3..9].iter().chain(&QUESTIONS[13..14]) {
        let hello = question[0].starts_with("HELLO");
        for frame in FRAMES {
            for entry in ENTRIES {
                let reply = frame.replace("{}", entry);
                let reply = if hello {
                    format!("%0\r\n{reply}")
                } else {
                    reply
                };
                check(&scene, question, reply.as_bytes(), Manner::AtOnce);
            }
        }
    }
    scene.over(0);
}
