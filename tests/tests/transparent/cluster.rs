//! A Cluster of three at addresses of their own, and a cluster client that knows nothing of a proxy.

use redis::Commands as _;
use redis::cluster::{ClusterClient, ClusterConnection};
use redis::streams::StreamReadReply;
use tars_tests::otlp::{Span, SpanKind};
use tars_tests::pod::{self, Node, Pod};
use tars_tests::resp::Client;
use tars_tests::server::Kind;
use tars_tests::wait::{self, PATIENCE};

use crate::{Stage, redirect};

const SLOTS: usize = 16_384;
/// Enough that every node has some.
const STREAMS: usize = 12;

struct Cluster {
    nodes: Vec<Node>,
    hosts: Vec<String>,
}

/// A command in words; what is told from its answer, without its type.
#[track_caller]
fn call(client: &mut Client, command: &str) -> String {
    let answer = client.call(&command.split(' ').collect::<Vec<_>>());
    assert!(!answer.starts_with('-'), "{command}: {answer}");
    answer
}

impl Cluster {
    /// Made before anything is redirected, as a Cluster is that was there before.
    #[track_caller]
    fn of(kind: Kind, pod: &Pod, host: impl Fn(usize) -> String) -> Self {
        let hosts: Vec<_> = (1..=3).map(host).collect();
        let node = |host: &String| {
            let address = match host.contains(':') {
                true => format!("[{host}]:6379"),
                false => format!("{host}:6379"),
            };
            let args = ["--cluster-enabled", "yes", "--cluster-announce-ip", host];
            pod.server(kind, &address, &args)
        };
        let nodes: Vec<_> = hosts.iter().map(node).collect();
        let cluster = Self { nodes, hosts };
        for (number, host) in cluster.hosts.iter().enumerate() {
            let first = number * SLOTS / 3;
            let last = (number + 1) * SLOTS / 3 - 1;
            cluster.ask(number, &format!("CLUSTER ADDSLOTSRANGE {first} {last}"));
            cluster.ask(0, &format!("CLUSTER MEET {host} 6379"));
        }
        wait::until("all nodes know all slots", PATIENCE, || {
            (0..3)
                .all(|number| {
                    let knows = cluster.ask(number, "CLUSTER SLOTS");
                    cluster
                        .ask(number, "CLUSTER INFO")
                        .contains("cluster_state:ok")
                        && cluster
                            .hosts
                            .iter()
                            .all(|host| knows.contains(host.as_str()))
                })
                .then_some(())
        });
        cluster
    }

    fn ask(&self, node: usize, command: &str) -> String {
        call(&mut self.nodes[node].connect(), command)
    }

    fn id(&self, node: usize) -> String {
        let answer = self.ask(node, "CLUSTER MYID");
        answer.lines().nth(1).unwrap().trim().to_owned()
    }

    /// Knows one address to begin with.
    fn client(&self) -> ClusterConnection {
        let client = ClusterClient::new([self.nodes[0].url()]).unwrap();
        client.get_connection().unwrap()
    }

    /// A slot without keys goes to another node.
    fn move_slot(&self, slot: usize, from: usize, to: usize) {
        let (from_id, to_id) = (self.id(from), self.id(to));
        self.ask(to, &format!("CLUSTER SETSLOT {slot} IMPORTING {from_id}"));
        self.ask(from, &format!("CLUSTER SETSLOT {slot} MIGRATING {to_id}"));
        // The third, too: a client that asks it must not be sent back.
        for node in [to, from, 3 - from - to] {
            self.ask(node, &format!("CLUSTER SETSLOT {slot} NODE {to_id}"));
        }
    }

    fn slot(&self, key: &str) -> usize {
        let answer = self.ask(0, &format!("CLUSTER KEYSLOT {key}"));
        answer.trim().trim_start_matches(':').parse().unwrap()
    }
}

fn send_and_process(client: &mut ClusterConnection, stream: &str) {
    let id: String = client.xadd(stream, "*", &[("item", "1")]).unwrap();
    let _: () = client.xgroup_create(stream, "billing", "0").unwrap();
    let read: StreamReadReply = redis::cmd("XREADGROUP")
        .arg(&["GROUP", "billing", "a", "STREAMS", stream, ">"])
        .query(client)
        .unwrap();
    assert_eq!(read.keys[0].ids[0].id, id);
    let acknowledged: u32 = client.xack(stream, "billing", &[id]).unwrap();
    assert_eq!(acknowledged, 1);
}

/// The spans of one stream, which went to this server: the one that sent, and its child that processed.
#[track_caller]
fn assert_linked(spans: &[Span], stream: &str, host: &str) {
    let of = |kind| {
        let is = |span: &&Span| {
            span.kind == kind
                && span.attr("messaging.destination.name") == stream
                && span.attr("error.type").is_null()
        };
        let found: Vec<_> = spans.iter().filter(is).collect();
        let [span] = found[..] else {
            panic!("{kind:?} of {stream}: {found:#?}");
        };
        assert_eq!(span.attr("server.address"), host, "{stream}");
        span
    };
    let (send, process) = (of(SpanKind::Producer), of(SpanKind::Consumer));
    assert!(process.is_child_of(send), "{send:#?} {process:#?}");
}

fn a_cluster_client_is_traced(pod: &Pod, kind: Kind, host: impl Fn(usize) -> String) {
    let cluster = Cluster::of(kind, pod, host);
    let stage = Stage::new();
    redirect("6379");
    let mut client = cluster.client();
    let streams: Vec<_> = (0..STREAMS)
        .map(|number| format!("orders:{number}"))
        .collect();
    for stream in &streams {
        send_and_process(&mut client, stream);
    }
    let owner = |slot: usize| (0..3).find(|node| slot < (node + 1) * SLOTS / 3).unwrap();
    let owners: Vec<_> = streams
        .iter()
        .map(|stream| owner(cluster.slot(stream)))
        .collect();
    assert!((0..3).all(|node| owners.contains(&node)), "{owners:?}");
    let spans = stage.spans(2 * STREAMS);
    for (stream, owner) in streams.iter().zip(owners) {
        assert_linked(&spans, stream, &cluster.hosts[owner]);
    }

    // A slot moves behind the client's back: it is told MOVED, by the proxy's server and through the proxy, and follows.
    let slot = cluster.slot("moving");
    let (from, to) = (owner(slot), (owner(slot) + 1) % 3);
    cluster.move_slot(slot, from, to);
    send_and_process(&mut client, "moving");
    let spans = stage.spans(2 * STREAMS + 3);
    assert_linked(&spans, "moving", &cluster.hosts[to]);
    let refused: Vec<_> = spans
        .iter()
        .filter(|span| span.attr("error.type") == "MOVED")
        .collect();
    assert_eq!(refused.len(), 1, "{spans:#?}");
    assert_eq!(
        refused[0].attr("server.address"),
        cluster.hosts[from].as_str()
    );
    assert_eq!(stage.strays("own_connection"), 0.0);
    assert_eq!(stage.strays("not_redirected"), 0.0);
}

#[test]
fn a_client_follows_moved() {
    pod::run("cluster::a_client_follows_moved", |pod| {
        a_cluster_client_is_traced(pod, Kind::Redis82, |number| format!("10.44.0.1{number}"));
    });
}

#[test]
fn a_client_follows_moved_over_ipv6() {
    pod::run("cluster::a_client_follows_moved_over_ipv6", |pod| {
        a_cluster_client_is_traced(pod, Kind::Valkey, |number| format!("fd44::1{number}"));
    });
}
