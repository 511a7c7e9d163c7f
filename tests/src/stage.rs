//! A server, a proxy before it, and the receiver of the proxy's spans.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};

use crate::chopper::Chopper;
use crate::otlp::{Collector, Span};
use crate::proxy::metrics::Sample;
use crate::proxy::{Builder, Proxy};
use crate::resp::{Client, pipeline};
use crate::server::{Kind, Server};
use crate::wait::PATIENCE;

/// The three together. They end in this order: a proxy that is killed has no one to reach.
#[derive(Debug)]
pub struct Stage {
    /// The proxy.
    pub proxy: Proxy,
    /// The receiver of its spans.
    pub collector: Collector,
    /// The server.
    pub server: Server,
    control: RefCell<Client>,
    proofs: Cell<u32>,
}

impl Stage {
    /// Before a server of this kind, with nothing set.
    #[track_caller]
    #[must_use]
    pub fn of(kind: Kind) -> Self {
        Self::with(Server::of(kind), |proxy| proxy)
    }

    /// Before a server of this kind; `configure` adds to the proxy's settings.
    #[track_caller]
    #[must_use]
    pub fn configured(kind: Kind, configure: impl FnOnce(Builder) -> Builder) -> Self {
        Self::with(Server::of(kind), configure)
    }

    /// Before a server of this kind, whose replies reach the proxy one byte at a time.
    #[track_caller]
    #[must_use]
    pub fn chopped(kind: Kind) -> Self {
        let server = Server::of(kind);
        let chopper = Chopper::before(server.address());
        Self::with(server, |proxy| proxy.upstream(&chopper.url()))
    }

    /// Before this server; `configure` adds to the proxy's settings.
    #[track_caller]
    #[must_use]
    pub fn with(server: Server, configure: impl FnOnce(Builder) -> Builder) -> Self {
        let collector = Collector::start();
        let proxy = configure(Proxy::to(&server).otlp_grpc(&collector.grpc())).start();
        let control = RefCell::new(server.connect());
        Self {
            proxy,
            collector,
            server,
            control,
            proofs: Cell::new(0),
        }
    }

    /// A connection through the proxy.
    #[track_caller]
    #[must_use]
    pub fn connect(&self) -> Client {
        self.proxy.connect()
    }

    /// A command straight to the server, on a connection that is kept.
    #[track_caller]
    pub fn direct(&self, command: &str) -> String {
        let args: Vec<&str> = command.split(' ').collect();
        self.control.borrow_mut().call(&args)
    }

    /// Commands straight to the server, all at once; their answers.
    #[track_caller]
    pub fn direct_all(&self, commands: &[&str]) -> Vec<Vec<u8>> {
        let mut control = self.control.borrow_mut();
        control.send(pipeline(commands));
        control.replies(commands.len())
    }

    /// How many connections have become raw relays; 0 also when the metric has not appeared yet.
    #[track_caller]
    #[must_use]
    pub fn raw_relays(&self) -> f64 {
        raw_relays(&self.proxy)
    }

    /// Waits until the spans are as wanted.
    #[track_caller]
    pub fn wait_spans(&self, wanted: impl Fn(&[Span]) -> bool) -> Vec<Span> {
        self.collector.wait_for(PATIENCE, wanted)
    }

    /// Waits for a span of this name and message id.
    #[track_caller]
    pub fn wait_span(&self, name: &str, id: &str) -> Span {
        let is = |span: &Span| span.name == name && span.attr("messaging.message.id") == id;
        let spans = self.wait_spans(|spans| spans.iter().any(is));
        spans.into_iter().find(is).unwrap()
    }

    /// Waits for as many spans of this name; in the order in which they began.
    #[track_caller]
    pub fn wait_named(&self, name: &str, count: usize) -> Vec<Span> {
        let is = |span: &&Span| span.name == name;
        let spans = self.wait_spans(|spans| spans.iter().filter(is).count() >= count);
        let mut spans: Vec<Span> = spans.into_iter().filter(|span| span.name == name).collect();
        spans.sort_by_key(|span| span.start);
        assert_eq!(spans.len(), count, "{spans:#?}");
        spans
    }

    /// Waits until all of these streams are [`proved`], and forgets them and the spans so far.
    #[track_caller]
    pub fn settle_proofs(&self, streams: &mut Vec<String>) {
        self.wait_spans(|spans| {
            let proved = all_proved(spans);
            streams.iter().all(|stream| proved.contains(&**stream))
        });
        streams.clear();
        self.collector.clear();
    }

    /// The same once there are many: fewer than fit the proxy's queue of spans, more than one to save time.
    #[track_caller]
    pub fn settle_many(&self, streams: &mut Vec<String>) {
        const MANY: usize = 100;
        if streams.len() >= MANY {
            self.settle_proofs(streams);
        }
    }

    /// Sends a message through a new connection and waits for its span: all that ended before it has been exported, too.
    #[track_caller]
    pub fn settle_spans(&self) -> Vec<Span> {
        let stream = self.next_proof();
        self.connect().call(&["XADD", &stream, "1-1", "f", "v"]);
        let name = format!("send {stream}");
        self.wait_spans(|spans| spans.iter().any(|span| span.name == name))
    }

    /// The name of a stream that nothing has been sent to.
    #[must_use]
    pub fn next_proof(&self) -> String {
        self.proofs.set(self.proofs.get() + 1);
        format!("proof:{}", self.proofs.get())
    }
}

/// How many connections of this proxy have become raw relays; 0 also when the metric has not appeared yet.
#[track_caller]
#[must_use]
pub fn raw_relays(proxy: &Proxy) -> f64 {
    raw_relays_where(proxy, |_| true)
}

/// The same for one reason.
#[track_caller]
#[must_use]
pub fn raw_relays_for(proxy: &Proxy, reason: &str) -> f64 {
    raw_relays_where(proxy, |sample| sample.labels["reason"] == reason)
}

#[track_caller]
fn raw_relays_where(proxy: &Proxy, counted: impl Fn(&Sample) -> bool) -> f64 {
    let metrics = proxy.metrics();
    let raw = metrics
        .samples
        .iter()
        .filter(|sample| sample.name == "tars_proxy_raw_relays_total" && counted(sample));
    raw.map(|sample| sample.value).sum()
}

/// Sends a message over this connection, and has it delivered and acknowledged there: [`proved`] expects its spans.
///
/// # Panics
/// When the replies are not those of these commands.
#[track_caller]
pub fn prove(client: &mut Client, stream: &str) {
    client.send(pipeline(&[
        &format!("XGROUP CREATE {stream} g $ MKSTREAM"),
        &format!("XADD {stream} 1-1 f v"),
        &format!("XREADGROUP GROUP g c STREAMS {stream} >"),
        &format!("XACK {stream} g 1-1"),
        "PING proved",
    ]));
    let got = client.read_until_ends_with(b"proved\r\n");
    let got = got.escape_ascii().to_string();
    let begins = got.starts_with("+OK\\r\\n$3\\r\\n1-1\\r\\n");
    assert!(
        begins && got.ends_with(":1\\r\\n$6\\r\\nproved\\r\\n"),
        "{got}"
    );
}

/// Whether the spans of a [`prove`] have arrived: the ids are right, and the delivery is settled.
#[must_use]
pub fn proved(spans: &[Span], stream: &str) -> bool {
    all_proved(spans).contains(stream)
}

/// The streams of which that can be said.
#[must_use]
pub fn all_proved(spans: &[Span]) -> HashSet<&str> {
    let of = |operation: &'static str| {
        spans.iter().filter_map(move |span| {
            let stream = span.name.strip_prefix(operation)?;
            (span.attr("messaging.message.id") == "1-1").then_some((stream, span))
        })
    };
    let sent: HashMap<&str, &Span> = of("send ").collect();
    let settled = |(stream, process): &(&str, &Span)| {
        sent.get(stream)
            .is_some_and(|send| process.is_child_of(send))
            && process.attr("messaging.consumer.group.name") == "g"
            && process.attr("tars.outcome").is_null()
    };
    of("process ")
        .filter(settled)
        .map(|(stream, _)| stream)
        .collect()
}
