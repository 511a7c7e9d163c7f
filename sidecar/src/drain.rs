//! The end of a process, in order: work is told that it should end, and the end waits until all of it has.
//!
//! Every task that must not be cut off holds a [`DrainGuard`]. Whoever ends the process calls [`Drain::start`] and
//! waits for [`Drain::finished`], with a hard deadline of its own. Nothing here belongs to a runtime: tasks may live
//! in any number of them, in any thread.

use std::fmt;

use crate::sync::{Arc, AtomicBool, AtomicUsize, Notify, Ordering};

/// A handle on the drain of this process; clones are handles on the same one.
#[derive(Clone, Default)]
pub struct Drain(Arc<State>);

#[derive(Default)]
struct State {
    draining: AtomicBool,
    guards: AtomicUsize,
    started: Notify,
    idle: Notify,
}

impl Drain {
    /// A drain that has not started and has no guards.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells everything to come to its end. Only the first call has an effect; it is the one that gets `true`.
    pub fn start(&self) -> bool {
        let first = !self.0.draining.swap(true, Ordering::SeqCst);
        if first {
            self.0.started.notify_waiters();
        }
        first
    }

    /// Whether the end was asked for. One relaxed load: cheap enough to ask for every request.
    pub fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Relaxed)
    }

    /// Resolves when the drain starts, at once if it has. In a loop, make it once and keep it pinned: each call takes
    /// a place in a list that all tasks share.
    pub async fn started(&self) {
        // First the place in the list, then the look: a start in between wakes the place.
        let started = self.0.started.notified();
        if !self.0.draining.load(Ordering::SeqCst) {
            started.await;
        }
    }

    /// A guard that holds up the end until it is dropped. One can be had during the drain, too.
    #[must_use = "a guard that is dropped at once guards nothing"]
    pub fn guard(&self) -> DrainGuard {
        self.0.guards.fetch_add(1, Ordering::SeqCst);
        DrainGuard(self.clone())
    }

    /// How many guards are held.
    pub fn guards(&self) -> usize {
        self.0.guards.load(Ordering::SeqCst)
    }

    /// Resolves when the drain has started and no guard is held. It has no deadline: that is the caller's.
    pub async fn finished(&self) {
        self.started().await;
        loop {
            let idle = self.0.idle.notified();
            if self.guards() == 0 {
                return;
            }
            idle.await;
        }
    }
}

impl fmt::Debug for Drain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drain")
            .field("draining", &self.is_draining())
            .field("guards", &self.guards())
            .finish()
    }
}

/// Held by a task that the end of the process waits for. The size of a pointer: each connection holds one.
#[derive(Debug)]
pub struct DrainGuard(Drain);

impl DrainGuard {
    /// See [`Drain::is_draining`].
    pub fn is_draining(&self) -> bool {
        self.0.is_draining()
    }

    /// See [`Drain::started`].
    pub fn started(&self) -> impl Future<Output = ()> + Send {
        self.0.started()
    }

    /// The drain that this guard holds up.
    pub fn drain(&self) -> &Drain {
        &self.0
    }
}

impl Drop for DrainGuard {
    fn drop(&mut self) {
        let state = &self.0.0;
        if state.guards.fetch_sub(1, Ordering::SeqCst) == 1 {
            state.idle.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::pin::pin;
    use std::task::{Context, Poll, Waker};
    use std::thread;

    use tokio::runtime;
    use tokio::sync::mpsc;

    use super::*;

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_guard_is_a_pointer_and_waiting_is_small() {
        assert_eq!(size_of::<DrainGuard>(), size_of::<usize>());
        let guard = Drain::new().guard();
        let waiting = size_of_val(&guard.started());
        assert!(waiting <= 80, "{waiting} bytes to wait for the start");
    }

    #[test]
    fn only_the_first_start_counts() {
        let drain = Drain::new();
        assert!(!drain.is_draining());
        assert!(drain.start());
        assert!(!drain.start());
        assert!(drain.is_draining());
    }

    #[test]
    fn finished_needs_the_start_and_the_last_guard() {
        let drain = Drain::new();
        let mut finished = pin!(drain.finished());
        assert!(
            poll(finished.as_mut()).is_pending(),
            "no guard, but not started either"
        );
        let (one, two) = (drain.guard(), drain.guard());
        drain.start();
        assert!(poll(finished.as_mut()).is_pending());
        drop(one);
        assert!(poll(finished.as_mut()).is_pending());
        let late = two.drain().guard();
        drop(two);
        assert!(
            poll(finished.as_mut()).is_pending(),
            "a guard taken during the drain counts"
        );
        drop(late);
        assert!(poll(finished.as_mut()).is_ready());
        assert!(
            poll(pin!(drain.finished())).is_ready(),
            "and it stays finished"
        );
    }

    #[test]
    fn started_wakes_those_who_waited_and_those_who_come_late() {
        let drain = Drain::new();
        let guard = drain.guard();
        let mut early = pin!(guard.started());
        assert!(poll(early.as_mut()).is_pending());
        drain.start();
        assert!(poll(early.as_mut()).is_ready());
        assert!(poll(pin!(guard.started())).is_ready());
    }

    /// The wake-ups cross threads and runtimes, and none is lost when start and wait meet.
    #[test]
    fn tasks_of_several_runtimes_end_together() {
        const THREADS: usize = 4;
        const TASKS: usize = 50;
        for _ in 0..20 {
            let drain = Drain::new();
            let (ready, mut all_ready) = mpsc::unbounded_channel();
            let threads: Vec<_> = (0..THREADS)
                .map(|_| {
                    let (drain, ready) = (drain.clone(), ready.clone());
                    thread::spawn(move || {
                        let runtime = runtime::Builder::new_current_thread().build().unwrap();
                        runtime.block_on(async {
                            let tasks: Vec<_> = (0..TASKS)
                                .map(|_| {
                                    let guard = drain.guard();
                                    tokio::spawn(async move { guard.started().await })
                                })
                                .collect();
                            ready.send(()).unwrap();
                            for task in tasks {
                                task.await.unwrap();
                            }
                        });
                    })
                })
                .collect();
            runtime::Builder::new_current_thread()
                .build()
                .unwrap()
                .block_on(async {
                    for _ in 0..THREADS {
                        all_ready.recv().await.unwrap();
                    }
                    assert_eq!(drain.guards(), THREADS * TASKS);
                    drain.start();
                    drain.finished().await;
                });
            assert_eq!(drain.guards(), 0);
            for thread in threads {
                thread.join().unwrap();
            }
        }
    }
}
