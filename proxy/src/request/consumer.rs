//! Reads, claims and settlements: what their replies will mean.

use std::sync::Arc;

use super::Context;
use super::scan::Span32;
use super::stream_commands;
use crate::infer::Order;
use crate::inflight::{Again, Deliver, Member, Op, Reader, Settle};
use crate::response::entries::Shape;
use crate::streams::Stream;

pub(super) fn deliver(
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

pub(super) fn member(group: &[u8], consumer: &[u8], cx: &Context) -> Member {
    Member {
        group: group.into(),
        group_name: cx.worker.streams.name(group),
        consumer: cx.worker.streams.name(consumer),
    }
}

pub(super) fn read_op(
    buf: &[u8],
    args: &[Span32],
    grouped: bool,
    order: Order,
    cx: &Context,
) -> Option<Op> {
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

pub(super) fn claim_op(
    buf: &[u8],
    args: &[Span32],
    auto: bool,
    order: Order,
    cx: &Context,
) -> Option<Op> {
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

/// `database` is the one that will be selected when the command is carried out.
pub(super) fn settle_op(
    settle: stream_commands::Settle<'_>,
    database: u32,
    cx: &Context,
) -> Option<Op> {
    let key = crate::deliveries::GroupKey {
        upstream: cx.destination.upstream.number,
        database,
        stream: settle.key,
        group: settle.group,
    };
    let mut table = cx.worker.shared.deliveries.lock();
    if let Some(group) = table.find(key) {
        for id in &settle.ids {
            table.settling(group, *id, true);
        }
    }
    Some(Op::Settle(Box::new(Settle {
        key: settle.key.into(),
        group: settle.group.into(),
        ids: settle.ids,
        how: settle.how,
    })))
}
