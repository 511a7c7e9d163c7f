//! The end of a proxy: who waits is told by a closed connection, at the deadline, and nobody in the midst of a reply.

use tars_tests::process::Signal;
use tars_tests::proxy::{Builder, Proxy};
use tars_tests::resp::{Client, End, pipeline};
use tars_tests::server::{Kind, Server};
use tars_tests::wait::{self, PATIENCE};

/// More than all buffers on the way hold.
const LARGE: usize = 64 << 20;

fn drained_in(proxy: Builder, deadline: &str) -> Proxy {
    proxy.args(["--drain-timeout", deadline]).start()
}

const LATE: &str = "drain_timeout is over";

#[test]
fn who_waits_is_served_until_the_deadline_and_then_told_by_a_closed_connection() {
    for kind in Kind::ALL {
        let server = Server::of(kind);
        let mut proxy = drained_in(Proxy::to(&server), "2s");
        let mut setup = proxy.connect();
        for command in [
            "XGROUP CREATE s g $ MKSTREAM",
            "XGROUP CREATE t g $ MKSTREAM",
        ] {
            assert_eq!(
                setup.call(&command.split(' ').collect::<Vec<_>>()),
                "+OK\r\n"
            );
        }
        drop(setup);
        let waiting = [
            "XREADGROUP GROUP g c BLOCK 0 STREAMS t >",
            "XREAD BLOCK 0 STREAMS t $",
            "BLPOP list 0",
            "WAIT 3 0",
        ];
        let mut served = proxy.connect();
        served.send(pipeline(&["XREADGROUP GROUP g c BLOCK 0 STREAMS s >"]));
        let mut waiting = waiting.map(|command| {
            let mut client = proxy.connect();
            client.send(pipeline(&[command]));
            client
        });
        proxy.wait_metric("tars_proxy_connections", &[], |open| open == 5.0);
        wait::until("all of them wait in the server", PATIENCE, || {
            let clients = server.connect().call(&["INFO", "clients"]);
            clients.contains("blocked_clients:5\r\n").then_some(())
        });

        proxy.signal(Signal::TERM);
        proxy.wait_log("draining");
        server.connect().call(&["XADD", "s", "1-1", "f", "v"]);
        let (got, end) = served.read_until_closed();
        assert!(got.starts_with(b"*1\r\n*2\r\n$1\r\ns\r\n"), "{kind}");
        assert_eq!(end, End::Closed);
        assert!(!proxy.stderr().contains(LATE), "{}", proxy.stderr());
        for client in &mut waiting {
            assert_eq!(client.read_until_closed(), (Vec::new(), End::Closed));
        }
        assert!(proxy.stderr().contains(LATE), "{}", proxy.stderr());
        drop((waiting, served));
        assert!(proxy.wait_exit(PATIENCE).success());
    }
}

#[test]
fn subscribers_hear_all_until_the_deadline_and_are_closed_between_two_messages() {
    let server = Server::valkey();
    let mut proxy = drained_in(Proxy::to(&server), "2s");
    let mut subscribers: Vec<_> = ["SUBSCRIBE c", "PSUBSCRIBE c*", "SSUBSCRIBE c"]
        .iter()
        .flat_map(|command| [("2", command), ("3", command)])
        .map(|(protocol, command)| {
            let mut client = proxy.connect();
            client.call(&["HELLO", protocol]);
            client.send(pipeline(&[command]));
            client.reply();
            client
        })
        .collect();
    // Each of many reads, and of more than the kernel holds.
    let message = "m".repeat(100_000);
    let publish = |message: &str| {
        for command in ["PUBLISH", "SPUBLISH"] {
            server.connect().call(&[command, "c", message]);
        }
    };
    proxy.signal(Signal::TERM);
    proxy.wait_log("draining");
    publish(&message);
    for subscriber in &mut subscribers {
        let heard = subscriber.reply();
        assert!(heard.ends_with(format!("{message}\r\n").as_bytes()));
    }
    // They read no more until the deadline has come, in the midst of messages.
    (0..100).for_each(|_| publish(&message));
    proxy.wait_log(LATE);
    let whole = format!("$100000\r\n{message}\r\n");
    for subscriber in &mut subscribers {
        let (heard, end) = subscriber.read_until_closed();
        assert_eq!(end, End::Closed);
        assert!(
            heard.is_empty() || heard.ends_with(whole.as_bytes()),
            "cut in a message"
        );
    }
    drop(subscribers);
    assert!(proxy.wait_exit(PATIENCE).success());
}

/// The reader begins to read only when the deadline has come.
fn in_the_midst_of_a_reply(configure: impl FnOnce(Builder) -> Builder) {
    let server = Server::redis82();
    let value = "v".repeat(LARGE);
    assert_eq!(server.connect().call(&["SET", "large", &value]), "+OK\r\n");
    let mut proxy = drained_in(configure(Proxy::to(&server)), "1s");
    let mut client = proxy.connect();
    client.send(pipeline(&["GET large"]));
    proxy.wait_metric("tars_proxy_bytes_total", &[("side", "server")], |n| n > 0.0);
    proxy.signal(Signal::TERM);
    proxy.wait_log(LATE);
    let (got, end) = client.read_until_closed();
    assert_eq!(got.len(), format!("${LARGE}\r\n").len() + LARGE + 2);
    assert_eq!(end, End::Closed);
    drop(client);
    assert!(proxy.wait_exit(PATIENCE).success());
}

#[test]
fn a_reply_under_way_at_the_deadline_is_not_cut() {
    in_the_midst_of_a_reply(|proxy| proxy);
}

#[test]
fn nor_where_replies_are_not_understood() {
    in_the_midst_of_a_reply(|proxy| proxy.args(["--no-trace"]));
}

#[test]
fn who_does_not_read_holds_nobody_up_for_ever() {
    let server = Server::redis70();
    let value = "v".repeat(LARGE);
    assert_eq!(server.connect().call(&["SET", "large", &value]), "+OK\r\n");
    let mut proxy = drained_in(Proxy::to(&server), "500ms");
    let mut client: Client = proxy.connect();
    client.send(pipeline(&["GET large"]));
    proxy.wait_metric("tars_proxy_bytes_total", &[("side", "server")], |n| n > 0.0);
    proxy.signal(Signal::TERM);
    assert!(proxy.wait_exit(PATIENCE).success());
    let said = "cutting what has not come to its end connections=1";
    assert!(proxy.stderr().contains(said), "{}", proxy.stderr());
    let (got, _) = client.read_until_closed();
    assert!(got.len() < LARGE);
}

/// When its connection is closed depends on who spoke last; it is at the deadline at the latest, as a replica never stops talking.
#[test]
fn a_replica_goes_on_with_the_next_proxy_where_it_ended() {
    let quick = ["--repl-diskless-sync-delay", "0"];
    let [master, replica] = [0, 1].map(|_| Server::builder(Kind::Valkey).args(quick).start());
    let mut proxy = drained_in(Proxy::to(&master), "1s");
    let stats = |name: &str| {
        let stats = master.connect().call(&["INFO", "stats"]);
        stats.contains(name)
    };
    let address = proxy.address().to_string();
    let (host, port) = address.split_once(':').unwrap();
    replica.connect().call(&["REPLICAOF", host, port]);
    let acknowledged = |proxy: &Proxy| {
        let mut client = proxy.connect();
        client.call(&["INCR", "n"]);
        assert_eq!(client.call(&["WAIT", "1", "25000"]), ":1\r\n");
    };
    acknowledged(&proxy);
    proxy.signal(Signal::TERM);
    master.connect().call(&["INCR", "n"]);
    assert!(proxy.wait_exit(PATIENCE).success());
    master.connect().call(&["INCR", "n"]);
    proxy.start_again();
    acknowledged(&proxy);
    assert!(stats("sync_full:1\r\n") && stats("sync_partial_ok:1\r\n"));
}
