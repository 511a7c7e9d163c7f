//! A Redis of one connection, as far as streams, transactions, subscriptions and the framing of replies go.

use std::collections::{BTreeMap, BTreeSet};

use redis_protocol::resp2::decode::decode;
use redis_protocol::resp2::types::OwnedFrame;

use crate::trace::span::EntryId;

type Args = Vec<Vec<u8>>;
/// Name and value in turn.
type Fields = Vec<Vec<u8>>;
type Entries = Vec<(EntryId, Fields)>;

#[derive(Default)]
pub struct Server {
    input: Vec<u8>,
    out: Vec<u8>,
    pub resp3: bool,
    pub multi: Option<Vec<Args>>,
    dirty: bool,
    pub channels: BTreeSet<Vec<u8>>,
    pub patterns: BTreeSet<Vec<u8>>,
    pub reply: Mode,
    pub streams: BTreeMap<Vec<u8>, Entries>,
    groups: BTreeMap<(Vec<u8>, Vec<u8>), Group>,
    clock: u64,
    /// The commands that were answered, as they came.
    pub seen: Vec<Args>,
}

#[derive(Default)]
struct Group {
    read: usize,
    pending: BTreeMap<EntryId, u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    #[default]
    On,
    Off,
    SkipNext,
    Skip,
}

/// Decodes one command as a server does; none if it is not whole.
pub fn parse(bytes: &[u8]) -> Option<(Args, usize)> {
    if bytes.first() != Some(&b'*') {
        let end = bytes.iter().position(|b| *b == b'\n')?;
        let words = bytes[..end]
            .split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty());
        return Some((words.map(<[u8]>::to_vec).collect(), end + 1));
    }
    let line = bytes.iter().position(|b| *b == b'\n')? + 1;
    if bytes.starts_with(b"*0") || bytes.starts_with(b"*-") {
        return Some((Vec::new(), line));
    }
    let (frame, length) = decode(bytes).unwrap()?;
    let OwnedFrame::Array(frames) = frame else {
        panic!("a command is an array")
    };
    let text = |frame| match frame {
        OwnedFrame::BulkString(text) => text,
        other => panic!("{other:?} is no argument"),
    };
    Some((frames.into_iter().map(text).collect(), length))
}

impl Server {
    /// Answers what has come.
    pub fn answer(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.input.extend_from_slice(bytes);
        let input = std::mem::take(&mut self.input);
        let mut at = 0;
        while let Some((args, length)) = parse(&input[at..]) {
            at += length;
            if !args.is_empty() {
                self.command(&args);
                self.seen.push(args);
            }
        }
        self.input = input[at..].to_vec();
        std::mem::take(&mut self.out)
    }

    fn command(&mut self, args: &Args) {
        let name = String::from_utf8_lossy(&args[0]).to_uppercase();
        let before = self.out.len();
        let allowed = [
            "SUBSCRIBE",
            "PSUBSCRIBE",
            "UNSUBSCRIBE",
            "PUNSUBSCRIBE",
            "PING",
            "RESET",
        ];
        if self.is_subscriber() && !allowed.contains(&&*name) {
            self.error("ERR Can't execute: only (P|S)SUBSCRIBE are allowed in this context");
        } else if let Some(queue) = &mut self.multi
            && !["EXEC", "DISCARD", "MULTI", "WATCH", "RESET"].contains(&&*name)
        {
            if name == "NOSUCH" {
                self.dirty = true;
                self.error("ERR unknown command 'NOSUCH'");
            } else {
                queue.push(args.clone());
                self.out.extend_from_slice(b"+QUEUED\r\n");
            }
        } else {
            self.execute(&name, args);
        }
        match self.reply {
            Mode::On => {}
            Mode::Off | Mode::Skip => self.out.truncate(before),
            Mode::SkipNext => {}
        }
        self.reply = match self.reply {
            Mode::SkipNext => Mode::Skip,
            Mode::Skip => Mode::On,
            other => other,
        };
    }

    fn execute(&mut self, name: &str, args: &Args) {
        match name {
            "PING" if self.is_subscriber() => {
                self.out
                    .extend_from_slice(b"*2\r\n$4\r\npong\r\n$0\r\n\r\n");
            }
            "PING" => self.out.extend_from_slice(b"+PONG\r\n"),
            // GET n: a value of n bytes, whatever the key.
            "GET" => {
                let length = number(&args[1]);
                self.bulk(&vec![b'\n'; length]);
            }
            "LRANGE" => {
                self.array(3);
                self.bulk(b"message");
                self.bulk(b"ch");
                self.bulk(b"text");
            }
            "MULTI" if self.multi.is_some() => self.error("ERR MULTI calls can not be nested"),
            "MULTI" => {
                self.multi = Some(Vec::new());
                self.dirty = false;
                self.ok();
            }
            "WATCH" if self.multi.is_some() => self.error("ERR WATCH inside MULTI is not allowed"),
            "DISCARD" => match self.multi.take() {
                Some(_) => self.ok(),
                None => self.error("ERR DISCARD without MULTI"),
            },
            "EXEC" => match self.multi.take() {
                None => self.error("ERR EXEC without MULTI"),
                Some(_) if self.dirty => self.error("EXECABORT Transaction discarded"),
                Some(queue) => {
                    self.array(queue.len());
                    for args in queue {
                        let name = String::from_utf8_lossy(&args[0]).to_uppercase();
                        self.execute(&name, &args);
                    }
                }
            },
            "RESET" => {
                self.multi = None;
                self.resp3 = false;
                self.channels.clear();
                self.patterns.clear();
                self.out.extend_from_slice(b"+RESET\r\n");
            }
            "HELLO" => match args.get(1).map(Vec::as_slice) {
                Some(b"2") | Some(b"3") | None => {
                    self.resp3 = args.get(1).map_or(self.resp3, |version| version == b"3");
                    self.map(2);
                    self.bulk(b"server");
                    self.bulk(b"redis");
                    self.bulk(b"modules");
                    self.array(0);
                }
                _ => self.error("NOPROTO unsupported protocol version"),
            },
            "CLIENT" => match args.get(2).map(|mode| mode.to_ascii_uppercase()).as_deref() {
                Some(b"ON") => {
                    self.reply = Mode::On;
                    self.ok();
                }
                Some(b"OFF") => self.reply = Mode::Off,
                Some(b"SKIP") => {
                    if self.reply != Mode::Off {
                        self.reply = Mode::SkipNext;
                    }
                }
                _ => self.ok(),
            },
            "SUBSCRIBE" => self.subscriptions(args, "subscribe"),
            "PSUBSCRIBE" => self.subscriptions(args, "psubscribe"),
            "UNSUBSCRIBE" => self.subscriptions(args, "unsubscribe"),
            "PUNSUBSCRIBE" => self.subscriptions(args, "punsubscribe"),
            "XADD" => self.xadd(args),
            "XRANGE" => {
                let entries = self.streams.get(&args[1]).cloned().unwrap_or_default();
                self.entries(&entries);
            }
            "XREAD" => {
                let entries = self.streams.get(&args[2]).cloned().unwrap_or_default();
                self.streams_reply(vec![(args[2].clone(), entries)]);
            }
            "XREADGROUP" => self.xreadgroup(args),
            "XACK" => {
                let group = self
                    .groups
                    .entry((args[1].clone(), args[2].clone()))
                    .or_default();
                let count = args[3..]
                    .iter()
                    .filter(|id| {
                        EntryId::parse(id).is_some_and(|id| group.pending.remove(&id).is_some())
                    })
                    .count();
                self.out
                    .extend_from_slice(format!(":{count}\r\n").as_bytes());
            }
            "XAUTOCLAIM" => {
                let group = self
                    .groups
                    .entry((args[1].clone(), args[2].clone()))
                    .or_default();
                group.pending.values_mut().for_each(|count| *count += 1);
                let ids: Vec<EntryId> = group.pending.keys().copied().collect();
                let entries: Vec<_> = self
                    .streams
                    .get(&args[1])
                    .into_iter()
                    .flatten()
                    .filter(|(id, _)| ids.contains(id))
                    .cloned()
                    .collect();
                self.array(3);
                self.bulk(b"0-0");
                self.entries(&entries);
                self.array(0);
            }
            "SELECT" | "SET" => self.ok(),
            other => self.error(&format!("ERR unknown command '{other}'")),
        }
    }

    fn xadd(&mut self, args: &Args) {
        let mut i = 2;
        let mut make = true;
        while i < args.len() {
            match args[i].to_ascii_uppercase().as_slice() {
                b"NOMKSTREAM" => {
                    make = false;
                    i += 1;
                }
                b"MAXLEN" | b"MINID" => {
                    i += if matches!(args[i + 1].as_slice(), b"~" | b"=") {
                        3
                    } else {
                        2
                    }
                }
                b"LIMIT" => i += 2,
                _ => break,
            }
        }
        let fields = args.get(i + 1..).unwrap_or_default();
        if fields.len() < 2 || !fields.len().is_multiple_of(2) {
            return self.error("ERR wrong number of arguments for 'xadd' command");
        }
        if !make && !self.streams.contains_key(&args[1]) {
            return self.null();
        }
        self.clock += 1;
        let id = match args[i].as_slice() {
            b"*" => EntryId {
                ms: self.clock,
                seq: 0,
            },
            id => match EntryId::parse(id) {
                Some(id) => id,
                None => {
                    return self
                        .error("ERR Invalid stream ID specified as stream command argument");
                }
            },
        };
        let stream = self.streams.entry(args[1].clone()).or_default();
        if stream.last().is_some_and(|(last, _)| *last >= id) {
            return self.error(
                "ERR The ID specified in XADD is equal or smaller than the target stream top item",
            );
        }
        self.clock = self.clock.max(id.ms);
        stream.push((id, fields.to_vec()));
        self.bulk(id.to_string().as_bytes());
    }

    /// XREADGROUP GROUP g c COUNT n STREAMS key … id …
    fn xreadgroup(&mut self, args: &Args) {
        let group = &args[2];
        let count = number(&args[5]);
        let rest = &args[7..];
        let (keys, ids) = rest.split_at(rest.len() / 2);
        let mut reply = Vec::new();
        for (key, id) in keys.iter().zip(ids) {
            let stream = self.streams.get(key).cloned().unwrap_or_default();
            let group = self.groups.entry((key.clone(), group.clone())).or_default();
            if id == b">" {
                let entries: Vec<_> = stream
                    .iter()
                    .skip(group.read)
                    .take(count)
                    .cloned()
                    .collect();
                group.read += entries.len();
                group.pending.extend(entries.iter().map(|(id, _)| (*id, 1)));
                if !entries.is_empty() {
                    reply.push((key.clone(), entries));
                }
            } else {
                group.pending.values_mut().for_each(|count| *count += 1);
                let entries = stream
                    .iter()
                    .filter(|(id, _)| group.pending.contains_key(id))
                    .cloned()
                    .collect();
                reply.push((key.clone(), entries));
            }
        }
        self.streams_reply(reply);
    }

    fn streams_reply(&mut self, streams: Vec<(Vec<u8>, Entries)>) {
        if streams.is_empty() {
            let null: &[u8] = if self.resp3 { b"_\r\n" } else { b"*-1\r\n" };
            return self.out.extend_from_slice(null);
        }
        if self.resp3 {
            self.map(streams.len());
        } else {
            self.array(streams.len());
        }
        for (key, entries) in streams {
            if !self.resp3 {
                self.array(2);
            }
            self.bulk(&key);
            self.entries(&entries);
        }
    }

    fn entries(&mut self, entries: &[(EntryId, Fields)]) {
        self.array(entries.len());
        for (id, fields) in entries {
            self.array(2);
            self.bulk(id.to_string().as_bytes());
            self.array(fields.len());
            for field in fields {
                self.bulk(field);
            }
        }
    }

    fn subscriptions(&mut self, args: &Args, what: &str) {
        let pattern = what.starts_with('p');
        let add = !what.contains("un");
        let named: Vec<Option<Vec<u8>>> = if args.len() > 1 {
            args[1..].iter().cloned().map(Some).collect()
        } else if add {
            return self.error("ERR wrong number of arguments");
        } else {
            let all: Vec<_> = if pattern {
                &self.patterns
            } else {
                &self.channels
            }
            .iter()
            .cloned()
            .map(Some)
            .collect();
            if all.is_empty() { vec![None] } else { all }
        };
        for channel in named {
            let set = if pattern {
                &mut self.patterns
            } else {
                &mut self.channels
            };
            if let Some(channel) = &channel {
                if add {
                    set.insert(channel.clone());
                } else {
                    set.remove(channel);
                }
            }
            let count = self.channels.len() + self.patterns.len();
            self.out
                .extend_from_slice(if self.resp3 { b">3\r\n" } else { b"*3\r\n" });
            self.bulk(what.as_bytes());
            match channel {
                Some(channel) => self.bulk(&channel),
                None => self.null(),
            }
            self.out
                .extend_from_slice(format!(":{count}\r\n").as_bytes());
        }
    }

    /// In RESP2 that is a mode of its own.
    fn is_subscriber(&self) -> bool {
        let any = !self.channels.is_empty() || !self.patterns.is_empty();
        any && !self.resp3
    }

    /// A message to a subscriber, unasked.
    pub fn message(&mut self) -> Vec<u8> {
        self.out
            .extend_from_slice(if self.resp3 { b">3\r\n" } else { b"*3\r\n" });
        self.bulk(b"message");
        self.bulk(b"ch");
        self.bulk(b"+QUEUED\r\n");
        std::mem::take(&mut self.out)
    }

    fn ok(&mut self) {
        self.out.extend_from_slice(b"+OK\r\n");
    }

    fn error(&mut self, text: &str) {
        self.out
            .extend_from_slice(format!("-{text}\r\n").as_bytes());
    }

    fn null(&mut self) {
        let null: &[u8] = if self.resp3 { b"_\r\n" } else { b"$-1\r\n" };
        self.out.extend_from_slice(null);
    }

    fn array(&mut self, n: usize) {
        self.out.extend_from_slice(format!("*{n}\r\n").as_bytes());
    }

    fn map(&mut self, pairs: usize) {
        let header = if self.resp3 {
            format!("%{pairs}\r\n")
        } else {
            format!("*{}\r\n", pairs * 2)
        };
        self.out.extend_from_slice(header.as_bytes());
    }

    fn bulk(&mut self, text: &[u8]) {
        self.out
            .extend_from_slice(format!("${}\r\n", text.len()).as_bytes());
        self.out.extend_from_slice(text);
        self.out.extend_from_slice(b"\r\n");
    }
}

fn number(text: &[u8]) -> usize {
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_default()
}
