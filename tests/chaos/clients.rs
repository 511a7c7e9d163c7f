//! The clients: each does one thing over and over, knows what the answer must be, and connects again when its connection ends.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use redis::Value;
use tars_tests::address::Address;
use tars_tests::resp::{Client, encode};

use crate::ledger::{self, Ledger, short};

/// No fault lasts so long: a client that waits longer has lost a reply.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Between attempts to connect.
const AGAIN: Duration = Duration::from_millis(20);

/// How long a message may wait for its consumer before another one claims it.
const CLAIM_AFTER: &str = "3000";

/// What all of them share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// What happened.
    pub(crate) ledger: Ledger,
    /// Where the proxy is reached: directly, and over a bad network.
    pub(crate) doors: Vec<Address>,
    /// Nothing new is sent.
    pub(crate) quiet: AtomicBool,
    /// Consumers end too.
    pub(crate) over: AtomicBool,
    /// How long a client rests between two things.
    pub(crate) rest: Duration,
    /// Answers that were as they had to be, besides those to messages.
    pub(crate) answers: AtomicU64,
    /// Connections that ended under a client.
    pub(crate) ended: AtomicU64,
}

/// What ends a connection.
enum Trouble {
    /// It broke: that is what faults do.
    Broke,
    /// Whoever is asked is no master now, or loads its data.
    Refused,
    /// What should not have happened.
    Wrong(String),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                Self::Wrong(format!("no answer within {PATIENCE:?}"))
            }
            io::ErrorKind::InvalidData => Self::Wrong(format!("not a reply: {error}")),
            _ => Self::Broke,
        }
    }
}

/// Randomness that a seed repeats.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    /// From a seed and who throws.
    pub(crate) fn new(seed: u64, who: &str) -> Self {
        let mixed = who.bytes().fold(seed, |seed, byte| {
            (seed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self(mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

/// A client at work.
struct At<'a> {
    shared: &'a Shared,
    who: String,
    dice: Dice,
    connection: Client,
    /// The connection has just been made.
    fresh: bool,
    commands: Vec<u8>,
}

impl At<'_> {
    fn say<A: AsRef<[u8]>>(&mut self, args: &[A]) {
        self.commands.extend(encode(args));
    }

    fn send(&mut self) -> io::Result<()> {
        let commands = std::mem::take(&mut self.commands);
        self.connection.try_send(&commands)
    }

    fn hear(&mut self) -> Result<Value, Trouble> {
        let reply = self.connection.try_reply()?;
        if reply.starts_with(b"-") {
            let text = String::from_utf8_lossy(&reply).trim_end().to_owned();
            const EXPECTED: [&str; 5] = [
                "-LOADING",
                "-READONLY",
                "-UNBLOCKED",
                "-MASTERDOWN",
                "-EXECABORT",
            ];
            return Err(if EXPECTED.iter().any(|code| text.starts_with(code)) {
                Trouble::Refused
            } else {
                Trouble::Wrong(format!("refused: {text}"))
            });
        }
        redis::parse_redis_value(&reply).map_err(|error| Trouble::Wrong(error.to_string()))
    }

    /// Sends one command and hears its answer.
    fn ask<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Result<Value, Trouble> {
        self.say(args);
        self.send()?;
        self.hear()
    }

    fn expect(&mut self, wanted: &Value) -> Result<(), Trouble> {
        let got = self.hear()?;
        if got != *wanted {
            let (got, wanted) = (short(&got), short(wanted));
            return Err(Trouble::Wrong(format!("{got} came instead of {wanted}")));
        }
        self.shared.answers.fetch_add(1, Relaxed);
        Ok(())
    }
}

/// Connects and lets `session` run on the connection, again and again until `until` says so.
fn each_connection(
    shared: &Shared,
    seed: u64,
    who: &str,
    until: &AtomicBool,
    mut session: impl FnMut(&mut At<'_>) -> Result<(), Trouble>,
) {
    let mut dice = Dice::new(seed, who);
    while !until.load(Relaxed) {
        let door = usize::try_from(dice.below(shared.doors.len() as u64)).unwrap_or(0);
        let Ok(connection) = Client::open(&shared.doors[door], PATIENCE) else {
            thread::sleep(AGAIN);
            continue;
        };
        let mut at = At {
            shared,
            who: who.to_owned(),
            dice: dice.clone(),
            connection,
            fresh: true,
            commands: Vec::new(),
        };
        while !until.load(Relaxed) {
            match session(&mut at) {
                Ok(()) => thread::sleep(shared.rest),
                // It may answer otherwise after a while, perhaps elsewhere.
                Err(Trouble::Refused) => break,
                Err(Trouble::Broke) => {
                    shared.ended.fetch_add(1, Relaxed);
                    break;
                }
                Err(Trouble::Wrong(what)) => {
                    shared.ledger.violation(format!("{}: {what}", at.who));
                    break;
                }
            }
        }
        dice = at.dice;
        thread::sleep(AGAIN);
    }
}

fn ok() -> Value {
    Value::Okay
}

fn bulk(text: impl Into<Vec<u8>>) -> Value {
    Value::BulkString(text.into())
}

fn queued() -> Value {
    Value::SimpleString("QUEUED".into())
}

/// The id in a reply to XADD.
fn id(reply: &Value) -> Result<String, Trouble> {
    match reply {
        Value::BulkString(id) => {
            let id = String::from_utf8_lossy(id).into_owned();
            let parts = id.split_once('-');
            if parts.is_some_and(|(a, b)| a.parse::<u64>().is_ok() && b.parse::<u64>().is_ok()) {
                return Ok(id);
            }
            Err(Trouble::Wrong(format!("{id} came instead of an id")))
        }
        other => Err(Trouble::Wrong(format!(
            "{} came instead of an id",
            short(other)
        ))),
    }
}

/// Sends messages to its stream: one by one, in pipelines, in transactions.
pub(crate) fn producer(shared: &Shared, seed: u64, stream: &str) {
    let mut last = 0;
    each_connection(
        shared,
        seed,
        &format!("producer of {stream}"),
        &shared.quiet,
        |at| {
            let how = at.dice.below(4);
            let count = if how == 0 { 1 } else { 1 + at.dice.below(20) };
            let numbers = last + 1..=last + count;
            last += count;
            let transaction = how == 1;
            if transaction {
                at.say(&["MULTI"]);
            }
            for number in numbers.clone() {
                shared.ledger.sends(stream, number);
                let text = number.to_string();
                let data = ledger::payload(stream, number);
                at.say(&[
                    b"XADD",
                    stream.as_bytes(),
                    b"*",
                    b"n",
                    text.as_bytes(),
                    b"data",
                    &data,
                ]);
            }
            if transaction {
                at.say(&["EXEC"]);
            }
            at.send()?;
            if transaction {
                // Where one of them is refused, EXEC is too: all answers are read, and nothing is stored.
                let mut refused = false;
                at.expect(&ok())?;
                for _ in 0..count {
                    match at.expect(&queued()) {
                        Err(Trouble::Refused) => refused = true,
                        other => other?,
                    }
                }
                match at.hear() {
                    Ok(Value::Array(ids)) if !refused && ids.len() as u64 == count => {
                        for (number, reply) in numbers.zip(&ids) {
                            shared.ledger.stored(stream, number, &id(reply)?);
                        }
                    }
                    Ok(other) => {
                        return Err(Trouble::Wrong(format!("EXEC answered {}", short(&other))));
                    }
                    Err(Trouble::Refused) => {
                        numbers.for_each(|number| shared.ledger.refused(stream, number));
                        return Err(Trouble::Refused);
                    }
                    Err(trouble) => return Err(trouble),
                }
                return Ok(());
            }
            let mut refused = false;
            for number in numbers {
                match at.hear() {
                    Ok(reply) => shared.ledger.stored(stream, number, &id(&reply)?),
                    Err(Trouble::Refused) => {
                        shared.ledger.refused(stream, number);
                        refused = true;
                    }
                    Err(trouble) => return Err(trouble),
                }
            }
            if refused {
                Err(Trouble::Refused)
            } else {
                Ok(())
            }
        },
    );
}

/// Reads all streams in the group `g` as this consumer, and acknowledges what is as it was sent.
pub(crate) fn consumer(shared: &Shared, seed: u64, name: &str, streams: &[String], resp3: bool) {
    let mut turn = 0_usize;
    each_connection(
        shared,
        seed,
        &format!("consumer {name}"),
        &shared.over,
        |at| {
            if resp3 && at.fresh {
                at.ask(&["HELLO", "3"])?;
            }
            turn += 1;
            let entries = if turn.is_multiple_of(50) {
                // What a consumer took that is gone.
                let stream = &streams[turn / 50 % streams.len()];
                let reply = at.ask(&[
                    "XAUTOCLAIM",
                    stream,
                    "g",
                    name,
                    CLAIM_AFTER,
                    "0-0",
                    "COUNT",
                    "50",
                ])?;
                let Value::Array(parts) = reply else {
                    return Err(Trouble::Wrong(format!(
                        "XAUTOCLAIM answered {}",
                        short(&reply)
                    )));
                };
                vec![(
                    stream.clone(),
                    parts.into_iter().nth(1).unwrap_or(Value::Nil),
                )]
            } else {
                let mut read = vec!["XREADGROUP", "GROUP", "g", name, "COUNT", "20"];
                // After a new connection: what was delivered to the old one and not acknowledged.
                let from = if at.fresh { "0" } else { ">" };
                read.extend(["BLOCK", "100", "STREAMS"]);
                read.extend(streams.iter().map(String::as_str));
                read.extend(streams.iter().map(|_| from));
                let reply = at.ask(&read)?;
                let entries = by_stream(reply).map_err(Trouble::Wrong)?;
                let empty = |list: &Value| matches!(list, Value::Array(list) if list.is_empty());
                at.fresh &= !entries.iter().all(|(_, list)| empty(list));
                entries
            };
            let mut acknowledged = 0;
            for (stream, list) in entries {
                let Value::Array(list) = list else { continue };
                for one in list {
                    let added = !stream.starts_with("strip");
                    let (id, number) =
                        ledger::entry(&stream, &one, added).map_err(Trouble::Wrong)?;
                    shared.ledger.delivered(&stream, number, &id);
                    at.say(&["XACK", &stream, "g", &id]);
                    acknowledged += 1;
                }
            }
            at.send()?;
            for _ in 0..acknowledged {
                match at.hear()? {
                    Value::Int(0 | 1) => {}
                    other => {
                        return Err(Trouble::Wrong(format!("XACK answered {}", short(&other))));
                    }
                }
            }
            Ok(())
        },
    );
}

/// The lists of entries in a reply of XREADGROUP, in either protocol.
fn by_stream(reply: Value) -> Result<Vec<(String, Value)>, String> {
    let name = |value: &Value| match value {
        Value::BulkString(name) => Ok(String::from_utf8_lossy(name).into_owned()),
        other => Err(format!("{} came instead of a stream's name", short(other))),
    };
    match reply {
        Value::Nil => Ok(Vec::new()),
        Value::Map(pairs) => pairs
            .into_iter()
            .map(|(key, list)| Ok((name(&key)?, list)))
            .collect(),
        Value::Array(streams) => streams
            .into_iter()
            .map(|stream| match stream {
                Value::Array(parts) => match <[Value; 2]>::try_from(parts) {
                    Ok([key, list]) => Ok((name(&key)?, list)),
                    Err(parts) => Err(format!("not a stream's entries: {parts:?}")),
                },
                other => Err(format!(
                    "{} came instead of a stream's entries",
                    short(&other)
                )),
            })
            .collect(),
        other => Err(format!("XREADGROUP answered {}", short(&other))),
    }
}

/// Asks what only one answer is right for, in pipelines of mixed commands.
pub(crate) fn asker(shared: &Shared, seed: u64, name: &str) {
    let mut token = 0_u64;
    let key = format!("key:{name}");
    each_connection(
        shared,
        seed,
        &format!("asker {name}"),
        &shared.quiet,
        |at| {
            let mut wanted = Vec::new();
            for _ in 0..1 + at.dice.below(30) {
                token += 1;
                let text = format!("{name}-{token}");
                match at.dice.below(8) {
                    0 => {
                        at.say(&["SET", &key, &text]);
                        at.say(&["GET", &key]);
                        wanted.extend([ok(), bulk(text)]);
                    }
                    1 => {
                        at.say(&["MULTI"]);
                        at.say(&["ECHO", &text]);
                        at.say(&["PING"]);
                        at.say(&["EXEC"]);
                        let all =
                            Value::Array(vec![bulk(text), Value::SimpleString("PONG".into())]);
                        wanted.extend([ok(), queued(), queued(), all]);
                    }
                    2 => {
                        at.say(&["EVAL", "return {ARGV[1], 7, {ARGV[1]}}", "0", &text]);
                        let inner = Value::Array(vec![bulk(text.clone())]);
                        wanted.push(Value::Array(vec![bulk(text), Value::Int(7), inner]));
                    }
                    3 => {
                        at.say(&["CLIENT", "REPLY", "SKIP"]);
                        at.say(&["ECHO", "nobody hears this"]);
                    }
                    4 => {
                        // What an earlier connection left behind is no answer to this one.
                        let list = format!("list:{text}");
                        at.say(&["RPUSH", &list, &text]);
                        at.say(&["BLPOP", &list, "1"]);
                        wanted.push(Value::Int(1));
                        wanted.push(Value::Array(vec![bulk(list), bulk(text)]));
                    }
                    5 if at.dice.below(10) == 0 => {
                        let large = text.repeat(100_000 / text.len());
                        at.say(&["ECHO", &large]);
                        wanted.push(bulk(large));
                    }
                    _ => {
                        at.say(&["ECHO", &text]);
                        wanted.push(bulk(text));
                    }
                }
            }
            at.send()?;
            for one in &wanted {
                at.expect(one)?;
            }
            Ok(())
        },
    );
}

/// Publishes numbers; the server counts them, so that none is left out or said twice.
pub(crate) fn publisher(shared: &Shared, seed: u64, channel: &str) {
    const NEXT: &str =
        "return redis.call('PUBLISH', KEYS[1], redis.call('INCR', 'count:' .. KEYS[1]))";
    each_connection(
        shared,
        seed,
        &format!("publisher on {channel}"),
        &shared.over,
        |at| {
            at.ask(&["EVAL", NEXT, "1", channel])?;
            Ok(())
        },
    );
}

/// Hears numbers: on one connection none is left out.
pub(crate) fn subscriber(shared: &Shared, seed: u64, channel: &str, resp3: bool) {
    each_connection(
        shared,
        seed,
        &format!("subscriber of {channel}"),
        &shared.quiet,
        |at| {
            if resp3 {
                at.ask(&["HELLO", "3"])?;
            }
            at.ask(&["SUBSCRIBE", channel])?;
            let mut last: Option<u64> = None;
            while !shared.quiet.load(Relaxed) {
                let data = match at.hear()? {
                    Value::Array(data) | Value::Push { data, .. } => data,
                    other => {
                        return Err(Trouble::Wrong(format!("{} was published", short(&other))));
                    }
                };
                let number = match data.last() {
                    Some(Value::BulkString(text)) => {
                        String::from_utf8_lossy(text).parse::<u64>().ok()
                    }
                    _ => None,
                };
                let (Some(number), true) =
                    (number, last.is_none_or(|last| number == Some(last + 1)))
                else {
                    return Err(Trouble::Wrong(format!("{data:?} came after {last:?}")));
                };
                shared.answers.fetch_add(1, Relaxed);
                last = Some(number);
            }
            Ok(())
        },
    );
}

/// Begins and does not end: half commands, large values cut short, replies that nobody reads.
pub(crate) fn vandal(shared: &Shared, seed: u64) {
    let half = encode(&[
        b"XADD".as_slice(),
        b"vandal",
        b"*",
        b"data",
        &[b'x'; 50_000],
    ]);
    each_connection(shared, seed, "vandal", &shared.quiet, |at| {
        let cut = usize::try_from(at.dice.below(half.len() as u64)).unwrap_or(0);
        let sent = match at.dice.below(3) {
            0 => at.connection.try_send(&half[..cut]),
            1 => at
                .connection
                .try_send(&encode(&["ECHO", "x"]).repeat(2_000)),
            _ => at.connection.try_send(b"$not resp\r\n\r\n*3\r\n"),
        };
        sent?;
        Err(Trouble::Broke)
    });
}
