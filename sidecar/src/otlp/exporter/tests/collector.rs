//! A collector that speaks OTLP over gRPC and over HTTP, on one port, with or without TLS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tonic::codec::CompressionEncoding;

/// What a collector was sent.
pub(super) struct Received {
    pub(super) headers: HeaderMap,
    request: ExportTraceServiceRequest,
}

impl Received {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    pub(super) fn service_name(&self) -> String {
        let resource = self.request.resource_spans[0].resource.clone().unwrap();
        let name = resource
            .attributes
            .into_iter()
            .find(|pair| pair.key == "service.name")
            .unwrap();
        format!("{:?}", name.value.unwrap().value.unwrap())
    }

    pub(super) fn span_names(&self) -> Vec<&str> {
        let spans = self
            .request
            .resource_spans
            .iter()
            .flat_map(|spans| &spans.scope_spans);
        spans
            .flat_map(|spans| &spans.spans)
            .map(|span| span.name.as_str())
            .collect()
    }
}

#[derive(Clone)]
struct Sink {
    received: mpsc::UnboundedSender<Received>,
    /// How many requests are still to be refused as by an overloaded collector.
    refuse: Arc<AtomicUsize>,
}

impl Sink {
    fn refuses(&self) -> bool {
        let one_less = |left: usize| left.checked_sub(1);
        self.refuse
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less)
            .is_ok()
    }
}

#[tonic::async_trait]
impl TraceService for Sink {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        if self.refuses() {
            return Err(tonic::Status::unavailable("overloaded"));
        }
        let headers = request.metadata().clone().into_headers();
        self.received
            .send(Received {
                headers,
                request: request.into_inner(),
            })
            .unwrap();
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

async fn over_http(
    State(sink): State<Sink>,
    headers: HeaderMap,
    body: axum::body::Bytes,
) -> Response {
    if sink.refuses() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    // What is compressed is not decompressed here: the caller looks at the header.
    let request = ExportTraceServiceRequest::decode(body).unwrap_or_default();
    sink.received.send(Received { headers, request }).unwrap();
    ExportTraceServiceResponse::default()
        .encode_to_vec()
        .into_response()
}

pub(super) struct Collector {
    pub(super) address: SocketAddr,
    pub(super) received: mpsc::UnboundedReceiver<Received>,
    pub(super) refuse: Arc<AtomicUsize>,
    server: JoinHandle<()>,
}

impl Collector {
    pub(super) async fn start(tls: Option<ServerConfig>) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), tls).await
    }

    pub(super) async fn start_at(address: SocketAddr, tls: Option<ServerConfig>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, received) = mpsc::unbounded_channel();
        let refuse = Arc::new(AtomicUsize::new(0));
        let sink = Sink {
            received: sender,
            refuse: refuse.clone(),
        };
        let grpc =
            TraceServiceServer::new(sink.clone()).accept_compressed(CompressionEncoding::Gzip);
        let router = Router::new()
            .route("/v1/traces", post(over_http))
            .with_state(sink)
            .route_service(
                "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
                grpc,
            );
        let tls = tls.map(|config| TlsAcceptor::from(Arc::new(config)));
        let server = tokio::spawn(async move {
            // Dropped with this task, so that an aborted server closes its connections.
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(serve(stream, tls.clone(), router.clone()));
            }
        });
        Self {
            address,
            received,
            refuse,
            server,
        }
    }

    pub(super) async fn stop(self) -> SocketAddr {
        self.server.abort();
        assert!(self.server.await.unwrap_err().is_cancelled());
        self.address
    }
}

async fn serve(stream: TcpStream, tls: Option<TlsAcceptor>, router: Router) {
    let service = TowerToHyperService::new(router);
    let builder = auto::Builder::new(TokioExecutor::new());
    // A client that goes away, or does not trust the certificate, is an error here.
    let _ = match tls {
        None => {
            builder
                .serve_connection(TokioIo::new(stream), service)
                .await
        }
        Some(tls) => {
            let Ok(stream) = tls.accept(stream).await else {
                return;
            };
            builder
                .serve_connection(TokioIo::new(stream), service)
                .await
        }
    };
}
