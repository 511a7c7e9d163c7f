#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::thread;

use proptest::prelude::*;

use super::*;

/// Answers the first command with these bytes, and then closes.
fn server(answer: impl Into<Vec<u8>>) -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = answer.into();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut line = String::new();
        BufReader::new(stream.try_clone().unwrap())
            .read_line(&mut line)
            .unwrap();
        let _ = stream.write_all(&answer);
    });
    Address::tcp("127.0.0.1", port)
}

fn latest(answer: impl Into<Vec<u8>>) -> Result<Vec<Fields>, String> {
    let address = server(answer);
    Client::connect(&address, None)
        .unwrap()
        .latest(b"s", 2)
        .map_err(|error| error.to_string())
}

const ENTRY: &str = "*2\r\n$3\r\n1-0\r\n*2\r\n$1\r\nf\r\n$2\r\n\r\n\r\n";

#[test]
fn reads_entries() {
    let fields = vec![(b"f".to_vec(), b"\r\n".to_vec())];
    assert_eq!(
        latest(format!("*2\r\n{ENTRY}{ENTRY}")),
        Ok(vec![fields.clone(), fields])
    );
    assert_eq!(latest("*0\r\n"), Ok(vec![]));
    assert_eq!(latest("*1\r\n*2\r\n$3\r\n1-0\r\n*0\r\n"), Ok(vec![vec![]]));
}

#[test]
fn says_what_is_wrong_with_an_answer() {
    let unexpected =
        "the answer is not what Redis answers to XREVRANGE; name a Redis server with --upstream";
    let lost = "the connection broke (unexpected end of file); try again";
    for (answer, expected) in [
        (
            "-WRONGTYPE no stream\r\n".to_owned(),
            "Redis answers: WRONGTYPE no stream",
        ),
        ("+OK\r\n".to_owned(), unexpected),
        ("HTTP/1.1 400\r\n".to_owned(), unexpected),
        ("*1\r\n+OK\r\n".to_owned(), unexpected),
        ("*1\r\n*1\r\n$3\r\n1-0\r\n".to_owned(), unexpected),
        (
            "*1\r\n*2\r\n$3\r\n1-0\r\n*1\r\n$1\r\nf\r\n".to_owned(),
            unexpected,
        ),
        ("*1\r\n".repeat(20_000), unexpected),
        ("x".repeat(MAX_LINE + 1), unexpected),
        ("*x\r\n".to_owned(), unexpected),
        ("$9\r\nshort".to_owned(), lost),
        (String::new(), lost),
    ] {
        assert_eq!(latest(answer).unwrap_err(), expected);
    }
    let endless = format!("${}\r\n{}", MAX_REPLY * 2, "x".repeat(MAX_REPLY + 1));
    assert_eq!(
        latest(endless).unwrap_err(),
        "the reply is larger than 64MiB; ask for fewer entries with --count"
    );
}

#[test]
fn says_that_nobody_is_there() {
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let Err(error) = Client::connect(&Address::tcp("127.0.0.1", port), None) else {
        unreachable!("the listener is gone");
    };
    assert_eq!(
        error.to_string(),
        "no connection (Connection refused (os error 111)); start Redis, or name another server with --upstream"
    );
}

#[test]
fn speaks_over_a_unix_socket() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let served = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 27];
        stream.read_exact(&mut request).unwrap();
        stream.write_all(b"+OK\r\n").unwrap();
        request
    });
    let address = Address::Unix(path);
    let mut client = Client::connect(&address, None).unwrap();
    assert_eq!(
        client.call(&[b"AUTH", b"pass wd"]).unwrap(),
        OwnedFrame::SimpleString(b"OK".to_vec())
    );
    assert_eq!(
        served.join().unwrap().escape_ascii().to_string(),
        r"*2\r\n$4\r\nAUTH\r\n$7\r\npass wd\r\n"
    );
}

proptest! {
    #[test]
    fn the_end_is_found_wherever_the_pieces_are_cut(
        reply in prop_oneof![
            proptest::collection::vec(prop_oneof![Just("$1\r\n\n\r\n"), Just("*2\r\n:1\r\n*-1\r\n"), Just("$-1\r\n"), Just("*1\r\n*0\r\n")], 0..5)
                .prop_map(|parts| format!("*{}\r\n{}", parts.len(), parts.concat())),
            Just("+OK\r\n".to_owned()),
        ],
        cut in any::<prop::sample::Index>(),
    ) {
        let bytes = reply.as_bytes();
        prop_assert_eq!(decode(bytes).unwrap().unwrap().1, bytes.len());
        let mut scan = Scan::default();
        prop_assert_eq!(scan.advance(bytes.get(..cut.index(bytes.len())).unwrap()), Some(false));
        prop_assert_eq!(scan.advance(bytes), Some(true));
        prop_assert_eq!(scan.done, bytes.len());
    }

    #[test]
    fn no_answer_panics(bytes in proptest::collection::vec(prop_oneof![Just(b'*'), Just(b'$'), Just(b'\r'), Just(b'\n'), Just(b'-'), b'0'..=b'9', any::<u8>()], 0..60)) {
        let mut scan = Scan::default();
        if scan.advance(&bytes) == Some(true) {
            let _ = decode(&bytes);
        }
    }
}
