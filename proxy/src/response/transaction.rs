//! MULTI, what is queued, and EXEC's reply, whose elements answer it.

use super::skim::{Aggregate, aggregate};
use super::{Begin, Replies};
use crate::inflight::Op;
use crate::request::{Context, Raw, abandon};
use crate::trace::span::Outcome;

/// MULTI was answered with OK. What was queued is in [`Inflight`](crate::inflight::Inflight).
#[derive(Debug, Default)]
pub(super) struct Transaction {
    /// How many commands were queued.
    pub(super) commands: u64,
    /// Within EXEC's reply: elements still to come.
    pub(super) left: Option<u64>,
}

impl Replies {
    /// While a transaction is open, `+QUEUED` puts off what the reply means until EXEC. None if it is something else.
    pub(super) fn queued(&mut self, buf: &[u8], cx: &mut Context) -> Result<Option<Begin>, Raw> {
        if self.transaction.is_some() && buf.first() == Some(&b'+') {
            const QUEUED: &[u8] = b"+QUEUED\r\n";
            if buf.len() < QUEUED.len() && QUEUED.starts_with(buf) {
                return Ok(Some(Begin::More));
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
                return Ok(Some(Begin::Passed(QUEUED.len())));
            }
        }
        Ok(None)
    }

    /// EXEC's reply: its elements are the replies to what was queued.
    pub(super) fn exec(&mut self, buf: &[u8], cx: &mut Context) -> Result<Begin, Raw> {
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
    pub(super) fn exec_incomplete(&mut self, cx: &mut Context) -> Result<Begin, Raw> {
        cx.inflight.push_front(Op::Exec);
        Ok(Begin::More)
    }

    /// The transaction came to nothing.
    pub(super) fn end_transaction(&mut self, cx: &mut Context) {
        if self.transaction.take().is_some() {
            for op in cx.inflight.take_queued() {
                abandon(op, cx, &Outcome::NotSent);
            }
        }
    }
}
