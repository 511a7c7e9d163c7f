//! A Cluster of three masters, each behind a listener of its own: the nodes announce the proxies' addresses, and cluster clients follow
//! MOVED and ASK through them.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use redis::cluster::{ClusterClient, ClusterConnection};
use tars_tests::address::Address;
use tars_tests::otlp::{Collector, Span};
use tars_tests::port::Port;
use tars_tests::proxy::Proxy;
use tars_tests::resp::Client;
use tars_tests::server::{Kind, Server};
use tars_tests::wait::{self, PATIENCE};

use crate::{call, host_and_port, on_all};

const NODES: usize = 3;
/// Over all nodes.
const STREAMS: usize = 60;
const MESSAGES: usize = 5;

/// Declared in the order in which they end: who is killed has no one to reach.
struct Cluster {
    proxies: Vec<Proxy>,
    collector: Collector,
    nodes: Vec<Server>,
    /// Where the proxies listen, as the nodes announce it.
    announced: Vec<Port>,
    _bus: Vec<Port>,
}

impl Cluster {
    /// Three proxies, or one with three listeners.
    #[track_caller]
    fn of(kind: Kind, processes: usize) -> Self {
        let claim = || (0..NODES).map(|_| Port::claim()).collect::<Vec<_>>();
        let (announced, bus) = (claim(), claim());
        let nodes: Vec<_> = (0..NODES)
            .map(|node| {
                Server::builder(kind)
                    .args([
                        "--cluster-enabled",
                        "yes",
                        "--cluster-announce-ip",
                        "127.0.0.1",
                    ])
                    .args(["--cluster-port", &bus[node].number().to_string()])
                    .args([
                        "--cluster-announce-port",
                        &announced[node].number().to_string(),
                    ])
                    .start()
            })
            .collect();
        let collector = Collector::start();
        let listen = |node: usize| Address::Tcp(announced[node].addr());
        let proxies = if processes == 1 {
            let proxy = Proxy::to(&nodes[0]).listen(listen(0));
            let proxy = (1..NODES).fold(proxy, |proxy, node| {
                proxy.listener(listen(node), &nodes[node].url())
            });
            vec![proxy.otlp_grpc(&collector.grpc()).start()]
        } else {
            (0..NODES)
                .map(|node| {
                    let proxy = Proxy::to(&nodes[node]).listen(listen(node));
                    proxy.otlp_grpc(&collector.grpc()).start()
                })
                .collect()
        };
        let cluster = Self {
            proxies,
            collector,
            nodes,
            announced,
            _bus: bus,
        };
        cluster.meet();
        cluster
    }

    fn meet(&self) {
        for node in 0..NODES {
            let first = node * 16_384 / NODES;
            let last = (node + 1) * 16_384 / NODES - 1;
            self.ask(node, &format!("CLUSTER ADDSLOTSRANGE {first} {last}"));
            let address = host_and_port(&self.nodes[node].address().to_string());
            self.ask(
                0,
                &format!("CLUSTER MEET {address} {}", self._bus[node].number()),
            );
        }
        wait::until("all nodes know all", PATIENCE, || {
            (0..NODES)
                .all(|node| {
                    let knows = self.ask(node, "CLUSTER SLOTS");
                    self.ask(node, "CLUSTER INFO").contains("cluster_state:ok")
                        && self
                            .announced
                            .iter()
                            .all(|port| knows.contains(&format!(":{}\r\n", port.number())))
                })
                .then_some(())
        });
    }

    /// A command straight to a node.
    #[track_caller]
    fn ask(&self, node: usize, command: &str) -> String {
        let answer = call(&mut self.nodes[node].connect(), command);
        assert!(!answer.starts_with('-'), "{command}: {answer}");
        answer
    }

    fn id(&self, node: usize) -> String {
        bulk(&self.ask(node, "CLUSTER MYID"))
    }

    /// A client that knows one address to begin with.
    fn client(&self) -> ClusterConnection {
        let one = format!("redis://{}", self.announced[0].addr());
        let client = ClusterClient::new([one]).unwrap();
        client.get_connection().unwrap()
    }

    /// Whose a key is, as the first node tells.
    fn slot(&self, key: &str) -> usize {
        let slot = self.ask(0, &format!("CLUSTER KEYSLOT {key}"));
        slot.trim_matches(|c: char| !c.is_ascii_digit())
            .parse()
            .unwrap()
    }

    fn sum(&self, name: &str) -> f64 {
        self.proxies
            .iter()
            .map(|proxy| proxy.metric(name, &[]))
            .sum()
    }

    /// Every message was sent once, and each of its deliveries is linked.
    #[track_caller]
    fn wait_linked(&self, messages: &BTreeSet<(String, String)>) -> Vec<Span> {
        self.collector.wait_for(PATIENCE, |spans| {
            let of = |operation: &str| -> BTreeMap<(String, String), &Span> {
                let id = |span: &Span| {
                    let stream = span.name.strip_prefix(operation)?.to_owned();
                    Some((
                        stream,
                        span.attr("messaging.message.id").as_str()?.to_owned(),
                    ))
                };
                spans
                    .iter()
                    .filter_map(|span| Some((id(span)?, span)))
                    .collect()
            };
            let (sent, processed) = (of("send "), of("process "));
            messages.iter().all(|message| {
                let pair = (sent.get(message), processed.get(message));
                matches!(pair, (Some(sent), Some(processed)) if processed.is_child_of(sent))
            })
        })
    }

    /// Some client was sent to another node.
    #[track_caller]
    fn wait_told(&self, error: &str) {
        let told = |spans: &[Span]| spans.iter().any(|span| span.attr("error.type") == error);
        let _spans = self.collector.wait_for(PATIENCE, told);
    }
}

fn bulk(reply: &str) -> String {
    reply.split("\r\n").nth(1).unwrap().to_owned()
}

fn query<T: redis::FromRedisValue>(client: &mut ClusterConnection, command: &str) -> T {
    let mut words = command.split(' ');
    let mut redis = redis::cmd(words.next().unwrap());
    words.for_each(|word| {
        redis.arg(word);
    });
    redis
        .query(client)
        .unwrap_or_else(|e| panic!("{command}: {e}"))
}

/// Sends to a stream, and returns what was sent.
fn send(client: &mut ClusterConnection, stream: &str) -> (String, String) {
    (
        stream.to_owned(),
        query(client, &format!("XADD {stream} * f v")),
    )
}

/// Reads and acknowledges all that a group has not had yet.
fn consume(client: &mut ClusterConnection, stream: &str) -> usize {
    let read = format!("XREADGROUP GROUP g c COUNT 100 STREAMS {stream} >");
    let read: redis::streams::StreamReadReply = query(client, &read);
    let ids = read.keys.iter().flat_map(|key| &key.ids);
    let settled = ids.map(|entry| query::<usize>(client, &format!("XACK {stream} g {}", entry.id)));
    settled.sum()
}

fn traffic(kind: Kind, processes: usize) {
    let cluster = Cluster::of(kind, processes);
    let mut client = cluster.client();
    let mut messages = BTreeSet::new();
    for stream in (0..STREAMS).map(|number| format!("s{number}")) {
        query::<String>(&mut client, &format!("XGROUP CREATE {stream} g 0 MKSTREAM"));
        for _ in 0..MESSAGES {
            messages.insert(send(&mut client, &stream));
        }
        assert_eq!(consume(&mut client, &stream), MESSAGES);
    }
    // A client that knows nothing of slots is sent from one proxy to the next.
    for number in 0..10 {
        let done = Command::new("redis-cli")
            .args(["-c", "-p", &cluster.announced[0].number().to_string()])
            .args(["XADD", &format!("s{number}"), "*", "f", "v"])
            .output()
            .unwrap();
        let id = String::from_utf8(done.stdout).unwrap().trim().to_owned();
        messages.insert((format!("s{number}"), id));
        assert_eq!(consume(&mut client, &format!("s{number}")), 1, "{kind}");
    }
    let spans = cluster.wait_linked(&messages);
    // Of each node, under its own address.
    let servers: BTreeSet<String> = spans
        .iter()
        .filter(|span| span.name.starts_with("send "))
        .map(|span| format!("127.0.0.1:{}", span.attr("server.port")))
        .collect();
    let nodes: BTreeSet<String> = cluster
        .nodes
        .iter()
        .map(|node| node.address().to_string())
        .collect();
    assert_eq!(servers, nodes);
    assert_eq!(cluster.sum("tars_proxy_deliveries"), 0.0);
    cluster.wait_told("MOVED");
}

#[test]
fn a_cluster_client_is_linked_over_three_proxies() {
    on_all(|kind| traffic(kind, NODES));
}

#[test]
fn a_cluster_client_is_linked_over_one_proxy_with_three_listeners() {
    on_all(|kind| traffic(kind, 1));
}

#[test]
fn a_slot_moves_in_the_midst_of_its_messages() {
    on_all(|kind| {
        let cluster = Cluster::of(kind, NODES);
        let mut client = cluster.client();
        // Two keys of one slot, on the first node: of the one half is there, the other comes when the slot is on its way.
        let tag = (0..).map(|n| format!("{{t{n}}}"));
        let tag = tag
            .into_iter()
            .find(|tag| cluster.slot(tag) < 5_000)
            .unwrap();
        let (early, late, slot) = (
            format!("{tag}early"),
            format!("{tag}late"),
            cluster.slot(&tag),
        );
        let mut messages = BTreeSet::new();
        query::<String>(&mut client, &format!("XGROUP CREATE {early} g 0 MKSTREAM"));
        messages.insert(send(&mut client, &early));

        let read = format!("XREADGROUP GROUP g c STREAMS {early} >");
        let delivered: redis::streams::StreamReadReply = query(&mut client, &read);
        let delivered = delivered.keys[0].ids[0].id.clone();

        let [source, target] = [0, 1].map(|node| cluster.id(node));
        cluster.ask(1, &format!("CLUSTER SETSLOT {slot} IMPORTING {source}"));
        cluster.ask(0, &format!("CLUSTER SETSLOT {slot} MIGRATING {target}"));
        // What is there is served there, what is not is asked for at the other one.
        messages.insert(send(&mut client, &early));
        query::<String>(&mut client, &format!("XGROUP CREATE {late} g 0 MKSTREAM"));
        messages.insert(send(&mut client, &late));
        // As the nodes see each other: the dump goes through a proxy, too.
        let to = host_and_port(&cluster.announced[1].addr());
        cluster.ask(0, &format!("MIGRATE {to} {early} 0 5000"));
        messages.insert(send(&mut client, &early));
        for node in [1, 0, 2] {
            cluster.ask(node, &format!("CLUSTER SETSLOT {slot} NODE {target}"));
        }
        messages.insert(send(&mut client, &early));
        messages.insert(send(&mut client, &late));
        let consumed = consume(&mut client, &early) + consume(&mut client, &late);
        assert_eq!(consumed, messages.len() - 1);
        // Delivered by the one node, and settled at the other, of which the first one's listener knows nothing.
        let settled: usize = query(&mut client, &format!("XACK {early} g {delivered}"));
        assert_eq!((settled, cluster.sum("tars_proxy_deliveries")), (1, 1.0));
        messages.remove(&(early.clone(), delivered));
        cluster.wait_linked(&messages);
        for error in ["ASK", "MOVED"] {
            cluster.wait_told(error);
        }
        let stored = cluster.ask(1, &format!("XRANGE {early} - +"));
        assert_eq!(stored.matches("traceparent").count(), 4, "{stored}");
    });
}

/// Valkey moves a slot as a replica follows its master: by a stream of commands, over a connection to the address that is announced.
#[test]
fn a_slot_that_moves_as_a_whole_is_left_as_it_is() {
    let cluster = Cluster::of(Kind::Valkey, NODES);
    let key = (0..)
        .map(|n| format!("k{n}"))
        .find(|key| cluster.slot(key) < 5_000)
        .unwrap();
    let slot = cluster.slot(&key);
    // Sent past the proxy: without a context.
    for id in 1..=20 {
        cluster.ask(0, &format!("XADD {key} {id}-1 f v"));
    }
    let digest = cluster.ask(0, &format!("DEBUG DIGEST-VALUE {key}"));
    let target = cluster.id(1);
    cluster.ask(
        0,
        &format!("CLUSTER MIGRATESLOTS SLOTSRANGE {slot} {slot} NODE {target}"),
    );
    let mut at_target = cluster.nodes[1].connect();
    let mut last = String::new();
    wait::poll(PATIENCE, || {
        last = call(&mut at_target, &format!("DEBUG DIGEST-VALUE {key}"));
        let mine = call(&mut at_target, &format!("CLUSTER COUNTKEYSINSLOT {slot}"));
        (mine == ":1\r\n" && call(&mut at_target, &format!("XLEN {key}")) == ":20\r\n")
            .then_some(())
    });
    assert_eq!(last, digest);
    let told = [("reason", "replication")];
    assert_eq!(
        cluster.proxies[1].metric("tars_proxy_raw_relays_total", &told),
        1.0
    );
    let mut client = Client::connect(cluster.proxies[1].address());
    assert_eq!(call(&mut client, &format!("XLEN {key}")), ":20\r\n");
}
