//! The synchronous connection, which never connects again: an application opens another one.

use std::future::ready;
use std::sync::mpsc;
use std::time::Duration;

use redis::{
    Cmd, Connection, ConnectionLike, Pipeline, PushKind, RedisFuture, TypedCommands, Value,
};

use crate::check::{
    Failure, Outcome, Remark, control, equal, joined, key, kill_when_blocked, until, url,
};
use crate::redis_rs::Library;

pub(crate) struct Synchronous;

/// Lets the features that are written once await what is there already.
pub(crate) struct Ready(Connection);

impl redis::aio::ConnectionLike for Ready {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(ready(self.0.req_command(cmd)))
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        let packed = pipeline.get_packed_pipeline();
        Box::pin(ready(self.0.req_packed_commands(&packed, offset, count)))
    }

    fn get_db(&self) -> i64 {
        ConnectionLike::get_db(&self.0)
    }
}

fn open(url: &str) -> Result<Connection, Failure> {
    let connection = redis::Client::open(url)?.get_connection()?;
    connection.set_read_timeout(Some(Duration::from_secs(15)))?;
    Ok(connection)
}

impl Library for Synchronous {
    type Connection = Ready;

    async fn open(url: &str) -> Result<Ready, Failure> {
        open(url).map(Ready)
    }

    async fn pushes(url: &str) -> Outcome {
        let (mut connection, mut other) = (open(url)?, control()?);
        let (sender, pushes) = mpsc::channel();
        connection.set_push_sender(sender);
        redis::cmd("CLIENT")
            .arg("TRACKING")
            .arg("ON")
            .exec(&mut connection)?;
        for value in ["1", "2"] {
            TypedCommands::set(&mut other, key("tracked"), value)?;
            equal(
                "GET",
                TypedCommands::get(&mut connection, key("tracked"))?,
                Some(value.to_owned()),
            )?;
        }
        let mut told = 0;
        until("invalidations", || {
            equal("PING", TypedCommands::ping(&mut connection)?, "PONG")?;
            told += pushes
                .try_iter()
                .filter(|push| push.kind == PushKind::Invalidate)
                .count();
            Ok(told == 1)
        })?;
        // It does not wait for the answer; the reply to PING comes after it.
        connection.subscribe_resp3(key("resp3"))?;
        TypedCommands::ping(&mut connection)?;
        TypedCommands::publish(&mut other, key("resp3"), "pushed")?;
        until("a message", || {
            TypedCommands::ping(&mut connection)?;
            Ok(pushes.try_iter().any(|push| push.kind == PushKind::Message))
        })?;
        Ok(None)
    }

    async fn pubsub() -> Outcome {
        let (mut connection, mut through, mut past) = (open(&url())?, open(&url())?, control()?);
        let (channel, pattern, matching) = (key("pubsub"), key("pubsub:*"), key("pubsub:x"));
        {
            let mut pubsub = connection.as_pubsub();
            pubsub.subscribe(&channel)?;
            pubsub.psubscribe(&pattern)?;
            for n in 0..20 {
                for other in [&mut through, &mut past] {
                    equal("PUBLISH", TypedCommands::publish(other, &channel, n)?, 1)?;
                    equal(
                        "PUBLISH",
                        TypedCommands::publish(other, &matching, "a\r\nb")?,
                        1,
                    )?;
                    let message = pubsub.get_message()?;
                    equal(
                        "message",
                        (message.get_channel_name(), message.get_payload::<u32>()?),
                        (channel.as_str(), n),
                    )?;
                    let message = pubsub.get_message()?;
                    equal("pattern", message.get_pattern::<String>()?, &*pattern)?;
                    equal(
                        "message",
                        (message.get_channel_name(), message.get_payload_bytes()),
                        (matching.as_str(), &b"a\r\nb"[..]),
                    )?;
                }
            }
            pubsub.unsubscribe(&channel)?;
            equal(
                "PUBLISH to nobody",
                TypedCommands::publish(&mut past, &channel, "x")?,
                0,
            )?;
            equal(
                "PING",
                pubsub.ping_message::<(String, String)>("hello")?,
                ("pong".into(), "hello".into()),
            )?;
            // Its end unsubscribes from what is left.
        }
        equal("PING", TypedCommands::ping(&mut connection)?, "PONG")?;
        equal(
            "PUBLISH to nobody",
            TypedCommands::publish(&mut past, &matching, "x")?,
            0,
        )?;
        Ok(None)
    }

    async fn reconnect() -> Outcome {
        let client = redis::Client::open(url())?;
        let mut connection = client.get_connection()?;
        let id = TypedCommands::client_id(&mut connection)?;
        let list = key("reconnect:list");
        let killed = kill_when_blocked(id as i64, list.clone());
        let gone = TypedCommands::blpop(&mut connection, &list, 10.0)
            .map_err(|error| error.is_unrecoverable_error());
        equal("the killed BLPOP", gone, Err(true))?;
        joined(killed)?;
        equal("is_open", connection.is_open(), false)?;
        let mut connection = client.get_connection()?;
        TypedCommands::set(&mut connection, key("reconnect"), "1")?;
        Ok(Some(Remark::Lacks(
            "fails; the application opens another connection",
        )))
    }
}
