//! Servers whose replies do not end: they stream through, and what is kept of them is bounded.

use tars_tests::resp::pipeline;

use crate::scene::{ALLOWANCE, DIRECTION, Scene};

/// How much of a reply without end there is: far more than may be held.
const VOLUME: usize = 3 * (ALLOWANCE + DIRECTION) / 2;

/// The server is asked this, begins so, and goes on like that.
#[track_caller]
fn endless(scene: &Scene, question: &[&str], begin: &str, pattern: &[u8]) {
    let pattern = pattern.repeat((1 << 16) / pattern.len());
    let (commands, begins, repeated) = (question.len(), begin.to_owned(), pattern.clone());
    let times = VOLUME / pattern.len();
    let mut client = scene.connect_to(move |mut server| {
        for _ in 0..commands {
            server.reply();
        }
        server.send(begins);
        for _ in 0..times {
            server.send(&repeated);
        }
    });
    client.send(pipeline(question));
    assert_eq!(client.read_exactly(begin.len()), begin.as_bytes());
    for n in 0..times {
        let same = client.read_exactly(pattern.len()) == pattern;
        assert!(same, "{question:?} {begin:?}: differs in part {n}");
    }
    let (rest, _) = client.read_until_closed();
    assert_eq!(rest, b"", "{question:?}");
    let growth = scene.growth();
    assert!(
        growth <= DIRECTION + ALLOWANCE,
        "{question:?} {begin:?}: {growth} bytes"
    );
}

#[test]
fn values_and_lines() {
    let scene = Scene::of_lies();
    for question in [
        &["GET k"][..],
        &["XADD s 1-1 f v"],
        &["XACK s g 1-1"],
        &["XREADGROUP GROUP g c STREAMS s >"],
        &["MULTI", "EXEC"],
        &["HELLO 3"],
        &["SUBSCRIBE a"],
    ] {
        for begin in ["+", "-ERR ", ":", "$999999999\r\n", "=999999999\r\n"] {
            endless(&scene, question, begin, b"x");
        }
        endless(&scene, question, "$?\r\n", b";8\r\nabcdefgh\r\n");
    }
    scene.over(DIRECTION);
}

#[test]
fn aggregates() {
    let scene = Scene::of_lies();
    for pattern in [
        &b"*1\r\n"[..],
        b"%1\r\n+k\r\n",
        b"|1\r\n+k\r\n+v\r\n",
        b"|1\r\n+k\r\n",
        b">2\r\n+invalidate\r\n*0\r\n",
    ] {
        endless(&scene, &["GET k"], "", pattern);
    }
    endless(&scene, &["GET k"], "*1099511627776\r\n", b":1\r\n");
    endless(
        &scene,
        &["XACKDEL s g IDS 1 1-1"],
        "*1099511627776\r\n",
        b":1\r\n",
    );
    endless(
        &scene,
        &["HELLO 3", "SUBSCRIBE a"],
        "%0\r\n",
        b">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n",
    );
    scene.over(DIRECTION);
}

#[test]
fn entries() {
    let scene = Scene::of_lies();
    let read = &["XREADGROUP GROUP g c STREAMS s >"];
    let entry = b"*2\r\n$3\r\n1-1\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n";
    let flood = "*1\r\n*2\r\n$5\r\nflood\r\n*1099511627776\r\n";
    endless(&scene, &["XREAD STREAMS flood 0"], flood, entry);
    endless(
        &scene,
        read,
        "*1099511627776\r\n",
        b"*2\r\n$1\r\ns\r\n*-1\r\n",
    );
    // A key, an ID, a value and a list of fields that do not end.
    endless(&scene, read, "*1\r\n*2\r\n$999999999\r\n", b"k");
    for entry in [
        "*2\r\n$999999999\r\n",
        "*2\r\n$3\r\n1-1\r\n*2\r\n$1\r\nf\r\n$999999999\r\n",
        "*2\r\n$3\r\n1-1\r\n*2\r\n$1\r\nf\r\n+",
    ] {
        let begin = format!("*1\r\n*2\r\n$1\r\ns\r\n*1\r\n{entry}");
        endless(&scene, read, &begin, b"1");
    }
    let fields = "*1\r\n*2\r\n$1\r\ns\r\n*1\r\n*2\r\n$3\r\n1-1\r\n*1099511627776\r\n";
    endless(&scene, read, fields, b"$1\r\nf\r\n");
    endless(&scene, read, "*1\r\n*2\r\n$1\r\ns\r\n*1\r\n", b"*1\r\n");
    scene.over(DIRECTION);
}
