#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use redis_protocol::resp2::decode::decode;
use redis_protocol::resp2::types::OwnedFrame;

use super::super::scan::{Head, head};
use super::*;
use crate::testing::{command, line};
use crate::trace::context::{SpanId, TraceFlags, TraceId, parse_tracestate};

mod properties;

const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const OTHER: &str = "00-11111111111111111111111111111111-2222222222222222-00";

/// The arguments of a whole command, and where its header ends.
fn scan(bytes: &[u8]) -> (Vec<Span32>, usize) {
    let Head::Array {
        header_end,
        mut cursor,
        ..
    } = head(bytes).unwrap()
    else {
        panic!("no array")
    };
    let mut args = Vec::new();
    assert!(cursor.walk(bytes, |arg| args.push(arg)).unwrap());
    assert_eq!(cursor.pos, bytes.len());
    (args, header_end)
}

fn texts(bytes: &[u8]) -> Vec<Vec<u8>> {
    scan(bytes)
        .0
        .iter()
        .map(|arg| arg.of(bytes).to_vec())
        .collect()
}

/// The same arguments as redis-protocol reads them.
fn oracle(bytes: &[u8]) -> Vec<Vec<u8>> {
    let (frame, length) = decode(bytes).unwrap().unwrap();
    assert_eq!(length, bytes.len());
    let OwnedFrame::Array(frames) = frame else {
        panic!("no array")
    };
    let text = |frame| match frame {
        OwnedFrame::BulkString(text) => text,
        other => panic!("{other:?}"),
    };
    frames.into_iter().map(text).collect()
}

fn parsed(words: &str) -> Option<Xadd> {
    let bytes = line(words);
    parse(&bytes, &scan(&bytes).0)
}

fn read(pairs: &[(&str, &str)]) -> Carried {
    Carried::read(
        pairs
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes())),
    )
}

fn context(number: u8) -> SpanContext {
    SpanContext {
        trace_id: TraceId::from_bytes([number; 16]),
        span_id: SpanId::from_bytes([number; 8]),
        flags: TraceFlags::SAMPLED,
    }
}

/// The command as it is sent on, with what was read from it.
fn rewritten(bytes: &[u8], context: &SpanContext, state: &TraceState) -> (Vec<u8>, Carried) {
    let (args, header_end) = scan(bytes);
    let xadd = parse(bytes, &args).unwrap();
    let carried = Carried::read(fields(bytes, &args, xadd));
    let (mut out, mut copied) = (Vec::new(), 0);
    rewrite(
        bytes,
        &args,
        header_end,
        xadd,
        &carried,
        context,
        state,
        |range, with| {
            assert!(
                range.start >= copied && range.end >= range.start,
                "ranges ascend"
            );
            out.extend_from_slice(&bytes[copied..range.start]);
            out.extend_from_slice(with);
            copied = range.end;
        },
    );
    out.extend_from_slice(&bytes[copied..]);
    (out, carried)
}

#[test]
fn the_fields_begin_behind_the_id() {
    for (words, fields) in [
        ("XADD s * f v", 3),
        ("xadd s * f v g w", 3),
        ("XADD s 5 f v", 3),
        ("XADD s 5-1 f v", 3),
        ("XADD s 5-* f v", 3),
        ("XADD s 0-1 f v", 3),
        ("XADD s 18446744073709551615-18446744073709551615 f v", 3),
        ("XADD s NOMKSTREAM * f v", 4),
        ("XADD s nomkstream * f v", 4),
        ("XADD s KEEPREF * f v", 4),
        ("XADD s DelRef * f v", 4),
        ("XADD s acked * f v", 4),
        ("XADD s MAXLEN 10 * f v", 5),
        ("XADD s MAXLEN = 10 * f v", 6),
        ("XADD s MAXLEN ~ 10 * f v", 6),
        ("XADD s maxlen ~ 10 limit 5 * f v", 8),
        ("XADD s LIMIT 5 MAXLEN ~ 10 * f v", 8),
        ("XADD s MINID 10 * f v", 5),
        ("XADD s MINID ~ 10-5 * f v", 6),
        ("XADD s mInId = 10-5 7-* f v", 6),
        ("XADD s IDMP p i * f v", 6),
        (
            "XADD s NOMKSTREAM KEEPREF IDMP p i MAXLEN ~ 10 LIMIT 5 * f v",
            13,
        ),
        (
            "XADD s MAXLEN ~ 10 LIMIT 5 IDMP p i KEEPREF NOMKSTREAM * f v",
            13,
        ),
        // What looks like an option, or an id, behind the id is a field.
        ("XADD s * MAXLEN 5", 3),
        ("XADD s * * *", 3),
        ("XADD s 1 NOMKSTREAM *", 3),
        // What looks like an id, or an option, is the value of an option.
        ("XADD s IDMP * * * f v", 6),
        ("XADD s IDMP MAXLEN NOMKSTREAM * f v", 6),
        ("XADD XADD * f v", 3),
    ] {
        assert_eq!(
            parsed(words),
            Some(Xadd {
                fields,
                hashes_fields: false
            }),
            "{words}"
        );
    }
    assert_eq!(
        parsed("XADD s IDMPAUTO p * f v"),
        Some(Xadd {
            fields: 5,
            hashes_fields: true
        })
    );
    assert_eq!(
        parsed("XADD s MAXLEN 5 idmpauto p NOMKSTREAM 1-1 f v"),
        Some(Xadd {
            fields: 8,
            hashes_fields: true
        })
    );
}

#[test]
fn what_the_server_will_refuse_is_left_alone() {
    for words in [
        "XADD",
        "XADD s",
        "XADD s *",
        "XADD s * f",
        "XADD s * f v g",
        "XADD s f v",
        "XADD s MAXLEN",
        "XADD s MAXLEN 5",
        "XADD s MAXLEN ~",
        "XADD s MAXLEN ~ 5",
        "XADD s MAXLEN ~ 5 *",
        "XADD s MINID",
        "XADD s MINID =",
        "XADD s MINID = 5 * f",
        "XADD s LIMIT",
        "XADD s LIMIT 5",
        "XADD s NOMKSTREAM",
        "XADD s NOMKSTREAM NOMKSTREAM",
        "XADD s IDMPAUTO",
        "XADD s IDMPAUTO p",
        "XADD s IDMP p",
        "XADD s IDMP p i",
        "XADD s WHAT * f v",
        "XADD s MAXLEN * f v g",
        "XADD s - f v",
        "XADD s + f v",
        "XADD s -5 f v",
        "XADD s *5 f v",
        "XADD s ** f v",
        "XADD s 5- f v",
        "XADD s 5-1-1 f v",
        "XADD s 5-** f v",
        "XADD s 5* f v",
        "XADD s *-5 f v",
        "XADD s -* f v",
        "XADD s 5x f v",
        "XADD s 18446744073709551616 f v",
        "XADD s 1-18446744073709551616 f v",
    ] {
        assert_eq!(parsed(words), None, "{words}");
    }
    let empty = command([&b"XADD"[..], b"s", b"", b"f", b"v"]);
    assert_eq!(parse(&empty, &scan(&empty).0), None);
}

#[test]
fn a_context_is_read_from_a_flat_field_first() {
    let carried = read(&[("f", "v"), ("traceparent", VALID)]);
    assert_eq!(
        (carried.source, carried.context),
        (Source::Field, context::parse_traceparent(VALID.as_bytes()))
    );
    assert!(carried.state.is_empty());

    let carried = read(&[
        ("tracestate", "a=1"),
        ("traceparent", VALID),
        ("tracestate", "b=2"),
        ("tracestate", ""),
    ]);
    assert_eq!(
        (carried.source, carried.state.as_str()),
        (Source::Field, "a=1,b=2")
    );
    let carried = read(&[("traceparent", VALID), ("tracestate", "not a list")]);
    assert_eq!(
        (carried.source, carried.state.as_str()),
        (Source::Field, "")
    );

    let envelope = format!("{{\"traceparent\":\"{OTHER}\"}}");
    let carried = read(&[("_trace_context", &envelope), ("traceparent", VALID)]);
    assert_eq!(
        (carried.source, carried.context),
        (Source::Field, context::parse_traceparent(VALID.as_bytes()))
    );
}

#[test]
fn what_is_no_context_is_none_or_invalid() {
    for (pairs, source) in [
        (&[][..], Source::None),
        (&[("f", "v")], Source::None),
        (&[("tracestate", "a=1")], Source::None),
        (&[("Traceparent", VALID)], Source::None),
        (&[("TRACEPARENT", VALID)], Source::None),
        (&[("traceparent ", VALID)], Source::None),
        (&[("f", "traceparent"), (VALID, "g")], Source::None),
        (&[("traceparent", "")], Source::Invalid),
        (
            &[(
                "traceparent",
                "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            )],
            Source::Invalid,
        ),
        (
            &[(
                "traceparent",
                " 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            )],
            Source::Invalid,
        ),
        (
            &[("traceparent", VALID), ("traceparent", VALID)],
            Source::Invalid,
        ),
        (
            &[("traceparent", VALID), ("traceparent", "x")],
            Source::Invalid,
        ),
        (
            &[("traceparent", "x"), ("traceparent", VALID)],
            Source::Invalid,
        ),
    ] {
        let carried = read(pairs);
        assert_eq!(
            (carried.source, carried.context, carried.state.as_str()),
            (source, None, ""),
            "{pairs:?}"
        );
    }
}

#[test]
fn envelopes_are_read_whatever_else_they_hold() {
    let padding = " ".repeat(5000);
    let nested = "[".repeat(1000);
    for (json, expected) in [
        (format!(r#"{{"traceparent":"{VALID}"}}"#), Some("")),
        (
            format!(r#" {{ "tracestate" : "a=1,b=2", "traceparent" : "{VALID}" }} "#),
            Some("a=1,b=2"),
        ),
        (
            format!(r#"{{"traceparent":"{VALID}","tracestate":null}}"#),
            Some(""),
        ),
        (
            format!(r#"{{"traceparent":"{VALID}","tracestate":""}}"#),
            Some(""),
        ),
        (
            format!(r#"{{"traceparent":"{VALID}","tracestate":"a=\u0031"}}"#),
            Some("a=1"),
        ),
        (
            format!(r#"{{"traceparent":"{VALID}","tracestate":"nonsense"}}"#),
            Some(""),
        ),
        (
            format!(r#"{{"traceparent":"{VALID}","region":{{"a":[1,2,{{}}]}},"n":1.5e9}}"#),
            Some(""),
        ),
        (
            format!(r#"{{"traceparent":"{}"}}"#, VALID.replace('-', "\\u002d")),
            Some(""),
        ),
        // A tracestate of another type says nothing, and takes nothing from the context beside it.
        (
            format!(r#"{{"traceparent":"{VALID}","tracestate":5}}"#),
            Some(""),
        ),
        (
            format!(r#"{{"traceparent":"{VALID}","tracestate":{{"a":"1"}}}}"#),
            Some(""),
        ),
        (String::new(), None),
        ("null".to_owned(), None),
        ("{}".to_owned(), None),
        ("[]".to_owned(), None),
        (format!(r#""{VALID}""#), None),
        (format!(r#"{{"traceparent":"{VALID}""#), None),
        (format!(r#"{{"traceparent":"{VALID}"}}x"#), None),
        (
            format!(r#"{{"traceparent":"{VALID}","traceparent":"{OTHER}"}}"#),
            None,
        ),
        (r#"{"traceparent":null}"#.to_owned(), None),
        (r#"{"traceparent":"00-0-0-0"}"#.to_owned(), None),
        (format!(r#"{{"Traceparent":"{VALID}"}}"#), None),
        (format!(r#"{{"a":{nested},"traceparent":"{VALID}"}}"#), None),
        (format!(r#"{{{padding}"traceparent":"{VALID}"}}"#), None),
        (
            format!("{{\"traceparent\":\"{VALID}\",\"a\":\"\u{1}\"}}"),
            None,
        ),
    ] {
        let carried = read(&[("_trace_context", &json)]);
        let found = carried.context.map(|_| carried.state.as_str());
        assert_eq!(found, expected, "{json}");
        let source = if expected.is_some() {
            Source::Envelope
        } else {
            Source::None
        };
        assert_eq!(carried.source, source, "{json}");
    }
    assert!(
        Carried::read([(ENVELOPE, &b"\xff\xfe{\"traceparent\":"[..])].into_iter())
            .context
            .is_none()
    );
    // An envelope speaks for a message whose flat field is broken.
    let envelope = format!(r#"{{"traceparent":"{VALID}"}}"#);
    let carried = read(&[("traceparent", "broken"), ("_trace_context", &envelope)]);
    assert_eq!(carried.source, Source::Envelope);
}

#[test]
fn a_rewrite_appends_replaces_and_empties() {
    let own = context(7);
    let written = String::from_utf8(own.traceparent().to_vec()).unwrap();
    let state = parse_tracestate([&b"k=v"[..]]);
    let none = TraceState::default();
    let envelope = format!(r#"{{"traceparent":"{VALID}"}}"#);
    let case = |given: &[&str], state: &TraceState, expected: &[&str]| {
        let given = command([&["XADD", "s", "*"], given].concat());
        let (out, carried) = rewritten(&given, &own, state);
        let expected = command([&["XADD", "s", "*"], expected].concat());
        assert_eq!(
            String::from_utf8_lossy(&out),
            String::from_utf8_lossy(&expected)
        );
        assert_eq!(
            texts(&out).len() - texts(&given).len(),
            added_arguments(&carried, state) as usize
        );
    };
    case(&["f", "v"], &none, &["f", "v", "traceparent", &written]);
    case(
        &["f", "v"],
        &state,
        &["f", "v", "traceparent", &written, "tracestate", "k=v"],
    );
    case(
        &["traceparent", "x", "f", "v"],
        &none,
        &["traceparent", &written, "f", "v"],
    );
    case(
        &["traceparent", "x", "f", "v"],
        &state,
        &["traceparent", &written, "f", "v", "tracestate", "k=v"],
    );
    case(
        &["traceparent", VALID, "traceparent", OTHER],
        &none,
        &["traceparent", &written, "traceparent", &written],
    );
    case(
        &["tracestate", "a=1", "traceparent", "x", "tracestate", "b=2"],
        &none,
        &["tracestate", "", "traceparent", &written, "tracestate", ""],
    );
    case(
        &["tracestate", "a=1", "traceparent", "x", "tracestate", "b=2"],
        &state,
        &[
            "tracestate",
            "k=v",
            "traceparent",
            &written,
            "tracestate",
            "",
        ],
    );
    // A tracestate that belongs to nothing.
    case(
        &["tracestate", "a=1"],
        &none,
        &["tracestate", "", "traceparent", &written],
    );
    case(
        &["tracestate", "a=1"],
        &state,
        &["tracestate", "k=v", "traceparent", &written],
    );
    case(
        &["_trace_context", &envelope],
        &none,
        &["_trace_context", &envelope, "traceparent", &written],
    );
    // Values that look like the fields stay.
    case(
        &["f", "traceparent", "g", "tracestate"],
        &none,
        &[
            "f",
            "traceparent",
            "g",
            "tracestate",
            "traceparent",
            &written,
        ],
    );
}

#[test]
fn the_header_grows_by_a_digit() {
    for argc in [5usize, 7, 9, 97, 99, 101, 997, 999, 9_999] {
        let mut args: Vec<Vec<u8>> = [&b"XADD"[..], b"s", b"*"].map(<[u8]>::to_vec).to_vec();
        args.resize(argc, b"x".to_vec());
        let bytes = command(&args);
        let state = parse_tracestate([&b"k=v"[..]]);
        for (state, more) in [(TraceState::default(), 2), (state, 4)] {
            let (out, carried) = rewritten(&bytes, &context(3), &state);
            assert_eq!(added_arguments(&carried, &state), more);
            assert!(out.starts_with(format!("*{}\r\n", argc + more as usize).as_bytes()));
            assert_eq!(texts(&out).len(), argc + more as usize);
            assert_eq!(texts(&out)[..argc], args);
        }
    }
}

#[test]
fn the_field_as_it_is_appended_has_the_length_that_is_declared() {
    let bytes = line("XADD s * f v");
    let (out, _) = rewritten(&bytes, &context(1), &TraceState::default());
    assert_eq!(out.len(), bytes.len() + APPENDED_LEN);
}

#[test]
fn numbers_are_written_as_redis_writes_them() {
    for number in [0usize, 9, 10, 99, 100, 101, 1 << 20, usize::MAX] {
        let line = Short::line(b'$', number);
        assert_eq!(line.bytes(), format!("${number}\r\n").as_bytes());
    }
}
