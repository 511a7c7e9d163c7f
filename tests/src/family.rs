//! Families of commands with one reply each, as tables of lines: what each answers is the same with and without a proxy.
//!
//! A line is a command. What stands before it says how its reply is compared: with nothing byte for byte, with `~` but for
//! numbers, with `%` in any order of its lines, with `?` its type alone; with `!` only where nothing is added to messages. An
//! argument `{reply}` is the bulk string that the command before was answered with. Lines that begin with `#` are comments;
//! a table that begins with `# Uncut` is held at once only.

use crate::address::Address;
use crate::dialogue::{Mask, difference};
use crate::mask;
use crate::resp::{self, Client, encode};
use crate::server::Kind;
use crate::stage::{self, Stage};
use crate::ways::{Pool, Ways};

/// Commands with one reply each.
#[derive(Debug)]
pub struct Family {
    commands: Vec<Command>,
    cut: bool,
}

#[derive(Debug)]
struct Command {
    line: String,
    args: Vec<Vec<u8>>,
    mask: Option<Mask>,
    untraced_only: bool,
}

/// What is sent for each command, and the reply.
type Exchanges = Vec<(Vec<u8>, Vec<u8>)>;

impl Family {
    /// Reads a table.
    #[must_use]
    pub fn of(table: &str) -> Self {
        let lines = table.lines().filter(|line| !line.starts_with('#'));
        Self {
            commands: lines.map(Command::of).collect(),
            cut: !table.starts_with("# Uncut"),
        }
    }

    /// The names of its commands as COMMAND LIST has them: `get`, and for a subcommand both `config` and `config|get`.
    pub fn names(&self) -> impl Iterator<Item = String> {
        let names = |command: &Command| {
            let word = |n: usize| {
                let word = command.args.get(n).map_or(&[][..], Vec::as_slice);
                String::from_utf8_lossy(word).to_lowercase()
            };
            [word(0), format!("{}|{}", word(0), word(1))]
        };
        self.commands.iter().flat_map(names)
    }

    /// Has all of its commands answered by a server of every kind, in both protocols, over all [`Ways`]: at once, with replies
    /// cut into single bytes, and with every command cut at every byte; proves that replies are still paired after that.
    ///
    /// # Panics
    /// When a reply differs.
    #[track_caller]
    pub fn check_all(&self) {
        let pool = Pool::shared();
        for kind in Kind::ALL {
            let mut ways = pool.borrow(kind);
            // Scripts, users and settings stay.
            ways.spoil();
            for protocol in ["2", "3"] {
                self.check(&ways, protocol);
            }
        }
    }

    #[track_caller]
    fn check(&self, ways: &Ways, protocol: &str) {
        let stage = &ways.stage;
        let expected = self.forwarded(ways, protocol);
        let compare = |replies: Vec<Vec<u8>>, how: &str| {
            if let Some(difference) = self.difference(&replies, &expected, true) {
                let kind = stage.server.kind();
                panic!("{kind}, RESP{protocol}, {how}: {difference}");
            }
        };

        let mut streams = Vec::new();
        let mut prove = |mut client: Client| {
            let stream = stage.next_proof();
            stage::prove(&mut client, &stream);
            streams.push(stream);
            stage.settle_many(&mut streams);
        };
        let raw_before = [&ways.chopped, &stage.proxy].map(stage::raw_relays);
        let (replies, client) = at_once(stage, stage.proxy.address(), protocol, &expected);
        compare(replies, "at once");
        prove(client);
        if self.cut {
            let (replies, client) = at_once(stage, ways.chopped.address(), protocol, &expected);
            compare(replies, "replies cut");
            prove(client);
        }
        // What is sent is the same in both protocols.
        let longest = expected.iter().map(|(request, _)| request.len()).max();
        let cuts = longest.filter(|_| self.cut && protocol == "3");
        for cut in 1..cuts.unwrap_or_default() {
            let (replies, client) = combed(stage, protocol, &expected, cut);
            compare(replies, &format!("cut at {cut}"));
            prove(client);
        }
        let raw = [&ways.chopped, &stage.proxy].map(stage::raw_relays);
        assert_eq!(raw, raw_before, "raw relays");
        stage.settle_proofs(&mut streams);
    }

    /// What the server answers directly, and through a proxy that only forwards.
    #[track_caller]
    fn forwarded(&self, ways: &Ways, protocol: &str) -> Exchanges {
        // After its start, Valkey answers MEMORY USAGE with one of three numbers.
        const TRIES: usize = 20;
        let stage = &ways.stage;
        let mut last = None;
        for _ in 0..TRIES {
            let expected = self.one_by_one(stage, stage.server.address(), protocol);
            let got = self.one_by_one(stage, ways.untraced.address(), protocol);
            let got: Vec<Vec<u8>> = got.into_iter().map(|(_, reply)| reply).collect();
            last = self.difference(&got, &expected, false);
            if last.is_none() {
                return expected;
            }
        }
        let (kind, difference) = (stage.server.kind(), last.unwrap_or_default());
        panic!("{kind}, RESP{protocol}, only forwarded: {difference}");
    }

    /// The first reply that is not as expected.
    fn difference(
        &self,
        replies: &[Vec<u8>],
        expected: &Exchanges,
        traced: bool,
    ) -> Option<String> {
        let each = self.commands.iter().zip(replies).zip(expected);
        each.filter(|((command, _), _)| !(traced && command.untraced_only))
            .find_map(|((command, got), (_, wanted))| {
                let difference = difference(&command.masked(got), &command.masked(wanted))?;
                Some(format!("{}: {difference}", command.line))
            })
    }

    #[track_caller]
    fn one_by_one(&self, stage: &Stage, at: &Address, protocol: &str) -> Exchanges {
        let (mut client, _) = connect(stage, at, protocol, &[]);
        let mut exchanges = Exchanges::new();
        for command in &self.commands {
            let last = exchanges.last().map_or(&[][..], |(_, reply)| reply);
            let args: Vec<&[u8]> = command.args.iter().map(|arg| fill_in(arg, last)).collect();
            let request = encode(&args);
            client.send(&request);
            exchanges.push((request, client.reply()));
        }
        exchanges
    }
}

impl Command {
    fn of(line: &str) -> Self {
        let text = line.trim_start_matches(['~', '%', '?', '!', ' ']);
        let mark = |mark| line[..line.len() - text.len()].contains(mark);
        let masks: [(char, Mask); 3] = [
            ('~', mask::numbers),
            ('%', mask::order),
            ('?', mask::contents),
        ];
        let chosen = masks.into_iter().find(|(sign, _)| mark(*sign));
        Self {
            line: line.to_owned(),
            args: resp::words(text),
            mask: chosen.map(|(_, mask)| mask),
            untraced_only: mark('!'),
        }
    }

    fn masked(&self, reply: &[u8]) -> String {
        let reply = reply.escape_ascii().to_string();
        self.mask.map_or_else(|| reply.clone(), |mask| mask(&reply))
    }
}

fn fill_in<'a>(arg: &'a [u8], reply: &'a [u8]) -> &'a [u8] {
    if arg != b"{reply}" {
        return arg;
    }
    let line = reply.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let bulk = reply.get(line + 1..).unwrap_or_default();
    bulk.strip_suffix(b"\r\n").unwrap_or_default()
}

/// A connection in this protocol to an empty server. The beginning of what comes next is sent with HELLO; its answer shows
/// that both have been read.
#[track_caller]
fn connect(stage: &Stage, at: &Address, protocol: &str, begin: &[u8]) -> (Client, Vec<u8>) {
    stage.direct("FLUSHALL");
    let mut client = Client::connect(at);
    client.send([&encode(&["HELLO", protocol]), begin].concat());
    let hello = client.reply();
    (client, hello)
}

/// All commands as one pipeline.
#[track_caller]
fn at_once(
    stage: &Stage,
    at: &Address,
    protocol: &str,
    exchanges: &Exchanges,
) -> (Vec<Vec<u8>>, Client) {
    let all: Vec<u8> = exchanges
        .iter()
        .flat_map(|(request, _)| request.clone())
        .collect();
    let (mut client, _) = connect(stage, at, protocol, &all);
    (client.replies(exchanges.len()), client)
}

/// Every command cut in two at the same place: with its second part goes the first of the next.
#[track_caller]
fn combed(
    stage: &Stage,
    protocol: &str,
    exchanges: &Exchanges,
    cut: usize,
) -> (Vec<Vec<u8>>, Client) {
    let parts: Vec<_> = exchanges
        .iter()
        .map(|(request, _)| request.split_at(cut.min(request.len() - 1)))
        .collect();
    let first = parts.first().map_or(&[][..], |(first, _)| first);
    let (mut client, _) = connect(stage, stage.proxy.address(), protocol, first);
    let mut replies = Vec::new();
    for (n, (_, second)) in parts.iter().enumerate() {
        let next = parts.get(n + 1).map_or(&[][..], |(first, _)| first);
        client.send([second, next].concat());
        replies.push(client.reply());
    }
    (replies, client)
}
