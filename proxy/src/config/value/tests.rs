#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::config::{Deliver, InferParent};

fn error<T: std::fmt::Debug>(parsed: Parsed<T>) -> String {
    parsed.unwrap_err()
}

#[test]
fn durations() {
    for (text, ms) in [
        ("1ms", 1),
        ("250ms", 250),
        ("30s", 30_000),
        ("5m", 300_000),
        ("1h", 3_600_000),
        ("8760h", 31_536_000_000),
    ] {
        assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
    }
    for (text, expected) in [
        (
            "",
            "`` is no whole number with a unit; write a duration as 250ms, 30s, 5m or 1h",
        ),
        (
            "soon",
            "`soon` is no whole number with a unit; write a duration as 250ms, 30s, 5m or 1h",
        ),
        (
            "-5s",
            "`-5s` is negative, and no duration is; write a duration as 250ms, 30s, 5m or 1h",
        ),
        (
            "99999999999999999999s",
            "`99999999999999999999s` is no whole number with a unit; write a duration as 250ms, 30s, 5m or 1h",
        ),
        (
            "5",
            "`5` has no unit; write a duration as 250ms, 30s, 5m or 1h",
        ),
        (
            "5 min",
            "`5 min` has an unknown unit; write a duration as 250ms, 30s, 5m or 1h",
        ),
        (
            "1.5s",
            "`1.5s` has an unknown unit; write a duration as 250ms, 30s, 5m or 1h",
        ),
        (
            "0s",
            "`0s` is no time at all; write a duration as 250ms, 30s, 5m or 1h",
        ),
        (
            "8761h",
            "`8761h` is more than a year; write a duration as 250ms, 30s, 5m or 1h",
        ),
        (
            "18446744073709551615h",
            "`18446744073709551615h` is more than a year; write a duration as 250ms, 30s, 5m or 1h",
        ),
    ] {
        assert_eq!(error(duration(text)), expected);
    }
}

#[test]
fn sizes() {
    for (text, bytes) in [
        ("1", 1),
        ("65536", 65_536),
        ("10B", 10),
        ("64KiB", 65_536),
        ("1mib", 1 << 20),
        ("512MiB", 512 << 20),
    ] {
        assert_eq!(size(text), Ok(bytes), "{text}");
    }
    for (text, expected) in [
        (
            "big",
            "`big` is no whole number of bytes; write a size as 65536, 64KiB or 1MiB",
        ),
        (
            "1MB",
            "`1MB` has an unknown unit; write a size as 65536, 64KiB or 1MiB",
        ),
        (
            "0",
            "`0` is no size at all; write a size as 65536, 64KiB or 1MiB",
        ),
        (
            "1GiB",
            "`1GiB` is more than 512MiB, the largest value Redis takes; write a size as 65536, 64KiB or 1MiB",
        ),
        (
            "18446744073709551615KiB",
            "`18446744073709551615KiB` is more than 512MiB, the largest value Redis takes; write a size as 65536, 64KiB or 1MiB",
        ),
    ] {
        assert_eq!(error(size(text)), expected);
    }
}

#[test]
fn counts_ratios_booleans() {
    assert_eq!(count("7", 1..=9), Ok(7));
    for text in [
        "0",
        "10",
        "-1",
        "+1",
        "1.0",
        "",
        "many",
        "99999999999999999999",
    ] {
        assert_eq!(
            error(count(text, 1..=9)),
            format!("`{text}` is no whole number from 1 to 9")
        );
    }
    for (text, expected) in [
        ("0", 0.0),
        ("-0", 0.0),
        ("1", 1.0),
        ("0.25", 0.25),
        ("1e-3", 0.001),
    ] {
        assert_eq!(ratio(text), Ok(expected), "{text}");
    }
    assert!(ratio("-0").unwrap().is_sign_positive());
    for text in ["-0.1", "1.1", "NaN", "inf", "10%", ""] {
        assert_eq!(
            error(ratio(text)),
            format!("`{text}` is no number from 0 to 1, such as 0.25")
        );
    }
    assert_eq!((boolean("true"), boolean("false")), (Ok(true), Ok(false)));
    assert_eq!(error(boolean("yes")), "`yes` is neither true nor false");
}

#[test]
fn choices_and_names() {
    for (name, value) in Deliver::ALL {
        assert_eq!(choice(name), Ok(*value));
        assert_eq!(value.name(), *name);
    }
    assert_eq!(
        error(choice::<Deliver>("Keep")),
        "`Keep` is not one of keep, propagate or strip"
    );
    assert_eq!(
        error(choice::<InferParent>("on")),
        "`on` is not one of off, connection or process"
    );
    assert_eq!(name(" shop ").as_deref(), Ok("shop"));
    assert_eq!(error(name(" ")), "`` is no name; write a word such as shop");
    assert_eq!(
        error(name("a\nb")),
        "`a\\nb` is no name; write a word such as shop"
    );
}

#[test]
fn log_levels() {
    for text in [
        "info",
        "OFF",
        "info,tars_proxy=debug",
        "tars_proxy::config=trace",
    ] {
        assert_eq!(log_level(text).as_deref(), Ok(text));
    }
    assert_eq!(log_level("info, h2=off").as_deref(), Ok("info,h2=off"));
    for (text, bad) in [
        ("verbose", "verbose"),
        ("info,", ""),
        ("a=b", "a=b"),
        ("=info", "=info"),
        ("info debug", "info debug"),
    ] {
        assert_eq!(
            error(log_level(text)),
            format!(
                "`{bad}` is no log level; write off, error, warn, info, debug or trace, or levels by module such as info,tars_proxy=debug"
            )
        );
    }
}

#[test]
fn pairs_split_at_the_last_sign() {
    assert_eq!(pair("a=b*=0.5", "RATIO", "x"), Ok(("a=b*", "0.5")));
    assert_eq!(
        error(pair("orders*", "MODE", "orders*=strip")),
        "`orders*` is not PATTERN=MODE, such as orders*=strip"
    );
}

#[test]
fn what_is_shown_is_short_and_printable() {
    assert_eq!(shown("a\x1b[31m\n"), r"`a\u{1b}[31m\n`");
    assert_eq!(shown(&"x".repeat(1000)), format!("`{}…`", "x".repeat(60)));
}

proptest! {
    #[test]
    fn printed_values_read_back(ms in 1..MAX_DURATION.as_millis(), bytes in 1..=MAX_SIZE, coarse in 1..1000_u64, unit in 0..4_usize) {
        let ms = Duration::from_millis(u64::try_from(ms).unwrap());
        prop_assert_eq!(duration(&show_duration(ms)), Ok(ms));
        let whole = Duration::from_millis(coarse * DURATION_UNITS.get(unit).unwrap().1);
        prop_assert_eq!(duration(&show_duration(whole)), Ok(whole));
        prop_assert_eq!(size(&show_size(bytes)), Ok(bytes));
        prop_assert_eq!(size(&show_size(bytes / 1024 * 1024 + 1024)).is_ok(), bytes / 1024 * 1024 + 1024 <= MAX_SIZE);
    }

    #[test]
    fn no_text_panics(text in ".{0,30}") {
        let _ = (duration(&text), size(&text), count(&text, 0..=9), ratio(&text), log_level(&text), name(&text));
    }
}
