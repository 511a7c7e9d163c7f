//! What must hold, in whatever order threads meet. Loom says so by itself when one waits for ever.

use loom::future::block_on;
use loom::thread::{self, JoinHandle};
use prometheus::IntGauge;
use tars_sidecar::readiness::Readiness;

use crate::budget::{Account, Budget};
use crate::drain::Drain;
use crate::health::Health;
use crate::sync::Arc;
use crate::trace::export::queue::{DropReason, SpanQueue};
use crate::trace::export::{Batch, Settings};
use crate::trace::span::Span;

type Model = fn();

/// All models, with what they show.
pub(crate) const ALL: &[(&str, Model)] = &[
    ("whoever waits for the drain hears of it", drain_is_heard_of),
    (
        "a drain ends with its last guard",
        drain_ends_with_its_last_guard,
    ),
    ("a drain starts once", drain_starts_once),
    ("health is told as it is", health_is_told_as_it_is),
    ("an outage is logged once", an_outage_is_logged_once),
    (
        "no more is taken than there is",
        no_more_is_taken_than_there_is,
    ),
    (
        "a batch that has gathered is taken",
        a_batch_that_has_gathered_is_taken,
    ),
    (
        "every span is taken or counted",
        every_span_is_taken_or_counted,
    ),
];

fn join<T, const N: usize>(threads: [JoinHandle<T>; N]) -> [T; N] {
    threads.map(|thread| thread.join().unwrap())
}

fn drain_is_heard_of() {
    let drain = Drain::new();
    let waits = drain.clone();
    let waiting = thread::spawn(move || {
        block_on(waits.started());
        assert!(waits.is_draining());
    });
    drain.start();
    waiting.join().unwrap();
}

fn drain_ends_with_its_last_guard() {
    let drain = Drain::new();
    let guard = drain.guard();
    let working = thread::spawn(move || {
        // One more, as a connection that was accepted a moment ago has it.
        let late = guard.drain().guard();
        drop(guard);
        drop(late);
    });
    drain.start();
    block_on(drain.finished());
    assert_eq!(drain.guards(), 0);
    working.join().unwrap();
}

fn drain_starts_once() {
    let drain = Drain::new();
    let other = drain.clone();
    let starting = thread::spawn(move || other.start());
    let first = drain.start();
    assert!(first != starting.join().unwrap());
}

struct Watched {
    health: Health,
    readiness: Readiness,
    gauge: IntGauge,
}

fn watched() -> Arc<Watched> {
    let (readiness, gauge) = (Readiness::new(), IntGauge::new("up", "up").unwrap());
    Arc::new(Watched {
        health: Health::new("upstream".to_owned(), readiness.clone(), gauge.clone()),
        readiness,
        gauge,
    })
}

/// A client of one thread is refused while that of another is served, and the check has its own opinion.
fn health_is_told_as_it_is() {
    let watched = watched();
    let threads: [fn(&Health); 2] = [
        |health| {
            health.lost("refused".to_owned());
        },
        |health| {
            health.reached();
        },
    ];
    let threads = threads.map(|change| {
        let watched = watched.clone();
        thread::spawn(move || change(&watched.health))
    });
    watched.health.reached();
    join(threads);
    let up = watched.health.is_up();
    assert_eq!(watched.readiness.is_ready(), up);
    assert_eq!(watched.gauge.get(), i64::from(up));
}

fn an_outage_is_logged_once() {
    let watched = watched();
    watched.health.reached();
    let threads = [(); 2].map(|()| {
        let watched = watched.clone();
        thread::spawn(move || usize::from(watched.health.lost("refused".to_owned())))
    });
    let begun: usize = join(threads).iter().sum();
    assert_eq!(begun, 1);
    assert!(watched.health.reached(), "its end is logged");
    assert!(!watched.health.reached(), "once");
}

fn no_more_is_taken_than_there_is() {
    const BLOCK: usize = 64 * 1024;
    // Room for one of the two, and for half of both.
    let budget = Arc::new(Budget::new(2 * BLOCK, 0));
    let uses = |budget: Arc<Budget>| {
        let mut account = Account::of(budget.clone());
        let fits = account.fits(BLOCK);
        if fits {
            account.add(BLOCK);
        }
        assert!(budget.left() <= 2 * BLOCK);
        account.sub(BLOCK);
        fits
    };
    let other = budget.clone();
    let using = thread::spawn(move || uses(other));
    let one = uses(budget.clone());
    let other = using.join().unwrap();
    assert!(one && other, "each had room: {one} {other}");
    assert_eq!(budget.left(), 2 * BLOCK, "all is given back");
}

fn queue(capacity: usize) -> Arc<SpanQueue> {
    let batch = Batch {
        max_queue_size: capacity,
    };
    Arc::new(SpanQueue::new(&Settings { batch }))
}

fn a_batch_that_has_gathered_is_taken() {
    let queue = queue(2);
    let threads = [(); 2].map(|()| {
        let queue = queue.clone();
        thread::spawn(move || queue.push(Span))
    });
    // Nothing else wakes the exporter here: were it not told, it would wait for ever.
    block_on(queue.gathered());
    let mut taken = Vec::new();
    queue.take(&mut taken);
    assert_eq!(taken.len(), 2);
    join(threads);
}

fn every_span_is_taken_or_counted() {
    let queue = queue(2);
    let threads = [1, 2].map(|count| {
        let queue = queue.clone();
        thread::spawn(move || queue.push_all(&mut (0..count).map(|_| Span).collect()))
    });
    let mut taken = Vec::new();
    queue.take(&mut taken);
    let mut last = Vec::new();
    queue.close();
    queue.take(&mut last);
    join(threads);
    let counters = queue.counters();
    let dropped = counters.dropped(DropReason::QueueFull) + counters.dropped(DropReason::Shutdown);
    let waiting = counters.queue_length.get();
    assert_eq!(counters.ended.get(), 3);
    assert_eq!(taken.len() + last.len(), usize::try_from(waiting).unwrap());
    assert_eq!(
        taken.len() + last.len() + usize::try_from(dropped).unwrap(),
        3
    );
    assert!(taken.len() <= 2 && last.len() <= 2);
}
