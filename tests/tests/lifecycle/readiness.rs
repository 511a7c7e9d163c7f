//! Readiness follows the server: gone, frozen, and back but not yet of use.

use tars_tests::chopper::Chopper;
use tars_tests::proxy::Proxy;
use tars_tests::server::{Kind, Server};
use tars_tests::wait::{self, PATIENCE};

#[track_caller]
fn wait_reason(proxy: &Proxy, reason: &str) {
    let mut last = String::new();
    wait::poll(PATIENCE, || {
        last = proxy.get("/ready").body;
        last.contains(reason).then_some(())
    });
    assert!(last.contains(reason), "{reason} in {last}");
}

#[test]
fn a_frozen_server_is_noticed_without_clients() {
    let mut server = Server::redis70();
    let mut proxy = Proxy::to(&server).start();
    server.pause();
    wait_reason(&proxy, r#""reason":"no answer to PING within 2 s""#);
    proxy.wait_log("server does not serve; its clients wait, or are told so by it, until it does");
    server.resume();
    proxy.wait_ready();
    proxy.wait_log("server is reachable again");
}

#[test]
fn a_balancer_with_nothing_behind_it_is_not_ready() {
    let mut server = Server::redis82();
    let balancer = Chopper::before(server.address());
    let mut proxy = Proxy::to_url(&balancer.url()).start();
    server.stop();
    proxy.wait_unready();
    server.start();
    proxy.wait_ready();
}

/// Those who wait go on waiting, as they would without a proxy, and are answered in the end.
#[test]
fn and_with_clients_that_wait_for_it() {
    let mut server = Server::valkey();
    let mut proxy = Proxy::to(&server).start();
    let mut client = proxy.connect();
    assert_eq!(client.call(&["PING"]), "+PONG\r\n");
    server.pause();
    client.command(&["PING", "patience"]);
    wait_reason(&proxy, r#""reason":"no sign of life within 2 s""#);
    let mut late = proxy.connect();
    late.command(&["PING", "late"]);
    // A connection can be made, and that is not enough.
    assert_eq!(proxy.get("/ready").status, 503);
    server.resume();
    assert_eq!(client.reply(), b"$8\r\npatience\r\n");
    assert_eq!(late.reply(), b"$4\r\nlate\r\n");
    proxy.wait_ready();
}

#[test]
fn nothing_is_asked_of_a_server_that_clients_are_connected_to() {
    let server = Server::redis82();
    let mut proxy = Proxy::to(&server).start();
    let (mut client, mut monitor) = (proxy.connect(), server.connect());
    assert_eq!(
        client.call(&["ECHO", "first-word"]),
        "$10\r\nfirst-word\r\n"
    );
    assert_eq!(monitor.call(&["MONITOR"]), "+OK\r\n");
    let connections = || {
        let stats = server.connect().call(&["INFO", "stats"]);
        let line = stats.split("total_connections_received:").nth(1).unwrap();
        line.split('\r').next().unwrap().parse::<u64>().unwrap()
    };
    // Looked at some times by the proxy, and each time by this test.
    let (before, mut asked) = (connections(), 0);
    wait::until("a look of the proxy", PATIENCE, || {
        asked += 1;
        (connections() > before + asked + 1).then_some(())
    });
    assert_eq!(proxy.get("/ready").status, 200);
    server.connect().call(&["ECHO", "last-word"]);
    let seen = monitor.read_until_ends_with(b"\"last-word\"\r\n");
    let seen = String::from_utf8_lossy(&seen);
    assert!(!seen.to_lowercase().contains("ping"), "{seen}");
    proxy.wait_ready();
}

#[test]
fn a_server_that_is_loading_its_data_is_not_ready() {
    std::thread::scope(|scope| {
        for kind in Kind::ALL {
            scope.spawn(move || loading(kind));
        }
    });
}

fn loading(kind: Kind) {
    // A millisecond a key, and a look at connections every KiB.
    let mut server = Server::builder(kind)
        .args(["--key-load-delay", "1000", "--rdbcompression", "no"])
        .args(["--loading-process-events-interval-bytes", "1024"])
        .start();
    let mut proxy = Proxy::to(&server).start();
    let mut client = proxy.connect();
    let fill = "for i=1,4000 do redis.call('set',i,string.rep('x',100)) end";
    client.call(&["EVAL", fill, "0"]);
    assert_eq!(client.call(&["SAVE"]), "+OK\r\n");
    server.stop();
    // Noticed at once, by way of a client.
    proxy.connect().read_until_closed();
    proxy.wait_unready();
    std::thread::scope(|scope| {
        let restarted = scope.spawn(|| server.start());
        wait_reason(&proxy, r#""reason":"the server is loading its data""#);
        // Who asks is told by the server itself.
        let told = proxy.connect().call(&["GET", "1"]);
        assert!(told.starts_with("-LOADING"), "{kind}: {told}");
        assert_eq!(proxy.get("/ready").status, 503);
        restarted.join().unwrap();
    });
    proxy.wait_ready();
    assert_eq!(proxy.connect().call(&["DBSIZE"]), ":4000\r\n");
    let log = proxy.stderr();
    assert_eq!(log.matches(" WARN ").count(), 1, "{log}");
}
