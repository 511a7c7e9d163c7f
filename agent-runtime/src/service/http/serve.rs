//! Accepting and answering connections, within bounds.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::serve::Listener as Accept;
use http_body_util::BodyExt as _;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tars_sidecar::admin::Stall;
use tars_sidecar::drain::Drain;
use tars_sidecar::listen::Listener;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::time::timeout;

use super::Http;
use super::places::{Place, Places};
use super::threads::Threads;
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
    threads: Arc<Threads>,
    drain: Drain,
) -> io::Result<()> {
    let serving = Serving {
        http,
        tls,
        threads,
        drain,
        places: Places::new(connections),
    };
    match listener {
        Listener::Tcp(socket) => {
            let socket = TcpListener::from_std(socket)?;
            let hand_over = |stream: TcpStream| {
                // An answer is one write: what waits for more to come only waits.
                let _ = stream.set_nodelay(true);
                let stream = stream.into_std()?;
                Ok(|| TcpStream::from_std(stream))
            };
            serving.accept_all(socket, hand_over).await;
        }
        Listener::Unix(file) => {
            let socket = UnixListener::from_std(file.try_clone()?)?;
            let hand_over = |stream: UnixStream| {
                let stream = stream.into_std()?;
                Ok(|| UnixStream::from_std(stream))
            };
            serving.accept_all(socket, hand_over).await;
        }
    }
    Ok(())
}

struct Serving {
    http: Arc<Http>,
    tls: Option<Arc<Acceptor>>,
    threads: Arc<Threads>,
    drain: Drain,
    places: Arc<Places>,
}

impl Serving {
    /// A stream belongs to the event loop that it was made on: `hand_over` takes it from the one here, and what it returns makes it on that of its thread.
    async fn accept_all<L, S, Make>(self, mut listener: L, hand_over: fn(L::Io) -> io::Result<Make>)
    where
        L: Accept,
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        Make: FnOnce() -> io::Result<S> + Send + 'static,
    {
        let mut started = pin!(self.drain.started());
        loop {
            let accepted = async {
                let (stream, _) = listener.accept().await;
                // Who comes beyond waits, this one here and others in the kernel.
                (hand_over(stream), self.places.take().await)
            };
            let (stream, place) = tokio::select! {
                () = &mut started => return,
                accepted = accepted => accepted,
            };
            let (http, tls, guard) = (self.http.clone(), self.tls.clone(), self.drain.guard());
            self.threads.spawn(async move {
                match stream.and_then(|make| make()) {
                    Ok(stream) => client(stream, http, tls, &place, guard.drain()).await,
                    Err(error) => tracing::debug!(%error, "a connection could not be served"),
                }
                drop((guard, place));
            });
        }
    }
}

async fn client<S>(
    stream: S,
    http: Arc<Http>,
    tls: Option<Arc<Acceptor>>,
    place: &Arc<Place>,
    drain: &Drain,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stream = Stall::new(stream, WRITE_TIMEOUT);
    let Some(tls) = tls else {
        return connection(stream, http, false, place, drain).await;
    };
    let agreed = tokio::select! {
        agreed = timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)) => agreed,
        () = place.left() => return,
    };
    match agreed {
        Ok(Ok((stream, certified))) => connection(stream, http, certified, place, drain).await,
        Ok(Err(error)) => tracing::debug!(%error, "no TLS was agreed on"),
        Err(_) => tracing::debug!("no TLS was agreed on in time"),
    }
}

async fn connection<S>(
    stream: S,
    http: Arc<Http>,
    certified: bool,
    place: &Arc<Place>,
    drain: &Drain,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request| {
        let (http, busy) = (http.clone(), place.busy());
        async move {
            let response = http.answer(request, certified).await;
            Ok::<_, Infallible>(match response.body().size_hint().exact() {
                Some(_) => response,
                // It comes from a file: until its end.
                None => response.map(|body| {
                    Body::new(body.map_frame(move |frame| {
                        let _busy = &busy;
                        frame
                    }))
                }),
            })
        }
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
        () = place.left() => return,
        () = drain.started() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}
