#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

type Fields<'a> = &'a [(&'a [u8], &'a [u8])];

const VALID: &[u8] = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const ENVELOPE: &[u8] = br#"{"traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01","tracestate":"a=1","n":[1]}"#;

fn split(line: &str) -> Vec<&[u8]> {
    line.split(' ').map(str::as_bytes).collect()
}

fn decided(
    action: Action,
    fields: &[&'static str],
    wire_bytes: i64,
    payload_bytes: i64,
) -> Decision {
    Decision {
        action,
        reason: None,
        fields: fields.to_vec(),
        wire_bytes,
        payload_bytes,
    }
}

#[test]
fn what_is_done_to_fields() {
    let longer = [b"cc-", VALID.get(3..).unwrap(), b"-more"].concat();
    let upper = VALID.to_ascii_uppercase();
    let table: &[(Fields<'_>, Decision)] = &[
        (
            &[(b"id", b"1")],
            decided(Action::Inject, &["traceparent"], 80, 66),
        ),
        (
            &[(b"id", b"1"), (b"traceparent", VALID)],
            decided(Action::Own, &[], 0, 0),
        ),
        (
            &[(b"traceparent", &longer)],
            decided(Action::Own, &[], 0, 0),
        ),
        (
            &[(b"Traceparent", VALID)],
            decided(Action::Inject, &["traceparent"], 80, 66),
        ),
        (
            &[(b"_trace_context", ENVELOPE)],
            decided(
                Action::Envelope,
                &["traceparent", "tracestate"],
                80 + 17 + 9,
                66 + 13,
            ),
        ),
        (
            &[(b"_trace_context", ENVELOPE), (b"traceparent", VALID)],
            decided(Action::Own, &[], 0, 0),
        ),
        (
            &[(b"_trace_context", b"{}")],
            decided(Action::Inject, &["traceparent"], 80, 66),
        ),
        (
            &[(b"_trace_context", br#"{"traceparent":"x"}"#)],
            decided(Action::Inject, &["traceparent"], 80, 66),
        ),
        // `$1`, one byte, becomes `$55`, 55 bytes.
        (
            &[(b"traceparent", b"x")],
            decided(Action::Replace, &[], 55, 54),
        ),
        (
            &[(b"traceparent", &upper), (b"tracestate", b"a=1")],
            decided(Action::Replace, &[], -3, -3),
        ),
        (
            &[(b"traceparent", VALID), (b"traceparent", VALID)],
            decided(Action::Replace, &[], 0, 0),
        ),
    ];
    for (fields, expected) in table {
        assert_eq!(decide(fields), *expected, "{fields:?}");
    }
}

#[test]
fn the_bytes_are_those_of_the_commands() {
    let before = b"*5\r\n$4\r\nXADD\r\n$1\r\ns\r\n$1\r\n*\r\n$2\r\nid\r\n$1\r\n1\r\n";
    let added = format!("$11\r\ntraceparent\r\n$55\r\n{}\r\n", "0".repeat(55));
    let args = split("XADD s * id 1");
    assert_eq!(command_bytes(&args), before.len());
    assert_eq!(plan(&args).wire_bytes, i64::try_from(added.len()).unwrap());
    // `*9` becomes `*11`.
    assert_eq!(
        plan(&split("XADD s * a 1 b 2 c 3")).wire_bytes,
        i64::try_from(added.len()).unwrap() + 1
    );
    assert_eq!(
        (
            fields_bytes(&[(b"id", b"1")]),
            payload_bytes(&[(b"id", b"1")])
        ),
        (15, 3)
    );
}

#[test]
fn the_grammar_of_xadd() {
    for line in [
        "XADD s * f v",
        "XADD s 1-1 f v",
        "XADD s 1-* f v",
        "XADD s 0 f v f2 v2",
        "XADD s NOMKSTREAM * f v",
        "XADD s maxlen ~ 10 limit 5 * f v",
        "XADD s MINID = 1-1 KEEPREF * f v",
        "XADD s MAXLEN 10 ACKED NOMKSTREAM * f v",
        "XADD s IDMP p i DELREF * f v",
    ] {
        assert_eq!(plan(&split(line)).action, Action::Inject, "{line}");
    }
    for line in [
        "XADD",
        "XADD s",
        "XADD s *",
        "XADD s * f",
        "XADD s * f v x",
        "XADD s f v",
        "XADD s -1 f v",
        "XADD s 1-x f v",
        "XADD s MAXLEN",
        "XADD s MAXLEN ~",
        "XADD s IDMP p * f v",
    ] {
        assert_eq!(
            plan(&split(line)),
            Decision::skip(Reason::Malformed),
            "{line}"
        );
    }
    assert_eq!(
        plan(&split("XADD s idmpauto p * f v")),
        Decision::skip(Reason::IdempotentProducer)
    );
}

proptest! {
    #[test]
    fn nothing_panics(args in proptest::collection::vec(prop_oneof!["XADD|\\*|MAXLEN|~|1|IDMP|traceparent|_trace_context".prop_map(String::into_bytes), proptest::collection::vec(any::<u8>(), 0..60)], 0..12)) {
        let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        let decision = plan(&args);
        prop_assert!(decision.action != Action::Own || decision.wire_bytes == 0);
    }
}
