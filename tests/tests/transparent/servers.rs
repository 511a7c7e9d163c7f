//! Several servers at addresses of their own, over IPv4 and IPv6.

use std::net::{TcpListener, TcpStream};

use redis::streams::StreamReadReply;
use redis::{Commands as _, Connection};
use tars_tests::address::Address;
use tars_tests::otlp::{Span, SpanKind};
use tars_tests::pod::{self, Node, PROXY_UID, intercept, run_program};
use tars_tests::port::Port;
use tars_tests::server::Kind;

use crate::{Stage, original, redirect};

fn connect(node: &Node) -> Connection {
    redis::Client::open(node.url())
        .unwrap()
        .get_connection()
        .unwrap()
}

/// Sends a message of this ID and reads it in a group: nothing that an application without a proxy would not do.
fn send_and_read(connection: &mut Connection, id: &str) {
    let sent: String = connection.xadd("orders", id, &[("item", "1")]).unwrap();
    assert_eq!(sent, id);
    let _: () = connection.xgroup_create("orders", "billing", "0").unwrap();
    let read: StreamReadReply = redis::cmd("XREADGROUP")
        .arg(&["GROUP", "billing", "a", "STREAMS", "orders", ">"])
        .query(connection)
        .unwrap();
    assert_eq!(read.keys[0].ids[0].id, id);
}

#[track_caller]
fn assert_linked(spans: &[Span], server: &str, port: u16) {
    let of = |kind| {
        let mut found = spans
            .iter()
            .filter(|span| span.kind == kind && span.attr("server.address") == server);
        let first = found.next();
        assert!(found.next().is_none(), "{kind:?} of {server}: {spans:#?}");
        first.unwrap_or_else(|| panic!("no {kind:?} of {server}: {spans:#?}"))
    };
    let (send, process) = (of(SpanKind::Producer), of(SpanKind::Consumer));
    assert!(process.is_child_of(send), "{send:#?} {process:#?}");
    assert_eq!(process.attr("server.port"), port);
}

#[test]
fn each_server_is_itself() {
    pod::run("servers::each_server_is_itself", |pod| {
        let one = pod.server(Kind::Redis70, "10.44.0.11:6379", &[]);
        let two = pod.server(Kind::Valkey, "10.44.0.12:7000", &[]);
        let stage = Stage::new();
        redirect("6379,7000");

        // The same stream, group and ID on both: what is acknowledged on one is not on the other.
        let (mut to_one, mut to_two) = (connect(&one), connect(&two));
        send_and_read(&mut to_one, "1-1");
        send_and_read(&mut to_two, "1-1");
        let open = || stage.proxy.metric("tars_proxy_deliveries", &[]);
        assert_eq!(open(), 2.0);
        let _: () = to_two.xack("orders", "billing", &["1-1"]).unwrap();
        assert_eq!(open(), 1.0);
        // On another connection to the same server.
        let _: () = connect(&one).xack("orders", "billing", &["1-1"]).unwrap();
        assert_eq!(open(), 0.0);

        let spans = stage.spans(4);
        assert_linked(&spans, "10.44.0.11", 6379);
        assert_linked(&spans, "10.44.0.12", 7000);
        let known = stage.proxy.metric("tars_proxy_original_destinations", &[]);
        assert_eq!(known, 2.0);
    });
}

#[test]
fn one_server_under_two_addresses() {
    pod::run("servers::one_server_under_two_addresses", |pod| {
        let both = ["--bind", "10.44.0.11", "10.44.0.12"];
        let node = pod.server(Kind::Redis70, "10.44.0.11:6379", &both);
        let stage = Stage::new();
        redirect("6379");
        send_and_read(&mut connect(&node), "1-1");
        let open = || stage.proxy.metric("tars_proxy_deliveries", &[]);
        let other = redis::Client::open("redis://10.44.0.12").unwrap();
        let acknowledged: u32 = (other.get_connection().unwrap())
            .xack("orders", "billing", &["1-1"])
            .unwrap();
        assert_eq!((acknowledged, open()), (1, 1.0));
    });
}

#[test]
fn one_server_by_name_and_by_redirection() {
    pod::run("servers::one_server_by_name_and_by_redirection", |pod| {
        let node = pod.server(Kind::Redis70, "10.44.0.11:6379", &[]);
        let by_name = Port::claim();
        // It takes no name service to look this one up: inet_aton(3) has it for 10.44.0.11.
        let proxy = original()
            .listener(Address::Tcp(by_name.addr()), "redis://10.44.11:6379")
            .user(PROXY_UID)
            .start();
        redirect("6379");
        send_and_read(&mut connect(&node), "1-1");
        let open = || proxy.metric("tars_proxy_deliveries", &[]);
        let named = redis::Client::open(format!("redis://{}", by_name.addr())).unwrap();
        let acknowledged: u32 = (named.get_connection().unwrap())
            .xack("orders", "billing", &["1-1"])
            .unwrap();
        assert_eq!((acknowledged, open()), (1, 1.0));
    });
}

#[test]
fn connections_that_are_open_already() {
    pod::run("servers::connections_that_are_open_already", |pod| {
        let node = pod.server(Kind::Redis70, "10.44.0.11:6379", &[]);
        let stage = Stage::new();
        let mut open = node.connect();
        assert_eq!(open.call(&["PING"]), "+PONG\r\n");
        redirect("6379");
        assert_eq!(
            open.call(&["XADD", "orders", "1-1", "a", "b"]),
            "$3\r\n1-1\r\n"
        );
        let connections = || stage.proxy.metric("tars_proxy_connections_total", &[]);
        assert_eq!(connections(), 0.0);
        let mut redirected = node.connect();
        assert_eq!(redirected.call(&["XLEN", "orders"]), ":1\r\n");
        assert_eq!(connections(), 1.0);
        // Nor does a change of the rules touch one that was redirected.
        redirect("7000");
        assert_eq!(redirected.call(&["XLEN", "orders"]), ":1\r\n");
        assert_eq!(open.call(&["XLEN", "orders"]), ":1\r\n");
        assert_eq!(connections(), 1.0);
        assert!(intercept("--remove").status.success());
        // Without rules the kernel follows connections no more: what was redirected has no other end.
        redirected.command(&["XLEN", "orders"]);
        assert!(redirected.try_reply().is_err());
        assert_eq!(open.call(&["XLEN", "orders"]), ":1\r\n");
    });
}

#[test]
fn over_ipv6() {
    pod::run("servers::over_ipv6", |pod| {
        let node = pod.server(Kind::Redis82, "[fd44::11]:6379", &[]);
        let stage = Stage::new();
        redirect("6379");
        let mut connection = connect(&node);
        send_and_read(&mut connection, "1-1");
        let _: () = connection.xack("orders", "billing", &["1-1"]).unwrap();
        assert_linked(&stage.spans(2), "fd44::11", 6379);
    });
}

#[test]
fn a_server_in_the_pod_itself() {
    pod::run("servers::a_server_in_the_pod_itself", |_| {
        let server = tars_tests::server::Server::redis70();
        let port = server.address().to_string();
        let port = port.rsplit(':').next().unwrap();
        let stage = Stage::new();
        redirect(port);
        let mut connection = server.redis();
        send_and_read(&mut connection, "1-1");
        let _: () = connection.xack("orders", "billing", &["1-1"]).unwrap();
        assert_linked(&stage.spans(2), "127.0.0.1", port.parse().unwrap());
    });
}

/// Whether a connection from here arrives as it was made.
fn arrives_untouched(listener: &TcpListener) -> bool {
    let connection = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (_, peer) = listener.accept().unwrap();
    peer == connection.local_addr().unwrap()
}

#[test]
fn ports_that_are_not_named_are_left_alone() {
    pod::run("servers::ports_that_are_not_named_are_left_alone", |pod| {
        let [named, other] = [6379, 6380].map(|port| pod.listen(&format!("10.44.0.11:{port}")));
        let named_v6 = pod.listen("[fd44::11]:6379");
        let stage = Stage::new();
        assert!(arrives_untouched(&named), "nothing is redirected yet");
        redirect("6379");
        assert!(!arrives_untouched(&named) && !arrives_untouched(&named_v6));
        assert!(arrives_untouched(&other));
        stage
            .proxy
            .wait_metric("tars_proxy_connections_total", &[], |n| n == 2.0);
    });
}

#[test]
fn users_that_are_excepted_are_left_alone() {
    pod::run("servers::users_that_are_excepted_are_left_alone", |pod| {
        let _node = pod.server(Kind::Redis70, "10.44.0.11:6379", &[]);
        let stage = Stage::new();
        redirect("6379");
        let ping = |uid: &str| {
            let user = ["--reuid", uid, "--regid", uid, "--clear-groups", "--"];
            let client = ["redis-cli", "-h", "10.44.0.11", "PING"];
            let answer = run_program("setpriv", user.into_iter().chain(client));
            assert_eq!(answer.trim(), "PONG", "user {uid}");
            stage.proxy.metric("tars_proxy_connections_total", &[])
        };
        for uid in ["1337", "2102", "8277", "65532"] {
            assert_eq!(ping(uid), 0.0, "user {uid}");
        }
        assert_eq!(ping("1000"), 1.0);
    });
}
