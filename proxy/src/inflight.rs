//! Requests that are waiting for their replies, in order.
//!
//! Most mean nothing to the trace; runs of them are one number. The queue is the one thing both directions share: the
//! request side appends, the reply side takes away. What it takes is accounted for: see [`budget`](crate::budget).

use std::collections::VecDeque;
use std::sync::Arc;

use crate::budget::{Account, Budget};
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
    /// Bytes that it takes. What it shares with others is counted as if it were its own: a client can see to it that it is.
    fn bytes(&self) -> usize {
        let boxed = match self {
            Self::Send(send) => {
                size_of::<Send>()
                    + send.stream.bytes()
                    + send.span.trace_state.as_str().len()
                    + size_of_val(send.span.links.as_slice())
            }
            Self::Count(stream) => stream.bytes(),
            Self::Settle(settle) => {
                size_of::<Settle>()
                    + settle.key.len()
                    + settle.group.len()
                    + size_of_val(settle.ids.as_slice())
            }
            Self::Deliver(deliver) => {
                let stream = deliver.stream.as_ref();
                size_of::<Deliver>()
                    + deliver.key_bytes()
                    + stream.map_or(0, |(_, stream)| stream.bytes())
                    + deliver.reader.bytes()
            }
            _ => 0,
        };
        // The queue grows to twice of what is in it.
        2 * size_of::<Self>() + boxed
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

impl Deliver {
    /// The length of the key that it knows.
    pub(crate) fn key_bytes(&self) -> usize {
        self.stream.as_ref().map_or(0, |(key, _)| key.len())
    }
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

impl Reader {
    fn bytes(&self) -> usize {
        match self {
            Self::Range | Self::Receive(None) => 0,
            Self::Receive(Some(member)) | Self::Process(member, Again::Claimed(_)) => {
                member.bytes()
            }
            Self::Process(member, Again::New { history }) => {
                let keys = history.iter().map(|key| key.len()).sum::<usize>();
                member.bytes() + size_of_val(history.as_slice()) + keys
            }
        }
    }
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

impl Member {
    fn bytes(&self) -> usize {
        self.group.len() + self.group_name.len() + self.consumer.len()
    }
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
#[derive(Debug)]
pub struct Inflight {
    ops: VecDeque<Op>,
    /// Commands of an open transaction, answered with QUEUED.
    queued: VecDeque<Op>,
    account: Account,
}

/// A queue that is empty gives memory beyond this back.
const KEPT_CAPACITY: usize = 16;

/// The most that a command takes, apart from the arguments that are kept as they are: what is kept of three names, of a
/// `tracestate`, and all that has a fixed size.
pub const FIXED_BYTES: usize = 4096;

impl Inflight {
    /// An empty queue.
    #[must_use]
    pub fn new(budget: Arc<Budget>) -> Self {
        Self {
            ops: VecDeque::new(),
            queued: VecDeque::new(),
            account: Account::of(budget),
        }
    }

    /// One more request whose reply means nothing.
    #[inline]
    pub fn push_plain(&mut self) {
        push_plain(&mut self.ops, &mut self.account);
    }

    /// One more request.
    #[inline]
    pub fn push(&mut self, op: Op) {
        self.account.add(op.bytes());
        self.ops.push_back(op);
    }

    /// Puts back what was taken too early.
    pub fn push_front(&mut self, op: Op) {
        self.account.add(op.bytes());
        self.ops.push_front(op);
    }

    /// Whether a request may be remembered that takes as many bytes.
    #[inline]
    #[must_use]
    pub fn fits(&mut self, bytes: usize) -> bool {
        self.account.fits(bytes)
    }

    /// Whether what is remembered is no more than was found to fit.
    #[must_use]
    pub fn is_covered(&self) -> bool {
        self.account.is_covered()
    }

    /// Bytes that are remembered until commands are answered.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.account.used()
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
        pop(&mut self.ops, &mut self.account)
    }

    /// Takes the request that the next reply answers, if that reply says all there is to know: of a run of plain ones, one.
    #[inline]
    pub fn pop_simple(&mut self) -> Option<Op> {
        match self.ops.front_mut()? {
            Op::Plain(count) if *count > 1 => {
                *count -= 1;
                Some(Op::Plain(1))
            }
            Op::Plain(_) | Op::Count(_) | Op::Send(_) | Op::Settle(_) => {
                take(&mut self.ops, &mut self.account)
            }
            _ => None,
        }
    }

    /// A command was answered with QUEUED; what it means, EXEC's reply will tell.
    pub fn queue(&mut self, op: Op) {
        if let Op::Plain(_) = op {
            return push_plain(&mut self.queued, &mut self.account);
        }
        self.account.add(op.bytes());
        self.queued.push_back(op);
    }

    /// Number of entries of the open transaction.
    #[must_use]
    pub fn queue_len(&self) -> usize {
        self.queued.len()
    }

    /// Takes the command that the next element of EXEC's reply answers.
    #[inline]
    pub fn pop_queued(&mut self) -> Option<Op> {
        pop(&mut self.queued, &mut self.account)
    }

    /// Takes all commands of the open transaction.
    pub fn take_queued(&mut self) -> VecDeque<Op> {
        let ops = std::mem::take(&mut self.queued);
        self.account.sub(ops.iter().map(Op::bytes).sum());
        ops
    }

    /// Takes all, those of an open transaction first.
    pub fn take_all(&mut self) -> VecDeque<Op> {
        let mut ops = std::mem::take(&mut self.queued);
        ops.append(&mut self.ops);
        self.account.sub(self.account.used());
        ops
    }
}

#[inline]
fn push_plain(ops: &mut VecDeque<Op>, account: &mut Account) {
    if let Some(Op::Plain(count)) = ops.back_mut()
        && *count < u32::MAX
    {
        *count += 1;
    } else {
        account.add(Op::Plain(1).bytes());
        ops.push_back(Op::Plain(1));
    }
}

#[inline]
fn pop(ops: &mut VecDeque<Op>, account: &mut Account) -> Option<Op> {
    if let Some(Op::Plain(count)) = ops.front_mut()
        && *count > 1
    {
        *count -= 1;
        return Some(Op::Plain(1));
    }
    take(ops, account)
}

#[inline]
fn take(ops: &mut VecDeque<Op>, account: &mut Account) -> Option<Op> {
    let op = ops.pop_front()?;
    account.sub(op.bytes());
    if ops.is_empty() && ops.capacity() > KEPT_CAPACITY {
        ops.shrink_to(KEPT_CAPACITY);
    }
    Some(op)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn inflight() -> Inflight {
        Inflight::new(Arc::new(Budget::new(0, 0)))
    }

    #[test]
    fn runs_of_plain_requests_are_one_entry() {
        let mut queue = inflight();
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
        let mut queue = inflight();
        assert!(queue.awaits_nothing());
        queue.push(Op::ReplySkip);
        queue.push(Op::ReplyOff);
        assert!(queue.awaits_nothing() && !queue.is_empty());
        queue.push_plain();
        assert!(!queue.awaits_nothing());
    }

    fn settle(ids: usize) -> Op {
        Op::Settle(Box::new(Settle {
            key: b"key".as_slice().into(),
            group: b"g".as_slice().into(),
            ids: vec![EntryId { ms: 1, seq: 1 }; ids],
            how: How::Ack,
        }))
    }

    #[test]
    fn what_commands_name_is_weighed_until_they_are_answered() {
        let mut queue = inflight();
        queue.push_plain();
        queue.push_plain();
        let plain = queue.bytes();
        queue.push(settle(1));
        let one = queue.bytes() - plain;
        queue.push(settle(10));
        assert_eq!(queue.bytes(), plain + 2 * one + 9 * size_of::<EntryId>());
        for _ in 0..4 {
            queue.pop().unwrap();
        }
        assert_eq!(queue.bytes(), 0);
        queue.push_front(Op::Exec);
        queue.queue(settle(10));
        queue.queue(Op::Plain(1));
        queue.queue(Op::Plain(1));
        assert_eq!((queue.len(), queue.queue_len()), (1, 2));
        queue.pop_queued().unwrap();
        assert_eq!(queue.bytes(), 2 * plain);
        assert_eq!(queue.take_queued().len(), 1);
        assert_eq!(queue.bytes(), plain);
        queue.queue(settle(3));
        assert_eq!(queue.take_all().len(), 2);
        assert_eq!((queue.bytes(), queue.len(), queue.queue_len()), (0, 0, 0));
    }

    #[test]
    fn an_entry_is_two_words() {
        assert!(size_of::<Op>() <= 24, "{}", size_of::<Op>());
    }
}
