//! `infer_parent`: when a message sent while another is handled is its child, and all that must prevent it.

use tars_tests::otlp::Span;
use tars_tests::resp::{Client, pipeline};
use tars_tests::server::Kind;
use tars_tests::stage::Stage;

use crate::{OWN, OWN_SPAN, make_group};

const READ: &str = "XREADGROUP GROUP g c COUNT 1 STREAMS s >";

fn stage(how: &str) -> Stage {
    let stage = Stage::configured(Kind::Redis82, |proxy| proxy.args(["--infer-parent", how]));
    make_group(&stage, "s");
    for id in 1..=4 {
        stage
            .connect()
            .call(&["XADD", "s", &format!("{id}-1"), "f", "v"]);
    }
    stage
}

/// Sends commands one after the other.
fn say(client: &mut Client, commands: &[&str]) {
    for command in commands {
        let answer = client.call(&command.split(' ').collect::<Vec<_>>());
        assert!(!answer.starts_with('-'), "{command}: {answer}");
    }
}

fn counted(stage: &Stage, scope: &str, found: &str) -> f64 {
    stage.proxy.metric(
        "tars_proxy_inferences_total",
        &[("scope", scope), ("found", found)],
    )
}

/// The span of the message sent to `next`, and the delivery of 1-1, settled at the end.
fn next(stage: &Stage) -> (Span, Span) {
    stage.connect().call(&["XACK", "s", "g", "1-1"]);
    (
        stage.wait_span("send next", "9-1"),
        stage.wait_span("process s", "1-1"),
    )
}

#[track_caller]
fn assert_inferred(stage: &Stage) {
    let (sent, process) = next(stage);
    assert!(sent.is_child_of(&process), "{sent:#?}");
    assert_eq!(sent.attr("tars.parent"), "inferred");
}

#[track_caller]
fn assert_root(stage: &Stage) {
    let (sent, _) = next(stage);
    assert_eq!(sent.parent, None, "{sent:#?}");
    assert!(sent.attr("tars.parent").is_null());
}

const SEND: &str = "XADD next 9-1 f v";

#[test]
fn off_only_counts() {
    let stage = stage("off");
    say(&mut stage.connect(), &[READ, SEND]);
    assert_root(&stage);
    for scope in ["connection", "process"] {
        assert_eq!(counted(&stage, scope, "one"), 1.0);
        // The four messages of the beginning.
        assert_eq!(counted(&stage, scope, "none"), 4.0);
        assert_eq!(counted(&stage, scope, "several"), 0.0);
    }
}

#[test]
fn one_message_being_handled_is_the_parent() {
    for how in ["connection", "process"] {
        let stage = stage(how);
        say(&mut stage.connect(), &[READ, "GET k", SEND]);
        assert_inferred(&stage);
        assert_eq!(counted(&stage, how, "one"), 1.0);
    }
}

#[test]
fn within_multi_too() {
    let stage = stage("connection");
    say(
        &mut stage.connect(),
        &[READ, "MULTI", SEND, "XACK s g 1-1", "EXEC"],
    );
    assert_inferred(&stage);
}

#[test]
fn a_claimed_message_is_one_too() {
    let stage = stage("connection");
    stage.direct("XREADGROUP GROUP g other COUNT 1 STREAMS s >");
    say(&mut stage.connect(), &["XCLAIM s g c 0 1-1", SEND]);
    assert_inferred(&stage);
}

#[test]
fn an_own_context_is_kept() {
    let stage = stage("connection");
    let send = format!("XADD next 9-1 traceparent {OWN}");
    say(&mut stage.connect(), &[READ, &send]);
    let (sent, _) = next(&stage);
    assert_eq!(sent.parent.as_deref(), Some(OWN_SPAN));
    assert!(sent.attr("tars.parent").is_null());
}

#[test]
fn not_of_several() {
    for how in ["connection", "process"] {
        let stage = stage(how);
        say(
            &mut stage.connect(),
            &["XREADGROUP GROUP g c COUNT 2 STREAMS s >", SEND],
        );
        assert_root(&stage);
        assert_eq!(counted(&stage, how, "several"), 1.0);
    }
}

#[test]
fn not_once_it_is_settled() {
    for how in ["connection", "process"] {
        let stage = stage(how);
        say(&mut stage.connect(), &[READ, "XACK s g 1-1", SEND]);
        assert_root(&stage);
        assert_eq!(counted(&stage, how, "one"), 0.0);
    }
}

#[test]
fn not_once_its_settlement_has_been_sent() {
    for how in ["connection", "process"] {
        let stage = stage(how);
        let mut client = stage.connect();
        say(&mut client, &[READ]);
        client.send(pipeline(&["XACK s g 1-1", SEND]));
        client.replies(2);
        assert_root(&stage);
    }
}

#[test]
fn not_before_it_has_reached_the_client() {
    for how in ["connection", "process"] {
        let stage = stage(how);
        let mut client = stage.connect();
        client.send(pipeline(&[READ, SEND]));
        client.replies(2);
        assert_root(&stage);
    }
}

#[test]
fn not_once_another_read_has_been_sent() {
    for read in [
        "XREADGROUP GROUP g c COUNT 1 STREAMS none >",
        "XREAD STREAMS none $",
        "XAUTOCLAIM s g c 99999 0 COUNT 1",
    ] {
        let stage = stage("connection");
        stage.direct("XGROUP CREATE none g $ MKSTREAM");
        say(&mut stage.connect(), &[READ, read, SEND]);
        assert_root(&stage);
    }
}

#[test]
fn not_of_what_is_received_without_a_group_or_with_noack() {
    for read in [
        "XREAD COUNT 1 STREAMS s 0",
        "XREADGROUP GROUP g c NOACK COUNT 1 STREAMS s >",
    ] {
        let stage = stage("connection");
        say(&mut stage.connect(), &[read, SEND]);
        assert_eq!(stage.wait_span("send next", "9-1").parent, None);
    }
}

#[test]
fn not_after_its_time_is_over() {
    let stage = Stage::configured(Kind::Redis82, |proxy| {
        proxy.args(["--infer-parent", "connection", "--process-timeout", "1s"])
    });
    make_group(&stage, "s");
    let mut client = stage.connect();
    say(&mut client, &["XADD s 1-1 f v", READ]);
    stage.wait_span("process s", "1-1");
    say(&mut client, &[SEND]);
    assert_eq!(stage.wait_span("send next", "9-1").parent, None);
}

#[test]
fn another_connection_counts_for_the_process_only() {
    for how in ["connection", "process"] {
        let stage = stage(how);
        let (mut reader, mut sender) = (stage.connect(), stage.connect());
        say(&mut reader, &[READ]);
        say(&mut sender, &[SEND]);
        if how == "process" {
            assert_inferred(&stage);
        } else {
            assert_root(&stage);
        }
    }
}

#[test]
fn two_connections_with_a_message_each_are_several() {
    let stage = stage("process");
    let (mut one, mut two) = (stage.connect(), stage.connect());
    say(&mut one, &[READ]);
    say(&mut two, &[READ]);
    say(&mut one, &[SEND]);
    assert_root(&stage);
    assert_eq!(counted(&stage, "process", "several"), 1.0);
    assert_eq!(counted(&stage, "connection", "one"), 1.0);
    // The other's is settled: then there is one.
    say(&mut two, &["XACK s g 2-1"]);
    let mut three = stage.connect();
    say(&mut three, &["XADD next 10-1 f v"]);
    assert_eq!(
        stage.wait_span("send next", "10-1").parent,
        None,
        "the newest read is settled"
    );
}

#[test]
fn a_read_anywhere_ends_it_for_the_process() {
    let stage = stage("process");
    let (mut one, mut two) = (stage.connect(), stage.connect());
    say(&mut one, &[READ]);
    say(&mut two, &["XREAD STREAMS none $", SEND]);
    assert_root(&stage);
}

#[test]
fn a_connection_that_closed_handles_nothing() {
    let stage = stage("process");
    let mut reader = stage.connect();
    say(&mut reader, &[READ]);
    let open = stage.proxy.metric("tars_proxy_connections", &[]);
    drop(reader);
    stage
        .proxy
        .wait_metric("tars_proxy_connections", &[], |count| count < open);
    say(&mut stage.connect(), &[SEND]);
    assert_root(&stage);
}

#[test]
fn an_unsampled_message_passes_its_decision_on() {
    let stage = Stage::configured(Kind::Redis82, |proxy| {
        proxy.args(["--infer-parent", "connection"])
    });
    make_group(&stage, "s");
    stage.direct(&format!("XADD s 1-1 traceparent {}", crate::UNSAMPLED));
    say(&mut stage.connect(), &[READ, SEND]);
    let fields = crate::stored(&stage, "next");
    assert!(
        fields[3].contains(crate::OWN_TRACE) && fields[3].ends_with("-00"),
        "{fields:?}"
    );
    assert_eq!(stage.settle_spans().len(), 1);
}
