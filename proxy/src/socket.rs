//! A connected stream of any kind, polled without boxing where there is no TLS.

use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

use rustix::net::{RecvFlags, SendFlags};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::coop;
use tokio_rustls::TlsStream;

/// Redis looks after its clients like this (`tcp-keepalive 300`, `anetKeepAlive`): a peer that vanished without a word
/// is noticed, by the proxy as it would have been without it.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(300))
    .with_interval(Duration::from_secs(100))
    .with_retries(3);

/// A client's or a server's connection.
#[derive(Debug)]
pub enum Socket {
    /// TCP
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
    /// TLS over TCP. Boxed: its state takes a kilobyte and more.
    Tls(Box<TlsStream<TcpStream>>),
}

impl From<UnixStream> for Socket {
    fn from(stream: UnixStream) -> Self {
        Self::Unix(stream)
    }
}

impl Socket {
    /// A TCP connection, set up as Redis sets up its own.
    ///
    /// # Errors
    /// If the connection is broken already.
    pub fn tcp(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        SockRef::from(&stream).set_tcp_keepalive(&KEEPALIVE)?;
        Ok(Self::Tcp(stream))
    }

    /// A TCP connection that was set up as [`tcp`](Self::tcp) does, after the handshake.
    #[must_use]
    pub fn tls(stream: TlsStream<TcpStream>) -> Self {
        Self::Tls(Box::new(stream))
    }

    /// Reads what there is.
    ///
    /// # Errors
    /// Those of `read(2)`.
    #[inline]
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(buf);
        let read = match self {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, &mut buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, &mut buf),
            Self::Tls(stream) => match Pin::new(stream.as_mut()).poll_read(cx, &mut buf) {
                // Many a client closes without saying so in TLS. Redis takes it for an end, and RESP tells what was cut off.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    Poll::Ready(Ok(()))
                }
                read => read,
            },
        };
        read.map_ok(|()| buf.filled().len())
    }

    /// The same for who reads again and again. `waits` says whether the socket will wake this task, because it found nothing to
    /// read: then nothing is asked until that has happened.
    ///
    /// # Errors
    /// Those of `read(2)`.
    #[inline]
    pub fn poll_read_on(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
        waits: &mut bool,
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => poll_read_on(stream, cx, buf, waits),
            Self::Unix(stream) => poll_read_on(stream, cx, buf, waits),
            // A record may have been read that has not been handed out.
            Self::Tls(_) => self.poll_read(cx, buf),
        }
    }

    /// Whether reading is worth trying, as far as is known without asking.
    #[inline]
    pub fn is_readable(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.try_io(Interest::READABLE, || Ok(())).is_ok(),
            Self::Unix(stream) => stream.try_io(Interest::READABLE, || Ok(())).is_ok(),
            Self::Tls(_) => true,
        }
    }

    /// Writes what there is room for; nobody is woken when there is more.
    ///
    /// # Errors
    /// Those of `write(2)`, `WouldBlock` among them.
    #[inline]
    pub fn try_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_io(Interest::WRITABLE, || send(&*stream, buf)),
            Self::Unix(stream) => stream.try_io(Interest::WRITABLE, || send(&*stream, buf)),
            Self::Tls(stream) => match Pin::new(stream.as_mut()).poll_write(cx, buf) {
                Poll::Ready(written) => written,
                Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
            },
        }
    }

    /// Writes what there is room for.
    ///
    /// # Errors
    /// Those of `write(2)`.
    #[inline]
    pub fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, buf),
        }
    }

    /// Sends what was taken and is still held: TLS makes records, and the last one may have found no room.
    ///
    /// # Errors
    /// Those of `write(2)`.
    #[inline]
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(_) | Self::Unix(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    /// Says that no more bytes will come; in TLS too, by `close_notify`.
    ///
    /// # Errors
    /// Those of `shutdown(2)`.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }

    /// Makes the coming close a reset: what the other side did to us, or a refusal.
    pub fn reset_on_close(&self) {
        let stream = match self {
            Self::Tcp(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
            Self::Unix(_) => return,
        };
        // A socket that is already dead cannot be told, and need not be.
        let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
    }
}

/// `send(2)` and `recv(2)` are called without the C library, in which they are points where a thread may be cancelled: that costs
/// more than all the rest of the call.
#[inline]
fn send(stream: impl AsFd, buf: &[u8]) -> io::Result<usize> {
    Ok(rustix::net::send(stream, buf, SendFlags::NOSIGNAL)?)
}

/// A socket that is read without anything in between.
trait Plain: AsFd {
    fn try_readable(&self, read: impl FnOnce() -> io::Result<()>) -> io::Result<()>;
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

impl Plain for TcpStream {
    #[inline]
    fn try_readable(&self, read: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        self.try_io(Interest::READABLE, read)
    }

    #[inline]
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(cx)
    }
}

impl Plain for UnixStream {
    #[inline]
    fn try_readable(&self, read: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        self.try_io(Interest::READABLE, read)
    }

    #[inline]
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(cx)
    }
}

#[inline]
fn poll_read_on(
    stream: &impl Plain,
    cx: &mut Context<'_>,
    buf: &mut [u8],
    waits: &mut bool,
) -> Poll<io::Result<usize>> {
    loop {
        let mut n = 0;
        let read = stream.try_readable(|| {
            *waits = false;
            (_, n) = rustix::net::recv(stream, &mut *buf, RecvFlags::empty())?;
            // Less than there is room for: there is no more. Said like this, the event loop takes note of it, and a read that
            // finds nothing (EAGAIN) is spared.
            if 0 < n && n < buf.len() {
                Err(io::ErrorKind::WouldBlock.into())
            } else {
                Ok(())
            }
        });
        match read {
            Ok(()) => return Poll::Ready(Ok(n)),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                return Poll::Ready(Err(error));
            }
            Err(_) if *waits => return Poll::Pending,
            Err(_) => {
                let readable = stream.poll_readable(cx);
                // A task that has had its turn is polled again soon, and the socket does not know that it waits.
                *waits = readable.is_pending() && coop::has_budget_remaining();
                if n > 0 {
                    return Poll::Ready(Ok(n));
                }
                ready!(readable)?;
            }
        }
    }
}

#[cfg(test)]
mod tests;
