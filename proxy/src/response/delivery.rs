//! One entry of a reply: the message's context is read, the delivery's span begins, and what the client will read is
//! settled.

use std::num::NonZeroU32;
use std::ops::Range;
use std::sync::Arc;

use super::Replies;
use super::entries::{Entry, Fields};
use super::walking::{group_label, in_history};
use crate::chunk::Chunk;
use crate::config::{Deliver as DeliverRule, Relation};
use crate::deliveries::{Attempt, GroupKey};
use crate::infer::Latest;
use crate::inflight::{Again, Deliver, Member, Reader};
use crate::request::Context;
use crate::request::xadd::{Carried, Short, Source, TRACEPARENT, TRACESTATE};
use crate::streams::Stream;
use crate::trace::context::{SpanContext, TRACEPARENT_LEN};
use crate::trace::span::{Link, LinkKind, Operation, Outcome, Span};
use crate::worker::Count;

/// Links of one `receive` span of a whole batch: OpenTelemetry SDKs keep 128 by default.
const MAX_BATCH_LINKS: usize = 128;

impl Replies {
    /// An entry is whole, at `at` of the chunk.
    pub(super) fn entry(
        &mut self,
        deliver: &mut Deliver,
        at: Range<usize>,
        chunk: &mut Chunk<'_>,
        cx: &mut Context,
    ) {
        let Some((key, stream)) = deliver.stream.clone() else {
            return;
        };
        if !stream.trace {
            deliver.messages += 1;
            return;
        }
        let buf = chunk.bytes().get(at.clone()).unwrap_or_default();
        let Some(entry) = Entry::parse(buf) else {
            return;
        };
        // A message that was deleted while it was pending: there is nothing to process.
        let Some(fields) = &entry.fields else { return };
        deliver.messages += 1;
        let carried = Carried::read(fields.pairs(buf));
        if !matches!(deliver.reader, Reader::Range) {
            cx.worker.counters.inc(match carried.source {
                Source::Field => Count::ExtractedField,
                Source::Envelope => Count::ExtractedEnvelope,
                Source::Invalid => Count::ExtractedInvalid,
                Source::None => Count::ExtractedNone,
            });
        }
        let process = match &deliver.reader {
            Reader::Range => None,
            Reader::Receive(_) => {
                receive(deliver, &key, &stream, &entry, carried.clone(), cx);
                None
            }
            Reader::Process(..) => process(deliver, &key, &stream, &entry, &carried, cx),
        };
        match stream.deliver {
            DeliverRule::Keep => {}
            DeliverRule::Propagate => {
                // A trace that begins here cannot stand beside the `tracestate` of the one it left.
                let stands = !carried.has_tracestate()
                    || process.is_some_and(|span| follows(&span, &carried));
                if let Some(context) = process
                    && stands
                    && carried.source == Source::Field
                    && let Some(value) = propagated(fields, buf)
                {
                    chunk.patch(at.start + value, &context.traceparent());
                }
            }
            DeliverRule::Strip => {
                if let Some(strip) = added_fields(fields, buf) {
                    let header = Short::line(b'*', strip.left);
                    let shift = |range: Range<usize>| range.start + at.start..range.end + at.start;
                    let fields_header = shift(fields.header.clone());
                    let range = shift(strip.range);
                    chunk.splice(fields_header, header.bytes());
                    chunk.splice(range, b"");
                }
            }
        }
    }

    /// The entries of one stream are over: its one span is too.
    pub(super) fn close_batch(&mut self, deliver: &mut Deliver, cx: &mut Context) {
        if let Some(span) = deliver
            .batch
            .take()
            .filter(|span| span.context.flags.sampled())
        {
            cx.worker.finish(*span);
        }
    }
}

/// Whether a span goes on with the trace that a message carries.
fn follows(span: &SpanContext, carried: &Carried) -> bool {
    carried
        .context
        .is_some_and(|message| message.trace_id == span.trace_id)
}

/// Where the value of a lone version 00 `traceparent` field begins.
fn propagated(fields: &Fields, buf: &[u8]) -> Option<usize> {
    let (_, value) = fields
        .ranges(buf)
        .find(|(name, _)| buf.get(name.clone()) == Some(TRACEPARENT))?;
    let text = buf.get(value.clone())?;
    (text.len() == TRACEPARENT_LEN && text.starts_with(b"00-")).then_some(value.start)
}

/// The fields at the end of an entry that a proxy may have added.
struct Added {
    range: Range<usize>,
    /// Names and values that are left.
    left: usize,
}

/// Finds a trailing `traceparent`, or `traceparent` and `tracestate`.
fn added_fields(fields: &Fields, buf: &[u8]) -> Option<Added> {
    let mut last = [None, None];
    for pair in fields.ranges(buf) {
        last = [last[1].take(), Some(pair)];
    }
    let is = |pair: &Option<(Range<usize>, Range<usize>)>, word: &[u8]| {
        pair.as_ref()
            .is_some_and(|(name, _)| buf.get(name.clone()) == Some(word))
    };
    let [before, end] = &last;
    let (first, removed) = if is(end, TRACEPARENT) {
        (end, 2)
    } else if is(end, TRACESTATE) && is(before, TRACEPARENT) {
        (before, 4)
    } else {
        return None;
    };
    // XADD takes no message without fields: one that has no others is the application's own.
    let left = fields.count.checked_sub(removed).filter(|left| *left > 0)?;
    // `$11\r\n` stands before the name.
    let start = first.as_ref()?.0.start.checked_sub(5)?;
    Some(Added {
        range: start..fields.body.end,
        left,
    })
}

/// A message was given to a group's consumer: its span begins. Returns the span's context.
fn process(
    deliver: &mut Deliver,
    key: &[u8],
    stream: &Arc<Stream>,
    entry: &Entry,
    carried: &Carried,
    cx: &mut Context,
) -> Option<SpanContext> {
    let Reader::Process(member, again) = &deliver.reader else {
        return None;
    };
    let start = match stream.relation {
        Relation::Parent => stream.start(carried.context.as_ref()),
        Relation::Link => stream.start_linked(carried.context.as_ref()),
    };
    let follows = start.parent.is_some();
    let trace_state = if follows {
        carried.state.clone()
    } else {
        Default::default()
    };
    let context = start.context;
    let shared = &cx.worker.shared;
    let mut finished = cx.worker.finished();
    let mut table = shared.deliveries.lock();
    let group = table.group(group_key(key, &member.group, cx), || {
        shared.metrics.group(&stream.name, &member.group_name)
    });
    let attempt = |previous: Option<&Attempt>| {
        let mut links = start.links;
        links.extend(previous.map(|p| Link {
            context: p.context,
            kind: LinkKind::PreviousAttempt,
        }));
        Attempt {
            context,
            parent: start.parent,
            trace_state: trace_state.clone(),
            endpoint: cx.destination.endpoint.clone(),
            stream: stream.name.clone(),
            group: member.group_name.clone(),
            consumer: member.consumer.clone(),
            count: delivery_count(again, key, entry, previous),
            links,
            start: cx.now.get(),
        }
    };
    let token = table.deliver(group, entry.id, cx.now.get(), attempt, &mut finished);
    deliver.seen = Some(Latest {
        order: deliver.order,
        token,
        context,
        trace_state,
        count: deliver.messages,
    });
    Some(context)
}

/// How often the message has been delivered, this time included, where that is known.
fn delivery_count(
    again: &Again,
    key: &[u8],
    entry: &Entry,
    previous: Option<&Attempt>,
) -> Option<NonZeroU32> {
    if let Some(before) = entry.delivered_before {
        return u32::try_from(before)
            .ok()
            .and_then(|before| NonZeroU32::MIN.checked_add(before));
    }
    match again {
        // RETRYCOUNT sets the counter, and the delivery is not added to it.
        Again::Claimed(Some(count)) => NonZeroU32::new(*count),
        _ if in_history(again, key) => previous?.count?.checked_add(1),
        _ => Some(NonZeroU32::MIN),
    }
}

/// A message was read without a group, or with NOACK: a span that ends at once, or one for all of the stream's.
fn receive(
    deliver: &mut Deliver,
    key: &[u8],
    stream: &Arc<Stream>,
    entry: &Entry,
    carried: Carried,
    cx: &mut Context,
) {
    let member: Option<Member> = match &deliver.reader {
        Reader::Receive(member) => member.clone(),
        _ => None,
    };
    {
        let shared = &cx.worker.shared;
        let group_bytes = member.as_ref().map_or(&[][..], |member| &member.group);
        let mut table = shared.deliveries.lock();
        let group = table.group(group_key(key, group_bytes, cx), || {
            shared
                .metrics
                .group(&stream.name, &group_label(&deliver.reader))
        });
        table.count_delivered(group, entry.id, cx.now.get());
    }
    let start = match stream.relation {
        Relation::Parent => stream.start(carried.context.as_ref()),
        Relation::Link => stream.start_linked(carried.context.as_ref()),
    };
    let batch = stream.relation == Relation::Link;
    if let Some(span) = deliver.batch.as_mut().filter(|_| batch) {
        // Sampled if any of its messages is.
        let sampled = span.context.flags.sampled() || start.context.flags.sampled();
        span.context.flags = span.context.flags.with_sampled(sampled);
        span.batch = span.batch.map(|count| count + 1);
        let room = MAX_BATCH_LINKS.saturating_sub(span.links.len());
        span.links.extend(start.links.into_iter().take(room));
        return;
    }
    if !batch && !start.context.flags.sampled() {
        return;
    }
    let span = Span {
        context: start.context,
        parent: start.parent,
        trace_state: if start.parent.is_some() {
            carried.state
        } else {
            Default::default()
        },
        operation: if batch {
            Operation::ReceiveBatch
        } else {
            Operation::Receive
        },
        endpoint: cx.destination.endpoint.clone(),
        stream: stream.name.clone(),
        group: member.as_ref().map(|member| member.group_name.clone()),
        consumer: member.map(|member| member.consumer),
        message: (!batch).then_some(entry.id),
        delivery_count: None,
        batch: batch.then_some(1),
        inferred: false,
        start: cx.now.get(),
        end: cx.now.get(),
        outcome: Outcome::Done,
        links: start.links,
    };
    if batch {
        deliver.batch = Some(Box::new(span));
    } else {
        cx.worker.finish(span);
    }
}

fn group_key<'a>(stream: &'a [u8], group: &'a [u8], cx: &Context) -> GroupKey<'a> {
    GroupKey {
        upstream: cx.destination.upstream.number,
        database: cx.database,
        stream,
        group,
    }
}
