//! Every message that is delivered hangs from the span that sent it: by the hundred thousand, and in a real Jaeger.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tars_tests::jaeger::Jaeger;
use tars_tests::otlp::{Collector, Span, SpanKind};
use tars_tests::proxy::Proxy;
use tars_tests::resp::{Client, encode};
use tars_tests::server::Server;

const PRODUCERS: usize = 4;
const CONSUMERS: usize = 3;
const MESSAGES: usize = 100_000;
/// Commands that a producer sends before it reads their replies.
const PIPELINE: usize = 50;
/// Everything that the load test makes: far more than the span queue has room for by default.
const QUEUE: usize = 4 * MESSAGES;

/// Sends `count` messages: in pipelines, or in transactions of as many.
fn produce(mut client: Client, number: usize, count: usize) {
    if number.is_multiple_of(2) {
        assert!(client.call(&["HELLO", "3"]).starts_with('%'));
    }
    let in_multi = number >= 2;
    for batch in 0..count / PIPELINE {
        let mut bytes = Vec::new();
        if in_multi {
            bytes.extend(encode(&["MULTI"]));
        }
        for n in 0..PIPELINE {
            let value = format!("{number}:{batch}:{n}");
            bytes.extend(encode(&[
                "XADD",
                "orders",
                "*",
                "order",
                &value,
                "note",
                "no context",
            ]));
        }
        if in_multi {
            bytes.extend(encode(&["EXEC"]));
        }
        client.send(bytes);
        if in_multi {
            let replies = client.replies(PIPELINE + 2);
            assert!(replies[PIPELINE + 1].starts_with(format!("*{PIPELINE}\r\n").as_bytes()));
        } else {
            assert!(
                client
                    .replies(PIPELINE)
                    .iter()
                    .all(|id| id.starts_with(b"$"))
            );
        }
    }
}

/// Reads and acknowledges until `settled` has reached the number of messages. Returns the ids it was given.
fn consume(mut client: Client, number: usize, settled: &AtomicUsize) -> Vec<String> {
    if number.is_multiple_of(2) {
        assert!(client.call(&["HELLO", "3"]).starts_with('%'));
    }
    let consumer = format!("c{number}");
    let read = [
        "XREADGROUP",
        "GROUP",
        "g",
        &consumer,
        "COUNT",
        "100",
        "BLOCK",
        "200",
        "STREAMS",
        "orders",
        ">",
    ];
    let mut seen = Vec::new();
    while settled.load(Ordering::Relaxed) < MESSAGES {
        let reply = client.call(&read);
        // Of all bulks only ids are of the form `<13 digits>-<digits>`.
        let ids: Vec<&str> = reply.split("\r\n").filter(|word| is_id(word)).collect();
        if ids.is_empty() {
            continue;
        }
        let mut ack = vec!["XACK", "orders", "g"];
        ack.extend(&ids);
        assert_eq!(client.call(&ack), format!(":{}\r\n", ids.len()));
        settled.fetch_add(ids.len(), Ordering::Relaxed);
        seen.extend(ids.into_iter().map(str::to_owned));
    }
    seen
}

fn is_id(word: &str) -> bool {
    word.split_once('-').is_some_and(|(ms, seq)| {
        ms.len() == 13
            && [ms, seq]
                .iter()
                .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
    })
}

fn message_id(span: &Span) -> &str {
    span.attr("messaging.message.id").as_str().unwrap()
}

#[test]
fn a_hundred_thousand_messages_are_all_linked() {
    let server = Server::redis70();
    let collector = Collector::start();
    let mut proxy = Proxy::to(&server)
        .otlp_grpc(&collector.grpc())
        .env("OTEL_BSP_MAX_QUEUE_SIZE", QUEUE.to_string())
        .env("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4096")
        .args(["--max-deliveries", &MESSAGES.to_string()])
        .start();
    let mut client = proxy.connect();
    assert_eq!(
        client.call(&["XGROUP", "CREATE", "orders", "g", "0", "MKSTREAM"]),
        "+OK\r\n"
    );

    let settled = AtomicUsize::new(0);
    let delivered: Vec<String> = thread::scope(|scope| {
        let consumers: Vec<_> = (0..CONSUMERS)
            .map(|n| {
                let (client, settled) = (proxy.connect(), &settled);
                scope.spawn(move || consume(client, n, settled))
            })
            .collect();
        for n in 0..PRODUCERS {
            let client = proxy.connect();
            scope.spawn(move || produce(client, n, MESSAGES / PRODUCERS));
        }
        consumers
            .into_iter()
            .flat_map(|consumer| consumer.join().unwrap())
            .collect()
    });
    assert_eq!(delivered.len(), MESSAGES);
    assert_eq!(client.call(&["XLEN", "orders"]), format!(":{MESSAGES}\r\n"));
    for reason in ["queue_full", "export_failed", "shutdown"] {
        assert_eq!(
            proxy.metric("tars_proxy_spans_dropped_total", &[("reason", reason)]),
            0.0,
            "{reason}"
        );
    }
    assert_eq!(
        proxy.metric("tars_proxy_deliveries_evicted_total", &[]),
        0.0
    );
    drop(client);
    // A drain ends what is open and exports everything.
    proxy.drain();

    let spans = collector.spans();
    let mut sent = HashMap::new();
    let mut processed: HashMap<&str, Vec<&Span>> = HashMap::new();
    for span in &spans {
        match span.name.as_str() {
            "send orders" => {
                assert_eq!(span.kind, SpanKind::Producer);
                assert!(
                    sent.insert(message_id(span), span).is_none(),
                    "sent twice: {span:?}"
                );
            }
            "process orders" => processed.entry(message_id(span)).or_default().push(span),
            other => panic!("an unexpected span: {other}"),
        }
    }
    assert_eq!((sent.len(), processed.len()), (MESSAGES, MESSAGES));
    for id in &delivered {
        let process = &processed[id.as_str()];
        assert_eq!(process.len(), 1, "{id}: {process:#?}");
        assert!(process[0].is_child_of(sent[id.as_str()]), "{id}");
        assert_eq!(process[0].attributes.get("tars.outcome"), None);
    }
}

#[test]
fn the_spans_of_a_message_are_one_trace_in_a_real_jaeger() {
    let (server, jaeger) = (Server::valkey(), Jaeger::start());
    for (proxy, protocol) in [
        (Proxy::to(&server).otlp_grpc(&jaeger.grpc()), "grpc"),
        (Proxy::to(&server).otlp_http(&jaeger.http()), "http"),
    ] {
        let proxy = proxy.env("OTEL_SERVICE_NAME", protocol).start();
        let mut client = proxy.connect();
        client.call(&["XGROUP", "CREATE", protocol, "g", "0", "MKSTREAM"]);
        client.call(&["XADD", protocol, "*", "a", "1"]);
        let read = client.call(&["XREADGROUP", "GROUP", "g", "c", "STREAMS", protocol, ">"]);
        let id = read
            .split("\r\n")
            .find(|word| is_id(word))
            .unwrap()
            .to_owned();
        assert_eq!(client.call(&["XACK", protocol, "g", &id]), ":1\r\n");

        let carried = read
            .split("\r\n")
            .find(|word| word.starts_with("00-"))
            .unwrap();
        let trace_id = carried.split('-').nth(1).unwrap();
        let spans = jaeger.wait_trace(trace_id, Duration::from_secs(30), |spans| spans.len() == 2);
        let find = |name: String| spans.iter().find(|span| span.name == name).unwrap();
        let (send, process) = (
            find(format!("send {protocol}")),
            find(format!("process {protocol}")),
        );
        assert_eq!(process.parent.as_deref(), Some(send.span_id.as_str()));
        for span in [send, process] {
            assert_eq!(span.service, protocol);
            assert_eq!(span.tags["messaging.message.id"], *id);
            assert_eq!(span.tags["messaging.system"], "redis");
        }
        assert_eq!(send.tags["span.kind"], "producer");
        assert_eq!(process.tags["span.kind"], "consumer");
    }
}
