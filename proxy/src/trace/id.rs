//! Trace and span ids: random, and lower-case hexadecimal wherever they are written.
//!
//! Both are plain bytes. All zero means "no id" in the standard; [`TraceId::is_valid`] tells, and nothing here makes one
//! at random.

use std::cell::RefCell;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::str::FromStr;

/// The id of a whole trace.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceId([u8; 16]);

/// The id of one span within its trace.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpanId([u8; 8]);

/// A text that is not an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id is written as exactly {digits} lower-case hexadecimal digits")]
pub struct ParseIdError {
    digits: usize,
}

impl TraceId {
    /// A new trace's id. All of its bytes are random, which is more than the last seven that Level 2's random flag
    /// vouches for.
    #[must_use]
    pub fn random() -> Self {
        GENERATOR.with_borrow_mut(|generator| {
            loop {
                let (high, low) = (generator.high.u64(..), generator.low.u64(..));
                let id = Self((u128::from(high) << 64 | u128::from(low)).to_be_bytes());
                if id.is_valid() {
                    return id;
                }
            }
        })
    }
}

impl SpanId {
    /// A new span's id.
    #[must_use]
    pub fn random() -> Self {
        GENERATOR.with_borrow_mut(|generator| {
            loop {
                let id = Self(generator.low.u64(..).to_be_bytes());
                if id.is_valid() {
                    return id;
                }
            }
        })
    }
}

/// Two independent generators, because one has 64 bits of state: a trace id drawn from it alone would be one of 2^64 in
/// all the world, and two threads whose states met would give out the same ids from there on.
struct Generator {
    high: fastrand::Rng,
    low: fastrand::Rng,
}

thread_local! {
    /// One a thread, so that an id costs no lock. The seeds come from the operating system by way of [`RandomState`]:
    /// fastrand's own are made of the clock and the thread's number, which two pods that start together may share.
    static GENERATOR: RefCell<Generator> = RefCell::new(Generator {
        high: fastrand::Rng::with_seed(RandomState::new().hash_one(0)),
        low: fastrand::Rng::with_seed(RandomState::new().hash_one(1)),
    });
}

/// What both ids have in common: bytes, and their hexadecimal text.
macro_rules! id {
    ($id:ident, $bytes:literal) => {
        impl $id {
            /// The id with these bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }

            /// The id's bytes.
            #[must_use]
            pub const fn to_bytes(self) -> [u8; $bytes] {
                self.0
            }

            /// Whether it is an id at all: all zero is none.
            #[must_use]
            pub fn is_valid(self) -> bool {
                self.0 != [0; $bytes]
            }

            /// Reads exactly as many lower-case hexadecimal digits as the id has. All zero is read too.
            #[must_use]
            pub fn from_hex(digits: &[u8]) -> Option<Self> {
                decode_hex(digits).map(Self)
            }

            /// The id as lower-case hexadecimal digits.
            #[must_use]
            pub fn to_hex(self) -> [[u8; 2]; $bytes] {
                encode_hex(self.0)
            }
        }

        impl FromStr for $id {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                Self::from_hex(text.as_bytes()).ok_or(ParseIdError { digits: 2 * $bytes })
            }
        }

        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(str::from_utf8(self.to_hex().as_flattened()).map_err(|_| fmt::Error)?)
            }
        }

        impl fmt::Debug for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

id!(TraceId, 16);
id!(SpanId, 8);

/// Reads `2 * N` lower-case hexadecimal digits. One pass without branches, so that the compiler makes vector code of it.
pub(super) fn decode_hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let (pairs, []) = digits.as_chunks::<2>() else {
        return None;
    };
    let pairs: &[[u8; 2]; N] = pairs.try_into().ok()?;
    let mut valid = true;
    let mut nibble = |digit: u8| {
        let (number, letter) = (digit.wrapping_sub(b'0'), digit.wrapping_sub(b'a'));
        valid &= (number < 10) | (letter < 6);
        if number < 10 {
            number
        } else {
            letter.wrapping_add(10)
        }
    };
    let bytes = pairs.map(|[high, low]| nibble(high) << 4 | nibble(low));
    valid.then_some(bytes)
}

/// Writes bytes as lower-case hexadecimal digits, also without branches.
pub(super) fn encode_hex<const N: usize>(bytes: [u8; N]) -> [[u8; 2]; N] {
    let digit = |nibble: u8| nibble + if nibble < 10 { b'0' } else { b'a' - 10 };
    bytes.map(|byte| [digit(byte >> 4), digit(byte & 0x0f)])
}

#[cfg(test)]
mod tests {
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
    fn every_byte_survives_its_digits() {
        for byte in 0..=u8::MAX {
            let digits = encode_hex([byte]);
            assert_eq!(digits.as_flattened(), format!("{byte:02x}").as_bytes());
            assert_eq!(decode_hex(digits.as_flattened()), Some([byte]));
        }
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
            let ids = (0..10_000).map(|_| (TraceId::random(), SpanId::random()));
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
        assert_eq!(
            ids.iter().map(|id| id.0).collect::<HashSet<_>>().len(),
            ids.len()
        );
        assert_eq!(
            ids.iter().map(|id| id.1).collect::<HashSet<_>>().len(),
            ids.len()
        );
    }

    #[test]
    fn every_bit_of_a_random_id_is_random() {
        // Set in half of 4,096 draws, give or take eight standard deviations (32 each).
        let mut set = [0_u32; 128];
        for _ in 0..4_096 {
            let id = u128::from_be_bytes(TraceId::random().to_bytes());
            for (bit, count) in set.iter_mut().enumerate() {
                *count += u32::from(id >> bit & 1 == 1);
            }
        }
        assert!(
            set.iter().all(|count| count.abs_diff(2_048) < 8 * 32),
            "{set:?}"
        );
    }
}
