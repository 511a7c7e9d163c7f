//! Which traces have spans, and what travels in any case.

use tars_tests::otlp::SpanKind;
use tars_tests::server::Kind;
use tars_tests::stage::Stage;

use crate::{OWN, OWN_SPAN, OWN_TRACE, UNSAMPLED, ids, make_group, stored, without_flags};

/// A message to `key` is sent, delivered and acknowledged.
fn pass(stage: &Stage, key: &str, fields: &[&str]) {
    make_group(stage, key);
    let mut client = stage.connect();
    client.call(&[["XADD", key, "*"].as_slice(), fields].concat());
    let read = client.call(&["XREADGROUP", "GROUP", "g", "c", "STREAMS", key, ">"]);
    let id = crate::bulks(&read)[1].clone();
    client.call(&["XACK", key, "g", &id]);
}

#[test]
fn a_ratio_of_nothing_clears_the_sampled_bit_only() {
    let stage = Stage::configured(Kind::Redis82, |proxy| proxy.args(["--sample", "s*=0"]));
    pass(&stage, "s", &["f", "v"]);
    let fields = stored(&stage, "s");
    assert_eq!(fields[2], "traceparent");
    // New ids are random, and say so whether they are sampled or not.
    assert!(fields[3].ends_with("-02"), "{fields:?}");
    pass(&stage, "t", &["f", "v"]);
    let spans = stage.settle_spans();
    assert!(
        spans.iter().all(|span| !span.name.ends_with(" s")),
        "{spans:#?}"
    );
    stage.wait_named("process t", 1);
    // What is not sampled is counted all the same.
    for (metric, group) in [
        ("tars_stream_messages_sent_total", None),
        ("tars_stream_messages_settled_total", Some("g")),
    ] {
        let labels: Vec<_> = [("stream", "s")]
            .into_iter()
            .chain(group.map(|group| ("group", group)))
            .collect();
        assert_eq!(stage.proxy.metric(metric, &labels), 1.0, "{metric}");
    }
}

#[test]
fn the_samplers_of_the_environment() {
    for (sampler, argument, sampled) in [
        ("always_off", "", false),
        ("parentbased_always_off", "", false),
        ("traceidratio", "0", false),
        ("parentbased_traceidratio", "1", true),
        ("always_on", "", true),
    ] {
        let stage = Stage::configured(Kind::Redis70, |proxy| {
            let proxy = proxy
                .env("OTEL_TRACES_SAMPLER", sampler)
                .args(["--sample", "proof*=1"]);
            if argument.is_empty() {
                proxy
            } else {
                proxy.env("OTEL_TRACES_SAMPLER_ARG", argument)
            }
        });
        pass(&stage, "s", &["f", "v"]);
        let spans = stage.settle_spans();
        let of_stream = spans
            .iter()
            .filter(|span| span.name.ends_with(" s"))
            .count();
        assert_eq!(of_stream, if sampled { 2 } else { 0 }, "{sampler}");
    }
}

#[test]
fn a_ratio_is_for_roots_only_and_a_parent_s_decision_is_kept() {
    let stage = Stage::configured(Kind::Redis82, |proxy| {
        proxy.args(["--sample", "off=0", "--sample", "on=1"])
    });
    pass(&stage, "off", &["traceparent", OWN]);
    stage.wait_named("send off", 1);
    stage.wait_named("process off", 1);
    pass(&stage, "on", &["traceparent", UNSAMPLED]);
    let spans = stage.settle_spans();
    assert!(
        spans.iter().all(|span| !span.name.ends_with(" on")),
        "{spans:#?}"
    );
}

#[test]
fn a_ratio_between_takes_about_its_share() {
    const COUNT: usize = 1_000;
    let stage = Stage::configured(Kind::Valkey, |proxy| proxy.args(["--sample", "s=0.25"]));
    let adds = vec!["XADD s * f v"; COUNT];
    let _ids = tars_tests::resp::exchange(
        stage.proxy.address(),
        &tars_tests::resp::pipeline(&adds),
        COUNT,
    );
    let spans = stage.settle_spans();
    let sent = spans.iter().filter(|span| span.name == "send s").count();
    // Seven standard deviations: a failure by chance once in 10^11 runs.
    assert!((155..345).contains(&sent), "{sent}");
}

#[test]
fn force_begins_a_sampled_root_linked_to_its_unsampled_parent() {
    let rules = "[[stream]]\npattern = \"hot-reload\"\nforce = true\n";
    let off = ("OTEL_TRACES_SAMPLER", "always_off");
    let stage = Stage::configured(Kind::Redis82, |proxy| proxy.config(rules).env(off.0, off.1));
    pass(&stage, "hot-reload", &["f", "v"]);
    let sent = stage.wait_named("send hot-reload", 1).remove(0);
    assert_eq!(
        (sent.kind, sent.parent.as_deref()),
        (SpanKind::Producer, None)
    );
    assert_eq!(without_flags(&stored(&stage, "hot-reload")[3]), ids(&sent));
    assert!(stage.wait_named("process hot-reload", 1)[0].is_child_of(&sent));

    stage.collector.clear();
    pass(&stage, "hot-reload", &["traceparent", UNSAMPLED]);
    for name in ["send hot-reload", "process hot-reload"] {
        let span = stage.wait_named(name, 1).remove(0);
        assert_eq!(
            span.parent, None,
            "no span has a parent that was never recorded"
        );
        assert_ne!(span.trace_id, OWN_TRACE);
        let [link] = span.links.as_slice() else {
            panic!("{span:#?}")
        };
        assert_eq!(
            (link.trace_id.as_str(), link.span_id.as_str()),
            (OWN_TRACE, OWN_SPAN)
        );
        assert_eq!(link.attributes["tars.link"], "unsampled");
    }
    // A message with a sampled context is under it, as always.
    stage.collector.clear();
    pass(&stage, "hot-reload", &["traceparent", OWN]);
    assert_eq!(
        stage.wait_named("send hot-reload", 1)[0].parent.as_deref(),
        Some(OWN_SPAN)
    );
}
