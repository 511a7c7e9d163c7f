//! Loom's types under the names that `tars_proxy::sync` and `tars_sidecar::sync` give to the real ones.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

pub(crate) use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
pub(crate) use loom::sync::{Arc, Mutex, MutexGuard};
pub(crate) use std::sync::PoisonError;

/// What `tokio::sync::Notify` promises, and no more: `notify_waiters` wakes whoever has made a [`Notified`] before, `notify_one`
/// one that waits, or else the next.
#[derive(Debug, Default)]
pub(crate) struct Notify(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Calls of `notify_waiters`.
    calls: usize,
    permit: bool,
    waiting: Vec<Waker>,
}

impl Notify {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn notified(&self) -> Notified<'_> {
        Notified {
            calls: self.0.lock().unwrap().calls,
            notify: self,
        }
    }

    pub(crate) fn notify_waiters(&self) {
        let mut state = self.0.lock().unwrap();
        state.calls += 1;
        state.waiting.drain(..).for_each(Waker::wake);
    }

    pub(crate) fn notify_one(&self) {
        let mut state = self.0.lock().unwrap();
        state.permit = true;
        // All look, and one takes it.
        state.waiting.drain(..).for_each(Waker::wake);
    }
}

pub(crate) struct Notified<'a> {
    notify: &'a Notify,
    calls: usize,
}

impl Future for Notified<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.notify.0.lock().unwrap();
        if state.calls != self.calls || std::mem::take(&mut state.permit) {
            return Poll::Ready(());
        }
        state.waiting.push(context.waker().clone());
        Poll::Pending
    }
}
