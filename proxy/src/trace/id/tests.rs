//! Reading, writing and drawing ids.

#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::thread;

use super::*;

#[test]
fn hexadecimal_text_is_read_and_written() {
    let trace: TraceId = "4bf92f3577b34da6a3ce929d0e0e4736".parse().unwrap();
    assert_eq!(
        trace.to_bytes(),
        0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes()
    );
    assert_eq!(trace.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(format!("{trace:?}"), "4bf92f3577b34da6a3ce929d0e0e4736");
    let span: SpanId = "00f067aa0ba902b7".parse().unwrap();
    assert_eq!(span.to_bytes(), 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes());
    assert_eq!(format!("{span:>18}"), "  00f067aa0ba902b7");
}

#[test]
fn only_lower_case_digits_are_digits() {
    for byte in 0..=u8::MAX {
        let valid = b"0123456789abcdef".contains(&byte);
        assert_eq!(
            decode_hex::<1>(&[byte, b'0']).is_some(),
            valid,
            "{byte:#04x} first"
        );
        assert_eq!(
            decode_hex::<1>(&[b'0', byte]).is_some(),
            valid,
            "{byte:#04x} second"
        );
    }
}

#[test]
fn texts_of_another_length_are_refused() {
    for text in [
        "",
        "0",
        "00f067aa0ba902b",
        "00f067aa0ba902b70",
        "00f067aa0ba902b700",
    ] {
        let refused = text.parse::<SpanId>().unwrap_err().to_string();
        assert_eq!(
            refused, "an id is written as exactly 16 lower-case hexadecimal digits",
            "{text:?}"
        );
    }
}

#[test]
fn all_zero_is_no_id() {
    assert!(!TraceId::from_bytes([0; 16]).is_valid());
    assert!(!SpanId::from_bytes([0; 8]).is_valid());
    for index in 0..16 {
        let mut bytes = [0; 16];
        bytes
            .as_mut_slice()
            .get_mut(index)
            .into_iter()
            .for_each(|byte| *byte = 1);
        assert!(TraceId::from_bytes(bytes).is_valid(), "byte {index}");
    }
}

#[test]
fn random_ids_are_valid_and_differ_between_threads() {
    let draw = || {
        let ids = (0..10_000).map(|_| random());
        ids.collect::<Vec<_>>()
    };
    let threads: Vec<_> = (0..4).map(|_| thread::spawn(draw)).collect();
    let ids: Vec<_> = threads
        .into_iter()
        .flat_map(|thread| thread.join().unwrap())
        .collect();
    assert!(
        ids.iter()
            .all(|(trace, span)| trace.is_valid() && span.is_valid())
    );
    // Each half of a trace id comes from a generator of its own, and each has to be seeded.
    let high = ids
        .iter()
        .map(|id| u128::from_be_bytes(id.0.to_bytes()) >> 64);
    let low = ids
        .iter()
        .map(|id| u128::from_be_bytes(id.0.to_bytes()) << 64);
    let spans = ids.iter().map(|id| id.1);
    assert_eq!(high.collect::<HashSet<_>>().len(), ids.len());
    assert_eq!(low.collect::<HashSet<_>>().len(), ids.len());
    assert_eq!(spans.collect::<HashSet<_>>().len(), ids.len());
}

#[test]
fn every_bit_of_a_random_id_is_random() {
    // Set in half of 4,096 draws, give or take eight standard deviations (32 each).
    let mut set = [0_u32; 128];
    for _ in 0..4_096 {
        let id = u128::from_be_bytes(random().0.to_bytes());
        for (bit, count) in set.iter_mut().enumerate() {
            *count += u32::from(id >> bit & 1 == 1);
        }
    }
    assert!(
        set.iter().all(|count| count.abs_diff(2_048) < 8 * 32),
        "{set:?}"
    );
}
