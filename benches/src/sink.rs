//! A collector that is really there: it takes OTLP over gRPC, decodes it, and forgets it.

use std::io;
use std::net::SocketAddr;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use tonic::{Request, Response, Status};

/// Larger than any batch.
const LARGEST_BATCH: usize = 256 << 20;

struct Sink;

#[tonic::async_trait]
impl TraceService for Sink {
    async fn export(
        &self,
        _: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// Serves until the process is killed.
///
/// # Errors
/// If it cannot listen there.
pub fn serve(at: SocketAddr) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let service = TraceServiceServer::new(Sink).max_decoding_message_size(LARGEST_BATCH);
    let server = tonic::transport::Server::builder().add_service(service);
    runtime.block_on(server.serve(at)).map_err(io::Error::other)
}
