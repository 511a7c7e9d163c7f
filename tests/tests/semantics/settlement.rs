//! How a delivery ends.

use std::time::Duration;

use tars_tests::otlp::span::StatusCode;
use tars_tests::resp::Client;
use tars_tests::server::Kind;
use tars_tests::stage::Stage;

use crate::make_group;

/// Messages 1-1, 2-1 … delivered to consumer c.
fn delivered(stage: &Stage, count: usize) -> Client {
    make_group(stage, "s");
    let mut client = stage.connect();
    for n in 1..=count {
        client.call(&["XADD", "s", &format!("{n}-1"), "f", "v"]);
    }
    client.call(&["XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">"]);
    client
}

fn open(stage: &Stage) -> f64 {
    stage.proxy.metric("tars_proxy_deliveries", &[])
}

#[test]
fn a_smaller_count_leaves_the_known_ones_uncertain() {
    for kind in Kind::ALL {
        let stage = Stage::of(kind);
        let mut client = delivered(&stage, 2);
        stage.direct("XACK s g 1-1");
        assert_eq!(client.call(&["XACK", "s", "g", "1-1", "2-1"]), ":1\r\n");
        for id in ["1-1", "2-1"] {
            assert_eq!(
                stage.wait_span("process s", id).attr("tars.outcome"),
                "uncertain",
                "{kind}"
            );
        }
    }
}

#[test]
fn an_error_settles_nothing() {
    for kind in Kind::ALL {
        let stage = Stage::of(kind);
        let mut client = delivered(&stage, 1);
        assert!(
            client
                .call(&["XACK", "s", "g", "1-1", "x"])
                .starts_with("-ERR")
        );
        assert!(client.call(&["XACK", "s", "g"]).starts_with("-ERR"));
        assert_eq!(client.call(&["XACK", "s", "other", "1-1"]), ":0\r\n");
        assert_eq!(open(&stage), 1.0, "{kind}");
        stage.direct("RENAME s moved");
        stage.direct("SET s x");
        assert!(
            client
                .call(&["XACK", "s", "g", "1-1"])
                .starts_with("-WRONGTYPE")
        );
        assert_eq!(open(&stage), 1.0, "{kind}");
        stage.direct("DEL s");
        stage.direct("RENAME moved s");
        client.call(&["XACK", "s", "g", "1-1"]);
        assert!(
            stage
                .wait_span("process s", "1-1")
                .attr("tars.outcome")
                .is_null()
        );
    }
}

#[test]
fn a_discarded_or_refused_xack_settles_nothing() {
    let stage = Stage::of(Kind::Redis82);
    let mut client = delivered(&stage, 1);
    for end in ["DISCARD", "RESET"] {
        client.call(&["MULTI"]);
        client.call(&["XACK", "s", "g", "1-1"]);
        client.call(&[end]);
        assert_eq!(open(&stage), 1.0, "{end}");
    }
    client.call(&["MULTI"]);
    client.call(&["XACK", "s", "g", "1-1"]);
    client.call(&["EXEC"]);
    assert!(
        stage
            .wait_span("process s", "1-1")
            .attr("tars.outcome")
            .is_null()
    );
}

#[test]
fn xackdel_says_of_each() {
    let stage = Stage::of(Kind::Redis82);
    let mut client = delivered(&stage, 3);
    stage.direct("XACK s g 2-1");
    let reply = client.call(&["XACKDEL", "s", "g", "DELREF", "IDS", "2", "1-1", "2-1"]);
    assert_eq!(reply, "*2\r\n:1\r\n:-1\r\n");
    assert!(
        stage
            .wait_span("process s", "1-1")
            .attr("tars.outcome")
            .is_null()
    );
    assert_eq!(
        stage.wait_span("process s", "2-1").attr("tars.outcome"),
        "uncertain"
    );
    assert!(
        client
            .call(&["XACKDEL", "s", "g", "IDS", "2", "3-1"])
            .starts_with("-ERR")
    );
    assert_eq!(open(&stage), 1.0);
    client.call(&["XACKDEL", "s", "g", "IDS", "1", "3-1"]);
    assert!(
        stage
            .wait_span("process s", "3-1")
            .attr("tars.outcome")
            .is_null()
    );
}

#[test]
fn unsettled_in_time_is_an_error() {
    let stage = Stage::configured(Kind::Valkey, |proxy| {
        proxy.args(["--process-timeout", "1s"])
    });
    delivered(&stage, 1);
    let span = stage.wait_span("process s", "1-1");
    assert_eq!(
        (span.attr("error.type"), span.status),
        (&"timeout".into(), StatusCode::Error)
    );
    assert!(span.duration() >= Duration::from_secs(1));
    let timeout = [("stream", "s"), ("group", "g"), ("outcome", "timeout")];
    assert_eq!(
        stage
            .proxy
            .metric("tars_stream_messages_settled_total", &timeout),
        1.0
    );
}

#[test]
fn a_full_table_gives_up_the_oldest() {
    let stage = Stage::configured(Kind::Redis70, |proxy| proxy.args(["--max-deliveries", "2"]));
    let mut client = delivered(&stage, 3);
    assert_eq!(
        stage.wait_span("process s", "1-1").attr("tars.outcome"),
        "evicted"
    );
    assert_eq!(
        (
            open(&stage),
            stage
                .proxy
                .metric("tars_proxy_deliveries_evicted_total", &[])
        ),
        (2.0, 1.0)
    );
    assert_eq!(
        client.call(&["XACK", "s", "g", "1-1", "2-1", "3-1"]),
        ":3\r\n"
    );
    for id in ["2-1", "3-1"] {
        assert!(
            stage
                .wait_span("process s", id)
                .attr("tars.outcome")
                .is_null()
        );
    }
}

#[test]
fn a_drain_ends_what_is_open_and_exports_it() {
    let stage = Stage::of(Kind::Redis82);
    drop(delivered(&stage, 2));
    let Stage {
        mut proxy,
        collector,
        ..
    } = stage;
    proxy.drain();
    let spans = collector.spans();
    let drained = spans
        .iter()
        .filter(|span| span.attr("tars.outcome") == "drained");
    assert_eq!(drained.count(), 2, "{spans:#?}");
}

#[test]
fn connections_of_several_threads_share_the_table() {
    let stage = Stage::configured(Kind::Valkey, |proxy| proxy.args(["--workers", "4"]));
    drop(delivered(&stage, 20));
    for n in 1..=20 {
        assert_eq!(
            stage.connect().call(&["XACK", "s", "g", &format!("{n}-1")]),
            ":1\r\n"
        );
    }
    for span in stage.wait_named("process s", 20) {
        assert!(span.attr("tars.outcome").is_null(), "{span:#?}");
    }
}
