//! One span, as small as it can be carried from the byte path to the exporter.
//!
//! The OpenTelemetry attributes are made when a span is exported or shown ([`Span::attributes`]), not while a command
//! waits: the byte path only fills this struct.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::context::{SpanContext, SpanId, TraceState};

/// The ID of a stream entry, `<ms>-<seq>` (Redis: "Entry IDs").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryId {
    /// Milliseconds of the server's clock when the entry was added, unless the producer chose another number.
    pub ms: u64,
    /// Distinguishes entries of one millisecond.
    pub seq: u64,
}

impl EntryId {
    /// Reads `<ms>-<seq>`, or `<ms>` alone, which Redis takes as `<ms>-0`.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let mut parts = text.splitn(2, |b| *b == b'-');
        let ms = decimal(parts.next()?)?;
        let seq = parts.next().map_or(Some(0), decimal)?;
        Some(Self { ms, seq })
    }
}

impl std::fmt::Display for EntryId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

/// An unsigned decimal number without sign, as Redis writes them.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 20 {
        return None;
    }
    digits.iter().try_fold(0u64, |n, b| {
        let digit = b.wrapping_sub(b'0');
        (digit < 10).then_some(())?;
        n.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// The side of the proxy a span belongs to: what all spans of one listener share.
#[derive(Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `service.name` of the application behind this listener.
    pub service_name: Arc<str>,
    /// `server.address`: Redis, not the proxy.
    pub server_address: Arc<str>,
    /// `server.port`; none for a Unix socket.
    pub server_port: Option<u16>,
    /// `tars.region`.
    pub region: Option<Arc<str>>,
}

/// What a span stands for. The name of the span is the operation and the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// XADD of a message that got its context here: kind PRODUCER.
    Send,
    /// XADD of a message that carries the application's own context: kind CLIENT, under that context.
    SendClient,
    /// One delivery of one message to a group's consumer, from delivery to settlement: kind CONSUMER.
    Process,
    /// One message read without a group or with NOACK, ended at once: kind CONSUMER.
    Receive,
    /// All messages of one stream in one reply, with links to their contexts (`relation = "link"`): kind CLIENT.
    ReceiveBatch,
}

/// How what the span stands for came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Sent, or received: nothing more to say.
    Done,
    /// Nothing was written: nil under NOMKSTREAM, DISCARD, EXECABORT or a nil EXEC.
    NotSent,
    /// Acknowledged: XACK or XACKDEL said so.
    Settled,
    /// Probably acknowledged: the reply counted fewer than the ids of the request.
    Uncertain,
    /// Given back with XNACK SILENT: another attempt will follow.
    Released,
    /// Another delivery of the same message took its place (claim, or a read of one's own history).
    Superseded,
    /// No settlement within `process_timeout`.
    Timeout,
    /// The table of unsettled deliveries was full, and this was the oldest.
    Evicted,
    /// The proxy ended before the message was settled.
    Drained,
    /// The connection ended, or went raw, before the reply was seen.
    Unknown,
    /// The server's error code (`WRONGTYPE`), or XNACK's mode (`fail`, `fatal`).
    Error(Box<str>),
}

impl Outcome {
    /// The value of `error.type`, where the end is an error.
    #[must_use]
    pub fn error_type(&self) -> Option<&str> {
        match self {
            Self::Error(code) => Some(code),
            Self::Timeout => Some("timeout"),
            _ => None,
        }
    }

    /// The value of `tars.outcome`, where there is something to say.
    #[must_use]
    pub fn label(&self) -> Option<&'static str> {
        match self {
            Self::Done | Self::Settled | Self::Error(_) | Self::Timeout => None,
            Self::NotSent => Some("not_sent"),
            Self::Uncertain => Some("uncertain"),
            Self::Released => Some("released"),
            Self::Superseded => Some("superseded"),
            Self::Evicted => Some("evicted"),
            Self::Drained => Some("drained"),
            Self::Unknown => Some("unknown"),
        }
    }
}

/// Why a span points at another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// The context a message carries (`relation = "link"`, or a batch).
    Message,
    /// The delivery of the same message before this one.
    PreviousAttempt,
    /// The unsampled parent of a trace that `force` started anew.
    Unsampled,
}

impl LinkKind {
    /// The value of the link's attribute `tars.link`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::PreviousAttempt => "previous_attempt",
            Self::Unsampled => "unsampled",
        }
    }
}

/// A link to another span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The span pointed at.
    pub context: SpanContext,
    /// Why.
    pub kind: LinkKind,
}

/// A finished span.
#[derive(Clone, Debug)]
pub struct Span {
    /// Its own ids and flags.
    pub context: SpanContext,
    /// The parent's id, none for a root.
    pub parent: Option<SpanId>,
    /// `tracestate` that travels with the trace.
    pub trace_state: TraceState,
    /// What it stands for.
    pub operation: Operation,
    /// The listener it belongs to.
    pub endpoint: Arc<Endpoint>,
    /// `messaging.destination.name`: the stream's key.
    pub stream: Arc<str>,
    /// `messaging.consumer.group.name`.
    pub group: Option<Arc<str>>,
    /// `tars.consumer`: the consumer's name in its group.
    pub consumer: Option<Arc<str>>,
    /// `messaging.message.id`.
    pub message: Option<EntryId>,
    /// `tars.delivery_count`: how often the message has been delivered, this time included, where known.
    pub delivery_count: Option<NonZeroU32>,
    /// `messaging.batch.message_count`, on [`Operation::ReceiveBatch`].
    pub batch: Option<u32>,
    /// The parent was inferred, not read (`tars.parent=inferred`).
    pub inferred: bool,
    /// Unix time in nanoseconds.
    pub start: u64,
    /// Unix time in nanoseconds.
    pub end: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// Other spans it points at.
    pub links: Vec<Link>,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A literal.
    Static(&'static str),
    /// Text shared with the span.
    Shared(Arc<str>),
    /// Text made for this attribute.
    Text(String),
    /// A whole number.
    Int(i64),
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Static(text) => f.write_str(text),
            Self::Shared(text) => f.write_str(text),
            Self::Text(text) => f.write_str(text),
            Self::Int(n) => n.fmt(f),
        }
    }
}

impl Operation {
    /// `messaging.operation.name`, and the first word of the span's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Send | Self::SendClient => "send",
            Self::Process => "process",
            Self::Receive | Self::ReceiveBatch => "receive",
        }
    }

    /// The span kind of the OpenTelemetry messaging conventions.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::Send => "PRODUCER",
            Self::SendClient | Self::ReceiveBatch => "CLIENT",
            Self::Process | Self::Receive => "CONSUMER",
        }
    }
}

impl Span {
    /// `send orders`, `process orders`: the operation and the stream.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{} {}", self.operation.name(), self.stream)
    }

    /// Hands over each attribute in the order of the conventions (OpenTelemetry messaging v1.44, `messaging.system=redis`).
    pub fn attributes(&self, mut each: impl FnMut(&'static str, Value)) {
        each("messaging.system", Value::Static("redis"));
        each(
            "messaging.operation.name",
            Value::Static(self.operation.name()),
        );
        each(
            "messaging.operation.type",
            Value::Static(self.operation.name()),
        );
        each(
            "messaging.destination.name",
            Value::Shared(self.stream.clone()),
        );
        if let Some(group) = &self.group {
            each(
                "messaging.consumer.group.name",
                Value::Shared(group.clone()),
            );
        }
        if let Some(consumer) = &self.consumer {
            each("tars.consumer", Value::Shared(consumer.clone()));
        }
        if let Some(id) = self.message {
            each("messaging.message.id", Value::Text(id.to_string()));
        }
        if let Some(count) = self.batch {
            each(
                "messaging.batch.message_count",
                Value::Int(i64::from(count)),
            );
        }
        if let Some(count) = self.delivery_count {
            each("tars.delivery_count", Value::Int(i64::from(count.get())));
        }
        each(
            "server.address",
            Value::Shared(self.endpoint.server_address.clone()),
        );
        if let Some(port) = self.endpoint.server_port {
            each("server.port", Value::Int(i64::from(port)));
        }
        if let Some(region) = &self.endpoint.region {
            each("tars.region", Value::Shared(region.clone()));
        }
        if self.inferred {
            each("tars.parent", Value::Static("inferred"));
        }
        if let Some(label) = self.outcome.label() {
            each("tars.outcome", Value::Static(label));
        }
        if let Some(error) = self.outcome.error_type() {
            each("error.type", Value::Text(error.to_owned()));
        }
    }
}
