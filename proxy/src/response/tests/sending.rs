//! An XADD's reply, in and out of a transaction, ends its span.

use super::*;

#[test]
fn the_reply_ends_the_send_span() {
    for (reply, message, outcome) in [
        (
            "$3\r\n5-1\r\n",
            Some(EntryId { ms: 5, seq: 1 }),
            Outcome::Done,
        ),
        ("$-1\r\n", None, Outcome::NotSent),
        ("_\r\n", None, Outcome::NotSent),
        (
            "-WRONGTYPE Operation against a key\r\n",
            None,
            Outcome::Error("WRONGTYPE".into()),
        ),
        ("-ERR no\r\n", None, Outcome::Error("ERR".into())),
        ("-\r\n", None, Outcome::Error("ERR".into())),
        ("-lower case\r\n", None, Outcome::Error("ERR".into())),
        ("!9\r\nOOM twice\r\n", None, Outcome::Error("OOM".into())),
    ] {
        let world = World::default();
        let mut link = world.connect();
        let sent = link.client(&line("XADD s * f v"));
        link.cx.now = Moment::at(NOW + 5);
        assert_eq!(link.server(reply.as_bytes()), reply.as_bytes());
        let [span] = &world.spans()[..] else {
            panic!("one span")
        };
        assert_eq!(
            (span.operation, span.message, span.outcome.clone()),
            (Operation::Send, message, outcome),
            "{reply}"
        );
        assert_eq!((span.parent, span.end - span.start), (None, 5));
        let written = String::from_utf8(span.context.traceparent().to_vec()).unwrap();
        assert_eq!(
            sent,
            command(["XADD", "s", "*", "f", "v", "traceparent", &written])
        );
        assert_eq!(
            world.metric("tars_stream_messages_sent_total", &[]),
            f64::from(u8::from(message.is_some()))
        );
    }
}

#[test]
fn an_application_s_own_context_is_left_alone() {
    let world = World::default();
    let mut link = world.connect();
    let bytes = command([
        "XADD",
        "s",
        "*",
        "traceparent",
        CONTEXT,
        "tracestate",
        "a=1",
    ]);
    assert_eq!(link.client(&bytes), bytes);
    link.server(b"$3\r\n5-1\r\n");
    let [span] = &world.spans()[..] else {
        panic!("one span")
    };
    let context = parse_traceparent(CONTEXT.as_bytes()).unwrap();
    assert_eq!(span.operation, Operation::SendClient);
    assert_eq!(
        (span.parent, span.context.trace_id),
        (Some(context.span_id), context.trace_id)
    );
    assert_eq!(span.trace_state.as_str(), "a=1");
}

#[test]
fn an_xadd_in_a_transaction_ends_with_exec() {
    let ok = "+OK\r\n+QUEUED\r\n";
    for (end, reply, outcome) in [
        ("EXEC", "*1\r\n$3\r\n5-1\r\n", Outcome::Done),
        (
            "EXEC",
            "*1\r\n-WRONGTYPE no\r\n",
            Outcome::Error("WRONGTYPE".into()),
        ),
        ("EXEC", "*-1\r\n", Outcome::NotSent),
        ("EXEC", "_\r\n", Outcome::NotSent),
        ("EXEC", "-EXECABORT no\r\n", Outcome::NotSent),
        ("DISCARD", "+OK\r\n", Outcome::NotSent),
        ("RESET", "+RESET\r\n", Outcome::NotSent),
    ] {
        let reply = [ok, reply].concat();
        for cut in 0..=reply.len() {
            let world = World::default();
            let mut link = world.connect();
            link.client(&[line("MULTI"), line("XADD s * f v"), line(end)].concat());
            assert_eq!(
                [
                    link.server(&reply.as_bytes()[..cut]),
                    link.server(&reply.as_bytes()[cut..])
                ]
                .concat(),
                reply.as_bytes()
            );
            assert_eq!(link.raw(), None);
            let spans = world.spans();
            assert_eq!(outcomes(&spans)[0].1, outcome, "{end} {reply} cut at {cut}");
            assert_eq!(spans.len(), 1);
            let spans = exchange(&world, &mut link, "XADD s * f v", "$3\r\n9-9\r\n");
            assert_eq!(outcomes(&spans), [("9-9".to_owned(), Outcome::Done)]);
        }
    }
}

#[test]
fn a_push_within_exec_is_no_element() {
    // PUBLISH to one's own channel, before Redis 7.0.12.
    let world = World::default();
    let mut link = world.connect();
    link.client(
        &[
            line("MULTI"),
            line("PUBLISH c m"),
            line("XADD s * f v"),
            line("EXEC"),
        ]
        .concat(),
    );
    let reply = b"+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n>3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n:1\r\n$3\r\n5-1\r\n";
    for byte in reply {
        link.server(&[*byte]);
    }
    assert_eq!(
        outcomes(&world.spans()),
        [("5-1".to_owned(), Outcome::Done)]
    );
    let spans = exchange(&world, &mut link, "XADD s * f v", "$3\r\n9-9\r\n");
    assert_eq!(outcomes(&spans), [("9-9".to_owned(), Outcome::Done)]);
}
