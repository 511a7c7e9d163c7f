//! Takes entries in: first those that were delivered before and are not settled, then new ones.
//!
//! Reading stops while an entry is in hand that there is no room for: what follows it stays in Redis, and in the buffers of the connection.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::trace::SpanContext;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::Link;
use super::connection::{Connection, Error};
use super::counters::Outcome;
use super::entry::{self, Body, Entry};
use crate::service::agent::Agent;
use crate::service::book::EntryId;
use crate::service::experience::{Experience, FragmentSpec};
use crate::service::ingest::NotAccepted;
use crate::service::object::Object;

/// Entries of a reply. They are read one at a time, whatever their number: this many are delivered to nobody else.
const COUNT: &[u8] = b"16";
/// How long Redis waits for an entry before it says that there is none.
const BLOCK: Duration = Duration::from_secs(2);
const BLOCK_MILLISECONDS: &[u8] = b"2000";
/// When there is no room, or the disk refuses: tried again after this at the latest. Room is told of earlier.
const AGAIN: Duration = Duration::from_secs(1);
/// A larger fragment is read on a thread of its own, so that it does not delay others' actions.
const LARGE: usize = 32 << 10;
/// Refused entries are logged once in this time.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// What reads for one agent, as long as a connection lasts.
pub(super) struct Reading<'a> {
    pub(super) link: &'a Link,
    pub(super) agent: &'a Arc<Agent>,
    /// Entries that can be acknowledged at once.
    pub(super) refused: mpsc::Sender<EntryId>,
    pub(super) seen: &'a mut Seen,
}

/// What is known of what was read, whatever the connection.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The last entry that was dealt with.
    pub(super) last: Option<EntryId>,
    logged: Option<Instant>,
    /// What was refused since something was logged.
    silent: u64,
}

impl Reading<'_> {
    /// Reads until the connection fails. `caught_up` is told when all that was delivered before has been looked at.
    pub(super) async fn run(
        &mut self,
        connection: &mut Connection,
        caught_up: impl FnOnce(),
    ) -> Result<Infallible, Error> {
        let mut after = "0-0".to_owned();
        while let Some(last) = self
            .page(connection, after.as_bytes(), Duration::ZERO)
            .await?
        {
            after = last.into();
        }
        caught_up();
        loop {
            self.page(connection, b">", BLOCK).await?;
        }
    }

    /// Asks for entries and takes them in; the id of the last.
    async fn page(
        &mut self,
        connection: &mut Connection,
        after: &[u8],
        block: Duration,
    ) -> Result<Option<EntryId>, Error> {
        let (streams, name) = (&self.link.streams, self.link.name.as_bytes());
        let mut command: Vec<&[u8]> = vec![
            b"XREADGROUP",
            b"GROUP",
            streams.group.as_bytes(),
            name,
            b"COUNT",
            COUNT,
        ];
        if !block.is_zero() {
            command.extend([b"BLOCK", BLOCK_MILLISECONDS]);
        }
        command.extend([b"STREAMS", streams.experience.as_bytes(), after]);
        connection.send(&command).await?;
        let mut last = None;
        for _ in 0..entry::begin(connection, block).await? {
            let entry = entry::read(connection, self.link.most_fragment).await?;
            last = Some(entry.id);
            self.take(entry).await;
            self.seen.last = self.seen.last.max(last);
        }
        Ok(last)
    }

    async fn take(&mut self, entry: Entry) {
        let Entry { id, body, context } = entry;
        if self.agent.shared().lock().knows(id) {
            self.link.counters.count(Outcome::Known);
            return;
        }
        let read = match body {
            Body::Fragment(json) if json.len() > LARGE => {
                let agent = self.agent.clone();
                let work = tokio::task::spawn_blocking(move || fragment(&agent, &json));
                work.await
                    .unwrap_or_else(|error| Err((Outcome::Malformed, error.to_string())))
            }
            Body::Fragment(json) => fragment(self.agent, &json),
            Body::Oversized(bytes) => Err((
                Outcome::Oversized,
                format!(
                    "expected a fragment of at most {} bytes, found {bytes}",
                    self.link.most_fragment
                ),
            )),
            Body::Missing => Err((Outcome::Missing, "expected one field `fragment`".to_owned())),
            Body::Gone => Err((
                Outcome::Gone,
                "it was deleted from the stream before it was read again".to_owned(),
            )),
        };
        let taken = match read {
            Ok(experience) => self.accept(id, &Arc::new(experience), context).await,
            Err(refused) => Err(refused),
        };
        match taken {
            Ok(outcome) => self.link.counters.count(outcome),
            Err((outcome, why)) => self.refuse(id, outcome, &why).await,
        }
    }

    /// Gives it to the agent, when there is room.
    async fn accept(
        &self,
        id: EntryId,
        experience: &Arc<Experience>,
        context: Option<SpanContext>,
    ) -> Result<Outcome, (Outcome, String)> {
        let waiting = self
            .link
            .counters
            .waiting
            .with_label_values(&[&self.link.name]);
        loop {
            // Before it is tried: room that is made meanwhile is not missed.
            let room = self.agent.shared().roomy.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            let accepted = self
                .agent
                .accept_entry(id, experience.clone(), context.clone())
                .await;
            match accepted {
                Ok(accepted) => {
                    waiting.set(0);
                    return Ok(if accepted.duplicates > 0 {
                        Outcome::Known
                    } else {
                        Outcome::Accepted
                    });
                }
                Err(NotAccepted::Full(_)) => {
                    waiting.set(1);
                    tokio::select! { () = room => (), () = sleep(AGAIN) => () }
                }
                Err(NotAccepted::Invalid(why)) => return Err((Outcome::Invalid, why)),
                // It ends, and so will this; or nothing can be taken in, which was logged.
                Err(_) => sleep(AGAIN).await,
            }
        }
    }

    /// It can never be accepted: it would come back for ever.
    async fn refuse(&mut self, id: EntryId, outcome: Outcome, why: &str) {
        self.link.counters.count(outcome);
        let due = |last: Instant| last.elapsed() >= LOG_EVERY;
        if self.seen.logged.is_none_or(due) {
            tracing::warn!(
                agent = self.link.name,
                entry = String::from(id),
                reason = outcome.name(),
                others = self.seen.silent,
                "an entry is refused: {why}"
            );
            self.seen.logged = Some(Instant::now());
            self.seen.silent = 0;
        } else {
            self.seen.silent += 1;
        }
        // Nobody listens any more: it will be read again.
        let _ = self.refused.send(id).await;
    }
}

/// Reads a fragment. What is said of it repeats none of its texts.
fn fragment(agent: &Agent, json: &[u8]) -> Result<Experience, (Outcome, String)> {
    let Object::<FragmentSpec>(fragment) = serde_json::from_slice(json).map_err(|error| {
        let what = match error.classify() {
            serde_json::error::Category::Data => "JSON of another shape",
            _ => "no JSON",
        };
        let (line, column) = (error.line(), error.column());
        let why = format!("expected a fragment, found {what} at line {line}, column {column}");
        (Outcome::Malformed, why)
    })?;
    fragment
        .check("fragment", agent.spec(), agent.acting().spaces())
        .map_err(|why| (Outcome::Invalid, why))
}
