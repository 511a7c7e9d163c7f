//! What the proxy was told to do: flags over environment over file, checked once, immutable afterwards.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use globset::GlobMatcher;

/// Everything has a default: `tars-proxy --upstream redis://127.0.0.1:6379` is enough.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the admin server listens.
    pub admin: Address,
    /// Data threads; each runs its own event loop.
    pub workers: usize,
    /// One or more listeners, each with its upstream.
    pub listeners: Vec<Listener>,
    /// `tars.region` on every span.
    pub region: Option<Arc<str>>,
    /// False with `--no-trace`: bytes are forwarded and nothing is read.
    pub trace: bool,
    /// How long connections may take to finish when the proxy is told to stop.
    pub drain_timeout: Duration,
    /// What a reload may change.
    pub rules: Arc<Rules>,
    /// Bounds of what is kept in memory.
    pub limits: Limits,
}

/// Where to listen or to connect: `host:port` or `unix:/path`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// Host (a name or an IP address, without brackets) and port.
    Tcp {
        /// Name or IP address.
        host: Arc<str>,
        /// Port.
        port: u16,
    },
    /// Path of a Unix socket.
    Unix(PathBuf),
}

/// Where Redis is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Upstream {
    /// Address of the server.
    pub address: Address,
}

/// One place to listen at, and what stands behind it.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Where clients connect.
    pub listen: Address,
    /// Where their commands go.
    pub upstream: Upstream,
    /// `service.name` of the clients' spans; none: the process's own (`OTEL_SERVICE_NAME`).
    pub service_name: Option<Arc<str>>,
    /// Whether an XADD without a context may take the message being handled as its parent.
    pub infer_parent: InferParent,
}

/// `infer_parent`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InferParent {
    /// Never: a wrong link is worse than none.
    #[default]
    Off,
    /// The grouped message of this connection's latest delivery, if it was the only one.
    Connection,
    /// The same over the whole listener.
    Process,
}

/// `relation`: how a delivery points at the message it delivers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Relation {
    /// One trace from end to end.
    #[default]
    Parent,
    /// A new trace, linked (OpenTelemetry messaging conventions to the letter).
    Link,
}

/// `deliver`: what the application reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Deliver {
    /// The stored context.
    #[default]
    Keep,
    /// The `process` span's context in the place of the stored one.
    Propagate,
    /// Without the added fields.
    Strip,
}

/// How new traces are sampled (`OTEL_TRACES_SAMPLER`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    /// Share of new traces that are sampled, 0 to 1.
    pub ratio: f64,
    /// Whether a parent's decision is followed (`parentbased_*`), or every span decides by the ratio.
    pub parent_based: bool,
}

impl Default for Sampler {
    fn default() -> Self {
        Self {
            ratio: 1.0,
            parent_based: true,
        }
    }
}

/// What SIGHUP may change without a connection noticing.
#[derive(Clone, Debug)]
pub struct Rules {
    /// For streams without a ratio of their own.
    pub sampler: Sampler,
    /// `relation`.
    pub relation: Relation,
    /// When an unsettled delivery is given up.
    pub process_timeout: Duration,
    /// The first whose pattern matches a stream's key counts.
    pub streams: Vec<StreamRule>,
}

/// A rule for the streams that a glob matches.
#[derive(Clone, Debug)]
pub struct StreamRule {
    /// Glob over the key, as in Redis' KEYS (`*`, `?`, `[…]`).
    pub pattern: GlobMatcher,
    /// False: XADD passes as it is, and no span is made.
    pub trace: bool,
    /// What readers get.
    pub deliver: Deliver,
    /// Replaces the root sampler's ratio.
    pub sample: Option<f64>,
    /// Every message is sampled; an unsampled parent gets a linked new root.
    pub force: bool,
}

/// Bounds of what is kept in memory; each with its metric.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Larger commands and entries pass unread.
    pub max_message_bytes: usize,
    /// Commands of one connection that are waiting for a reply and mean something to the trace.
    pub max_pending_replies: usize,
    /// Deliveries that are not settled, process-wide.
    pub max_deliveries: usize,
    /// Stream and group names that get metrics of their own; the others share `other`.
    pub max_metric_names: usize,
    /// Spans kept for the page of recent traces.
    pub max_recent_spans: usize,
    /// Client connections, over all listeners.
    pub max_connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_message_bytes: 1 << 20,
            max_pending_replies: 65_536,
            max_deliveries: 65_536,
            max_metric_names: 256,
            max_recent_spans: 10_000,
            max_connections: 10_000,
        }
    }
}

/// An address that is known to be an IP address and a port, or not yet resolved.
impl Address {
    /// The socket address, if the host is an IP address.
    #[must_use]
    pub fn as_socket_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp { host, port } => host.parse().ok().map(|ip| SocketAddr::new(ip, *port)),
            Self::Unix(_) => None,
        }
    }
}
