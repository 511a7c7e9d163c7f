//! Collectors that answer exports with anything: traffic goes on, spans that are lost are counted, and later ones arrive.

use tars_tests::address::Address;
use tars_tests::liar::Liar;
use tars_tests::otlp::Collector;
use tars_tests::proxy::{Builder, Proxy};
use tars_tests::resp::Client;
use tars_tests::server::Server;
use tars_tests::wait::{self, PATIENCE};

use crate::scene::{ALLOWANCE, alive};

/// What an exporter may hold of an answer, twice: as it was received, and as it is read.
const ANSWER: usize = 2 * (4 << 20);

/// How much of an answer without end there is.
const VOLUME: usize = 4 * (ANSWER + ALLOWANCE);

/// How an answer begins, and how it goes on without end.
type Lie = (&'static str, Vec<u8>, &'static [u8]);

const NOTHING: &[u8] = b"";

/// In no protocol.
fn garbage() -> Vec<Lie> {
    vec![
        ("closed", vec![], NOTHING),
        ("zeros", vec![], &[0; 1024]),
        ("text", b"hello\r\n".to_vec(), NOTHING),
        ("lines", vec![], b"hello\r\n"),
        (
            "a TLS alert",
            b"\x15\x03\x03\0\x02\x02\x28".to_vec(),
            NOTHING,
        ),
        ("RESP", b"-ERR unknown command\r\n".to_vec(), NOTHING),
    ]
}

fn http_lies() -> Vec<Lie> {
    let head = |text: &str| text.replace('\n', "\r\n").into_bytes();
    vec![
        ("a status line", vec![], b"HTTP/1.1 "),
        ("headers", head("HTTP/1.1 200 OK\n"), b"a: b\r\n"),
        ("a header", head("HTTP/1.1 200 OK\na: "), b"b"),
        ("interim answers", vec![], b"HTTP/1.1 100 Continue\r\n\r\n"),
        ("a body", head("HTTP/1.1 200 OK\n\n"), &[0; 1024]),
        (
            "a body of a length",
            head("HTTP/1.1 200 OK\nContent-Length: 9223372036854775807\n\n"),
            &[0; 1024],
        ),
        (
            "a length that is none",
            head("HTTP/1.1 200 OK\nContent-Length: -1\n\n"),
            NOTHING,
        ),
        (
            "chunks",
            head("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n"),
            b"4\r\nabcd\r\n",
        ),
        (
            "a chunk's extension",
            head("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n4;"),
            b"abcdefgh",
        ),
        (
            "half a body",
            head("HTTP/1.1 200 OK\nContent-Length: 100\n\nabc"),
            NOTHING,
        ),
        (
            "a redirection to itself",
            head("HTTP/1.1 307 Temporary Redirect\nLocation: /v1/traces\nContent-Length: 0\n\n"),
            NOTHING,
        ),
        ("no such status", head("HTTP/1.1 999 ?\n\n"), NOTHING),
    ]
}

/// A frame of HTTP/2: type, flags, stream and payload.
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

fn grpc_lies() -> Vec<Lie> {
    const PING: &[u8] = b"\0\0\x08\x06\0\0\0\0\0abcdefgh";
    const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
    // One byte of data, and as many of it as windows allow and more.
    const DATA: &[u8] = b"\0\0\x04\0\0\0\0\0\x01abcd";
    const CONTINUATION: &[u8] = b"\0\0\x04\x09\0\0\0\0\x01\x0f\x00\x00\x00";
    // `:status: 200` and `content-type: application/grpc`, by HPACK.
    let headers = frame(1, 4, 1, b"\x88\x0f\x10\x10application/grpc");
    let begin = |frames: &[u8]| [SETTINGS, frames].concat();
    vec![
        (
            "HTTP/1.1",
            b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
            NOTHING,
        ),
        ("settings", vec![], SETTINGS),
        ("pings", begin(b""), PING),
        (
            "a frame that is too large",
            begin(b"\xff\xff\xff\0\0\0\0\0\x01"),
            &[0; 1024],
        ),
        (
            "a message of 4 GiB",
            begin(&[&headers[..], &frame(0, 0, 1, b"\0\xff\xff\xff\xff")].concat()),
            DATA,
        ),
        (
            "a message that is none",
            begin(&[&headers[..], &frame(0, 1, 1, b"\x07\0\0\0\x01x")].concat()),
            NOTHING,
        ),
        (
            "an answer without trailers",
            begin(&[&headers[..], &frame(0, 1, 1, b"")].concat()),
            NOTHING,
        ),
        (
            "headers without end",
            begin(&frame(1, 0, 1, b"\x88")),
            CONTINUATION,
        ),
        (
            "an answer to nobody",
            begin(&frame(1, 5, 77, b"\x88")),
            NOTHING,
        ),
        (
            "a reset stream",
            begin(&frame(3, 0, 1, b"\0\0\0\x07")),
            NOTHING,
        ),
        (
            "goaway",
            begin(&frame(7, 0, 0, b"\0\0\0\0\0\0\0\x02")),
            NOTHING,
        ),
        (
            "windows that overflow",
            begin(&frame(8, 0, 0, b"\x7f\xff\xff\xff").repeat(3)),
            NOTHING,
        ),
    ]
}

/// Begins so when asked, goes on until it is given up, and then closes.
fn lie(mut exporter: Client, begin: &[u8], pattern: &[u8]) {
    exporter.read_some();
    let mut alive = exporter.try_send(begin).is_ok();
    if pattern.is_empty() {
        return;
    }
    let pattern = pattern.repeat((1 << 16) / pattern.len());
    for _ in 0..VOLUME / pattern.len() {
        alive = alive && exporter.try_send(&pattern).is_ok();
    }
}

/// The first connection of an exporter is answered by a lie, and the next ones by a collector.
#[track_caller]
fn lied_to(
    lies: Vec<Lie>,
    endpoint: impl Fn(&Collector) -> String,
    configure: impl Fn(Builder, &str) -> Builder,
) {
    let (server, collector) = (Server::redis82(), Collector::start());
    let honest = endpoint(&collector);
    let liar = Liar::before(&Address::Tcp(
        honest.trim_start_matches("http://").to_owned(),
    ));
    let url = liar.url().replace("redis://", "http://");
    for (n, (what, begin, pattern)) in lies.into_iter().enumerate() {
        liar.next(move |exporter| lie(exporter, &begin, pattern));
        let mut proxy = configure(Proxy::to(&server), &url)
            .env("OTEL_EXPORTER_OTLP_TIMEOUT", "1000")
            .start();
        let (before, mut client) = (proxy.memory().now, proxy.connect());
        proxy.forget_peak();
        let (lost, found) = (format!("lost:{n}"), format!("found:{n}"));
        assert!(
            client
                .call(&["XADD", &lost, "*", "f", "v"])
                .starts_with('$'),
            "{what}"
        );
        let (mut ended, mut exported, mut dropped) = (0.0, 0.0, 0.0);
        let accounted = wait::poll(PATIENCE, || {
            let metrics = proxy.metrics();
            ended = metrics.sum("tars_proxy_spans_ended_total", &[]);
            exported = metrics.sum("tars_proxy_spans_exported_total", &[]);
            dropped = metrics.sum("tars_proxy_spans_dropped_total", &[]);
            (ended == 1.0 && exported + dropped == 1.0).then_some(())
        });
        assert!(
            accounted.is_some(),
            "{what}: {ended} spans ended, {exported} exported, {dropped} dropped"
        );
        // As long as the connection is good, and the lie goes on, later ones are lost, too.
        wait::until(&format!("spans after {what}"), PATIENCE, || {
            assert!(
                client
                    .call(&["XADD", &found, "*", "f", "v"])
                    .starts_with('$'),
                "{what}"
            );
            let name = format!("send {found}");
            collector
                .with_spans(|spans| spans.iter().any(|span| span.name == name))
                .then_some(())
        });
        // An exporter may try again: then it has arrived, and else it is counted.
        let name = format!("send {lost}");
        let arrived = collector.with_spans(|spans| spans.iter().any(|span| span.name == name));
        assert_eq!(arrived, exported == 1.0, "{what}");
        let growth = proxy.memory().peak - before;
        assert!(growth <= ANSWER + ALLOWANCE, "{what}: {growth} bytes");
        alive(&mut proxy);
    }
}

#[test]
fn over_http() {
    let lies = [garbage(), http_lies()].concat();
    lied_to(lies, Collector::http, Builder::otlp_http);
}

#[test]
fn over_grpc() {
    let lies = [garbage(), grpc_lies()].concat();
    lied_to(lies, Collector::grpc, Builder::otlp_grpc);
}
