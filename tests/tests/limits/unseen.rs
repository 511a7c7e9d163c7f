//! What the proxy cannot see.

use tars_tests::otlp::Span;
use tars_tests::port::Port;
use tars_tests::proxy::Proxy;
use tars_tests::server::{Kind, Server};
use tars_tests::stage::Stage;
use tars_tests::tls::Authority;
use tars_tests::wait::PATIENCE;

use crate::delivered;

/// Before a server of this kind, and soon out of patience with what is not settled.
fn impatient(kind: Kind) -> Stage {
    Stage::configured(kind, |proxy| proxy.args(["--process-timeout", "1s"]))
}

/// The end of the delivery of [`delivered`].
fn end(stage: &Stage) -> Span {
    stage.wait_span("process s", "1-1")
}

#[test]
fn messages_of_scripts_and_functions() {
    let library = "#!lua name=l\nredis.register_function('add',function(k)return redis.call('XADD',k[1],'2-1','f','v')end)";
    for kind in Kind::ALL {
        let stage = Stage::of(kind);
        let mut client = stage.connect();
        client.call(&[
            "EVAL",
            "return redis.call('XADD',KEYS[1],'1-1','f','v')",
            "1",
            "s",
        ]);
        client.call(&["FUNCTION", "LOAD", library]);
        assert_eq!(client.call(&["FCALL", "add", "1", "s"]), "$3\r\n2-1\r\n");
        assert!(!stage.direct("XRANGE s - +").contains("traceparent"));
        assert_eq!(stage.settle_spans().len(), 1, "{kind}");
        // What to do: the context as an argument.
        let context = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01";
        let script = "return redis.call('XADD',KEYS[1],'3-1','traceparent',ARGV[1])";
        client.call(&["EVAL", script, "1", "s", context]);
        client.call(&["XREAD", "STREAMS", "s", "2-1"]);
        let parent = stage.wait_span("receive s", "3-1").parent;
        assert_eq!(parent.as_deref(), Some("0123456789abcdef"));
    }
}

#[test]
fn settlement_elsewhere() {
    for through_proxy in [false, true] {
        let stage = impatient(Kind::Valkey);
        let other = Proxy::to(&stage.server).start();
        delivered(&stage);
        let mut elsewhere = match through_proxy {
            true => other.connect(),
            false => stage.server.connect(),
        };
        assert_eq!(elsewhere.call(&["XACK", "s", "g", "1-1"]), ":1\r\n");
        assert_eq!(end(&stage).attr("error.type"), "timeout");
    }
}

#[test]
fn a_claim_elsewhere() {
    let stage = impatient(Kind::Redis70);
    let other = Stage::configured(Kind::Redis70, |proxy| proxy.upstream(&stage.server.url()));
    delivered(&stage);
    let mut client = other.connect();
    client.call(&["XCLAIM", "s", "g", "d", "0", "1-1"]);
    assert_eq!(client.call(&["XACK", "s", "g", "1-1"]), ":1\r\n");
    assert_eq!(end(&stage).attr("error.type"), "timeout");
    let again = other.wait_span("process s", "1-1");
    assert!(again.links.is_empty() && again.attr("tars.delivery_count").is_null());
    // With RETRYCOUNT it is known.
    client.call(&["XADD", "s", "2-1", "f", "v"]);
    stage.direct("XREADGROUP GROUP g c STREAMS s >");
    client.call(&["XCLAIM", "s", "g", "d", "0", "2-1", "RETRYCOUNT", "2"]);
    client.call(&["XACK", "s", "g", "2-1"]);
    assert_eq!(
        other
            .wait_span("process s", "2-1")
            .attr("tars.delivery_count"),
        2
    );
}

#[test]
fn messages_that_are_taken_away() {
    for take in [
        "XDEL s 1-1",
        "XTRIM s MAXLEN 0",
        "XGROUP DESTROY s g",
        "FLUSHALL",
    ] {
        let stage = impatient(Kind::Redis82);
        delivered(&stage);
        let words: Vec<&str> = take.split(' ').collect();
        stage.connect().call(&words);
        assert_eq!(end(&stage).attr("error.type"), "timeout", "{take}");
    }
}

#[test]
fn databases_that_are_swapped() {
    let stage = impatient(Kind::Redis82);
    delivered(&stage);
    let mut client = stage.connect();
    client.call(&["SWAPDB", "0", "1"]);
    client.call(&["SELECT", "1"]);
    assert_eq!(client.call(&["XACK", "s", "g", "1-1"]), ":1\r\n");
    assert_eq!(end(&stage).attr("error.type"), "timeout");
}

#[test]
fn tls_between_client_and_redis() {
    let authority = Authority::new("authority");
    let (identity, port) = (authority.sign("redis", "127.0.0.1"), Port::claim());
    let ca = authority.ca().display().to_string();
    let _server = Server::builder(Kind::Redis70)
        .args([
            "--tls-port",
            &port.number().to_string(),
            "--tls-auth-clients",
            "no",
        ])
        .args(["--tls-ca-cert-file", &ca])
        .args(identity.args("--tls-cert-file", "--tls-key-file"))
        .start();
    let proxy = Proxy::to_url(&format!("redis://{}", port.addr())).start_unready();
    // A client that speaks TLS with the server, through the proxy that does not know.
    let client = Proxy::to_url(&format!("rediss://{}", proxy.address()))
        .args(["--upstream-ca", &ca])
        .start();
    assert_eq!(client.connect().call(&["PING"]), "+PONG\r\n");
    assert!(proxy.metric("tars_proxy_raw_relays_total", &[("reason", "protocol")]) >= 1.0);
    assert_eq!(proxy.get("/ready").status, 503);
}

#[test]
fn messages_of_other_programs() {
    for kind in Kind::ALL {
        let stage = Stage::of(kind);
        stage.direct("XADD s 1-1 f v");
        let mut client = stage.connect();
        client.call(&["XGROUP", "CREATE", "s", "g", "0"]);
        client.call(&["XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">"]);
        client.call(&["XACK", "s", "g", "1-1"]);
        let spans = stage
            .collector
            .wait_for(PATIENCE, |spans| !spans.is_empty());
        assert_eq!(
            (spans[0].name.as_str(), &spans[0].parent),
            ("process s", &None),
            "{kind}"
        );
    }
}
