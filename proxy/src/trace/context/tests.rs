//! One row a rule of the standard, each named by its section: the fragment of
//! <https://www.w3.org/TR/trace-context-2/#…>.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// A version 00 value with these ids and flags.
fn value(trace: &str, parent: &str, flags: &str) -> String {
    format!("00-{trace}-{parent}-{flags}")
}

/// What a row expects: to be written again with its ids and these flags, or to be no `traceparent`.
#[derive(Clone, Copy)]
enum Expect {
    Flags(u8),
    Invalid,
}
use Expect::{Flags, Invalid};

/// Checks rows of (section or case, rule, value, expectation), and names all that fail.
fn check(rows: &[(&str, &str, String, Expect)]) {
    let failed: Vec<_> = rows
        .iter()
        .filter(|(_, _, value, expect)| {
            let written = parse_traceparent(value.as_bytes()).map(|context| context.traceparent());
            let expected = match expect {
                Flags(flags) => Some(format!(
                    "00-{}-{}-{flags:02x}",
                    &value[3..35],
                    &value[36..52]
                )),
                Invalid => None,
            };
            written.as_ref().map(<[u8; 55]>::as_slice) != expected.as_deref().map(str::as_bytes)
        })
        .map(|(section, rule, value, _)| format!("{section}: {rule}: {value:?}"))
        .collect();
    assert!(failed.is_empty(), "\n{}", failed.join("\n"));
}

#[test]
#[rustfmt::skip]
fn traceparent_follows_the_standard() {
    let good = value(TRACE, PARENT, "01");
    let tail = &good[2..];
    let zeros = |count| "0".repeat(count);
    check(&[
        ("examples-of-http-traceparent-headers", "sampled", good.clone(), Flags(1)),
        ("examples-of-http-traceparent-headers", "not sampled", value(TRACE, PARENT, "00"), Flags(0)),
        ("traceparent-header-field-values", "an empty value", String::new(), Invalid),
        ("traceparent-header-field-values", "version alone", "00".into(), Invalid),
        ("traceparent-header-field-values", "no dash after the version", good.replacen('-', "_", 1), Invalid),
        ("traceparent-header-field-values", "white space is not trimmed", format!(" {good}"), Invalid),
        ("traceparent-header-field-values", "nor behind", format!("{good} "), Invalid),
        ("version", "ff is forbidden", format!("ff{tail}"), Invalid),
        ("version", "ff is forbidden with more behind", format!("ff{tail}-00"), Invalid),
        ("version", "two digits", format!("0{tail}"), Invalid),
        ("version", "not three", format!("000{tail}"), Invalid),
        ("version", "lower-case hex: upper case", format!("0A{tail}"), Invalid),
        ("version", "lower-case hex: another letter", format!("0g{tail}"), Invalid),
        ("version-format", "one character short", good[..54].into(), Invalid),
        ("version-format", "version 00 ends after its flags", format!("{good}0"), Invalid),
        ("version-format", "version 00 has no fifth field", format!("{good}-00"), Invalid),
        ("version-format", "version 00 has no trailing dash", format!("{good}-"), Invalid),
        ("version-format", "a dash after the trace id", value(TRACE, PARENT, "01").replace("6-0", "6_0"), Invalid),
        ("version-format", "a dash after the parent id", value(TRACE, PARENT, "01").replace("7-0", "7_0"), Invalid),
        ("version-format", "fields are found by place", value(&TRACE[1..], &format!("{PARENT}0"), "01"), Invalid),
        ("trace-id", "all zero is invalid", value(&zeros(32), PARENT, "01"), Invalid),
        ("trace-id", "a single bit is enough", value(&format!("{}1", zeros(31)), PARENT, "01"), Flags(1)),
        ("trace-id", "all bits set", value(&"f".repeat(32), PARENT, "01"), Flags(1)),
        ("trace-id", "non-allowed characters: upper case", value(&TRACE.to_uppercase(), PARENT, "01"), Invalid),
        ("trace-id", "non-allowed characters: first", value(&format!("x{}", &TRACE[1..]), PARENT, "01"), Invalid),
        ("trace-id", "non-allowed characters: last", value(&format!("{}x", &TRACE[..31]), PARENT, "01"), Invalid),
        ("trace-id", "non-allowed characters: NUL", value(&format!("{}\0", &TRACE[..31]), PARENT, "01"), Invalid),
        ("parent-id", "all zero is invalid", value(TRACE, &zeros(16), "01"), Invalid),
        ("parent-id", "a single bit is enough", value(TRACE, &format!("1{}", zeros(15)), "01"), Flags(1)),
        ("parent-id", "non-allowed characters: upper case", value(TRACE, &PARENT.to_uppercase(), "01"), Invalid),
        ("parent-id", "non-allowed characters: first", value(TRACE, &format!("x{}", &PARENT[1..]), "01"), Invalid),
        ("parent-id", "non-allowed characters: last", value(TRACE, &format!("{}x", &PARENT[..15]), "01"), Invalid),
        ("trace-flags", "two digits", value(TRACE, PARENT, "1"), Invalid),
        ("trace-flags", "lower-case hex", value(TRACE, PARENT, "0B"), Invalid),
        ("trace-flags", "bits, not a number: 03 is sampled too", value(TRACE, PARENT, "03"), Flags(3)),
        ("sampled-flag", "the least significant bit", value(TRACE, PARENT, "01"), Flags(1)),
        ("random-trace-id-flag", "the second least significant bit", value(TRACE, PARENT, "02"), Flags(2)),
        ("other-flags", "are set to zero", value(TRACE, PARENT, "04"), Flags(0)),
        ("other-flags", "all of them, and no other", value(TRACE, PARENT, "ff"), Flags(3)),
        ("versioning-of-traceparent", "the prefix has to be a version", format!("zz{tail}"), Invalid),
        ("versioning-of-traceparent", "higher and 55 long", format!("01{tail}"), Flags(1)),
        ("versioning-of-traceparent", "the highest", format!("fe{tail}"), Flags(1)),
        ("versioning-of-traceparent", "higher and shorter than 55", format!("01{}", &tail[..52]), Invalid),
        ("versioning-of-traceparent", "goes on after a dash", format!("01{tail}-what-comes"), Flags(1)),
        ("versioning-of-traceparent", "nothing after that dash", format!("01{tail}-"), Flags(1)),
        ("versioning-of-traceparent", "goes on without a dash", format!("01{tail}.what-comes"), Invalid),
        ("versioning-of-traceparent", "flags of three digits", format!("01{tail}0"), Invalid),
        ("versioning-of-traceparent", "trace id is checked", format!("01{tail}").replace("4bf", "4Bf"), Invalid),
        ("versioning-of-traceparent", "a dash has to follow it", format!("01{tail}").replace("6-0", "600"), Invalid),
        ("versioning-of-traceparent", "parent id is checked", format!("01{tail}").replace("0ba", "0Ba"), Invalid),
        ("versioning-of-traceparent", "and a dash after it", format!("01{tail}").replace("7-0", "700"), Invalid),
        ("a-traceparent-is-received", "unknown flags of a higher version", format!("01-{TRACE}-{PARENT}-fe"), Flags(2)),
        ("hostile values", "made a well-known parser panic", format!("00-{TRACE}-000{PARENT}"), Invalid),
        ("hostile values", "so did this", format!("00-{TRACE}-{PARENT}-"), Invalid),
    ]);
}

/// The cases of the W3C's test suite (github.com/w3c/trace-context, `test/test.py`) that concern the value, by name.
/// Those on header names and on absent or repeated headers concern whoever looks for the field.
#[test]
#[rustfmt::skip]
fn traceparent_passes_the_cases_of_the_test_suite() {
    let good = value(TRACE, PARENT, "01");
    let tail = &good[2..];
    check(&[
        ("test_traceparent_included_tracestate_missing", "same trace", good.clone(), Flags(1)),
        ("test_traceparent_version_0x00", "trailing character", format!("{good}."), Invalid),
        ("test_traceparent_version_0x00", "trailing field", format!("{good}-of-a-later-version"), Invalid),
        ("test_traceparent_version_0xcc", "same length", format!("cc{tail}"), Flags(1)),
        ("test_traceparent_version_0xcc", "another field", format!("cc{tail}-of-a-later-version"), Flags(1)),
        ("test_traceparent_version_0xcc", "not another field", format!("cc{tail}.of-a-later-version"), Invalid),
        ("test_traceparent_version_0xff", "invalid", format!("ff{tail}"), Invalid),
        ("test_traceparent_version_illegal_characters", "first", format!(".0{tail}"), Invalid),
        ("test_traceparent_version_illegal_characters", "second", format!("0.{tail}"), Invalid),
        ("test_traceparent_version_too_long", "by one", format!("000{tail}"), Invalid),
        ("test_traceparent_version_too_long", "by two", format!("0000{tail}"), Invalid),
        ("test_traceparent_version_too_short", "by one", format!("0{tail}"), Invalid),
        ("test_traceparent_trace_id_all_zero", "invalid", value(&"0".repeat(32), PARENT, "01"), Invalid),
        ("test_traceparent_trace_id_illegal_characters", "first", good.replace("-4b", "-.b"), Invalid),
        ("test_traceparent_trace_id_illegal_characters", "last", good.replace("36-", "3.-"), Invalid),
        ("test_traceparent_trace_id_too_long", "by one", value(&format!("{TRACE}3"), PARENT, "01"), Invalid),
        ("test_traceparent_trace_id_too_short", "by one", value(&TRACE[..31], PARENT, "01"), Invalid),
        ("test_traceparent_parent_id_all_zero", "invalid", value(TRACE, &"0".repeat(16), "01"), Invalid),
        ("test_traceparent_parent_id_illegal_characters", "first", good.replace("-00f", "-.0f"), Invalid),
        ("test_traceparent_parent_id_illegal_characters", "last", good.replace("b7-", "b.-"), Invalid),
        ("test_traceparent_parent_id_too_long", "by one", value(TRACE, &format!("{PARENT}7"), "01"), Invalid),
        ("test_traceparent_parent_id_too_short", "by one", value(TRACE, &PARENT[..15], "01"), Invalid),
        ("test_traceparent_trace_flags_illegal_characters", "first", value(TRACE, PARENT, ".0"), Invalid),
        ("test_traceparent_trace_flags_illegal_characters", "second", value(TRACE, PARENT, "0."), Invalid),
        ("test_traceparent_trace_flags_too_long", "by one", value(TRACE, PARENT, "001"), Invalid),
        ("test_traceparent_trace_flags_too_short", "by one", value(TRACE, PARENT, "1"), Invalid),
        // The suite expects these to be valid because HTTP trims a header's value before anyone reads it. Nobody trims
        // a field of a stream entry.
        ("test_traceparent_ows_handling", "in front", format!("\t {good}"), Invalid),
        ("test_traceparent_ows_handling", "behind", format!("{good} \t"), Invalid),
        ("test_propagates_random_flag", "kept", value(TRACE, PARENT, "02"), Flags(2)),
    ]);
}

/// Sections `mutating-the-traceparent-field` and `random-trace-id-flag`.
#[test]
fn traceparent_is_changed_as_the_standard_allows() {
    for flags in 0..=3 {
        let received =
            parse_traceparent(value(TRACE, PARENT, &format!("{flags:02x}")).as_bytes()).unwrap();
        for sampled in [true, false] {
            let sent = received.child(sampled);
            assert_eq!(
                sent.trace_id, received.trace_id,
                "no mutation changes the trace id alone"
            );
            assert_ne!(
                sent.span_id, received.span_id,
                "update sampled: only with a new parent id"
            );
            assert_eq!(
                sent.flags.sampled(),
                sampled,
                "update sampled: in both directions"
            );
            assert_eq!(
                sent.flags.random(),
                received.flags.random(),
                "random is passed on, set or unset"
            );
        }
        let restarted = SpanContext::root(true);
        assert_ne!(
            restarted.trace_id, received.trace_id,
            "restart trace: every property is new"
        );
        assert_ne!(
            restarted.span_id, received.span_id,
            "restart trace: every property is new"
        );
    }
    for sampled in [true, false] {
        let flags = SpanContext::root(sampled).flags;
        assert!(flags.random(), "a random trace id says so");
        assert_eq!(
            flags.sampled(),
            sampled,
            "the decision is the one that was made"
        );
    }
    let later = parse_traceparent(format!("cc-{TRACE}-{PARENT}-ff-more").as_bytes()).unwrap();
    assert_eq!(
        later.traceparent().as_slice(),
        value(TRACE, PARENT, "03").as_bytes(),
        "downgrade the version"
    );
}

/// Section `a-traceparent-is-received`: each outgoing request has a parent id of its own.
#[test]
fn children_have_ids_of_their_own() {
    let parent = SpanContext::root(true);
    let ids: HashSet<_> = (0..1_000).map(|_| parent.child(true).span_id).collect();
    assert_eq!(ids.len(), 1_000);
}

#[test]
fn flags_keep_what_is_defined() {
    for bits in 0..=u8::MAX {
        let flags = TraceFlags::from_byte(bits);
        assert_eq!(flags.to_byte(), bits & 3);
        assert_eq!(flags.sampled(), bits & 1 != 0);
        assert_eq!(flags.random(), bits & 2 != 0);
        assert_eq!(
            flags.with_sampled(true).to_byte(),
            bits & 2 | 1,
            "only the sampled bit is set"
        );
        assert_eq!(
            flags.with_sampled(false).to_byte(),
            bits & 2,
            "only the sampled bit is cleared"
        );
    }
}

/// One is held for every unsettled delivery and every request in flight.
#[test]
fn a_context_is_small() {
    assert!(size_of::<SpanContext>() <= 32);
    assert!(size_of::<Option<SpanContext>>() <= 32);
    assert!(size_of::<TraceState>() <= 16);
}

/// The grammar read once more, field by field: slow, and as unlike the parser as it can be.
fn by_the_grammar(value: &[u8]) -> Option<[u8; TRACEPARENT_LEN]> {
    let text = String::from_utf8_lossy(value);
    let fields: Vec<&str> = text.splitn(5, '-').collect();
    let [version, trace, parent, flags] = *fields.first_chunk()?;
    let hex = |field: &str, length| {
        field.len() == length
            && field
                .chars()
                .all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c))
    };
    let valid = hex(version, 2) && hex(trace, 32) && hex(parent, 16) && hex(flags, 2);
    let nonzero = trace.contains(|c| c != '0') && parent.contains(|c| c != '0');
    if !valid || !nonzero || version == "ff" || (version == "00" && fields.len() > 4) {
        return None;
    }
    let flags = u8::from_str_radix(flags, 16).unwrap() & 3;
    Some(
        format!("00-{trace}-{parent}-{flags:02x}")
            .into_bytes()
            .try_into()
            .unwrap(),
    )
}

#[test]
fn any_one_byte_changed_is_judged_by_the_grammar() {
    for version in ["00", "01", "fe"] {
        for rest in ["", "-", "-more"] {
            let good = format!("{version}-{TRACE}-{PARENT}-03{rest}").into_bytes();
            for index in 0..good.len() {
                for byte in 0..=u8::MAX {
                    let mut value = good.clone();
                    value[index] = byte;
                    let written = parse_traceparent(&value).map(|context| context.traceparent());
                    assert_eq!(
                        written,
                        by_the_grammar(&value),
                        "byte {index} is {byte:#04x}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_value_cut_anywhere_is_invalid() {
    let good = value(TRACE, PARENT, "01");
    for length in 0..TRACEPARENT_LEN {
        assert_eq!(
            parse_traceparent(&good.as_bytes()[..length]),
            None,
            "{length} bytes"
        );
    }
}

fn contexts() -> impl Strategy<Value = SpanContext> {
    (any::<[u8; 16]>(), any::<[u8; 8]>(), any::<u8>())
        .prop_map(|(trace, span, flags)| SpanContext {
            trace_id: TraceId::from_bytes(trace),
            span_id: SpanId::from_bytes(span),
            flags: TraceFlags::from_byte(flags),
        })
        .prop_filter("all zero is no id", |context| {
            context.trace_id.is_valid() && context.span_id.is_valid()
        })
}

proptest! {
    #[test]
    fn what_is_written_reads_the_same(context in contexts()) {
        let mut value = [0; TRACEPARENT_LEN];
        context.write_traceparent(&mut value);
        prop_assert_eq!(value, context.traceparent());
        prop_assert_eq!(parse_traceparent(&value), Some(context));
    }

    #[test]
    fn any_bytes_are_judged_by_the_grammar(value: Vec<u8>) {
        let written = parse_traceparent(&value).map(|context| context.traceparent());
        prop_assert_eq!(written, by_the_grammar(&value));
    }

    #[test]
    fn nearly_valid_values_are_judged_by_the_grammar(
        value in "(00|01|f[ef])-[0-9a-f]{31,32}[0-9A-Fa-g-]?-[0-9a-f]{15,16}[0-9A-Fa-g-]?-[0-9a-g]{1,3}(-.{0,3})?"
    ) {
        let written = parse_traceparent(value.as_bytes()).map(|context| context.traceparent());
        prop_assert_eq!(written, by_the_grammar(value.as_bytes()));
    }

    #[test]
    fn whatever_is_accepted_reads_the_same_after_writing(
        value in "[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.{0,8})?"
    ) {
        if let Some(context) = parse_traceparent(value.as_bytes()) {
            prop_assert_eq!(parse_traceparent(&context.traceparent()), Some(context));
        }
    }
}
