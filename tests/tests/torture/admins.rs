//! Whoever reaches the admin port: requests that are none, too large, half or without end. The proxy answers others meanwhile, and
//! traffic goes on.

use std::thread;
use std::time::Duration;

use tars_tests::resp::Client;
use tars_tests::server::Kind;

use crate::scene::Scene;

/// What the admin server answers at once, and on how many connections: documented in `docs/limits.md`.
const CONNECTIONS: usize = 128;
/// What it holds of a request, whatever is sent.
const REQUEST: usize = 64 << 10;
/// What it holds of the answers to requests that follow each other: one, and what is written of it at once.
const ANSWER: usize = 512 << 10;

fn connect(scene: &Scene) -> Client {
    Client::connect(scene.stage.proxy.admin())
}

/// The status code of the answer; none if there is none.
fn status(mut client: Client) -> Option<u16> {
    let (answer, _) = client.read_until_closed();
    let text = String::from_utf8_lossy(&answer).into_owned();
    let code = text
        .strip_prefix("HTTP/1.1 ")
        .or(text.strip_prefix("HTTP/1.0 "))?;
    code.get(..3)?.parse().ok()
}

#[test]
fn requests_that_are_none() {
    let scene = Scene::of(Kind::Redis82);
    let long = "a".repeat(1 << 20);
    let local = "Host: localhost\r\n";
    for (request, wanted) in [
        ("\0\0\0\0\r\n\r\n", Some(400)),
        ("\x16\x03\x01\x02\0\x01\0\x01\u{fc}\r\n\r\n", Some(400)),
        ("*1\r\n$4\r\nPING\r\n\r\n", Some(400)),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", None),
        ("GET\r\n\r\n", Some(400)),
        ("GET / HTTP/9.9\r\n\r\n", Some(400)),
        ("GET /\0 HTTP/1.1\r\n\r\n", Some(400)),
        ("GET /../../etc/passwd HTTP/1.0\r\n\r\n", Some(404)),
        ("GET /%2e%2e%2f%00 HTTP/1.0\r\n\r\n", Some(404)),
        ("GET http://other/metrics HTTP/1.0\r\n\r\n", Some(200)),
        ("DELETE /metrics HTTP/1.0\r\n\r\n", Some(405)),
        ("TRACE / HTTP/1.0\r\n\r\n", Some(405)),
        (
            "GET /traces.json?limit=99999999999999999999 HTTP/1.0\r\n\r\n",
            Some(400),
        ),
        (
            "GET /traces.json?limit=-1&trace=%00 HTTP/1.0\r\n\r\n",
            Some(400),
        ),
        (
            "GET /traces.json?q=%f0%9f%92%a9&stream=%22%3E HTTP/1.0\r\n\r\n",
            Some(200),
        ),
        (
            "POST /drain HTTP/1.0\r\nHost: evil.example\r\n\r\n",
            Some(403),
        ),
        (
            "POST /drain HTTP/1.0\r\nHost: localhost\r\nOrigin: http://evil.example\r\n\r\n",
            Some(403),
        ),
        (
            &format!("PUT /log-level HTTP/1.0\r\n{local}Content-Length: 3\r\n\r\n\u{ff}x"),
            Some(400),
        ),
        (
            &format!("PUT /log-level HTTP/1.0\r\n{local}Content-Length: -1\r\n\r\n"),
            Some(400),
        ),
        (
            &format!("PUT /log-level HTTP/1.0\r\n{local}Content-Length: 9999999\r\n\r\n{long}"),
            Some(413),
        ),
        (&format!("GET /{long} HTTP/1.0\r\n\r\n"), Some(431)),
        (&format!("GET / HTTP/1.0\r\nA: {long}\r\n\r\n"), Some(431)),
        (
            &format!("GET / HTTP/1.0\r\n{}\r\n", "A: b\r\n".repeat(1000)),
            Some(431),
        ),
        (&format!("{long}{long}"), Some(431)),
    ] {
        let mut client = connect(&scene);
        let _ = client.try_send(request.as_bytes());
        let got = status(client);
        // What is refused before all of it was read may be reset, and the answer with it.
        let overtaken = request.len() > long.len() && got.is_none();
        let what = &request[..request.floor_char_boundary(60)];
        assert!(
            got == wanted || overtaken,
            "{what:?}: {got:?}, not {wanted:?}"
        );
    }
    scene.over(REQUEST);
}

/// Clients that begin a request and go no further hold all there are places for, but not for long.
#[test]
fn half_requests() {
    let scene = Scene::of(Kind::Redis82);
    let clients: Vec<Client> = (0..CONNECTIONS)
        .map(|n| {
            let mut client = connect(&scene);
            client.send(
                [
                    "",
                    "G",
                    "GET / HTTP/1.1\r\nHost: a\r\n",
                    "GET / HTTP/1.1\r\nA: ",
                ][n % 4],
            );
            client
        })
        .collect();
    assert_eq!(scene.stage.proxy.get("/live").status, 200);
    for client in clients {
        assert!(matches!(status(client), None | Some(408)));
    }
    scene.over(CONNECTIONS * REQUEST);
}

/// Requests without end on each connection, and nobody reads the answers.
#[test]
fn answers_that_nobody_reads() {
    const CLIENTS: usize = 32;
    let scene = Scene::of(Kind::Redis82);
    let requests = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(5_000);
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            let mut client = connect(&scene);
            let requests = &requests;
            scope.spawn(move || {
                client.give_up_after(Duration::from_secs(1));
                // The kernel takes some of it, and then there is no room: none of it is an answer.
                let _ = client.try_send(requests.as_bytes());
                client.reset();
            });
        }
        assert_eq!(scene.stage.proxy.get("/live").status, 200);
    });
    scene.over(CLIENTS * ANSWER);
}
