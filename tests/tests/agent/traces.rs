//! Requests that belong to a trace, and only those, are spans of it.

use serde_json::json;
use tars_tests::agent::{Agent, batch, cart, fragment};
use tars_tests::otlp::{Collector, Span, SpanKind};
use tars_tests::wait::PATIENCE;

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UNSAMPLED: &str = "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

#[test]
fn experience_its_update_and_acting_are_one_trace() {
    let collector = Collector::start();
    let mut service = Agent::builder().otlp_grpc(&collector.grpc()).start();
    service.create(&cart("a", 64));
    let ask = |service: &Agent, what: &str, parent: &str, body: &str| {
        let path = format!("/v1/agents/a/{what}");
        service
            .ask("POST", &path, &[("traceparent", parent)], body.as_bytes())
            .expect(200)
    };
    let observation = json!({"observations": [0, 0, 0, 0]}).to_string();
    // Neither of these is seen.
    ask(&service, "act", UNSAMPLED, &observation);
    ask(&service, "act", "00-nonsense", &observation);
    ask(&service, "act", PARENT, &observation);
    let sent = batch("p", 0, fragment(0, 0, 0, 64)).to_string();
    ask(&service, "experience", PARENT, &sent);
    service.wait_status("a", "an update", |status| status["policy_version"] == 1);
    // What has ended is exported before the end.
    service.drain();
    let spans = collector.wait_for(PATIENCE, |spans| spans.len() >= 3);
    assert_eq!(spans.len(), 3, "{spans:?}");
    let named = |name: &str| {
        spans
            .iter()
            .find(|span| span.name == name)
            .unwrap_or_else(|| panic!("{name}: {spans:?}"))
    };
    let (act, experience, update) = (named("act a"), named("experience a"), named("update a"));
    for span in [act, experience] {
        assert_eq!(span.kind, SpanKind::Server);
        assert_eq!(span.parent.as_deref(), Some("b7ad6b7169203331"));
    }
    assert!(update.is_child_of(experience), "{update:?}");
    assert!(
        spans
            .iter()
            .all(|span: &Span| span.trace_id == "0af7651916cd43dd8448eb211c80319c")
    );
}
