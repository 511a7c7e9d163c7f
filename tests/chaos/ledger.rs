//! What was said to have happened: every message sent, answered and delivered, and whatever contradicts it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use redis::Value;

/// Of so many violations the text is kept.
const TOLD: usize = 50;

/// What is known of the messages of one stream. They are numbered by their only producer, and each is sent once.
#[derive(Debug, Default)]
struct Stream {
    /// Sent; the answer has not come, and may never come.
    open: BTreeSet<u64>,
    /// Answered with this id.
    stored: BTreeMap<u64, String>,
    delivered: BTreeSet<u64>,
}

#[derive(Debug, Default)]
struct Inner {
    streams: BTreeMap<String, Stream>,
    sent: u64,
    refused: u64,
    deliveries: u64,
    violations: u64,
    told: Vec<String>,
}

/// Shared by all clients.
#[derive(Debug)]
pub(crate) struct Ledger {
    began: Instant,
    inner: Mutex<Inner>,
}

/// In numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts {
    /// Messages sent.
    pub(crate) sent: u64,
    /// Of them, those that were answered with an id.
    pub(crate) stored: u64,
    /// Those that the server refused: it was loading, or no master any more.
    pub(crate) refused: u64,
    /// Those whose answer never came.
    pub(crate) open: u64,
    /// Messages that were delivered at least once.
    pub(crate) delivered: u64,
    /// Deliveries, with those that came again.
    pub(crate) deliveries: u64,
    /// What should not have happened.
    pub(crate) violations: u64,
}

impl Ledger {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            inner: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This message is about to be sent.
    pub(crate) fn sends(&self, stream: &str, number: u64) {
        let mut inner = self.lock();
        inner.sent += 1;
        let stream = inner.streams.entry(stream.to_owned()).or_default();
        stream.open.insert(number);
    }

    /// It was answered with an id.
    pub(crate) fn stored(&self, stream: &str, number: u64, id: &str) {
        let mut inner = self.lock();
        let stream = inner.streams.entry(stream.to_owned()).or_default();
        stream.open.remove(&number);
        stream.stored.insert(number, id.to_owned());
    }

    /// It was answered with an error that says that it is not stored.
    pub(crate) fn refused(&self, stream: &str, number: u64) {
        let mut inner = self.lock();
        inner.refused += 1;
        let stream = inner.streams.entry(stream.to_owned()).or_default();
        stream.open.remove(&number);
    }

    /// It reached a consumer, unaltered.
    pub(crate) fn delivered(&self, stream: &str, number: u64, id: &str) {
        let mut inner = self.lock();
        inner.deliveries += 1;
        let entry = inner.streams.entry(stream.to_owned()).or_default();
        entry.delivered.insert(number);
        let other = entry
            .stored
            .get(&number)
            .filter(|known| *known != id)
            .cloned();
        drop(inner);
        if let Some(known) = other {
            self.violation(format!(
                "{stream} {number}: answered as {known}, delivered as {id}"
            ));
        }
    }

    /// Something that should not have happened.
    pub(crate) fn violation(&self, what: impl Into<String>) {
        let what = what.into();
        let at = self.began.elapsed().as_secs_f64();
        let mut inner = self.lock();
        inner.violations += 1;
        if inner.told.len() < TOLD {
            inner.told.push(format!("{at:8.3} s  {what}"));
        }
    }

    /// All streams that something was sent to.
    pub(crate) fn streams(&self) -> Vec<String> {
        self.lock().streams.keys().cloned().collect()
    }

    /// Holds what a stream holds in the end, ids and numbers, against what was answered and delivered.
    pub(crate) fn compare(&self, name: &str, held: &[(String, u64)]) {
        let mut wrong = Vec::new();
        {
            let inner = self.lock();
            let Some(stream) = inner.streams.get(name) else {
                return;
            };
            let mut seen = BTreeMap::new();
            for (id, number) in held {
                if let Some(before) = seen.insert(*number, id) {
                    wrong.push(format!("{name} {number} is there twice: {before}, {id}"));
                }
                if !stream.stored.contains_key(number) && !stream.open.contains(number) {
                    wrong.push(format!("{name} {number} ({id}) is there, but was refused"));
                }
                if !stream.delivered.contains(number) {
                    wrong.push(format!("{name} {number} ({id}) was never delivered"));
                }
            }
            for (number, id) in &stream.stored {
                match seen.get(number) {
                    None => wrong.push(format!("{name} {number} ({id}) was answered, and is lost")),
                    Some(held) if *held != id => {
                        wrong.push(format!("{name} {number} was answered as {id}, is {held}"));
                    }
                    Some(_) => {}
                }
            }
        }
        for what in wrong {
            self.violation(what);
        }
    }

    /// In numbers.
    pub(crate) fn counts(&self) -> Counts {
        let inner = self.lock();
        let sum = |of: fn(&Stream) -> usize| inner.streams.values().map(of).sum::<usize>() as u64;
        Counts {
            sent: inner.sent,
            stored: sum(|stream| stream.stored.len()),
            refused: inner.refused,
            open: sum(|stream| stream.open.len()),
            delivered: sum(|stream| stream.delivered.len()),
            deliveries: inner.deliveries,
            violations: inner.violations,
        }
    }

    /// The first violations, with the time since the start.
    pub(crate) fn told(&self) -> Vec<String> {
        self.lock().told.clone()
    }
}

/// The payload of a message: anyone can say what it must be.
pub(crate) fn payload(stream: &str, number: u64) -> Vec<u8> {
    let seed = stream.bytes().fold(number, |seed, byte| {
        (seed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    // Most are small; some take several reads.
    let length = match next() % 200 {
        0 => 20_000 + next() % 100_000,
        1..=10 => next() % 5_000,
        _ => next() % 120,
    };
    // Any byte, line ends among them.
    (0..length).map(|_| next().to_le_bytes()[0]).collect()
}

/// Reads an entry: its id, its number, and whether its fields are what was sent. `added` fields may follow.
pub(crate) fn entry(stream: &str, entry: &Value, added: bool) -> Result<(String, u64), String> {
    let wrong = || format!("{stream}: not an entry that was sent: {}", short(entry));
    let Value::Array(parts) = entry else {
        return Err(wrong());
    };
    let [Value::BulkString(id), Value::Array(fields)] = &parts[..] else {
        return Err(wrong());
    };
    let fields: Option<Vec<&[u8]>> = fields
        .iter()
        .map(|field| match field {
            Value::BulkString(bytes) => Some(bytes.as_slice()),
            _ => None,
        })
        .collect();
    let (number, data) = match fields.as_deref() {
        Some([b"n", number, b"data", data]) => (number, data),
        Some([b"n", number, b"data", data, b"traceparent", context])
            if added && context.len() == 55 =>
        {
            (number, data)
        }
        _ => return Err(wrong()),
    };
    let number = std::str::from_utf8(number)
        .ok()
        .and_then(|text| text.parse().ok());
    let number: u64 = number.ok_or_else(wrong)?;
    if payload(stream, number) != *data {
        return Err(format!("{stream} {number}: its data was altered"));
    }
    Ok((String::from_utf8_lossy(id).into_owned(), number))
}

/// A value for a line of text: its beginning and its end.
pub(crate) fn short(value: &Value) -> String {
    let text: Vec<char> = format!("{value:?}").chars().collect();
    match (text.first_chunk::<200>(), text.last_chunk::<150>()) {
        (Some(first), Some(last)) if text.len() > 350 => {
            first.iter().chain(&[' ', '…', ' ']).chain(last).collect()
        }
        _ => text.into_iter().collect(),
    }
}
