//! Clients that begin TLS and do not get through with it.

use tars_tests::proxy::Proxy;
use tars_tests::resp::Client;
use tars_tests::server::Server;
use tars_tests::tls::Authority;

use crate::scene::{ALLOWANCE, alive};

/// What the beginning of a handshake takes.
const HANDSHAKE: usize = 64 << 10;

const LOCALHOST: &str = "127.0.0.1";

/// What is said first: nothing, and records that are cut off, too long, of another kind, or none.
const BEGINNINGS: [&[u8]; 8] = [
    b"",
    b"\x16",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc",
    b"\x16\x03\x01\x00\x04\x01\xff\xff\xff",
    b"\x16\x03\x01\x00\x00\x16\x03\x01\x00\x00",
    b"\x17\x03\x03\x00\x01x",
    b"*1\r\n$4\r\nPING\r\n",
];

#[test]
fn handshakes_that_come_to_nothing() {
    const CLIENTS: usize = 400;
    let authority = Authority::new("tests");
    let server = Server::redis82();
    let identity = authority.sign("proxy", LOCALHOST);
    let mut proxy = Proxy::to(&server)
        .args(identity.args("--tls-cert", "--tls-key"))
        .start();
    // Clients without TLS reach it through another proxy.
    let trusted = authority.ca().display().to_string();
    let entrance = Proxy::to_url(&format!("rediss://{}", proxy.address()))
        .args(["--upstream-ca".to_owned(), trusted])
        .start();
    let mut bystander = entrance.connect();
    assert_eq!(bystander.call(&["PING"]), "+PONG\r\n");
    let before = proxy.memory().now;
    proxy.forget_peak();
    let clients: Vec<Client> = (0..CLIENTS)
        .map(|n| {
            let mut client = proxy.connect();
            let _ = client.try_send(BEGINNINGS[n % BEGINNINGS.len()]);
            assert_eq!(bystander.call(&["PING"]), "+PONG\r\n");
            client
        })
        .collect();
    assert_eq!(entrance.connect().call(&["PING"]), "+PONG\r\n");
    // Each is given up in the end; what it hears of that is an alert, if anything.
    for mut client in clients {
        let (bytes, _) = client.read_until_closed();
        assert!(
            matches!(bytes.first(), None | Some(0x15)),
            "{}",
            bytes.escape_ascii()
        );
    }
    let growth = proxy.memory().peak - before;
    assert!(growth <= CLIENTS * HANDSHAKE + ALLOWANCE, "{growth} bytes");
    let log = proxy.stderr();
    let failed = log
        .lines()
        .filter(|line| line.contains("TLS handshake failed"));
    // Once more after each that succeeded: the bystander's later ones.
    assert!((1..=3).contains(&failed.count()), "{log}");
    assert_eq!(bystander.call(&["PING"]), "+PONG\r\n");
    alive(&mut proxy);
}
