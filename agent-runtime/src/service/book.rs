//! The book of an agent: what waits for an update, who has sent what, and where every transition is.
//!
//! One lock holds all that a checkpoint must have a consistent view of. Only the thread of [`ingest`](super::ingest) puts something in, only that of
//! [`learning`](super::learning) takes something out.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use opentelemetry::trace::SpanContext;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::episodes::{Episodes, UnderWay};
use super::experience::{Encoded, Experience};
use super::producers::{self, Producers};
use crate::env::Space;
use crate::fragments::{Fate, Fragments, Ledger, Refused, Settled};
use crate::train::Progress;

/// Contexts that an update is linked to, at most: the OpenTelemetry SDKs' own limit of links.
const MOST_TRACES: usize = 128;
/// The tag of a fragment from a stream has this bit; one from the journal is its number there.
const STREAM: u64 = 1 << 63;

/// The id of an entry of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct EntryId {
    /// Milliseconds since 1970.
    pub milliseconds: u64,
    /// Its number in that millisecond.
    pub number: u64,
}

impl From<EntryId> for String {
    fn from(id: EntryId) -> Self {
        format!("{}-{}", id.milliseconds, id.number)
    }
}

impl TryFrom<String> for EntryId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let id = text.split_once('-').and_then(|(milliseconds, number)| {
            Some(Self {
                milliseconds: milliseconds.parse().ok()?,
                number: number.parse().ok()?,
            })
        });
        id.ok_or_else(|| format!("{text:?} is no id of a stream's entry"))
    }
}

/// Where a fragment came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// This record of the journal.
    Journal(u64),
    /// This entry of the stream.
    Entry(EntryId),
}

/// See the module.
#[derive(Debug)]
pub struct Book {
    /// What waits.
    pub fragments: Fragments,
    /// Who has sent what.
    pub producers: Producers,
    /// Every record of the journal below this number is in here or settled.
    pub journal_next: u64,
    /// How far learning has come.
    pub progress: Progress,
    /// The version that acts.
    pub version: u64,
    /// Why nothing is learnt, if so.
    pub paused: Option<String>,
    /// Why nothing is taken in, if so.
    pub closed: Option<String>,
    /// Why nothing is taken in for want of memory, if so.
    pub guarded: Option<String>,
    /// Somebody wants a checkpoint.
    pub checkpoint_wanted: bool,
    /// The agent ends.
    pub stopping: bool,
    /// Records that a checkpoint counts as waiting and that were not read again yet: first and last of each run.
    unread: Vec<(u64, u64)>,
    episodes: Episodes,
    /// The last entry whose episodes are counted: what is read again after a restart is not counted again.
    counted: Option<EntryId>,
    traces: VecDeque<SpanContext>,
    entries: Entries,
}

/// Entries of the stream that are not acknowledged.
#[derive(Debug, Default)]
struct Entries {
    next_tag: u64,
    by_tag: HashMap<u64, EntryId>,
    pending: BTreeMap<EntryId, u64>,
    /// Settled since the last checkpoint, or not yet acknowledged.
    settled: BTreeMap<EntryId, Settlement>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settlement {
    /// Only this process knows.
    New,
    /// A checkpoint knows: it can be acknowledged.
    Durable,
}

/// What a manifest holds of the book.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Durable {
    /// The version of the policy.
    pub version: u64,
    /// Where every transition is, those that wait in the stream not counted.
    pub ledger: Ledger,
    /// Records of the journal from this number on are not in the ledger.
    pub journal_next: u64,
    /// Those below it that wait: first and last of each run.
    pub journal_pending: Vec<(u64, u64)>,
    /// What comes next from each producer.
    pub producers: Vec<producers::Saved>,
    /// Entries of the stream that are settled and perhaps not acknowledged.
    pub settled_entries: Vec<EntryId>,
    /// Episodes are counted of the stream's entries up to this one, and of the journal's records below `journal_next`, those that wait among them.
    #[serde(default)]
    pub counted_entry: Option<EntryId>,
    /// What those that wait have begun; kept as tensors.
    #[serde(skip)]
    pub episodes: Vec<UnderWay>,
}

impl Durable {
    /// Whether this record of the journal is settled.
    #[must_use]
    pub fn is_settled(&self, record: u64) -> bool {
        record < self.journal_next
            && !self
                .journal_pending
                .iter()
                .any(|&(first, last)| (first..=last).contains(&record))
    }

    /// The first record of the journal that is needed.
    #[must_use]
    pub fn journal_floor(&self) -> u64 {
        self.journal_pending
            .first()
            .map_or(self.journal_next, |&(first, _)| first)
    }
}

impl Book {
    /// A book that goes on from what a manifest holds.
    #[must_use]
    pub fn new(mut fragments: Fragments, progress: Progress, durable: &Durable) -> Self {
        fragments.restore(durable.ledger);
        let settled = durable.settled_entries.iter();
        Self {
            fragments,
            producers: Producers::restore(&durable.producers),
            journal_next: durable.journal_next,
            progress,
            version: durable.version,
            paused: None,
            closed: None,
            guarded: None,
            checkpoint_wanted: false,
            stopping: false,
            unread: durable.journal_pending.clone(),
            episodes: Episodes::restore(&durable.episodes),
            counted: durable.counted_entry,
            traces: VecDeque::with_capacity(MOST_TRACES),
            entries: Entries {
                settled: settled.map(|id| (*id, Settlement::Durable)).collect(),
                ..Entries::default()
            },
        }
    }

    /// Takes a fragment in.
    ///
    /// # Errors
    /// If there is no room.
    pub fn push(
        &mut self,
        source: Source,
        experience: &Experience,
        space: &Space,
        room: &mut Encoded,
        trace: Option<&SpanContext>,
    ) -> Result<(), Refused> {
        let tag = match source {
            Source::Journal(record) => record,
            Source::Entry(_) => STREAM | self.entries.next_tag,
        };
        let Self {
            fragments, entries, ..
        } = self;
        fragments.push(&experience.fragment(tag, space, room), |settled| {
            entries.settle(settled);
        })?;
        let new = match source {
            Source::Journal(record) => {
                let new = record >= self.journal_next;
                self.journal_next = self.journal_next.max(record + 1);
                self.unread.retain_mut(|(first, last)| {
                    *first = (*first).max(record + 1);
                    first <= last
                });
                new
            }
            Source::Entry(id) => {
                self.entries.next_tag += 1;
                self.entries.by_tag.insert(tag, id);
                self.entries.pending.insert(id, tag);
                // They are delivered in their order, also those that are delivered again.
                let new = self.counted < Some(id);
                self.counted = self.counted.max(Some(id));
                new
            }
        };
        if new {
            self.episodes.play(experience, &mut self.progress);
        }
        if let Some(trace) = trace.filter(|trace| trace.is_sampled()) {
            if self.traces.len() == MOST_TRACES {
                self.traces.pop_front();
            }
            self.traces.push_back(trace.clone());
        }
        Ok(())
    }

    /// All that was acknowledged before a restart has been read.
    pub fn recovered(&mut self) {
        self.unread.clear();
        self.closed = None;
    }

    /// Begins an update: see [`Fragments::take`].
    pub fn take(&mut self) -> usize {
        let Self {
            fragments,
            entries,
            version,
            ..
        } = self;
        fragments.take(*version, |settled| entries.settle(settled))
    }

    /// Ends it.
    pub fn finish(&mut self, fate: Fate) {
        let Self {
            fragments, entries, ..
        } = self;
        fragments.finish(fate, |settled| entries.settle(settled));
    }

    /// The contexts of what came since this was asked last, the latest last.
    pub fn take_traces(&mut self) -> Vec<SpanContext> {
        self.traces.drain(..).collect()
    }

    /// What a checkpoint must hold.
    #[must_use]
    pub fn durable(&self) -> Durable {
        let mut ledger = self.fragments.ledger();
        let mut journal_pending: Vec<(u64, u64)> = Vec::new();
        let mut records = Vec::new();
        for (tag, transitions) in self.fragments.pending() {
            if tag & STREAM == 0 {
                records.push(tag);
            } else {
                // It will be read from the stream again.
                ledger.accepted -= transitions as u64;
                ledger.pending -= transitions as u64;
            }
        }
        records.sort_unstable();
        for record in records {
            match journal_pending.last_mut() {
                Some((_, last)) if *last + 1 == record => *last = record,
                _ => journal_pending.push((record, record)),
            }
        }
        // They come after all that was read.
        journal_pending.extend(&self.unread);
        Durable {
            version: self.version,
            ledger,
            journal_next: self.journal_next,
            journal_pending,
            producers: self.producers.save(),
            settled_entries: self.entries.settled.keys().copied().collect(),
            counted_entry: self.counted,
            episodes: self.episodes.save(),
        }
    }

    /// A checkpoint holds what [`Book::durable`] gave: its settled entries can be acknowledged.
    pub fn became_durable(&mut self, durable: &Durable) {
        for id in &durable.settled_entries {
            if let Some(settlement) = self.entries.settled.get_mut(id) {
                *settlement = Settlement::Durable;
            }
        }
    }

    /// Entries that can be acknowledged, so many at most.
    #[must_use]
    pub fn acknowledgeable(&self, most: usize) -> Vec<EntryId> {
        let settled = self.entries.settled.iter();
        settled
            .filter(|(_, settlement)| **settlement == Settlement::Durable)
            .map(|(id, _)| *id)
            .take(most)
            .collect()
    }

    /// These entries were acknowledged.
    pub fn acknowledged(&mut self, ids: &[EntryId]) {
        for id in ids {
            self.entries.settled.remove(id);
        }
    }

    /// Whether this entry is here, or was: it was delivered again.
    #[must_use]
    pub fn knows(&self, id: EntryId) -> bool {
        self.entries.pending.contains_key(&id) || self.entries.settled.contains_key(&id)
    }
}

impl Entries {
    fn settle(&mut self, settled: Settled) {
        if let Some(id) = self.by_tag.remove(&settled.tag) {
            self.pending.remove(&id);
            self.settled.insert(id, Settlement::New);
        }
    }
}

/// A book that threads share.
#[derive(Debug)]
pub struct Shared {
    book: Mutex<Book>,
    /// Learning may have something to do.
    pub ready: Condvar,
    /// There may be room, for threads ...
    pub room: Condvar,
    /// ... and for tasks.
    pub roomy: Notify,
    /// A checkpoint has become durable.
    pub durable: Notify,
}

impl Shared {
    /// Shares a book.
    #[must_use]
    pub fn new(book: Book) -> Self {
        Self {
            book: Mutex::new(book),
            ready: Condvar::new(),
            room: Condvar::new(),
            roomy: Notify::new(),
            durable: Notify::new(),
        }
    }

    /// The book. A thread that panicked ends the process (`panic = "abort"`), so that nothing is ever half written in it.
    pub fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a condition is told of.
    pub fn wait<'a>(&self, on: &Condvar, book: MutexGuard<'a, Book>) -> MutexGuard<'a, Book> {
        on.wait(book).unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells everyone who waits for room.
    pub fn tell_room(&self) {
        self.room.notify_all();
        self.roomy.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
