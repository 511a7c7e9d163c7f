//! Telemetry never fails traffic, and the proxy loses nothing that a client was told is done.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tars_tests::otlp::Collector;
use tars_tests::port::Port;
use tars_tests::proxy::{Builder, Proxy};
use tars_tests::resp::{Client, encode};
use tars_tests::server::Server;
use tars_tests::wait;

const MESSAGES: usize = 5_000;
const PIPELINE: usize = 100;
/// Small, so that a collector that takes nothing is noticed.
const QUEUE: &str = "512";

fn send(client: &mut Client, count: usize) {
    let bytes = encode(&["XADD", "s", "*", "a", "1"]).repeat(PIPELINE);
    for _ in 0..count / PIPELINE {
        client.send(&bytes);
        assert!(
            client
                .replies(PIPELINE)
                .iter()
                .all(|id| id.starts_with(b"$"))
        );
    }
}

/// All messages pass, and every span is exported or counted as dropped.
fn traffic_flows(proxy: Builder) {
    let mut proxy = proxy
        .env("OTEL_BSP_MAX_QUEUE_SIZE", QUEUE)
        .args(["--drain-timeout", "3s"])
        .start();
    let mut client = proxy.connect();
    send(&mut client, MESSAGES);
    assert_eq!(client.call(&["XLEN", "s"]), format!(":{MESSAGES}\r\n"));
    proxy.wait_metric(
        "tars_proxy_spans_dropped_total",
        &[("reason", "queue_full")],
        |dropped| dropped > 0.0,
    );
    assert_eq!(
        proxy.metric("tars_proxy_spans_ended_total", &[]),
        MESSAGES as f64
    );
    assert_eq!(client.call(&["PING"]), "+PONG\r\n");
    drop(client);
    proxy.drain();
}

#[test]
fn an_absent_collector_costs_spans_and_nothing_else() {
    let (server, nobody) = (Server::redis70(), Port::claim());
    traffic_flows(Proxy::to(&server).otlp_grpc(&nobody.url()));
}

#[test]
fn a_slow_collector_costs_spans_and_nothing_else() {
    let (server, collector) = (Server::valkey(), Collector::slow(Duration::from_secs(60)));
    traffic_flows(Proxy::to(&server).otlp_http(&collector.http()));
}

#[test]
fn a_refusing_collector_costs_spans_and_nothing_else() {
    let (server, collector) = (Server::redis82(), Collector::refusing());
    let mut proxy = Proxy::to(&server).otlp_grpc(&collector.grpc()).start();
    let mut client = proxy.connect();
    send(&mut client, MESSAGES);
    assert_eq!(client.call(&["XLEN", "s"]), format!(":{MESSAGES}\r\n"));
    drop(client);
    proxy.drain();
    assert!(collector.refused() > 0);
    assert_eq!(collector.spans().len(), 0);
}

#[test]
fn a_restarted_server_gets_its_clients_back_and_traces_go_on() {
    let mut server = Server::redis70();
    let collector = Collector::start();
    let mut proxy = Proxy::to(&server).otlp_grpc(&collector.grpc()).start();
    let mut client = proxy.connect();
    assert!(client.call(&["XADD", "s", "*", "a", "1"]).starts_with('$'));
    server.restart();
    assert!(
        client
            .try_send(b"PING\r\n")
            .and_then(|()| client.try_reply())
            .is_err(),
        "the old connection is gone"
    );
    let mut client = wait::until("a connection through the proxy", wait::PATIENCE, || {
        let mut client = proxy.connect();
        client.try_send(b"PING\r\n").ok()?;
        client.try_reply().is_ok().then_some(client)
    });
    client.call(&["XGROUP", "CREATE", "s", "g", "0", "MKSTREAM"]);
    client.call(&["XADD", "s", "1-1", "a", "2"]);
    client.call(&["XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">"]);
    assert_eq!(client.call(&["XACK", "s", "g", "1-1"]), ":1\r\n");
    let _linked = collector.wait_for(wait::PATIENCE, |spans| {
        let of = |name: &str| spans.iter().find(|span| span.name == name && span.attributes["messaging.message.id"] == "1-1");
        matches!((of("send s"), of("process s")), (Some(send), Some(process)) if process.is_child_of(send))
    });
    proxy.wait_ready();
}

#[test]
fn readiness_follows_the_server_and_an_outage_is_logged_once() {
    let mut server = Server::valkey();
    let mut proxy = Proxy::to(&server).start();
    server.stop();
    proxy.wait_unready();
    for _ in 0..5 {
        let mut client = proxy.connect();
        let refused = client
            .try_send(b"PING\r\n")
            .and_then(|()| client.try_reply());
        assert!(refused.is_err(), "{refused:?}");
    }
    server.restart();
    proxy.wait_ready();
    let lines = |text: &str| {
        proxy
            .stderr()
            .lines()
            .filter(|line| line.contains(text))
            .count()
    };
    assert_eq!(
        (
            lines("server cannot be reached"),
            lines("server is reachable again")
        ),
        (1, 1),
        "{}",
        proxy.stderr()
    );
}

#[test]
fn a_client_that_does_not_look_at_its_socket_does_not_hide_that_the_server_is_gone() {
    let mut server = Server::redis70();
    let mut proxy = Proxy::to(&server).start();
    let mut client = proxy.connect();
    assert_eq!(client.call(&["PING"]), "+PONG\r\n");
    server.stop();
    proxy.wait_unready();
    drop(client);
}

#[test]
fn a_server_that_is_not_there_at_the_start_may_come_later() {
    let mut server = Server::redis70();
    server.stop();
    let mut proxy = Proxy::to(&server).start_unready();
    assert_eq!(proxy.get("/ready").status, 503);
    proxy.wait_log("server cannot be reached");
    server.restart();
    proxy.wait_ready();
    assert_eq!(proxy.connect().call(&["PING"]), "+PONG\r\n");
}

#[test]
fn what_was_acknowledged_before_the_proxy_was_killed_is_in_redis() {
    let server = Server::redis70();
    let mut proxy = Proxy::to(&server).start();
    let enough = AtomicBool::new(false);
    let acknowledged: Vec<String> = thread::scope(|scope| {
        let producers: Vec<_> = (0..4)
            .map(|_| {
                let (mut client, enough) = (proxy.connect(), &enough);
                scope.spawn(move || {
                    let mut ids = Vec::new();
                    while client
                        .try_send(&encode(&["XADD", "s", "*", "a", "1"]))
                        .is_ok()
                    {
                        let Ok(reply) = client.try_reply() else { break };
                        ids.push(String::from_utf8(reply).unwrap());
                        if ids.len() == 500 {
                            enough.store(true, Ordering::Relaxed);
                        }
                    }
                    ids
                })
            })
            .collect();
        wait::until("some messages", wait::PATIENCE, || {
            enough.load(Ordering::Relaxed).then_some(())
        });
        proxy.kill();
        producers
            .into_iter()
            .flat_map(|producer| producer.join().unwrap())
            .collect()
    });
    assert!(acknowledged.len() >= 500);
    let stored = server.connect().call(&["XRANGE", "s", "-", "+"]);
    let stored: std::collections::HashSet<&str> = stored.split("\r\n").collect();
    for id in &acknowledged {
        let id = id.split("\r\n").nth(1).unwrap();
        assert!(stored.contains(id), "{id} was acknowledged and is lost");
    }
}
