//! What an XADD carries, and what it gets added.
//!
//! Pure functions over one whole command: [`parse`] reads the grammar (`streamParseAddOrTrimArgsOrReply` in
//! `t_stream.c`, options of Redis through 8.10), [`Carried::read`] looks for a context among the fields, and
//! [`rewrite`] says which bytes change.

use std::ops::Range;

use super::scan::Span32;
use crate::trace::context::{self, SpanContext, TRACEPARENT_LEN, TraceState};
use crate::trace::span::EntryId;

/// The field that carries the context.
pub const TRACEPARENT: &[u8] = b"traceparent";
/// The field that carries what tracing systems say to each other.
pub const TRACESTATE: &[u8] = b"tracestate";
/// The envelope of TARS v1.0.x services: JSON with `traceparent` and `tracestate`.
pub const ENVELOPE: &[u8] = b"_trace_context";

/// An envelope holds two short strings; a longer one is not read, so that a hostile one costs nothing.
const MAX_ENVELOPE_BYTES: usize = 4096;

/// What an XADD is made of. Positions are indexes into the arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Xadd {
    /// Where the fields begin: name, value, name, value …
    pub fields: usize,
    /// `IDMPAUTO`: the server hashes the fields, so that nothing may be added.
    pub hashes_fields: bool,
}

/// Reads the grammar `XADD key [option …] <*|id> field value [field value …]`, options in any order and any case.
/// None for what the server will refuse: it is forwarded untouched.
#[must_use]
pub fn parse(buf: &[u8], args: &[Span32]) -> Option<Xadd> {
    let arg = |i: usize| args.get(i).map(|a| a.of(buf));
    let is = |i: usize, word: &[u8]| arg(i).is_some_and(|a| a.eq_ignore_ascii_case(word));
    let mut i = 2;
    let mut hashes_fields = false;
    loop {
        let option = arg(i)?;
        if option == b"*" {
            break;
        }
        match option.first()?.to_ascii_uppercase() {
            b'M' if is(i, b"MAXLEN") || is(i, b"MINID") => {
                i += if matches!(arg(i + 1)?, b"~" | b"=") {
                    3
                } else {
                    2
                };
            }
            b'L' if is(i, b"LIMIT") => i += 2,
            b'N' if is(i, b"NOMKSTREAM") => i += 1,
            b'K' if is(i, b"KEEPREF") => i += 1,
            b'D' if is(i, b"DELREF") => i += 1,
            b'A' if is(i, b"ACKED") => i += 1,
            b'I' if is(i, b"IDMPAUTO") => {
                hashes_fields = true;
                i += 2;
            }
            b'I' if is(i, b"IDMP") => i += 3,
            b'0'..=b'9' if is_entry_id(option) => break,
            _ => return None,
        }
    }
    let fields = i + 1;
    let count = args.len().checked_sub(fields)?;
    (count >= 2 && count.is_multiple_of(2)).then_some(Xadd {
        fields,
        hashes_fields,
    })
}

/// `<ms>`, `<ms>-<seq>` or `<ms>-*`.
fn is_entry_id(text: &[u8]) -> bool {
    EntryId::parse(text.strip_suffix(b"-*").unwrap_or(text)).is_some()
}

/// What the fields of a message say of its context, and where.
#[derive(Clone, Debug)]
pub struct Carried {
    /// The context, if a valid one is there.
    pub context: Option<SpanContext>,
    /// The `tracestate` beside it.
    pub state: TraceState,
    /// Where the context was read from.
    pub source: Source,
    /// Whether there is a flat field that a rewrite must change.
    has_traceparent: bool,
    has_tracestate: bool,
}

/// Where a context was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// No field of these names.
    None,
    /// A valid `traceparent` field.
    Field,
    /// A valid `_trace_context` field.
    Envelope,
    /// A `traceparent` that is not valid, or two of them.
    Invalid,
}

impl Carried {
    /// Whether there is a `tracestate` field.
    #[must_use]
    pub fn has_tracestate(&self) -> bool {
        self.has_tracestate
    }

    /// Of a message without a context.
    const NONE: Self = Self {
        context: None,
        state: TraceState::NONE,
        source: Source::None,
        has_traceparent: false,
        has_tracestate: false,
    };

    /// Looks for a context among the `(name, value)` pairs of a message.
    #[inline]
    pub fn read<'a>(fields: impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone) -> Self {
        // Nearly all names differ in their lengths.
        let may_mean = |name: &[u8]| matches!(name.len(), 10 | 11 | 14);
        if fields.clone().any(|(name, _)| may_mean(name)) {
            Self::find(fields)
        } else {
            Self::NONE
        }
    }

    fn find<'a>(fields: impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone) -> Self {
        let mut traceparents = 0u32;
        let mut flat = None;
        let mut has_tracestate = false;
        let mut envelope = None;
        for (name, value) in fields.clone() {
            match name {
                TRACEPARENT => {
                    traceparents += 1;
                    flat = context::parse_traceparent(value);
                }
                TRACESTATE => has_tracestate = true,
                ENVELOPE => envelope = Some(value),
                _ => {}
            }
        }
        let has_traceparent = traceparents > 0;
        if let (1, Some(context)) = (traceparents, flat) {
            let state = if has_tracestate {
                context::parse_tracestate(
                    fields
                        .filter(|(name, _)| *name == TRACESTATE)
                        .map(|(_, value)| value),
                )
            } else {
                TraceState::default()
            };
            return Self {
                context: Some(context),
                state,
                source: Source::Field,
                has_traceparent,
                has_tracestate,
            };
        }
        let (context, state, source) = match envelope.and_then(read_envelope) {
            Some((context, state)) => (Some(context), state, Source::Envelope),
            None if has_traceparent => (None, TraceState::default(), Source::Invalid),
            None => (None, TraceState::default(), Source::None),
        };
        Self {
            context,
            state,
            source,
            has_traceparent,
            has_tracestate,
        }
    }
}

/// Reads `{"traceparent": "…", "tracestate": "…"}`, whatever else the object holds.
fn read_envelope(json: &[u8]) -> Option<(SpanContext, TraceState)> {
    #[derive(serde::Deserialize)]
    struct Envelope<'a> {
        #[serde(borrow)]
        traceparent: std::borrow::Cow<'a, str>,
        #[serde(borrow, default)]
        tracestate: Option<Text<'a>>,
    }
    /// What is no text says nothing, and takes nothing from the `traceparent` beside it.
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Text<'a> {
        Text(#[serde(borrow)] std::borrow::Cow<'a, str>),
        Other(serde::de::IgnoredAny),
    }
    if json.len() > MAX_ENVELOPE_BYTES {
        return None;
    }
    let envelope: Envelope<'_> = serde_json::from_slice(json).ok()?;
    let context = context::parse_traceparent(envelope.traceparent.as_bytes())?;
    let state = envelope.tracestate.as_ref().and_then(|state| match state {
        Text::Text(text) => Some(text.as_bytes()),
        Text::Other(_) => None,
    });
    Some((context, context::parse_tracestate(state)))
}

/// The pairs of an XADD.
pub fn fields<'a>(
    buf: &'a [u8],
    args: &'a [Span32],
    xadd: Xadd,
) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone + 'a {
    args.get(xadd.fields..)
        .unwrap_or_default()
        .chunks_exact(2)
        .filter_map(move |pair| match pair {
            [name, value] => Some((name.of(buf), value.of(buf))),
            _ => None,
        })
}

/// How many arguments [`rewrite`] will add.
#[must_use]
pub fn added_arguments(carried: &Carried, state: &TraceState) -> u32 {
    2 * (u32::from(!carried.has_traceparent)
        + u32::from(!carried.has_tracestate && !state.as_str().is_empty()))
}

/// Says which bytes of the command change so that it carries `context`: each call of `splice` replaces a range, in
/// ascending order. A `traceparent` that is there gets the new value, all of them; else the field is appended. A
/// `tracestate` that is there belonged to no valid context: the first takes `state`, the others are emptied.
#[allow(
    clippy::too_many_arguments,
    reason = "a command's parts, and what is to become of them"
)]
pub fn rewrite(
    buf: &[u8],
    args: &[Span32],
    header_end: usize,
    xadd: Xadd,
    carried: &Carried,
    context: &SpanContext,
    state: &TraceState,
    mut splice: impl FnMut(Range<usize>, &[u8]),
) {
    if let Some(header) = header(args, added_arguments(carried, state)) {
        splice(0..header_end, header.bytes());
    }
    rewrite_fields(buf, args, xadd, carried, context, state, splice);
}

/// The first line of a command that gets so many arguments more.
#[inline]
pub(crate) fn header(args: &[Span32], added: u32) -> Option<Short> {
    (added > 0).then(|| Short::line(b'*', args.len().saturating_add(added as usize)))
}

/// What the number in the first line becomes, if it has one digit and keeps it.
#[inline]
pub(crate) fn one_digit(args: &[Span32], header_end: usize, added: u32) -> Option<u8> {
    const HEADER: usize = b"*1\r\n".len();
    let argc = u8::try_from(args.len() + added as usize).ok()?;
    (header_end == HEADER && argc < 10).then_some(b'0' + argc)
}

/// [`rewrite`] without the first line.
#[inline(always)]
pub(crate) fn rewrite_fields(
    buf: &[u8],
    args: &[Span32],
    xadd: Xadd,
    carried: &Carried,
    context: &SpanContext,
    state: &TraceState,
    mut splice: impl FnMut(Range<usize>, &[u8]),
) {
    let end = args.last().map_or(0, |last| last.end as usize + 2);
    let mut state_text = state.as_str().as_bytes();
    if carried.has_traceparent || carried.has_tracestate {
        let traceparent = context.traceparent();
        let pairs = args.get(xadd.fields..).unwrap_or_default();
        for pair in pairs.chunks_exact(2) {
            let [name, value] = pair else { continue };
            let range = name.end as usize + 2..value.end as usize + 2;
            match name.of(buf) {
                TRACEPARENT => splice(range, &bulk(&traceparent)),
                TRACESTATE => splice(range, &bulk(std::mem::take(&mut state_text))),
                _ => {}
            }
        }
    }
    if !carried.has_traceparent {
        let mut field = *APPENDED;
        if let Some(value) = field
            .get_mut(APPENDED_AT..)
            .and_then(<[u8]>::first_chunk_mut)
        {
            context.write_traceparent(value);
        }
        splice(end..end, &field);
    }
    if !carried.has_tracestate && !state_text.is_empty() {
        let mut field = b"$10\r\ntracestate\r\n".to_vec();
        field.extend_from_slice(&bulk(state_text));
        splice(end..end, &field);
    }
}

/// The field as it is appended, with room for the value.
const APPENDED: &[u8; APPENDED_LEN] =
    b"$11\r\ntraceparent\r\n$55\r\n                                                       \r\n";
const APPENDED_AT: usize = 23;
/// Bytes that one `traceparent` field adds to a command on the wire, besides a digit more in its header.
pub const APPENDED_LEN: usize = APPENDED_AT + TRACEPARENT_LEN + 2;

/// A bulk string.
fn bulk(value: &[u8]) -> Vec<u8> {
    let header = Short::line(b'$', value.len());
    [header.bytes(), value, b"\r\n"].concat()
}

/// A header line, on the stack.
pub(crate) struct Short {
    bytes: [u8; 24],
    start: usize,
}

impl Short {
    /// `<marker><number>\r\n`
    #[allow(
        clippy::indexing_slicing,
        clippy::cast_possible_truncation,
        reason = "a usize has at most 20 digits, and a digit is below 10"
    )]
    pub(crate) fn line(marker: u8, number: usize) -> Self {
        let mut bytes = [0; 24];
        bytes[22..].copy_from_slice(b"\r\n");
        let mut start = 22;
        let mut rest = number;
        loop {
            start -= 1;
            bytes[start] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        start -= 1;
        bytes[start] = marker;
        Self { bytes, start }
    }

    /// What is to be written.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
