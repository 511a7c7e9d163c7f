//! The connection for tokio; one that connects again is the `ConnectionManager`.

use std::time::Duration;

use ::tokio::sync::mpsc;
use futures_util::StreamExt;
use redis::aio::{ConnectionManager, ConnectionManagerConfig, MultiplexedConnection};
use redis::caching::CacheConfig;
use redis::{AsyncConnectionConfig, AsyncTypedCommands, PushKind, TypedCommands};

use crate::check::{
    FAILS, Failure, Outcome, Remark, SENT_AGAIN, control, equal, failure, joined, key,
    kill_when_blocked, until_async, url,
};
use crate::redis_rs::Library;

pub(crate) struct Tokio;

/// The library's own is half a second, which a large value on a slow machine may exceed.
const RESPONSE_LIMIT: Duration = Duration::from_secs(15);

fn config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_response_timeout(Some(RESPONSE_LIMIT))
}

async fn open(url: &str, config: &AsyncConnectionConfig) -> Result<MultiplexedConnection, Failure> {
    Ok(redis::Client::open(url)?
        .get_multiplexed_async_connection_with_config(config)
        .await?)
}

impl Library for Tokio {
    type Connection = MultiplexedConnection;

    async fn open(url: &str) -> Result<MultiplexedConnection, Failure> {
        open(url, &config()).await
    }

    async fn pushes(url: &str) -> Outcome {
        let mut other = control()?;

        // The library's own cache.
        let mut connection = open(url, &config().set_cache_config(CacheConfig::new())).await?;
        for value in ["1", "2", "3"] {
            TypedCommands::set(&mut other, key("cached"), value)?;
            until_async("an invalidation", async || {
                Ok(connection.get(key("cached")).await? == Some(value.to_owned()))
            })
            .await?;
            equal(
                "GET",
                connection.get(key("cached")).await?,
                Some(value.to_owned()),
            )?;
        }
        let seen = connection
            .get_cache_statistics()
            .ok_or_else(|| failure("it has no cache"))?;
        equal("hits", seen.hit >= 3, true)?;
        equal("invalidations", seen.invalidate, 2)?;

        let (sender, mut pushes) = mpsc::unbounded_channel();
        let mut connection = open(url, &config().set_push_sender(sender)).await?;
        connection.subscribe(key("resp3")).await?;
        equal(
            "PUBLISH",
            TypedCommands::publish(&mut other, key("resp3"), "pushed")?,
            1,
        )?;
        loop {
            let push = pushes.recv().await.ok_or_else(|| failure("no push came"))?;
            if push.kind == PushKind::Message {
                break;
            }
        }
        equal("PING", connection.ping().await?, "PONG")?;
        connection.unsubscribe(key("resp3")).await?;
        equal(
            "PUBLISH to nobody",
            TypedCommands::publish(&mut other, key("resp3"), "x")?,
            0,
        )?;
        Ok(None)
    }

    async fn pubsub() -> Outcome {
        let client = redis::Client::open(url())?;
        let (mut through, mut past) = (open(&url(), &config()).await?, control()?);
        let (channel, pattern, matching) = (key("pubsub"), key("pubsub:*"), key("pubsub:x"));
        let (mut pubsub, mut messages) = client.get_async_pubsub().await?.split();
        pubsub.subscribe(&channel).await?;
        pubsub.psubscribe(&pattern).await?;
        for n in 0..20 {
            equal("PUBLISH", through.publish(&channel, n).await?, 1)?;
            equal(
                "PUBLISH",
                TypedCommands::publish(&mut past, &matching, "a\r\nb")?,
                1,
            )?;
            let message = messages.next().await.ok_or_else(|| failure("no message"))?;
            equal(
                "message",
                (message.get_channel_name(), message.get_payload::<u32>()?),
                (channel.as_str(), n),
            )?;
            let message = messages.next().await.ok_or_else(|| failure("no message"))?;
            equal("pattern", message.get_pattern::<String>()?, &*pattern)?;
            equal(
                "message",
                (message.get_channel_name(), message.get_payload_bytes()),
                (matching.as_str(), &b"a\r\nb"[..]),
            )?;
        }
        pubsub.unsubscribe(&channel).await?;
        equal(
            "PUBLISH to nobody",
            through.publish(&channel, "x").await?,
            0,
        )?;
        pubsub.punsubscribe(&pattern).await?;
        equal(
            "PUBLISH to nobody",
            through.publish(&matching, "x").await?,
            0,
        )?;
        equal("PING", pubsub.ping::<String>().await?, "PONG")?;
        pubsub.subscribe(&channel).await?;
        equal("PUBLISH", through.publish(&channel, "again").await?, 1)?;
        let message = messages.next().await.ok_or_else(|| failure("no message"))?;
        equal("message", message.get_payload::<String>()?, "again")?;
        Ok(None)
    }

    async fn reconnect() -> Outcome {
        let config = ConnectionManagerConfig::new().set_response_timeout(Some(RESPONSE_LIMIT));
        let mut manager =
            ConnectionManager::new_with_config(redis::Client::open(url())?, config).await?;
        let before = manager.client_id().await?;
        let list = key("reconnect:list");
        let killed = kill_when_blocked(before as i64, list.clone());
        let note = match manager.blpop(&list, 10.0).await {
            Ok(_) => SENT_AGAIN,
            Err(error) if error.is_unrecoverable_error() => FAILS,
            Err(error) => return Err(error.into()),
        };
        joined(killed)?;
        until_async("a command that succeeds", async || {
            match manager.set(key("reconnect"), 1).await {
                Ok(()) => Ok(true),
                Err(error) if error.is_unrecoverable_error() => Ok(false),
                Err(error) => Err(error.into()),
            }
        })
        .await?;
        let after = manager.client_id().await?;
        equal("another connection", after != before, true)?;
        Ok(Some(Remark::Note(note)))
    }
}
