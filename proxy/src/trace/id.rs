//! Trace and span ids: random, and lower-case hexadecimal wherever they are written.
//!
//! Both are plain bytes. All zero means "no id" in the standard; [`TraceId::is_valid`] tells, and nothing here makes one
//! at random.

use std::cell::RefCell;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::str::FromStr;

mod hex;
#[cfg(test)]
mod tests;

pub(super) use hex::{decode_hex, encode_hex};

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

/// The ids of a new trace and of its first span. All bytes of the trace's are random, which is more than the last seven that
/// Level 2's random flag vouches for.
#[must_use]
pub fn random() -> (TraceId, SpanId) {
    GENERATOR.with_borrow_mut(|generator| {
        let trace = loop {
            let (high, low) = (generator.high.u64(..), generator.low.u64(..));
            let id = TraceId((u128::from(high) << 64 | u128::from(low)).to_be_bytes());
            if id.is_valid() {
                break id;
            }
        };
        (trace, generator.span())
    })
}

impl SpanId {
    /// A new span's id.
    #[must_use]
    pub fn random() -> Self {
        GENERATOR.with_borrow_mut(Generator::span)
    }
}

/// Two independent generators, because one has 64 bits of state: a trace id drawn from it alone would be one of 2^64 in
/// all the world, and two threads whose states met would give out the same ids from there on.
struct Generator {
    high: fastrand::Rng,
    low: fastrand::Rng,
}

impl Generator {
    #[inline]
    fn span(&mut self) -> SpanId {
        loop {
            let id = SpanId(self.low.u64(..).to_be_bytes());
            if id.is_valid() {
                return id;
            }
        }
    }
}

thread_local! {
    /// One a thread, so that an id costs no lock. The seeds come from the operating system by way of [`RandomState`]:
    /// fastrand's own are made of the clock and the thread's number, which two pods that start together may share.
    static GENERATOR: RefCell<Generator> = RefCell::new(Generator {
        high: fastrand::Rng::with_seed(RandomState::new().hash_one(0)),
        low: fastrand::Rng::with_seed(RandomState::new().hash_one(1)),
    });
}

/// From here on this thread makes the same ids again.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn seed(seed: u64) {
    GENERATOR.with_borrow_mut(|generator| {
        generator.high.seed(seed);
        generator.low.seed(!seed);
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
                let mut digits = [[0; 2]; $bytes];
                encode_hex(self.0, &mut digits);
                digits
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
