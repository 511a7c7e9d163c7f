//! What a client's messages look like in the proxy's spans.

use std::collections::HashSet;

use tars_tests::otlp::Span;
use tars_tests::stage::Stage;
use tars_tests::wait::{PATIENCE, poll};

/// How many messages every library sends to its stream `groups`.
const MESSAGES: usize = 100;

/// Whether every message of a library's group was sent, handled once as that message's child, and settled.
pub(crate) fn traced(stage: &Stage, stream: &str) -> String {
    let sent = stage.wait_named(&format!("send {stream}"), MESSAGES);
    let processed = stage.wait_named(&format!("process {stream}"), MESSAGES);
    let ids: HashSet<&str> = sent.iter().map(id).collect();
    assert_eq!(ids.len(), MESSAGES);
    for send in &sent {
        let mut of_it = processed.iter().filter(|span| id(span) == id(send));
        let process = of_it.next().unwrap_or_else(|| panic!("none of {send:?}"));
        assert!(
            process.is_child_of(send) && settled(process),
            "{process:#?}"
        );
        assert_eq!(of_it.next(), None, "handled twice");
    }
    "yes".to_owned()
}

/// Whether every message that an application sent was read, and acknowledged if a group read it, as that message's child; and
/// nothing else was read.
pub(crate) fn linked(stage: &Stage, prefix: &str, xadd: bool) -> String {
    let of = |spans: &[Span], operations: &[&str]| -> Vec<Span> {
        let is = |span: &&Span| {
            operations
                .iter()
                .any(|operation| span.name.starts_with(&format!("{operation} {prefix}")))
        };
        spans.iter().filter(is).cloned().collect()
    };
    if !xadd {
        assert_eq!(of(&stage.settle_spans(), &["send"]), []);
        return "-".to_owned();
    }
    let unhandled = |spans: &[Span]| -> Vec<Span> {
        let (mut sent, read) = (of(spans, &["send"]), of(spans, &["process", "receive"]));
        sent.retain(|send| !read.iter().any(|r| r.is_child_of(send) && acknowledged(r)));
        sent
    };
    let all_handled =
        |spans: &[Span]| !of(spans, &["send"]).is_empty() && unhandled(spans).is_empty();
    if poll(PATIENCE, || {
        all_handled(&stage.collector.spans()).then_some(())
    })
    .is_none()
    {
        let spans = stage.collector.spans();
        let unhandled = unhandled(&spans);
        let of_them = |span: &&Span| unhandled.iter().any(|send| span.trace_id == send.trace_id);
        let story: Vec<&Span> = spans.iter().filter(of_them).collect();
        panic!("nothing was sent, or not all was read and acknowledged: {story:#?}");
    }
    let spans = stage.collector.spans();
    let sent = of(&spans, &["send"]);
    for read in of(&spans, &["process", "receive"]) {
        assert!(sent.iter().any(|send| read.is_child_of(send)), "{read:#?}");
    }
    "yes".to_owned()
}

fn id(span: &Span) -> &str {
    span.attr("messaging.message.id").as_str().unwrap()
}

fn settled(span: &Span) -> bool {
    span.attr("tars.outcome").is_null() && span.attr("error.type").is_null()
}

/// An application that claims too early, on a slow machine, handles a message twice and acknowledges it twice, over two
/// connections: if the answer of the second comes first, the attempt ends as uncertain.
fn acknowledged(span: &Span) -> bool {
    let again = span.attr("tars.delivery_count").as_u64() > Some(1);
    settled(span) || again && span.attr("tars.outcome") == "uncertain"
}
