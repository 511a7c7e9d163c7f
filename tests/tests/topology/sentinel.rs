//! Sentinel and proxies: an upstream that follows the master, proxies that Sentinel knows as the servers, and a proxy before a
//! Sentinel itself.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::{Shutdown, TcpListener};
use std::thread;

use redis::sentinel::{SentinelClient, SentinelServerType};
use tars_tests::address::{Address, Stream};
use tars_tests::otlp::{Collector, Span};
use tars_tests::port::Port;
use tars_tests::process::Process;
use tars_tests::proxy::Proxy;
use tars_tests::resp::{Client, End};
use tars_tests::server::{Builder, Kind, Server};
use tars_tests::wait::{self, PATIENCE};
use tempfile::TempDir;

use crate::{call, host_and_port, on_all, wait_info};

/// One of those who watch the master `m`, quickly.
struct Sentinel {
    address: Address,
    _process: Process,
    _folder: TempDir,
    _port: Port,
}

impl Sentinel {
    /// Three that know each other, and one replica.
    #[track_caller]
    fn three(kind: Kind, master: &Address) -> Vec<Self> {
        let sentinels: Vec<_> = (0..3).map(|_| Self::start(kind, master)).collect();
        for sentinel in &sentinels {
            let mut seen = String::new();
            let knows = |seen: &str| {
                [
                    "$10\r\nnum-slaves\r\n$1\r\n1\r\n",
                    "$19\r\nnum-other-sentinels\r\n$1\r\n2\r\n",
                ]
                .iter()
                .all(|part| seen.contains(part))
            };
            wait::poll(PATIENCE, || {
                seen = call(&mut Client::connect(&sentinel.address), "SENTINEL MASTER m");
                knows(&seen).then_some(())
            });
            assert!(knows(&seen), "{kind}: {seen}");
        }
        sentinels
    }

    fn start(kind: Kind, master: &Address) -> Self {
        let (folder, port) = (tempfile::tempdir().unwrap(), Port::claim());
        let file = folder.path().join("sentinel.conf");
        let mut text = format!("port {}\nbind 127.0.0.1\n", port.number());
        for line in [
            format!("monitor m {} 2", host_and_port(&master.to_string())),
            // A busy machine is not a dead one.
            "down-after-milliseconds m 2000".to_owned(),
            "failover-timeout m 3000".to_owned(),
        ] {
            writeln!(text, "sentinel {line}").unwrap();
        }
        fs::write(&file, text).unwrap();
        let mut process = Process::start(&kind.binary(), |command| {
            command
                .current_dir(folder.path())
                .arg(&file)
                .arg("--sentinel");
        });
        let address = Address::Tcp(port.addr());
        // A server that is not what it is taken for is put right after four times the last, and must have been asked by then.
        let quickly =
            "SENTINEL DEBUG info-period 300 ping-period 200 ask-period 100 publish-period 500";
        process.wait_until("Sentinel answers", PATIENCE, |_| {
            let mut client = Client::open(&address, PATIENCE).ok()?;
            (call(&mut client, quickly) == "+OK\r\n").then_some(())
        });
        Self {
            address,
            _process: process,
            _folder: folder,
            _port: port,
        }
    }
}

const ASK: &str = "SENTINEL GET-MASTER-ADDR-BY-NAME m";

/// Whom a Sentinel takes for the master.
fn master_of(sentinel: &Address) -> Option<Address> {
    let answer = call(&mut Client::open(sentinel, PATIENCE).ok()?, ASK);
    let words: Vec<_> = answer.split("\r\n").collect();
    match words.as_slice() {
        ["*2", _, host, _, port, ""] => Some(Address::Tcp(format!("{host}:{port}"))),
        _ => None,
    }
}

/// A TCP balancer before the master, whoever that is: it asks for every connection. Its threads end with their connections, and with
/// the test process. Its address, as `--upstream` takes it.
fn balancer(sentinel: &Sentinel) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let sentinel = sentinel.address.clone();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // With nobody behind it, it closes what it has accepted.
            if let Some(Ok(server)) = master_of(&sentinel).map(|master| master.connect()) {
                join(Stream::Tcp(client), server);
            }
        }
    });
    url
}

fn join(client: Stream, server: Stream) {
    let other = (client.try_clone().unwrap(), server.try_clone().unwrap());
    for (mut from, mut to) in [(client, server), (other.1, other.0)] {
        thread::spawn(move || {
            // Either end of the one direction is the end of the other's.
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
    }
}

fn server(kind: Kind) -> Builder {
    Server::builder(kind).args(["--repl-diskless-sync-delay", "0"])
}

/// A master, and a replica that follows it.
#[track_caller]
fn pair(kind: Kind) -> [Server; 2] {
    let servers = [0, 1].map(|_| server(kind).start());
    follow(&servers[1], servers[0].address());
    servers
}

#[track_caller]
fn follow(replica: &Server, master: &Address) {
    let command = format!("REPLICAOF {}", host_and_port(&master.to_string()));
    assert_eq!(call(&mut replica.connect(), &command), "+OK\r\n");
    wait_info(replica, "replication", "master_link_status", "up");
}

const READ: &str = "XREADGROUP GROUP g c COUNT 1 STREAMS s >";

#[test]
fn clients_of_a_proxy_whose_upstream_follows_the_master_outlive_a_failover() {
    on_all(|kind| {
        let [mut master, replica] = pair(kind);
        let sentinels = Sentinel::three(kind, master.address());
        let collector = Collector::start();
        let mut proxy = Proxy::to_url(&balancer(&sentinels[0]))
            .otlp_grpc(&collector.grpc())
            .start();
        outlive(&mut proxy, &collector, || {
            master.stop();
            wait_info(&replica, "replication", "role", "master");
        });
    });
}

/// Clients of `proxy` before, while and after the master is another.
#[track_caller]
fn outlive(proxy: &mut Proxy, collector: &Collector, fail_over: impl FnOnce()) {
    let (mut client, mut blocked) = (proxy.connect(), proxy.connect());
    for command in [
        "XGROUP CREATE s g 0 MKSTREAM",
        "XADD s 1-1 f v",
        READ,
        "XACK s g 1-1",
        "XADD s 2-1 f v",
        READ,
        "XADD s 3-1 f v",
    ] {
        let answer = call(&mut client, command);
        assert!(!answer.starts_with('-'), "{command}: {answer}");
    }
    assert_eq!(call(&mut client, "WAIT 1 30000"), ":1\r\n");
    blocked.send("XREAD BLOCK 0 STREAMS idle $\r\n");

    fail_over();
    // Who waits for something is told, and so is who does not; nothing is left of them.
    for client in [&mut client, &mut blocked] {
        let (said, End::Closed | End::Reset) = client.read_until_closed();
        assert!(
            said.is_empty() || said.starts_with(b"-UNBLOCKED"),
            "{said:?}"
        );
    }
    drop((client, blocked));
    proxy.wait_metric("tars_proxy_connections", &[], |open| open == 0.0);

    let mut client = wait::until("the proxy reaches the new master", PATIENCE, || {
        let mut client = Client::open(proxy.address(), PATIENCE).ok()?;
        client.try_send(b"ROLE\r\n").ok()?;
        let role = client.try_reply().ok()?;
        role.starts_with(b"*3\r\n$6\r\nmaster\r\n")
            .then_some(client)
    });
    proxy.wait_ready();
    // What was delivered before is settled; what was sent before is delivered, and linked.
    assert_eq!(call(&mut client, "XACK s g 2-1"), ":1\r\n");
    call(&mut client, "XADD s 4-1 f v");
    for id in ["3-1", "4-1"] {
        let read = call(&mut client, READ);
        assert!(read.contains(id), "{read}");
        assert_eq!(call(&mut client, &format!("XACK s g {id}")), ":1\r\n");
    }
    let linked = |spans: &[Span], id: &str| {
        let of = |name: &str| {
            let is = |span: &&Span| span.name == name && span.attr("messaging.message.id") == id;
            spans.iter().find(is)
        };
        matches!((of("send s"), of("process s")), (Some(sent), Some(processed))
            if processed.is_child_of(sent) && processed.attr("error.type").is_null())
    };
    let _spans = collector.wait_for(PATIENCE, |spans| {
        ["1-1", "2-1", "3-1", "4-1"]
            .iter()
            .all(|id| linked(spans, id))
    });
}

/// Nobody has died: the master becomes a replica, and sends its clients away.
#[test]
fn and_one_that_was_asked_for() {
    on_all(|kind| {
        let [master, replica] = pair(kind);
        let sentinels = Sentinel::three(kind, master.address());
        let collector = Collector::start();
        let mut proxy = Proxy::to_url(&balancer(&sentinels[0]))
            .otlp_grpc(&collector.grpc())
            .start();
        outlive(&mut proxy, &collector, || {
            let mut sentinel = Client::connect(&sentinels[0].address);
            assert_eq!(call(&mut sentinel, "SENTINEL FAILOVER m"), "+OK\r\n");
            wait_info(&replica, "replication", "role", "master");
            wait_info(&master, "replication", "role", "slave");
        });
    });
}

/// One proxy before each server: Sentinel watches the proxies, and its clients are sent to them.
#[test]
fn clients_of_sentinel_are_sent_to_the_proxies_that_the_servers_announce() {
    on_all(announced);
}

fn announced(kind: Kind) {
    let ports = [Port::claim(), Port::claim()];
    let mut servers = ports.each_ref().map(|port| {
        let announced = ["--replica-announce-ip", "127.0.0.1"];
        let number = port.number().to_string();
        server(kind)
            .args(announced)
            .args(["--replica-announce-port", &number])
            .start()
    });
    let collector = Collector::start();
    let proxies = [0, 1].map(|number| {
        Proxy::to(&servers[number])
            .listen(Address::Tcp(ports[number].addr()))
            .otlp_grpc(&collector.grpc())
            .start()
    });
    follow(&servers[1], proxies[0].address());
    let sentinels = Sentinel::three(kind, proxies[0].address());
    let urls = sentinels
        .iter()
        .map(|sentinel| format!("redis://{}", sentinel.address));
    let role = SentinelServerType::Master;
    let mut client = SentinelClient::build(urls.collect(), "m".to_owned(), None, role).unwrap();
    let mut send = |id: &str| {
        wait::until("the master takes a message", PATIENCE, || {
            let mut connection = client.get_connection().ok()?;
            let add = redis::cmd("XADD")
                .arg(&["s", id, "f", "v"])
                .query::<String>(&mut connection);
            (add.ok()? == id).then_some(connection)
        })
    };
    let replicas: u32 = redis::cmd("WAIT")
        .arg(&[1, 30_000])
        .query(&mut send("1-1"))
        .unwrap();
    assert_eq!(replicas, 1);
    servers[0].stop();
    wait_info(&servers[1], "replication", "role", "master");
    send("2-1");
    // Back, as a replica of the new master, by way of that one's proxy.
    servers[0].start();
    let port = ports[1].number().to_string();
    wait_info(&servers[0], "replication", "master_port", &port);
    wait_info(&servers[0], "replication", "master_link_status", "up");
    let stored = call(&mut servers[0].connect(), "XRANGE s - +");
    assert_eq!(stored.matches("traceparent").count(), 2, "{stored}");
    let _spans = collector.wait_for(PATIENCE, |spans| {
        let sent = |id: &str| {
            let is = |span: &Span| span.name == "send s" && span.attr("messaging.message.id") == id;
            spans.iter().any(is)
        };
        sent("1-1") && sent("2-1")
    });
}

#[test]
fn a_sentinel_behind_a_proxy_says_what_it_says() {
    on_all(|kind| {
        let [master, replica] = pair(kind);
        let sentinels = Sentinel::three(kind, master.address());
        let proxy = Proxy::to_url(&format!("redis://{}", sentinels[0].address)).start();
        assert_eq!(master_of(proxy.address()).as_ref(), Some(master.address()));
        let mut direct = Client::connect(&sentinels[0].address);
        let mut through = proxy.connect();
        for command in [
            "SENTINEL GET-MASTER-ADDR-BY-NAME m",
            "SENTINEL CKQUORUM m",
            "ROLE",
            "GET no",
            "PING",
        ] {
            assert_eq!(
                call(&mut through, command),
                call(&mut direct, command),
                "{command}"
            );
        }
        // RESP2, and with pushes.
        let mut listeners = [proxy.connect(), proxy.connect()];
        listeners[1].send("HELLO 3\r\n");
        listeners[1].reply();
        for listener in &mut listeners {
            listener.send("SUBSCRIBE +switch-master\r\n");
            listener.reply();
        }
        assert_eq!(call(&mut through, "SENTINEL FAILOVER m"), "+OK\r\n");
        let [old, new] =
            [&master, &replica].map(|server| host_and_port(&server.address().to_string()));
        for (mut listener, kind) in listeners.into_iter().zip(['*', '>']) {
            let said = String::from_utf8(listener.reply()).unwrap();
            let switch = format!("m {old} {new}");
            let expected = format!(
                "{kind}3\r\n$7\r\nmessage\r\n$14\r\n+switch-master\r\n${}\r\n{switch}\r\n",
                switch.len()
            );
            assert_eq!(said, expected);
        }
        let mut client = SentinelClient::build(
            vec![format!("redis://{}", proxy.address())],
            "m".to_owned(),
            None,
            SentinelServerType::Master,
        )
        .unwrap();
        // This library does not take a master's word that has just become one.
        let mut connection = wait::until("a connection to the master", PATIENCE, || {
            client.get_connection().ok()
        });
        let role: redis::Value = redis::cmd("ROLE").query(&mut connection).unwrap();
        assert!(format!("{role:?}").contains("master"), "{role:?}");
        assert_eq!(
            proxy.metric("tars_proxy_commands_total", &[("family", "pubsub")]),
            2.0
        );
    });
}
