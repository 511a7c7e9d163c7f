//! A receiver of spans inside the test: OTLP over gRPC and over HTTP with protobuf.
//!
//! For a collector that is absent, claim a [`Port`](crate::port::Port) and export to its [`url`](crate::port::Port::url).

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Status};

pub mod span;

pub use span::{Link, Span, SpanKind, Value};

/// Larger than any batch that a test makes: none is refused for its size.
const LARGEST_BATCH: usize = 256 << 20;

/// How it treats what it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Takes it at once.
    Accepting,
    /// Takes and answers it only after this time; what the sender gives up on before is not taken.
    Slow(Duration),
    /// Refuses it: UNAVAILABLE, or 503.
    Refusing,
}

/// A running receiver.
#[derive(Debug)]
pub struct Collector {
    grpc: SocketAddr,
    http: SocketAddr,
    inbox: Arc<Inbox>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Inbox {
    received: Mutex<Received>,
    arrived: Condvar,
}

#[derive(Debug)]
struct Received {
    mode: Mode,
    spans: Vec<Span>,
    taken: u64,
    refused: u64,
    malformed: u64,
}

impl Collector {
    /// One that takes everything at once.
    #[must_use]
    pub fn start() -> Self {
        Self::in_mode(Mode::Accepting)
    }

    /// One that takes `delay` for every request.
    #[must_use]
    pub fn slow(delay: Duration) -> Self {
        Self::in_mode(Mode::Slow(delay))
    }

    /// One that refuses every request.
    #[must_use]
    pub fn refusing() -> Self {
        Self::in_mode(Mode::Refusing)
    }

    /// Starts one on free ports, on a thread of its own: it answers whatever the test's thread is at.
    ///
    /// # Panics
    /// When there is no port or no thread to be had.
    #[must_use]
    pub fn in_mode(mode: Mode) -> Self {
        let free = (Ipv4Addr::LOCALHOST, 0).into();
        Self::at(free, free, mode)
    }

    /// One on these addresses, for gRPC and for HTTP.
    ///
    /// # Panics
    /// When they are not to be had.
    #[must_use]
    pub fn at(grpc: SocketAddr, http: SocketAddr, mode: Mode) -> Self {
        let received = Received {
            mode,
            spans: Vec::new(),
            taken: 0,
            refused: 0,
            malformed: 0,
        };
        let inbox = Arc::new(Inbox {
            received: Mutex::new(received),
            arrived: Condvar::new(),
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let (grpc, http) = runtime.block_on(async {
            (
                TcpListener::bind(grpc).await.unwrap(),
                TcpListener::bind(http).await.unwrap(),
            )
        });
        let addresses = (grpc.local_addr().unwrap(), http.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel();
        let service = Arc::clone(&inbox);
        let thread = thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    end = serve_grpc(grpc, Arc::clone(&service)) => panic!("the gRPC receiver ended: {end:?}"),
                    end = serve_http(http, service) => panic!("the HTTP receiver ended: {end:?}"),
                    _ = stopped => {}
                }
            });
        });
        Self {
            grpc: addresses.0,
            http: addresses.1,
            inbox,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Its endpoint for OTLP/gRPC.
    #[must_use]
    pub fn grpc(&self) -> String {
        format!("http://{}", self.grpc)
    }

    /// Its endpoint for OTLP/HTTP, without `/v1/traces`.
    #[must_use]
    pub fn http(&self) -> String {
        format!("http://{}", self.http)
    }

    /// Changes how it treats what comes from now on.
    pub fn set_mode(&self, mode: Mode) {
        self.inbox.lock().mode = mode;
    }

    /// All spans so far, in order of arrival.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        self.inbox.lock().spans.clone()
    }

    /// Looks at all spans so far, without a copy.
    pub fn with_spans<T>(&self, look: impl FnOnce(&[Span]) -> T) -> T {
        look(&self.inbox.lock().spans)
    }

    /// Waits until the spans are as wanted, and returns them.
    ///
    /// # Panics
    /// When they are not in time, with the names of those that came.
    #[track_caller]
    #[must_use]
    pub fn wait_for(&self, limit: Duration, wanted: impl Fn(&[Span]) -> bool) -> Vec<Span> {
        let deadline = Instant::now() + limit;
        let mut received = self.inbox.lock();
        while !wanted(&received.spans) {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                let summary = span::summary(&received.spans);
                panic!("after {limit:?} the spans are not as wanted: {summary}");
            };
            received = self
                .inbox
                .arrived
                .wait_timeout(received, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        received.spans.clone()
    }

    /// Forgets the spans so far.
    pub fn clear(&self) {
        self.inbox.lock().spans.clear();
    }

    /// How many requests it took.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.inbox.lock().taken
    }

    /// How many requests it refused.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.inbox.lock().refused
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            let malformed = self.inbox.lock().malformed;
            if !thread::panicking() {
                assert!(ended.is_ok(), "the receiver broke");
                assert_eq!(malformed, 0, "requests that were not OTLP");
            }
        }
    }
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a request; false when it is refused.
    async fn take(&self, request: ExportTraceServiceRequest) -> bool {
        let mode = self.lock().mode;
        match mode {
            Mode::Accepting => {}
            Mode::Slow(delay) => tokio::time::sleep(delay).await,
            Mode::Refusing => {
                self.lock().refused += 1;
                return false;
            }
        }
        let mut received = self.lock();
        received.taken += 1;
        received.spans.extend(span::all(request));
        self.arrived.notify_all();
        true
    }
}

struct Grpc(Arc<Inbox>);

#[tonic::async_trait]
impl TraceService for Grpc {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, Status> {
        match self.0.take(request.into_inner()).await {
            true => Ok(tonic::Response::new(ExportTraceServiceResponse::default())),
            false => Err(Status::unavailable("this receiver refuses everything")),
        }
    }
}

async fn serve_grpc(
    listener: TcpListener,
    inbox: Arc<Inbox>,
) -> Result<(), tonic::transport::Error> {
    let service = TraceServiceServer::new(Grpc(inbox)).max_decoding_message_size(LARGEST_BATCH);
    tonic::transport::Server::builder()
        .add_service(service)
        .serve_with_incoming(TcpIncoming::from(listener))
        .await
}

async fn serve_http(listener: TcpListener, inbox: Arc<Inbox>) -> io::Result<()> {
    let router = Router::new()
        .route("/v1/traces", axum::routing::post(traces))
        .layer(DefaultBodyLimit::max(LARGEST_BATCH))
        .with_state(inbox);
    axum::serve(listener, router).await
}

async fn traces(State(inbox): State<Arc<Inbox>>, body: Bytes) -> Response {
    let Ok(request) = ExportTraceServiceRequest::decode(body) else {
        inbox.lock().malformed += 1;
        return StatusCode::BAD_REQUEST.into_response();
    };
    match inbox.take(request).await {
        true => {
            let kind = [("content-type", "application/x-protobuf")];
            (kind, ExportTraceServiceResponse::default().encode_to_vec()).into_response()
        }
        false => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}
