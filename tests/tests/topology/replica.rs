//! A replica that follows its master through a proxy: its connection is a raw relay, and what it gets is what the master has.

use tars_tests::proxy::Proxy;
use tars_tests::server::{Kind, Server};
use tars_tests::wait::{self, PATIENCE};

use crate::{call, host_and_port, info, wait_info};

/// Larger than what is read at once, and than the kernel holds.
const LARGE: usize = 8 << 20;

fn master(kind: Kind) -> tars_tests::server::Builder {
    // A replica that asks for a diskless transfer is not kept waiting for others.
    Server::builder(kind).args(["--repl-diskless-sync-delay", "0"])
}

#[track_caller]
fn follow(replica: &Server, proxy: &Proxy) {
    let address = host_and_port(&proxy.address().to_string());
    let answer = call(&mut replica.connect(), &format!("REPLICAOF {address}"));
    assert_eq!(answer, "+OK\r\n");
    wait_info(replica, "replication", "master_link_status", "up");
}

fn digest(server: &Server) -> String {
    call(&mut server.connect(), "DEBUG DIGEST")
}

/// The replica has all that the master has.
#[track_caller]
fn assert_same(master: &Server, replica: &Server) {
    let mut last = (String::new(), String::new());
    wait::poll(PATIENCE, || {
        // Each time anew: a key that has expired is there until somebody looks.
        last = (digest(master), digest(replica));
        (last.0 == last.1).then_some(())
    });
    assert_eq!(last.0, last.1, "{}", master.kind());
}

/// Writes of many kinds, among them one that gets a context.
#[track_caller]
fn write(proxy: &Proxy, round: usize) {
    let mut client = proxy.connect();
    for command in [
        format!("XADD s {round}-1 f v"),
        format!("SET text {round}"),
        "MULTI".to_owned(),
        format!("XADD s {round}-2 f v"),
        "INCR number".to_owned(),
        "EXEC".to_owned(),
        "EVAL redis.call('xadd',KEYS[1],'*','in','script') 1 scripted".to_owned(),
        "SET passing 1 PX 1".to_owned(),
        "SELECT 3".to_owned(),
        format!("XADD s {round}-1 f v"),
    ] {
        let answer = call(&mut client, &command);
        assert!(!answer.starts_with('-'), "{command}: {answer}");
    }
    // All of this has arrived before this returns.
    assert_eq!(call(&mut client, "WAIT 1 30000"), ":1\r\n");
}

#[track_caller]
fn assert_injected(replica: &Server, round: usize) {
    for (database, id) in [(0, 1), (0, 2), (3, 1)] {
        let mut client = replica.connect();
        call(&mut client, &format!("SELECT {database}"));
        let entry = call(&mut client, &format!("XRANGE s {round}-{id} {round}-{id}"));
        assert!(
            entry.contains("$11\r\ntraceparent\r\n$55\r\n00-"),
            "{entry}"
        );
    }
}

fn full_sync(kind: Kind, of_master: &[&str], of_replica: &[&str], connections: f64) {
    let master = master(kind).args(of_master.to_vec()).start();
    let replica = Server::builder(kind).args(of_replica.to_vec()).start();
    let proxy = Proxy::to(&master).start();
    let mut client = proxy.connect();
    let large = "v".repeat(LARGE);
    assert_eq!(client.call(&["SET", "large", &large]), "+OK\r\n");
    assert_eq!(call(&mut client, "XADD early 1-1 f v"), "$3\r\n1-1\r\n");
    follow(&replica, &proxy);
    assert_same(&master, &replica);
    let early = call(&mut replica.connect(), "XRANGE early - +");
    assert!(early.contains("traceparent"), "{early}");

    for round in 1..4 {
        write(&proxy, round);
        assert_injected(&replica, round);
    }
    assert_eq!(client.call(&["SET", "again", &large]), "+OK\r\n");
    assert_eq!(call(&mut client, "WAIT 1 30000"), ":1\r\n");
    assert_same(&master, &replica);
    assert_eq!(info(&master, "stats", "sync_full"), "1");
    let labels = &[("reason", "replication")];
    let raw = proxy.metric("tars_proxy_raw_relays_total", labels);
    assert_eq!(raw, connections, "{kind}: connections of the replica");
}

#[test]
fn full_sync_from_disk() {
    for kind in Kind::ALL {
        full_sync(kind, &["--repl-diskless-sync", "no"], &[], 1.0);
    }
}

#[test]
fn full_sync_without_disk() {
    for kind in Kind::ALL {
        let mut of_replica = vec!["--repl-diskless-load", "swapdb"];
        if kind == Kind::Redis82 {
            of_replica.extend(["--repl-rdb-channel", "no"]);
        }
        full_sync(kind, &["--repl-diskless-sync", "yes"], &of_replica, 1.0);
    }
}

/// The snapshot comes over a connection of its own, which the replica makes to the same address.
#[test]
fn full_sync_over_two_connections() {
    for (kind, setting) in [
        (Kind::Valkey, "--dual-channel-replication-enabled"),
        (Kind::Redis82, "--repl-rdb-channel"),
    ] {
        let args = [setting, "yes", "--repl-diskless-sync", "yes"];
        full_sync(kind, &args, &[setting, "yes"], 2.0);
    }
}

#[test]
fn a_link_that_was_cut_goes_on_where_it_ended() {
    for kind in Kind::ALL {
        let (master, replica) = (master(kind).start(), Server::of(kind));
        let mut proxy = Proxy::to(&master).start();
        follow(&replica, &proxy);
        write(&proxy, 1);

        // Cut at the master, and by the end of the proxy.
        assert_eq!(
            call(&mut master.connect(), "CLIENT KILL TYPE replica"),
            ":1\r\n"
        );
        let written = call(&mut proxy.connect(), "XADD s 2-0 f meanwhile");
        assert_eq!(written, "$3\r\n2-0\r\n");
        wait_info(&master, "stats", "sync_partial_ok", "1");
        write(&proxy, 3);
        proxy.kill();
        wait_info(&replica, "replication", "master_link_status", "down");
        call(&mut master.connect(), "XADD s 4-0 f meanwhile");
        proxy.start_again();
        wait_info(&master, "stats", "sync_partial_ok", "2");
        write(&proxy, 5);

        assert_same(&master, &replica);
        assert_injected(&replica, 5);
        assert_eq!(info(&master, "stats", "sync_full"), "1", "{kind}");
    }
}

/// On a connection that has the password.
#[track_caller]
fn ask(server: &Server, command: &str) -> String {
    let mut client = server.connect();
    assert_eq!(call(&mut client, "AUTH secret"), "+OK\r\n");
    call(&mut client, command)
}

#[track_caller]
fn wait_answer(server: &Server, command: &str, part: &str) {
    let mut last = String::new();
    wait::poll(PATIENCE, || {
        last = ask(server, command);
        last.contains(part).then_some(())
    });
    assert!(last.contains(part), "{part} in {last}");
}

#[test]
fn a_chain_of_replicas_behind_a_password_and_what_each_says_of_the_other() {
    for kind in Kind::ALL {
        // Each connects from an address of its own, as a machine does.
        let start = |from: &str, more: &[&str]| {
            let locked = ["--requirepass", "secret", "--masterauth", "secret"];
            let redis = master(kind).args(locked).args(more.to_vec());
            redis.args(["--bind-source-addr", from]).start()
        };
        let first = start("127.0.0.1", &[]);
        let middle = start("127.0.0.2", &[]);
        let last = start("127.0.0.3", &["--replica-announce-ip", "127.0.0.3"]);
        let proxies = [Proxy::to(&first).start(), Proxy::to(&middle).start()];
        for (replica, proxy) in [&middle, &last].into_iter().zip(&proxies) {
            let address = host_and_port(&proxy.address().to_string());
            assert_eq!(ask(replica, &format!("REPLICAOF {address}")), "+OK\r\n");
        }
        let mut client = proxies[0].connect();
        assert_eq!(call(&mut client, "AUTH secret"), "+OK\r\n");
        call(&mut client, "XADD s 1-1 f v");
        wait_answer(&last, "XRANGE s - +", "traceparent");

        // A replica is known by its own port, and by the address of the proxy, unless it announces one.
        for (server, replica, ip) in [
            (&first, &middle, "127.0.0.1"),
            (&middle, &last, "127.0.0.3"),
        ] {
            let port = replica.address().to_string().replace("127.0.0.1:", "");
            let known = format!("ip={ip},port={port},state=online");
            wait_answer(server, "INFO replication", &known);
        }
        // The master of a replica is the proxy.
        let proxy = proxies[0].address().to_string().replace("127.0.0.1:", "");
        let role = format!("$9\r\n127.0.0.1\r\n:{proxy}\r\n$9\r\nconnected\r\n");
        wait_answer(&middle, "ROLE", &role);
    }
}
