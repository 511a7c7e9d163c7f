//! Accepting and answering connections, within bounds.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener as Accept;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tars_sidecar::admin::Stall;
use tars_sidecar::drain::Drain;
use tars_sidecar::listen::Listener;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::Http;
use super::tls::Acceptor;

/// From the connection, or the answer before, to the end of a request's headers: how long a client may rest between two steps.
const HEADER_TIMEOUT: Duration = Duration::from_secs(60);
/// For TLS to be agreed on.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Then nothing of an answer was taken, and its connection ends.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// For what is read before it is understood; hyper's least.
const MAX_HEADERS: usize = 16 << 10;

/// Answers until the drain starts, then what is under way.
///
/// # Errors
/// If the socket cannot be handed to the runtime.
pub async fn serve(
    listener: Listener,
    http: Arc<Http>,
    tls: Option<Arc<Acceptor>>,
    connections: usize,
    drain: Drain,
) -> io::Result<()> {
    let serving = Serving {
        http,
        tls,
        drain,
        room: Arc::new(Semaphore::new(connections)),
    };
    match listener {
        Listener::Tcp(socket) => {
            let socket = TcpListener::from_std(socket)?;
            // An answer is one write: what waits for more to come only waits.
            let prepare = |stream: &tokio::net::TcpStream| {
                let _ = stream.set_nodelay(true);
            };
            serving.accept_all(socket, prepare).await;
        }
        Listener::Unix(file) => {
            let socket = UnixListener::from_std(file.try_clone()?)?;
            serving.accept_all(socket, |_| ()).await;
        }
    }
    Ok(())
}

struct Serving {
    http: Arc<Http>,
    tls: Option<Arc<Acceptor>>,
    drain: Drain,
    room: Arc<Semaphore>,
}

impl Serving {
    async fn accept_all<L: Accept>(self, mut listener: L, prepare: fn(&L::Io)) {
        let mut started = pin!(self.drain.started());
        loop {
            // Never closed. Who comes beyond waits in the kernel.
            let Ok(place) = self.room.clone().acquire_owned().await else {
                return;
            };
            let stream = tokio::select! {
                () = &mut started => return,
                (stream, _) = listener.accept() => stream,
            };
            prepare(&stream);
            let (http, guard) = (self.http.clone(), self.drain.guard());
            let stream = Stall::new(stream, WRITE_TIMEOUT);
            match self.tls.clone() {
                None => tokio::spawn(async move {
                    connection(stream, http, false, guard.drain()).await;
                    drop((guard, place));
                }),
                Some(tls) => tokio::spawn(async move {
                    match timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
                        Ok(Ok((stream, certified))) => {
                            connection(stream, http, certified, guard.drain()).await;
                        }
                        Ok(Err(error)) => tracing::debug!(%error, "no TLS was agreed on"),
                        Err(_) => tracing::debug!("no TLS was agreed on in time"),
                    }
                    drop((guard, place));
                }),
            };
        }
    }
}

async fn connection<S>(stream: S, http: Arc<Http>, certified: bool, drain: &Drain)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request| {
        let http = http.clone();
        async move { Ok::<_, Infallible>(http.answer(request, certified).await) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(MAX_HEADERS)
            .serve_connection(TokioIo::new(stream), service)
    );
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = drain.started() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}
