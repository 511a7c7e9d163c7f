//! The byte path without sockets: what tests, fuzz targets and benches drive.
//!
//! A [`World`] is a thread with a listener; a [`Link`] is one connection through it, which is shown the bytes of both
//! sides in whatever pieces a test likes. [`server::Server`] answers as Redis would.

#![allow(
    missing_docs,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic
)]

pub mod server;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use arc_swap::ArcSwap;
use tars_sidecar::drain::Drain;
use tars_sidecar::readiness::Readiness;

use crate::budget::Account;
use crate::chunk::Chunk;
use crate::config::{Address, Config, InferParent};
use crate::deliveries::Deliveries;
use crate::inflight::{Inflight, Op};
use crate::metrics::Metrics;
use crate::request::{Context, Raw, Requests};
use crate::response::Replies;
use crate::trace::export::{Settings, SpanQueue};
use crate::trace::span::{Endpoint, Span};
use crate::upstream::Upstream;
use crate::worker::{Destination, Destinations, Listener, Moment, Shared, Worker, budgets};

/// Some moment in 2026, Unix time in nanoseconds.
pub const NOW: u64 = 1_790_000_000_000_000_000;

/// A thread, a listener, and the server behind it.
pub struct World {
    pub worker: Rc<Worker>,
    pub listener: Arc<Listener>,
    /// The server, as the listener reaches it.
    pub destination: Arc<Destination>,
}

impl Default for World {
    fn default() -> Self {
        Self::new(Config::default(), InferParent::Off)
    }
}

impl World {
    /// A world whose server is known to take commands without AUTH.
    pub fn new(config: Config, infer_parent: InferParent) -> Self {
        Self::before(Address::tcp("redis.internal", 6379), config, infer_parent)
    }

    /// The same before a server that may be there.
    pub fn before(server: Address, config: Config, infer_parent: InferParent) -> Self {
        let metrics = Arc::new(Metrics::new(config.limits.max_metric_names));
        let name = server.to_string();
        let gauge = metrics.upstream_up(&name);
        let upstream = Upstream::new(0, server, None, name, Readiness::new(), gauge);
        upstream.set_open(true);
        let [held, pending] = budgets(&config.limits);
        let shared = Shared {
            deliveries: Deliveries::new(
                config.limits.max_deliveries,
                metrics.deliveries.clone(),
                metrics.deliveries_evicted.clone(),
            ),
            rules: Arc::new(ArcSwap::new(config.rules.clone())),
            metrics,
            held,
            pending,
            spans: Arc::new(SpanQueue::new(&Settings::default())),
            drain: Drain::new(),
            overdue: AtomicBool::new(false),
            room: AtomicUsize::new(config.limits.max_connections),
            config,
        };
        let destination = Arc::new(Destination {
            endpoint: Arc::new(Endpoint {
                service_name: "shop".into(),
                server_address: "redis.internal".into(),
                server_port: Some(6379),
                region: None,
            }),
            upstream: Arc::new(upstream),
            greeting: None,
        });
        Self {
            worker: Rc::new(Worker::new(Arc::new(shared), 0)),
            listener: Arc::new(Listener {
                destinations: Destinations::One(destination.clone()),
                infer_parent,
                inference: Default::default(),
                tls: None,
                tls_fails: Default::default(),
                address: String::new(),
                starved: Default::default(),
            }),
            destination,
        }
    }

    /// What both directions of a new connection share.
    pub fn context(&self) -> Context {
        Context {
            worker: self.worker.clone(),
            listener: self.listener.clone(),
            destination: self.destination.clone(),
            connection: self.worker.next_connection(),
            inflight: Inflight::new(self.worker.shared.pending.clone()),
            held_up: Account::of(self.worker.shared.held.clone()),
            held_down: Account::of(self.worker.shared.held.clone()),
            inference: Default::default(),
            authenticated: false,
            database: 0,
            greeting: Default::default(),
            now: Moment::at(NOW),
        }
    }

    /// A new connection.
    pub fn connect(&self) -> Link {
        Link {
            cx: self.context(),
            requests: Requests::default(),
            replies: Replies::default(),
            up: Direction::default(),
            down: Direction::default(),
            raw: None,
        }
    }

    /// The spans that ended since this was last asked.
    pub fn spans(&self) -> Vec<Span> {
        std::mem::take(&mut *self.worker.finished())
    }

    /// Takes what the exporter would export.
    pub fn exported(&self, spans: &mut Vec<Span>) {
        spans.clear();
        self.worker.shared.spans.take(spans);
    }

    /// The value of a counter or gauge, summed over its labels that are not given.
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.worker.flush();
        self.worker
            .shared
            .metrics
            .registry()
            .gather()
            .iter()
            .filter(|family| family.name() == name)
            .flat_map(|family| family.get_metric())
            .filter(|metric| {
                labels.iter().all(|(name, value)| {
                    metric
                        .get_label()
                        .iter()
                        .any(|label| label.name() == *name && label.value() == *value)
                })
            })
            .map(|metric| {
                metric.get_counter().get_value()
                    + metric.get_gauge().get_value()
                    + metric.get_histogram().get_sample_count() as f64
            })
            .sum()
    }
}

/// One connection. It treats bytes as `connection.rs` does, but for the sockets.
pub struct Link {
    pub cx: Context,
    requests: Requests,
    replies: Replies,
    up: Direction,
    down: Direction,
    raw: Option<&'static str>,
}

#[derive(Default)]
struct Direction {
    tail: Vec<u8>,
    raw: bool,
}

impl Direction {
    fn read(
        &mut self,
        bytes: &[u8],
        understand: impl FnOnce(&mut Chunk<'_>, &mut usize),
    ) -> Vec<u8> {
        self.tail.extend_from_slice(bytes);
        let mut out = Vec::new();
        let mut consumed = 0;
        let mut chunk = Chunk::new(&mut self.tail, &mut out);
        understand(&mut chunk, &mut consumed);
        let written = chunk.finish(consumed).to_vec();
        self.tail.drain(..consumed);
        written
    }
}

impl Link {
    /// The client sent this; returns what the server gets.
    pub fn client(&mut self, bytes: &[u8]) -> Vec<u8> {
        let Self {
            cx,
            requests,
            up: Direction { raw, .. },
            ..
        } = self;
        let mut is_raw = *raw;
        let written = self.up.read(bytes, |chunk, consumed| {
            if is_raw {
                *consumed = chunk.bytes().len();
            } else if let Err(Raw(reason)) = requests.process(chunk, cx, consumed) {
                is_raw = true;
                *consumed = chunk.bytes().len();
                cx.inflight.push(Op::Raw(reason));
            }
        });
        self.up.raw = is_raw;
        self.cx.held_up.set(self.up.tail.len());
        written
    }

    /// The server sent this; returns what the client gets, and has.
    pub fn server(&mut self, bytes: &[u8]) -> Vec<u8> {
        let Self {
            cx, replies, raw, ..
        } = self;
        let written = self.down.read(bytes, |chunk, consumed| {
            if raw.is_some() {
                *consumed = chunk.bytes().len();
            } else if let Err(Raw(reason)) = replies.process(chunk, cx, consumed) {
                *raw = Some(reason);
                *consumed = chunk.bytes().len();
                replies.abandon(cx);
            }
        });
        self.up.raw |= self.raw.is_some();
        let held = self.down.tail.len() + self.replies.held();
        self.cx.held_down.set(held);
        let listener = self.cx.listener.clone();
        for latest in self.replies.reached_client() {
            self.cx
                .inference
                .delivered(self.cx.connection, &listener.inference, latest);
        }
        written
    }

    pub fn requests(&self) -> &Requests {
        &self.requests
    }

    pub fn replies(&self) -> &Replies {
        &self.replies
    }

    /// Why the connection became a raw relay, if it did, as far as the replies have shown it.
    pub fn raw(&self) -> Option<&'static str> {
        self.raw
    }

    /// Whether what the client sends is not understood any more.
    pub fn raw_up(&self) -> bool {
        self.up.raw
    }

    /// Bytes that are kept, of both directions.
    pub fn kept(&self) -> usize {
        self.up.tail.len() + self.down.tail.len()
    }

    /// What is kept of both directions, and would be passed on if they closed.
    pub fn half_done(&self) -> (&[u8], &[u8]) {
        (&self.up.tail, &self.down.tail)
    }

    /// Both sides closed.
    pub fn close(&mut self) {
        self.replies.abandon(&mut self.cx);
        self.cx.listener.inference.closed(self.cx.connection);
    }
}

/// A command as clients write it.
pub fn command<A: AsRef<[u8]>>(args: impl IntoIterator<Item = A>) -> Vec<u8> {
    let mut body = Vec::new();
    let mut argc = 0;
    for arg in args {
        let arg = arg.as_ref();
        body.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        body.extend_from_slice(arg);
        body.extend_from_slice(b"\r\n");
        argc += 1;
    }
    [format!("*{argc}\r\n").as_bytes(), &body].concat()
}

/// A command of words.
pub fn line(words: &str) -> Vec<u8> {
    command(words.split_whitespace())
}

/// From here on this thread makes the same ids again.
pub fn seed(seed: u64) {
    crate::trace::id::seed(seed);
}
