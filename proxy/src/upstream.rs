//! The server behind a listener: how to reach it, and whether it can be reached.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use prometheus::IntGauge;
use tars_sidecar::readiness::Readiness;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{sleep, timeout};

use crate::config::Address;
use crate::socket::Socket;

/// How often a server that is up, and that no connection leads to, is tried.
const CHECK_UP: Duration = Duration::from_secs(5);
/// How often a server that is down is tried.
const CHECK_DOWN: Duration = Duration::from_millis(250);
/// What a server that is up takes at most to accept and answer a PING: longer, and it is not ready for traffic.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// One server.
pub struct Upstream {
    /// Its number among all.
    pub number: u16,
    address: Address,
    readiness: Readiness,
    condition: String,
    gauge: IntGauge,
    up: AtomicBool,
    /// Whether the last that is known of it is that it takes commands without AUTH.
    open: AtomicBool,
    /// Whether an outage has been logged.
    logged: AtomicBool,
    connections: AtomicUsize,
}

/// Counts a connection to a server while it lives.
pub struct Connected {
    upstream: std::sync::Arc<Upstream>,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.upstream.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Upstream {
    /// A server of which nothing is known yet.
    #[must_use]
    pub fn new(number: u16, address: Address, readiness: Readiness, gauge: IntGauge) -> Self {
        let condition = format!("upstream {address}");
        readiness.set(condition.clone(), Err("not reached yet".to_owned()));
        Self {
            number,
            address,
            readiness,
            condition,
            gauge,
            up: AtomicBool::new(false),
            open: AtomicBool::new(false),
            logged: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
        }
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

    /// Opens a connection for a client.
    ///
    /// # Errors
    /// Those of name resolution and of `connect(2)`.
    pub async fn connect(self: &std::sync::Arc<Self>) -> io::Result<(Socket, Connected)> {
        match self.dial().await {
            Ok(socket) => {
                self.reached();
                self.connections.fetch_add(1, Ordering::Relaxed);
                Ok((
                    socket,
                    Connected {
                        upstream: self.clone(),
                    },
                ))
            }
            Err(error) => {
                self.lost(&error);
                Err(error)
            }
        }
    }

    async fn dial(&self) -> io::Result<Socket> {
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

    fn reached(&self) {
        if !self.up.swap(true, Ordering::Relaxed) {
            self.gauge.set(1);
            self.readiness.set(self.condition.clone(), Ok(()));
            if self.logged.swap(false, Ordering::Relaxed) {
                tracing::info!(upstream = %self.address, "server is reachable again");
            }
        }
    }

    fn lost(&self, error: &io::Error) {
        self.up.store(false, Ordering::Relaxed);
        self.gauge.set(0);
        if !self.logged.swap(true, Ordering::Relaxed) {
            self.readiness
                .set(self.condition.clone(), Err(error.to_string()));
            tracing::warn!(upstream = %self.address, %error, "server cannot be reached; its clients' connections are closed until it can");
        }
    }

    /// Follows the server for as long as the process runs: readiness must not wait for a client. A server that clients
    /// are connected to is known to be there, and is left alone.
    pub async fn watch(&self) {
        loop {
            if self.connections.load(Ordering::Relaxed) == 0 || !self.up.load(Ordering::Relaxed) {
                match timeout(CHECK_TIMEOUT, self.check()).await {
                    Ok(Ok(())) => self.reached(),
                    Ok(Err(error)) => self.lost(&error),
                    Err(_) => self.lost(&io::Error::new(
                        io::ErrorKind::TimedOut,
                        "no answer to PING within 2 s",
                    )),
                }
            }
            sleep(if self.up.load(Ordering::Relaxed) {
                CHECK_UP
            } else {
                CHECK_DOWN
            })
            .await;
        }
    }

    /// Connects; and the first time after an outage asks whether commands are taken without AUTH. Later a connection is
    /// enough: what is known is corrected by the answers that clients get, and no needless command shows up in MONITOR.
    async fn check(&self) -> io::Result<()> {
        let mut socket = self.dial().await?;
        if self.up.load(Ordering::Relaxed) {
            return Ok(());
        }
        const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";
        let mut answer = [0; 64];
        let read = match &mut socket {
            Socket::Tcp(stream) => {
                stream.write_all(PING).await?;
                stream.read(&mut answer).await?
            }
            Socket::Unix(stream) => {
                stream.write_all(PING).await?;
                stream.read(&mut answer).await?
            }
        };
        match answer.get(..read).unwrap_or_default() {
            [] => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the server closed the connection instead of answering PING",
            )),
            [b'+', ..] => {
                self.set_open(true);
                Ok(())
            }
            [b'-', ..] => {
                self.set_open(false);
                Ok(())
            }
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "what answers there does not speak RESP: is it Redis, and without TLS?",
            )),
        }
    }
}
