//! Beside a mesh: its rules send everything that its proxy's user does not send to its proxy.
//!
//! The rules are those that `istio-iptables` and `linkerd2-proxy-init` write for outbound connections; in the place of the mesh's proxy
//! stands one that goes on to the original destination, as they do.

use std::io::Write as _;
use std::process::{Command, Stdio};

use tars_tests::address::Address;
use tars_tests::pod::{self, Pod};
use tars_tests::proxy::Proxy;
use tars_tests::server::Kind;

use crate::{Stage, redirect, strays};

const ISTIO: &str = "\
*nat
:ISTIO_OUTPUT - [0:0]
:ISTIO_REDIRECT - [0:0]
:ISTIO_IN_REDIRECT - [0:0]
-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001
-A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006
-A OUTPUT -j ISTIO_OUTPUT
-A ISTIO_OUTPUT -s 127.0.0.6/32 -o lo -j RETURN
-A ISTIO_OUTPUT ! -d 127.0.0.1/32 -o lo -p tcp -m tcp ! --dport 15008 -m owner --uid-owner 1337 -j ISTIO_IN_REDIRECT
-A ISTIO_OUTPUT -o lo -m owner ! --uid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -m owner --uid-owner 1337 -j RETURN
-A ISTIO_OUTPUT ! -d 127.0.0.1/32 -o lo -p tcp -m tcp ! --dport 15008 -m owner --gid-owner 1337 -j ISTIO_IN_REDIRECT
-A ISTIO_OUTPUT -o lo -m owner ! --gid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -m owner --gid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -d 127.0.0.1/32 -j RETURN
-A ISTIO_OUTPUT -j ISTIO_REDIRECT
COMMIT
";

const LINKERD: &str = "\
*nat
:PROXY_INIT_OUTPUT - [0:0]
-A OUTPUT -m comment --comment \"proxy-init/install-proxy-init-output\" -j PROXY_INIT_OUTPUT
-A PROXY_INIT_OUTPUT -m owner --uid-owner 2102 -m comment --comment \"proxy-init/ignore-proxy-user-id\" -j RETURN
-A PROXY_INIT_OUTPUT -o lo -m comment --comment \"proxy-init/ignore-loopback\" -j RETURN
-A PROXY_INIT_OUTPUT -p tcp -m multiport --dports 4567,4568 -m comment --comment \"proxy-init/ignore-port-4567,4568\" -j RETURN
-A PROXY_INIT_OUTPUT -p tcp -m comment --comment \"proxy-init/redirect-all-outgoing-to-proxy-port\" -j REDIRECT --to-ports 4140
COMMIT
";

fn restore(program: &str, rules: &str) {
    let mut child = Command::new(program)
        .arg("--noflush")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    child
        .stdin
        .take()
        .unwrap()
        .write_all(rules.as_bytes())
        .unwrap();
    assert!(child.wait().unwrap().success(), "{program}");
}

/// The mesh's proxy: it knows nothing of Redis.
fn mesh_proxy(uid: u32, port: u16) -> Proxy {
    Proxy::to_url("original")
        .listen(Address::Tcp(format!("127.0.0.1:{port}")))
        .user(uid)
        .args(["--no-trace"])
        .start()
}

fn is_traced_through_both(pod: &Pod, mesh: &Proxy, stage: &Stage) {
    let node = pod.server(Kind::Redis70, "10.44.0.11:6379", &[]);
    let other = pod.server(Kind::Redis70, "10.44.0.12:7000", &[]);
    let connections = |proxy: &Proxy| proxy.metric("tars_proxy_connections_total", &[]);

    let mut client = node.connect();
    assert_eq!(
        client.call(&["XADD", "orders", "1-1", "item", "1"]),
        "$3\r\n1-1\r\n"
    );
    assert_eq!(stage.spans(1)[0].attr("server.address"), "10.44.0.11");
    assert_eq!((connections(&stage.proxy), connections(mesh)), (1.0, 1.0));

    // What is not redirected here is the mesh's alone.
    assert_eq!(other.connect().call(&["PING"]), "+PONG\r\n");
    assert_eq!((connections(&stage.proxy), connections(mesh)), (1.0, 2.0));
    for proxy in [&stage.proxy, mesh] {
        assert_eq!(strays(proxy, "own_connection"), 0.0);
        assert_eq!(strays(proxy, "not_redirected"), 0.0);
    }
}

#[test]
fn istio_whose_rules_were_there_before() {
    pod::run("mesh::istio_whose_rules_were_there_before", |pod| {
        restore("iptables-nft-restore", ISTIO);
        let (mesh, stage) = (mesh_proxy(1337, 15001), Stage::new());
        redirect("6379");
        is_traced_through_both(pod, &mesh, &stage);
    });
}

#[test]
fn istio_whose_rules_come_later() {
    pod::run("mesh::istio_whose_rules_come_later", |pod| {
        let (mesh, stage) = (mesh_proxy(1337, 15001), Stage::new());
        redirect("6379");
        restore("iptables-nft-restore", ISTIO);
        is_traced_through_both(pod, &mesh, &stage);
    });
}

#[test]
fn linkerd_whose_rules_were_there_before() {
    pod::run("mesh::linkerd_whose_rules_were_there_before", |pod| {
        restore("iptables-legacy-restore", LINKERD);
        let (mesh, stage) = (mesh_proxy(2102, 4140), Stage::new());
        redirect("6379");
        is_traced_through_both(pod, &mesh, &stage);
    });
}

#[test]
fn linkerd_whose_rules_come_later() {
    pod::run("mesh::linkerd_whose_rules_come_later", |pod| {
        let (mesh, stage) = (mesh_proxy(2102, 4140), Stage::new());
        redirect("6379");
        restore("iptables-legacy-restore", LINKERD);
        is_traced_through_both(pod, &mesh, &stage);
    });
}
