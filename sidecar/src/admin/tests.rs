//! Over real sockets, in plain HTTP/1.1.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::future::pending;
use std::time::Duration;

use axum::extract::ConnectInfo;
use prometheus::IntCounter;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::*;

struct Running {
    parts: Parts,
    address: Address,
    server: JoinHandle<std::io::Result<()>>,
}

/// As main does, but with a log that nothing is written to.
fn parts() -> Parts {
    Parts {
        name: "tars-test",
        version: "1.2.3",
        drain: Drain::new(),
        readiness: Readiness::new(),
        registry: Registry::new(),
        log_level: LogLevel::detached("info").unwrap(),
    }
}

fn run_at(address: &str, with: impl FnOnce(Admin) -> Admin) -> Running {
    let parts = parts();
    let bound = with(Admin::new(parts.clone()))
        .bind(&address.parse().unwrap())
        .unwrap();
    let address = bound.local_addr().unwrap();
    Running {
        parts,
        address,
        server: tokio::spawn(bound.serve()),
    }
}

fn run() -> Running {
    run_at("127.0.0.1:0", |admin| admin)
}

async fn connect(address: &Address) -> TcpStream {
    TcpStream::connect(address.to_string()).await.unwrap()
}

/// Sends bytes and reads until the server closes.
async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

impl Running {
    /// One request on a connection of its own; head and body of the answer.
    async fn ask(&self, method_and_path: &str, headers: &str, body: &str) -> (String, String) {
        let length = body.len();
        let request = format!(
            "{method_and_path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}",
            self.address
        );
        let answer = exchange(connect(&self.address).await, &request).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }

    async fn get(&self, path: &str) -> (String, String) {
        self.ask(&format!("GET {path}"), "", "").await
    }
}

fn status(head: &str) -> &str {
    head.split(' ').nth(1).unwrap()
}

#[tokio::test]
async fn live_and_the_root_page() {
    let admin = run_at("127.0.0.1:0", |admin| {
        admin
            .merge(Router::new().route("/traces", get("spans")))
            .list("/traces", "recent traces")
    });
    let (head, body) = admin.get("/live").await;
    assert_eq!((status(&head), body.as_str()), ("200", "live\n"));
    let (head, body) = admin.get("/").await;
    assert!(
        head.contains("content-type: text/html; charset=utf-8"),
        "{head}"
    );
    for part in [
        "tars-test",
        "1.2.3",
        "href=\"/metrics\"",
        "href=\"/traces\"",
        "recent traces",
    ] {
        assert!(body.contains(part), "{part} in {body}");
    }
    assert_eq!(admin.get("/traces").await.1, "spans");
    assert_eq!(status(&admin.get("/nothing").await.0), "404");
}

#[tokio::test]
async fn ready_lists_what_is_missing() {
    let admin = run();
    let readiness = &admin.parts.readiness;
    assert_eq!(admin.get("/ready").await.1, "ready\n");

    let start = readiness.block("listeners");
    readiness.set("upstream", Err("connection \"refused\"".to_owned()));
    let (head, body) = admin.get("/ready").await;
    assert_eq!(status(&head), "503");
    assert!(head.contains("content-type: application/json"), "{head}");
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    let expected = json!({"ready": false, "missing": [
        {"name": "listeners", "reason": "not done yet"},
        {"name": "upstream", "reason": "connection \"refused\""},
    ]});
    assert_eq!(body, expected);

    drop(start);
    readiness.set("upstream", Ok(()));
    assert_eq!(status(&admin.get("/ready").await.0), "200");
}

#[tokio::test]
async fn metrics_in_prometheus_text() {
    let admin = run();
    let counter = IntCounter::new("tars_test_total", "A test.").unwrap();
    admin
        .parts
        .registry
        .register(Box::new(counter.clone()))
        .unwrap();
    counter.inc_by(3);
    let (head, body) = admin.get("/metrics").await;
    assert!(
        head.contains("content-type: text/plain; version=0.0.4"),
        "{head}"
    );
    assert_eq!(
        body,
        "# HELP tars_test_total A test.\n# TYPE tars_test_total counter\ntars_test_total 3\n"
    );
}

#[tokio::test]
async fn drain_shows_at_once_and_the_server_answers_to_the_end() {
    let admin = run();
    let work = admin.parts.drain.guard();
    assert_eq!(status(&admin.get("/drain").await.0), "405");
    assert!(!admin.parts.drain.is_draining());

    let (head, body) = admin.ask("POST /drain", "", "").await;
    assert_eq!((status(&head), body.as_str()), ("202", "draining\n"));
    assert!(admin.parts.drain.is_draining());
    assert_eq!(
        admin.ask("POST /drain", "", "").await.1,
        "draining already\n"
    );
    let (head, body) = admin.get("/ready").await;
    assert_eq!(status(&head), "503");
    assert!(body.contains("draining"), "{body}");
    assert_eq!(status(&admin.get("/live").await.0), "200");

    let mut idle = connect(&admin.address).await;
    idle.write_all(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(idle.read_u8().await.unwrap(), b'H');
    drop(work);
    admin.server.await.unwrap().unwrap();
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).await.unwrap();
    assert!(TcpStream::connect(admin.address.to_string()).await.is_err());
}

/// The last guard may be gone when the drain begins: whoever asked for it is still answered.
#[tokio::test]
async fn the_one_who_asks_for_the_drain_is_answered() {
    let admin = run();
    let (head, _) = admin.ask("POST /drain", "", "").await;
    assert_eq!(status(&head), "202");
    admin.server.await.unwrap().unwrap();
}

#[tokio::test]
async fn log_level_is_shown_and_replaced() {
    let admin = run();
    assert_eq!(admin.get("/log-level").await.1, "info\n");
    let (head, body) = admin
        .ask("PUT /log-level", "", "warn,tars_proxy=debug\n")
        .await;
    assert_eq!(status(&head), "200", "{body}");
    assert!(body.contains("tars_proxy=debug"), "{body}");
    let (head, body) = admin.ask("PUT /log-level", "", "loud").await;
    assert_eq!(status(&head), "400");
    assert!(
        body.starts_with("log level \"loud\": not a level;"),
        "{body}"
    );
    assert!(
        admin.get("/log-level").await.1.contains("tars_proxy=debug"),
        "the one before stays"
    );
    let (head, _) = admin
        .ask("PUT /log-level", "", &"a".repeat(MAX_FILTER + 1))
        .await;
    assert_eq!(status(&head), "413");
}

#[tokio::test]
async fn what_changes_the_process_is_not_for_web_pages() {
    let admin = run();
    let origin = "Origin: http://evil.example\r\n";
    for request in ["POST /drain", "PUT /log-level"] {
        let (head, body) = admin.ask(request, origin, "debug").await;
        assert_eq!(status(&head), "403");
        assert!(
            body.contains("not answered for pages of other origins"),
            "{body}"
        );
    }
    let rebound = "POST /drain HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    let answer = exchange(connect(&admin.address).await, rebound).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert!(!admin.parts.drain.is_draining());
    assert_eq!(admin.get("/log-level").await.1, "info\n");
    assert_eq!(
        status(&admin.ask("GET /metrics", origin, "").await.0),
        "200",
        "reading is not barred"
    );
}

/// A client with another address than loopback: the machine's own one, by way of a socket on all addresses.
#[tokio::test]
async fn what_changes_the_process_is_not_for_the_network() {
    let admin = run_at("0.0.0.0:0", |admin| admin);
    let Address::Tcp { port, .. } = admin.address else {
        panic!("a TCP address")
    };
    // No packet is sent: this only finds which address would be used. A machine without a network has none.
    let probe = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    if probe.connect("203.0.113.1:9").is_err() {
        return;
    }
    let own = probe.local_addr().unwrap().ip();
    let stream = TcpStream::connect((own, port)).await.unwrap();
    let request =
        format!("POST /drain HTTP/1.1\r\nHost: {own}:{port}\r\nConnection: close\r\n\r\n");
    let answer = exchange(stream, &request).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert!(
        answer.ends_with("on the loopback interface and the unix socket only.\n"),
        "{answer}"
    );
    assert!(!admin.parts.drain.is_draining());
}

#[tokio::test]
async fn a_unix_socket_serves_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let who = get(async |ConnectInfo(peer): ConnectInfo<Peer>| format!("{peer:?}"));
    let admin = run_at(&format!("unix:{}", path.display()), |admin| {
        admin.merge(Router::new().route("/who", who))
    });
    let ask = async |request: &str| {
        let request = format!("{request} HTTP/1.1\r\nHost: anything\r\nConnection: close\r\n\r\n");
        exchange(UnixStream::connect(&path).await.unwrap(), &request).await
    };
    assert!(ask("GET /who").await.ends_with("\r\n\r\nUnix"));
    assert!(ask("POST /drain").await.starts_with("HTTP/1.1 202 "));
    admin.server.await.unwrap().unwrap();
    assert!(!path.exists());
}

#[tokio::test]
async fn a_taken_port_is_known_before_anything_is_served() {
    let first = run();
    let error = Admin::new(parts()).bind(&first.address).unwrap_err();
    assert!(matches!(error, BindError::InUse(_)), "{error}");
}

/// Bound in one thread, served in the runtime of another.
#[test]
fn a_bound_server_belongs_to_no_runtime() {
    let parts = parts();
    let bound = Admin::new(parts.clone())
        .bind(&"127.0.0.1:0".parse().unwrap())
        .unwrap();
    let address = bound.local_addr().unwrap();
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let thread = std::thread::spawn(move || runtime().block_on(bound.serve()));
    runtime().block_on(async {
        let request = "GET /live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        assert!(
            exchange(connect(&address).await, request)
                .await
                .ends_with("live\n")
        );
    });
    parts.drain.start();
    thread.join().unwrap().unwrap();
}

// The clock of the following ones is stopped: it jumps to the next timer when nothing else can go on.

fn seconds_since(start: Instant) -> u64 {
    start.elapsed().as_secs()
}

#[tokio::test(start_paused = true)]
async fn slow_and_idle_clients_are_cut_off() {
    let admin = run();
    let start = Instant::now();
    let answer = exchange(connect(&admin.address).await, "GET /live HTTP/1.1\r\nHost:").await;
    assert_eq!((answer.as_str(), seconds_since(start)), ("", 10));

    let start = Instant::now();
    let answer = exchange(
        connect(&admin.address).await,
        "GET /live HTTP/1.1\r\nHost: x\r\n\r\n",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(seconds_since(start), 10, "idle after the answer");
}

#[tokio::test(start_paused = true)]
async fn a_request_takes_no_longer_than_its_time_out() {
    let stuck = get(async || pending::<()>().await);
    let admin = run_at("127.0.0.1:0", |admin| {
        admin.merge(Router::new().route("/stuck", stuck))
    });
    let start = Instant::now();
    assert_eq!(status(&admin.get("/stuck").await.0), "408");
    assert_eq!(seconds_since(start), 30);
    let slow_body = "PUT /log-level HTTP/1.1\r\nHost: [::1]\r\nContent-Length: 5\r\nConnection: close\r\n\r\ndeb";
    let answer = exchange(connect(&admin.address).await, slow_body).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_let_go() {
    const SIZE: usize = 64 << 20;
    let large = get(async || vec![b'x'; SIZE]);
    let admin = run_at("127.0.0.1:0", |admin| {
        admin.merge(Router::new().route("/large", large))
    });
    let mut stream = connect(&admin.address).await;
    stream
        .write_all(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    sleep(Duration::from_secs(11)).await;
    let mut read = Vec::new();
    // The server may have reset the connection or closed it: either way the answer is cut.
    let _ = stream.read_to_end(&mut read).await;
    assert!(
        read.starts_with(b"HTTP/1.1 200 OK") && read.len() < SIZE,
        "{} bytes",
        read.len()
    );
}

#[tokio::test(start_paused = true)]
async fn probes_are_answered_beyond_the_limit_and_nothing_else() {
    let admin = run();
    let mut open = Vec::new();
    for _ in 0..96 {
        open.push(connect(&admin.address).await);
    }
    let start = Instant::now();
    assert_eq!(admin.get("/live").await.1, "live\n");
    assert_eq!(admin.get("/ready").await.1, "ready\n");
    let (head, body) = admin.get("/metrics").await;
    assert_eq!(status(&head), "503");
    assert!(head.contains("retry-after: 1"), "{head}");
    assert_eq!(
        body,
        "96 connections are open already; until one ends only /live and /ready are answered.\n"
    );
    assert_eq!(seconds_since(start), 0);

    // Places for probes are held for a moment only.
    for _ in 0..32 {
        open.push(connect(&admin.address).await);
    }
    assert_eq!(admin.get("/live").await.1, "live\n");
    assert_eq!(seconds_since(start), 2);
    assert_eq!(admin.get("/live").await.1, "live\n");
    // The others are idle, too.
    sleep(Duration::from_secs(10)).await;
    assert_eq!(status(&admin.get("/metrics").await.0), "200");
}
