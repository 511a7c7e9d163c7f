//! Features that are the same for every connection of redis-rs.

use redis::aio::ConnectionLike;
use redis::streams::StreamReadOptions;
use redis::{AsyncTypedCommands, TypedCommands, Value, cmd, pipe};

use crate::check::{
    Outcome, control, equal, failure, fields, identifier, joined, key, same_fields, url,
    url_of_database, when_blocked,
};
use crate::redis_rs::{Library, bytes, refused};

pub(crate) async fn connect<L: Library>() -> Outcome {
    let mut connection = L::open(&url_of_database(1)).await?;
    equal("PING", connection.ping().await?, "PONG")?;
    connection.client_setname(key("name")).await?;
    let info: String = cmd("CLIENT")
        .arg("INFO")
        .query_async(&mut connection)
        .await?;
    let said = |name: &str| {
        info.split_whitespace()
            .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    };
    equal("name", said("name"), Some(&*key("name")))?;
    equal("database", said("db"), Some("1"))?;
    // CLIENT SETINFO is in its handshake; a server before 7.2 refuses it, and the library goes on.
    if let Some(library) = said("lib-name") {
        equal("lib-name", library, "redis-rs")?;
    }
    connection.set(key("connect"), "one").await?;
    let mut zero = L::open(&url()).await?;
    equal("GET in database 0", zero.get(key("connect")).await?, None)?;
    Ok(None)
}

pub(crate) async fn resp3<L: Library>() -> Outcome {
    let url = format!("{}?protocol=resp3", url());
    let mut connection = L::open(&url).await?;
    let sent = [("a", "1"), ("b", ""), ("c", "\r\n*2\r\n")];
    connection.hset_multiple(key("resp3:hash"), &sent).await?;
    let reply: Value = cmd("HGETALL")
        .arg(key("resp3:hash"))
        .query_async(&mut connection)
        .await?;
    equal("HGETALL is a map", matches!(reply, Value::Map(_)), true)?;
    let found = connection.hgetall(key("resp3:hash")).await?;
    equal(
        "HGETALL",
        found,
        sent.map(|(name, value)| (name.into(), value.into())).into(),
    )?;
    connection.zadd(key("resp3:set"), "m", 1.5).await?;
    let score: Value = cmd("ZSCORE")
        .arg(key("resp3:set"))
        .arg("m")
        .query_async(&mut connection)
        .await?;
    equal("ZSCORE", score, Value::Double(1.5))?;
    L::pushes(&url).await
}

/// Four of them make a turn.
const PIPELINE: usize = 1000;

pub(crate) async fn pipeline<L: Library>() -> Outcome {
    let mut connection = L::open(&url()).await?;
    let stream = key("pipeline");
    for atomic in [false, true] {
        connection.del(&stream).await?;
        let mut pipeline = pipe();
        if atomic {
            pipeline.atomic();
        }
        for n in 0..PIPELINE / 4 {
            let name = format!("{stream}:{n}");
            pipeline
                .set(&name, n)
                .xadd(&stream, "*", &[("n", n)])
                .get(&name)
                .xlen(&stream);
        }
        let replies: Vec<Value> = pipeline.query_async(&mut connection).await?;
        equal("replies", replies.len(), PIPELINE)?;
        let turns: Vec<(String, String, usize, usize)> = redis::from_redis_value(Value::Array(
            replies
                .chunks(4)
                .map(|turn| Value::Array(turn.to_vec()))
                .collect(),
        ))?;
        let entries = connection.xrange_all(&stream).await?.ids;
        equal("entries", entries.len(), PIPELINE / 4)?;
        for ((n, (set, id, got, length)), entry) in turns.into_iter().enumerate().zip(entries) {
            equal(
                "SET, GET, XLEN",
                (set.as_str(), got, length),
                ("OK", n, n + 1),
            )?;
            equal("XADD", id, &*entry.id)?;
            same_fields(
                "XRANGE",
                bytes(entry.map)?,
                &fields([("n", n.to_string().as_bytes())]),
            )?;
        }
    }
    // An error in the middle is the answer of that command only.
    let mut pipeline = pipe();
    pipeline.ping().cmd("INCR").arg(&stream).ping();
    let refusal = pipeline.query_async::<Value>(&mut connection).await;
    refused("INCR", refusal, "WRONGTYPE")?;
    equal("PING", connection.ping().await?, "PONG")?;
    Ok(None)
}

pub(crate) async fn transaction<L: Library>() -> Outcome {
    let (mut connection, mut other) = (L::open(&url()).await?, control()?);
    let (name, stream) = (key("transaction"), key("transaction:stream"));
    let (count, id): (u32, String) = pipe()
        .atomic()
        .incr(&name, 1)
        .xadd(&stream, "*", &[("a", "1")])
        .query_async(&mut connection)
        .await?;
    equal("INCR", count, 1)?;
    for entry in connection.xrange_all(&stream).await?.ids {
        equal("XADD", &id, &entry.id)?;
        same_fields("XADD in MULTI", bytes(entry.map)?, &fields([("a", b"1")]))?;
    }

    // What is watched changes: nothing is done.
    for meddle in [true, false] {
        cmd("WATCH").arg(&name).exec_async(&mut connection).await?;
        if meddle {
            TypedCommands::set(&mut other, &name, 10)?;
        }
        let done: Option<(Value, Value)> = pipe()
            .atomic()
            .incr(&name, 1)
            .xadd(&stream, "*", &[("b", "2")])
            .query_async(&mut connection)
            .await?;
        equal("EXEC", done.is_some(), !meddle)?;
        equal(
            "XLEN",
            connection.xlen(&stream).await?,
            if meddle { 1 } else { 2 },
        )?;
    }
    equal("GET", connection.get_int(&name).await?, Some(11))?;

    // A command that cannot be queued, and one that fails when it is run.
    let refusal = pipe()
        .atomic()
        .incr(&name, 1)
        .cmd("GET")
        .query_async::<Value>(&mut connection)
        .await;
    refused("EXEC", refusal, "EXECABORT")?;
    let refusal = pipe()
        .atomic()
        .lpush(&name, "no list")
        .incr(&name, 1)
        .query_async::<Value>(&mut connection)
        .await;
    refused("LPUSH", refusal, "WRONGTYPE")?;
    equal("GET", connection.get_int(&name).await?, Some(12))?;
    Ok(None)
}

pub(crate) async fn scripts<L: Library>() -> Outcome {
    let mut connection = L::open(&url()).await?;
    let name = key("scripts");
    // No other run has this script: its text has the prefix.
    let source = format!(
        "-- {name}\nredis.call('XADD', KEYS[1], '*', 'a', ARGV[1]) return {{ARGV[1], redis.call('XLEN', KEYS[1])}}"
    );
    let script = redis::Script::new(&source);
    let by_hash = cmd("EVALSHA")
        .arg(script.get_hash())
        .arg(1)
        .arg(&name)
        .arg("x")
        .query_async::<Value>(&mut connection)
        .await;
    refused("EVALSHA", by_hash, "NOSCRIPT")?;
    for n in 1..=2 {
        // The first time, the library loads it and asks again.
        let reply: (String, u32) = script
            .key(&name)
            .arg("x")
            .invoke_async(&mut connection)
            .await?;
        equal("EVALSHA", reply, ("x".to_owned(), n))?;
    }
    let mine = cmd("EVAL")
        .arg("return redis.error_reply('MINE it is')")
        .arg(0)
        .query_async::<Value>(&mut connection)
        .await;
    refused("EVAL", mine, "MINE")?;

    let function = identifier("scripts");
    let library = format!(
        "#!lua name={function}\nredis.register_function('{function}', function(keys, args) return redis.call('XLEN', keys[1]) end)"
    );
    let loaded: String = cmd("FUNCTION")
        .arg("LOAD")
        .arg("REPLACE")
        .arg(library)
        .query_async(&mut connection)
        .await?;
    equal("FUNCTION LOAD", &loaded, &function)?;
    let length: u32 = cmd("FCALL")
        .arg(&function)
        .arg(1)
        .arg(&name)
        .query_async(&mut connection)
        .await?;
    equal("FCALL", length, 2)?;
    cmd("FUNCTION")
        .arg("DELETE")
        .arg(&function)
        .exec_async(&mut connection)
        .await?;
    Ok(None)
}

pub(crate) async fn blocking<L: Library>() -> Outcome {
    let mut connection = L::open(&url()).await?;
    let (list, stream) = (key("blocking"), key("blocking:stream"));
    let id = client_id(&mut connection).await?;

    // Nothing comes.
    equal("BLPOP", connection.blpop(&list, 0.1).await?, None)?;
    let briefly = StreamReadOptions::default().block(50);
    let nothing = connection
        .xread_options(&[&stream], &["$"], &briefly)
        .await?;
    equal("XREAD", nothing.is_none(), true)?;

    // Something is there already; something comes meanwhile.
    connection.rpush(&list, "one").await?;
    equal(
        "BLPOP",
        connection.blpop(&list, 10.0).await?,
        Some([list.clone(), "one".into()]),
    )?;
    let name = list.clone();
    let pushed = when_blocked(id, move |other| {
        TypedCommands::rpush(other, name, "two").map(drop)
    });
    equal(
        "BLPOP",
        connection.blpop(&list, 10.0).await?,
        Some([list.clone(), "two".into()]),
    )?;
    joined(pushed)?;

    let name = stream.clone();
    let added = when_blocked(id, move |_| {
        // Through the proxy, so that it is traced.
        let mut through = redis::Client::open(url())?.get_connection()?;
        TypedCommands::xadd(&mut through, name, "*", &[("late", "yes")]).map(drop)
    });
    let patiently = StreamReadOptions::default().block(10_000);
    let reply = connection
        .xread_options(&[&stream], &["$"], &patiently)
        .await?;
    joined(added)?;
    let mut entries = reply
        .into_iter()
        .flat_map(|reply| reply.keys)
        .flat_map(|key| key.ids);
    let entry = entries.next().ok_or_else(|| failure("XREAD: nothing"))?;
    same_fields("XREAD", bytes(entry.map)?, &fields([("late", b"yes")]))?;
    equal("further entries", entries.count(), 0)?;
    Ok(None)
}

async fn client_id<C: ConnectionLike + Send>(connection: &mut C) -> redis::RedisResult<i64> {
    cmd("CLIENT").arg("ID").query_async(connection).await
}
