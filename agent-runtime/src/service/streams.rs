//! Experience in, over Redis Streams, and announcements of new versions out: one task an agent.
//!
//! In the order of a byte's way:
//!
//! - [`url`]: where Redis is; [`connection`], [`resp`]: bytes of its replies, within bounds.
//! - [`entry`]: entries out of a reply, one at a time; [`context`]: the trace that they belong to.
//! - `reading`: each into the book of its agent, when there is room for it. An entry is a fragment.
//! - `settling`: acknowledged, when a checkpoint that is on the disk knows what became of it; the version that came of it, announced.
//! - [`counters`]: what is counted of all this.
//!
//! Two connections: one waits for entries, or holds a reply back that there is no room for; the other is never in its way. Whatever fails ends both,
//! and the next pair begins with the entries that were delivered and not acknowledged.

pub mod connection;
pub mod context;
pub mod counters;
pub mod entry;
mod reading;
pub mod resp;
mod settling;
pub mod url;

use std::convert::Infallible;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc};
use tokio::time::sleep;

use self::connection::{Connection, Error};
use self::counters::Counters;
use self::reading::{Reading, Seen};
use self::settling::{Latest, Settling};
use self::url::RedisUrl;
use super::agent::Agent;
use super::agents::Listener;
use super::learning::Event;
use super::spec::{AgentSpec, BadSpec, StreamsSpec};

/// Refused entries that wait to be acknowledged.
const REFUSED: usize = 64;
/// How long to wait before Redis is tried again: the first time, and at most. Chance makes it half as long or half as long again.
const BACK_OFF: Duration = Duration::from_millis(100);
const BACK_OFF_MOST: Duration = Duration::from_secs(5);

/// Where agents find Redis.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Redis, or tars-proxy before it.
    pub redis: RedisUrl,
    /// The largest fragment of an entry, in bytes.
    pub most_fragment: usize,
}

/// One agent's way to Redis.
struct Link {
    name: String,
    streams: StreamsSpec,
    redis: RedisUrl,
    most_fragment: usize,
    counters: Counters,
}

/// Listens to agents that have streams: on this runtime, each in a task that ends with its agent.
#[must_use]
pub fn listener(settings: Option<Settings>, counters: Counters, runtime: Handle) -> Listener {
    Box::new(move |spec: &AgentSpec| {
        let Some(streams) = spec.streams.clone() else {
            return Ok(None);
        };
        let Settings {
            redis,
            most_fragment,
        } = settings.clone().ok_or(BadSpec::NoRedis)?;
        let link = Link {
            name: spec.name.clone(),
            streams,
            redis,
            most_fragment,
            counters: counters.clone(),
        };
        let (events, heard) = mpsc::unbounded_channel();
        runtime.spawn(link.run(heard));
        Ok(Some(events))
    })
}

impl Link {
    /// Serves the agent from when it is there until it ends.
    async fn run(self, mut events: mpsc::UnboundedReceiver<Event>) {
        // Who it is comes first; nothing comes if it could not be made.
        let Some(Event::Started(agent)) = events.recv().await else {
            return;
        };
        let Some(agent) = agent.upgrade() else {
            return;
        };
        let up = self.counters.up.with_label_values(&[&self.name]);
        let mut latest = Latest::from(agent.acting().current().number());
        let (mut seen, mut down, mut wait) = (Seen::default(), false, BACK_OFF);
        loop {
            let connected = AtomicBool::new(false);
            let on_connected = || {
                connected.store(true, Relaxed);
                up.set(1);
                if std::mem::take(&mut down) {
                    tracing::info!(agent = self.name, "Redis is back");
                }
            };
            let session = self.session(&agent, &mut events, &mut latest, &mut seen, on_connected);
            let Err(error) = session.await else {
                break;
            };
            up.set(0);
            if connected.load(Relaxed) {
                wait = BACK_OFF;
            }
            if !std::mem::replace(&mut down, true) {
                self.counters.outages.inc();
                tracing::warn!(
                    agent = self.name,
                    redis = %self.redis,
                    %error,
                    "Redis is not to be had: tried again until it is"
                );
            }
            if self
                .back_off(wait, &mut events, &mut latest)
                .await
                .is_none()
            {
                break;
            }
            wait = (wait * 2).min(BACK_OFF_MOST);
        }
        let name = &[&*self.name];
        // Either fails only if there is none.
        let _ = self.counters.up.remove_label_values(name);
        let _ = self.counters.waiting.remove_label_values(name);
    }

    /// Waits; none if the agent ends meanwhile.
    async fn back_off(
        &self,
        wait: Duration,
        events: &mut mpsc::UnboundedReceiver<Event>,
        latest: &mut Latest,
    ) -> Option<()> {
        // The one source of randomness that the standard library has; agents of many processes are not to come back all at once.
        let chance = RandomState::new().hash_one(&self.name) % 1_000;
        let wait = sleep(wait / 2 + wait * u32::try_from(chance).unwrap_or(0) / 1_000);
        tokio::pin!(wait);
        loop {
            tokio::select! {
                () = &mut wait => return Some(()),
                event = events.recv() => latest.note(event?),
            }
        }
    }

    /// Reads and settles over one pair of connections, until the agent ends.
    async fn session(
        &self,
        agent: &Arc<Agent>,
        events: &mut mpsc::UnboundedReceiver<Event>,
        latest: &mut Latest,
        seen: &mut Seen,
        connected: impl FnOnce(),
    ) -> Result<(), Error> {
        let name = format!("tars-agent:{}", self.name);
        let mut reader = Connection::open(&self.redis, &name).await?;
        let mut writer = Connection::open(&self.redis, &name).await?;
        self.make_group(&mut writer, seen).await?;
        connected();
        let (refused, to_acknowledge) = mpsc::channel(REFUSED);
        let (caught_up, told) = (AtomicBool::new(false), Notify::new());
        let mut reading = Reading {
            link: self,
            agent,
            refused,
            seen,
        };
        let mut settling = Settling {
            link: self,
            agent,
            refused: to_acknowledge,
            events,
            latest,
            caught_up: &caught_up,
            told: &told,
        };
        let caught_up = || {
            caught_up.store(true, Relaxed);
            told.notify_one();
        };
        tokio::select! {
            failed = reading.run(&mut reader, caught_up) => failed.map(|never: Infallible| match never {}),
            ended = settling.run(&mut writer) => ended,
        }
    }

    /// From the stream's first entry on: what was sent before the agent was made waits for it. A group that somebody destroyed goes on where it was.
    async fn make_group(&self, connection: &mut Connection, seen: &Seen) -> Result<(), Error> {
        let StreamsSpec {
            experience, group, ..
        } = &self.streams;
        let from = seen.last.map_or_else(|| "0".to_owned(), String::from);
        let create = [
            &b"XGROUP"[..],
            b"CREATE",
            experience.as_bytes(),
            group.as_bytes(),
            from.as_bytes(),
            b"MKSTREAM",
        ];
        match connection.call(&create).await {
            Err(Error::Refused(why)) if why.starts_with("BUSYGROUP") => Ok(()),
            created => created.map(drop),
        }
    }
}
