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
}

impl Workload {
    /// What is counted as one.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Self::Path => "message",
            _ => "request",
        }
    }

    /// As it is written in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Set => "SET",
            Self::Xadd => "XADD",
            Self::Path => "XADD, XREADGROUP, XACK",
        }
    }
}

const VALUE_KEY: &str = "bench:value";
const STREAM: &str = "bench:stream";

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
            Workload::Path => Vec::new(),
        };
        Self {
            workload,
            pipeline,
            stream: format!("{STREAM}:{connection}"),
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
            Workload::Set | Workload::Xadd => (Vec::new(), 0),
            Workload::Path => {
                let stream = self.stream.as_bytes();
                (
                    command(&[b"XGROUP", b"CREATE", stream, b"g", b"$", b"MKSTREAM"]),
                    1,
                )
            }
        }
    }

    /// Appends the next batch to `out`; returns how many replies it will have, and how many requests they complete.
    pub fn next(&mut self, out: &mut Vec<u8>) -> (u32, u32) {
        if self.workload != Workload::Path {
            out.extend_from_slice(&self.fixed);
            return (self.pipeline, self.pipeline);
        }
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
                let count = self.pipeline.to_string();
                let read: [&[u8]; 9] = [
                    b"XREADGROUP",
                    b"GROUP",
                    b"g",
                    b"c",
                    b"COUNT",
                    count.as_bytes(),
                    b"STREAMS",
                    stream,
                    b">",
                ];
                encode(out, &read);
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
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
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
}
