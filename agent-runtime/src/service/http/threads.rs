//! The threads that answer: each an event loop of its own (docs/adr/0005). A connection stays with the one that had the fewest when it came, so that
//! no request wakes a second thread.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::service::memory::count_this_stack;

/// Nothing large is on a stack.
pub const STACK: usize = 1 << 20;
/// Threads for files, of each that answers.
const BLOCKING: usize = 1;

/// Dropping them ends what they still do.
#[derive(Debug)]
pub struct Threads(Vec<Answering>);

#[derive(Debug)]
struct Answering {
    event_loop: Handle,
    /// One besides for each connection.
    connections: Arc<()>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Threads {
    /// So many of them.
    ///
    /// # Errors
    /// If the operating system has no more.
    pub fn start(count: usize) -> io::Result<Self> {
        let threads = (0..count.max(1)).map(|_| Answering::start());
        Ok(Self(threads.collect::<io::Result<_>>()?))
    }

    /// Serves a connection on one of them.
    pub fn spawn(&self, connection: impl Future<Output = ()> + Send + 'static) {
        let fewest = self
            .0
            .iter()
            .min_by_key(|thread| Arc::strong_count(&thread.connections));
        if let Some(thread) = fewest {
            let counted = thread.connections.clone();
            thread.event_loop.spawn(async move {
                connection.await;
                drop(counted);
            });
        }
    }
}

impl Answering {
    fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .max_blocking_threads(BLOCKING)
            .thread_stack_size(STACK)
            .thread_name("http files")
            .on_thread_start(|| count_this_stack(STACK))
            .enable_all()
            .build()?;
        let event_loop = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("http".to_owned())
            .stack_size(STACK);
        let thread = thread.spawn(move || {
            count_this_stack(STACK);
            let _ = runtime.block_on(stopped);
            // A disk that does not answer holds up nobody's end.
            runtime.shutdown_background();
        })?;
        Ok(Self {
            event_loop,
            connections: Arc::new(()),
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // One that has panicked has said why.
            let _ = thread.join();
        }
    }
}
