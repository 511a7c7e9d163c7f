//! Probes are answered, whoever else asks the admin server, and however slowly he reads.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use socket2::{Domain, Socket, Type};
use tars_tests::http;
use tars_tests::proxy::Proxy;
use tars_tests::resp::encode;
use tars_tests::server::Server;
use tars_tests::wait::PATIENCE;

/// As many as the admin server serves at once, and more.
const READERS: usize = 128;
const SPANS: usize = 4_000;

/// Asks for as much as there is to be had, and reads nothing.
fn slow_reader(admin: &str, path: &str) -> TcpStream {
    let address: SocketAddr = admin.parse().unwrap();
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    // The kernel would take much of an answer on its own.
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&address.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

/// A proxy that has megabytes of spans to tell of.
fn with_traces() -> (Proxy, Server) {
    let server = Server::redis70();
    let name = "s".repeat(1000);
    let proxy = Proxy::to(&server).start();
    let mut client = proxy.connect();
    client.send(encode(&["XADD", &name, "MAXLEN", "1", "*", "a", "1"]).repeat(SPANS));
    client.replies(SPANS);
    proxy.wait_metric("tars_proxy_spans_ended_total", &[], |ended| {
        ended == SPANS as f64
    });
    (proxy, server)
}

const EVERYTHING: &str = "/traces.json?limit=1000&attributes=1";

#[test]
fn slow_readers_of_traces_keep_nobody_from_probing() {
    let (proxy, _server) = with_traces();
    let admin = proxy.admin().to_string();
    let readers: Vec<_> = (0..READERS)
        .map(|_| slow_reader(&admin, EVERYTHING))
        .collect();
    for _ in 0..3 {
        for path in ["/live", "/ready"] {
            assert_eq!(proxy.get(path).status, 200);
        }
    }
    drop(readers);
}

#[test]
fn only_so_many_answers_of_traces_are_under_way_at_once() {
    let (proxy, _server) = with_traces();
    let admin = proxy.admin().to_string();
    let mut readers: Vec<_> = (0..8).map(|_| slow_reader(&admin, EVERYTHING)).collect();
    for reader in &mut readers {
        let mut status = [0; 12];
        reader.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.1 200");
    }
    let refused = proxy.get(EVERYTHING);
    assert_eq!(refused.status, 503);
    assert!(refused.head.contains("retry-after: 1"), "{}", refused.head);
    assert_eq!(
        refused.body,
        "8 answers are under way already; ask again in a second.\n"
    );
    // What is not large is answered, and so is this once somebody has his answer.
    assert_eq!(proxy.get("/traces").status, 200);
    drop(readers.pop());
    tars_tests::wait::until("an answer again", PATIENCE, || {
        (proxy.get(EVERYTHING).status == 200).then_some(())
    });
}

/// The filter that the document gives as its example hides nothing that the document says is logged about the admin server.
#[test]
fn the_log_level_that_is_put_is_in_force_and_shown() {
    let folder = env!("CARGO_MANIFEST_DIR");
    let document = std::fs::read_to_string(format!("{folder}/../docs/operations.md")).unwrap();
    let (_, example) = document.split_once("curl -X PUT -d ").unwrap();
    let (filter, _) = example.split_once(' ').unwrap();
    let server = Server::redis70();
    let mut proxy = Proxy::to(&server).start();
    let shown = |proxy: &Proxy| -> serde_json::Value {
        let config: serde_json::Value = serde_json::from_str(&proxy.get("/config").body).unwrap();
        config["log_level"].clone()
    };
    assert_eq!(shown(&proxy), "info");
    let answer = http::put(proxy.admin(), "/log-level", filter).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(shown(&proxy), proxy.get("/log-level").body.trim_end());
    assert_ne!(shown(&proxy), "info");
    proxy.wait_log("log level changed over the admin server");
    http::post(proxy.admin(), "/drain", "text/plain", b"").unwrap();
    assert!(proxy.wait_exit(PATIENCE).success());
    for line in [
        "drain asked for over the admin server",
        "draining",
        "stopped",
    ] {
        assert!(proxy.stderr().contains(line), "{line}:\n{}", proxy.stderr());
    }
}
