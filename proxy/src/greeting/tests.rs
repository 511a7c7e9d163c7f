#![allow(clippy::unwrap_used)]

use super::*;
use crate::testing::World;

fn greeting(user: &str, password: Option<&str>, database: u32) -> Option<Greeting> {
    Greeting::new(&Login {
        user: user.into(),
        password: password.map(Into::into),
        database,
    })
}

/// What the client gets of these answers, shown in pieces of this size, and where the connection is then.
fn heard(greeting: &Greeting, answers: &str, piece: usize) -> (String, Context) {
    let mut cx = World::default().context();
    cx.greeting = greeting.said();
    let (mut tail, mut got) = (Vec::new(), Vec::new());
    for piece in answers.as_bytes().chunks(piece) {
        tail.extend_from_slice(piece);
        let mut out = Vec::new();
        let mut chunk = Chunk::new(&mut tail, &mut out);
        let mut consumed = 0;
        greeting.hear(&mut chunk, &mut cx, &mut consumed);
        got.extend_from_slice(chunk.finish(consumed));
        tail.drain(..consumed);
    }
    (String::from_utf8(got).unwrap(), cx)
}

#[test]
fn what_is_said() {
    let said = |user, password, database| {
        let greeting = greeting(user, password, database)?;
        Some((
            String::from_utf8(greeting.bytes().into()).unwrap(),
            greeting.said(),
        ))
    };
    assert_eq!(said("", None, 0), None);
    assert_eq!(
        said("", Some("p w"), 0),
        Some((
            "*2\r\n$4\r\nAUTH\r\n$3\r\np w\r\n".to_owned(),
            Stage::Said(1)
        ))
    );
    assert_eq!(
        said("u", Some(""), 10),
        Some((
            "*3\r\n$4\r\nAUTH\r\n$1\r\nu\r\n$0\r\n\r\n*2\r\n$6\r\nSELECT\r\n$2\r\n10\r\n"
                .to_owned(),
            Stage::Said(2)
        ))
    );
    assert_eq!(
        said("", None, 1),
        Some((
            "*2\r\n$6\r\nSELECT\r\n$1\r\n1\r\n".to_owned(),
            Stage::Said(1)
        ))
    );
}

#[test]
fn agreement_is_kept_from_the_client_wherever_it_is_cut() {
    let greeting = greeting("u", Some("p"), 3).unwrap();
    for piece in 1..=10 {
        let (got, cx) = heard(&greeting, "+OK\r\n+OK\r\n", piece);
        assert_eq!((got.as_str(), cx.greeting), ("", Stage::Agreed), "{piece}");
        assert_eq!((cx.authenticated, cx.database), (true, 3));
    }
}

#[test]
fn a_refusal_is_the_last_that_the_client_hears() {
    let greeting = greeting("u", Some("p"), 3).unwrap();
    for (answers, expected) in [
        ("-WRONGPASS no\r\n-NOAUTH no\r\n", "-WRONGPASS no\r\n"),
        (
            "+OK\r\n-ERR DB index is out of range\r\n",
            "-ERR DB index is out of range\r\n",
        ),
        (
            "HTTP/1.1 400 Bad Request\r\n",
            "HTTP/1.1 400 Bad Request\r\n",
        ),
    ] {
        let (got, cx) = heard(&greeting, answers, answers.len());
        assert_eq!((got.as_str(), cx.greeting), (expected, Stage::Refused));
        assert_eq!(cx.database, 0);
    }
    let endless = "-".repeat(2 * MAX_ANSWER);
    assert_eq!(heard(&greeting, &endless, 1000).1.greeting, Stage::Refused);
}

#[test]
fn a_password_that_nobody_wants_is_no_refusal() {
    let needless = "-ERR AUTH <password> called without any password configured for the default user. Are you sure?\r\n";
    let (got, cx) = heard(&greeting("", Some("p"), 0).unwrap(), needless, 7);
    assert_eq!((got.as_str(), cx.greeting), ("", Stage::Agreed));
    // Of SELECT it would be something else.
    let (_, cx) = heard(&greeting("", None, 1).unwrap(), needless, 7);
    assert_eq!(cx.greeting, Stage::Refused);
}
