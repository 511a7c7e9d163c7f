//! A server and the ways to it: directly, and through proxies that differ in what they do.
//!
//! Starting all of them takes longer than most tests that use them, so that a test borrows them from those before it.

use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;

use crate::chopper::Chopper;
use crate::proxy::Proxy;
use crate::server::{Kind, Server};
use crate::stage::Stage;

/// Spans are waited for once a test: sooner than elsewhere.
const EXPORT_INTERVAL_MS: &str = "10";

/// The ways to a server.
#[derive(Debug)]
pub struct Ways {
    /// Through a proxy that takes away again what it added to a message, so that what is read can be compared.
    pub stage: Stage,
    /// The same, and every reply reaches the proxy one byte at a time.
    pub chopped: Proxy,
    /// Through a proxy that only forwards.
    pub untraced: Proxy,
}

impl Ways {
    /// The ways to this server.
    #[track_caller]
    #[must_use]
    pub fn to(server: Server) -> Self {
        // Each dialogue has names of its own: with a metric for each, reading the metrics would take longest.
        let strip = ["--deliver", "*=strip", "--max-metric-names", "8"];
        let interval = ("OTEL_BSP_SCHEDULE_DELAY", EXPORT_INTERVAL_MS);
        let chopper = Chopper::before(server.address());
        let untraced = Proxy::to(&server).args(["--no-trace"]).start();
        let stage = Stage::with(server, |proxy| {
            proxy.args(strip).env(interval.0, interval.1)
        });
        let chopped = Proxy::to_url(&chopper.url())
            .args(strip)
            .otlp_grpc(&stage.collector.grpc())
            .env(interval.0, interval.1)
            .start();
        Self {
            stage,
            chopped,
            untraced,
        }
    }
}

/// Ways that other tests use afterwards, unless this one fails or spoils them.
#[derive(Debug)]
pub struct Loan {
    // None only while it is dropped.
    ways: Option<Ways>,
    spoiled: bool,
    pool: Arc<Pool>,
}

impl Loan {
    /// Something stays behind in the server that would show in other tests.
    pub fn spoil(&mut self) {
        self.spoiled = true;
    }
}

impl Deref for Loan {
    type Target = Ways;

    fn deref(&self) -> &Ways {
        self.ways.as_ref().unwrap()
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if !self.spoiled && !thread::panicking() {
            self.pool.lock().extend(self.ways.take());
        }
    }
}

/// Ways that are free at the moment. It lives as long as some test holds it: a static is never dropped, and would leave
/// processes and files behind.
#[derive(Debug, Default)]
pub struct Pool(Mutex<Vec<Ways>>);

impl Pool {
    /// The one that all tests of this process share.
    #[must_use]
    pub fn shared() -> Arc<Self> {
        static CURRENT: Mutex<Weak<Pool>> = Mutex::new(Weak::new());
        let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
        current.upgrade().unwrap_or_else(|| {
            let new = Arc::default();
            *current = Arc::downgrade(&new);
            new
        })
    }

    /// Ways to a server of this kind, for one test alone until the loan is dropped.
    #[track_caller]
    #[must_use]
    pub fn borrow(self: &Arc<Self>, kind: Kind) -> Loan {
        let ways = self
            .take(kind)
            .unwrap_or_else(|| Ways::to(Server::of(kind)));
        ways.stage.collector.clear();
        Loan {
            ways: Some(ways),
            spoiled: false,
            pool: Arc::clone(self),
        }
    }

    fn take(&self, kind: Kind) -> Option<Ways> {
        let mut free = self.lock();
        let is = |ways: &Ways| ways.stage.server.kind() == kind;
        let found = free.iter().position(is)?;
        Some(free.swap_remove(found))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Ways>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
