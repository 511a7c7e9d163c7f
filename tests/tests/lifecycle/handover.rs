//! A listening descriptor that outlives the proxy: restarts that no client notices.

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use tars_tests::address::Address;
use tars_tests::process::Signal;
use tars_tests::proxy::Proxy;
use tars_tests::resp::{Client, End};
use tars_tests::server::Server;
use tars_tests::wait;

const CONNECTIONS: usize = 2_000;
const CLIENTS: usize = 4;

/// Connects, is served, and closes; again and again until told to stop. Returns what went wrong.
fn come_and_go(addresses: &[Address], served: &AtomicUsize, stop: &AtomicBool) -> io::Result<()> {
    for address in addresses.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let mut client = Client::open(address, wait::PATIENCE)?;
        client.try_send(b"*1\r\n$4\r\nPING\r\n")?;
        let reply = client.try_reply()?;
        assert_eq!(reply, b"+PONG\r\n");
        served.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Restarts proxies on their sockets while clients come and go: with an overlap, and with a gap in which nobody accepts.
fn hand_over(addresses: &[Address], start: impl Fn() -> Proxy) {
    let (served, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let mut proxy = start();
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| scope.spawn(|| come_and_go(addresses, &served, &stop)))
            .collect();
        let served_more = || {
            let before = served.load(Ordering::Relaxed);
            wait::poll(wait::PATIENCE, || {
                let ended = clients.iter().any(thread::ScopedJoinHandle::is_finished);
                (ended || served.load(Ordering::Relaxed) > before + CONNECTIONS / 10).then_some(())
            });
        };
        for round in 0..6 {
            served_more();
            if round % 2 == 0 {
                let next = start();
                proxy.drain();
                proxy = next;
            } else {
                proxy.drain();
                proxy = start();
            }
        }
        wait::poll(wait::PATIENCE, || {
            let ended = clients.iter().any(thread::ScopedJoinHandle::is_finished);
            (ended || served.load(Ordering::Relaxed) >= CONNECTIONS).then_some(())
        });
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            let went_wrong = client.join().unwrap();
            assert!(went_wrong.is_ok(), "{went_wrong:?}");
        }
    });
    assert!(served.load(Ordering::Relaxed) >= CONNECTIONS);
}

#[test]
fn no_connection_is_refused_reset_or_unserved_while_a_tcp_socket_is_handed_over() {
    let server = Server::redis70();
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::Tcp(held.local_addr().unwrap().to_string());
    hand_over(std::slice::from_ref(&address), || {
        Proxy::to(&server)
            .listen(address.clone())
            .inherit(&held)
            .start()
    });
}

#[test]
fn nor_while_a_unix_socket_is() {
    let server = Server::valkey();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("listen.sock");
    let held = UnixListener::bind(&path).unwrap();
    let address = Address::Unix(path);
    hand_over(std::slice::from_ref(&address), || {
        Proxy::to(&server)
            .listen(address.clone())
            .inherit(&held)
            .start()
    });
}

#[test]
fn nor_while_several_are_each_with_its_server() {
    let servers = [Server::redis82(), Server::redis70()];
    for (server, name) in servers.iter().zip(["first", "second"]) {
        server.connect().call(&["SET", "name", name]);
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("listen.sock");
    let (tcp, unix) = (
        TcpListener::bind("127.0.0.1:0").unwrap(),
        UnixListener::bind(&path).unwrap(),
    );
    let addresses = [
        Address::Tcp(tcp.local_addr().unwrap().to_string()),
        Address::Unix(path),
    ];
    hand_over(&addresses, || {
        let proxy = Proxy::to(&servers[0])
            .listen(addresses[0].clone())
            .listener(addresses[1].clone(), &servers[1].url())
            .inherit(&tcp)
            .inherit(&unix)
            .start();
        for (address, name) in addresses
            .iter()
            .zip(["$5\r\nfirst\r\n", "$6\r\nsecond\r\n"])
        {
            assert_eq!(Client::connect(address).call(&["GET", "name"]), name);
        }
        proxy
    });
}

#[test]
fn a_socket_that_nobody_asks_for_is_told_of() {
    let server = Server::redis70();
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut proxy = Proxy::to(&server).inherit(&held).start();
    proxy.wait_log(&format!(
        "LISTEN_FDS brought a socket that no listener is configured for; nobody answers there address={}",
        held.local_addr().unwrap()
    ));
    assert_eq!(proxy.connect().call(&["PING"]), "+PONG\r\n");
}

#[test]
fn a_descriptor_that_is_no_socket_stops_the_start() {
    let server = Server::redis70();
    let file = tempfile::tempfile().unwrap();
    let mut proxy = Proxy::to(&server).inherit(&file).spawn();
    assert_eq!(proxy.wait_exit(wait::PATIENCE).code(), Some(64));
    assert_eq!(
        proxy.stderr(),
        "LISTEN_FDS: descriptor 3 is no stream socket, of TCP or Unix; hand over listening sockets alone\n"
    );
}

#[test]
fn a_drain_serves_the_first_command_of_a_client_that_has_just_connected() {
    let server = Server::redis70();
    let mut proxy = Proxy::to(&server).start();
    let (mut fresh, mut used, mut silent) = (proxy.connect(), proxy.connect(), proxy.connect());
    assert_eq!(used.call(&["PING"]), "+PONG\r\n");
    proxy.wait_metric("tars_proxy_connections", &[], |open| open == 3.0);
    proxy.signal(Signal::TERM);
    // Between commands: closed at once. The others are there still.
    assert_eq!(used.read_until_closed(), (Vec::new(), End::Closed));
    assert_eq!(fresh.call(&["PING"]), "+PONG\r\n");
    assert_eq!(fresh.read_until_closed(), (Vec::new(), End::Closed));
    assert_eq!(silent.read_until_closed(), (Vec::new(), End::Closed));
    drop((fresh, used, silent));
    assert!(proxy.wait_exit(wait::PATIENCE).success());
}
