//! W3C Trace Context Level 2 as pure functions on bytes: <https://www.w3.org/TR/trace-context-2/>.
//!
//! This file is `traceparent`; [`state`](TraceState) is `tracestate`. The standard binds both to HTTP headers. Here they
//! are the values of stream fields, which no protocol has trimmed: white space around a `traceparent` makes it invalid.
//!
//! What is read is what is written again: flags that the standard reserves are dropped on reading, and white space and
//! empty members of a `tracestate` too.

mod state;
#[cfg(test)]
mod tests;

pub use super::id::{SpanId, TraceId};
pub use state::{TraceState, parse_tracestate};

use super::id::{self, decode_hex, encode_hex};

/// The length of a version 00 `traceparent`, and of the part of any later version that we may read: version in bytes
/// 0..2, trace id in 3..35, parent id in 36..52, flags in 53..55, and dashes between.
pub const TRACEPARENT_LEN: usize = 55;

/// The trace flags that Level 2 defines. All other bits are reserved: whoever passes a context on sets them to zero, so
/// they are not kept at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TraceFlags(u8);

impl TraceFlags {
    /// The caller may have recorded its span.
    pub const SAMPLED: Self = Self(0x01);
    /// The last seven bytes, at least, of the trace id are random.
    pub const RANDOM: Self = Self(0x02);

    /// The defined flags among these bits.
    #[must_use]
    pub const fn from_byte(bits: u8) -> Self {
        Self(bits & (Self::SAMPLED.0 | Self::RANDOM.0))
    }

    /// The flags as bits.
    #[must_use]
    pub const fn to_byte(self) -> u8 {
        self.0
    }

    /// Whether the caller may have recorded its span.
    #[must_use]
    pub const fn sampled(self) -> bool {
        self.0 & Self::SAMPLED.0 != 0
    }

    /// Whether the trace id says that it is random.
    #[must_use]
    pub const fn random(self) -> bool {
        self.0 & Self::RANDOM.0 != 0
    }

    /// The same flags with this sampling decision.
    #[must_use]
    pub const fn with_sampled(self, sampled: bool) -> Self {
        Self(self.0 & !Self::SAMPLED.0 | sampled as u8)
    }
}

/// What identifies a span to others: what a `traceparent` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpanContext {
    /// The trace that the span is part of.
    pub trace_id: TraceId,
    /// The span itself: the `parent-id` of whoever reads this context.
    pub span_id: SpanId,
    /// Whether it was recorded, and whether the trace id is random.
    pub flags: TraceFlags,
}

impl SpanContext {
    /// The first span of a new trace, whose id is random and says so.
    #[must_use]
    pub fn root(sampled: bool) -> Self {
        let (trace_id, span_id) = id::random();
        Self {
            trace_id,
            span_id,
            flags: TraceFlags::RANDOM.with_sampled(sampled),
        }
    }

    /// A new span under this one. The sampling decision is the child's own, and may only differ because its id is new;
    /// whether the trace id is random never changes within a trace.
    #[must_use]
    pub fn child(&self, sampled: bool) -> Self {
        Self {
            trace_id: self.trace_id,
            span_id: SpanId::random(),
            flags: self.flags.with_sampled(sampled),
        }
    }

    /// The context as the value of a `traceparent`.
    #[must_use]
    pub fn traceparent(&self) -> [u8; TRACEPARENT_LEN] {
        let mut value = [0; TRACEPARENT_LEN];
        self.write_traceparent(&mut value);
        value
    }

    /// Writes the context as the value of a `traceparent`, always of version 00: the highest that we know, and so what we write
    /// whatever version we read.
    #[inline]
    pub fn write_traceparent(&self, out: &mut [u8; TRACEPARENT_LEN]) {
        *out = *b"00-________________________________-________________-__";
        if let Some(digits) = pairs(&mut out[3..35]) {
            encode_hex(self.trace_id.to_bytes(), digits);
        }
        if let Some(digits) = pairs(&mut out[36..52]) {
            encode_hex(self.span_id.to_bytes(), digits);
        }
        if let Some(digits) = pairs(&mut out[53..]) {
            encode_hex([self.flags.to_byte()], digits);
        }
    }
}

/// Room for the digits of as many bytes; there always is.
#[inline]
fn pairs<const N: usize>(digits: &mut [u8]) -> Option<&mut [[u8; 2]; N]> {
    digits.as_chunks_mut().0.try_into().ok()
}

/// Reads the value of a `traceparent`; `None` if it is not one.
///
/// A later version is read as far as version 00 goes, if it either ends there or goes on after a dash. Version ff, upper
/// case digits and ids that are all zero are invalid.
#[must_use]
pub fn parse_traceparent(value: &[u8]) -> Option<SpanContext> {
    let (known, unknown) = value.split_first_chunk::<TRACEPARENT_LEN>()?;
    let [version] = decode_hex(&known[..2])?;
    let ends = unknown.is_empty() || (version > 0 && unknown.first() == Some(&b'-'));
    // One by one: as an array they would be stored and loaded again, which doubles the cost of the whole.
    let dashes = known[2] == b'-' && known[35] == b'-' && known[52] == b'-';
    if version == 0xff || !ends || !dashes {
        return None;
    }
    let trace_id = TraceId::from_hex(&known[3..35])?;
    let span_id = SpanId::from_hex(&known[36..52])?;
    let [flags] = decode_hex(&known[53..])?;
    (trace_id.is_valid() && span_id.is_valid()).then_some(SpanContext {
        trace_id,
        span_id,
        flags: TraceFlags::from_byte(flags),
    })
}
