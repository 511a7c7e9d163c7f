//! The support code against the real parts: what the other acceptance tests stand on.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span};
use prost::Message;
use redis::Commands;
use tars_tests::address::Address;
use tars_tests::http;
use tars_tests::jaeger::Jaeger;
use tars_tests::otlp::{Collector, Mode};
use tars_tests::port::Port;
use tars_tests::proxy::Proxy;
use tars_tests::resp::{self, End};
use tars_tests::server::{Kind, Server};
use tars_tests::wait::PATIENCE;
use tonic::Code;

const PROTOBUF: &str = "application/x-protobuf";
const TRACE_ID: &str = "0123456789abcdef0123456789abcdef";

// --- Servers ----------------------------------------------------------------------------------------------------

#[test]
fn every_kind_of_server_answers_and_is_of_its_version() {
    for (server, version) in Server::all().iter().zip([
        "redis_version:7.0.",
        "valkey_version:9.1.",
        "redis_version:8.2.",
    ]) {
        let mut client = server.connect();
        assert_eq!(client.call(&["PING"]), "+PONG\r\n", "{}", server.kind());
        let info = client.call(&["INFO", "server"]);
        assert!(info.contains(version), "{}: {info}", server.kind());
        let _: () = server.redis().set("key", 1).unwrap();
        assert_eq!(client.call(&["GET", "key"]), "$1\r\n1\r\n");
    }
}

#[test]
fn arguments_and_a_unix_socket_are_passed_on() {
    for kind in Kind::ALL {
        let server = Server::builder(kind)
            .unix()
            .args(["--requirepass", "secret"])
            .start();
        assert!(server.url().starts_with("unix:/"));
        let mut client = server.connect();
        assert!(client.call(&["PING"]).starts_with("-NOAUTH"));
        assert_eq!(client.call(&["AUTH", "secret"]), "+OK\r\n");
        assert_eq!(client.call(&["PING"]), "+PONG\r\n");
    }
}

#[test]
fn a_server_stops_and_restarts_at_its_address() {
    for mut server in Server::all() {
        let mut client = server.connect();
        assert_eq!(client.call(&["PING"]), "+PONG\r\n");
        server.stop();
        assert_eq!(client.read_until_closed(), (Vec::new(), End::Closed));
        assert!(server.address().connect().is_err());
        server.start();
        server.restart();
        assert_eq!(server.connect().call(&["PING"]), "+PONG\r\n");
    }
}

#[test]
fn a_paused_server_is_silent_until_it_is_resumed() {
    let mut server = Server::redis70();
    let mut client = server.connect();
    server.pause();
    client.command(&["PING"]);
    assert_eq!(client.read_until_quiet(Duration::from_millis(100)), b"");
    server.resume();
    assert_eq!(client.reply(), b"+PONG\r\n");
}

#[test]
fn a_dropped_server_is_gone() {
    let server = Server::valkey();
    let address = server.address().clone();
    drop(server);
    assert!(address.connect().is_err());
}

#[test]
#[should_panic(
    expected = "ended (exit status: 1) before this was so: it answers PING; it printed:"
)]
fn a_server_that_cannot_start_says_why() {
    let _ = Server::builder(Kind::Redis70)
        .args(["--no-such-option", "1"])
        .start();
}

// --- The client that sees bytes ---------------------------------------------------------------------------------

#[test]
fn replies_are_the_same_however_the_request_is_cut() {
    let commands: [&[&str]; 5] = [
        &["HELLO", "3"],
        &["CONFIG", "GET", "maxmemory*"],
        &["XADD", "s", "1-1", "field", "a value\r\nof two lines"],
        &["XRANGE", "s", "-", "+"],
        &["GET"],
    ];
    let bytes: Vec<u8> = commands
        .iter()
        .flat_map(|args| resp::encode(args))
        .collect();
    for server in Server::all() {
        let whole = resp::exchange(server.address(), &bytes, commands.len());
        assert!(
            whole[3].ends_with(b"$5\r\nfield\r\n$21\r\na value\r\nof two lines\r\n"),
            "{}",
            server.kind()
        );
        assert_eq!(server.connect().call(&["DEL", "s"]), ":1\r\n");

        let mut client = server.connect();
        client.send_bytewise(&bytes);
        // The first reply tells the connection's id, which differs.
        assert_eq!(
            client.replies(commands.len())[1..],
            whole[1..],
            "{}",
            server.kind()
        );
        assert_eq!(client.read_until_quiet(Duration::from_millis(50)), b"");
    }
}

#[test]
fn a_pipeline_larger_than_all_buffers_is_exchanged() {
    let server = Server::redis82();
    let value = "v".repeat(1 << 20);
    let bytes = resp::encode(&["ECHO", &value]).repeat(64);
    let replies = resp::exchange(server.address(), &bytes, 64);
    assert!(
        replies
            .iter()
            .all(|reply| reply.len() == value.len() + "$1048576\r\n\r\n".len())
    );
}

#[test]
fn the_end_of_a_connection_is_seen_and_made() {
    let server = Server::redis70();
    let mut client = server.connect();
    client.send("PING\r\nQUIT\r\n");
    assert_eq!(
        client.read_until_closed(),
        (b"+PONG\r\n+OK\r\n".to_vec(), End::Closed)
    );

    let mut client = server.connect();
    client.send("PING\r\n");
    client.half_close();
    assert_eq!(
        client.read_until_closed(),
        (b"+PONG\r\n".to_vec(), End::Closed)
    );

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::Tcp(listener.local_addr().unwrap().to_string());
    let client = resp::Client::connect(&address);
    let (mut accepted, _) = listener.accept().unwrap();
    client.reset();
    let end = std::io::Read::read(&mut accepted, &mut [0]);
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

// --- Receivers of spans -----------------------------------------------------------------------------------------

fn attribute(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

/// A trace of two spans, the second the child of the first.
fn request() -> ExportTraceServiceRequest {
    let trace_id = u128::from_str_radix(TRACE_ID, 16)
        .unwrap()
        .to_be_bytes()
        .to_vec();
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_nanos();
    let now = u64::try_from(now).unwrap();
    let send = Span {
        trace_id: trace_id.clone(),
        span_id: vec![0, 0, 0, 0, 0, 0, 0, 1],
        name: "send orders".into(),
        kind: span::SpanKind::Producer.into(),
        start_time_unix_nano: now,
        end_time_unix_nano: now + 1_000,
        attributes: vec![
            attribute(
                "messaging.system",
                any_value::Value::StringValue("redis".into()),
            ),
            attribute("server.port", any_value::Value::IntValue(6379)),
        ],
        trace_state: "a=b".into(),
        flags: 0x103,
        ..Span::default()
    };
    let process = Span {
        span_id: vec![0, 0, 0, 0, 0, 0, 0, 0xff],
        parent_span_id: send.span_id.clone(),
        name: "process orders".into(),
        kind: span::SpanKind::Consumer.into(),
        links: vec![span::Link {
            trace_id,
            span_id: vec![9; 8],
            ..span::Link::default()
        }],
        status: Some(Status {
            code: 2,
            message: "timeout".into(),
        }),
        attributes: Vec::new(),
        ..send.clone()
    };
    let resource = Resource {
        attributes: vec![attribute(
            "service.name",
            any_value::Value::StringValue("shop".into()),
        )],
        ..Resource::default()
    };
    let scope_spans = vec![ScopeSpans {
        spans: vec![send, process],
        ..ScopeSpans::default()
    }];
    let resource_spans = vec![ResourceSpans {
        resource: Some(resource),
        scope_spans,
        ..ResourceSpans::default()
    }];
    ExportTraceServiceRequest { resource_spans }
}

fn send_grpc(endpoint: String) -> Result<(), Code> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut client = TraceServiceClient::connect(endpoint)
            .await
            .map_err(|_| Code::Aborted)?;
        client
            .export(request())
            .await
            .map(|_| ())
            .map_err(|status| status.code())
    })
}

fn send_http(endpoint: &str) -> u16 {
    let address = Address::from(endpoint.strip_prefix("http://").unwrap());
    http::post(&address, "/v1/traces", PROTOBUF, &request().encode_to_vec())
        .unwrap()
        .status
}

#[test]
fn spans_arrive_over_grpc_and_http_with_all_that_they_carry() {
    let collector = Collector::start();
    send_grpc(collector.grpc()).unwrap();
    assert_eq!(send_http(&collector.http()), 200);
    let spans = collector.wait_for(PATIENCE, |spans| spans.len() == 4);
    let told = |span: &tars_tests::otlp::Span| {
        (
            span.name.clone(),
            span.attributes.clone(),
            span.links.clone(),
        )
    };
    assert_eq!(
        spans.iter().take(2).map(told).collect::<Vec<_>>(),
        spans.iter().skip(2).map(told).collect::<Vec<_>>()
    );
    assert_eq!(collector.taken(), 2);

    let (send, process) = (&spans[0], &spans[1]);
    assert_eq!(
        (send.service.as_str(), send.name.as_str()),
        ("shop", "send orders")
    );
    assert_eq!(
        (send.trace_id.as_str(), send.span_id.as_str(), &send.parent),
        (TRACE_ID, "0000000000000001", &None)
    );
    assert_eq!(
        (send.kind, process.kind),
        (span::SpanKind::Producer, span::SpanKind::Consumer)
    );
    assert_eq!(
        (send.attr("messaging.system"), send.attr("server.port")),
        (&"redis".into(), &6379.into())
    );
    assert!(send.attr("absent").is_null());
    assert_eq!(
        (send.trace_state.as_str(), send.flags, send.duration()),
        ("a=b", 0x103, Duration::from_micros(1))
    );
    assert!(process.is_child_of(send) && !send.is_child_of(process));
    assert_eq!(
        (
            process.links[0].trace_id.as_str(),
            process.links[0].span_id.as_str()
        ),
        (TRACE_ID, "0909090909090909")
    );
    assert_eq!(
        (process.status as i32, process.status_message.as_str()),
        (2, "timeout")
    );
}

#[test]
fn a_receiver_refuses_and_accepts_as_told() {
    let collector = Collector::refusing();
    assert_eq!(send_grpc(collector.grpc()), Err(Code::Unavailable));
    assert_eq!(send_http(&collector.http()), 503);
    assert_eq!(
        (
            collector.refused(),
            collector.taken(),
            collector.spans().len()
        ),
        (2, 0, 0)
    );
    collector.set_mode(Mode::Accepting);
    send_grpc(collector.grpc()).unwrap();
    assert_eq!(collector.with_spans(<[_]>::len), 2);
}

#[test]
fn a_slow_receiver_takes_its_time() {
    let delay = Duration::from_millis(200);
    let collector = Collector::slow(delay);
    let began = Instant::now();
    send_grpc(collector.grpc()).unwrap();
    assert!(began.elapsed() >= delay);
    assert_eq!(collector.spans().len(), 2);
}

#[test]
fn an_absent_receiver_is_refused_by_the_kernel() {
    let port = Port::claim();
    assert_eq!(send_grpc(port.url()), Err(Code::Aborted));
}

#[test]
#[should_panic(
    expected = "the spans are not as wanted: 2 spans, {\"shop: process orders\": 1, \"shop: send orders\": 1}"
)]
fn what_came_instead_is_told() {
    let collector = Collector::start();
    send_grpc(collector.grpc()).unwrap();
    let _ = collector.wait_for(Duration::from_millis(10), |spans| spans.len() == 3);
}

#[test]
fn jaeger_takes_a_trace_and_tells_it() {
    let jaeger = Jaeger::start();
    assert!(jaeger.trace(TRACE_ID).is_empty());
    send_grpc(jaeger.grpc()).unwrap();
    let spans = jaeger.wait_trace(TRACE_ID, PATIENCE, |spans| spans.len() == 2);
    let send = spans
        .iter()
        .find(|span| span.name == "send orders")
        .unwrap();
    let process = spans
        .iter()
        .find(|span| span.name == "process orders")
        .unwrap();
    assert_eq!((send.service.as_str(), &send.parent), ("shop", &None));
    assert_eq!(
        (process.parent.as_ref(), &process.links[..]),
        (Some(&send.span_id), &["0909090909090909".to_owned()][..])
    );
    assert_eq!(
        (&send.tags["messaging.system"], &send.tags["server.port"]),
        (&"redis".into(), &6379.into())
    );
    assert_eq!(process.tags["span.kind"], "consumer");
    assert_eq!(jaeger.get("/api/v3/services")["services"][0], "shop");
    assert_eq!(send_http(&jaeger.http()), 200);
}

// --- The proxy's support is tested by every test of the proxy; here only what they do not see ----------------------

#[test]
fn the_binary_under_test_is_there_and_newer_than_its_sources() {
    let binary = tars_tests::proxy::binary();
    assert!(Path::is_absolute(&binary) && binary.ends_with("tars-proxy"));
}

#[test]
#[should_panic(expected = "before this was so: /ready answers 200; it printed:")]
fn a_proxy_that_ends_early_says_why() {
    let _ = Proxy::to_url("redis://127.0.0.1:1")
        .args(["--no-such-argument"])
        .start();
}
