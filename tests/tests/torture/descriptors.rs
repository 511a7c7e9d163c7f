//! A machine that has no descriptors left, and a server that has no place left.

use std::time::{Duration, Instant};

use tars_tests::proxy::Proxy;
use tars_tests::resp::{Client, End};
use tars_tests::server::{Kind, Server};
use tars_tests::wait::{self, PATIENCE};

use crate::scene::{Scene, WORKERS, alive};

/// What the proxy waits before it tries again to accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

fn lines(proxy: &Proxy, text: &str) -> usize {
    let log = proxy.stderr();
    log.lines().filter(|line| line.contains(text)).count()
}

const CANNOT_ACCEPT: &str = "cannot accept connections; trying on";
const CANNOT_CONNECT: &str = "no connection to the server can be opened from here";

/// A scene whose proxy has opened what it needs for itself: the connection to the collector, too.
fn settled() -> Scene {
    let scene = Scene::of(Kind::Redis82);
    scene.stage.wait_spans(|spans| !spans.is_empty());
    scene
}

#[test]
fn none_left_to_accept_clients() {
    let mut scene = settled();
    let began = Instant::now();
    // Each connection takes two.
    scene.stage.proxy.limit_descriptors(4);
    let mut served = [scene.connect(), scene.connect()];
    for client in &mut served {
        assert_eq!(client.call(&["PING"]), "+PONG\r\n");
    }
    // The kernel takes them in; they wait.
    let waiting: Vec<Client> = (0..20).map(|_| scene.connect()).collect();
    scene.stage.proxy.wait_log(CANNOT_ACCEPT);
    for client in &mut served {
        assert_eq!(client.call(&["PING"]), "+PONG\r\n");
    }
    // Where some go others come; those that come too many are closed as if nobody were there.
    drop(served);
    let answered = |mut client: Client| {
        client.try_send(b"PING\r\n").ok()?;
        client.try_reply().ok()
    };
    assert!(waiting.into_iter().filter_map(answered).count() > 0);
    scene.stage.proxy.set_descriptor_limit(1000);
    wait::until("others are served", PATIENCE, || answered(scene.connect()));
    assert_eq!(lines(&scene.stage.proxy, CANNOT_ACCEPT), 1);
    let (name, side) = ("tars_proxy_errors_total", [("side", "proxy")]);
    let tries = scene.stage.proxy.metric(name, &side);
    let rounds = began.elapsed().as_secs_f64() / ACCEPT_PAUSE.as_secs_f64() + 1.0;
    let most = WORKERS as f64 * rounds;
    assert!(
        tries > 0.0 && tries <= most,
        "{tries} tries, no more than {most}"
    );
    scene.over(0);
}

#[test]
fn none_left_to_reach_the_server() {
    let scene = settled();
    scene.stage.proxy.limit_descriptors(3);
    let mut served = scene.connect();
    assert_eq!(served.call(&["PING"]), "+PONG\r\n");
    // Each is accepted, and then closed as if nobody were there.
    for _ in 0..20 {
        let (bytes, end) = scene.connect().read_until_closed();
        assert_eq!((bytes, end), (Vec::new(), End::Reset));
    }
    assert_eq!(lines(&scene.stage.proxy, CANNOT_CONNECT), 1);
    assert_eq!(lines(&scene.stage.proxy, "server cannot be reached"), 0);
    scene.stage.proxy.set_descriptor_limit(1000);
    assert_eq!(scene.connect().call(&["PING"]), "+PONG\r\n");
    assert_eq!(scene.stage.proxy.get("/ready").status, 200);
    scene.over(0);
}

/// Fewer than are kept for probes and exports: half of them serve clients.
#[test]
fn few_from_the_start() {
    let server = Server::redis82();
    let mut proxy = Proxy::to(&server).descriptors(100).start();
    let mut clients: Vec<Client> = (0..20).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.call(&["PING"]), "+PONG\r\n");
    }
    assert_eq!(proxy.get("/live").status, 200);
    let limit = proxy.metric("tars_proxy_limit", &[("setting", "max_connections")]);
    assert_eq!(limit, 25.0);
    clients.extend((clients.len()..25).map(|_| proxy.connect()));
    for client in &mut clients {
        assert_eq!(client.call(&["PING"]), "+PONG\r\n");
    }
    let said = b"-ERR max number of clients reached\r\n".to_vec();
    assert_eq!(proxy.connect().read_until_closed(), (said, End::Closed));
    alive(&mut proxy);
}

/// The server's own limit of clients: it says so, and closes.
#[test]
fn no_place_left_in_the_server() {
    const PLACES: usize = 10;
    for kind in Kind::ALL {
        let limit = ["--maxclients", &PLACES.to_string()].map(str::to_owned);
        let scene = Scene::with(Server::builder(kind).args(limit).start(), |proxy| proxy);
        let mut served = Vec::new();
        // The bystander has a place, and whoever asks the server directly.
        for _ in 0..PLACES - 2 {
            let mut client = scene.connect();
            assert_eq!(client.call(&["PING"]), "+PONG\r\n");
            served.push(client);
        }
        for question in [
            "",
            "PING\r\n",
            "*5\r\n$4\r\nXADD\r\n$1\r\ns\r\n$1\r\n*\r\n$1\r\nf\r\n$1\r\nv\r\n",
        ] {
            let refused = |mut client: Client| {
                let _ = client.try_send(question.as_bytes());
                // Whether the server has read what was sent makes its close a reset or none, and that is chance.
                client.read_until_closed().0
            };
            let expected = refused(scene.stage.server.connect());
            let got = refused(scene.connect());
            let said = b"-ERR max number of clients reached\r\n";
            for answer in [&expected, &got] {
                assert!(
                    answer == said || answer.is_empty(),
                    "{}",
                    answer.escape_ascii()
                );
            }
            assert!(!question.is_empty() || got == expected, "{kind}");
        }
        drop(served);
        wait::until("there are places again", PATIENCE, || {
            let mut client = scene.connect();
            client.try_send(b"PING\r\n").ok()?;
            (client.try_reply().ok()? == b"+PONG\r\n").then_some(())
        });
        scene.over(0);
    }
}
