//! The server behind a listener: how to reach it, and whether it can be reached.

mod health;

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use prometheus::IntGauge;
use tars_sidecar::readiness::Readiness;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::config::Address;
use crate::error::Outbreak;
use crate::original::{Departure, Outgoing};
use crate::socket::Socket;
use crate::tls::{self, Connector};
use health::Health;

/// How often a server that is up, and that has said nothing to a client meanwhile, is tried.
const CHECK_UP: Duration = Duration::from_secs(5);
/// How often a server that is down is tried.
const CHECK_DOWN: Duration = Duration::from_millis(250);
/// What a server that is up takes at most to accept and answer a PING: longer, and it is not ready for traffic.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);
/// What a TLS handshake takes at most, for a client: a server that is busy with a slow script does not shake hands
/// meanwhile, and one without TLS waits for the end of a line for ever.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

/// One server.
pub struct Upstream {
    /// Its number among all.
    pub number: u32,
    address: Address,
    tls: Option<Connector>,
    /// As it is logged: `redis:6379`, `rediss://redis:6379`.
    name: String,
    /// None for a server that clients named themselves: it need not be Redis, is asked nothing that they do not ask, and nobody
    /// waits for it.
    health: Option<Health>,
    /// Where connections to such a server come from.
    outgoing: Option<Arc<Outgoing>>,
    /// Such a server is gone.
    away: Outbreak,
    /// Whether the last check could connect and yet found that the server is of no use: connecting alone does not end that.
    useless: AtomicBool,
    /// Whether the last that is known of it is that it takes commands without AUTH.
    open: AtomicBool,
    /// No connection can be opened for want of something on this side.
    starved: Outbreak,
    connections: AtomicUsize,
    /// Whether it has said something to a client since the last look.
    heard: AtomicBool,
    /// A client found it gone: it is looked at from now on until it is back.
    missed: Notify,
}

/// Counts a connection to a server while it lives.
pub struct Connected {
    upstream: Arc<Upstream>,
    /// Boxed: it is for few, and every connection has room for it.
    _departure: Option<Box<Departure>>,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.upstream.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Upstream {
    /// A server of which nothing is known yet. Its name is that of its condition in `/ready`.
    #[must_use]
    pub fn new(
        number: u32,
        address: Address,
        tls: Option<Connector>,
        name: String,
        readiness: Readiness,
        gauge: IntGauge,
    ) -> Self {
        let health = Health::new(format!("upstream {name}"), readiness, gauge);
        Self {
            tls,
            health: Some(health),
            ..Self::at(number, address, name)
        }
    }

    /// A server that a client was connecting to when it was redirected here.
    #[must_use]
    pub fn original(number: u32, address: SocketAddr, outgoing: Arc<Outgoing>) -> Self {
        let address = Address::from(address);
        let name = address.to_string();
        Self {
            outgoing: Some(outgoing),
            ..Self::at(number, address, name)
        }
    }

    fn at(number: u32, address: Address, name: String) -> Self {
        Self {
            number,
            address,
            tls: None,
            name,
            health: None,
            outgoing: None,
            away: Outbreak::default(),
            useless: AtomicBool::new(false),
            open: AtomicBool::new(false),
            starved: Outbreak::default(),
            connections: AtomicUsize::new(0),
            heard: AtomicBool::new(false),
            missed: Notify::new(),
        }
    }

    /// As it is logged.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// TLS to it, if it is reached so.
    #[must_use]
    pub fn tls(&self) -> Option<&Connector> {
        self.tls.as_ref()
    }

    /// Whether a new connection may send commands without AUTH, as far as is known.
    #[inline]
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    /// The server showed whether it takes commands without AUTH.
    pub fn set_open(&self, open: bool) {
        self.open.store(open, Ordering::Relaxed);
    }

    /// The server said something to a client.
    #[inline]
    pub fn heard(&self) {
        // Looked at first: a line of memory that all threads write is passed between their processors.
        if !self.heard.load(Ordering::Relaxed) {
            self.heard.store(true, Ordering::Relaxed);
        }
    }

    /// Opens a connection for a client.
    ///
    /// # Errors
    /// Those of name resolution, of `connect(2)` and of the TLS handshake.
    pub async fn connect(self: &Arc<Self>) -> io::Result<(Socket, Connected)> {
        match self.dial().await {
            Ok((socket, departure)) => {
                if !self.useless.load(Ordering::Relaxed) {
                    self.reached();
                }
                self.connections.fetch_add(1, Ordering::Relaxed);
                Ok((
                    socket,
                    Connected {
                        upstream: self.clone(),
                        _departure: departure.map(Box::new),
                    },
                ))
            }
            Err(error) => {
                if is_ours(&error) {
                    if self.starved.begins() {
                        tracing::warn!(upstream = %self.name, %error, "no connection to the server can be opened from here; its clients' connections are closed until one can");
                    }
                } else {
                    if self.is_up() {
                        self.missed.notify_one();
                    }
                    self.lost(&error);
                }
                Err(error)
            }
        }
    }

    async fn dial(&self) -> io::Result<(Socket, Option<Departure>)> {
        if let (Some(outgoing), Some(address)) = (&self.outgoing, self.address.as_socket_addr()) {
            let (stream, departure) = outgoing.connect(address).await?;
            return Ok((Socket::tcp(stream)?, Some(departure)));
        }
        let socket = self.dial_plain().await?;
        match (&self.tls, socket) {
            (Some(tls), Socket::Tcp(stream)) => {
                // A server that the last check found to be of no use need not be waited for as long as one that is busy.
                let limit = match self.useless.load(Ordering::Relaxed) {
                    true => CHECK_TIMEOUT,
                    false => HANDSHAKE_TIMEOUT,
                };
                within(limit, NO_HANDSHAKE, tls.connect(stream)).await
            }
            (_, socket) => Ok(socket),
        }
        .map(|socket| (socket, None))
    }

    async fn dial_plain(&self) -> io::Result<Socket> {
        match &self.address {
            Address::Tcp { host, port } => {
                let stream = match self.address.as_socket_addr() {
                    Some(address) => TcpStream::connect(address).await?,
                    None => TcpStream::connect((&**host, *port)).await?,
                };
                Socket::tcp(stream)
            }
            Address::Unix(path) => Ok(UnixStream::connect(path).await?.into()),
        }
    }

    fn is_up(&self) -> bool {
        self.health.as_ref().is_some_and(Health::is_up)
    }

    fn reached(&self) {
        if self.health.as_ref().is_some_and(Health::reached) {
            tracing::info!(upstream = %self.name, "server is reachable again");
        }
    }

    fn lost(&self, error: &io::Error) {
        let begins = match &self.health {
            Some(health) => health.lost(error.to_string()),
            None => self.away.begins(),
        };
        if !begins {
            return;
        }
        match error.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::ResourceBusy => {
                tracing::warn!(upstream = %self.name, %error, "server does not serve; its clients wait, or are told so by it, until it does");
            }
            _ => {
                tracing::warn!(upstream = %self.name, %error, "server cannot be reached; its clients' connections are closed until it can");
            }
        }
    }

    /// Follows the server for as long as the process runs: readiness must not wait for a client. A server that has just said
    /// something to a client is left alone.
    pub async fn watch(&self) {
        loop {
            let heard = self.heard.swap(false, Ordering::Relaxed);
            let has_clients = self.connections.load(Ordering::Relaxed) > 0;
            let checked = match self.is_up() && has_clients {
                true if heard => Ok(()),
                // With TLS, a server logs a connection without a handshake as an error.
                true if self.tls.is_none() => self.glance().await,
                _ => self.check().await,
            };
            match checked {
                Ok(()) => self.reached(),
                Err(error) => self.lost(&error),
            }
            let pause = if self.is_up() { CHECK_UP } else { CHECK_DOWN };
            // Either ends the pause.
            let _ = timeout(pause, self.missed.notified()).await;
        }
    }

    /// Whether the server still looks at its connections: it closes one whose client has nothing to say. No command is
    /// sent, so that clients see none in MONITOR.
    async fn glance(&self) -> io::Result<()> {
        let seen = async {
            let mut socket = self.dial_plain().await?;
            poll_fn(|cx| socket.poll_shutdown(cx)).await?;
            let mut answer = [0; 64];
            poll_fn(|cx| socket.poll_read(cx, &mut answer)).await?;
            Ok(())
        };
        let seen = within(CHECK_TIMEOUT, NO_CLOSE, seen).await;
        self.useless.store(seen.is_err(), Ordering::Relaxed);
        seen
    }

    /// Connects and sends PING: that a connection can be made says little. The kernel makes it for a server that is frozen,
    /// and a balancer for one that is gone; with TLS, a server says after the handshake what it has against our certificate.
    async fn check(&self) -> io::Result<()> {
        let socket = within(CHECK_TIMEOUT, NO_CONNECTION, self.dial_plain()).await;
        let socket = match socket {
            Ok(socket) => socket,
            Err(error) => {
                self.useless.store(false, Ordering::Relaxed);
                return Err(error);
            }
        };
        let used = match (&self.tls, socket) {
            (Some(tls), Socket::Tcp(stream)) => self.check_tls(tls, stream).await,
            (_, socket) => self.check_plain(socket).await,
        };
        self.useless.store(used.is_err(), Ordering::Relaxed);
        used
    }

    async fn check_plain(&self, socket: Socket) -> io::Result<()> {
        let answered = within(CHECK_TIMEOUT, NO_ANSWER, self.ping(socket)).await;
        match answered {
            // A server that speaks TLS closes on what is none, some after an alert; one that does not would have answered.
            Err(error) if error.kind() != io::ErrorKind::TimedOut && self.speaks_tls().await => {
                Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    tls::ASKED_WITHOUT_TLS,
                ))
            }
            answered => answered,
        }
    }

    async fn check_tls(&self, tls: &Connector, stream: TcpStream) -> io::Result<()> {
        match within(CHECK_TIMEOUT, NO_HANDSHAKE, tls.connect(stream)).await {
            Ok(socket) => within(CHECK_TIMEOUT, NO_ANSWER, self.ping(socket))
                .await
                .map_err(|error| tls.explain(error)),
            // To Redis without TLS a handshake is the beginning of a line.
            Err(error) if error.kind() == io::ErrorKind::TimedOut && self.speaks_plain().await => {
                Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    tls::ASKED_WITH_TLS,
                ))
            }
            Err(error) => Err(error),
        }
    }

    async fn ping(&self, mut socket: Socket) -> io::Result<()> {
        let mut answer = [0; 64];
        let read = exchange(&mut socket, PING, &mut answer).await?;
        match answer.get(..read).unwrap_or_default() {
            [] => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the server closed the connection instead of answering PING",
            )),
            [b'+', ..] => {
                self.set_open(true);
                Ok(())
            }
            // It takes connections, and commands only once it has read its data.
            [b'-', b'L', b'O', b'A', b'D', b'I', b'N', b'G', b' ', ..] => Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "the server is loading its data",
            )),
            [b'-', ..] => {
                self.set_open(false);
                Ok(())
            }
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "what answers there does not speak RESP: is it Redis?",
            )),
        }
    }

    async fn speaks_tls(&self) -> bool {
        tls::is_record(&self.answer(&tls::client_hello()).await)
    }

    async fn speaks_plain(&self) -> bool {
        matches!(self.answer(PING).await.first(), Some(b'+' | b'-'))
    }

    /// What a connection of its own, without TLS, is answered; nothing if it is not.
    async fn answer(&self, question: &[u8]) -> Vec<u8> {
        let asked = async {
            let mut answer = vec![0; 64];
            let mut socket = self.dial_plain().await?;
            let read = exchange(&mut socket, question, &mut answer).await?;
            answer.truncate(read);
            Ok(answer)
        };
        within(CHECK_TIMEOUT, NO_ANSWER, asked)
            .await
            .unwrap_or_default()
    }
}

const NO_CONNECTION: &str = "no connection";
const NO_HANDSHAKE: &str = "no answer to the TLS handshake";
const NO_ANSWER: &str = "no answer to PING";
const NO_CLOSE: &str = "no sign of life";

/// What is not done in time has failed.
async fn within<T>(
    limit: Duration,
    what: &str,
    done: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    timeout(limit, done).await.unwrap_or_else(|_| {
        let text = format!("{what} within {} s", limit.as_secs());
        Err(io::Error::new(io::ErrorKind::TimedOut, text))
    })
}

/// Sends all of `question`, and reads once.
async fn exchange(socket: &mut Socket, question: &[u8], answer: &mut [u8]) -> io::Result<usize> {
    let mut rest = question;
    while !rest.is_empty() {
        let sent = poll_fn(|cx| socket.poll_write(cx, rest)).await?;
        rest = rest.get(sent..).unwrap_or_default();
    }
    poll_fn(|cx| socket.poll_flush(cx)).await?;
    poll_fn(|cx| socket.poll_read(cx, answer)).await
}

/// Whether a connection failed for want of something on this side: descriptors, memory or local ports say nothing of the
/// server.
fn is_ours(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::OutOfMemory
    ) || matches!(error.raw_os_error(), Some(EMFILE | ENFILE))
}

/// No descriptor left for this process (`errno(3)`, Linux).
const EMFILE: i32 = 24;
/// No descriptor left for anybody.
const ENFILE: i32 = 23;
