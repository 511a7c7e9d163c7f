//! What the proxy does with one XADD, as the dry run sees it: the decision, and the bytes it comes to.

use serde::{Deserialize, Serialize};

/// `00-<trace id>-<span id>-<flags>`
const TRACEPARENT_LEN: usize = 55;

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

    fn append(&mut self, name: &'static str, value: usize) {
        self.fields.push(name);
        self.wire_bytes += signed(bulk(name.len()) + bulk(value));
        self.payload_bytes += signed(name.len() + value);
    }

    fn replace(&mut self, old: usize, new: usize) {
        self.wire_bytes += signed(bulk(new)) - signed(bulk(old));
        self.payload_bytes += signed(new) - signed(old);
    }
}

/// What would be done to an XADD.
pub(super) fn plan(args: &[&[u8]]) -> Decision {
    let Some((fields, hashed)) = fields_of(args) else {
        return Decision::skip(Reason::Malformed);
    };
    if hashed {
        return Decision::skip(Reason::IdempotentProducer);
    }
    let pairs: Vec<(&[u8], &[u8])> = fields
        .chunks_exact(2)
        .filter_map(|pair| Some((*pair.first()?, *pair.get(1)?)))
        .collect();
    let mut decision = decide(&pairs);
    let more = args.len() + 2 * decision.fields.len();
    decision.wire_bytes += signed(digits(more)) - signed(digits(args.len()));
    decision
}

/// What would be done to a message of these fields.
pub(super) fn decide(fields: &[(&[u8], &[u8])]) -> Decision {
    let values = |name: &'static [u8]| {
        fields
            .iter()
            .filter(move |(field, _)| *field == name)
            .map(|(_, value)| *value)
    };
    let parents: Vec<&[u8]> = values(b"traceparent").collect();
    let envelope = values(b"_trace_context").find_map(Envelope::read);
    match (parents.as_slice(), envelope) {
        ([only], _) if is_traceparent(only) => Decision::of(Action::Own),
        ([], Some(envelope)) => {
            let mut decision = Decision::of(Action::Envelope);
            decision.append("traceparent", TRACEPARENT_LEN);
            if !envelope.tracestate.is_empty() {
                decision.append("tracestate", envelope.tracestate.len());
            }
            decision
        }
        ([], None) => {
            let mut decision = Decision::of(Action::Inject);
            decision.append("traceparent", TRACEPARENT_LEN);
            decision
        }
        (invalid, _) => {
            let mut decision = Decision::of(Action::Replace);
            invalid
                .iter()
                .for_each(|old| decision.replace(old.len(), TRACEPARENT_LEN));
            values(b"tracestate").for_each(|old| decision.replace(old.len(), 0));
            decision
        }
    }
}

/// The context that TARS v1.0.x services write as JSON.
#[derive(Deserialize)]
struct Envelope {
    traceparent: String,
    #[serde(default)]
    tracestate: String,
}

impl Envelope {
    fn read(json: &[u8]) -> Option<Self> {
        let envelope: Self = serde_json::from_slice(json).ok()?;
        is_traceparent(envelope.traceparent.as_bytes()).then_some(envelope)
    }
}

/// W3C Trace Context level 2, by fixed offsets.
fn is_traceparent(value: &[u8]) -> bool {
    let hex = |range: std::ops::Range<usize>| {
        let part = value.get(range).unwrap_or_default();
        let lower = part.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        (!part.is_empty() && lower).then_some(part)
    };
    let not_zero = |part: Option<&[u8]>| part.is_some_and(|part| part.iter().any(|b| *b != b'0'));
    let dash = |at| value.get(at) == Some(&b'-');
    let (Some(version), Some(_)) = (hex(0..2), hex(53..55)) else {
        return false;
    };
    let ends_well = value.len() == TRACEPARENT_LEN || version != b"00" && dash(TRACEPARENT_LEN);
    version != b"ff"
        && dash(2)
        && not_zero(hex(3..35))
        && dash(35)
        && not_zero(hex(36..52))
        && dash(52)
        && ends_well
}

/// The fields and values of an XADD, and whether an idempotent producer hashes them; none if it is malformed.
fn fields_of<'a>(args: &'a [&'a [u8]]) -> Option<(&'a [&'a [u8]], bool)> {
    let mut rest = args.get(2..)?;
    let mut hashed = false;
    loop {
        let (option, after) = rest.split_first()?;
        let is = |name: &str| option.eq_ignore_ascii_case(name.as_bytes());
        let values = if is("NOMKSTREAM") || is("KEEPREF") || is("DELREF") || is("ACKED") {
            0
        } else if is("MAXLEN") || is("MINID") {
            let exact = after
                .first()
                .is_some_and(|sign| matches!(*sign, b"=" | b"~"));
            1 + usize::from(exact)
        } else if is("LIMIT") {
            1
        } else if is("IDMPAUTO") {
            hashed = true;
            1
        } else if is("IDMP") {
            2
        } else {
            let sound = is_id(option) && !after.is_empty() && after.len().is_multiple_of(2);
            return sound.then_some((after, hashed));
        };
        rest = after.get(values..)?;
    }
}

/// `*`, `ms`, `ms-seq` or `ms-*`.
fn is_id(text: &[u8]) -> bool {
    let number =
        |part: &[u8]| std::str::from_utf8(part).is_ok_and(|part| part.parse::<u64>().is_ok());
    let mut parts = text.splitn(2, |b| *b == b'-');
    match (parts.next(), parts.next()) {
        (Some(b"*"), None) => true,
        (Some(ms), None | Some(b"*")) => number(ms),
        (Some(ms), Some(seq)) => number(ms) && number(seq),
        _ => false,
    }
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
