//! From the client to the server: where commands begin and end, what they are, and what an XADD gets added.
//!
//! [`Requests`] is the state of one connection's direction. It passes bytes on as they come; only a command whose
//! arguments mean something is held until it is whole, up to `max_message_bytes`.

pub mod command;
pub mod scan;
pub mod stream_commands;
pub mod xadd;

use std::rc::Rc;
use std::sync::Arc;

use crate::chunk::Chunk;
use crate::config::{Deliver as DeliverRule, InferParent};
use crate::infer::{self, Found, Order};
use crate::inflight::{Again, Deliver, Inflight, Member, Op, Reader, Send, Settle};
use crate::response::entries::Shape;
use crate::streams::{Start, Stream};
use crate::trace::context::{SpanContext, TraceState};
use crate::trace::span::{Operation, Outcome, Span};
use crate::worker::{Listener, Worker};
use command::Kind;
use scan::{Cursor, Foreign, Head, Span32};
use stream_commands::How;
use xadd::{Carried, Source, Xadd};

/// Before a successful AUTH, Redis closes on a command of more arguments (`networking.c`, "unauthenticated multibulk
/// length").
const MAX_UNAUTHENTICATED_ARGUMENTS: usize = 10;

/// Before a successful AUTH, Redis closes on a longer argument.
const MAX_UNAUTHENTICATED_BULK: usize = 16_384;

/// What both directions of a connection share.
pub struct Context {
    /// The thread.
    pub worker: Rc<Worker>,
    /// The listener.
    pub listener: Arc<Listener>,
    /// This connection's number.
    pub connection: u64,
    /// Requests that wait for their replies.
    pub inflight: Inflight,
    /// Inference over this connection.
    pub inference: infer::Connection,
    /// Whether a reply has shown that the server takes commands from this connection.
    pub authenticated: bool,
    /// SELECTed database, as the replies tell.
    pub database: u32,
    /// When the bytes at hand were read: Unix time in nanoseconds.
    pub now: u64,
}

impl Context {
    /// Whether a longer command is not refused for want of AUTH.
    fn may_be_long(&self) -> bool {
        self.authenticated || self.listener.upstream.is_open()
    }
}

/// Why a connection became a raw relay: the label of `tars_proxy_raw_relays_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raw(pub &'static str);

impl From<Foreign> for Raw {
    fn from(Foreign: Foreign) -> Self {
        Self("protocol")
    }
}

/// State of the direction from the client to the server.
#[derive(Debug, Default)]
pub struct Requests {
    state: State,
    replies: ReplyMode,
    /// MULTI was sent, and nothing that ends it.
    multi: bool,
}

#[derive(Debug, Default)]
enum State {
    /// At the beginning of a command.
    #[default]
    Between,
    /// Within a command that passes as it comes.
    Passing(Cursor),
    /// Within a command that is held, from the first byte of what is kept.
    Holding(Cursor),
}

/// What CLIENT REPLY has set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ReplyMode {
    #[default]
    On,
    Off,
    /// The next command has no reply.
    SkipNext,
}

thread_local! {
    /// The arguments of the command at hand. One a thread: commands are handled one at a time.
    static ARGUMENTS: std::cell::RefCell<Vec<Span32>> = const { std::cell::RefCell::new(Vec::new()) };
}

impl Requests {
    /// Reads the bytes at hand, and says how many may be written on; the others are to be kept and shown again, with what
    /// follows them.
    ///
    /// # Errors
    /// [`Raw`] if the connection is to be a raw relay from the first byte that was not consumed; the bytes before it have
    /// been dealt with (`consumed` is set).
    pub fn process(
        &mut self,
        chunk: &mut Chunk<'_>,
        cx: &mut Context,
        consumed: &mut usize,
    ) -> Result<(), Raw> {
        *consumed = 0;
        loop {
            let buf = chunk.bytes().get(*consumed..).unwrap_or_default();
            match &mut self.state {
                State::Between => {
                    if buf.is_empty() {
                        return Ok(());
                    }
                    match scan::head(buf)? {
                        Head::Incomplete => return Ok(()),
                        Head::Empty { end } => {
                            // Servers differ in whether an empty command is the one to skip.
                            if self.replies == ReplyMode::SkipNext {
                                return Err(Raw("empty_after_skip"));
                            }
                            *consumed += end;
                        }
                        Head::Inline { text_end, end } => {
                            let args = scan::split_inline(buf.get(..text_end).unwrap_or_default())?;
                            self.inline(&args, cx)?;
                            *consumed += end;
                        }
                        Head::Array {
                            argc, name, cursor, ..
                        } => {
                            let kind = Kind::of(name.of(buf));
                            cx.worker.counters.command(kind);
                            let held = kind.needs_arguments()
                                && (argc as usize <= MAX_UNAUTHENTICATED_ARGUMENTS
                                    || cx.may_be_long());
                            if kind == Kind::Xadd && !held {
                                cx.worker.shared.metrics.skipped("unauthenticated");
                            }
                            if held {
                                self.state = State::Holding(cursor);
                            } else {
                                unread(kind, cx);
                                self.plain_command(kind, argc, cx)?;
                                self.state = State::Passing(cursor);
                            }
                        }
                    }
                }
                State::Passing(cursor) => {
                    let complete = cursor.walk(buf, |_| ())?;
                    let passed = cursor.pos.min(buf.len());
                    cursor.rebase(passed);
                    *consumed += passed;
                    if !complete {
                        return Ok(());
                    }
                    self.state = State::Between;
                }
                State::Holding(cursor) => {
                    let mut walked = *cursor;
                    let complete = ARGUMENTS.with_borrow_mut(|args| {
                        args.clear();
                        walked.walk(buf, |arg| args.push(arg))
                    })?;
                    let limit = cx.worker.shared.config.limits.max_message_bytes;
                    let beyond = walked.pos.saturating_sub(buf.len());
                    if walked.pos > limit
                        || (beyond > MAX_UNAUTHENTICATED_BULK && !cx.may_be_long())
                    {
                        self.too_large(buf, cx)?;
                    } else if complete {
                        self.state = State::Between;
                        ARGUMENTS.with_borrow_mut(|args| {
                            self.held_command(args, *consumed, chunk, cx)
                        })?;
                        *consumed += walked.pos;
                    } else {
                        self.state = State::Holding(walked);
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Whether the last command that began is over.
    #[must_use]
    pub fn is_between(&self) -> bool {
        matches!(self.state, State::Between)
    }

    /// A held command turned out larger than may be held: it passes, and what it means is not known.
    fn too_large(&mut self, buf: &[u8], cx: &mut Context) -> Result<(), Raw> {
        let Head::Array { name, cursor, .. } = scan::head(buf)? else {
            return Err(Raw("protocol"));
        };
        let kind = Kind::of(name.of(buf));
        if matches!(kind, Kind::Client | Kind::Select) {
            return Err(Raw("large_command"));
        }
        if kind == Kind::Xadd {
            cx.worker.shared.metrics.skipped("too_large");
        }
        unread(kind, cx);
        self.expect_plain(cx);
        self.state = State::Passing(cursor);
        Ok(())
    }

    /// A command whose reply means nothing.
    #[inline]
    fn expect_plain(&mut self, cx: &mut Context) {
        match self.replies {
            ReplyMode::On => cx.inflight.push_plain(),
            ReplyMode::Off => {}
            ReplyMode::SkipNext => self.replies = ReplyMode::On,
        }
    }

    /// A command whose reply means something; dropped where there will be no reply.
    fn expect(&mut self, op: Op, cx: &mut Context) {
        match self.replies {
            ReplyMode::On => cx.inflight.push(op),
            ReplyMode::Off => abandon(op, cx, &Outcome::Unknown),
            ReplyMode::SkipNext => {
                self.replies = ReplyMode::On;
                abandon(op, cx, &Outcome::Unknown);
            }
        }
    }

    /// A command of which the name and the number of arguments say all.
    #[inline]
    fn plain_command(&mut self, kind: Kind, argc: u32, cx: &mut Context) -> Result<(), Raw> {
        if kind == Kind::Other {
            self.expect_plain(cx);
            return Ok(());
        }
        self.state_command(kind, argc, cx)
    }

    fn state_command(&mut self, kind: Kind, argc: u32, cx: &mut Context) -> Result<(), Raw> {
        // How these are answered while replies are off differs between versions: who does that is on his own.
        if kind.changes_state() && self.replies != ReplyMode::On {
            return Err(Raw("state_while_replies_off"));
        }
        if kind.changes_state() && is_full(cx) {
            return Err(Raw("pending_replies"));
        }
        match kind {
            Kind::Multi => {
                self.multi |= argc == 1;
                cx.inflight.push(Op::Multi);
            }
            Kind::Exec => {
                self.multi &= argc != 1;
                cx.inflight.push(Op::Exec);
            }
            Kind::Discard => {
                self.multi &= argc != 1;
                cx.inflight.push(Op::Discard);
            }
            Kind::Reset => {
                self.multi &= argc != 1;
                cx.inflight.push(Op::Reset);
            }
            Kind::Hello => cx.inflight.push(Op::Hello),
            Kind::Auth => cx.inflight.push(Op::Auth),
            Kind::Subscribe(_) | Kind::Unsubscribe(_) if self.multi => {
                return Err(Raw("subscribe_in_multi"));
            }
            Kind::Subscribe(channels) => cx
                .inflight
                .push(Op::Subscribe(channels, argc.saturating_sub(1).max(1))),
            Kind::Unsubscribe(channels) => cx
                .inflight
                .push(Op::Unsubscribe(channels, argc.saturating_sub(1))),
            Kind::Monitor => return Err(Raw("monitor")),
            Kind::Replication => return Err(Raw("replication")),
            Kind::Http => return Err(Raw("http")),
            _ => self.expect_plain(cx),
        }
        Ok(())
    }

    /// CLIENT, of which CLIENT REPLY matters.
    fn client(
        &mut self,
        subcommand: &[u8],
        mode: Option<&[u8]>,
        argc: usize,
        cx: &mut Context,
    ) -> Result<(), Raw> {
        let mode = mode.filter(|_| argc == 3 && subcommand.eq_ignore_ascii_case(b"REPLY"));
        let Some(mode) = mode else {
            self.expect_plain(cx);
            return Ok(());
        };
        if self.multi {
            return Err(Raw("client_reply_in_multi"));
        }
        if is_full(cx) {
            return Err(Raw("pending_replies"));
        }
        if mode.eq_ignore_ascii_case(b"ON") {
            // Its own reply comes in any case, also as the command that is skipped: but there versions differ.
            if self.replies == ReplyMode::SkipNext {
                return Err(Raw("client_reply_after_skip"));
            }
            self.replies = ReplyMode::On;
            cx.inflight.push_plain();
        } else if mode.eq_ignore_ascii_case(b"OFF") {
            if self.replies != ReplyMode::Off {
                cx.inflight.push(Op::ReplyOff);
            }
            self.replies = ReplyMode::Off;
        } else if mode.eq_ignore_ascii_case(b"SKIP") {
            // While replies are off it does nothing.
            match self.replies {
                ReplyMode::Off => {}
                ReplyMode::SkipNext => return Err(Raw("client_reply_after_skip")),
                ReplyMode::On => {
                    cx.inflight.push(Op::ReplySkip);
                    self.replies = ReplyMode::SkipNext;
                }
            }
        } else {
            self.expect_plain(cx);
        }
        Ok(())
    }

    /// An inline command is classified and followed, never rewritten.
    fn inline(&mut self, args: &[Vec<u8>], cx: &mut Context) -> Result<(), Raw> {
        let kind = Kind::of(args.first().map_or(&[][..], Vec::as_slice));
        cx.worker.counters.command(kind);
        let argc = args.len();
        if !kind.needs_arguments() {
            return self.plain_command(kind, u32::try_from(argc).unwrap_or(u32::MAX), cx);
        }
        if kind == Kind::Client {
            let subcommand = args.get(1).map_or(&[][..], Vec::as_slice);
            return self.client(subcommand, args.get(2).map(Vec::as_slice), argc, cx);
        }
        // The same parsers as for arrays, over the arguments laid end to end.
        let mut flat = Vec::new();
        let mut spans = Vec::new();
        for arg in args {
            let start = u32::try_from(flat.len()).unwrap_or(u32::MAX);
            flat.extend_from_slice(arg);
            spans.push(Span32 {
                start,
                end: u32::try_from(flat.len()).unwrap_or(u32::MAX),
            });
        }
        if kind == Kind::Xadd {
            self.xadd_as_it_is(&flat, &spans, "inline", cx);
            return Ok(());
        }
        self.parsed_command(kind, &flat, &spans, cx)
    }

    /// A command that was held, whole at `at` of the chunk. `args` are its arguments, or the last of them if it came in
    /// pieces: then it is walked once more.
    fn held_command(
        &mut self,
        args: &mut Vec<Span32>,
        at: usize,
        chunk: &mut Chunk<'_>,
        cx: &mut Context,
    ) -> Result<(), Raw> {
        let buf = chunk.bytes().get(at..).unwrap_or_default();
        let Head::Array {
            argc,
            header_end,
            name,
            mut cursor,
        } = scan::head(buf)?
        else {
            return Err(Raw("protocol"));
        };
        if args.len() != argc as usize {
            args.clear();
            cursor.walk(buf, |arg| args.push(arg))?;
        }
        match Kind::of(name.of(buf)) {
            Kind::Xadd => {
                self.xadd(header_end, args, at, chunk, cx);
                Ok(())
            }
            Kind::Client => {
                let arg = |i: usize| args.get(i).map(|a| a.of(buf));
                self.client(arg(1).unwrap_or_default(), arg(2), args.len(), cx)
            }
            kind => self.parsed_command(kind, buf, args, cx),
        }
    }

    fn parsed_command(
        &mut self,
        kind: Kind,
        buf: &[u8],
        args: &[Span32],
        cx: &mut Context,
    ) -> Result<(), Raw> {
        let arg = |i: usize| args.get(i).map(|a| a.of(buf));
        if is_full(cx) {
            if kind == Kind::Select {
                return Err(Raw("pending_replies"));
            }
            unread(kind, cx);
            self.expect_plain(cx);
            return Ok(());
        }
        let op = match kind {
            Kind::Select => {
                if self.replies != ReplyMode::On {
                    return Err(Raw("state_while_replies_off"));
                }
                let database = arg(1).and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
                database.map(Op::Select)
            }
            Kind::Xread | Kind::Xreadgroup => {
                let order = cx
                    .inference
                    .read_sent(cx.connection, &cx.listener.inference);
                read_op(buf, args, kind == Kind::Xreadgroup, order, cx)
            }
            Kind::Xclaim | Kind::Xautoclaim => {
                let order = cx
                    .inference
                    .read_sent(cx.connection, &cx.listener.inference);
                claim_op(buf, args, kind == Kind::Xautoclaim, order, cx)
            }
            Kind::Xrange => arg(1).and_then(|key| {
                let stream = cx.worker.streams.get(key);
                (stream.trace && stream.deliver == DeliverRule::Strip).then(|| {
                    deliver(
                        Shape::Entries,
                        Some((key.into(), stream)),
                        Reader::Range,
                        Order::default(),
                    )
                })
            }),
            Kind::Xack => stream_commands::ack(buf, args).and_then(|settle| settle_op(settle, cx)),
            Kind::Xackdel => {
                stream_commands::ack_del(buf, args).and_then(|settle| settle_op(settle, cx))
            }
            Kind::Xnack => {
                stream_commands::nack(buf, args).and_then(|settle| settle_op(settle, cx))
            }
            _ => None,
        };
        match op {
            Some(op) => self.expect(op, cx),
            None => self.expect_plain(cx),
        }
        Ok(())
    }

    /// XADD as an array: gets a context unless it has one.
    fn xadd(
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
        } else if is_full(cx) {
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
            counters.found_field.inc();
            self.send(
                Operation::SendClient,
                &stream,
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
            counters.injected_envelope.inc();
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
                &stream,
                Some(&context),
                carried.state,
                false,
                cx,
            );
            return;
        }
        match carried.source {
            Source::Invalid => counters.injected_replaced.inc(),
            _ => counters.injected_new.inc(),
        }
        let (parent, state) = infer(cx).unzip();
        let inferred = parent.is_some();
        let state = state.unwrap_or_default();
        let start = stream.start(parent.as_ref());
        // A trace that `force` began anew takes nothing along from the one it left; and the check above knew of no state.
        let arguments = args.len() + xadd::added_arguments(&carried, &state) as usize;
        let fits = arguments <= MAX_UNAUTHENTICATED_ARGUMENTS || cx.may_be_long();
        let state = if start.parent.is_some() && fits {
            state
        } else {
            TraceState::default()
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
        self.expect_send(Operation::Send, &stream, start, state, inferred, cx);
    }

    /// XADD that passes unchanged: if it carries a context of its own, there is still a span.
    fn xadd_as_it_is(
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
        let full = is_full(cx);
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
                &stream,
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
        stream: &Arc<Stream>,
        parent: Option<&SpanContext>,
        state: TraceState,
        inferred: bool,
        cx: &mut Context,
    ) {
        let start = stream.start(parent);
        self.expect_send(operation, stream, start, state, inferred, cx);
    }

    fn expect_send(
        &mut self,
        operation: Operation,
        stream: &Arc<Stream>,
        start: Start,
        trace_state: TraceState,
        inferred: bool,
        cx: &mut Context,
    ) {
        if !start.context.flags.sampled() {
            self.expect(Op::Count(stream.clone()), cx);
            return;
        }
        let span = Span {
            context: start.context,
            parent: start.parent,
            trace_state,
            operation,
            endpoint: cx.listener.endpoint.clone(),
            stream: stream.name.clone(),
            group: None,
            consumer: None,
            message: None,
            delivery_count: None,
            batch: None,
            inferred,
            start: cx.now,
            end: cx.now,
            outcome: Outcome::Unknown,
            links: start.links,
        };
        self.expect(
            Op::Send(Box::new(Send {
                span,
                stream: stream.clone(),
            })),
            cx,
        );
    }
}

/// Whether as many replies are awaited as may be: a further one may have no meaning, and where it must have one, the
/// connection is not understood any more.
fn is_full(cx: &Context) -> bool {
    cx.inflight.len() >= cx.worker.shared.config.limits.max_pending_replies
}

/// A read whose reply will not be read ends what inference knows, as any read does.
#[inline]
fn unread(kind: Kind, cx: &mut Context) {
    if matches!(
        kind,
        Kind::Xread | Kind::Xreadgroup | Kind::Xclaim | Kind::Xautoclaim
    ) {
        let _ = cx
            .inference
            .read_sent(cx.connection, &cx.listener.inference);
    }
}

/// Splices a context into the command at `at` of the chunk.
#[allow(clippy::too_many_arguments)]
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
    let (work, mut splice) = chunk.split();
    let buf = work.get(at..).unwrap_or_default();
    let mut added = 0usize;
    xadd::rewrite(
        buf,
        args,
        header_end,
        xadd,
        carried,
        context,
        state,
        |range, with| {
            added += with.len().saturating_sub(range.len());
            splice(range.start + at..range.end + at, with);
        },
    );
    cx.worker.shared.metrics.injected_bytes.inc_by(added as u64);
}

/// The message that an XADD without a context may belong to, if the listener's rule says so. What the rule would find is
/// counted in any case.
fn infer(cx: &Context) -> Option<(SpanContext, TraceState)> {
    let shared = &cx.worker.shared;
    let by_connection = cx.inference.find(&shared.deliveries);
    let by_process = cx.listener.inference.find(&shared.deliveries);
    for (found, counters) in [&by_connection, &by_process]
        .into_iter()
        .zip(&cx.worker.counters.inferences)
    {
        let [one, none, several] = counters;
        match found {
            Found::One(..) => one.inc(),
            Found::None => none.inc(),
            Found::Several => several.inc(),
        }
    }
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

fn deliver(
    shape: Shape,
    stream: Option<(Box<[u8]>, Arc<Stream>)>,
    reader: Reader,
    order: Order,
) -> Op {
    Op::Deliver(Box::new(Deliver {
        shape,
        stream,
        reader,
        order,
        messages: 0,
        seen: None,
        batch: None,
    }))
}

fn member(group: &[u8], consumer: &[u8], cx: &Context) -> Member {
    Member {
        group: group.into(),
        group_name: cx.worker.streams.name(group),
        consumer: cx.worker.streams.name(consumer),
    }
}

fn read_op(buf: &[u8], args: &[Span32], grouped: bool, order: Order, cx: &Context) -> Option<Op> {
    let read = stream_commands::read(buf, args, grouped)?;
    let reader = match read.group {
        None => Reader::Receive(None),
        Some((group, consumer)) if read.noack => Reader::Receive(Some(member(group, consumer, cx))),
        Some((group, consumer)) => {
            let keys = args.get(read.keys..read.keys + read.count)?;
            let ids = args.get(read.keys + read.count..)?;
            let history = keys
                .iter()
                .zip(ids)
                .filter(|(_, id)| id.of(buf) != b">")
                .map(|(key, _)| key.of(buf).into())
                .collect();
            Reader::Process(member(group, consumer, cx), Again::New { history })
        }
    };
    Some(deliver(Shape::Streams, None, reader, order))
}

fn claim_op(buf: &[u8], args: &[Span32], auto: bool, order: Order, cx: &Context) -> Option<Op> {
    let claim = stream_commands::claim(buf, args).filter(|claim| !claim.justid)?;
    let stream = cx.worker.streams.get(claim.key);
    let shape = if auto { Shape::Cursor } else { Shape::Entries };
    let reader = Reader::Process(
        member(claim.group, claim.consumer, cx),
        Again::Claimed(claim.retry_count),
    );
    Some(deliver(
        shape,
        Some((claim.key.into(), stream)),
        reader,
        order,
    ))
}

fn settle_op(settle: stream_commands::Settle<'_>, cx: &Context) -> Option<Op> {
    let key = crate::deliveries::GroupKey {
        upstream: cx.listener.upstream.number,
        database: cx.database,
        stream: settle.key,
        group: settle.group,
    };
    let mut table = cx.worker.shared.deliveries.lock();
    if let Some(group) = table.find(key) {
        for id in &settle.ids {
            table.settling(group, *id);
        }
    }
    Some(Op::Settle(Box::new(Settle {
        key: settle.key.into(),
        group: settle.group.into(),
        ids: settle.ids,
        how: settle.how,
    })))
}

/// There will be no reply: what was under way ends without one.
pub fn abandon(op: Op, cx: &mut Context, outcome: &Outcome) {
    match op {
        Op::Send(send) => {
            let mut span = send.span;
            span.end = cx.now.max(span.start);
            span.outcome = outcome.clone();
            cx.worker.finish(span);
        }
        Op::Settle(settle)
            if *outcome == Outcome::Unknown && matches!(settle.how, How::Ack | How::AckDel) =>
        {
            crate::response::settle_all(&settle, &Outcome::Uncertain, cx);
        }
        _ => {}
    }
}
