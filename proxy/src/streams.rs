//! What is known of a stream by its key: name, rule and counters, resolved once and then looked up.

use std::cell::RefCell;
use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};
use hashbrown::HashMap;
use prometheus::IntCounter;

use crate::config::{Deliver, Relation, Rules};
use crate::metrics::Metrics;
use crate::trace::context::{SpanContext, SpanId, TraceId};
use crate::trace::span::{Link, LinkKind};

/// Names that one worker remembers. Beyond, it forgets all and begins anew: a client that makes up names costs time, not
/// memory.
const MAX_NAMES: usize = 4096;

/// What is kept of a name. A longer key is rather a document, and is not remembered at all: else those 4096 names could
/// be as long as `max_message_bytes`.
const MAX_NAME_BYTES: usize = 1024;

/// A name as text, cut to what is kept.
fn text(bytes: &[u8]) -> Arc<str> {
    let text = String::from_utf8_lossy(bytes.get(..MAX_NAME_BYTES).unwrap_or(bytes));
    text.get(..text.floor_char_boundary(MAX_NAME_BYTES))
        .unwrap_or_default()
        .into()
}

/// A stream, with what the rules in force say of it.
pub struct Stream {
    /// The key, as text: what is not UTF-8 is shown as U+FFFD.
    pub name: Arc<str>,
    /// False: passes as it is.
    pub trace: bool,
    /// What readers get.
    pub deliver: Deliver,
    /// How deliveries point at messages.
    pub relation: Relation,
    /// Whether a parent's decision is followed.
    parent_based: bool,
    force: bool,
    /// New traces are sampled whose id's low 63 bits are below it; none where all are.
    bound: Option<u64>,
    /// Messages that the server accepted.
    pub sent: IntCounter,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Where a span begins: its own context, and what it hangs from.
#[derive(Clone, Debug)]
pub struct Start {
    /// The new span's context.
    pub context: SpanContext,
    /// Its parent.
    pub parent: Option<SpanId>,
    /// The parent that was not sampled, where a new root was forced.
    pub links: Vec<Link>,
}

impl Stream {
    /// Bytes that it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.name.len()
    }

    /// Begins a span under `parent`, or a new trace, and decides whether it is sampled.
    #[must_use]
    #[inline]
    pub fn start(&self, parent: Option<&SpanContext>) -> Start {
        match parent {
            Some(parent) if self.force && !parent.flags.sampled() => Start {
                context: SpanContext::root(true),
                parent: None,
                links: vec![Link {
                    context: *parent,
                    kind: LinkKind::Unsampled,
                }],
            },
            Some(parent) => {
                let sampled = if self.parent_based {
                    parent.flags.sampled()
                } else {
                    self.samples(parent.trace_id)
                };
                Start {
                    context: parent.child(sampled),
                    parent: Some(parent.span_id),
                    links: Vec::new(),
                }
            }
            None => Start {
                context: self.root(),
                parent: None,
                links: Vec::new(),
            },
        }
    }

    /// Begins a new trace that points at `message` (`relation = "link"`), and follows its sampling decision.
    #[must_use]
    pub fn start_linked(&self, message: Option<&SpanContext>) -> Start {
        let Some(message) = message else {
            return self.start(None);
        };
        Start {
            context: SpanContext::root(self.force || message.flags.sampled()),
            parent: None,
            links: vec![Link {
                context: *message,
                kind: LinkKind::Message,
            }],
        }
    }

    fn root(&self) -> SpanContext {
        let mut root = SpanContext::root(true);
        root.flags = root
            .flags
            .with_sampled(self.force || self.samples(root.trace_id));
        root
    }

    /// OpenTelemetry's `TraceIdRatioBased`: the low 63 bits of the trace id against the ratio.
    fn samples(&self, id: TraceId) -> bool {
        let [.., a, b, c, d, e, f, g, h] = id.to_bytes();
        let low = u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1;
        self.bound.is_none_or(|bound| low < bound)
    }
}

/// What the low 63 bits of an id must be below for its trace to be sampled; none if any will do.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a ratio below 1 leaves less than 2^63"
)]
fn bound(ratio: f64) -> Option<u64> {
    (ratio < 1.0).then(|| (ratio.max(0.0) * (1u64 << 63) as f64) as u64)
}

/// The streams and names that one worker has met.
pub struct Streams {
    known: RefCell<Known>,
    metrics: Arc<Metrics>,
}

struct Known {
    rules: Cache<Arc<ArcSwap<Rules>>, Arc<Rules>>,
    /// The rules under which the streams are known.
    under: Option<Arc<Rules>>,
    /// The stream asked for last: most producers write to one.
    last: Option<(Arc<[u8]>, Arc<Stream>)>,
    streams: HashMap<Arc<[u8]>, Arc<Stream>, foldhash::fast::RandomState>,
    names: HashMap<Box<[u8]>, Arc<str>, foldhash::fast::RandomState>,
}

impl Streams {
    /// None known yet.
    #[must_use]
    pub fn new(rules: Arc<ArcSwap<Rules>>, metrics: Arc<Metrics>) -> Self {
        Self {
            known: RefCell::new(Known {
                rules: Cache::new(rules),
                under: None,
                last: None,
                streams: HashMap::default(),
                names: HashMap::default(),
            }),
            metrics,
        }
    }

    /// The stream of this key, under the rules now in force.
    #[must_use]
    #[inline]
    pub fn get(&self, key: &[u8]) -> Arc<Stream> {
        let known = &mut *self.known.borrow_mut();
        let rules = known.rules.load();
        if !known
            .under
            .as_ref()
            .is_some_and(|under| Arc::ptr_eq(under, rules))
            || known.streams.len() >= MAX_NAMES
        {
            known.streams.clear();
            known.last = None;
            known.under = Some(rules.clone());
        }
        if let Some((last, stream)) = &known.last
            && **last == *key
        {
            return stream.clone();
        }
        if let Some((key, stream)) = known.streams.get_key_value(key) {
            let (key, stream) = (key.clone(), stream.clone());
            known.last = Some((key, stream.clone()));
            return stream;
        }
        let name = text(key);
        let rule = rules.rule_for(key);
        let ratio = rule.sample.unwrap_or(rules.sampler.ratio);
        let stream = Arc::new(Stream {
            trace: rule.trace,
            deliver: rule.deliver,
            relation: rules.relation,
            parent_based: rules.sampler.parent_based,
            force: rule.force,
            bound: bound(ratio).filter(|_| !rule.force),
            sent: self.metrics.sent(&name),
            name,
        });
        if key.len() <= MAX_NAME_BYTES {
            known.streams.insert(key.into(), stream.clone());
        }
        stream
    }

    /// The name of a group or a consumer, as text.
    #[must_use]
    pub fn name(&self, bytes: &[u8]) -> Arc<str> {
        let mut known = self.known.borrow_mut();
        if let Some(name) = known.names.get(bytes) {
            return name.clone();
        }
        if known.names.len() >= MAX_NAMES {
            known.names.clear();
        }
        let name = text(bytes);
        if bytes.len() <= MAX_NAME_BYTES {
            known.names.insert(bytes.into(), name.clone());
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn names_beyond_the_bound_are_looked_up_anew() {
        let rules = Arc::new(ArcSwap::new(Config::default().rules));
        let streams = Streams::new(rules, Arc::new(Metrics::new(1)));
        let first = streams.get(b"first");
        assert!(Arc::ptr_eq(&first, &streams.get(b"first")));
        for n in 0..3 * MAX_NAMES {
            let _ = streams.get(format!("stream{n}").as_bytes());
            let _ = streams.name(format!("name{n}").as_bytes());
            let known = streams.known.borrow();
            assert!(known.streams.len() <= MAX_NAMES && known.names.len() <= MAX_NAMES);
        }
        let again = streams.get(b"first");
        assert!(!Arc::ptr_eq(&first, &again));
        assert_eq!(first.name, again.name);
    }
}
