//! From the server to the client: where replies end, which request each answers, and what the messages in them say.
//!
//! [`Replies`] is the state of one connection's direction. Replies are paired with requests in order; what the server says
//! unasked (pushes, messages of subscriptions) is told from them by its form. A reply that means nothing is skimmed as it
//! streams; a short one that means something is held until it is whole; one with entries is walked, an entry at a time.

mod answer;
pub mod delivery;
pub mod entries;
pub mod pubsub;
pub mod settlement;
pub mod skim;
mod transaction;
mod unasked;
mod walking;

use crate::chunk::Chunk;
use crate::infer::Latest;
use crate::inflight::{Deliver, Op};
use crate::request::{Context, Raw, abandon};
use crate::trace::span::Outcome;
pub(crate) use answer::error_code;
use answer::{accepted, refused};
use entries::Walk;
use pubsub::{Push, Subscriptions};
use skim::Skim;
use transaction::Transaction;

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
        if let Some(begun) = self.queued(buf, cx)? {
            return Ok(begun);
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

#[cfg(test)]
mod tests;
