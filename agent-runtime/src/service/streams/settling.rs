//! Says to Redis what has been settled, and which version acts.
//!
//! An entry is acknowledged when a checkpoint that is on the disk knows what became of it, or when it was refused. A version is announced when it
//! acts, which is after that.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use opentelemetry::trace::SpanContext;
use tokio::sync::{Notify, mpsc};
use tokio::time::sleep;

use super::Link;
use super::connection::{Connection, Error};
use super::context;
use crate::service::agent::Agent;
use crate::service::book::EntryId;
use crate::service::learning::Event;

/// Entries of one XACK.
const BATCH: usize = 128;
/// About so many announcements are kept: whoever was away for longer needs only the last.
const MOST_ANNOUNCEMENTS: &[u8] = b"1000";
/// A connection that has nothing to say says so, lest a server or a firewall takes it for dead, or it is dead and nobody knows. What Redis refused is
/// tried again then, too.
const IDLE: Duration = Duration::from_secs(15);

/// A version to announce: only the latest matters.
#[derive(Clone, Debug, Default)]
pub(super) struct Latest {
    version: u64,
    trace: Option<SpanContext>,
    /// The version that was announced last.
    announced: Option<u64>,
}

impl Latest {
    /// What acts before anything is published.
    pub(super) fn from(version: u64) -> Self {
        Self {
            version,
            ..Self::default()
        }
    }

    /// Keeps what has been published.
    pub(super) fn note(&mut self, event: Event) {
        if let Event::Published { version, trace } = event {
            self.version = version;
            self.trace = Some(trace).filter(SpanContext::is_valid);
        }
    }
}

/// What settles for one agent, as long as a connection lasts.
pub(super) struct Settling<'a> {
    pub(super) link: &'a Link,
    pub(super) agent: &'a Agent,
    pub(super) refused: mpsc::Receiver<EntryId>,
    pub(super) events: &'a mut mpsc::UnboundedReceiver<Event>,
    pub(super) latest: &'a mut Latest,
    /// Everything that was delivered before has been looked at. Until then nothing that is settled may be forgotten: it may be in a reply that is
    /// being read, and would be taken in again.
    pub(super) caught_up: &'a AtomicBool,
    /// Tells that it has become so.
    pub(super) told: &'a Notify,
}

impl Settling<'_> {
    /// Settles until the agent ends, or the connection fails.
    pub(super) async fn run(&mut self, connection: &mut Connection) -> Result<(), Error> {
        let mut refused = Vec::with_capacity(BATCH);
        loop {
            // Before it is looked: what becomes durable meanwhile is not missed.
            let durable = self.agent.shared().durable.notified();
            tokio::pin!(durable);
            durable.as_mut().enable();
            if self.caught_up.load(Relaxed) {
                self.acknowledge_settled(connection).await?;
            }
            self.announce(connection).await?;
            tokio::select! {
                () = durable => (),
                () = self.told.notified() => (),
                event = self.events.recv() => match event {
                    Some(event) => self.latest.note(event),
                    None => return Ok(()),
                },
                // Its sender lives as long as this does.
                _ = self.refused.recv_many(&mut refused, BATCH) => {
                    self.acknowledge(connection, &refused).await?;
                    refused.clear();
                }
                () = sleep(IDLE) => drop(connection.call(&[b"PING"]).await?),
            }
        }
    }

    async fn acknowledge_settled(&self, connection: &mut Connection) -> Result<(), Error> {
        loop {
            let settled = self.agent.shared().lock().acknowledgeable(BATCH);
            if settled.is_empty() {
                return Ok(());
            }
            self.acknowledge(connection, &settled).await?;
            // Not before Redis knows it: until then it may come again.
            self.agent.shared().lock().acknowledged(&settled);
        }
    }

    async fn acknowledge(&self, connection: &mut Connection, ids: &[EntryId]) -> Result<(), Error> {
        let streams = &self.link.streams;
        let ids: Vec<String> = ids.iter().map(|id| String::from(*id)).collect();
        let mut command: Vec<&[u8]> = vec![
            b"XACK",
            streams.experience.as_bytes(),
            streams.group.as_bytes(),
        ];
        command.extend(ids.iter().map(|id| id.as_bytes()));
        connection.call(&command).await?;
        self.link.counters.acknowledged.inc_by(ids.len() as u64);
        Ok(())
    }

    async fn announce(&mut self, connection: &mut Connection) -> Result<(), Error> {
        let Some(stream) = &self.link.streams.hot_reload else {
            return Ok(());
        };
        let version = self.latest.version;
        if self.latest.announced == Some(version) {
            return Ok(());
        }
        let (number, name) = (version.to_string(), &*self.link.name);
        let url = format!("/v1/agents/{name}/policy");
        let mut command: Vec<&[u8]> = vec![
            b"XADD",
            stream.as_bytes(),
            b"MAXLEN",
            b"~",
            MOST_ANNOUNCEMENTS,
            b"*",
            b"agent",
            name.as_bytes(),
            b"policy_version",
            number.as_bytes(),
            b"url",
            url.as_bytes(),
        ];
        let trace = self.latest.trace.as_ref();
        let (parent, state) = (
            trace.map(context::write),
            trace.map(|trace| trace.trace_state().header()),
        );
        if let Some(parent) = &parent {
            command.extend([b"traceparent", parent.as_bytes()]);
        }
        if let Some(state) = state.as_deref().filter(|state| !state.is_empty()) {
            command.extend([&b"tracestate"[..], state.as_bytes()]);
        }
        match connection.call(&command).await {
            Ok(_) => self.link.counters.announced.inc(),
            // Experience goes on being read: this stream may be of another type, say, and that one is sound.
            Err(Error::Refused(why)) => {
                self.link.counters.unannounced.inc();
                tracing::warn!(
                    agent = name,
                    stream,
                    version,
                    "a version is not announced, the next will be: Redis answers: {why}"
                );
            }
            Err(error) => return Err(error),
        }
        self.latest.announced = Some(version);
        Ok(())
    }
}
