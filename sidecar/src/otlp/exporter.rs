//! The exporter itself: opentelemetry-otlp over one hyper connector, with or without TLS.
//!
//! What the library lacks is added here: a limit on the whole export (it bounds each attempt, and not connecting), the
//! cause of a failed HTTP request, and `Debug` without secrets.

#[cfg(test)]
mod tests;

use std::fmt;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::HeaderMap;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Compression, WithExportConfig, WithHttpConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tokio::runtime::Handle;
use tokio::time::timeout;
use tonic::transport::Endpoint;

use super::{Error, Identity, OtlpSettings, Protocol};

const CERTIFICATE: &str = "OTEL_EXPORTER_OTLP_CERTIFICATE";
const CLIENT_CERTIFICATE: &str = "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE";
const CLIENT_KEY: &str = "OTEL_EXPORTER_OTLP_CLIENT_KEY";

/// Exports the spans of one service; belongs to the runtime that it was made in.
pub struct Exporter {
    inner: opentelemetry_otlp::SpanExporter,
    to: String,
    timeout: Duration,
    cause: Cause,
}

/// Why the last HTTP request failed: opentelemetry-otlp says "network error" only.
type Cause = Arc<Mutex<Option<String>>>;

impl Exporter {
    pub(super) fn new(settings: &OtlpSettings, resource: &Resource) -> Result<Self, Error> {
        Handle::try_current().map_err(|_| Error::NoRuntime)?;
        let cause = Cause::default();
        let built = match settings.protocol {
            Protocol::Grpc => grpc(settings)?,
            Protocol::HttpProtobuf => http(settings, cause.clone())?,
        };
        let mut inner = built.map_err(|error| Error::Exporter(error.to_string()))?;
        inner.set_resource(resource);
        Ok(Self {
            inner,
            to: settings.endpoint(),
            timeout: settings.timeout,
            cause,
        })
    }

    fn explain(&self, error: OTelSdkError) -> OTelSdkError {
        let OTelSdkError::InternalFailure(reason) = error else {
            return error;
        };
        let cause = self
            .cause
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
        OTelSdkError::InternalFailure(format!("{}: {reason}{cause}", self.to))
    }
}

impl SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        match timeout(self.timeout, self.inner.export(batch)).await {
            Ok(exported) => exported.map_err(|error| self.explain(error)),
            Err(_) => Err(OTelSdkError::Timeout(self.timeout)),
        }
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn shutdown(&self) -> OTelSdkResult {
        self.inner.shutdown()
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

impl fmt::Debug for Exporter {
    /// The library's own would show the headers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exporter")
            .field("to", &self.to)
            .finish_non_exhaustive()
    }
}

type Built = Result<opentelemetry_otlp::SpanExporter, opentelemetry_otlp::ExporterBuildError>;

fn grpc(settings: &OtlpSettings) -> Result<Built, Error> {
    // gRPC has no path: what the endpoint has beyond host and port does not count.
    let endpoint = Endpoint::from_shared(settings.origin())
        .map_err(|error| Error::Exporter(error.to_string()))?
        .timeout(settings.timeout);
    let connector = connector(settings)?;
    let headers = settings.headers.clone();
    let mut builder = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_channel(endpoint.connect_with_connector_lazy(connector))
        .with_timeout(settings.timeout)
        .with_interceptor(move |mut request: tonic::Request<()>| {
            add(&headers, request.metadata_mut().as_mut());
            Ok(request)
        });
    if settings.gzip {
        builder = builder.with_compression(Compression::Gzip);
    }
    Ok(builder.build())
}

fn http(settings: &OtlpSettings, cause: Cause) -> Result<Built, Error> {
    let inner = HyperClient::new(connector(settings)?, settings.timeout, None);
    let mut builder = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
        .with_endpoint(settings.endpoint.to_string())
        .with_timeout(settings.timeout)
        .with_http_client(Client {
            inner,
            headers: settings.headers.clone(),
            cause,
        });
    if settings.gzip {
        builder = builder.with_compression(Compression::Gzip);
    }
    Ok(builder.build())
}

/// The library reads headers from the environment as well: ours, parsed strictly, take their place.
fn add(headers: &HeaderMap, to: &mut HeaderMap) {
    for (name, value) in headers {
        to.insert(name, value.clone());
    }
}

/// The HTTP client that opentelemetry-otlp sends with.
struct Client {
    inner: HyperClient<HttpsConnector<HttpConnector>>,
    headers: HeaderMap,
    cause: Cause,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl HttpClient for Client {
    // Written out as `async_trait` would.
    fn send_bytes<'a, 'async_trait>(
        &'a self,
        mut request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'async_trait>>
    where
        'a: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async move {
            add(&self.headers, request.headers_mut());
            let sent = self.inner.send_bytes(request).await;
            let cause = sent.as_ref().err().map(|error| innermost(error.as_ref()));
            *self.cause.lock().unwrap_or_else(PoisonError::into_inner) = cause;
            sent
        })
    }
}

/// "client error (Connect)" says little; what it was caused by says "Connection refused".
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// One connector for both protocols: TLS where the endpoint is https.
fn connector(settings: &OtlpSettings) -> Result<HttpsConnector<HttpConnector>, Error> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(settings.timeout));
    // A collector that is gone without a word: the kernel would go on for a quarter of an hour, with each export
    // put into the same dead connection.
    tcp.set_tcp_user_timeout(Some(settings.timeout));
    let builder = HttpsConnectorBuilder::new()
        .with_tls_config(tls(settings)?)
        .https_or_http();
    Ok(match settings.protocol {
        Protocol::Grpc => builder.enable_http2().wrap_connector(tcp),
        Protocol::HttpProtobuf => builder.enable_http1().wrap_connector(tcp),
    })
}

fn tls(settings: &OtlpSettings) -> Result<ClientConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Exporter(error.to_string()))?;
    if !settings.is_https() {
        return Ok(config
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth());
    }
    let config = config.with_root_certificates(authorities(settings)?);
    let Some(Identity { certificate, key }) = &settings.identity else {
        return Ok(config.with_no_client_auth());
    };
    let chain = certificates(CLIENT_CERTIFICATE, certificate)?;
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| file(CLIENT_KEY, key, error))?;
    config
        .with_client_auth_cert(chain, secret)
        .map_err(|error| file(CLIENT_KEY, key, error))
}

fn authorities(settings: &OtlpSettings) -> Result<RootCertStore, Error> {
    let mut store = RootCertStore::empty();
    if let Some(path) = &settings.authorities {
        for certificate in certificates(CERTIFICATE, path)? {
            store
                .add(certificate)
                .map_err(|error| file(CERTIFICATE, path, error))?;
        }
    } else {
        // Some system's store holds a certificate or two that cannot be read: the others do.
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if store.is_empty() {
            return Err(Error::NoAuthorities);
        }
    }
    Ok(store)
}

fn certificates(
    variable: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, Error> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let found = read.map_err(|error| file(variable, path, error))?;
    if found.is_empty() {
        return Err(file(variable, path, "there is no PEM certificate in it"));
    }
    Ok(found)
}

fn file(variable: &'static str, path: &Path, reason: impl fmt::Display) -> Error {
    Error::File {
        variable,
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}
