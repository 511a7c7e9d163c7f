//! Messages that were delivered and are not settled, over all connections of the process.
//!
//! A message is known by what Redis knows it by: server, database, stream, group, entry ID. The table is bounded; when it
//! is full the oldest delivery ends, counted. One short lock: nothing is awaited or allocated in bulk while it is held.

use std::hash::BuildHasher as _;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;
use prometheus::{IntCounter, IntGauge};

use crate::metrics::GroupMetrics;
use crate::trace::context::{SpanContext, SpanId, TraceState};
use crate::trace::span::{Endpoint, EntryId, Link, Operation, Outcome, Span};

/// Groups without unsettled deliveries that are remembered, so that their counters need not be looked up each time.
const MAX_IDLE_GROUPS: usize = 1024;

/// An entry ID holds a clock only if the server made it. An age beyond a day is taken for an ID of the producer's choice.
const MAX_AGE_MS: u64 = 24 * 60 * 60 * 1000;

/// Keys and names up to this length are kept as they are; a key of megabytes would be kept for as long as its group.
const MAX_KEPT_NAME: usize = 1024;

/// No slot.
const NONE: u32 = u32::MAX;

/// One delivery of one message, until it is settled.
#[derive(Debug)]
pub struct Attempt {
    /// The `process` span's context; its sampled flag says whether there will be a span.
    pub context: SpanContext,
    /// The span's parent.
    pub parent: Option<SpanId>,
    /// What travels with the trace.
    pub trace_state: TraceState,
    /// The listener that delivered it.
    pub endpoint: Arc<Endpoint>,
    /// The stream.
    pub stream: Arc<str>,
    /// The group.
    pub group: Arc<str>,
    /// The consumer.
    pub consumer: Arc<str>,
    /// How often the message has been delivered, this time included.
    pub count: Option<NonZeroU32>,
    /// Links of the span.
    pub links: Vec<Link>,
    /// When it was delivered, Unix time in nanoseconds.
    pub start: u64,
}

impl Attempt {
    fn finish(self, id: EntryId, end: u64, outcome: Outcome) -> Option<Span> {
        self.context.flags.sampled().then_some(Span {
            context: self.context,
            parent: self.parent,
            trace_state: self.trace_state,
            operation: Operation::Process,
            endpoint: self.endpoint,
            stream: self.stream,
            group: Some(self.group),
            consumer: Some(self.consumer),
            message: Some(id),
            delivery_count: self.count,
            batch: None,
            inferred: false,
            start: self.start,
            end,
            outcome,
            links: self.links,
        })
    }
}

/// Names one delivery, also after it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    slot: u32,
    generation: u32,
}

/// Which group of which stream, where.
#[derive(Clone, Copy, Debug)]
pub struct GroupKey<'a> {
    /// Number of the upstream.
    pub upstream: u32,
    /// SELECTed database.
    pub database: u32,
    /// The stream's key.
    pub stream: &'a [u8],
    /// The group's name.
    pub group: &'a [u8],
}

impl GroupKey<'_> {
    /// Names the group. Of a key or a name that is too long to be kept, its length and a digest of 128 bits stand for it.
    fn write(&self, out: &mut Vec<u8>, digests: &[foldhash::quality::RandomState; 2]) {
        out.clear();
        out.extend_from_slice(&self.upstream.to_ne_bytes());
        out.extend_from_slice(&self.database.to_ne_bytes());
        for name in [self.stream, self.group] {
            out.extend_from_slice(&name.len().to_ne_bytes());
            if name.len() <= MAX_KEPT_NAME {
                out.extend_from_slice(name);
            } else {
                for digest in digests {
                    out.extend_from_slice(&digest.hash_one(name).to_ne_bytes());
                }
            }
        }
    }
}

/// The table.
pub struct Deliveries {
    table: Mutex<Table>,
}

/// The table, locked.
pub struct Table {
    groups: Vec<Group>,
    free_groups: Vec<u32>,
    group_index: HashMap<Box<[u8]>, u32, foldhash::quality::RandomState>,
    slots: Vec<Slot>,
    free_slots: Vec<u32>,
    index: HashMap<(u32, EntryId), u32, foldhash::quality::RandomState>,
    /// Ends of the list of slots in the order of delivery.
    oldest: u32,
    newest: u32,
    bound: usize,
    gauge: IntGauge,
    evicted: IntCounter,
    /// Groups without unsettled deliveries.
    idle_groups: usize,
    /// Stand in for keys that are too long to be kept.
    digests: [foldhash::quality::RandomState; 2],
    scratch: Vec<u8>,
}

struct Group {
    key: Box<[u8]>,
    metrics: GroupMetrics,
    live: u32,
}

struct Slot {
    generation: u32,
    group: u32,
    older: u32,
    newer: u32,
    id: EntryId,
    /// A settling command is under way: for inference the message counts as settled.
    settling: bool,
    attempt: Option<Attempt>,
}

/// A group of the table; good until the table is unlocked.
#[derive(Clone, Copy, Debug)]
pub struct GroupRef(u32);

impl Deliveries {
    /// An empty table of at most `bound` deliveries.
    #[must_use]
    pub fn new(bound: usize, gauge: IntGauge, evicted: IntCounter) -> Self {
        Self {
            table: Mutex::new(Table {
                groups: Vec::new(),
                free_groups: Vec::new(),
                group_index: HashMap::default(),
                slots: Vec::new(),
                free_slots: Vec::new(),
                index: HashMap::default(),
                oldest: NONE,
                newest: NONE,
                bound: bound.max(1),
                gauge,
                evicted,
                idle_groups: 0,
                digests: Default::default(),
                scratch: Vec::new(),
            }),
        }
    }

    /// Locks the table.
    pub fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// The group of this key, if it has been met.
    #[must_use]
    pub fn find(&mut self, key: GroupKey<'_>) -> Option<GroupRef> {
        key.write(&mut self.scratch, &self.digests);
        self.group_index
            .get(self.scratch.as_slice())
            .map(|group| GroupRef(*group))
    }

    /// The group of this key; `metrics` makes its counters if it is new.
    pub fn group(&mut self, key: GroupKey<'_>, metrics: impl FnOnce() -> GroupMetrics) -> GroupRef {
        if let Some(group) = self.find(key) {
            return group;
        }
        if self.idle_groups >= MAX_IDLE_GROUPS {
            self.forget_idle_groups();
        }
        self.idle_groups += 1;
        let key: Box<[u8]> = self.scratch.as_slice().into();
        let group = Group {
            key: key.clone(),
            metrics: metrics(),
            live: 0,
        };
        let at = if let Some(at) = self.free_groups.pop()
            && let Some(free) = self.groups.get_mut(at as usize)
        {
            *free = group;
            at
        } else {
            self.groups.push(group);
            index_of(self.groups.len() - 1)
        };
        self.group_index.insert(key, at);
        GroupRef(at)
    }

    fn forget_idle_groups(&mut self) {
        self.idle_groups = 0;
        let Self {
            groups,
            group_index,
            free_groups,
            ..
        } = self;
        group_index.retain(|_, at| {
            let idle = groups.get(*at as usize).is_none_or(|group| group.live == 0);
            if idle {
                free_groups.push(*at);
                if let Some(group) = groups.get_mut(*at as usize) {
                    group.key = Box::default();
                }
            }
            !idle
        });
    }

    /// A message was delivered. `attempt` is made in knowledge of the delivery before, if that is not settled: it ends as
    /// superseded. Ended spans go to `out`.
    pub fn deliver(
        &mut self,
        group: GroupRef,
        id: EntryId,
        now: u64,
        attempt: impl FnOnce(Option<&Attempt>) -> Attempt,
        out: &mut Vec<Span>,
    ) -> Token {
        let before = self.index.get(&(group.0, id)).copied();
        let previous = before.and_then(|slot| self.slots.get(slot as usize)?.attempt.as_ref());
        let again = previous.is_some();
        let attempt = attempt(previous);
        let again = again || attempt.count.is_some_and(|count| count.get() > 1);
        if let Some(slot) = before {
            self.end(slot, now, Outcome::Superseded, out);
        }
        if self.index.len() >= self.bound {
            self.evicted.inc();
            self.end(self.oldest, now, Outcome::Evicted, out);
        }
        if let Some(group) = self.groups.get_mut(group.0 as usize) {
            if group.live == 0 {
                self.idle_groups = self.idle_groups.saturating_sub(1);
            }
            group.live += 1;
            group.metrics.delivered.inc();
            if again {
                group.metrics.redelivered.inc();
            } else if let Some(age) = (now / 1_000_000)
                .checked_sub(id.ms)
                .filter(|age| *age < MAX_AGE_MS)
            {
                #[allow(clippy::cast_precision_loss)]
                group.metrics.delivery.observe(age as f64 / 1e3);
            }
        }
        let slot = Slot {
            generation: 0,
            group: group.0,
            older: self.newest,
            newer: NONE,
            id,
            settling: false,
            attempt: Some(attempt),
        };
        let at = if let Some(at) = self.free_slots.pop()
            && let Some(free) = self.slots.get_mut(at as usize)
        {
            *free = Slot {
                generation: free.generation.wrapping_add(1),
                ..slot
            };
            at
        } else {
            self.slots.push(slot);
            index_of(self.slots.len() - 1)
        };
        match self.slots.get_mut(self.newest as usize) {
            Some(newest) => newest.newer = at,
            None => self.oldest = at,
        }
        self.newest = at;
        self.index.insert((group.0, id), at);
        self.gauge
            .set(i64::try_from(self.index.len()).unwrap_or(i64::MAX));
        Token {
            slot: at,
            generation: self
                .slots
                .get(at as usize)
                .map_or(0, |slot| slot.generation),
        }
    }

    /// A message without a `process` span was delivered (NOACK, no group): it is counted only.
    pub fn count_delivered(&self, group: GroupRef, id: EntryId, now: u64) {
        let Some(group) = self.groups.get(group.0 as usize) else {
            return;
        };
        group.metrics.delivered.inc();
        if let Some(age) = (now / 1_000_000)
            .checked_sub(id.ms)
            .filter(|age| *age < MAX_AGE_MS)
        {
            #[allow(clippy::cast_precision_loss)]
            group.metrics.delivery.observe(age as f64 / 1e3);
        }
    }

    /// A message was settled. False if its delivery is not known here.
    pub fn settle(
        &mut self,
        group: GroupRef,
        id: EntryId,
        now: u64,
        outcome: Outcome,
        out: &mut Vec<Span>,
    ) -> bool {
        let Some(slot) = self.index.get(&(group.0, id)).copied() else {
            return false;
        };
        self.end(slot, now, outcome, out);
        true
    }

    /// A command that settles this message is on its way: it is not a parent any more. Or it was refused: it is again.
    pub fn settling(&mut self, group: GroupRef, id: EntryId, settling: bool) {
        if let Some(slot) = self.index.get(&(group.0, id))
            && let Some(slot) = self.slots.get_mut(*slot as usize)
        {
            slot.settling = settling;
        }
    }

    /// Whether the delivery is unsettled, and nothing that would settle it has been sent.
    #[must_use]
    pub fn is_open(&self, token: Token) -> bool {
        self.slots.get(token.slot as usize).is_some_and(|slot| {
            slot.generation == token.generation && slot.attempt.is_some() && !slot.settling
        })
    }

    /// Ends every delivery that began before `before`: they come in the order of their ages.
    pub fn expire(&mut self, before: u64, now: u64, out: &mut Vec<Span>) {
        while let Some(slot) = self.slots.get(self.oldest as usize)
            && slot
                .attempt
                .as_ref()
                .is_none_or(|attempt| attempt.start < before)
        {
            self.end(self.oldest, now, Outcome::Timeout, out);
        }
    }

    /// Ends all: the process is about to.
    pub fn drain(&mut self, now: u64, out: &mut Vec<Span>) {
        while self.oldest != NONE {
            self.end(self.oldest, now, Outcome::Drained, out);
        }
    }

    /// Number of unsettled deliveries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    fn end(&mut self, at: u32, now: u64, outcome: Outcome, out: &mut Vec<Span>) {
        let Some(slot) = self.slots.get_mut(at as usize) else {
            return;
        };
        let (group, id, older, newer) = (slot.group, slot.id, slot.older, slot.newer);
        let Some(attempt) = slot.attempt.take() else {
            return;
        };
        match self.slots.get_mut(older as usize) {
            Some(older) => older.newer = newer,
            None => self.oldest = newer,
        }
        match self.slots.get_mut(newer as usize) {
            Some(newer) => newer.older = older,
            None => self.newest = older,
        }
        self.index.remove(&(group, id));
        self.free_slots.push(at);
        self.gauge
            .set(i64::try_from(self.index.len()).unwrap_or(i64::MAX));
        if let Some(group) = self.groups.get_mut(group as usize) {
            group.live = group.live.saturating_sub(1);
            if group.live == 0 {
                self.idle_groups += 1;
            }
            group.metrics.ended(match &outcome {
                Outcome::Error(_) => "failed",
                Outcome::Timeout => "timeout",
                other => other.label().unwrap_or("settled"),
            });
            if matches!(outcome, Outcome::Settled | Outcome::Uncertain) {
                #[allow(clippy::cast_precision_loss)]
                group
                    .metrics
                    .processing
                    .observe(now.saturating_sub(attempt.start) as f64 / 1e9);
            }
        }
        out.extend(attempt.finish(id, now, outcome));
    }
}

/// Slots and groups are far fewer than `u32` can count.
fn index_of(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(NONE)
}

#[cfg(test)]
mod tests;
