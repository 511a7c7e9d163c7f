//! fred, whose one connection a client is shared by all of its tasks.

mod streams;

use std::collections::HashMap;
use std::time::Duration;

use ::fred::clients::{Client, SubscriberClient};
use ::fred::error::{Error, ErrorKind};
use ::fred::interfaces::{
    ClientInterface, ClientLike, EventInterface, FunctionInterface, HashesInterface, KeysInterface,
    ListInterface, LuaInterface, PubsubInterface, SortedSetsInterface, StreamsInterface,
    TrackingInterface, TransactionInterface,
};
use ::fred::types::config::{Config, ReconnectPolicy};
use ::fred::types::{
    Builder, ClusterHash, CustomCommand, Message, MessageKind, RespVersion, Value,
};
use redis::TypedCommands;

use crate::check::{
    FAILS, Failure, Features, Fields, Outcome, Remark, SENT_AGAIN, block_on, control, equal,
    failure, fields, identifier, joined, key, kill, kill_when_blocked, same_fields, until_async,
    url, url_of_database, when_blocked,
};

pub(crate) fn features() -> Features {
    vec![
        ("connect", || block_on(connect())),
        ("resp3", || block_on(resp3())),
        ("pipeline", || block_on(pipeline())),
        ("transaction", || block_on(transaction())),
        ("scripts", || block_on(scripts())),
        ("pubsub", || block_on(pubsub())),
        ("blocking", || block_on(blocking())),
        ("groups", || block_on(streams::groups())),
        ("claims", || block_on(streams::claims())),
        ("large", || block_on(streams::large())),
        ("reconnect", || block_on(reconnect())),
    ]
}

/// The entries of a stream.
type Entries = Vec<(String, Fields)>;
/// A reply of XREAD: by stream.
type Read = HashMap<String, Entries>;

fn builder(url: &str) -> Result<Builder, Failure> {
    let mut builder = Builder::from_config(Config::from_url(url)?);
    builder
        .set_policy(ReconnectPolicy::new_constant(0, 10))
        .with_performance_config(|config| config.default_command_timeout = Duration::from_secs(15));
    Ok(builder)
}

async fn open() -> Result<Client, Failure> {
    let client = builder(&url())?.build()?;
    client.init().await?;
    Ok(client)
}

/// Demands an error of the server that begins so.
#[track_caller]
fn refused<T>(what: &str, result: Result<T, Error>, code: &str) -> Result<(), Failure> {
    match result {
        Err(error) if error.details().starts_with(code) => Ok(()),
        Err(error) => Err(failure(format!("{what}: {error} instead of {code}"))),
        Ok(_) => Err(failure(format!("{what} was not refused"))),
    }
}

async fn connect() -> Outcome {
    let client = builder(&url_of_database(1))?.build()?;
    client.init().await?;
    equal("PING", client.ping::<String>(None).await?, "PONG")?;
    client.client_setname(key("name")).await?;
    let info: String = client.client_info().await?;
    let said = |name: &str| {
        info.split_whitespace()
            .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    };
    equal("name", said("name"), Some(&*key("name")))?;
    equal("database", said("db"), Some("1"))?;
    client
        .set::<(), _, _>(key("connect"), "one", None, None, false)
        .await?;
    equal(
        "GET in database 0",
        open()
            .await?
            .get::<Option<String>, _>(key("connect"))
            .await?,
        None,
    )?;
    Ok(None)
}

async fn resp3() -> Outcome {
    let client = builder(&url())?
        .with_config(|config| config.version = RespVersion::RESP3)
        .build()?;
    client.init().await?;
    let hash: HashMap<String, String> = [("a", "1"), ("b", ""), ("c", "\r\n*2\r\n")]
        .map(|(name, value)| (name.into(), value.into()))
        .into();
    client
        .hset::<(), _, _>(key("resp3:hash"), hash.clone())
        .await?;
    let reply: Value = client.hgetall(key("resp3:hash")).await?;
    equal("HGETALL is a map", reply.is_map(), true)?;
    equal("HGETALL", reply.convert::<HashMap<String, String>>()?, hash)?;
    client
        .zadd::<(), _, _>(key("resp3:set"), None, None, false, false, (1.5, "m"))
        .await?;
    equal(
        "ZSCORE",
        client.zscore::<Value, _, _>(key("resp3:set"), "m").await?,
        Value::Double(1.5),
    )?;

    let mut invalidations = client.invalidation_rx();
    client
        .start_tracking(Vec::<String>::new(), false, false, false, false)
        .await?;
    let mut other = control()?;
    for value in ["1", "2", "3"] {
        TypedCommands::set(&mut other, key("tracked"), value)?;
        if value != "1" {
            let told = invalidations.recv().await?;
            let names: Vec<_> = told.keys.iter().filter_map(|key| key.as_str()).collect();
            equal("an invalidation", names, [key("tracked")])?;
        }
        equal("GET", client.get::<String, _>(key("tracked")).await?, value)?;
    }

    let mut messages = client.message_rx();
    client.subscribe(key("resp3")).await?;
    subscribers(1, &key("resp3")).await?;
    equal(
        "PUBLISH",
        TypedCommands::publish(&mut other, key("resp3"), "pushed")?,
        1,
    )?;
    equal(
        "message",
        messages.recv().await?.value,
        Value::from("pushed"),
    )?;
    equal("PING", client.ping::<String>(None).await?, "PONG")?;
    Ok(None)
}

/// Four of them make a turn.
const PIPELINE: usize = 1000;

async fn pipeline() -> Outcome {
    let (client, stream) = (open().await?, key("pipeline"));
    let pipeline = client.pipeline();
    for n in 0..PIPELINE / 4 {
        let (name, number) = (format!("{stream}:{n}"), n.to_string());
        pipeline
            .set::<(), _, _>(&name, &*number, None, None, false)
            .await?;
        pipeline
            .xadd::<(), _, _, _, _>(&stream, false, None, "*", ("n", &*number))
            .await?;
        pipeline.get::<(), _>(&name).await?;
        pipeline.xlen::<(), _>(&stream).await?;
    }
    let replies: Vec<Value> = pipeline.all().await?;
    equal("replies", replies.len(), PIPELINE)?;
    let entries: Entries = client.xrange_values(&stream, "-", "+", None).await?;
    equal("entries", entries.len(), PIPELINE / 4)?;
    for ((n, turn), (id, message)) in replies.chunks(4).enumerate().zip(entries) {
        let (set, added, got, length): (String, String, usize, usize) =
            Value::Array(turn.to_vec()).convert()?;
        equal(
            "SET, GET, XLEN",
            (set.as_str(), got, length),
            ("OK", n, n + 1),
        )?;
        equal("XADD", added, id)?;
        same_fields(
            "XRANGE",
            message,
            &fields([("n", n.to_string().as_bytes())]),
        )?;
    }
    // An error in the middle is the answer of that command only.
    let pipeline = client.pipeline();
    pipeline.ping::<()>(None).await?;
    pipeline.incr::<(), _>(&stream).await?;
    pipeline.ping::<()>(None).await?;
    let mut replies = pipeline.try_all::<String>().await.into_iter();
    equal("PING", replies.next().transpose()?.as_deref(), Some("PONG"))?;
    refused("INCR", replies.next().transpose(), "WRONGTYPE")?;
    equal("PING", replies.next().transpose()?.as_deref(), Some("PONG"))?;
    Ok(None)
}

async fn transaction() -> Outcome {
    let (client, mut other) = (open().await?, control()?);
    let (name, stream) = (key("transaction"), key("transaction:stream"));
    let multi = client.multi();
    multi.incr::<(), _>(&name).await?;
    multi
        .xadd::<(), _, _, _, _>(&stream, false, None, "*", ("a", "1"))
        .await?;
    let (count, id): (u32, String) = multi.exec(true).await?;
    equal("INCR", count, 1)?;
    let entries: Entries = client.xrange_values(&stream, "-", "+", None).await?;
    equal(
        "XADD in MULTI",
        entries.first().map(|(id, _)| id),
        Some(&id),
    )?;
    for (_, message) in entries {
        same_fields("XADD in MULTI", message, &fields([("a", b"1")]))?;
    }

    // What is watched changes: nothing is done.
    for meddle in [true, false] {
        client.watch(&name).await?;
        if meddle {
            TypedCommands::set(&mut other, &name, 10)?;
        }
        let multi = client.multi();
        multi.incr::<(), _>(&name).await?;
        multi
            .xadd::<(), _, _, _, _>(&stream, false, None, "*", ("b", "2"))
            .await?;
        let done: Option<(u32, String)> = multi.exec(true).await?;
        equal("EXEC", done.is_some(), !meddle)?;
        equal(
            "XLEN",
            client.xlen::<u32, _>(&stream).await?,
            if meddle { 1 } else { 2 },
        )?;
    }
    equal("GET", client.get::<u32, _>(&name).await?, 11)?;

    // A command that cannot be queued: the library discards the rest by itself, or leaves that to EXEC.
    for (abort_on_error, code) in [
        (true, "ERR wrong number of arguments"),
        (false, "EXECABORT"),
    ] {
        let multi = client.multi();
        multi.incr::<(), _>(&name).await?;
        multi
            .custom::<(), String>(
                CustomCommand::new_static("GET", ClusterHash::FirstKey, false),
                vec![],
            )
            .await?;
        refused("EXEC", multi.exec::<Value>(abort_on_error).await, code)?;
    }
    // One that fails when it is run.
    let multi = client.multi();
    multi.lpush::<(), _, _>(&name, "no list").await?;
    multi.incr::<(), _>(&name).await?;
    refused("LPUSH", multi.exec::<Value>(true).await, "WRONGTYPE")?;
    equal("GET", client.get::<u32, _>(&name).await?, 12)?;
    Ok(None)
}

async fn scripts() -> Outcome {
    let (client, name) = (open().await?, key("scripts"));
    // No other run has this script: its text has the prefix.
    let source = format!(
        "-- {name}\nredis.call('XADD', KEYS[1], '*', 'a', ARGV[1]) return {{ARGV[1], redis.call('XLEN', KEYS[1])}}"
    );
    let hash = ::fred::util::sha1_hash(&source);
    refused(
        "EVALSHA",
        client.evalsha::<Value, _, _, _>(&hash, &name, "x").await,
        "NOSCRIPT",
    )?;
    let script = ::fred::types::scripts::Script::from_lua(&source);
    script.load(&client).await?;
    for n in 1..=2 {
        let reply: (String, u32) = script.evalsha(&client, &name, "x").await?;
        equal("EVALSHA", reply, ("x".to_owned(), n))?;
    }
    let mine = client.eval::<Value, _, _, _>(
        "return redis.error_reply('MINE it is')",
        Vec::<String>::new(),
        Vec::<String>::new(),
    );
    refused("EVAL", mine.await, "MINE it is")?;

    let function = identifier("scripts");
    let library = format!(
        "#!lua name={function}\nredis.register_function{{function_name='{function}', \
         callback=function(keys, args) return redis.call('XLEN', keys[1]) end, flags={{'no-writes'}}}}"
    );
    equal(
        "FUNCTION LOAD",
        &client.function_load::<String, _>(true, library).await?,
        &function,
    )?;
    equal(
        "FCALL",
        client
            .fcall::<u32, _, _, _>(&function, &name, Vec::<String>::new())
            .await?,
        2,
    )?;
    equal(
        "FCALL_RO",
        client
            .fcall_ro::<u32, _, _, _>(&function, &name, Vec::<String>::new())
            .await?,
        2,
    )?;
    client.function_delete::<(), _>(&function).await?;
    Ok(None)
}

/// The library does not wait for the answer to SUBSCRIBE and its kin.
async fn subscribers(number: usize, channel: &str) -> Result<(), Failure> {
    let mut other = control()?;
    until_async("subscribers", async || {
        let (_, count): (String, usize) = redis::cmd("PUBSUB")
            .arg("NUMSUB")
            .arg(channel)
            .query(&mut other)?;
        Ok(count == number)
    })
    .await
}

async fn pubsub() -> Outcome {
    let (client, through, mut past) = (open().await?, open().await?, control()?);
    let (channel, pattern, matching) = (key("pubsub"), key("pubsub:*"), key("pubsub:x"));
    let mut messages = client.message_rx();
    client.psubscribe(&pattern).await?;
    client.ssubscribe(&channel).await?;
    client.subscribe(&channel).await?;
    subscribers(1, &channel).await?;
    let same = |message: Message, channel: &str, kind: MessageKind, value: &str| {
        equal(
            "message",
            (&*message.channel, message.kind, message.value),
            (channel, kind, Value::from(value)),
        )
    };
    for n in 0..20 {
        let text = n.to_string();
        equal(
            "PUBLISH",
            through.publish::<u32, _, _>(&channel, &*text).await?,
            1,
        )?;
        equal(
            "PUBLISH",
            TypedCommands::publish(&mut past, &matching, "a\r\nb")?,
            1,
        )?;
        same(
            messages.recv().await?,
            &channel,
            MessageKind::Message,
            &text,
        )?;
        same(
            messages.recv().await?,
            &matching,
            MessageKind::PMessage,
            "a\r\nb",
        )?;
    }
    equal(
        "SPUBLISH",
        through.spublish::<u32, _, _>(&channel, "s").await?,
        1,
    )?;
    same(messages.recv().await?, &channel, MessageKind::SMessage, "s")?;

    client.sunsubscribe(&channel).await?;
    client.punsubscribe(&pattern).await?;
    client.unsubscribe(&channel).await?;
    subscribers(0, &channel).await?;
    equal(
        "PUBLISH to nobody",
        through.publish::<u32, _, _>(&matching, "x").await?,
        0,
    )?;
    equal("PING", client.ping::<String>(None).await?, "PONG")?;
    client
        .set::<(), _, _>(&channel, "usable", None, None, false)
        .await?;
    client.subscribe(&channel).await?;
    subscribers(1, &channel).await?;
    equal(
        "PUBLISH",
        through.publish::<u32, _, _>(&channel, "again").await?,
        1,
    )?;
    same(
        messages.recv().await?,
        &channel,
        MessageKind::Message,
        "again",
    )?;
    Ok(None)
}

async fn blocking() -> Outcome {
    let (client, list, stream) = (open().await?, key("blocking"), key("blocking:stream"));
    let id: i64 = client.client_id().await?;

    // Nothing comes.
    // The library takes a nil of this command for an error.
    let nothing = client.blpop::<Value, _>(&list, 0.1).await;
    equal(
        "BLPOP",
        nothing.map_err(|error| error.kind().clone()),
        Err(ErrorKind::Timeout),
    )?;
    let nothing: Option<Read> = client.xread(None, Some(50), &stream, "$").await?;
    equal("XREAD", nothing, None)?;

    // Something is there already; something comes meanwhile.
    client.rpush::<(), _, _>(&list, "one").await?;
    equal(
        "BLPOP",
        client.blpop::<(String, String), _>(&list, 10.0).await?,
        (list.clone(), "one".into()),
    )?;
    let name = list.clone();
    let pushed = when_blocked(id, move |other| other.rpush(name, "two").map(drop));
    equal(
        "BLPOP",
        client.blpop::<(String, String), _>(&list, 10.0).await?,
        (list.clone(), "two".into()),
    )?;
    joined(pushed)?;

    let name = stream.clone();
    let added = when_blocked(id, move |_| {
        // Through the proxy, so that it is traced.
        let mut through = redis::Client::open(url())?.get_connection()?;
        through.xadd(name, "*", &[("late", "yes")]).map(drop)
    });
    let mut reply: Read = client.xread_map(None, Some(10_000), &stream, "$").await?;
    joined(added)?;
    let entries = reply.remove(&stream).unwrap_or_default();
    equal("entries", entries.len(), 1)?;
    for (_, message) in entries {
        same_fields("XREAD", message, &fields([("late", b"yes")]))?;
    }
    Ok(None)
}

/// fred connects again as its policy says; a subscriber that manages its subscriptions takes them up again.
async fn reconnect() -> Outcome {
    let (client, list, mut other) = (open().await?, key("reconnect:list"), control()?);
    let before: i64 = client.client_id().await?;
    let killed = kill_when_blocked(before, list.clone());
    let note = match client.blpop::<(String, String), _>(&list, 10.0).await {
        Ok(_) => SENT_AGAIN,
        Err(error) if *error.kind() == ErrorKind::IO => FAILS,
        Err(error) => return Err(error.into()),
    };
    joined(killed)?;
    client
        .set::<(), _, _>(key("reconnect"), 1, None, None, false)
        .await?;
    let after: i64 = client.client_id().await?;
    equal("another connection", after != before, true)?;

    let subscriber: SubscriberClient = builder(&url())?.build_subscriber_client()?;
    subscriber.init().await?;
    let managing = subscriber.manage_subscriptions();
    let mut messages = subscriber.message_rx();
    let before: i64 = subscriber.client_id().await?;
    subscriber.subscribe(key("reconnect")).await?;
    kill(&mut other, before)?;
    until_async("a subscription", async || {
        Ok(other.publish(key("reconnect"), "again")? == 1)
    })
    .await?;
    equal(
        "message",
        messages.recv().await?.value,
        Value::from("again"),
    )?;
    managing.abort();
    Ok(Some(Remark::Note(note)))
}
