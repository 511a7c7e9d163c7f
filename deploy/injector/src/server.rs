//! Accepting and answering API servers, within bounds: TLS, HTTP/1.1, hyper itself because `axum::serve` has no time-outs.
//!
//! API servers keep connections and use them again. Go's client gives one up after 90 s without use; here it lasts longer, so that
//! no review is sent into a connection that is being closed.

mod phase;

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tars_sidecar::drain::Drain;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;

use crate::metrics::{Failure, Metrics};
use phase::{Phase, Watched};

/// Connections at once; each costs some 40 KiB. An API server has as many as it has reviews under way.
const MAX_CONNECTIONS: usize = 256;
/// For what is read before the request is understood; hyper's least.
const MAX_HEADERS: usize = 8192;
/// For reviews under way, then.
const LAST_ANSWERS: Duration = Duration::from_secs(10);

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// A handshake.
    pub handshake: Duration,
    /// When the first byte is there, the rest of a request's headers.
    pub headers: Duration,
    /// A connection without a request: longer than Go's client keeps it (90 s).
    pub idle: Duration,
    /// Accepting, after the drain began: until every node has heard that this replica is going.
    pub linger: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(5),
            headers: Duration::from_secs(10),
            idle: Duration::from_secs(150),
            linger: Duration::from_secs(5),
        }
    }
}

/// A server that listens.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    parts: Parts,
}

#[derive(Clone)]
struct Parts {
    tls: TlsAcceptor,
    routes: Router,
    metrics: Arc<Metrics>,
    drain: Drain,
    timeouts: Timeouts,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}

impl Server {
    /// On a socket that listens already. Must be called inside a runtime.
    ///
    /// # Errors
    /// When the socket cannot be handed to the runtime.
    pub fn new(
        listener: std::net::TcpListener,
        tls: Arc<rustls::ServerConfig>,
        routes: Router,
        metrics: Arc<Metrics>,
        drain: Drain,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener: TcpListener::from_std(listener)?,
            parts: Parts {
                tls: tls.into(),
                routes,
                metrics,
                drain,
                timeouts: Timeouts::default(),
            },
        })
    }

    /// With other time-outs.
    #[must_use]
    pub fn with(mut self, timeouts: Timeouts) -> Self {
        self.parts.timeouts = timeouts;
        self
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the operating system does not tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until the drain has begun and what was under way is answered. Holds a guard of the drain until then.
    pub async fn serve(self) {
        let Self { listener, parts } = self;
        let _guard = parts.drain.guard();
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        let closing = Drain::new();
        let drain = parts.drain.clone();
        let mut over = pin!(async {
            drain.started().await;
            sleep(parts.timeouts.linger).await;
        });
        loop {
            let next = async {
                // More wait in the kernel.
                let place = room.clone().acquire_owned().await;
                (place, listener.accept().await)
            };
            tokio::select! {
                () = &mut over => break,
                Some(_) = connections.join_next() => {}
                (place, accepted) = next => match accepted {
                    Ok((stream, peer)) => {
                        let (parts, closing) = (parts.clone(), closing.clone());
                        connections.spawn(async move {
                            let _place = place;
                            parts.metrics.connections.inc();
                            connection(stream, peer, &parts, &closing).await;
                            parts.metrics.connections.dec();
                        });
                    }
                    Err(error) => {
                        // Out of file descriptors: some connection has to end first.
                        tracing::warn!(%error, "cannot accept");
                        sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
        drop(listener);
        closing.start();
        let all = async { while connections.join_next().await.is_some() {} };
        if timeout(LAST_ANSWERS, all).await.is_err() {
            tracing::warn!("cutting reviews that have not come to their end");
        }
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, parts: &Parts, closing: &Drain) {
    // Reviews are one write; waiting for more would be waiting for nothing.
    let _ = stream.set_nodelay(true);
    let stream = match timeout(parts.timeouts.handshake, parts.tls.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            parts.metrics.failed(Failure::Handshake);
            tracing::debug!(%peer, %error, "no handshake");
            return;
        }
        Err(_) => return parts.metrics.failed(Failure::Handshake),
    };
    let Timeouts { headers, idle, .. } = parts.timeouts;
    let phase = Phase::new();
    let service = service_fn(|request: Request<Incoming>| {
        phase.answering();
        let answer = parts.routes.clone().oneshot(request);
        async {
            let answer = answer.await;
            phase.idle();
            answer.map(|mut answer| {
                if parts.drain.is_draining() {
                    // The next review is somebody else's.
                    answer
                        .headers_mut()
                        .insert(CONNECTION, HeaderValue::from_static("close"));
                }
                answer
            })
        }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(idle + headers)
            .max_buf_size(MAX_HEADERS)
            .serve_connection(TokioIo::new(Watched::new(stream, phase.clone())), service)
    );
    let mut closed = pin!(closing.started());
    let mut told = false;
    loop {
        tokio::select! {
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!(%peer, %error, "connection ended");
                }
                return;
            }
            () = &mut closed, if !told => {
                told = true;
                connection.as_mut().graceful_shutdown();
            }
            () = sleep_until(phase.deadline(headers, idle)) => {
                if phase.is_slow(headers) {
                    parts.metrics.failed(Failure::Slow);
                    return;
                }
                if phase.is_over(idle) {
                    return;
                }
            }
        }
    }
}
