//! Accepts clients, and joins each to a connection of its own to the server.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Duration;

use tars_sidecar::drain::DrainGuard;
use tars_sidecar::listen::Listener as Bound;
use tokio::net::{TcpListener, UnixListener};
use tokio::time::{sleep, timeout};

use crate::connection::Connection;
use crate::error::{Error, Outbreak};
use crate::socket::Socket;
use crate::worker::{Destinations, Listener, Shared, Worker};

/// Out of file descriptors or memory: trying again at once would only burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a client's TLS handshake takes at most: one that never ends would hold a place for nothing.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// When a drain closes a connection, what the client has just sent is read and thrown away for at most so long: closing
/// with unread bytes would be a reset, and could take replies with it that are still on their way.
const LINGER: Duration = Duration::from_secs(1);

/// What Redis and Valkey say beyond `maxclients`: clients know it, and some try again because of it.
const REFUSAL: &[u8] = b"-ERR max number of clients reached\r\n";

/// Refusals that are under way at once, over all listeners: each holds a descriptor for as long as [`LINGER`]. Who comes
/// beyond is reset.
const MAX_REFUSALS: usize = 32;
static REFUSALS: AtomicUsize = AtomicUsize::new(0);

/// Clients come beyond `max_connections`.
static FULL: Outbreak = Outbreak::new();

/// A thread's own handle on a listening socket.
pub enum Acceptor {
    /// TCP
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
}

impl Acceptor {
    /// Another handle on `bound`, for this thread's runtime.
    ///
    /// # Errors
    /// If the process has no descriptor left.
    pub fn new(bound: &Bound) -> io::Result<Self> {
        Ok(match bound {
            Bound::Tcp(listener) => Self::Tcp(TcpListener::from_std(listener.try_clone()?)?),
            Bound::Unix(file) => Self::Unix(UnixListener::from_std(file.try_clone()?)?),
        })
    }

    async fn accept(&self) -> io::Result<Socket> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // What fails here is this client's connection, not the listening.
                Socket::tcp(stream).map_err(|_| io::ErrorKind::ConnectionAborted.into())
            }
            Self::Unix(listener) => Ok(listener.accept().await?.0.into()),
        }
    }
}

/// Accepts until the proxy drains.
pub async fn serve(acceptor: Acceptor, listener: Arc<Listener>, worker: Rc<Worker>) {
    let drain = worker.shared.drain.clone();
    let mut started = std::pin::pin!(drain.started());
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut started => return,
            accepted = acceptor.accept() => accepted,
        };
        match accepted {
            Ok(client) => open(client, &listener, &worker),
            // The client was gone before it was accepted.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if listener.starved.begins() {
                    tracing::warn!(%error, "cannot accept connections; trying on");
                }
                worker.shared.metrics.error("proxy");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A place among `max_connections`, given back when dropped.
struct Place(Arc<Shared>);

impl Place {
    fn take(shared: &Arc<Shared>) -> Option<Self> {
        shared
            .room
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |room| {
                room.checked_sub(1)
            })
            .ok()
            .map(|_| {
                shared.metrics.connections.inc();
                shared.metrics.connections_total.inc();
                Self(shared.clone())
            })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.room.fetch_add(1, Ordering::Relaxed);
        self.0.metrics.connections.dec();
    }
}

fn open(client: Socket, listener: &Arc<Listener>, worker: &Rc<Worker>) {
    let Some(place) = Place::take(&worker.shared) else {
        worker.shared.metrics.connections_refused.inc();
        refuse(client, listener, worker);
        return;
    };
    let guard = worker.shared.drain.guard();
    let (listener, worker) = (listener.clone(), worker.clone());
    tokio::task::spawn_local(async move {
        let kept = (place, guard);
        let client = match Box::pin(shake_hands(client, &listener)).await {
            Ok(client) => client,
            // A probe that looks whether the port is open.
            Err(error) if is_gone(&error) => return,
            Err(error) => {
                worker.shared.metrics.error("client");
                if !listener.tls_fails.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, listen = %listener.address, "a client's TLS handshake failed; further failures are not logged until one succeeds");
                }
                return;
            }
        };
        let destination = match (&listener.destinations, &client) {
            (Destinations::One(destination), _) => destination.clone(),
            (Destinations::Original(originals), Socket::Tcp(stream)) => {
                match originals.of(stream) {
                    Ok(destination) => destination,
                    Err(_) => {
                        client.reset_on_close();
                        return;
                    }
                }
            }
            // There is none: the configuration refuses it.
            (Destinations::Original(_), _) => return,
        };
        // Boxed: connecting takes more room than a connection, and is over soon.
        let connected = Box::pin(destination.upstream.connect()).await;
        let (server, connected) = match connected {
            Ok(connected) => connected,
            Err(_) => {
                // The client sees what it would see without us: nobody there.
                worker.shared.metrics.error("server");
                client.reset_on_close();
                return;
            }
        };
        let connection = Connection::new(
            worker.clone(),
            listener,
            destination,
            client,
            server,
            connected,
        );
        tokio::task::spawn_local(Serving(Some((connection, worker, kept))));
    });
}

/// A connection, until it has ended. A task of its own and no `async fn`: nothing stands between the event loop, which wakes it
/// twice for a request, and the connection.
struct Serving(Option<(Connection, Rc<Worker>, Kept)>);

/// What is given back with the last of a connection.
type Kept = (Place, DrainGuard);

impl Future for Serving {
    type Output = ();

    fn poll(self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<()> {
        let serving = &mut self.get_mut().0;
        let Some((connection, ..)) = serving else {
            return Poll::Ready(());
        };
        let result = ready!(Pin::new(connection).poll(task));
        if let Some((connection, worker, kept)) = serving.take() {
            ended(connection, &result, &worker, kept);
        }
        Poll::Ready(())
    }
}

#[cold]
fn ended(connection: Connection, result: &Result<(), Error>, worker: &Worker, kept: Kept) {
    if let Err(error) = result
        && !error.is_reset()
    {
        worker.shared.metrics.error(error.side.label());
        tracing::debug!(%error, "connection ended");
    }
    let refused = connection.is_refused();
    let client = connection.close(result);
    if (refused || worker.is_draining()) && result.is_ok() {
        tokio::task::spawn_local(async move {
            let _kept = kept;
            // The time is the bound; whether the client went in it makes no difference.
            let _ = timeout(LINGER, Box::pin(linger(client))).await;
        });
    }
}

/// Says what Redis says to clients beyond its own limit, and closes.
fn refuse(client: Socket, listener: &Listener, worker: &Worker) {
    if FULL.begins() {
        tracing::warn!(
            connections = worker.shared.metrics.connections.get(),
            "max_connections are open; further clients are refused, and counted in tars_proxy_connections_refused_total"
        );
    }
    // Without a handshake nothing can be said in TLS, and Redis makes none for it either.
    let Some(place) = Refusal::begin().filter(|_| listener.tls.is_none()) else {
        client.reset_on_close();
        return;
    };
    tokio::task::spawn_local(async move {
        let _kept = place;
        // A client that does not take it has been told as well as may be.
        let _ = timeout(LINGER, Box::pin(dismiss(client))).await;
    });
}

/// A refusal that is on its way to a client, out of [`MAX_REFUSALS`].
struct Refusal;

impl Refusal {
    fn begin() -> Option<Self> {
        let more = |under_way| (under_way < MAX_REFUSALS).then_some(under_way + 1);
        REFUSALS
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()
            .map(|_| Self)
    }
}

impl Drop for Refusal {
    fn drop(&mut self) {
        REFUSALS.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn dismiss(mut client: Socket) -> io::Result<()> {
    let mut rest = REFUSAL;
    while !rest.is_empty() {
        let written = poll_fn(|cx| client.poll_write(cx, rest)).await?;
        rest = rest.get(written..).unwrap_or_default();
    }
    // Closing at once would be a reset where the client has said something, and could take our words with it.
    linger(client).await
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected
    )
}

/// Begins TLS with a client, if its listener has it.
async fn shake_hands(client: Socket, listener: &Listener) -> io::Result<Socket> {
    let (tls, stream) = match (&listener.tls, client) {
        (Some(tls), Socket::Tcp(stream)) => (tls, stream),
        (_, client) => return Ok(client),
    };
    let peer = stream.peer_addr()?;
    let of_peer =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", peer.ip()));
    let client = timeout(HANDSHAKE_TIMEOUT, tls.accept(stream))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "it does not go on"))
        .and_then(|accepted| accepted)
        .map_err(of_peer)?;
    listener.tls_fails.store(false, Ordering::Relaxed);
    Ok(client)
}

/// Says that no more comes, and reads until the client is gone.
async fn linger(mut client: Socket) -> io::Result<()> {
    poll_fn(|cx| client.poll_shutdown(cx)).await?;
    let mut sink = [0; 1024];
    while poll_fn(|cx| client.poll_read(cx, &mut sink)).await? > 0 {}
    Ok(())
}
