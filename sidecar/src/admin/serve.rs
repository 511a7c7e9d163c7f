//! Accepting and answering connections, within bounds. `axum::serve` has no time-outs at all, hence hyper itself.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::header::RETRY_AFTER;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::serve::Listener as Accept;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tower::ServiceExt;

use super::stall::Stall;
use crate::address::Address;
use crate::drain::Drain;
use crate::listen::Listener;

/// Connections at once. A scraper or two and a few browser tabs need a dozen.
const MAX_CONNECTIONS: usize = 96;
/// As many beyond that, for a probe each: whoever holds all of the others holds up no probe. More wait in the kernel.
const PROBE_CONNECTIONS: usize = 32;
/// What a connection of those has for its one question and answer.
const PROBE_LIFETIME: Duration = Duration::from_secs(2);
/// What is answered there.
const PROBES: [&str; 2] = ["/live", "/ready"];
/// From the connection, or the answer before, to the end of a request's headers. Ends slow and idle clients.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// From a request's headers to its answer's headers, the reading of its body included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Then nothing of an answer was taken, and its connection ends.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Then a connection must be made anew: bounds what a client that reads a byte now and then can hold.
const MAX_LIFETIME: Duration = Duration::from_secs(300);
/// For the answer under way, when a connection is to end.
const LAST_ANSWER: Duration = Duration::from_secs(5);
/// For what is read before the request is understood; hyper's least.
const MAX_HEADERS: usize = 8192;
/// Who sent a request: [`ConnectInfo<Peer>`] as an extractor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Over TCP.
    Tcp(SocketAddr),
    /// Over the unix socket: somebody on this machine with the right to write to its file.
    Unix,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Any,
    /// One probe.
    Probe,
}

/// An admin server that listens.
#[derive(Debug)]
pub struct Bound {
    listener: Listener,
    router: Router,
    drain: Drain,
}

impl Bound {
    pub(super) fn new(listener: Listener, router: Router, drain: Drain) -> Self {
        Self {
            listener,
            router,
            drain,
        }
    }

    /// Where it listens, with the port that was found when 0 was asked for.
    ///
    /// # Errors
    /// When the operating system does not tell.
    pub fn local_addr(&self) -> io::Result<Address> {
        self.listener.local_addr()
    }

    /// Answers until the drain has finished: a process that is ending is still probed and scraped. Holds no guard;
    /// awaited after the drain it gives answers under way, such as that to `POST /drain`, a few seconds.
    /// Must run inside a tokio runtime, any one; dropping it ends every connection.
    ///
    /// # Errors
    /// When the socket cannot be handed to the runtime.
    pub async fn serve(self) -> io::Result<()> {
        let Self {
            listener,
            router,
            drain,
        } = self;
        match listener {
            Listener::Tcp(socket) => {
                let socket = TcpListener::from_std(socket)?;
                accept_all(socket, Peer::Tcp, router, drain).await;
            }
            Listener::Unix(file) => {
                let socket = UnixListener::from_std(file.try_clone()?)?;
                accept_all(socket, |_| Peer::Unix, router, drain).await;
            }
        }
        Ok(())
    }
}

async fn accept_all<L: Accept>(
    mut listener: L,
    peer: fn(L::Addr) -> Peer,
    router: Router,
    drain: Drain,
) {
    let mut connections = JoinSet::new();
    let mut finished = pin!(drain.finished());
    loop {
        tokio::select! {
            () = &mut finished => break,
            Some(_) = connections.join_next() => {}
            // Out of file descriptors: axum logs it and waits a second.
            (stream, address) = listener.accept(), if connections.len() < MAX_CONNECTIONS + PROBE_CONNECTIONS => {
                let place = if connections.len() < MAX_CONNECTIONS { Place::Any } else { Place::Probe };
                connections.spawn(connection(stream, peer(address), place, router.clone(), drain.clone()));
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn connection<S>(stream: S, peer: Peer, place: Place, router: Router, drain: Drain)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request| answer(request, peer, place, &router));
    let lifetime = match place {
        Place::Any => MAX_LIFETIME,
        Place::Probe => PROBE_LIFETIME,
    };
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(MAX_HEADERS)
            .keep_alive(place == Place::Any)
            .serve_connection(TokioIo::new(Stall::new(stream, WRITE_TIMEOUT)), service)
    );
    let ended = tokio::select! {
        ended = &mut connection => Some(ended),
        () = drain.finished() => None,
        () = sleep(lifetime) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            timeout(LAST_ANSWER, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(?peer, %error, "admin connection ended");
    }
}

async fn answer(
    mut request: Request<Incoming>,
    peer: Peer,
    place: Place,
    router: &Router,
) -> Result<Response, Infallible> {
    if place == Place::Probe && !PROBES.contains(&request.uri().path()) {
        return Ok(busy());
    }
    request.extensions_mut().insert(ConnectInfo(peer));
    match timeout(REQUEST_TIMEOUT, router.clone().oneshot(request)).await {
        Ok(answer) => answer,
        Err(_) => Ok((StatusCode::REQUEST_TIMEOUT, "The request took too long.\n").into_response()),
    }
}

fn busy() -> Response {
    let text = format!(
        "{MAX_CONNECTIONS} connections are open already; until one ends only {} are answered.\n",
        PROBES.join(" and ")
    );
    (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")], text).into_response()
}
