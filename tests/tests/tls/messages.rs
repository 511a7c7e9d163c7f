//! Messages over TLS on both sides, to a client and a server that know nothing of it.

use std::collections::HashMap;

use tars_tests::otlp::Collector;
use tars_tests::resp::encode;
use tars_tests::server::Kind;
use tars_tests::tls::Authority;

use crate::{Chain, redis_cli};

#[test]
fn messages_are_linked_over_tls_on_both_sides() {
    Kind::ALL.into_iter().for_each(linked);
}

fn linked(kind: Kind) {
    const MESSAGES: usize = 10_000;
    const PIPELINE: usize = 100;
    let authority = Authority::new("authority");
    let collector = Collector::start();
    let Chain {
        entrance,
        mut proxy,
        _server,
    } = Chain::of(kind, &authority, |proxy| {
        proxy
            .otlp_grpc(&collector.grpc())
            .env("OTEL_BSP_MAX_QUEUE_SIZE", (4 * MESSAGES).to_string())
    });
    let mut client = entrance.connect();
    assert_eq!(
        client.call(&["XGROUP", "CREATE", "s", "g", "0", "MKSTREAM"]),
        "+OK\r\n"
    );
    let pipeline = encode(&["XADD", "s", "*", "a", "1"]).repeat(PIPELINE);
    for _ in 0..MESSAGES / PIPELINE {
        client.send(&pipeline);
        assert!(
            client
                .replies(PIPELINE)
                .iter()
                .all(|id| id.starts_with(b"$"))
        );
    }
    let mut settled = 0;
    while settled < MESSAGES {
        let read = client.call(&[
            "XREADGROUP",
            "GROUP",
            "g",
            "c",
            "COUNT",
            "500",
            "STREAMS",
            "s",
            ">",
        ]);
        let ids: Vec<&str> = read.split("\r\n").filter(|word| is_id(word)).collect();
        let mut ack = vec!["XACK", "s", "g"];
        ack.extend(&ids);
        assert_eq!(client.call(&ack), format!(":{}\r\n", ids.len()));
        settled += ids.len();
    }
    assert_eq!(settled, MESSAGES);

    // Far more than one record, and than the kernel holds.
    let value = "v".repeat(20 << 20);
    assert_eq!(client.call(&["SET", "large", &value]), "+OK\r\n");
    assert_eq!(
        client.call(&["GET", "large"]),
        format!("${}\r\n{value}\r\n", value.len())
    );
    drop(client);

    // A client that is not ours: OpenSSL.
    let tls = authority.sign("cli", "cli").args("--cert", "--key");
    let ca = authority.ca().display().to_string();
    let args: Vec<&str> = tls
        .iter()
        .map(String::as_str)
        .chain(["--cacert", &ca, "XLEN", "s"])
        .collect();
    assert_eq!(redis_cli(&proxy, &args), (true, format!("{MESSAGES}\n")));

    drop(entrance);
    proxy.drain();
    let spans = collector.spans();
    let mut sent = HashMap::new();
    for span in spans.iter().filter(|span| span.name == "send s") {
        sent.insert(span.attr("messaging.message.id").as_str().unwrap(), span);
    }
    let processed: Vec<_> = spans
        .iter()
        .filter(|span| span.name == "process s")
        .collect();
    assert_eq!((sent.len(), processed.len()), (MESSAGES, MESSAGES));
    for span in processed {
        let id = span.attr("messaging.message.id").as_str().unwrap();
        assert!(span.is_child_of(sent[id]), "{id}");
    }
}

fn is_id(word: &str) -> bool {
    word.split_once('-').is_some_and(|(ms, seq)| {
        ms.len() == 13 && !seq.is_empty() && seq.bytes().all(|b| b.is_ascii_digit())
    })
}
