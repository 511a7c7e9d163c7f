//! XADD: what becomes of the context that a message carries or lacks, and the span that the reply will complete.

use std::sync::Arc;

use super::scan::Span32;
use super::xadd::{self, Carried, Source, Xadd};
use super::{Context, MAX_UNAUTHENTICATED_ARGUMENTS, Requests, is_full};
use crate::chunk::Chunk;
use crate::config::InferParent;
use crate::infer::Found;
use crate::inflight::{FIXED_BYTES, Op, Send};
use crate::streams::{Start, Stream};
use crate::trace::context::{SpanContext, TraceState};
use crate::trace::span::{Operation, Outcome, Span};
use crate::worker::Count;

impl Requests {
    /// XADD as an array: gets a context unless it has one.
    pub(super) fn xadd(
        &mut self,
        header_end: usize,
        args: &[Span32],
        at: usize,
        chunk: &mut Chunk<'_>,
        cx: &mut Context,
    ) {
        let buf = chunk.bytes().get(at..).unwrap_or_default();
        let Some(xadd) = xadd::parse(buf, args) else {
            self.expect_plain(cx);
            return;
        };
        // The servers do not look at the line ends of bulks; a rewrite that assumes them would.
        let canonical = args.iter().all(|arg| {
            let end = arg.end as usize;
            buf.get(end..end + 2) == Some(b"\r\n")
        });
        let skip = if !canonical {
            Some("non_canonical")
        } else if xadd.hashes_fields {
            Some("idmpauto")
        } else if is_full(cx, FIXED_BYTES) {
            Some("pending_replies")
        } else {
            None
        };
        if let Some(reason) = skip {
            self.xadd_as_it_is(buf, args, reason, cx);
            return;
        }
        let stream = cx
            .worker
            .streams
            .get(args.get(1).map_or(&[][..], |key| key.of(buf)));
        if !stream.trace {
            cx.worker.shared.metrics.skipped("rule");
            self.expect(Op::Count(stream), cx);
            return;
        }
        let carried = Carried::read(xadd::fields(buf, args, xadd));
        let counters = &cx.worker.counters;
        if carried.source == Source::Field {
            counters.inc(Count::FoundField);
            self.send(
                Operation::SendClient,
                stream,
                carried.context.as_ref(),
                carried.state,
                false,
                cx,
            );
            return;
        }
        // Before anything is made: would the added fields cross what an unauthenticated client may send?
        let added = xadd::added_arguments(&carried, &carried.state) as usize;
        if args.len() + added > MAX_UNAUTHENTICATED_ARGUMENTS && !cx.may_be_long() {
            self.xadd_as_it_is(buf, args, "unauthenticated", cx);
            return;
        }
        if let Some(context) = carried.context {
            counters.inc(Count::InjectedEnvelope);
            counters.inc(Count::FoundEnvelope);
            inject(
                args,
                header_end,
                at,
                xadd,
                &carried,
                &context,
                &carried.state,
                chunk,
                cx,
            );
            self.send(
                Operation::SendClient,
                stream,
                Some(&context),
                carried.state,
                false,
                cx,
            );
            return;
        }
        match carried.source {
            Source::Invalid => counters.inc(Count::InjectedReplaced),
            _ => counters.inc(Count::InjectedNew),
        }
        let inferred = infer(cx);
        let start = stream.start(inferred.as_ref().map(|(parent, _)| parent));
        let state = match inferred {
            // A trace that `force` began anew takes nothing along from the one it left; and the check above knew of no state.
            Some((_, state)) if start.parent.is_some() => {
                let arguments = args.len() + xadd::added_arguments(&carried, &state) as usize;
                let fits = arguments <= MAX_UNAUTHENTICATED_ARGUMENTS || cx.may_be_long();
                if fits { state } else { TraceState::default() }
            }
            _ => TraceState::default(),
        };
        inject(
            args,
            header_end,
            at,
            xadd,
            &carried,
            &start.context,
            &state,
            chunk,
            cx,
        );
        self.expect_send(Operation::Send, stream, start, state, true, cx);
    }

    /// XADD that passes unchanged: if it carries a context of its own, there is still a span.
    pub(super) fn xadd_as_it_is(
        &mut self,
        buf: &[u8],
        args: &[Span32],
        reason: &'static str,
        cx: &mut Context,
    ) {
        let Some(xadd) = xadd::parse(buf, args) else {
            self.expect_plain(cx);
            return;
        };
        let stream = cx
            .worker
            .streams
            .get(args.get(1).map_or(&[][..], |key| key.of(buf)));
        let carried = Carried::read(xadd::fields(buf, args, xadd));
        let full = is_full(cx, FIXED_BYTES);
        if let Some(context) = carried.context.filter(|_| stream.trace && !full) {
            cx.worker
                .shared
                .metrics
                .found(if carried.source == Source::Field {
                    "field"
                } else {
                    "envelope"
                })
                .inc();
            self.send(
                Operation::SendClient,
                stream,
                Some(&context),
                carried.state,
                false,
                cx,
            );
            return;
        }
        cx.worker
            .shared
            .metrics
            .skipped(if stream.trace { reason } else { "rule" });
        if full {
            self.expect_plain(cx);
        } else {
            self.expect(Op::Count(stream), cx);
        }
    }

    fn send(
        &mut self,
        operation: Operation,
        stream: Arc<Stream>,
        parent: Option<&SpanContext>,
        state: TraceState,
        inferred: bool,
        cx: &mut Context,
    ) {
        let start = stream.start(parent);
        self.expect_send(operation, stream, start, state, inferred, cx);
    }

    /// The reply will complete a span, or be counted. A parent, if there is one, was `inferred` or the message's own.
    #[inline]
    fn expect_send(
        &mut self,
        operation: Operation,
        stream: Arc<Stream>,
        start: Start,
        trace_state: TraceState,
        inferred: bool,
        cx: &mut Context,
    ) {
        if !start.context.flags.sampled() {
            self.expect(Op::Count(stream), cx);
            return;
        }
        self.expect_span(operation, stream, start, trace_state, inferred, cx);
    }

    #[inline(never)]
    fn expect_span(
        &mut self,
        operation: Operation,
        stream: Arc<Stream>,
        start: Start,
        trace_state: TraceState,
        inferred: bool,
        cx: &mut Context,
    ) {
        // A trace that `force` began anew takes nothing along from the one it left.
        let follows = start.parent.is_some();
        let span = Span {
            context: start.context,
            parent: start.parent,
            trace_state: if follows {
                trace_state
            } else {
                TraceState::default()
            },
            operation,
            endpoint: cx.destination.endpoint.clone(),
            stream: stream.name.clone(),
            group: None,
            consumer: None,
            message: None,
            delivery_count: None,
            batch: None,
            inferred: inferred && follows,
            start: cx.now.get(),
            end: cx.now.get(),
            outcome: Outcome::Unknown,
            links: start.links,
        };
        self.expect(Op::Send(Box::new(Send { span, stream })), cx);
    }
}

/// Splices a context into the command at `at` of the chunk.
#[allow(clippy::too_many_arguments)]
#[inline(always)]
fn inject(
    args: &[Span32],
    header_end: usize,
    at: usize,
    xadd: Xadd,
    carried: &Carried,
    context: &SpanContext,
    state: &TraceState,
    chunk: &mut Chunk<'_>,
    cx: &Context,
) {
    let mut added = 0usize;
    let more = xadd::added_arguments(carried, state);
    match xadd::one_digit(args, header_end, more) {
        // Nearly always the header stays as long as it is.
        Some(digit) => chunk.patch(at + 1, &[digit]),
        None => {
            if let Some(header) = xadd::header(args, more) {
                added += header.bytes().len().saturating_sub(header_end);
                chunk.splice(at..at + header_end, header.bytes());
            }
        }
    }
    let (work, mut splice) = chunk.split();
    let buf = work.get(at..).unwrap_or_default();
    xadd::rewrite_fields(buf, args, xadd, carried, context, state, |range, with| {
        added += with.len().saturating_sub(range.len());
        splice(range.start + at..range.end + at, with);
    });
    cx.worker.counters.add(Count::InjectedBytes, added as u64);
}

/// The message that an XADD without a context may belong to, if the listener's rule says so. What the rule would find is
/// counted in any case.
#[inline]
fn infer(cx: &Context) -> Option<(SpanContext, TraceState)> {
    if cx.inference.is_idle() && cx.listener.inference.is_idle() {
        let counters = &cx.worker.counters;
        counters.inc(Count::ConnectionNone);
        counters.inc(Count::ProcessNone);
        return None;
    }
    find_parent(cx)
}

#[inline(never)]
fn find_parent(cx: &Context) -> Option<(SpanContext, TraceState)> {
    let shared = &cx.worker.shared;
    let by_connection = cx.inference.find(&shared.deliveries);
    let by_process = cx.listener.inference.find(&shared.deliveries);
    let counters = &cx.worker.counters;
    counters.inc(match by_connection {
        Found::One(..) => Count::ConnectionOne,
        Found::None => Count::ConnectionNone,
        Found::Several => Count::ConnectionSeveral,
    });
    counters.inc(match by_process {
        Found::One(..) => Count::ProcessOne,
        Found::None => Count::ProcessNone,
        Found::Several => Count::ProcessSeveral,
    });
    let found = match cx.listener.infer_parent {
        InferParent::Off => return None,
        InferParent::Connection => by_connection,
        InferParent::Process => by_process,
    };
    match found {
        Found::One(context, state) => Some((context, state)),
        Found::None | Found::Several => None,
    }
}
