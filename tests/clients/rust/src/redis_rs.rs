//! redis-rs: its synchronous connection and the one for tokio.
//!
//! Both take the same commands and give the same replies: those features are written once, in [`commands`] and [`streams`].
//! What differs, subscriptions, pushes and reconnecting, is in [`sync`] and [`tokio`].

mod commands;
mod streams;
mod sync;
mod tokio;

use std::collections::HashMap;

use redis::aio::ConnectionLike;
use redis::{RedisResult, Value};

use crate::check::{Failure, Features, Fields, Outcome, block_on, equal, failure};

pub(crate) use sync::Synchronous;
pub(crate) use tokio::Tokio;

/// One of redis-rs' connections.
pub(crate) trait Library: 'static {
    type Connection: ConnectionLike + Send + Sync;

    async fn open(url: &str) -> Result<Self::Connection, Failure>;

    /// RESP3's pushes.
    async fn pushes(url: &str) -> Outcome;
    async fn pubsub() -> Outcome;
    async fn reconnect() -> Outcome;
}

pub(crate) fn features<L: Library>() -> Features {
    vec![
        ("connect", || block_on(commands::connect::<L>())),
        ("resp3", || block_on(commands::resp3::<L>())),
        ("pipeline", || block_on(commands::pipeline::<L>())),
        ("transaction", || block_on(commands::transaction::<L>())),
        ("scripts", || block_on(commands::scripts::<L>())),
        ("pubsub", || block_on(L::pubsub())),
        ("blocking", || block_on(commands::blocking::<L>())),
        ("groups", || block_on(streams::groups::<L>())),
        ("claims", || block_on(streams::claims::<L>())),
        ("large", || block_on(streams::large::<L>())),
        ("reconnect", || block_on(L::reconnect())),
    ]
}

/// Demands an error of the server with this code; of a pipeline's errors the first counts.
#[track_caller]
fn refused<T>(what: &str, result: RedisResult<T>, code: &str) -> Result<(), Failure> {
    let Err(error) = result else {
        return Err(failure(format!("{what} was not refused")));
    };
    let each = error.clone().into_server_errors();
    let first = each.as_ref().and_then(|each| each.first());
    let got = error.code().or(first.map(|(_, error)| error.code()));
    equal(what, got, Some(code))
}

/// The fields of an entry as bytes.
fn bytes(map: HashMap<String, Value>) -> Result<Fields, Failure> {
    map.into_iter()
        .map(|(name, value)| Ok((name, redis::from_redis_value(value)?)))
        .collect()
}
