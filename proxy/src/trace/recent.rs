//! The spans of the last while, in memory, so that the first trace can be looked at without any other program.
//!
//! A ring: the oldest span leaves when there are too many, or when they are too large. Spans become traces when someone
//! asks.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

mod http;
mod json;
#[cfg(test)]
mod tests;

pub use http::routes;

use super::context::TraceId;
use super::span::Span;

/// Memory for spans, a span on average: three times what an ordinary one takes. It is the bound where clients choose long
/// names, or read large batches.
const BYTES_PER_SPAN: usize = 1024;

/// Links of a span that are kept: a batch has one for each of its messages.
const MAX_LINKS: usize = 128;

/// Spans of one answer, by their weight: a browser shows no more than this in good time, and the control thread does not
/// spend long on making it.
const ANSWER_BYTES: usize = 4 << 20;

/// Fewer digits than these are taken for a word where an id may be meant as well.
const ID_DIGITS: usize = 6;

/// What a ring says that has room for no span.
const NO_SPANS: &str = "no spans are kept (max_recent_spans is 0)";

/// The ring of recent spans.
#[derive(Debug)]
pub struct Recent {
    ring: Mutex<Ring>,
    max_spans: usize,
    max_bytes: usize,
    /// Tells this ring from that of an earlier process, whose counts were the same.
    instance: u64,
    /// Where clients connect, for the reader who has none yet.
    listeners: Vec<String>,
    /// Why no trace ever comes, where that is so.
    off: Option<&'static str>,
}

#[derive(Debug, Default)]
struct Ring {
    spans: VecDeque<Span>,
    bytes: usize,
    /// Spans that ever came: it changes whenever the content does.
    seen: u64,
}

impl Recent {
    /// An empty ring for this many spans.
    #[must_use]
    pub fn new(max_spans: usize) -> Self {
        Self {
            ring: Mutex::default(),
            max_spans,
            max_bytes: max_spans.saturating_mul(BYTES_PER_SPAN),
            instance: fastrand::u64(..),
            listeners: Vec::new(),
            off: (max_spans == 0).then_some(NO_SPANS),
        }
    }

    /// Says where clients can connect: the page shows it as long as there is no trace.
    #[must_use]
    pub fn listening_on(mut self, addresses: impl IntoIterator<Item = String>) -> Self {
        self.listeners.extend(addresses);
        self
    }

    /// Says why no trace will ever come, if that is so: the page shows it instead of waiting for the first. That a ring for
    /// no spans keeps none, it says of itself.
    #[must_use]
    pub fn off(mut self, reason: Option<&'static str>) -> Self {
        self.off = reason.or(self.off);
        self
    }

    /// Keeps a span.
    pub fn push(&self, span: Span) {
        self.extend([span]);
    }

    /// Keeps spans, oldest first.
    pub fn extend(&self, spans: impl IntoIterator<Item = Span>) {
        let mut ring = self.lock();
        for mut span in spans {
            span.links.truncate(MAX_LINKS);
            span.links.shrink_to_fit();
            ring.seen += 1;
            ring.bytes += weight(&span);
            ring.spans.push_back(span);
            while ring.spans.len() > self.max_spans || ring.bytes > self.max_bytes {
                let Some(oldest) = ring.spans.pop_front() else {
                    break;
                };
                ring.bytes -= weight(&oldest);
            }
        }
    }

    /// Spans that left because others came.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        let ring = self.lock();
        ring.seen.saturating_sub(ring.spans.len() as u64)
    }

    /// Spans that are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().spans.len()
    }

    /// Whether no span is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The memory that a span takes, counting shared names once a span.
fn weight(span: &Span) -> usize {
    let text = |text: &Option<Arc<str>>| text.as_ref().map_or(0, |text| text.len());
    size_of::<Span>()
        + span.stream.len()
        + text(&span.group)
        + text(&span.consumer)
        + span.trace_state.as_str().len()
        + span.outcome.error_type().map_or(0, str::len)
        + size_of_val(span.links.as_slice())
}

/// Which traces are asked for. A trace counts if one of its spans does.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Query {
    /// Part of a stream's name.
    stream: Option<String>,
    /// The trace id's first digits.
    trace: Option<IdPrefix>,
    /// Part of the name of a stream, a group, a consumer or a service, or the beginning of a trace's or a message's id.
    text: Option<String>,
    /// Only traces with an error.
    errors: bool,
    /// No more traces than this, the latest first.
    limit: NonZeroUsize,
}

/// The first digits of a trace id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct IdPrefix {
    digits: u32,
    value: u128,
}

impl IdPrefix {
    /// One to 32 hexadecimal digits.
    fn parse(text: &str) -> Option<Self> {
        let digits = u32::try_from(text.len())
            .ok()
            .filter(|n| (1..=32).contains(n))?;
        // The number's own reading also takes a sign.
        if !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        Some(Self {
            digits,
            value: u128::from_str_radix(text, 16).ok()?,
        })
    }

    fn matches(self, id: TraceId) -> bool {
        u128::from_be_bytes(id.to_bytes()) >> (128 - 4 * self.digits) == self.value
    }
}

/// Whether a text may be the beginning of a message's id. With its hyphen it is one however short it is.
fn begins_entry(text: &str) -> bool {
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    match text.split_once('-') {
        Some((ms, seq)) => !ms.is_empty() && digits(ms) && digits(seq),
        None => text.len() >= ID_DIGITS && digits(text),
    }
}

/// A trace, as far as the ring has its spans.
struct Trace<'a> {
    id: TraceId,
    /// In the order in which they began.
    spans: Vec<&'a Span>,
    start: u64,
    end: u64,
    errors: usize,
}

impl<'a> Trace<'a> {
    /// The span that the others came of: the first without a parent, else the first.
    fn root(&self) -> Option<&'a Span> {
        let root = self.spans.iter().find(|span| span.parent.is_none());
        root.or(self.spans.first()).copied()
    }

    /// Names of the services, in the order in which they come.
    fn services(&self) -> Vec<&'a str> {
        let mut seen = BTreeSet::new();
        let names = self.spans.iter().map(|span| &*span.endpoint.service_name);
        names.filter(|name| seen.insert(*name)).collect()
    }
}

impl Ring {
    /// The traces that are asked for, the latest first, and whether there are more.
    fn traces(&self, query: &Query) -> (Vec<Trace<'_>>, bool) {
        let mut traces: Vec<Trace<'_>> = Vec::new();
        let mut found: HashMap<TraceId, usize> = HashMap::new();
        let wanted = |span: &&Span| {
            query
                .trace
                .is_none_or(|id| id.matches(span.context.trace_id))
        };
        for span in self.spans.iter().filter(wanted) {
            let id = span.context.trace_id;
            let at = *found.entry(id).or_insert(traces.len());
            if at == traces.len() {
                traces.push(Trace {
                    id,
                    spans: vec![],
                    start: u64::MAX,
                    end: 0,
                    errors: 0,
                });
            }
            let Some(trace) = traces.get_mut(at) else {
                continue;
            };
            trace.spans.push(span);
            trace.start = trace.start.min(span.start);
            trace.end = trace.end.max(span.end);
            trace.errors += usize::from(span.outcome.error_type().is_some());
        }
        traces.retain(|trace| query.selects(trace));
        traces.sort_by_key(|trace| std::cmp::Reverse(trace.start));
        let more = traces.len() > query.limit.get();
        traces.truncate(query.limit.get());
        for trace in &mut traces {
            trace.spans.sort_by_key(|span| span.start);
        }
        (traces, more)
    }
}

impl Query {
    fn selects(&self, trace: &Trace<'_>) -> bool {
        let any = |test: &dyn Fn(&Span) -> bool| trace.spans.iter().any(|span| test(span));
        let of_stream = |part: &str| any(&|span| span.stream.contains(part));
        let of_text = |part: &str| {
            let id = IdPrefix::parse(part).filter(|_| part.len() >= ID_DIGITS);
            let entry = begins_entry(part);
            let named = |name: &Option<Arc<str>>| name.as_ref().is_some_and(|n| n.contains(part));
            id.is_some_and(|id| id.matches(trace.id))
                || any(&|span| {
                    span.stream.contains(part)
                        || span.endpoint.service_name.contains(part)
                        || named(&span.group)
                        || named(&span.consumer)
                        || entry
                            && span
                                .message
                                .is_some_and(|id| id.to_string().starts_with(part))
                })
        };
        (!self.errors || trace.errors > 0)
            && self.stream.as_deref().is_none_or(of_stream)
            && self.text.as_deref().is_none_or(of_text)
    }
}
