//! Requests that are waiting for their replies, in order.
//!
//! Most mean nothing to the trace; runs of them are one number. The queue is the one thing both directions share: the
//! request side appends, the reply side takes away.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::request::command::Channels;
use crate::request::stream_commands::How;
use crate::response::entries::Shape;
use crate::streams::Stream;
use crate::trace::span::{EntryId, Span};

/// What the reply to a request means.
#[derive(Debug)]
pub enum Op {
    /// As many requests whose replies mean nothing.
    Plain(u32),
    /// XADD with a span, which the reply completes.
    Send(Box<Send>),
    /// XADD that is not sampled: counted when it was accepted.
    Count(Arc<Stream>),
    /// A reply with entries.
    Deliver(Box<Deliver>),
    /// XACK, XACKDEL, XNACK.
    Settle(Box<Settle>),
    /// HELLO: its reply tells the protocol from here on.
    Hello,
    /// AUTH
    Auth,
    /// MULTI
    Multi,
    /// EXEC
    Exec,
    /// DISCARD
    Discard,
    /// RESET
    Reset,
    /// SELECT
    Select(u32),
    /// SUBSCRIBE and its kin: so many acknowledgements, or one error.
    Subscribe(Channels, u32),
    /// UNSUBSCRIBE and its kin: so many acknowledgements; 0 stands for all there are.
    Unsubscribe(Channels, u32),
    /// CLIENT REPLY OFF: no reply, unless the server refuses.
    ReplyOff,
    /// CLIENT REPLY SKIP and the command after it: no reply, unless the server refuses.
    ReplySkip,
    /// From here on the connection is a raw relay.
    Raw(&'static str),
}

impl Op {
    /// Bytes of names and IDs that it holds, apart from its own size.
    fn bytes(&self) -> usize {
        match self {
            Self::Settle(settle) => {
                settle.key.len() + settle.group.len() + size_of_val(settle.ids.as_slice())
            }
            Self::Deliver(deliver) => {
                let key = deliver.stream.as_ref().map_or(0, |(key, _)| key.len());
                key + match &deliver.reader {
                    Reader::Range | Reader::Receive(None) => 0,
                    Reader::Receive(Some(member)) => member.group.len(),
                    Reader::Process(member, Again::Claimed(_)) => member.group.len(),
                    Reader::Process(member, Again::New { history }) => {
                        member.group.len() + history.iter().map(|key| key.len()).sum::<usize>()
                    }
                }
            }
            _ => 0,
        }
    }
}

/// XADD under way.
#[derive(Debug)]
pub struct Send {
    /// The span; its end, outcome and message id come from the reply.
    pub span: Span,
    /// Where it is counted.
    pub stream: Arc<Stream>,
}

/// A reply with entries, expected.
#[derive(Debug)]
pub struct Deliver {
    /// Where its entries are.
    pub shape: Shape,
    /// Key and stream of the entries: known from the request, or from the reply as it goes.
    pub stream: Option<(Box<[u8]>, Arc<Stream>)>,
    /// Who reads.
    pub reader: Reader,
    /// Which of the reads that were sent it answers.
    pub order: crate::infer::Order,
    /// Messages seen so far in this reply, with those that are not followed (too large, or of a stream without traces).
    pub messages: u32,
    /// The last grouped message that is followed.
    pub seen: Option<crate::infer::Latest>,
    /// Messages of the current stream, for one span a stream a reply (`relation = "link"`).
    pub batch: Option<Box<Span>>,
}

/// Who reads, and so what a delivered message means.
#[derive(Debug)]
pub enum Reader {
    /// XRANGE, XREVRANGE: no delivery; entries only follow the rule of `deliver`.
    Range,
    /// XREAD, or XREADGROUP with NOACK (which has a group): received at once.
    Receive(Option<Member>),
    /// A group's consumer: processed until settled.
    Process(Member, Again),
}

/// A consumer of a group.
#[derive(Clone, Debug)]
pub struct Member {
    /// The group as bytes, for the table of deliveries.
    pub group: Box<[u8]>,
    /// The group's name.
    pub group_name: Arc<str>,
    /// The consumer's name.
    pub consumer: Arc<str>,
}

/// What is known beforehand of how often a message has been delivered.
#[derive(Debug)]
pub enum Again {
    /// `>`: for the first time, for all streams but these.
    New {
        /// Keys that were read with an ID: the consumer's own history.
        history: Vec<Box<[u8]>>,
    },
    /// XCLAIM, XAUTOCLAIM: again; RETRYCOUNT sets the count.
    Claimed(Option<u32>),
}

/// XACK, XACKDEL or XNACK under way.
#[derive(Debug)]
pub struct Settle {
    /// The stream's key.
    pub key: Box<[u8]>,
    /// The group.
    pub group: Box<[u8]>,
    /// The messages.
    pub ids: Vec<EntryId>,
    /// What becomes of them.
    pub how: How,
}

/// The queue.
#[derive(Debug, Default)]
pub struct Inflight {
    ops: VecDeque<Op>,
    /// Bytes of names and IDs that they hold.
    bytes: usize,
}

/// A queue that is empty gives memory beyond this back.
const KEPT_CAPACITY: usize = 16;

impl Inflight {
    /// One more request whose reply means nothing.
    #[inline]
    pub fn push_plain(&mut self) {
        if let Some(Op::Plain(count)) = self.ops.back_mut()
            && *count < u32::MAX
        {
            *count += 1;
        } else {
            self.ops.push_back(Op::Plain(1));
        }
    }

    /// One more request.
    #[inline]
    pub fn push(&mut self, op: Op) {
        self.bytes += op.bytes();
        self.ops.push_back(op);
    }

    /// Puts back what was taken too early.
    pub fn push_front(&mut self, op: Op) {
        self.ops.push_front(op);
    }

    /// Bytes of names and IDs that are remembered until the commands that named them are answered.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Number of entries: a run of plain requests is one.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether no reply is awaited.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Whether no reply is awaited, apart from what CLIENT REPLY OFF and SKIP leave out.
    #[must_use]
    pub fn awaits_nothing(&self) -> bool {
        let silent = |op| matches!(op, &Op::ReplyOff | &Op::ReplySkip);
        self.ops.iter().all(silent)
    }

    /// The request that the next reply answers.
    #[inline]
    #[must_use]
    pub fn front(&mut self) -> Option<&mut Op> {
        self.ops.front_mut()
    }

    /// Whether a subscription comes right after a command that CLIENT REPLY left without a reply.
    #[must_use]
    pub fn is_subscribing_in_silence(&self) -> bool {
        matches!(self.ops.front(), Some(Op::ReplyOff | Op::ReplySkip))
            && matches!(
                self.ops.get(1),
                Some(Op::Subscribe(..) | Op::Unsubscribe(..))
            )
    }

    /// Takes the request that the next reply answers; of a run of plain ones, one.
    #[inline]
    pub fn pop(&mut self) -> Option<Op> {
        if let Some(Op::Plain(count)) = self.ops.front_mut()
            && *count > 1
        {
            *count -= 1;
            return Some(Op::Plain(1));
        }
        let op = self.ops.pop_front();
        self.bytes = self.bytes.saturating_sub(op.as_ref().map_or(0, Op::bytes));
        if self.ops.is_empty() && self.ops.capacity() > KEPT_CAPACITY {
            self.ops.shrink_to(KEPT_CAPACITY);
        }
        op
    }

    /// Takes all.
    pub fn drain(&mut self) -> impl Iterator<Item = Op> + '_ {
        self.ops.drain(..)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn runs_of_plain_requests_are_one_entry() {
        let mut queue = Inflight::default();
        queue.push_plain();
        queue.push_plain();
        queue.push(Op::Multi);
        queue.push_plain();
        assert_eq!(queue.len(), 3);
        let order: Vec<_> = std::iter::from_fn(|| queue.pop())
            .map(|op| matches!(op, Op::Plain(1)))
            .collect();
        assert_eq!(order, [true, true, false, true]);
    }

    #[test]
    fn what_is_left_out_is_not_awaited() {
        let mut queue = Inflight::default();
        assert!(queue.awaits_nothing());
        queue.push(Op::ReplySkip);
        queue.push(Op::ReplyOff);
        assert!(queue.awaits_nothing() && !queue.is_empty());
        queue.push_plain();
        assert!(!queue.awaits_nothing());
    }

    #[test]
    fn what_commands_name_is_weighed_until_they_are_answered() {
        let mut queue = Inflight::default();
        queue.push_plain();
        queue.push(Op::Settle(Box::new(Settle {
            key: b"key".as_slice().into(),
            group: b"g".as_slice().into(),
            ids: vec![EntryId { ms: 1, seq: 1 }; 10],
            how: How::Ack,
        })));
        assert_eq!(queue.bytes(), 4 + 10 * size_of::<EntryId>());
        queue.pop().unwrap();
        queue.pop().unwrap();
        assert_eq!(queue.bytes(), 0);
    }

    #[test]
    fn an_entry_is_two_words() {
        assert!(size_of::<Op>() <= 24, "{}", size_of::<Op>());
    }
}
