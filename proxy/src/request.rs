//! From the client to the server: where commands begin and end, what they are, and what an XADD gets added.
//!
//! [`Requests`] is the state of one connection's direction. It passes bytes on as they come; only a command whose
//! arguments mean something is held until it is whole, up to `max_message_bytes`.

pub mod command;
mod consumer;
mod inline;
mod producer;
pub mod scan;
mod state;
pub mod stream_commands;
pub mod xadd;

use std::rc::Rc;
use std::sync::Arc;

use crate::budget::Account;
use crate::chunk::Chunk;
use crate::config::Deliver as DeliverRule;
use crate::greeting::Stage;
use crate::infer::{self, Order};
use crate::inflight::{FIXED_BYTES, Inflight, Op, Reader};
use crate::response::entries::Shape;
use crate::trace::span::Outcome;
use crate::worker::{Destination, Listener, Moment, Worker};
use command::Kind;
use consumer::{claim_op, deliver, read_op, settle_op};
use scan::{Cursor, Foreign, Head, Span32};
use stream_commands::How;

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
    /// The server, as it was reached through that listener.
    pub destination: Arc<Destination>,
    /// This connection's number.
    pub connection: u64,
    /// Requests that wait for their replies.
    pub inflight: Inflight,
    /// What is held on its way to the server.
    pub held_up: Account,
    /// What is held on its way to the client.
    pub held_down: Account,
    /// Inference over this connection.
    pub inference: infer::Connection,
    /// Whether a reply has shown that the server takes commands from this connection.
    pub authenticated: bool,
    /// SELECTed database, as the replies tell.
    pub database: u32,
    /// How far the server has been told who asks.
    pub greeting: Stage,
    /// When the bytes at hand were read.
    pub now: Moment,
}

impl Context {
    /// Whether a longer command is not refused for want of AUTH.
    fn may_be_long(&self) -> bool {
        self.authenticated || self.destination.upstream.is_open()
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
    /// The database that SELECT asked for last, whether or not it was answered yet.
    database: u32,
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
    /// Of a new connection.
    #[must_use]
    pub fn new(destination: &Destination) -> Self {
        Self {
            database: destination.database(),
            ..Self::default()
        }
    }

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
                    // Behind RESET the server is told first who asks.
                    if buf.is_empty() || cx.greeting != Stage::Over {
                        return Ok(());
                    }
                    match scan::head(buf)? {
                        Head::Incomplete if refused_at_sight(buf, cx) => {
                            return Err(Raw("unauthenticated"));
                        }
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
                            argc,
                            header_end,
                            name,
                            mut cursor,
                        } => {
                            let kind = Kind::of(name.of(buf));
                            cx.worker.counters.command(kind);
                            let begun = cursor;
                            if kind.needs_arguments() {
                                // Nearly always all of it is there.
                                let at = *consumed;
                                let limit = cx.worker.shared.config.limits.max_message_bytes;
                                cursor.step(name);
                                let handled = ARGUMENTS.with_borrow_mut(|args| {
                                    args.clear();
                                    args.push(name);
                                    let buf = chunk.bytes().get(at..).unwrap_or_default();
                                    let whole = cursor.walk(buf, |arg| args.push(arg))?;
                                    let held = whole && cursor.pos <= limit;
                                    if held {
                                        self.held_command(kind, header_end, args, at, chunk, cx)?;
                                    }
                                    Ok::<_, Raw>(held)
                                })?;
                                if handled {
                                    *consumed += cursor.pos;
                                    continue;
                                }
                                if argc as usize <= MAX_UNAUTHENTICATED_ARGUMENTS
                                    || cx.may_be_long()
                                {
                                    self.state = State::Holding(begun);
                                    continue;
                                }
                                // The server may close at this header already, and must see it at once.
                                if kind == Kind::Xadd {
                                    cx.worker.shared.metrics.skipped("unauthenticated");
                                }
                                cursor = begun;
                            }
                            unread(kind, cx);
                            self.plain_command(kind, argc, cx)?;
                            if name.end > 0 {
                                cursor.step(name);
                            }
                            let buf = chunk.bytes().get(*consumed..).unwrap_or_default();
                            if !pass(&mut cursor, buf, consumed)? {
                                self.state = State::Passing(cursor);
                                return Ok(());
                            }
                        }
                    }
                }
                State::Passing(cursor) => {
                    if !pass(cursor, buf, consumed)? {
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
                        || (!complete && !cx.held_up.covers(buf.len()))
                    {
                        self.too_large(buf, cx)?;
                    } else if complete {
                        self.state = State::Between;
                        self.resumed_command(*consumed, chunk, cx)?;
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
        } else {
            cx.worker.shared.metrics.not_followed("too_large");
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
    #[inline]
    fn expect(&mut self, op: Op, cx: &mut Context) {
        match self.replies {
            ReplyMode::On => {
                cx.inflight.push(op);
                debug_assert!(cx.inflight.is_covered(), "more than was asked for");
            }
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

    /// A command that came in pieces, and is now whole at `at` of the chunk: it is walked once more, from its beginning.
    fn resumed_command(
        &mut self,
        at: usize,
        chunk: &mut Chunk<'_>,
        cx: &mut Context,
    ) -> Result<(), Raw> {
        let buf = chunk.bytes().get(at..).unwrap_or_default();
        let Head::Array {
            header_end,
            name,
            mut cursor,
            ..
        } = scan::head(buf)?
        else {
            return Err(Raw("protocol"));
        };
        let kind = Kind::of(name.of(buf));
        ARGUMENTS.with_borrow_mut(|args| {
            let buf = chunk.bytes().get(at..).unwrap_or_default();
            args.clear();
            cursor.walk(buf, |arg| args.push(arg))?;
            self.held_command(kind, header_end, args, at, chunk, cx)
        })
    }

    /// A command whose arguments mean something, whole at `at` of the chunk.
    fn held_command(
        &mut self,
        kind: Kind,
        header_end: usize,
        args: &[Span32],
        at: usize,
        chunk: &mut Chunk<'_>,
        cx: &mut Context,
    ) -> Result<(), Raw> {
        let buf = chunk.bytes().get(at..).unwrap_or_default();
        match kind {
            Kind::Xadd => {
                self.xadd(header_end, args, at, chunk, cx);
                Ok(())
            }
            Kind::Client => {
                let arg = |i: usize| args.get(i).map(|a| a.of(buf));
                self.client(arg(1).unwrap_or_default(), arg(2), args.len(), cx)
            }
            Kind::Cluster => {
                let subcommand = args.get(1).map(|a| a.of(buf));
                self.cluster(subcommand.unwrap_or_default(), cx)
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
        if is_full(cx, remembered(args)) {
            if kind == Kind::Select {
                return Err(Raw("pending_replies"));
            }
            cx.worker.shared.metrics.not_followed("pending_replies");
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
                self.database = database.unwrap_or(self.database);
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
            Kind::Xack => stream_commands::ack(buf, args)
                .and_then(|settle| settle_op(settle, self.database, cx)),
            Kind::Xackdel => stream_commands::ack_del(buf, args)
                .and_then(|settle| settle_op(settle, self.database, cx)),
            Kind::Xnack => stream_commands::nack(buf, args)
                .and_then(|settle| settle_op(settle, self.database, cx)),
            _ => None,
        };
        match op {
            Some(op) => self.expect(op, cx),
            None => self.expect_plain(cx),
        }
        Ok(())
    }
}

/// Lets as much of a command pass as there is. True at its end.
#[inline(always)]
fn pass(cursor: &mut Cursor, buf: &[u8], consumed: &mut usize) -> Result<bool, Foreign> {
    let complete = cursor.walk(buf, |_| ())?;
    let passed = cursor.pos.min(buf.len());
    cursor.rebase(passed);
    *consumed += passed;
    Ok(complete)
}

/// Whether the server will close the connection at this header already, for want of AUTH: then it must see it at once.
fn refused_at_sight(buf: &[u8], cx: &Context) -> bool {
    let long = |argc| argc > MAX_UNAUTHENTICATED_ARGUMENTS as i64;
    !cx.may_be_long()
        && cx.inflight.is_empty()
        && matches!(scan::number_line(buf, b'*'), Ok(Some((argc, _))) if long(argc))
}

/// Whether as many replies are awaited as may be, or there is no room to remember as many `bytes` of a further command: it
/// may have no meaning then, and where it must have one, the connection is not understood any more.
fn is_full(cx: &mut Context, bytes: usize) -> bool {
    cx.inflight.len() >= cx.worker.shared.config.limits.max_pending_replies
        || !cx.inflight.fits(bytes)
}

/// The most that a read, a claim or a settlement is remembered by: what it names, and an ID or a key for each argument.
fn remembered(args: &[Span32]) -> usize {
    let length = |arg: &Span32| arg.end.saturating_sub(arg.start) as usize;
    let names = args.iter().map(length).sum::<usize>();
    names + size_of_val(args) * 2 + FIXED_BYTES
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

/// There will be no reply: what was under way ends without one.
pub fn abandon(op: Op, cx: &mut Context, outcome: &Outcome) {
    match op {
        Op::Send(send) => {
            let mut span = send.span;
            span.end = cx.now.get().max(span.start);
            span.outcome = outcome.clone();
            cx.worker.finish(span);
        }
        Op::Settle(settle)
            if *outcome == Outcome::Unknown && matches!(settle.how, How::Ack | How::AckDel) =>
        {
            crate::response::settlement::settle_all(&settle, &Outcome::Uncertain, cx);
        }
        Op::Settle(settle) => crate::response::settlement::refused_settlement(&settle, cx),
        _ => {}
    }
}
