//! The same bytes to a server directly and through a proxy: what comes back must be the same, and the proxy must still know
//! which reply is whose.

use std::collections::BTreeSet;

use crate::address::Address;
use crate::chopper::Chopper;
use crate::proxy::Proxy;
use crate::resp::{Client, End, pipeline};
use crate::server::{Kind, Server};
use crate::stage::{self, Stage, proved};

/// A dialogue is cut at so many places at most: at every byte if it is as short as that, else evenly spread.
const CUTS: usize = 50;

/// What ends a dialogue that leaves the connection open: PING is answered in every state, and with its argument last.
const LAST_WORD: &str = "last-word";

/// What a client says and hears. Build one, then [`check`](Self::check) it.
#[derive(Clone, Debug, Default)]
pub struct Dialogue {
    prepare: Vec<String>,
    steps: Vec<Step>,
    closed: bool,
    raw: bool,
    ids: bool,
    whole: bool,
    password: Option<&'static str>,
}

#[derive(Clone, Debug)]
enum Step {
    Say(Vec<u8>),
    Hear(Vec<u8>),
    Meanwhile(String),
}

impl Dialogue {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A command straight to the server before each run; the server is emptied before that.
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

    /// Another client sends a command straight to the server, and has its answer.
    #[must_use]
    pub fn meanwhile(mut self, command: &str) -> Self {
        self.steps.push(Step::Meanwhile(command.to_owned()));
        self
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

    /// Replies hold client ids, which no two connections share: HELLO's.
    #[must_use]
    pub fn with_client_ids(mut self) -> Self {
        self.ids = true;
        self
    }

    /// What the server answers depends on what it reads at once: nothing that is said is cut.
    #[must_use]
    pub fn uncut(mut self) -> Self {
        self.whole = true;
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
        for kind in Kind::ALL {
            self.check(Server::of(kind));
        }
    }

    /// Holds the dialogue directly, through a proxy at once, with every reply cut into single bytes, and on one kind of
    /// server with the client's bytes cut in two; compares what came back, and proves on each connection that
    /// replies are still paired with requests, or that it is a raw relay, as expected.
    ///
    /// # Panics
    /// When something differs.
    #[track_caller]
    pub fn check(&self, server: Server) {
        let kind = server.kind();
        let chopper = Chopper::before(server.address());
        // What was added to a message is taken away again, so that what is read can be compared.
        let strip = ["--deliver", "*=strip"];
        let stage = Stage::with(server, |proxy| proxy.args(strip));
        let expected = self.expected(&stage);
        let mut streams = Vec::new();
        let mut compare = |through: &Proxy, cut: Option<usize>| {
            streams.extend(self.compare(&stage, through, &expected, cut));
        };
        compare(&stage.proxy, None);
        let endpoint = stage.collector.grpc();
        let chopped = Proxy::to_url(&chopper.url())
            .args(strip)
            .otlp_grpc(&endpoint)
            .start();
        compare(&chopped, None);
        let cut = kind == Kind::Redis82 && !self.whole;
        let length = if cut { self.length() } else { 0 };
        let cuts = (1..length).step_by(length.div_ceil(CUTS).max(1));
        let connections = 1.0 + cuts.len() as f64;
        cuts.for_each(|cut| compare(&stage.proxy, Some(cut)));
        for (proxy, connections) in [(&chopped, 1.0), (&stage.proxy, connections)] {
            let expected = if self.raw { connections } else { 0.0 };
            // Where the server closes at a header, the proxy may have passed it on unread, depending on the cut.
            if self.raw || !self.closed {
                assert_eq!(stage::raw_relays(proxy), expected, "{kind}: raw relays");
            }
        }
        if self.raw {
            // Whatever ended before this span has arrived as well.
            let spans = stage.settle_spans();
            let names: BTreeSet<&str> = spans.iter().map(|span| span.name.as_str()).collect();
            let traced = streams
                .iter()
                .find(|s| names.contains(&*format!("send {s}")));
            assert_eq!(traced, None, "{kind}: a raw relay is not traced");
        } else {
            stage.wait_spans(|spans| streams.iter().all(|stream| proved(spans, stream)));
        }
    }

    /// What the server answers without a proxy.
    #[track_caller]
    #[must_use]
    pub fn expected(&self, stage: &Stage) -> String {
        self.hold(stage, stage.server.address(), None).0
    }

    /// Holds the dialogue through this proxy, with what is said cut in two at `cut`, and expects these answers. If the
    /// connection is still open, sends a message over it; returns the message's stream, for [`proved`].
    ///
    /// # Panics
    /// When the answers differ.
    #[track_caller]
    pub fn compare(
        &self,
        stage: &Stage,
        through: &Proxy,
        expected: &str,
        cut: Option<usize>,
    ) -> Option<String> {
        let (got, client) = self.hold(stage, through.address(), cut);
        let kind = stage.server.kind();
        assert_eq!(got, expected, "{kind}, cut at {cut:?}: {self:#?}");
        let stream = stage.next_proof();
        stage::prove(&mut client?, &stream);
        Some(stream)
    }

    fn length(&self) -> usize {
        let said = |step: &Step| match step {
            Step::Say(bytes) => bytes.len(),
            _ => 0,
        };
        self.steps.iter().map(said).sum()
    }

    /// Returns what was heard, and the connection if it is still open.
    #[track_caller]
    fn hold(&self, stage: &Stage, at: &Address, cut: Option<usize>) -> (String, Option<Client>) {
        if let Some(password) = self.password {
            stage.direct(&format!("AUTH {password}"));
        }
        stage.direct("CLIENT KILL TYPE pubsub");
        stage.direct("FLUSHALL");
        for command in &self.prepare {
            let answer = stage.direct(command);
            assert!(!answer.starts_with('-'), "{command}: {answer}");
        }
        let mut client = Client::connect(at);
        let mut other = Client::connect(at);
        let mut heard = Vec::new();
        let mut said = 0;
        for step in &self.steps {
            match step {
                Step::Say(bytes) => {
                    let within = cut.and_then(|cut| cut.checked_sub(said));
                    match within.and_then(|cut| bytes.split_at_checked(cut)) {
                        Some((first, second)) => {
                            client.send(first);
                            // An answer to something sent later: the first part has been read by then.
                            other.call(&["PING"]);
                            client.send(second);
                        }
                        None => client.send(bytes),
                    }
                    said += bytes.len();
                }
                Step::Hear(end) => heard.extend(client.read_until_ends_with(end)),
                Step::Meanwhile(command) => {
                    stage.direct(command);
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
        (if self.ids { without_ids(&heard) } else { heard }, client)
    }
}

/// Takes the digits after `id` away.
fn without_ids(heard: &str) -> String {
    const BEFORE: &str = "$2\\r\\nid\\r\\n:";
    let mut parts = heard.split(BEFORE);
    let mut all = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        all.push_str(BEFORE);
        all.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    all
}
