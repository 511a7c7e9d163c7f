//! Export of spans over OTLP, set up from the standard `OTEL_*` environment variables.
//!
//! It is off unless somebody names where spans go: an endpoint, or `OTEL_TRACES_EXPORTER=otlp` for the default one.
//!
//! | variable (`OTEL_EXPORTER_OTLP_TRACES_…` goes before `OTEL_EXPORTER_OTLP_…`) | default |
//! | --- | --- |
//! | `OTEL_SDK_DISABLED`: `true` switches export off | `false` |
//! | `OTEL_TRACES_EXPORTER`: `otlp`, `none` | `otlp` if there is an endpoint |
//! | `…_ENDPOINT`; to the general one HTTP adds `/v1/traces` | `http://localhost:4318`, gRPC `:4317` |
//! | `…_PROTOCOL`: `grpc`, `http/protobuf` | `http/protobuf`; `grpc` if the endpoint's port is 4317 |
//! | `…_HEADERS`: `name=value,…`, percent-encoded | |
//! | `…_TIMEOUT`: milliseconds for one export, retries included | 10000 |
//! | `…_COMPRESSION`: `gzip`, `none` | `none` |
//! | `…_INSECURE`: for gRPC endpoints without a scheme: `true` is http, `false` is https | |
//! | `…_CERTIFICATE`: PEM file of the trusted authorities | those of the system |
//! | `…_CLIENT_CERTIFICATE`, `…_CLIENT_KEY`: PEM files | |
//! | `OTEL_BSP_*`, see [`Batch`] | |
//! | `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, see [`Service`] | |
//!
//! Where the specification is left: the protocol is guessed from port 4317, since gRPC is what listens there. An
//! endpoint without a scheme and without `…_INSECURE` is an error instead of TLS to a collector that has none. Wrong
//! numbers are errors instead of warnings, and no time is without limit.

mod env;
mod exporter;
mod service;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use hyper::HeaderMap;
use hyper::Uri;
use hyper::header::{HeaderName, HeaderValue};
use hyper::http::uri::{PathAndQuery, Scheme};
use opentelemetry_sdk::Resource;

use env::{Env, Variable};
pub use exporter::Exporter;
pub use service::Service;

/// For one export, retries included, unless `OTEL_EXPORTER_OTLP_TIMEOUT` says otherwise.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// Where gRPC listens by the specification, and what tells that gRPC is meant.
const GRPC_PORT: u16 = 4317;
const DEFAULT_GRPC_ENDPOINT: &str = "http://localhost:4317";
const DEFAULT_HTTP_ENDPOINT: &str = "http://localhost:4318";
/// What HTTP adds to the general endpoint.
const TRACES_PATH: &str = "/v1/traces";

/// What is wrong with the settings. Never shows a header's value.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A variable's value is not what it should be.
    #[error("{name}: {reason}")]
    Variable {
        /// The variable.
        name: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// A file that a variable names cannot be used.
    #[error("{variable}: cannot use {}: {reason}", path.display())]
    File {
        /// The variable that names it.
        variable: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// An https endpoint, and nothing to verify it with.
    #[error(
        "this system trusts no certificate authority: install its CA certificates or name a PEM \
         file in OTEL_EXPORTER_OTLP_CERTIFICATE"
    )]
    NoAuthorities,
    /// Connections belong to the runtime that the exporter is made in.
    #[error("an OTLP exporter must be made inside the tokio runtime that will use it")]
    NoRuntime,
    /// Refused by a library.
    #[error("the OTLP exporter cannot be made: {0}")]
    Exporter(String),
}

/// How spans travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// OTLP over gRPC.
    Grpc,
    /// OTLP over HTTP/1.1, protobuf bodies.
    HttpProtobuf,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Grpc => "grpc",
            Self::HttpProtobuf => "http/protobuf",
        })
    }
}

/// Where and how spans are exported. Neither `Debug` nor `Display` shows headers or a query.
#[derive(Clone)]
pub struct OtlpSettings {
    protocol: Protocol,
    endpoint: Uri,
    headers: HeaderMap,
    timeout: Duration,
    gzip: bool,
    authorities: Option<PathBuf>,
    identity: Option<Identity>,
    batch: Batch,
}

/// The client's own certificate and key, PEM files.
#[derive(Clone)]
struct Identity {
    certificate: PathBuf,
    key: PathBuf,
}

/// How a batching processor collects spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// `OTEL_BSP_MAX_QUEUE_SIZE`: spans that wait; more are dropped. 2048.
    pub max_queue_size: usize,
    /// `OTEL_BSP_MAX_EXPORT_BATCH_SIZE`: spans of one export, at most the queue's size. 512.
    pub max_export_batch_size: usize,
    /// `OTEL_BSP_SCHEDULE_DELAY`: between two exports of less than a full batch. 5000 ms.
    pub schedule_delay: Duration,
    /// `OTEL_BSP_EXPORT_TIMEOUT`: for one export. 30000 ms.
    pub export_timeout: Duration,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            max_queue_size: 2048,
            max_export_batch_size: 512,
            schedule_delay: Duration::from_millis(5000),
            export_timeout: Duration::from_millis(30_000),
        }
    }
}

impl Batch {
    /// From `OTEL_BSP_*`.
    ///
    /// # Errors
    /// When a variable is not a positive number, or the batch is larger than the queue.
    pub fn from_env(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        Self::read(&Env(&lookup))
    }

    fn read(env: &Env<'_>) -> Result<Self, Error> {
        let mut batch = Self::default();
        if let Some(variable) = env.get("OTEL_BSP_MAX_QUEUE_SIZE") {
            batch.max_queue_size = variable.count()?;
        }
        match env.get("OTEL_BSP_MAX_EXPORT_BATCH_SIZE") {
            None => {
                let default = batch.max_export_batch_size;
                batch.max_export_batch_size = default.min(batch.max_queue_size);
            }
            Some(variable) => {
                batch.max_export_batch_size = variable.count()?;
                if batch.max_export_batch_size > batch.max_queue_size {
                    return Err(variable.wrong(format_args!(
                        "{} is more than the queue holds; give at most OTEL_BSP_MAX_QUEUE_SIZE, {}",
                        batch.max_export_batch_size, batch.max_queue_size
                    )));
                }
            }
        }
        if let Some(variable) = env.get("OTEL_BSP_SCHEDULE_DELAY") {
            batch.schedule_delay = variable.milliseconds()?;
        }
        if let Some(variable) = env.get("OTEL_BSP_EXPORT_TIMEOUT") {
            batch.export_timeout = variable.milliseconds()?;
        }
        Ok(batch)
    }
}

impl OtlpSettings {
    /// From the environment, or any other look-up of variables; `None` when export is off.
    ///
    /// # Errors
    /// When export is on and a variable is wrong.
    pub fn from_env(lookup: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, Error> {
        Self::read(&Env(&lookup))
    }

    fn read(env: &Env<'_>) -> Result<Option<Self>, Error> {
        // By the specification every value but `true` is `false`.
        if env
            .get("OTEL_SDK_DISABLED")
            .is_some_and(|variable| variable.is("true"))
        {
            return Ok(None);
        }
        let endpoint = env.otlp("ENDPOINT");
        match env.get("OTEL_TRACES_EXPORTER") {
            None if endpoint.is_none() => return Ok(None),
            Some(variable) if variable.is("none") => return Ok(None),
            Some(variable) if !variable.is("otlp") => {
                return Err(variable.not_one_of("otlp or none"));
            }
            None | Some(_) => {}
        }
        let protocol = protocol(env)?;
        let (protocol, endpoint) = match endpoint {
            Some(variable) => read_endpoint(&variable, protocol, env)?,
            None => default_endpoint(protocol),
        };
        Ok(Some(Self {
            protocol,
            endpoint,
            headers: env
                .otlp("HEADERS")
                .map_or(Ok(HeaderMap::new()), |variable| headers(&variable))?,
            timeout: env
                .otlp("TIMEOUT")
                .map_or(Ok(DEFAULT_TIMEOUT), |variable| variable.milliseconds())?,
            gzip: gzip(env)?,
            authorities: env
                .otlp("CERTIFICATE")
                .map(|variable| variable.value.into()),
            identity: identity(env)?,
            batch: Batch::read(env)?,
        }))
    }

    /// How spans travel.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Where spans go, without what may be secret: for the log.
    pub fn endpoint(&self) -> String {
        let path = if self.protocol == Protocol::Grpc {
            ""
        } else {
            self.endpoint.path()
        };
        format!("{}{path}", self.origin())
    }

    /// For one export, retries included.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// How spans are to be collected.
    pub fn batch(&self) -> Batch {
        self.batch
    }

    /// An exporter of the spans of one service. Must be called inside the tokio runtime that will use the exporter.
    /// Nothing is connected yet: a collector may come later.
    ///
    /// # Errors
    /// When a file of certificates cannot be used, or there is no runtime.
    pub fn exporter(&self, resource: &Resource) -> Result<Exporter, Error> {
        Exporter::new(self, resource)
    }

    fn origin(&self) -> String {
        let scheme = self.endpoint.scheme_str().unwrap_or_default();
        let authority = self
            .endpoint
            .authority()
            .map_or("", |authority| authority.as_str());
        format!("{scheme}://{authority}")
    }

    fn is_https(&self) -> bool {
        self.endpoint.scheme() == Some(&Scheme::HTTPS)
    }
}

impl fmt::Display for OtlpSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.protocol, self.endpoint())
    }
}

impl fmt::Debug for OtlpSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.headers.keys().map(HeaderName::as_str).collect();
        f.debug_struct("OtlpSettings")
            .field("protocol", &self.protocol)
            .field("endpoint", &self.endpoint())
            .field("headers", &names)
            .field("timeout", &self.timeout)
            .field("gzip", &self.gzip)
            .field("batch", &self.batch)
            .finish_non_exhaustive()
    }
}

fn protocol(env: &Env<'_>) -> Result<Option<Protocol>, Error> {
    match env.otlp("PROTOCOL") {
        None => Ok(None),
        Some(variable) if variable.is("grpc") => Ok(Some(Protocol::Grpc)),
        Some(variable) if variable.is("http/protobuf") => Ok(Some(Protocol::HttpProtobuf)),
        Some(variable) => Err(variable.not_one_of("grpc or http/protobuf")),
    }
}

fn gzip(env: &Env<'_>) -> Result<bool, Error> {
    match env.otlp("COMPRESSION") {
        None => Ok(false),
        Some(variable) if variable.is("none") => Ok(false),
        Some(variable) if variable.is("gzip") => Ok(true),
        Some(variable) => Err(variable.not_one_of("gzip or none")),
    }
}

fn identity(env: &Env<'_>) -> Result<Option<Identity>, Error> {
    match (env.otlp("CLIENT_CERTIFICATE"), env.otlp("CLIENT_KEY")) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => Ok(Some(Identity {
            certificate: certificate.value.into(),
            key: key.value.into(),
        })),
        (Some(variable), None) => {
            Err(variable.wrong("there is no OTEL_EXPORTER_OTLP_CLIENT_KEY to it"))
        }
        (None, Some(variable)) => {
            Err(variable.wrong("there is no OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE to it"))
        }
    }
}

fn headers(variable: &Variable) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    for (name, value) in variable.pairs()? {
        let parsed = HeaderName::from_bytes(name.as_bytes()).ok().filter(|name| {
            // gRPC: values of such names are binary.
            !name.as_str().ends_with("-bin")
        });
        let Some(parsed) = parsed else {
            return Err(
                variable.wrong(format_args!("{name:?} cannot be the name of a text header"))
            );
        };
        let mut value = HeaderValue::from_str(&value).map_err(|_| {
            variable.wrong(format_args!(
                "the value of {name:?} has characters beyond ASCII text"
            ))
        })?;
        value.set_sensitive(true);
        headers.insert(parsed, value);
    }
    Ok(headers)
}

fn default_endpoint(protocol: Option<Protocol>) -> (Protocol, Uri) {
    match protocol.unwrap_or(Protocol::HttpProtobuf) {
        Protocol::Grpc => (Protocol::Grpc, Uri::from_static(DEFAULT_GRPC_ENDPOINT)),
        protocol => (
            protocol,
            with_traces_path(Uri::from_static(DEFAULT_HTTP_ENDPOINT)),
        ),
    }
}

fn read_endpoint(
    variable: &Variable,
    protocol: Option<Protocol>,
    env: &Env<'_>,
) -> Result<(Protocol, Uri), Error> {
    // The value may hold a secret, so that no error shows it.
    let wrong = |reason: &str| {
        variable.wrong(format_args!(
            "{reason}; give http://host:port or https://host:port"
        ))
    };
    let value = variable.value.as_str();
    let mut url = value.to_owned();
    if !value.contains("://") {
        let insecure = env
            .otlp("INSECURE")
            .filter(|_| protocol != Some(Protocol::HttpProtobuf));
        let insecure = insecure.ok_or_else(|| wrong("the URL has no scheme"))?;
        url = format!(
            "{}://{value}",
            if insecure.is("true") { "http" } else { "https" }
        );
    }
    let url: Uri = url
        .parse()
        .map_err(|error| wrong(&format!("not a URL ({error})")))?;
    if !matches!(url.scheme_str(), Some("http" | "https")) {
        return Err(wrong("the scheme is neither http nor https"));
    }
    let authority = url
        .authority()
        .filter(|authority| !authority.host().is_empty());
    let authority = authority.ok_or_else(|| wrong("the URL has no host"))?;
    if authority.as_str().contains('@') {
        return Err(wrong(
            "the URL has a user name, use OTEL_EXPORTER_OTLP_HEADERS for credentials",
        ));
    }
    let guess = match url.port_u16() {
        Some(GRPC_PORT) => Protocol::Grpc,
        _ => Protocol::HttpProtobuf,
    };
    let protocol = protocol.unwrap_or(guess);
    let general = !variable.name.contains("_TRACES_");
    let url = if general && protocol == Protocol::HttpProtobuf {
        with_traces_path(url)
    } else {
        url
    };
    Ok((protocol, url))
}

fn with_traces_path(url: Uri) -> Uri {
    let path = format!("{}{TRACES_PATH}", url.path().trim_end_matches('/'));
    let path = match url.query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    let mut parts = url.clone().into_parts();
    parts.path_and_query = path.parse::<PathAndQuery>().ok();
    Uri::from_parts(parts).unwrap_or(url)
}
