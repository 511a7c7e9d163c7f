//! What a connection is doing, so that one which is slow ends soon and one which is merely idle does not.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// Looked at again at the latest after this.
const LOOK: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Since then, between two requests.
    Idle(Instant),
    /// Since then, a request's headers are coming.
    Reading(Instant),
    /// The webhook has it, and bounds of its own.
    Answering,
}

/// Shared by a connection's stream and its service.
#[derive(Clone, Debug)]
pub(super) struct Phase(Arc<Mutex<State>>);

impl Phase {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(State::Idle(Instant::now()))))
    }

    pub(super) fn answering(&self) {
        self.set(State::Answering);
    }

    pub(super) fn idle(&self) {
        self.set(State::Idle(Instant::now()));
    }

    fn read(&self) {
        if let State::Idle(_) = self.get() {
            self.set(State::Reading(Instant::now()));
        }
    }

    /// When to look again.
    pub(super) fn deadline(&self, slow: Duration, over: Duration) -> Instant {
        let soon = Instant::now() + LOOK;
        match self.get() {
            State::Idle(since) => (since + over).min(soon),
            State::Reading(since) => (since + slow).min(soon),
            State::Answering => soon,
        }
    }

    /// Whether a request's headers take longer than that.
    pub(super) fn is_slow(&self, than: Duration) -> bool {
        matches!(self.get(), State::Reading(since) if since.elapsed() >= than)
    }

    /// Whether nothing came for that long.
    pub(super) fn is_over(&self, after: Duration) -> bool {
        matches!(self.get(), State::Idle(since) if since.elapsed() >= after)
    }

    fn get(&self) -> State {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, state: State) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

/// A stream that says when something came.
pub(super) struct Watched<S> {
    stream: S,
    phase: Phase,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, phase: Phase) -> Self {
        Self { stream, phase }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            this.phase.read();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
