//! What the threads of an update allocate: nothing. Alone in its process, so that a thread that begins is one of them.

#![allow(unsafe_code, reason = "an allocator that counts is an allocator")]
#![allow(clippy::unwrap_used, reason = "a test")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tars_agent::hyper::HyperParameters;
use tars_agent::memory::MemoryBudget;
use tars_agent::train::Trainer;

/// Allocations of each thread, in the order of their first ones. More threads than there is room for share the last.
static COUNTS: [AtomicUsize; 16] = [const { AtomicUsize::new(0) }; 16];
static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static THIS: Cell<Option<usize>> = const { Cell::new(None) };
}

fn this_thread() -> usize {
    THIS.get().unwrap_or_else(|| {
        let this = THREADS.fetch_add(1, Relaxed).min(COUNTS.len() - 1);
        THIS.set(Some(this));
        this
    })
}

/// Allocations of this thread and of those that began after it.
fn allocations() -> usize {
    COUNTS[this_thread()..]
        .iter()
        .map(|count| count.load(Relaxed))
        .sum()
}

struct Counting;

// SAFETY: everything is handed on to the system's allocator; besides, only numbers are counted, which allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNTS[this_thread()].fetch_add(1, Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn the_threads_of_an_update_allocate_nothing() {
    let hyper = HyperParameters {
        n_envs: 4,
        n_steps: 256,
        batch_size: 300,
        n_epochs: 2,
        ..HyperParameters::default()
    };
    let budget = MemoryBudget::new(1 << 28);
    let mut trainer = Trainer::new("Pendulum-v1", hyper, 1, &budget).unwrap();
    trainer.set_threads(4, &budget).unwrap();
    assert_eq!(trainer.learner().threads(), 4);
    trainer.advance();
    let before = allocations();
    for _ in 0..4 {
        trainer.advance();
    }
    assert_eq!(allocations() - before, 0);
    // It would have been seen: starting them anew is.
    trainer.set_threads(4, &budget).unwrap();
    assert!(allocations() > before);
}
