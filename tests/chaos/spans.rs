//! A receiver of spans that keeps of each only who it is and whose child.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// Larger than any batch.
const LARGEST_BATCH: usize = 256 << 20;

#[derive(Debug, Default)]
struct Seen {
    spans: HashSet<u64>,
    /// By the parent's id: when the child began, in milliseconds since 1970.
    children: BTreeMap<u64, u64>,
    delivered: u64,
}

/// The receiver; it runs until the process ends.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spans(Arc<Mutex<Seen>>);

/// What became of the spans.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Spans received.
    pub(crate) spans: usize,
    /// Those of deliveries.
    pub(crate) deliveries: u64,
    /// When the children began whose parent never came, in milliseconds since 1970.
    pub(crate) orphans: Vec<u64>,
}

impl Spans {
    /// Starts it.
    pub(crate) fn start() -> (Self, SocketAddr) {
        let spans = Self::default();
        let service =
            TraceServiceServer::new(spans.clone()).max_decoding_message_size(LARGEST_BATCH);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let incoming = TcpIncoming::from(TcpListener::from_std(listener).unwrap());
                tonic::transport::Server::builder()
                    .add_service(service)
                    .serve_with_incoming(incoming)
                    .await
                    .unwrap();
            });
        });
        (spans, address)
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many have come.
    pub(crate) fn count(&self) -> usize {
        self.lock().spans.len()
    }

    /// Looks for parents.
    pub(crate) fn found(&self) -> Found {
        let seen = self.lock();
        let orphans = seen.children.iter();
        Found {
            spans: seen.spans.len(),
            deliveries: seen.delivered,
            orphans: orphans
                .filter(|(parent, _)| !seen.spans.contains(parent))
                .map(|(_, &began)| began)
                .collect(),
        }
    }
}

#[tonic::async_trait]
impl TraceService for Spans {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let id = |bytes: &[u8]| bytes.try_into().map(u64::from_be_bytes).unwrap_or(0);
        let mut seen = self.lock();
        let resources = request.into_inner().resource_spans;
        let scopes = resources
            .into_iter()
            .flat_map(|resource| resource.scope_spans);
        for span in scopes.flat_map(|scope| scope.spans) {
            seen.spans.insert(id(&span.span_id));
            seen.delivered += u64::from(span.name.starts_with("process "));
            if !span.parent_span_id.is_empty() {
                let began = span.start_time_unix_nano / 1_000_000;
                seen.children.insert(id(&span.parent_span_id), began);
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}
