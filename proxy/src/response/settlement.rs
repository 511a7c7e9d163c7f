//! XACK, XACKDEL and XNACK: what the answer says of the deliveries that the command names.

use super::skim::{Aggregate, aggregate};
use crate::deliveries::GroupKey;
use crate::inflight::Settle;
use crate::request::Context;
use crate::request::scan::number_line;
use crate::request::stream_commands::How;
use crate::trace::span::Outcome;

/// The server answered a settling command.
pub(super) fn settled(settle: &Settle, reply: &[u8], cx: &mut Context) {
    match settle.how {
        How::AckDel => {
            // One number for each: 1 acknowledged and deleted, 2 acknowledged and kept for other groups, -1 no such entry.
            let Ok(Some((Aggregate::List(_), mut at))) = aggregate(reply) else {
                return;
            };
            let mut outcomes = Vec::with_capacity(settle.ids.len());
            for _ in &settle.ids {
                let Some(Ok(Some((number, line)))) =
                    reply.get(at..).map(|rest| number_line(rest, b':'))
                else {
                    return;
                };
                outcomes.push(if number > 0 {
                    Outcome::Settled
                } else {
                    Outcome::Uncertain
                });
                at += line;
            }
            let mut outcomes = outcomes.into_iter();
            settle_each(settle, cx, || outcomes.next().unwrap_or(Outcome::Uncertain));
        }
        how => {
            let Ok(Some((count, _))) = number_line(reply, b':') else {
                return;
            };
            let all = u64::try_from(count).is_ok_and(|count| count >= settle.ids.len() as u64);
            let outcome = match how {
                _ if !all => Outcome::Uncertain,
                How::Release => Outcome::Released,
                How::Fail => Outcome::Error("fail".into()),
                How::Fatal => Outcome::Error("fatal".into()),
                How::Ack | How::AckDel => Outcome::Settled,
            };
            settle_all(settle, &outcome, cx);
        }
    }
}

/// The server refused a settling command: nothing is settled.
pub(crate) fn refused_settlement(settle: &Settle, cx: &Context) {
    let mut table = cx.worker.shared.deliveries.lock();
    if let Some(group) = table.find(settlement_key(settle, cx)) {
        for id in &settle.ids {
            table.settling(group, *id, false);
        }
    }
}

fn settlement_key<'a>(settle: &'a Settle, cx: &Context) -> GroupKey<'a> {
    GroupKey {
        upstream: cx.destination.upstream.number,
        database: cx.database,
        stream: &settle.key,
        group: &settle.group,
    }
}

/// Ends the deliveries of all messages of a settling command alike.
pub fn settle_all(settle: &Settle, outcome: &Outcome, cx: &mut Context) {
    settle_each(settle, cx, || outcome.clone());
}

fn settle_each(settle: &Settle, cx: &mut Context, mut outcome: impl FnMut() -> Outcome) {
    let key = settlement_key(settle, cx);
    let mut table = cx.worker.shared.deliveries.lock();
    let Some(group) = table.find(key) else { return };
    let mut finished = cx.worker.finished();
    for id in &settle.ids {
        table.settle(group, *id, cx.now.get(), outcome(), &mut finished);
    }
}
