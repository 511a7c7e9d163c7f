//! The same bytes to a server directly and through a proxy: what comes back must be the same, and the proxy must still know
//! which reply is whose.

use std::collections::HashSet;
use std::fmt;

use crate::address::Address;
use crate::mask;
use crate::proxy::Proxy;
use crate::resp::{Client, End, pipeline};
use crate::server::{Kind, Server};
use crate::stage::{self, Stage};
use crate::wait::{self, PATIENCE};
use crate::ways::{Pool, Ways};

/// A longer dialogue holds a large value: it is cut at every byte near its ends, and at so many places between them.
const LONG: usize = 2_000;
const ENDS: usize = 250;
const BETWEEN: usize = 100;

/// What ends a dialogue that leaves the connection open: PING is answered in every state, and with its argument last.
const LAST_WORD: &str = "last-word";

/// Replaces what differs by nature between two connections, such as their ids.
pub type Mask = fn(&str) -> String;

/// What a client says and hears. Build one, then [`check`](Self::check) it.
#[derive(Clone, Debug, Default)]
pub struct Dialogue {
    prepare: Vec<String>,
    steps: Vec<Step>,
    closed: bool,
    raw: bool,
    mask: Option<Mask>,
    cut_up_to: Option<usize>,
    password: Option<&'static str>,
}

#[derive(Clone)]
enum Step {
    Say(Vec<u8>),
    Hear(Vec<u8>),
    Meanwhile(String),
    Behind(String),
    Until(&'static str, fn(&str) -> bool),
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Say(bytes) => write!(f, "say {:.5000}", bytes.escape_ascii().to_string()),
            Self::Hear(bytes) => write!(f, "hear {}", bytes.escape_ascii()),
            Self::Meanwhile(command) | Self::Behind(command) => write!(f, "meanwhile {command}"),
            Self::Until(command, _) => write!(f, "until {command} is as wanted"),
        }
    }
}

impl Dialogue {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A command straight to the server before each run; the server is emptied before that, and serves no other dialogue.
    #[must_use]
    pub fn prepare(mut self, command: &str) -> Self {
        self.prepare.push(command.to_owned());
        self
    }

    /// The client sends these commands, as arrays, at once.
    #[must_use]
    pub fn commands(self, commands: &[&str]) -> Self {
        self.bytes(pipeline(commands))
    }

    /// The client sends these bytes at once.
    #[must_use]
    pub fn bytes(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.steps.push(Step::Say(bytes.into()));
        self
    }

    /// The client waits until what it got ends so.
    #[must_use]
    pub fn hear(mut self, end: &str) -> Self {
        self.steps.push(Step::Hear(end.into()));
        self
    }

    /// Another client sends a command straight to the server, and has its answer. `{id}` and `{addr}` in it are, to the
    /// server, those of the client whose name is `me`.
    #[must_use]
    pub fn meanwhile(mut self, command: &str) -> Self {
        self.steps.push(Step::Meanwhile(command.to_owned()));
        self
    }

    /// Another client sends a command straight to the server, which answers later or never.
    #[must_use]
    pub fn meanwhile_unanswered(mut self, command: &str) -> Self {
        self.steps.push(Step::Behind(command.to_owned()));
        self
    }

    /// The dialogue goes on once the server answers another client as wanted.
    #[must_use]
    pub fn until(mut self, command: &'static str, wanted: fn(&str) -> bool) -> Self {
        self.steps.push(Step::Until(command, wanted));
        self
    }

    /// The dialogue goes on once the server has a blocked client.
    #[must_use]
    pub fn blocks(self) -> Self {
        self.until("INFO clients", |info| {
            !info.contains("\nblocked_clients:0\r")
        })
    }

    /// The server closes the connection at the end.
    #[must_use]
    pub fn closes(mut self) -> Self {
        self.closed = true;
        self
    }

    /// The connection becomes a raw relay.
    #[must_use]
    pub fn turns_raw(mut self) -> Self {
        self.raw = true;
        self
    }

    /// What was heard is compared behind this mask.
    #[must_use]
    pub fn masked(mut self, mask: Mask) -> Self {
        self.mask = Some(mask);
        self
    }

    /// Replies hold client ids, which no two connections share: HELLO's.
    #[must_use]
    pub fn with_client_ids(self) -> Self {
        self.masked(mask::client_ids)
    }

    /// What the server answers depends on what it reads at once: nothing that is said is cut.
    #[must_use]
    pub fn uncut(self) -> Self {
        self.cut_up_to(0)
    }

    /// The last of so many bytes and what follows it are not cut. There the server closes, and what came after that would be
    /// answered by a reset, which takes answers along.
    #[must_use]
    pub fn cut_up_to(mut self, bytes: usize) -> Self {
        self.cut_up_to = Some(bytes);
        self
    }

    /// The server wants this password.
    #[must_use]
    pub fn locked_by(mut self, password: &'static str) -> Self {
        self.password = Some(password);
        self
    }

    /// Holds the dialogue with a server of every kind.
    #[track_caller]
    pub fn check_all(&self) {
        let pool = Pool::shared();
        for kind in Kind::ALL {
            let mut ways = pool.borrow(kind);
            if !self.prepare.is_empty() {
                ways.spoil();
            }
            self.check_over(&ways);
        }
    }

    /// Holds the dialogue with this server.
    #[track_caller]
    pub fn check(&self, server: Server) {
        self.check_over(&Ways::to(server));
    }

    /// Holds the dialogue directly, and through proxies as often as there is a [`Cut`] of what the client says, and with
    /// every reply cut into single bytes. Compares what came back, and proves on each connection that replies are still
    /// paired with requests, or that it is a raw relay, as expected.
    ///
    /// # Panics
    /// When something differs.
    #[track_caller]
    pub fn check_over(&self, ways: &Ways) {
        let stage = &ways.stage;
        let (expected, _) = self.hold(stage, stage.server.address(), &Cut::Nowhere);
        for cut in [Cut::Nowhere, Cut::Everywhere] {
            self.compare(stage, &ways.untraced, &expected, &cut);
        }
        let raw_before = [&ways.chopped, &stage.proxy].map(stage::raw_relays);
        let mut streams = Vec::new();
        streams.extend(self.compare(stage, &ways.chopped, &expected, &Cut::Nowhere));
        let mut connections = [1.0, 0.0];
        for cut in [Cut::Nowhere, Cut::Everywhere]
            .into_iter()
            .chain(self.cuts())
        {
            streams.extend(self.compare(stage, &stage.proxy, &expected, &cut));
            connections[1] += 1.0;
            if !self.raw {
                stage.settle_many(&mut streams);
            }
        }
        let kind = stage.server.kind();
        for (n, proxy) in [&ways.chopped, &stage.proxy].into_iter().enumerate() {
            let wanted = if self.raw { connections[n] } else { 0.0 };
            // Where the server closes at a header, the proxy may have passed it on unread, depending on the cut.
            if self.raw || !self.closed {
                let raw = stage::raw_relays(proxy) - raw_before[n];
                assert_eq!(raw, wanted, "{kind}: raw relays");
            }
        }
        if self.raw {
            // Whatever ended before this span has arrived as well.
            let spans = stage.settle_spans();
            let names: HashSet<&str> = spans.iter().map(|span| span.name.as_str()).collect();
            let traced = streams
                .iter()
                .find(|stream| names.contains(&*format!("send {stream}")));
            assert_eq!(traced, None, "{kind}: a raw relay is not traced");
        } else {
            stage.settle_proofs(&mut streams);
        }
    }

    /// Holds the dialogue through this proxy, with what is said cut so, and expects these answers. If the connection is still
    /// open, sends a message over it; returns the message's stream, for [`stage::proved`].
    #[track_caller]
    fn compare(&self, stage: &Stage, through: &Proxy, expected: &str, cut: &Cut) -> Option<String> {
        let (got, client) = self.hold(stage, through.address(), cut);
        if let Some(difference) = difference(&got, expected) {
            let kind = stage.server.kind();
            panic!("{kind}, cut {cut:?}: {difference}\n{self:#?}");
        }
        let stream = stage.next_proof();
        stage::prove(&mut client?, &stream);
        Some(stream)
    }

    /// How many bytes are said.
    #[must_use]
    pub fn length(&self) -> usize {
        let said = |step: &Step| match step {
            Step::Say(bytes) => bytes.len(),
            _ => 0,
        };
        self.steps.iter().map(said).sum()
    }

    /// Where what is said is cut in two.
    fn cuts(&self) -> impl Iterator<Item = Cut> {
        let length = self.length();
        let step = (length / BETWEEN).max(1);
        let every = move |cut: &usize| {
            length < LONG || *cut < ENDS || *cut + ENDS > length || cut.is_multiple_of(step)
        };
        (1..length.min(self.cut_up_to.unwrap_or(length)))
            .filter(every)
            .map(|cut| Cut::At(vec![cut]))
    }

    /// Holds the dialogue over one way to the server of `stage`. Returns what was heard, and the connection if it is still open.
    ///
    /// # Panics
    /// When what is to be heard does not come.
    #[track_caller]
    pub fn hold(&self, stage: &Stage, at: &Address, cut: &Cut) -> (String, Option<Client>) {
        if let Some(password) = self.password {
            stage.direct(&format!("AUTH {password}"));
        }
        let prepare = self.prepare.iter().map(String::as_str);
        let before: Vec<&str> = EMPTY.into_iter().chain(prepare).collect();
        for (command, answer) in before.iter().zip(stage.direct_all(&before)) {
            let answer = String::from_utf8_lossy(&answer);
            assert!(!answer.starts_with('-'), "{command}: {answer}");
        }
        let mut client = Client::connect(at);
        // One that is served after the first, so that its answers show what the proxy has read.
        let mut other = matches!(cut, Cut::At(_)).then(|| Client::connect(at));
        let mut behind = Vec::new();
        let mut heard = Vec::new();
        let mut said = 0;
        for step in &self.steps {
            match step {
                Step::Say(bytes) => {
                    let within = said..said + bytes.len();
                    match (cut, &mut other) {
                        (Cut::At(places), Some(other)) => {
                            let mut places = places.clone();
                            places.retain(|place| within.contains(place));
                            places.sort_unstable();
                            let mut sent = 0;
                            for place in places {
                                client.send(&bytes[sent..place - said]);
                                other.call(&["PING"]);
                                sent = place - said;
                            }
                            client.send(&bytes[sent..]);
                        }
                        (Cut::Everywhere, _) if bytes.len() < LONG => {
                            let up_to = self.cut_up_to.unwrap_or(usize::MAX);
                            let bytewise = up_to.saturating_sub(said + 1).min(bytes.len());
                            client.send_bytewise(&bytes[..bytewise]);
                            client.send(&bytes[bytewise..]);
                        }
                        _ => client.send(bytes),
                    }
                    said += bytes.len();
                }
                Step::Hear(end) => heard.extend(client.read_until_ends_with(end)),
                Step::Meanwhile(command) => {
                    stage.direct(&fill_in(command, stage));
                }
                Step::Behind(command) => {
                    let mut client = stage.server.connect();
                    client.send(pipeline(&[command]));
                    behind.push(client);
                }
                Step::Until(command, wanted) => {
                    wait::until(command, PATIENCE, || {
                        wanted(&stage.direct(command)).then_some(())
                    });
                }
            }
        }
        let client = if self.closed {
            let (rest, End::Closed | End::Reset) = client.read_until_closed();
            heard.extend(rest);
            None
        } else {
            client.command(&["PING", LAST_WORD]);
            heard.extend(client.read_until_ends_with(format!("{LAST_WORD}\r\n").as_bytes()));
            Some(client)
        };
        let heard = heard.escape_ascii().to_string();
        (
            self.mask.map_or_else(|| heard.clone(), |mask| mask(&heard)),
            client,
        )
    }
}

/// How what a client says is cut.
#[derive(Clone, Debug)]
pub enum Cut {
    /// All at once.
    Nowhere,
    /// At these bytes: a part follows when the proxy has read the one before.
    At(Vec<usize>),
    /// Each byte is sent on its own.
    Everywhere,
}

/// What is said to a server before each dialogue: what the one before left there is gone.
const EMPTY: [&str; 2] = ["CLIENT KILL TYPE pubsub", "FLUSHALL"];

/// Puts the id and the address of the client called `me` in their places.
#[track_caller]
fn fill_in(command: &str, stage: &Stage) -> String {
    fn value<'a>(line: &'a str, name: &str) -> &'a str {
        let mut words = line.split(' ').filter_map(|word| word.split_once('='));
        words.find(|(key, _)| *key == name).unwrap().1
    }
    if !command.contains('{') {
        return command.to_owned();
    }
    let list = stage.direct("CLIENT LIST");
    // One of a dialogue before may not be gone yet.
    let me = list
        .lines()
        .filter(|line| line.contains(" name=me "))
        .max_by_key(|line| value(line, "id").parse::<u64>().unwrap())
        .unwrap_or_else(|| panic!("nobody is called me: {list}"));
    command
        .replace("{id}", value(me, "id"))
        .replace("{addr}", value(me, "addr"))
}

/// Where two texts begin to differ, with what is around there.
#[must_use]
pub fn difference(got: &str, wanted: &str) -> Option<String> {
    const AROUND: usize = 200;
    let at = got.bytes().zip(wanted.bytes()).position(|(a, b)| a != b);
    let at = match at {
        None if got.len() == wanted.len() => return None,
        None => got.len().min(wanted.len()),
        Some(at) => at,
    };
    let around = |text: &str| {
        let bytes = text.as_bytes();
        let part = &bytes[at.saturating_sub(AROUND)..bytes.len().min(at + AROUND)];
        String::from_utf8_lossy(part).into_owned()
    };
    let (got, wanted) = (around(got), around(wanted));
    Some(format!("\n   got: …{got}…\nwanted: …{wanted}…"))
}
