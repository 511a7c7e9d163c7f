//! One direction of a connection: read, have it understood, write on.

use std::cell::RefCell;
use std::io;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Instant;

use prometheus::Histogram;

use crate::chunk::Chunk;
use crate::error::{Error, Side};
use crate::socket::Socket;

/// Bytes read at a time. Larger reads make fewer system calls for large values; the buffer is one a thread.
pub(crate) const READ_BYTES: usize = 64 * 1024;

/// One read in so many is timed for `tars_proxy_added_seconds`: a look at the clock costs as much as framing a command.
pub(super) const TIMED_EVERY: u32 = 64;

/// Buffers of a thread: a task uses them between a read and the write that follows, and never across an await.
pub(super) struct Buffers {
    read: Box<[u8]>,
    out: Vec<u8>,
    reads: u32,
}

thread_local! {
    static BUFFERS: RefCell<Buffers> =
        RefCell::new(Buffers { read: vec![0; READ_BYTES].into_boxed_slice(), out: Vec::new(), reads: 0 });
}

/// The output buffer is kept at most this large: a pipeline of injected commands read at once grows by half.
pub(super) const KEPT_OUT_BYTES: usize = 2 * READ_BYTES;

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Pump {
    /// Read and not yet understood: the beginning of a command or reply that is held.
    pub(super) tail: Vec<u8>,
    /// Understood and not yet written.
    pub(super) pending: Vec<u8>,
    /// How much of it has been written.
    pub(super) written: usize,
    /// There was nothing to read, and the socket will wake the task when there is.
    pub(super) waits: bool,
    /// What is held may be understood now, without more of it.
    pub(super) again: bool,
    pub(super) end: End,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum End {
    #[default]
    Open,
    /// The one side has said that no more comes; the other is to be told.
    Read,
    /// It has been told.
    Told,
}

/// What one read brought.
#[derive(Default)]
pub(super) struct Pumped {
    pub(super) bytes: u64,
    /// When it was read, if it is timed.
    pub(super) since: Option<Instant>,
}

impl Pumped {
    #[inline]
    pub(super) fn observe(&self, added: &Histogram) {
        if let Some(since) = self.since {
            added.observe(since.elapsed().as_secs_f64());
        }
    }
}

impl Pump {
    /// Whether all is written, and the task will be woken when there is more to read.
    #[inline]
    pub(super) fn rests(&self, to: &Socket) -> bool {
        self.waits && self.pending.is_empty() && !to.holds()
    }

    /// Writes what is pending.
    #[inline(always)]
    pub(super) fn poll_flush(
        &mut self,
        to: &mut Socket,
        task: &mut TaskContext<'_>,
    ) -> Poll<io::Result<()>> {
        if self.pending.is_empty() {
            return to.poll_flush(task);
        }
        ready!(self.poll_pending(to, task))?;
        to.poll_flush(task)
    }

    #[cold]
    pub(super) fn poll_pending(
        &mut self,
        to: &mut Socket,
        task: &mut TaskContext<'_>,
    ) -> Poll<io::Result<()>> {
        while let Some(rest) = self
            .pending
            .get(self.written..)
            .filter(|rest| !rest.is_empty())
        {
            match ready!(to.poll_write(task, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.written += n,
            }
        }
        self.pending = Vec::new();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    /// Reads once, and holds what comes, up to a bound: so a client is noticed that leaves before anything of it may pass. Behind what is
    /// held, its end is found again later. Says whether to go on.
    #[cold]
    pub(super) fn poll_hold(
        &mut self,
        from: &mut Socket,
        task: &mut TaskContext<'_>,
    ) -> Poll<io::Result<bool>> {
        if self.tail.len() >= READ_BYTES {
            return Poll::Ready(Ok(false));
        }
        BUFFERS.with_borrow_mut(|Buffers { read, .. }| {
            let n = ready!(from.poll_read_on(task, read, &mut self.waits))?;
            if n == 0 && self.tail.is_empty() {
                self.end = End::Read;
                return Poll::Ready(Ok(true));
            }
            self.tail
                .extend_from_slice(read.get(..n).unwrap_or_default());
            Poll::Ready(Ok(n > 0))
        })
    }

    /// Reads once, has the bytes understood, and writes what may be written.
    pub(super) fn poll_pump(
        &mut self,
        from: &mut Socket,
        to: &mut Socket,
        task: &mut TaskContext<'_>,
        understand: impl FnOnce(&mut Chunk<'_>, &mut usize),
    ) -> Poll<Result<Pumped, Error>> {
        BUFFERS.with_borrow_mut(|Buffers { read, out, reads }| {
            let again = std::mem::take(&mut self.again) && !self.tail.is_empty();
            let n = match again {
                true => Ok(0),
                false => ready!(from.poll_read_on(task, read, &mut self.waits)),
            };
            let n = match n {
                Ok(n) => n,
                Err(error) => {
                    // What is held came before a reset: without us it would have arrived. No room for it means none then.
                    let _ = to.poll_write(task, &self.tail);
                    return Poll::Ready(Err(Error::of(Side::Client)(error)));
                }
            };
            if n == 0 && !again {
                // Half a command is passed on like all else: the server decides what to make of it.
                self.end = End::Read;
                self.pending = std::mem::take(&mut self.tail);
                return Poll::Ready(Ok(Pumped::default()));
            }
            *reads = reads.wrapping_add(1);
            let since = (*reads % TIMED_EVERY == 0).then(Instant::now);
            let fresh = read.get_mut(..n).unwrap_or_default();
            let mut consumed = 0;
            let held = !self.tail.is_empty();
            let work = if held {
                self.tail.extend_from_slice(fresh);
                &mut self.tail
            } else {
                fresh
            };
            let mut chunk = Chunk::new(work, out);
            understand(&mut chunk, &mut consumed);
            let bytes = chunk.finish(consumed);
            let mut written = 0;
            let mut failed = None;
            while written < bytes.len() {
                match to.try_write(task, bytes.get(written..).unwrap_or_default()) {
                    Ok(0) => {
                        failed = Some(io::ErrorKind::WriteZero.into());
                        break;
                    }
                    Ok(n) => written += n,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => {
                        failed = Some(error);
                        break;
                    }
                }
            }
            if failed.is_none()
                && let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty())
            {
                self.pending = rest.to_vec();
            }
            if held {
                self.tail.drain(..consumed);
                if self.tail.is_empty() {
                    self.tail = Vec::new();
                } else if consumed > 0 {
                    // What is left came with the end of a message that may have been large.
                    self.tail.shrink_to(READ_BYTES);
                }
            } else if let Some(rest) = read.get(consumed..n).filter(|rest| !rest.is_empty()) {
                self.tail = rest.to_vec();
            }
            if out.capacity() > KEPT_OUT_BYTES {
                *out = Vec::new();
            }
            match failed {
                Some(error) => Poll::Ready(Err(Error::of(Side::Server)(error))),
                None => Poll::Ready(Ok(Pumped {
                    bytes: n as u64,
                    since,
                })),
            }
        })
    }

    pub(super) fn is_at_rest(&self, to: &Socket) -> bool {
        self.held() == 0 && !to.holds()
    }

    /// Bytes that are held.
    pub(super) fn held(&self) -> usize {
        self.tail.len() + self.pending.len()
    }
}
