//! Ten thousand connections, of which a thousand talk: what the idle ones cost, that nobody gets another's answer, that who comes
//! beyond `max_connections` is told so, and that all of it is given back.
//!
//! Each connection takes two file descriptors of the proxy. Where the hard limit of a process leaves room for fewer, there are
//! fewer. In a file of its own, so that no other test takes descriptors at the same time.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tars_tests::address::Address;
use tars_tests::proxy::Proxy;
use tars_tests::resp::{End, encode};
use tars_tests::server::Server;
use tars_tests::wait::{self, PATIENCE};

const CONNECTIONS: usize = 10_000;

/// Descriptors that the proxy keeps for itself, and the server for other things than clients.
const OTHER_DESCRIPTORS: usize = 192;

/// So many of them talk.
const ACTIVE: usize = 1_000;

/// How often each of those sends a message, and asks for its value.
const ROUNDS: usize = 20;

/// Bytes that an idle connection may cost.
const IDLE: usize = 2048;

/// Bytes that are taken once, however many they are: tables that begin small, and whole pages.
const ONCE: usize = 512 << 10;

/// Bytes that the proxy may take with all of them.
const TOTAL: usize = 30_000_000;

/// What may remain of the crowd: tables that have grown, and what the allocator keeps.
const REMAINDER: usize = 6 << 20;

/// So many connect at once: the proxy accepts them while they wait for their answers.
const BATCH: usize = 100;

/// As many connections as the descriptors of a process allow for: this one, too, may have all that it may have.
fn connections() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let hard = usize::try_from(limit.maximum.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).unwrap();
    let fitting = hard.saturating_sub(OTHER_DESCRIPTORS) / 2;
    let connections = fitting.min(CONNECTIONS);
    println!("{connections} connections; a process may open {hard} descriptors");
    connections
}

/// A connection with one descriptor.
struct Client {
    stream: TcpStream,
    number: usize,
}

impl Client {
    fn connect(at: &Address, number: usize) -> Self {
        let Address::Tcp(at) = at else {
            panic!("not TCP")
        };
        let stream = TcpStream::connect(at).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream, number }
    }

    fn send(&mut self, args: &[&str]) {
        self.stream.write_all(&encode(args)).unwrap();
    }

    /// Hears this, and nothing else that might be another's.
    fn expect(&mut self, reply: &str) {
        let mut got = vec![0; reply.len()];
        self.stream.read_exact(&mut got).unwrap();
        let got = String::from_utf8_lossy(&got);
        assert_eq!(got, reply, "connection {}", self.number);
    }
}

/// Who talks is spread over all, and half of them are quiet at least.
fn talks(number: usize, connections: usize) -> bool {
    let step = (connections / ACTIVE).max(2);
    number.is_multiple_of(step) && number / step < ACTIVE
}

fn key(number: usize) -> String {
    format!("value:{number}")
}

/// Unlike any other connection's.
fn value(number: usize) -> String {
    format!("{number}-{}", "v".repeat(number % 97))
}

fn stream(number: usize) -> String {
    format!("stream:{number}")
}

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

/// All of them ask at once, half of them a message and half a value, and then the other way round.
fn talk(clients: &mut [Client], round: usize) {
    let id = format!("{}-1", round + 1);
    for half in 0..2 {
        let sends = |index: usize| (index + half).is_multiple_of(2);
        for (index, client) in clients.iter_mut().enumerate() {
            let n = client.number;
            if sends(index) {
                client.send(&["XADD", &stream(n), &id, "f", &value(n)]);
            } else {
                client.send(&["GET", &key(n)]);
            }
        }
        for (index, client) in clients.iter_mut().enumerate() {
            let reply = if sends(index) {
                bulk(&id)
            } else {
                bulk(&value(client.number))
            };
            client.expect(&reply);
        }
    }
}

#[test]
fn ten_thousand_connections() {
    let connections = connections();
    let places = (connections + 32).to_string();
    let server = Server::builder(tars_tests::server::Kind::Redis82)
        .args(["--maxclients", &places])
        .start();
    let mut control = server.connect();
    for number in (0..connections).filter(|number| talks(*number, connections)) {
        control.call(&["SET", &key(number), &value(number)]);
    }
    let mut proxy = Proxy::to(&server)
        .args(["--max-connections", &connections.to_string()])
        // What the page of recent traces keeps is not the crowd's either.
        .args(["--max-recent-spans", "100"])
        .start();
    let now = |name: &str| proxy.metric(name, &[]);
    let limit = proxy.metric("tars_proxy_limit", &[("setting", "max_connections")]);
    assert_eq!(limit, connections as f64);
    // What is made at first use is not the crowd's.
    let mut first = proxy.connect();
    first.call(&["XADD", "first", "*", "f", "v"]);
    drop(first);
    proxy.wait_metric("tars_proxy_connections", &[], |open| open == 0.0);
    let (before, open_before) = (proxy.memory().anonymous, now("process_open_fds"));

    let mut idle: Vec<Client> = Vec::with_capacity(connections);
    while idle.len() < connections {
        let from = idle.len();
        let to = connections.min(from + BATCH);
        idle.extend((from..to).map(|number| Client::connect(proxy.address(), number)));
        for client in &mut idle[from..] {
            client.send(&["PING"]);
        }
        for client in &mut idle[from..] {
            client.expect("+PONG\r\n");
        }
    }
    assert_eq!(now("tars_proxy_connections"), limit);
    let held = proxy.memory().anonymous;
    let grown = held.saturating_sub(before);
    let each = grown / connections;
    println!("{before} bytes before, {held} with all of them: {each} a connection");
    assert!(
        grown <= IDLE * connections + ONCE,
        "{each} bytes a connection"
    );
    assert!(held <= TOTAL, "{held} bytes");

    let (mut active, mut idle): (Vec<Client>, Vec<Client>) = idle
        .into_iter()
        .partition(|client| talks(client.number, connections));
    println!("{} of them talk", active.len());
    for round in 0..ROUNDS {
        talk(&mut active, round);
        if round == ROUNDS / 2 {
            let refused = proxy.connect().read_until_closed();
            let said = b"-ERR max number of clients reached\r\n".to_vec();
            assert_eq!(refused, (said, End::Closed));
        }
    }
    assert_eq!(now("tars_proxy_connections_refused_total"), 1.0);
    assert_eq!(now("tars_proxy_connections"), limit);
    let talked = proxy.memory().anonymous;
    println!("{talked} bytes after that");
    assert!(talked <= TOTAL, "{talked} bytes");
    for client in &active {
        let stream = stream(client.number);
        let length = control.call(&["XLEN", &stream]);
        assert_eq!(length, format!(":{ROUNDS}\r\n"), "{stream}");
    }
    let entries = control.call(&["XRANGE", &stream(0), "-", "+"]);
    assert_eq!(entries.matches("traceparent").count(), ROUNDS);
    // Those who were quiet have missed nothing, and heard nothing that is not theirs.
    for client in &mut idle {
        client.send(&["ECHO", &value(client.number)]);
    }
    for client in &mut idle {
        client.expect(&bulk(&value(client.number)));
    }
    // One leaves, another comes.
    idle.pop();
    wait::until("there is a place again", PATIENCE, || {
        let mut client = proxy.connect();
        client.try_send(b"PING\r\n").ok()?;
        (client.try_reply().ok()? == b"+PONG\r\n").then_some(())
    });

    for client in active.iter().chain(&idle) {
        client.stream.shutdown(Shutdown::Write).unwrap();
    }
    for client in active.iter_mut().chain(&mut idle) {
        let mut rest = Vec::new();
        client.stream.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty(), "connection {}: {rest:?}", client.number);
    }
    drop((active, idle));
    proxy.wait_metric("tars_proxy_connections", &[], |open| open == 0.0);
    proxy.wait_metric("process_open_fds", &[], |open| open <= open_before + 4.0);
    for name in ["tars_proxy_held_bytes", "tars_proxy_pending_bytes"] {
        assert_eq!(now(name), 0.0, "{name}");
    }
    let left = wait::poll(PATIENCE, || {
        let left = proxy.memory().anonymous;
        let _ = proxy.metrics();
        (left <= before + REMAINDER).then_some(left)
    });
    let left = left.unwrap_or_else(|| panic!("{} bytes stay", proxy.memory().anonymous));
    println!("{left} bytes after them");
    proxy.drain();
}
