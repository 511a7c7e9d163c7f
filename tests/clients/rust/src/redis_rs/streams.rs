//! Groups, claims and large values, the same for every connection of redis-rs.

use std::collections::HashMap;

use redis::AsyncTypedCommands;
use redis::streams::{
    StreamAutoClaimOptions, StreamClaimOptions, StreamId, StreamPendingReply, StreamReadOptions,
    StreamReadReply,
};

use crate::check::{Failure, Fields, Outcome, equal, failure, fields, key, same_fields, url};
use crate::redis_rs::{Library, bytes, refused};

pub(crate) async fn groups<L: Library>() -> Outcome {
    let (mut connection, stream) = (L::open(&url()).await?, key("groups"));
    connection.xgroup_create_mkstream(&stream, "g", "$").await?;
    refused(
        "XGROUP CREATE",
        connection.xgroup_create(&stream, "g", "$").await,
        "BUSYGROUP",
    )?;
    let mut sent = HashMap::new();
    for n in 0..100 {
        let message = fields([
            ("n", n.to_string().as_bytes()),
            ("empty", b""),
            ("binary", b"\0\r\n\xff$-1\r\n"),
            ("text", "Grüße ".repeat(n).as_bytes()),
        ]);
        let items: Vec<_> = message.iter().collect();
        let id = connection.xadd(&stream, "*", &items).await?;
        sent.insert(id.ok_or_else(|| failure("XADD gave no id"))?, message);
    }
    equal("ids", sent.len(), 100)?;
    for turn in 0..10 {
        let consumer = format!("c{}", turn % 2);
        let options = StreamReadOptions::default().group("g", &consumer).count(10);
        let messages = entries(
            connection
                .xread_options(&[&stream], &[">"], &options)
                .await?,
        );
        equal("messages", messages.len(), 10)?;
        for message in messages {
            let fields = sent
                .remove(&message.id)
                .ok_or_else(|| failure("a message came twice"))?;
            equal(
                "XACK",
                connection.xack(&stream, "g", &[&message.id]).await?,
                1,
            )?;
            equal(
                "XACK again",
                connection.xack(&stream, "g", &[&message.id]).await?,
                0,
            )?;
            same_fields("message", bytes(message.map)?, &fields)?;
        }
    }
    equal("messages that did not come", sent.len(), 0)?;
    equal(
        "XPENDING",
        connection.xpending(&stream, "g").await?.count(),
        0,
    )?;
    let briefly = StreamReadOptions::default().group("g", "c0").block(10);
    equal(
        "XREADGROUP",
        connection
            .xread_options(&[&stream], &[">"], &briefly)
            .await?
            .is_none(),
        true,
    )?;
    let stranger = StreamReadOptions::default().group("none", "c0");
    refused(
        "XREADGROUP",
        connection
            .xread_options(&[&stream], &[">"], &stranger)
            .await,
        "NOGROUP",
    )?;
    Ok(None)
}

fn entries(reply: Option<StreamReadReply>) -> Vec<StreamId> {
    reply
        .into_iter()
        .flat_map(|reply| reply.keys)
        .flat_map(|key| key.ids)
        .collect()
}

/// These entries in this order, with what was sent.
fn same(what: &str, got: Vec<StreamId>, wanted: &[(String, Fields)]) -> Result<(), Failure> {
    equal(what, got.len(), wanted.len())?;
    for (entry, (id, fields)) in got.into_iter().zip(wanted) {
        equal(what, &entry.id, id)?;
        same_fields(what, bytes(entry.map)?, fields)?;
    }
    Ok(())
}

pub(crate) async fn claims<L: Library>() -> Outcome {
    let (mut connection, stream) = (L::open(&url()).await?, key("claims"));
    connection.xgroup_create_mkstream(&stream, "g", "0").await?;
    let mut sent = Vec::new();
    for n in 0..8 {
        let id = connection.xadd(&stream, "*", &[("n", n)]).await?;
        sent.push((
            id.ok_or_else(|| failure("XADD gave no id"))?,
            fields([("n", n.to_string().as_bytes())]),
        ));
    }
    let ids: Vec<&String> = sent.iter().map(|(id, _)| id).collect();
    let ([first, .., last], Some((claimed, rest))) = (&*ids, sent.split_at_checked(3)) else {
        return Err(failure("nothing was sent"));
    };
    let options = StreamReadOptions::default().group("g", "one");
    for from in [">", "0"] {
        let read = connection
            .xread_options(&[&stream], &[from], &options)
            .await?;
        same("XREADGROUP", entries(read), &sent)?;
    }

    let StreamPendingReply::Data(pending) = connection.xpending(&stream, "g").await? else {
        return Err(failure("XPENDING: nothing"));
    };
    equal(
        "XPENDING",
        (pending.count, &pending.start_id, &pending.end_id),
        (8, *first, *last),
    )?;
    let each = connection
        .xpending_count(&stream, "g", "-", "+", 10)
        .await?
        .ids;
    let each: Vec<_> = each
        .iter()
        .map(|one| (&one.id, &*one.consumer, one.times_delivered))
        .collect();
    equal(
        "XPENDING of each",
        each,
        ids.iter().map(|id| (*id, "one", 2)).collect::<Vec<_>>(),
    )?;

    let to_claim: Vec<&String> = claimed.iter().map(|(id, _)| id).collect();
    same(
        "XCLAIM",
        connection
            .xclaim(&stream, "g", "two", 0, &to_claim)
            .await?
            .ids,
        claimed,
    )?;
    let options = StreamClaimOptions::default().with_justid();
    let only: Vec<String> = redis::AsyncCommands::xclaim_options(
        &mut connection,
        &stream,
        "g",
        "two",
        0,
        &to_claim,
        options,
    )
    .await?;
    equal("XCLAIM JUSTID", only.iter().collect::<Vec<_>>(), to_claim)?;
    same(
        "XCLAIM of what is not idle",
        connection
            .xclaim(&stream, "g", "two", 3_600_000, &ids)
            .await?
            .ids,
        &[],
    )?;

    // One of them is gone: the answer names it, and the entries are the others.
    let [gone, others @ ..] = rest else {
        return Err(failure("nothing is left to claim"));
    };
    connection.xdel(&stream, &[&gone.0]).await?;
    let options = StreamAutoClaimOptions::default().count(3);
    let auto = connection
        .xautoclaim_options(&stream, "g", "three", 0, &gone.0, options)
        .await?;
    let (now, later) = others.split_at_checked(2).unwrap_or_default();
    same("XAUTOCLAIM", auto.claimed, now)?;
    equal("deleted", auto.deleted_ids, [gone.0.as_str()])?;
    let options = StreamAutoClaimOptions::default().with_justid();
    let auto = connection
        .xautoclaim_options(&stream, "g", "three", 0, auto.next_stream_id, options)
        .await?;
    equal(
        "XAUTOCLAIM JUSTID",
        auto.claimed
            .iter()
            .map(|entry| &entry.id)
            .collect::<Vec<_>>(),
        later.iter().map(|(id, _)| id).collect::<Vec<_>>(),
    )?;
    equal("the end", auto.next_stream_id, "0-0")?;

    let info = connection.xinfo_stream(&stream).await?;
    equal("length", (info.length, info.groups), (7, 1))?;
    same(
        "XINFO STREAM",
        vec![info.first_entry],
        sent.get(..1).unwrap_or_default(),
    )?;
    same(
        "XINFO STREAM",
        vec![info.last_entry],
        sent.get(7..).unwrap_or_default(),
    )?;
    let groups = connection.xinfo_groups(&stream).await?.groups;
    let groups: Vec<_> = groups
        .iter()
        .map(|group| {
            (
                &*group.name,
                group.consumers,
                group.pending,
                &group.last_delivered_id,
            )
        })
        .collect();
    equal("XINFO GROUPS", groups, vec![("g", 3, 7, *last)])?;
    let consumers = connection.xinfo_consumers(&stream, "g").await?.consumers;
    let mut consumers: Vec<_> = consumers
        .iter()
        .map(|consumer| (&*consumer.name, consumer.pending))
        .collect();
    consumers.sort_unstable();
    equal(
        "XINFO CONSUMERS",
        consumers,
        vec![("one", 0), ("three", 4), ("two", 3)],
    )?;
    equal("XACK", connection.xack(&stream, "g", &ids).await?, 7)?;
    Ok(None)
}

pub(crate) async fn large<L: Library>() -> Outcome {
    let (mut connection, name) = (L::open(&url()).await?, key("large"));
    let value = "0123456789abcde\n".repeat(20 << 16);
    connection.set(&name, &value).await?;
    equal(
        "GET",
        connection.get(&name).await?.as_deref() == Some(&*value),
        true,
    )?;
    connection.del(&name).await?;

    let two = value.get(..2 << 20).unwrap_or_default();
    let sent = fields([("small", b"1"), ("large", two.as_bytes())]);
    let items: Vec<_> = sent.iter().collect();
    let id = connection
        .xadd(&name, "*", &items)
        .await?
        .unwrap_or_default();
    let read = entries(
        connection
            .xread_options(&[&name], &["0"], &StreamReadOptions::default())
            .await?,
    );
    same("XREAD", read, &[(id, sent)])?;
    Ok(None)
}
