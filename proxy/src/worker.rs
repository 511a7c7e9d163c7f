//! What all connections of one data thread share.

mod counters;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Waker;
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use tars_sidecar::drain::Drain;

use crate::budget::Budget;
use crate::config::{self, Config, InferParent, Limits, Rules};
use crate::connection::READ_BYTES;
use crate::deliveries::Deliveries;
use crate::error::Outbreak;
use crate::greeting::Greeting;
use crate::infer;
use crate::metrics::Metrics;
use crate::original::Originals;
use crate::streams::Streams;
use crate::tls::Acceptor;
use crate::trace::export::SpanQueue;
use crate::trace::span::{Endpoint, Span};
use crate::upstream::Upstream;

pub use counters::{Count, Counters};

/// So often a connection is polled until what was counted is shown, on a thread that never sleeps.
const FLUSH_EVERY: u32 = 64;

thread_local! {
    /// This thread's, if it is a data thread.
    static CURRENT: RefCell<Option<Rc<Worker>>> = const { RefCell::new(None) };
}

/// Called by the runtime before the thread sleeps.
pub fn before_sleep() {
    CURRENT.with_borrow(|worker| {
        if let Some(worker) = worker
            && worker.polls.get() > 0
        {
            worker.flush();
        }
    });
}

/// Finished spans that a thread keeps while it is busy. One read may add some thousands.
const MANY_SPANS: usize = 512;

/// What a connection may use to remember commands by, without asking: a short pipeline of messages.
pub const FREE_PENDING: usize = 16 * 1024;

/// Memory for messages that are held, and for commands that wait. What one read brings is free.
#[must_use]
pub fn budgets(limits: &Limits) -> [Arc<Budget>; 2] {
    let held = Budget::new(limits.max_held_bytes, READ_BYTES);
    let pending = Budget::new(limits.max_pending_bytes, FREE_PENDING);
    [held, pending].map(Arc::new)
}

/// What the whole process shares.
pub struct Shared {
    /// What the proxy was told to do.
    pub config: Config,
    /// The rules now in force.
    pub rules: Arc<ArcSwap<Rules>>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What is delivered and not settled.
    pub deliveries: Deliveries,
    /// For messages that are held until they are whole, or until there is room for them.
    pub held: Arc<Budget>,
    /// For what commands are remembered by until they are answered.
    pub pending: Arc<Budget>,
    /// Where finished spans go.
    pub spans: Arc<SpanQueue>,
    /// The end of the process.
    pub drain: Drain,
    /// The time for that is over: only replies under way are still waited for.
    pub overdue: AtomicBool,
    /// Client connections that may still be opened.
    pub room: AtomicUsize,
}

/// A place where clients connect, and what stands behind it.
pub struct Listener {
    /// Where that is, as it was configured.
    pub address: String,
    /// Where its clients' commands go.
    pub destinations: Destinations,
    /// Whether parents are inferred.
    pub infer_parent: InferParent,
    /// The rule of inference over all its connections.
    pub inference: infer::Listener,
    /// TLS from its clients.
    pub tls: Option<Acceptor>,
    /// Whether the latest TLS handshake of a client failed, and was logged; without TLS, whether one was begun.
    pub tls_fails: AtomicBool,
    /// Nobody can be accepted for want of something on this side.
    pub starved: Outbreak,
}

/// Where the commands of a listener's clients go.
pub enum Destinations {
    /// All to one server.
    One(Arc<Destination>),
    /// Each client's to the server that it was connecting to.
    Original(Originals),
}

/// A server, as it is reached through a listener.
pub struct Destination {
    /// What spans say of it.
    pub endpoint: Arc<Endpoint>,
    /// The server.
    pub upstream: Arc<Upstream>,
    /// What it is told first.
    pub greeting: Option<Greeting>,
}

impl Destination {
    /// The database that clients begin in.
    #[must_use]
    pub fn database(&self) -> u32 {
        self.greeting.as_ref().map_or(0, Greeting::database)
    }
}

impl Destinations {
    /// As it is logged.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::One(destination) => destination.upstream.name(),
            Self::Original(_) => config::ORIGINAL,
        }
    }
}

impl Listener {
    /// A client has begun a TLS handshake, and there is no TLS here. Its bytes pass as they are, to a server that may have it.
    pub fn hears_tls(&self) {
        if self.tls_fails.swap(true, Ordering::Relaxed) {
            return;
        }
        if let Destinations::Original(_) = self.destinations {
            tracing::warn!(
                listen = %self.address,
                "a redirected client speaks TLS; it is relayed to its server as it is, and not traced; further ones are not logged"
            );
        } else {
            tracing::warn!(
                listen = %self.address,
                "a client speaks TLS to a listener without it, and is answered only if the server speaks it; give tls_cert and tls_key, or let the client use redis://; further ones are not logged"
            );
        }
    }
}

/// The connections of a thread, to be woken when the proxy drains.
#[derive(Default)]
struct Wakers {
    slots: Vec<Option<Waker>>,
    free: Vec<usize>,
}

/// One data thread.
pub struct Worker {
    /// What the whole process shares.
    pub shared: Arc<Shared>,
    /// Streams and names met so far.
    pub streams: Streams,
    /// Counters.
    pub counters: Counters,
    finished: RefCell<Vec<Span>>,
    wakers: RefCell<Wakers>,
    next_connection: Cell<u64>,
    /// Of connections, since the last [`flush`](Self::flush).
    polls: Cell<u32>,
}

impl Worker {
    /// A thread's own part. `number` makes the ids of connections differ between threads.
    #[must_use]
    pub fn new(shared: Arc<Shared>, number: usize) -> Self {
        Self {
            streams: Streams::new(shared.rules.clone(), shared.metrics.clone()),
            counters: Counters::new(&shared.metrics),
            finished: RefCell::default(),
            wakers: RefCell::default(),
            next_connection: Cell::new((number as u64) << 48),
            polls: Cell::new(0),
            shared,
        }
    }

    /// A data thread's own, which is flushed [before it sleeps](before_sleep).
    #[must_use]
    pub fn of_this_thread(shared: Arc<Shared>, number: usize) -> Rc<Self> {
        let worker = Rc::new(Self::new(shared, number));
        CURRENT.set(Some(worker.clone()));
        worker
    }

    /// A number that no other connection of this process has.
    #[must_use]
    pub fn next_connection(&self) -> u64 {
        self.next_connection.replace(self.next_connection.get() + 1)
    }

    /// A span has ended, or is not to be.
    #[inline]
    pub fn finish(&self, span: Span) {
        self.finished.borrow_mut().push(span);
    }

    /// Where ended spans are collected until [`flush`](Self::flush).
    pub fn finished(&self) -> std::cell::RefMut<'_, Vec<Span>> {
        self.finished.borrow_mut()
    }

    /// A connection was polled: what it finished and counted is handed over before the thread sleeps, and, where it never does,
    /// every 64 polls.
    #[inline]
    pub fn polled(&self) {
        let polls = self.polls.get() + 1;
        self.polls.set(polls);
        if polls >= FLUSH_EVERY {
            self.flush();
        }
    }

    /// Hands over what was finished and counted since the last time.
    pub fn flush(&self) {
        self.polls.set(0);
        let mut finished = self.finished.borrow_mut();
        if !finished.is_empty() {
            self.shared.spans.push_all(&mut finished);
        }
        self.counters.flush();
    }

    /// Hands over what was finished, if that is much: a connection that is always readable is read many times in a row.
    #[inline]
    pub fn flush_many(&self) {
        if self.finished.borrow().len() >= MANY_SPANS {
            self.flush();
        }
    }

    /// Whether the proxy has been told to stop.
    #[inline]
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.shared.drain.is_draining()
    }

    /// Whether the time that connections had to come to rest is over.
    #[must_use]
    pub fn is_overdue(&self) -> bool {
        self.shared.overdue.load(Ordering::Relaxed)
    }

    /// Registers a connection to be woken by [`wake_all`](Self::wake_all).
    #[must_use]
    pub fn register(&self, waker: &Waker) -> usize {
        let mut wakers = self.wakers.borrow_mut();
        if let Some(free) = wakers.free.pop()
            && let Some(slot) = wakers.slots.get_mut(free)
        {
            *slot = Some(waker.clone());
            return free;
        }
        wakers.slots.push(Some(waker.clone()));
        wakers.slots.len() - 1
    }

    /// The connection is no more.
    pub fn unregister(&self, slot: usize) {
        let mut wakers = self.wakers.borrow_mut();
        if let Some(waker) = wakers.slots.get_mut(slot) {
            *waker = None;
            wakers.free.push(slot);
        }
    }

    /// Wakes every connection, so that it sees that the proxy drains.
    pub fn wake_all(&self) {
        for waker in self.wakers.borrow().slots.iter().flatten() {
            waker.wake_by_ref();
        }
    }
}

/// When the bytes at hand were read, as Unix time in nanoseconds: the clock is looked at once a read, and only if anything asks.
#[derive(Debug, Default)]
pub struct Moment(Cell<u64>);

impl Moment {
    /// A certain one.
    #[must_use]
    pub fn at(nanoseconds: u64) -> Self {
        Self(Cell::new(nanoseconds))
    }

    /// Other bytes are at hand.
    #[inline]
    pub fn pass(&self) {
        self.0.set(0);
    }

    /// It.
    #[inline]
    #[must_use]
    pub fn get(&self) -> u64 {
        if self.0.get() == 0 {
            self.0.set(now());
        }
        self.0.get()
    }
}

/// Unix time in nanoseconds.
#[must_use]
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
        })
}
