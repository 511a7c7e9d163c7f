//! Groups, claims and large values.

use std::collections::HashMap;

use ::fred::bytes::Bytes;
use ::fred::clients::Client;
use ::fred::error::Error;
use ::fred::interfaces::{KeysInterface, StreamsInterface};
use ::fred::types::Value;

use super::{Entries, Read, open, refused};
use crate::check::{Failure, Fields, Outcome, equal, failure, fields, key, same_fields};

async fn add(client: &Client, stream: &str, message: &Fields) -> Result<String, Error> {
    let pairs: Vec<(&str, Bytes)> = message
        .iter()
        .map(|(name, value)| (name.as_str(), value.clone().into()))
        .collect();
    client.xadd(stream, false, None, "*", pairs).await
}

/// These entries in this order, with what was sent.
fn same(what: &str, got: Entries, wanted: &[(String, Fields)]) -> Result<(), Failure> {
    equal(what, got.len(), wanted.len())?;
    for ((id, message), (sent_id, sent)) in got.into_iter().zip(wanted) {
        equal(what, &id, sent_id)?;
        same_fields(what, message, sent)?;
    }
    Ok(())
}

pub(crate) async fn groups() -> Outcome {
    let (client, stream) = (open().await?, key("groups"));
    client
        .xgroup_create::<(), _, _, _>(&stream, "g", "$", true)
        .await?;
    refused(
        "XGROUP CREATE",
        client
            .xgroup_create::<(), _, _, _>(&stream, "g", "$", true)
            .await,
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
        sent.insert(add(&client, &stream, &message).await?, message);
    }
    equal("ids", sent.len(), 100)?;
    for turn in 0..10 {
        let consumer = format!("c{}", turn % 2);
        let mut read: Read = client
            .xreadgroup_map("g", &*consumer, Some(10), None, false, &stream, ">")
            .await?;
        let messages = read.remove(&stream).unwrap_or_default();
        equal("messages", messages.len(), 10)?;
        for (id, message) in messages {
            let fields = sent
                .remove(&id)
                .ok_or_else(|| failure("a message came twice"))?;
            same_fields("message", message, &fields)?;
            equal(
                "XACK",
                client.xack::<u32, _, _, _>(&stream, "g", &*id).await?,
                1,
            )?;
            equal(
                "XACK again",
                client.xack::<u32, _, _, _>(&stream, "g", &*id).await?,
                0,
            )?;
        }
    }
    equal("messages that did not come", sent.len(), 0)?;
    let (pending, ..): (u32, Value, Value, Value) = client.xpending(&stream, "g", ()).await?;
    equal("XPENDING", pending, 0)?;
    let nothing: Option<Read> = client
        .xreadgroup("g", "c0", None, Some(10), false, &stream, ">")
        .await?;
    equal("XREADGROUP", nothing, None)?;
    let stranger = client
        .xreadgroup::<Value, _, _, _, _>("none", "c0", None, None, false, &stream, ">")
        .await;
    refused("XREADGROUP", stranger, "NOGROUP")?;
    Ok(None)
}

pub(crate) async fn claims() -> Outcome {
    let (client, stream) = (open().await?, key("claims"));
    client
        .xgroup_create::<(), _, _, _>(&stream, "g", "0", true)
        .await?;
    let mut sent = Vec::new();
    for n in 0..8 {
        let message = fields([("n", n.to_string().as_bytes())]);
        sent.push((add(&client, &stream, &message).await?, message));
    }
    let ids: Vec<String> = sent.iter().map(|(id, _)| id.clone()).collect();
    let ([first, .., last], Some((claimed, [gone, others @ ..]))) =
        (&*ids, sent.split_at_checked(3))
    else {
        return Err(failure("nothing was sent"));
    };
    for from in [">", "0"] {
        let mut read: Read = client
            .xreadgroup_map("g", "one", None, None, false, &stream, from)
            .await?;
        let messages = read.remove(&stream).unwrap_or_default();
        same("XREADGROUP", messages, &sent)?;
    }

    let (count, from, to, consumers): (u32, String, String, Vec<(String, u32)>) =
        client.xpending(&stream, "g", ()).await?;
    equal("XPENDING", (count, &from, &to), (8, first, last))?;
    equal("XPENDING", consumers, [("one".to_owned(), 8)])?;
    let each: Vec<(String, String, u64, u32)> =
        client.xpending(&stream, "g", ("-", "+", 10)).await?;
    let each: Vec<_> = each
        .into_iter()
        .map(|(id, consumer, _, times)| (id, consumer, times))
        .collect();
    equal(
        "XPENDING of each",
        each,
        ids.iter()
            .map(|id| (id.clone(), "one".to_owned(), 2))
            .collect::<Vec<_>>(),
    )?;

    let to_claim: Vec<String> = claimed.iter().map(|(id, _)| id.clone()).collect();
    let got = client
        .xclaim_values(
            &stream,
            "g",
            "two",
            0,
            to_claim.clone(),
            None,
            None,
            None,
            false,
            false,
        )
        .await?;
    same("XCLAIM", got, claimed)?;
    let only: Vec<String> = client
        .xclaim(
            &stream,
            "g",
            "two",
            0,
            to_claim.clone(),
            None,
            None,
            None,
            false,
            true,
        )
        .await?;
    equal("XCLAIM JUSTID", only, to_claim)?;
    let got = client
        .xclaim_values(
            &stream,
            "g",
            "two",
            3_600_000,
            ids.clone(),
            None,
            None,
            None,
            false,
            false,
        )
        .await?;
    same("XCLAIM of what is not idle", got, &[])?;

    // One of them is gone: the answer names it, and the entries are the others.
    client.xdel::<(), _, _>(&stream, &*gone.0).await?;
    let (now, later) = others.split_at_checked(2).unwrap_or_default();
    let (next, got): (String, Entries) = client
        .xautoclaim_values(&stream, "g", "three", 0, &*gone.0, Some(3), false)
        .await?;
    same("XAUTOCLAIM", got, now)?;
    let (end, only, deleted): (String, Vec<String>, Vec<String>) = client
        .xautoclaim(&stream, "g", "three", 0, next, None, true)
        .await?;
    equal(
        "XAUTOCLAIM JUSTID",
        only.iter().collect::<Vec<_>>(),
        later.iter().map(|(id, _)| id).collect::<Vec<_>>(),
    )?;
    equal("the end", (&*end, deleted.len()), ("0-0", 0))?;

    let info: HashMap<String, Value> = client.xinfo_stream(&stream, false, None).await?;
    let said = |name: &str| info.get(name).cloned().unwrap_or(Value::Null);
    equal("length", said("length"), Value::Integer(7))?;
    for (name, entry) in [("first-entry", sent.first()), ("last-entry", sent.last())] {
        let got: (String, Fields) = said(name).convert()?;
        same(
            name,
            vec![got],
            entry.map(std::slice::from_ref).unwrap_or_default(),
        )?;
    }
    let groups: Vec<HashMap<String, Value>> = client.xinfo_groups(&stream).await?;
    let pending: Vec<_> = groups
        .iter()
        .filter_map(|group| group.get("pending"))
        .collect();
    equal("XINFO GROUPS", pending, [&Value::Integer(7)])?;
    let consumers: Vec<HashMap<String, Value>> = client.xinfo_consumers(&stream, "g").await?;
    let mut held: Vec<_> = consumers
        .iter()
        .filter_map(|consumer| consumer.get("pending")?.as_i64())
        .collect();
    held.sort_unstable();
    equal("XINFO CONSUMERS", held, [0, 3, 4])?;
    equal(
        "XACK",
        client.xack::<u32, _, _, _>(&stream, "g", ids).await?,
        7,
    )?;
    Ok(None)
}

pub(crate) async fn large() -> Outcome {
    let (client, name) = (open().await?, key("large"));
    let value = "0123456789abcde\n".repeat(20 << 16);
    client
        .set::<(), _, _>(&name, &*value, None, None, false)
        .await?;
    equal("GET", client.get::<String, _>(&name).await? == value, true)?;
    client.del::<(), _>(&name).await?;

    let two = value.get(..2 << 20).unwrap_or_default();
    let sent = fields([("small", b"1"), ("large", two.as_bytes())]);
    let id = add(&client, &name, &sent).await?;
    let mut read: Read = client.xread_map(None, None, &name, "0").await?;
    same(
        "XREAD",
        read.remove(&name).unwrap_or_default(),
        &[(id, sent)],
    )?;
    Ok(None)
}
