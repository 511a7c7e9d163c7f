//! Transparent mode: each client's server is the one that it was connecting to when it was redirected here.
//!
//! The kernel remembers where a redirected connection was to go (`SO_ORIGINAL_DST`). A connection that was not redirected, and
//! one that this proxy has itself made, lead nowhere: they are refused, because what follows would be a loop.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::IntCounter;
use rustix::net::sockopt::{ip_original_dst, ipv6_original_dst};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpStream;

use crate::config::Address;
use crate::error::Outbreak;
use crate::metrics::Metrics;
use crate::trace::span::Endpoint;
use crate::upstream::Upstream;
use crate::worker::Destination;

/// Servers that are remembered between connections. A cluster has at most 1000 nodes; whoever scans a network has more.
const MAX_DESTINATIONS: usize = 1024;

/// The servers behind one listener.
pub struct Originals {
    listen: String,
    service_name: Arc<str>,
    region: Option<Arc<str>>,
    known: Mutex<Known>,
    outgoing: Arc<Outgoing>,
    metrics: Arc<Metrics>,
    not_redirected: Strays,
    own_connections: Strays,
}

struct Known {
    destinations: HashMap<SocketAddr, Arc<Destination>>,
    /// The number of the next: none is given twice, so that a delivery is never taken for another server's.
    next: u32,
}

/// Why a connection leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stray {
    /// The client meant this listener.
    NotRedirected,
    /// It comes from this process.
    OwnConnection,
}

/// Connections that lead nowhere for one reason: counted from the start, and logged when it begins.
struct Strays {
    count: IntCounter,
    outbreak: Outbreak,
}

impl Strays {
    fn of(metrics: &Metrics, reason: &'static str) -> Self {
        Self {
            count: metrics.strays(reason),
            outbreak: Outbreak::default(),
        }
    }

    /// There is one more; whether that is the beginning of it.
    fn begins(&self) -> bool {
        self.count.inc();
        self.outbreak.begins()
    }
}

impl Originals {
    /// None known yet. `first` is a number that no other server has, nor any above it.
    #[must_use]
    pub fn new(
        listen: String,
        service_name: Arc<str>,
        region: Option<Arc<str>>,
        first: u32,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            listen,
            service_name,
            region,
            known: Mutex::new(Known {
                destinations: HashMap::new(),
                next: first,
            }),
            outgoing: Arc::default(),
            not_redirected: Strays::of(&metrics, "not_redirected"),
            own_connections: Strays::of(&metrics, "own_connection"),
            metrics,
        }
    }

    /// Where a client was connecting to. That there is nothing is counted, and logged when it begins.
    ///
    /// # Errors
    /// If that cannot be gone on with.
    pub fn of(&self, client: &TcpStream) -> Result<Arc<Destination>, Stray> {
        let found = if self.outgoing.has(client) {
            Err(Stray::OwnConnection)
        } else {
            address(client).ok_or(Stray::NotRedirected)
        };
        found
            .map(|address| self.destination(address))
            .inspect_err(|stray| self.turned_away(*stray))
    }

    fn destination(&self, address: SocketAddr) -> Arc<Destination> {
        let mut known = self.lock();
        if let Some(destination) = known.destinations.get(&address) {
            return destination.clone();
        }
        if known.destinations.len() >= MAX_DESTINATIONS {
            known
                .destinations
                .retain(|_, destination| Arc::strong_count(destination) > 1);
        }
        let number = known.next;
        known.next = number.saturating_add(1);
        let destination = Arc::new(Destination {
            endpoint: Arc::new(Endpoint {
                service_name: self.service_name.clone(),
                server_address: address.ip().to_string().into(),
                server_port: Some(address.port()),
                region: self.region.clone(),
            }),
            upstream: Arc::new(Upstream::original(number, address, self.outgoing.clone())),
            greeting: None,
        });
        // Beyond, a server is known to its connections alone.
        if known.destinations.len() < MAX_DESTINATIONS {
            known.destinations.insert(address, destination.clone());
        }
        let count = i64::try_from(known.destinations.len()).unwrap_or(i64::MAX);
        self.metrics.destinations.set(count);
        destination
    }

    #[cold]
    fn turned_away(&self, stray: Stray) {
        match stray {
            Stray::NotRedirected if self.not_redirected.begins() => tracing::warn!(
                listen = %self.listen,
                "a client connected to this listener itself and was not redirected here: there is no server that it leads to; let clients connect to the server's address, and redirect them with tars-proxy intercept"
            ),
            Stray::OwnConnection if self.own_connections.begins() => tracing::error!(
                listen = %self.listen,
                uid = rustix::process::geteuid().as_raw(),
                "a connection that this proxy made was redirected back to it, and is closed; except its user from the redirection (tars-proxy intercept --except-uid)"
            ),
            _ => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a client was connecting to, if that was not here.
fn address(client: &TcpStream) -> Option<SocketAddr> {
    let local = canonical(client.local_addr().ok()?);
    // A dual-stack socket may have a client of IPv4; it is asked for as such. Without connection tracking, or of a connection that
    // it has not seen, the answer is an error: nothing was redirected.
    let original = match local.ip() {
        IpAddr::V4(_) => ip_original_dst(client).map(SocketAddr::V4),
        IpAddr::V6(_) => ipv6_original_dst(client).map(SocketAddr::V6),
    };
    let original = canonical(original.ok()?);
    let is_here = original.ip() == local.ip() && original.port() == local.port();
    (!is_here).then_some(original)
}

/// IPv4 as IPv4, however the socket sees it.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, address.port()),
        // With the scope of a link-local address.
        IpAddr::V6(_) => address,
    }
}

/// The loopback address of IPv6 beside that of IPv4: connections that are made here are redirected to either.
#[must_use]
pub fn twin(address: &Address) -> Option<Address> {
    match address.as_socket_addr()? {
        SocketAddr::V4(v4) if v4.ip().is_loopback() => Some(Address::tcp("::1", v4.port())),
        _ => None,
    }
}

/// Where this process' own connections to servers come from, so that one that is redirected back is known for what it is.
#[derive(Default)]
pub struct Outgoing(Mutex<HashSet<SocketAddr>>);

/// One of them.
pub struct Departure {
    outgoing: Arc<Outgoing>,
    from: SocketAddr,
}

impl Outgoing {
    /// Connects. Before anybody else of this thread can accept the connection, it is known.
    ///
    /// # Errors
    /// Those of `connect(2)`.
    pub async fn connect(self: &Arc<Self>, to: SocketAddr) -> io::Result<(TcpStream, Departure)> {
        let kind = Type::STREAM.nonblocking().cloexec();
        let socket = Socket::new(Domain::for_address(to), kind, Some(Protocol::TCP))?;
        match socket.connect(&to.into()) {
            Err(error) if error.raw_os_error() == Some(EINPROGRESS) => {}
            connected => connected?,
        }
        let from = socket.local_addr()?.as_socket();
        let from = canonical(from.ok_or(io::ErrorKind::AddrNotAvailable)?);
        self.lock().insert(from);
        let departure = Departure {
            outgoing: self.clone(),
            from,
        };
        let stream = TcpStream::from_std(socket.into())?;
        stream.writable().await?;
        match stream.take_error()? {
            Some(error) => Err(error),
            None => Ok((stream, departure)),
        }
    }

    fn has(&self, client: &TcpStream) -> bool {
        let peer = client.peer_addr();
        peer.is_ok_and(|peer| self.lock().contains(&canonical(peer)))
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<SocketAddr>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Departure {
    fn drop(&mut self) {
        self.outgoing.lock().remove(&self.from);
    }
}

/// The connection is being made (`errno(3)`, Linux).
const EINPROGRESS: i32 = 115;

#[cfg(test)]
mod tests;
