//! From the server to the client: where replies end, which request each answers, and what the messages in them say.
//!
//! [`Replies`] is the state of one connection's direction. Replies are paired with requests in order; what the server says
//! unasked (pushes, messages of subscriptions) is told from them by its form. A reply that means nothing is skimmed as it
//! streams; a short one that means something is held until it is whole; one with entries is walked, an entry at a time.

pub mod entries;
pub mod pubsub;
pub mod settlement;
pub mod skim;

use std::sync::Arc;

use crate::chunk::Chunk;
use crate::infer::Latest;
use crate::inflight::{Again, Deliver, Op, Reader};
use crate::request::scan::number_line;
use crate::request::{Context, Raw, abandon};
use crate::streams::Stream;
use crate::trace::span::{EntryId, Outcome};
use entries::{Step, Walk};
use pubsub::{Push, Subscriptions};
use settlement::{refused_settlement, settled};
use skim::{Aggregate, Skim, aggregate};

pub mod delivery;

/// A reply that must be whole to be understood (an ID, a count, an error) is short. XACKDEL answers with a number for
/// each ID; beyond this its answer is taken as uncertain.
const MAX_HELD_REPLY: usize = 64 * 1024;

/// State of the direction from the server to the client.
#[derive(Debug, Default)]
pub struct Replies {
    stage: Stage,
    skim: Skim,
    /// Bytes of the held reply or entry that have been skimmed.
    held: usize,
    subscriptions: Subscriptions,
    resp3: bool,
    transaction: Option<Box<Transaction>>,
    /// Grouped messages of replies that were read, and have not been written to the client.
    delivered: Vec<Latest>,
}

#[derive(Debug, Default)]
enum Stage {
    /// At the beginning of a reply.
    #[default]
    Between,
    /// Within a reply that means nothing.
    Skip,
    /// Within a short reply to this.
    Hold(Op),
    /// Within an acknowledgement of a subscription.
    HoldAck(Push),
    /// Within a reply with entries.
    Walk(Box<Deliver>, Walk),
    /// Within an entry of such a reply.
    Entry(Box<Deliver>, Walk),
    /// Within what passes unread before such a reply goes on: an entry that is larger than may be held, or a push.
    Aside(Box<Deliver>, Walk),
    /// Behind the last entry of such a reply.
    Rest(Box<Deliver>),
}

/// MULTI was answered with OK. What was queued is in [`Inflight`](crate::inflight::Inflight).
#[derive(Debug, Default)]
struct Transaction {
    /// How many commands were queued.
    commands: u64,
    /// Within EXEC's reply: elements still to come.
    left: Option<u64>,
}

/// What the beginning of a reply says.
enum Begin {
    /// More bytes are needed.
    More,
    /// So many bytes were consumed; go on.
    Passed(usize),
}

impl Replies {
    /// Reads the bytes at hand, and says how many may be written on; the others are to be kept and shown again, with what
    /// follows them.
    ///
    /// # Errors
    /// [`Raw`] if the connection is to be a raw relay from the first byte that was not consumed.
    pub fn process(
        &mut self,
        chunk: &mut Chunk<'_>,
        cx: &mut Context,
        consumed: &mut usize,
    ) -> Result<(), Raw> {
        *consumed = 0;
        loop {
            // A reply with entries is over with its own last byte, not with the first of the next.
            if matches!(&self.stage, Stage::Walk(_, walk) if walk.remaining() == 0)
                && let Stage::Walk(mut deliver, _) = std::mem::take(&mut self.stage)
            {
                self.walked(&mut deliver, cx);
            }
            let mut buf = chunk.bytes().get(*consumed..).unwrap_or_default();
            if matches!(self.stage, Stage::Between)
                && self.transaction.is_none()
                && cx.authenticated
            {
                let before = buf.len();
                while let Some(end) = skim::whole(buf)
                    && let Some(op) = cx.inflight.pop_simple()
                {
                    let (reply, rest) = buf.split_at_checked(end).unwrap_or_default();
                    match op {
                        Op::Plain(_) => {}
                        Op::Count(stream) => accepted(&stream, reply),
                        op => self.answered(op, reply, cx),
                    }
                    buf = rest;
                }
                *consumed += before - buf.len();
            }
            if buf.is_empty() {
                return Ok(());
            }
            match std::mem::take(&mut self.stage) {
                Stage::Between => match self.begin(buf, cx)? {
                    Begin::More => return Ok(()),
                    Begin::Passed(n) => *consumed += n,
                },
                Stage::Skip => {
                    *consumed += self.skim.skip(buf)?;
                    if !self.skim.is_done() {
                        self.stage = Stage::Skip;
                        return Ok(());
                    }
                }
                Stage::Hold(op) => {
                    if self.hold(buf)? {
                        let reply = buf.get(..self.held).unwrap_or_default();
                        self.answered(op, reply, cx);
                        *consumed += std::mem::take(&mut self.held);
                    } else if buf.len() > MAX_HELD_REPLY {
                        *consumed += std::mem::take(&mut self.held);
                        abandon(op, cx, &Outcome::Unknown);
                        self.stage = Stage::Skip;
                    } else {
                        self.stage = Stage::Hold(op);
                        return Ok(());
                    }
                }
                Stage::HoldAck(push) => {
                    if self.hold(buf)? {
                        let reply = buf.get(..self.held).unwrap_or_default();
                        self.acknowledged(push, reply, cx)?;
                        *consumed += std::mem::take(&mut self.held);
                    } else if buf.len() > MAX_HELD_REPLY {
                        // A channel's name as long as that: its count is not worth holding it.
                        return Err(Raw("subscription"));
                    } else {
                        self.stage = Stage::HoldAck(push);
                        return Ok(());
                    }
                }
                Stage::Walk(deliver, walk) if buf.first() == Some(&b'>') => {
                    self.skim.start_push();
                    self.stage = Stage::Aside(deliver, walk);
                }
                Stage::Walk(deliver, walk) => {
                    if !self.walk(deliver, walk, chunk, consumed, cx)? {
                        return Ok(());
                    }
                }
                Stage::Entry(mut deliver, mut walk) => {
                    let limit = cx.worker.shared.config.limits.max_message_bytes;
                    let whole = self.hold(buf)?;
                    let fits = whole || cx.held_down.covers(buf.len() + deliver.key_bytes());
                    if self.held > limit || !fits {
                        cx.worker.shared.metrics.extracted("too_large").inc();
                        deliver.messages += 1;
                        *consumed += std::mem::take(&mut self.held);
                        walk.entry_done();
                        self.stage = if whole {
                            Stage::Walk(deliver, walk)
                        } else {
                            Stage::Aside(deliver, walk)
                        };
                    } else if whole {
                        let start = *consumed;
                        let end = start + std::mem::take(&mut self.held);
                        self.entry(&mut deliver, start..end, chunk, cx);
                        *consumed = end;
                        walk.entry_done();
                        self.stage = Stage::Walk(deliver, walk);
                    } else {
                        self.stage = Stage::Entry(deliver, walk);
                        return Ok(());
                    }
                }
                Stage::Aside(deliver, walk) => {
                    *consumed += self.skim.skip(buf)?;
                    if !self.skim.is_done() {
                        self.stage = Stage::Aside(deliver, walk);
                        return Ok(());
                    }
                    self.stage = Stage::Walk(deliver, walk);
                }
                Stage::Rest(mut deliver) => {
                    *consumed += self.skim.skip(buf)?;
                    if !self.skim.is_done() {
                        self.stage = Stage::Rest(deliver);
                        return Ok(());
                    }
                    self.walked(&mut deliver, cx);
                }
            }
        }
    }

    /// Whether the element that is held is whole; `held` counts its bytes.
    fn hold(&mut self, buf: &[u8]) -> Result<bool, Raw> {
        self.held += self.skim.skip(buf.get(self.held..).unwrap_or_default())?;
        Ok(self.skim.is_done())
    }

    /// Begins a reply: whose is it?
    fn begin(&mut self, buf: &[u8], cx: &mut Context) -> Result<Begin, Raw> {
        if let Some(transaction) = &mut self.transaction
            && let Some(left) = &mut transaction.left
        {
            if *left == 0 {
                self.transaction = None;
                return Ok(Begin::Passed(0));
            }
            // No element is a push: what subscribes within MULTI has made a raw relay. Redis before 7.2 sends one here when a
            // command of the transaction causes it.
            if buf.first() == Some(&b'>') {
                self.skim.start_push();
                self.stage = Stage::Skip;
                return Ok(Begin::Passed(0));
            }
            *left -= 1;
            let op = cx.inflight.pop_queued().unwrap_or(Op::Plain(1));
            return self.begin_reply(op, buf, cx);
        }
        match self.unasked(buf, cx)? {
            Some(Begin::More) => return Ok(Begin::More),
            Some(passed) => return Ok(passed),
            None => {}
        }
        self.prove(buf, cx);
        // While a transaction is open, `+QUEUED` puts off what the reply means until EXEC.
        if self.transaction.is_some() && buf.first() == Some(&b'+') {
            const QUEUED: &[u8] = b"+QUEUED\r\n";
            if buf.len() < QUEUED.len() && QUEUED.starts_with(buf) {
                return Ok(Begin::More);
            }
            if buf.starts_with(QUEUED) {
                let op = cx.inflight.pop().ok_or(Raw("unexpected_reply"))?;
                match op {
                    Op::Raw(reason) => return Err(Raw(reason)),
                    Op::Subscribe(..) | Op::Unsubscribe(..) | Op::ReplyOff | Op::ReplySkip => {
                        return Err(Raw("state_in_multi"));
                    }
                    _ => {}
                }
                if let Some(transaction) = &mut self.transaction {
                    let limit = cx.worker.shared.config.limits.max_pending_replies;
                    transaction.commands += 1;
                    match op {
                        Op::Plain(_) => cx.inflight.queue(op),
                        op if cx.inflight.queue_len() < limit => cx.inflight.queue(op),
                        Op::Send(_) | Op::Count(_) | Op::Deliver(_) | Op::Settle(_) => {
                            cx.inflight.queue(Op::Plain(1));
                            abandon(op, cx, &Outcome::Unknown);
                        }
                        _ => return Err(Raw("pending_replies")),
                    }
                }
                return Ok(Begin::Passed(QUEUED.len()));
            }
        }
        match cx.inflight.front() {
            None => return Err(Raw("unexpected_reply")),
            Some(Op::Raw(reason)) => return Err(Raw(reason)),
            Some(Op::Plain(_)) => {}
            Some(Op::ReplyOff) if buf.first() == Some(&b'-') => {
                return Err(Raw("client_reply_refused"));
            }
            Some(Op::ReplySkip) => match refused(buf) {
                None => return Ok(Begin::More),
                Some(true) => return Err(Raw("client_reply_refused")),
                Some(false) => {
                    cx.inflight.pop();
                    return Ok(Begin::Passed(0));
                }
            },
            Some(Op::ReplyOff) => {
                cx.inflight.pop();
                return Ok(Begin::Passed(0));
            }
            Some(Op::Subscribe(..) | Op::Unsubscribe(..)) if buf.first() != Some(&b'-') => {
                return Err(Raw("subscription"));
            }
            Some(_) => {}
        }
        let op = cx.inflight.pop().ok_or(Raw("unexpected_reply"))?;
        self.begin_reply(op, buf, cx)
    }

    /// Begins the reply to `op`.
    fn begin_reply(&mut self, op: Op, buf: &[u8], cx: &mut Context) -> Result<Begin, Raw> {
        let error = buf.first() == Some(&b'-') || buf.first() == Some(&b'!');
        match op {
            Op::Deliver(deliver) if !error => {
                self.stage = Stage::Walk(deliver, Walk::new(entries::Shape::Entries));
                if let Stage::Walk(deliver, walk) = &mut self.stage {
                    *walk = Walk::new(deliver.shape);
                }
            }
            Op::Send(_)
            | Op::Count(_)
            | Op::Settle(_)
            | Op::Auth
            | Op::Multi
            | Op::Discard
            | Op::Reset
            | Op::Select(_) => {
                self.skim.start();
                self.stage = Stage::Hold(op);
            }
            Op::Exec if !error => return self.exec(buf, cx),
            Op::Exec => {
                self.end_transaction(cx);
                self.skip_one();
            }
            Op::Hello => {
                if !error {
                    self.resp3 = buf.first() == Some(&b'%');
                    cx.authenticated = true;
                }
                self.skip_one();
            }
            _ => self.skip_one(),
        }
        Ok(Begin::Passed(0))
    }

    fn skip_one(&mut self) {
        self.skim.start();
        self.stage = Stage::Skip;
    }

    /// EXEC's reply: its elements are the replies to what was queued.
    fn exec(&mut self, buf: &[u8], cx: &mut Context) -> Result<Begin, Raw> {
        let Some((header, line)) = aggregate(buf)? else {
            // Not whole yet: ask again with more bytes.
            return self.exec_incomplete(cx);
        };
        let queued = self
            .transaction
            .as_ref()
            .map(|transaction| transaction.commands);
        match (header, queued) {
            (Aggregate::List(n), Some(queued)) if n == queued => {
                if let Some(transaction) = &mut self.transaction {
                    transaction.left = Some(n);
                }
                Ok(Begin::Passed(line))
            }
            (Aggregate::List(_), _) => Err(Raw("exec_mismatch")),
            (Aggregate::Null, _) => {
                self.end_transaction(cx);
                Ok(Begin::Passed(line))
            }
            _ => {
                self.end_transaction(cx);
                self.skip_one();
                Ok(Begin::Passed(0))
            }
        }
    }

    #[allow(clippy::unused_self)]
    fn exec_incomplete(&mut self, cx: &mut Context) -> Result<Begin, Raw> {
        cx.inflight.push_front(Op::Exec);
        Ok(Begin::More)
    }

    /// The transaction came to nothing.
    fn end_transaction(&mut self, cx: &mut Context) {
        if self.transaction.take().is_some() {
            for op in cx.inflight.take_queued() {
                abandon(op, cx, &Outcome::NotSent);
            }
        }
    }

    /// Any answer but an error shows that the server takes commands from this connection; `-NOAUTH` that it would not
    /// from a new one.
    fn prove(&mut self, buf: &[u8], cx: &mut Context) {
        if cx.authenticated {
            return;
        }
        if buf.starts_with(b"-NOAUTH") || buf.starts_with(b"-ERR Protocol error: unauth") {
            cx.listener.upstream.set_open(false);
        } else if buf.first() != Some(&b'-')
            && !matches!(
                cx.inflight.front(),
                None | Some(Op::Reset | Op::ReplyOff | Op::ReplySkip | Op::Raw(_))
            )
        {
            cx.authenticated = true;
        }
    }

    /// A short reply is whole.
    fn answered(&mut self, op: Op, reply: &[u8], cx: &mut Context) {
        let error = error_code(reply);
        match op {
            Op::Send(mut send) => {
                send.span.end = cx.now.get().max(send.span.start);
                send.span.outcome = match (error, bulk_id(reply)) {
                    (Some(code), _) => Outcome::Error(code.into()),
                    (None, Some(id)) => {
                        send.span.message = Some(id);
                        send.stream.sent.inc();
                        Outcome::Done
                    }
                    (None, None) => Outcome::NotSent,
                };
                cx.worker.finish(send.span);
            }
            Op::Count(stream) => accepted(&stream, reply),
            Op::Settle(settle) if error.is_none() => settled(&settle, reply, cx),
            Op::Settle(settle) => refused_settlement(&settle, cx),
            Op::Auth => cx.authenticated |= error.is_none(),
            Op::Multi if error.is_none() => self.transaction = Some(Box::default()),
            Op::Discard if error.is_none() => self.end_transaction(cx),
            Op::Select(database) if error.is_none() => cx.database = database,
            Op::Reset if error.is_none() => {
                self.end_transaction(cx);
                self.resp3 = false;
                self.subscriptions = Subscriptions::default();
                cx.database = 0;
                cx.authenticated = false;
            }
            _ => {}
        }
    }

    /// What the server says without being asked: pushes, and in RESP2 the messages of subscriptions. None if it is a
    /// reply.
    fn unasked(&mut self, buf: &[u8], cx: &mut Context) -> Result<Option<Begin>, Raw> {
        let subscribing = matches!(
            cx.inflight.front(),
            Some(Op::Subscribe(..) | Op::Unsubscribe(..))
        );
        let is_push = buf.first() == Some(&b'>');
        let listening =
            !self.resp3 && buf.first() == Some(&b'*') && (subscribing || self.subscriptions.any());
        if !is_push && !listening {
            return Ok(None);
        }
        let Some(push) = pubsub::classify(buf)? else {
            return Ok(Some(Begin::More));
        };
        self.stage = match push {
            Push::Acknowledge { .. } => {
                // Nothing but pushes came since CLIENT REPLY: it was not refused.
                if cx.inflight.is_subscribing_in_silence() {
                    cx.inflight.pop();
                }
                Stage::HoldAck(push)
            }
            Push::Message => Stage::Skip,
            Push::Other if is_push => Stage::Skip,
            Push::Other => return Ok(None),
        };
        if is_push {
            self.skim.start_push();
        } else {
            self.skim.start();
        }
        Ok(Some(Begin::Passed(0)))
    }

    /// A subscription was acknowledged: perhaps the one that was asked for.
    fn acknowledged(&mut self, push: Push, reply: &[u8], cx: &mut Context) -> Result<(), Raw> {
        let Push::Acknowledge {
            channels,
            subscribed,
        } = push
        else {
            return Ok(());
        };
        let before = self.subscriptions.of(channels);
        let count = pubsub::count(reply).ok_or(Raw("subscription"))?;
        self.subscriptions.update(channels, count);
        let done = match cx.inflight.front() {
            Some(Op::Subscribe(asked, left)) if subscribed && *asked == channels => {
                *left -= 1;
                *left == 0
            }
            Some(Op::Unsubscribe(asked, left)) if !subscribed && *asked == channels => {
                if *left == 0 {
                    // Without arguments: one for each there is, and one that says so if there is none.
                    *left = u32::try_from(before.max(1)).unwrap_or(u32::MAX);
                }
                *left -= 1;
                *left == 0
            }
            // Unasked: a slot moved away, and its shard channels with it.
            _ => false,
        };
        if done {
            cx.inflight.pop();
        }
        Ok(())
    }

    /// The grouped messages of replies that have been written to the client since this was last asked.
    pub fn reached_client(&mut self) -> impl Iterator<Item = Latest> + '_ {
        self.delivered.drain(..)
    }

    /// Whether some are waiting for that.
    #[inline]
    #[must_use]
    pub fn awaits_client(&self) -> bool {
        !self.delivered.is_empty()
    }

    /// Whether the last reply that began is over.
    #[must_use]
    pub fn is_between(&self) -> bool {
        let elements = self
            .transaction
            .as_ref()
            .and_then(|transaction| transaction.left);
        matches!(self.stage, Stage::Between) && elements.is_none_or(|left| left == 0)
    }

    /// Whether messages may come that no command asks for.
    #[must_use]
    pub fn is_subscribed(&self) -> bool {
        self.subscriptions.any()
    }

    /// Bytes that are held apart from what was read and not understood: the key of the stream whose entries come.
    #[must_use]
    pub fn held(&self) -> usize {
        match &self.stage {
            Stage::Walk(deliver, _)
            | Stage::Entry(deliver, _)
            | Stage::Aside(deliver, _)
            | Stage::Rest(deliver) => deliver.key_bytes(),
            _ => 0,
        }
    }

    /// The connection ends, or becomes a raw relay: what is under way has no answer any more.
    pub fn abandon(&mut self, cx: &mut Context) {
        match std::mem::take(&mut self.stage) {
            Stage::Hold(op) => abandon(op, cx, &Outcome::Unknown),
            Stage::Walk(mut deliver, _)
            | Stage::Entry(mut deliver, _)
            | Stage::Aside(mut deliver, _)
            | Stage::Rest(mut deliver) => {
                self.walked(&mut deliver, cx);
            }
            _ => {}
        }
        self.transaction = None;
        for op in cx.inflight.take_all() {
            // A settlement without an answer settles nothing.
            if !matches!(op, Op::Settle(_)) {
                abandon(op, cx, &Outcome::Unknown);
            }
        }
    }
}

/// Counts a message that is in the stream now: an id says so, and no nil.
#[inline]
fn accepted(stream: &Stream, reply: &[u8]) {
    if matches!(reply, [b'$', b'0'..=b'9', ..]) {
        stream.sent.inc();
    }
}

/// Whether an error says that the command itself was refused, and not that it failed; none while that cannot be told.
fn refused(buf: &[u8]) -> Option<bool> {
    const REFUSALS: [&[u8]; 9] = [
        b"-NOPERM",
        b"-NOAUTH",
        b"-ERR unknown",
        // Of a RESP2 connection with subscriptions.
        b"-ERR Can't execute",
        // Valkey's, of a transaction that a refused DISCARD has not ended.
        b"-ERR Command 'client|reply' not allowed",
        b"-ERR Command not allowed inside",
        b"-BUSY",
        b"-LOADING",
        b"-MASTERDOWN",
    ];
    if REFUSALS.iter().any(|start| buf.starts_with(start)) {
        return Some(true);
    }
    let incomplete = REFUSALS.iter().any(|start| start.starts_with(buf));
    (!incomplete).then_some(false)
}

/// The error code, `WRONGTYPE` of `-WRONGTYPE Operation against …`, if the reply is an error.
fn error_code(reply: &[u8]) -> Option<&str> {
    let text = match reply.split_first()? {
        (b'-', text) => text,
        (b'!', text) => text.get(memchr::memchr(b'\n', text)? + 1..)?,
        _ => return None,
    };
    /// Codes are short words; a longer one is not a code.
    const MAX_CODE_BYTES: usize = 32;
    let end = text
        .iter()
        .position(|b| !b.is_ascii_uppercase() && !b.is_ascii_digit() && *b != b'_')?;
    Some(
        text.get(..end)
            .filter(|code| !code.is_empty() && code.len() <= MAX_CODE_BYTES)
            .and_then(|code| std::str::from_utf8(code).ok())
            .unwrap_or("ERR"),
    )
}

/// The ID in a reply to XADD.
fn bulk_id(reply: &[u8]) -> Option<EntryId> {
    let (length, line) = number_line(reply, b'$').ok()??;
    EntryId::parse(reply.get(line..line + usize::try_from(length).ok()?)?)
}

impl Replies {
    /// Goes on in a reply with entries. False if more bytes are needed.
    fn walk(
        &mut self,
        mut deliver: Box<Deliver>,
        mut walk: Walk,
        chunk: &Chunk<'_>,
        consumed: &mut usize,
        cx: &mut Context,
    ) -> Result<bool, Raw> {
        let buf = chunk.bytes().get(*consumed..).unwrap_or_default();
        match walk.step(buf)? {
            Step::More => {
                let limit = cx.worker.shared.config.limits.max_message_bytes;
                if buf.len() > limit || !cx.held_down.covers(buf.len()) {
                    // A key as long as that: the reply passes unread.
                    self.skim.start_many(walk.remaining());
                    self.stage = Stage::Rest(deliver);
                    return Ok(true);
                }
                self.stage = Stage::Walk(deliver, walk);
                return Ok(false);
            }
            Step::Pass(n) => {
                *consumed += n;
                self.stage = Stage::Walk(deliver, walk);
            }
            Step::Key(n, key) => {
                if deliver.shape == entries::Shape::Streams {
                    self.close_batch(&mut deliver, cx);
                    let key = buf.get(key).unwrap_or_default();
                    deliver.stream = Some((key.into(), cx.worker.streams.get(key)));
                }
                *consumed += n;
                self.stage = Stage::Walk(deliver, walk);
            }
            Step::Entry => {
                self.skim.start();
                self.stage = Stage::Entry(deliver, walk);
            }
            Step::Finish(0) => self.walked(&mut deliver, cx),
            Step::Finish(left) => {
                self.skim.start_many(left);
                self.stage = Stage::Rest(deliver);
            }
        }
        Ok(true)
    }

    /// A reply with entries is over.
    fn walked(&mut self, deliver: &mut Deliver, cx: &mut Context) {
        self.close_batch(deliver, cx);
        if let Some(latest) = deliver.seen.take() {
            let count = deliver.messages;
            self.delivered.push(Latest { count, ..latest });
        }
    }
}

/// Whether a message was delivered before, as far as the request tells.
pub(crate) fn in_history(again: &Again, key: &[u8]) -> bool {
    match again {
        Again::New { history } => history.iter().any(|read| **read == *key),
        Again::Claimed(_) => true,
    }
}

/// A group, or its absence, as the metrics name it.
pub(crate) fn group_label(reader: &Reader) -> Arc<str> {
    match reader {
        Reader::Process(member, _) | Reader::Receive(Some(member)) => member.group_name.clone(),
        Reader::Receive(None) | Reader::Range => "".into(),
    }
}

#[cfg(test)]
mod tests;
