//! What a connection says over and over: batches of commands.

use serde::{Deserialize, Serialize};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Workload {
    /// GET of one value.
    Get,
    /// SET of one value.
    Set,
    /// XADD of one field.
    Xadd,
    /// A message's whole way: XADD, XREADGROUP, XACK.
    Path,
    /// XRANGE of a batch of the entries that [`entries`] made.
    Xrange,
    /// XREADGROUP of such a batch.
    Xreadgroup,
}

impl Workload {
    /// What is counted as one.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Self::Path => "message",
            Self::Xrange | Self::Xreadgroup => "entry",
            _ => "request",
        }
    }

    /// Whether it needs consumer groups.
    #[must_use]
    pub fn has_groups(self) -> bool {
        matches!(self, Self::Path | Self::Xreadgroup)
    }

    /// As it is written in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Set => "SET",
            Self::Xadd => "XADD",
            Self::Path => "XADD, XREADGROUP, XACK",
            Self::Xrange => "XRANGE",
            Self::Xreadgroup => "XREADGROUP",
        }
    }
}

const VALUE_KEY: &str = "bench:value";
/// What XADD writes to.
pub const STREAM: &str = "bench:stream";

/// Sends batches, each once the replies to the one before it are there.
#[derive(Debug)]
pub struct Script {
    workload: Workload,
    pipeline: u32,
    stream: String,
    value: Vec<u8>,
    /// A batch of what never changes, made once.
    fixed: Vec<u8>,
    /// Where a message's way is: sent, read or acknowledged.
    step: u8,
    /// The number of the next message.
    message: u64,
}

impl Script {
    /// What connection number `connection` says, in batches of `pipeline`.
    #[must_use]
    pub fn new(workload: Workload, value_bytes: usize, pipeline: u32, connection: usize) -> Self {
        let value = value(value_bytes);
        let one: Vec<u8> = match workload {
            Workload::Get => command(&[b"GET", VALUE_KEY.as_bytes()]),
            Workload::Set => command(&[b"SET", VALUE_KEY.as_bytes(), &value]),
            Workload::Xadd => command(&[b"XADD", STREAM.as_bytes(), b"*", b"data", &value]),
            Workload::Path | Workload::Xrange | Workload::Xreadgroup => Vec::new(),
        };
        Self {
            workload,
            pipeline,
            stream: match workload {
                Workload::Xrange | Workload::Xreadgroup => stored(value_bytes),
                _ => format!("{STREAM}:{connection}"),
            },
            value,
            fixed: one.repeat(pipeline as usize),
            step: 0,
            message: 0,
        }
    }

    /// The commands that must have been answered before the first batch.
    #[must_use]
    pub fn prepare(&self) -> (Vec<u8>, u32) {
        match self.workload {
            Workload::Get => (command(&[b"SET", VALUE_KEY.as_bytes(), &self.value]), 1),
            // A proxy may reach for its server after it has accepted.
            Workload::Set | Workload::Xadd | Workload::Xrange => (command(&[b"PING"]), 1),
            Workload::Path => {
                let stream = self.stream.as_bytes();
                (
                    command(&[b"XGROUP", b"CREATE", stream, b"g", b"$", b"MKSTREAM"]),
                    1,
                )
            }
            Workload::Xreadgroup => {
                let stream = self.stream.as_bytes();
                let mut out = command(&[b"XGROUP", b"DESTROY", stream, b"g"]);
                encode(&mut out, &[b"XGROUP", b"CREATE", stream, b"g", b"0"]);
                (out, 2)
            }
        }
    }

    /// Appends the next batch to `out`; returns how many replies it will have, and how many requests they complete.
    pub fn next(&mut self, out: &mut Vec<u8>) -> (u32, u32) {
        let stream = self.stream.as_bytes();
        match self.workload {
            Workload::Path => self.next_step(out),
            Workload::Xreadgroup => {
                read(out, stream, self.pipeline);
                (1, self.pipeline)
            }
            Workload::Xrange => {
                let first = self.message;
                self.message += u64::from(self.pipeline);
                let (first, last) = (stored_id(first), stored_id(self.message - 1));
                encode(out, &[b"XRANGE", stream, first.as_bytes(), last.as_bytes()]);
                (1, self.pipeline)
            }
            Workload::Get | Workload::Set | Workload::Xadd => {
                out.extend_from_slice(&self.fixed);
                (self.pipeline, self.pipeline)
            }
        }
    }

    /// The next batch of a message's way.
    fn next_step(&mut self, out: &mut Vec<u8>) -> (u32, u32) {
        let stream = self.stream.as_bytes();
        let first = self.message + 1;
        let last = self.message + u64::from(self.pipeline);
        let step = self.step;
        self.step = (self.step + 1) % 3;
        match step {
            0 => {
                for message in first..=last {
                    let id = format!("{message}-1");
                    encode(out, &[b"XADD", stream, id.as_bytes(), b"data", &self.value]);
                }
                (self.pipeline, 0)
            }
            1 => {
                read(out, stream, self.pipeline);
                (1, 0)
            }
            _ => {
                for message in first..=last {
                    let id = format!("{message}-1");
                    encode(out, &[b"XACK", stream, b"g", id.as_bytes()]);
                }
                self.message = last;
                (self.pipeline, self.pipeline)
            }
        }
    }
}

/// Reads as many new messages for the group.
fn read(out: &mut Vec<u8>, stream: &[u8], messages: u32) {
    let count = messages.to_string();
    let count = count.as_bytes();
    encode(
        out,
        &[
            b"XREADGROUP",
            b"GROUP",
            b"g",
            b"c",
            b"COUNT",
            count,
            b"STREAMS",
            stream,
            b">",
        ],
    );
}

/// The stream of the stored entries with values of this size.
fn stored(value_bytes: usize) -> String {
    format!("bench:entries:{value_bytes}")
}

/// The id of a stored entry: of the same length for all.
fn stored_id(entry: u64) -> String {
    format!("{}-1", 1_000_000_000 + entry)
}

/// The commands that store entries with values of this size, each with a sampled context of its own, as producers that are traced
/// leave them.
pub fn entries(value_bytes: usize, numbers: std::ops::Range<u64>) -> Vec<u8> {
    let (stream, value) = (stored(value_bytes), value(value_bytes));
    let mut out = Vec::new();
    for number in numbers {
        let (id, context) = (stored_id(number), context(number));
        let fields: [&[u8]; 4] = [b"data", &value, b"traceparent", context.as_bytes()];
        let [data, value, name, context] = fields;
        let (stream, id) = (stream.as_bytes(), id.as_bytes());
        encode(&mut out, &[b"XADD", stream, id, data, value, name, context]);
    }
    out
}

/// Bytes of such an entry in a reply.
#[must_use]
pub fn entry_bytes(value_bytes: usize) -> usize {
    let mut out = b"*2\r\n".to_vec();
    bulk(&mut out, stored_id(0).as_bytes());
    let (value, context) = (value(value_bytes), context(0));
    encode(
        &mut out,
        &[b"data", &value, b"traceparent", context.as_bytes()],
    );
    out.len()
}

fn context(number: u64) -> String {
    // Spread over all bits, and never zero, which would be invalid.
    let spread = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let (high, low) = (spread(number + 1), spread(number + 2));
    format!("00-{high:016x}{low:016x}-{low:016x}-01")
}

/// Printable bytes that no compression makes small.
fn value(bytes: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        b'a' + u8::try_from((state >> 24) % 26).unwrap_or(0)
    };
    (0..bytes).map(|_| next()).collect()
}

/// One command as an array of bulk strings.
#[must_use]
pub fn command(args: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out, args);
    out
}

fn encode(out: &mut Vec<u8>, args: &[&[u8]]) {
    out.extend_from_slice(format!("*{}\r\n", args.len()).as_bytes());
    for arg in args {
        bulk(out, arg);
    }
}

fn bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(format!("${}\r\n", bytes.len()).as_bytes());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_pipelines_of_commands() {
        let mut script = Script::new(Workload::Set, 3, 2, 0);
        let mut out = Vec::new();
        assert_eq!(script.next(&mut out), (2, 2));
        let one = "*3\r\n$3\r\nSET\r\n$11\r\nbench:value\r\n$3\r\n";
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with(one), "{text}");
        assert_eq!(text.matches(one).count(), 2);
    }

    #[test]
    fn a_message_goes_its_way_in_three_batches() {
        let mut script = Script::new(Workload::Path, 3, 2, 7);
        let mut batch = || {
            let mut out = Vec::new();
            let counts = script.next(&mut out);
            (counts, String::from_utf8(out).unwrap())
        };
        let (counts, text) = batch();
        assert_eq!(counts, (2, 0));
        assert!(text.contains("1-1") && text.contains("2-1"), "{text}");
        let (counts, text) = batch();
        assert_eq!(counts, (1, 0));
        assert!(text.contains("XREADGROUP"), "{text}");
        let (counts, text) = batch();
        assert_eq!(counts, (2, 2));
        assert!(text.contains("XACK") && text.contains("2-1"), "{text}");
        assert!(batch().1.contains("3-1"));
    }

    #[test]
    fn stored_entries_are_read_one_batch_after_the_other() {
        let mut script = Script::new(Workload::Xrange, 875, 10, 0);
        let mut out = Vec::new();
        assert_eq!(script.next(&mut out), (1, 10));
        assert_eq!(script.next(&mut out), (1, 10));
        let text = String::from_utf8(out).unwrap();
        for id in [
            "1000000000-1",
            "1000000009-1",
            "1000000010-1",
            "1000000019-1",
        ] {
            assert_eq!(text.matches(id).count(), 1, "{id} in {text}");
        }
        assert_eq!((entry_bytes(875), entry_bytes(76)), (1000, 200));
        let stored = String::from_utf8(entries(76, 0..2)).unwrap();
        assert_eq!(stored.matches("$55\r\n00-").count(), 2, "{stored}");
    }
}
