//! What the server says without being asked: pushes, and the messages of subscriptions.

use super::pubsub::{self, Push};
use super::{Begin, Replies, Stage};
use crate::inflight::Op;
use crate::request::{Context, Raw};

impl Replies {
    /// What the server says without being asked: pushes, and in RESP2 the messages of subscriptions. None if it is a
    /// reply.
    pub(super) fn unasked(&mut self, buf: &[u8], cx: &mut Context) -> Result<Option<Begin>, Raw> {
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
    pub(super) fn acknowledged(
        &mut self,
        push: Push,
        reply: &[u8],
        cx: &mut Context,
    ) -> Result<(), Raw> {
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
}
