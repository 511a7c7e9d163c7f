//! What the proxy does with one XADD, as the dry run sees it: the decision, and the bytes it comes to.

use serde::Serialize;

use crate::request::scan::{self, Head, Span32};
use crate::request::xadd::{self, Carried, Source};
use crate::trace::context::SpanContext;

/// What would be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Action {
    /// No context in the fields: a new one is appended.
    Inject,
    /// The application's own context: nothing is changed.
    Own,
    /// The context in `_trace_context` is appended as fields.
    Envelope,
    /// The `traceparent` is invalid: its value is replaced.
    Replace,
    /// Nothing is read or changed, for the reason given.
    Skip,
}

/// Why nothing is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reason {
    /// `--no-trace`
    NoTrace,
    /// `trace = false` for this stream.
    Rule,
    /// Larger than `max_message_bytes`.
    TooLarge,
    /// IDMPAUTO hashes the fields: more of them would be another message.
    IdempotentProducer,
    /// Redis will refuse it.
    Malformed,
}

/// What would be done to one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) action: Action,
    pub(super) reason: Option<Reason>,
    /// Fields that the message did not have.
    pub(super) fields: Vec<&'static str>,
    /// Bytes more of RESP between proxy and server.
    pub(super) wire_bytes: i64,
    /// Bytes more of field names and values, which is what Redis stores besides an entry's own few.
    pub(super) payload_bytes: i64,
}

impl Reason {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::NoTrace => "--no-trace",
            Self::Rule => "trace = false for this stream",
            Self::TooLarge => "larger than max_message_bytes",
            Self::IdempotentProducer => "IDMPAUTO hashes the fields",
            Self::Malformed => "malformed, Redis will refuse it",
        }
    }
}

impl Decision {
    fn of(action: Action) -> Self {
        Self {
            action,
            reason: None,
            fields: Vec::new(),
            wire_bytes: 0,
            payload_bytes: 0,
        }
    }

    pub(super) fn skip(reason: Reason) -> Self {
        Self {
            reason: Some(reason),
            ..Self::of(Action::Skip)
        }
    }
}

/// What would be done to an XADD: the byte path's own reading and rewriting of it, with the bytes counted instead of sent.
pub(super) fn plan(args: &[&[u8]]) -> Decision {
    let (buf, spans, header_end) = encode(args);
    let Some(xadd) = xadd::parse(&buf, &spans) else {
        return Decision::skip(Reason::Malformed);
    };
    if xadd.hashes_fields {
        return Decision::skip(Reason::IdempotentProducer);
    }
    let carried = Carried::read(xadd::fields(&buf, &spans, xadd));
    let mut decision = Decision::of(match carried.source {
        Source::Field => return Decision::of(Action::Own),
        Source::Envelope => Action::Envelope,
        Source::Invalid => Action::Replace,
        Source::None => Action::Inject,
    });
    let context = carried.context.unwrap_or_else(|| SpanContext::root(true));
    let mut rewritten = Vec::new();
    let mut copied = 0;
    xadd::rewrite(
        &buf,
        &spans,
        header_end,
        xadd,
        &carried,
        &context,
        &carried.state,
        |range, with| {
            rewritten.extend_from_slice(buf.get(copied..range.start).unwrap_or_default());
            rewritten.extend_from_slice(with);
            copied = range.end;
        },
    );
    rewritten.extend_from_slice(buf.get(copied..).unwrap_or_default());
    let after = split(&rewritten);
    for name in ["traceparent", "tracestate"] {
        let count = |args: &[Vec<u8>]| {
            args.iter()
                .skip(xadd.fields)
                .step_by(2)
                .filter(|field| *field == name.as_bytes())
                .count()
        };
        let before: Vec<Vec<u8>> = args.iter().map(|arg| arg.to_vec()).collect();
        if count(&after) > count(&before) {
            decision.fields.push(name);
        }
    }
    decision.wire_bytes = signed(rewritten.len()) - signed(buf.len());
    decision.payload_bytes =
        signed(after.iter().map(Vec::len).sum()) - signed(args.iter().map(|arg| arg.len()).sum());
    decision
}

/// What would be done to a message of these fields.
pub(super) fn decide(fields: &[(&[u8], &[u8])]) -> Decision {
    let mut args: Vec<&[u8]> = vec![b"XADD", b"key", b"*"];
    args.extend(fields.iter().flat_map(|(name, value)| [*name, *value]));
    plan(&args)
}

/// The command as a client library sends it: the bytes, where its arguments are, and where its header ends.
fn encode(args: &[&[u8]]) -> (Vec<u8>, Vec<Span32>, usize) {
    let mut buf = format!("*{}\r\n", args.len()).into_bytes();
    let header_end = buf.len();
    let mut spans = Vec::with_capacity(args.len());
    for arg in args {
        buf.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        let start = u32::try_from(buf.len()).unwrap_or(u32::MAX);
        buf.extend_from_slice(arg);
        spans.push(Span32 {
            start,
            end: u32::try_from(buf.len()).unwrap_or(u32::MAX),
        });
        buf.extend_from_slice(b"\r\n");
    }
    (buf, spans, header_end)
}

/// The arguments of a whole command.
fn split(command: &[u8]) -> Vec<Vec<u8>> {
    let mut args = Vec::new();
    if let Ok(Head::Array { mut cursor, .. }) = scan::head(command) {
        // What was made here is well-formed: an error would leave the list short, and the counts visibly wrong.
        let _ = cursor.walk(command, |arg| args.push(arg.of(command).to_vec()));
    }
    args
}

/// A command as RESP.
pub(super) fn command_bytes(args: &[&[u8]]) -> usize {
    1 + digits(args.len()) + 2 + args.iter().map(|arg| bulk(arg.len())).sum::<usize>()
}

/// The fields of an entry as RESP, without what stands around them.
pub(super) fn fields_bytes(fields: &[(&[u8], &[u8])]) -> usize {
    fields
        .iter()
        .map(|(name, value)| bulk(name.len()) + bulk(value.len()))
        .sum()
}

/// Names and values.
pub(super) fn payload_bytes(fields: &[(&[u8], &[u8])]) -> u64 {
    fields
        .iter()
        .map(|(name, value)| (name.len() + value.len()) as u64)
        .sum()
}

/// `$<length>\r\n<bytes>\r\n`
fn bulk(len: usize) -> usize {
    1 + digits(len) + 2 + len + 2
}

fn digits(number: usize) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
