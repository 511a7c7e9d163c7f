//! A connected stream of either kind, polled without boxing.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

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
        };
        read.map_ok(|()| buf.filled().len())
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
        }
    }

    /// Says that no more bytes will come.
    ///
    /// # Errors
    /// Those of `shutdown(2)`.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    /// Makes the coming close a reset: what the other side did to us, or a refusal.
    pub fn reset_on_close(&self) {
        if let Self::Tcp(stream) = self {
            // A socket that is already dead cannot be told, and need not be.
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }
}
