//! What the proxy was told to do: flags over `TARS_*` environment over TOML file over defaults, checked once, immutable
//! afterwards.
//!
//! `TARS_CONFIG_INLINE` is a file that is a variable's text.
//!
//! Every setting has one name and is written in three ways: `--drain-timeout`, `TARS_DRAIN_TIMEOUT`, `drain_timeout =`. Only
//! tables (`[[listener]]` beyond the first, `[[stream]]` beyond `deliver` and `sample`) need the file. An empty variable is as
//! none. How the sources meet:
//! - Flags of keys of `[[listener]]` go over what the file's only `[[listener]]` says. Where the file has several, all but
//!   `--listen` hold for all of them, unless the file gives them different values: that, and `--listen`, is an error, as
//!   somebody's data would go to the wrong server.
//! - `--deliver` and `--sample` go over that one setting of whatever `[[stream]]` matches a key; of several, the first match.
//! - `OTEL_TRACES_SAMPLER` and its `_ARG` decide for streams without a ratio; `OTEL_SERVICE_NAME`, or `service.name` in
//!   `OTEL_RESOURCE_ATTRIBUTES`, names the service of listeners without a name.

mod address;
mod check;
mod describe;
mod env;
mod error;
mod file;
mod flags;
mod load;
mod login;
mod names;
mod pattern;
mod rules;
mod source;
mod value;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use address::{Address, AddressError, ORIGINAL, Upstream};
pub(crate) use address::{show as show_upstream, upstream as parse_upstream};
pub use check::check;
pub use env::Environment;
pub use error::{ConfigError, Origin, Problem, Warning};
pub use flags::Flags;
#[cfg(any(test, feature = "testing"))]
pub use load::load_text;
pub use load::{Reloaded, load, reload};
pub use login::Login;
#[cfg(any(test, feature = "testing"))]
pub use login::read_login;
pub use pattern::{Pattern, PatternError};
pub use rules::{Deliver, Override, Relation, Rules, Sampler, StreamRule, StreamSettings};

pub(crate) use value::{Choice, duration};

use crate::connection::READ_BYTES;

/// Everything has a default: `tars-proxy --upstream redis://127.0.0.1:6379` is enough.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The file that was read, if one was named.
    pub file: Option<PathBuf>,
    /// Where the admin server listens.
    pub admin: Address,
    /// Data threads; each runs its own event loop.
    pub workers: usize,
    /// One or more listeners, each with its upstream.
    pub listeners: Vec<Listener>,
    /// `service.name` of the process itself, and of listeners without a name of their own.
    pub service_name: Arc<str>,
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
    /// What is logged, and how.
    pub log: Log,
}

/// One place to listen at, and what stands behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Where clients connect.
    pub listen: Address,
    /// Where their commands go. None, written `original`: to wherever each client was connecting when it was redirected here.
    pub upstream: Option<Upstream>,
    /// The variable whose URL says what is said to the server first, and, unless `upstream` does, where it is.
    pub upstream_env: Option<Arc<str>>,
    /// What is said to the server first, on each connection.
    pub login: Login,
    /// How the server is reached over TLS, if it is.
    pub upstream_tls: UpstreamTls,
    /// TLS from clients.
    pub tls: Option<ListenerTls>,
    /// `service.name` of the clients' spans; none: [`Config::service_name`].
    pub service_name: Option<Arc<str>>,
    /// Whether an XADD without a context may take the message being handled as its parent.
    pub infer_parent: InferParent,
}

/// TLS to a server: PEM files, read again when they change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamTls {
    /// Who may have signed its certificate; none: those whom the system trusts.
    pub ca: Option<PathBuf>,
    /// What is shown to it; with [`key`](Self::key), or neither.
    pub cert: Option<PathBuf>,
    /// The private key of [`cert`](Self::cert).
    pub key: Option<PathBuf>,
    /// The name in its certificate, and in SNI; none: the host of the URL.
    pub server_name: Option<Arc<str>>,
}

/// TLS from clients: PEM files, read again when they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerTls {
    /// What is shown to them.
    pub cert: PathBuf,
    /// The private key of [`cert`](Self::cert).
    pub key: PathBuf,
    /// Who must have signed theirs; none: they need not have any.
    pub client_ca: Option<PathBuf>,
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

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// A level, or levels by module: `info`, `info,tars_proxy=debug`.
    pub level: String,
    /// How a line looks.
    pub format: LogFormat,
}

/// `log_format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Bounds of what is kept in memory; each with its metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Larger commands and entries pass unread.
    pub max_message_bytes: usize,
    /// Bytes that messages which are held may take over all connections, besides one read in each direction.
    pub max_held_bytes: usize,
    /// Commands of one connection that are waiting for a reply and mean something to the trace.
    pub max_pending_replies: usize,
    /// Bytes that commands which wait for their replies may take over all connections, besides a little for each.
    pub max_pending_bytes: usize,
    /// Deliveries that are not settled, process-wide.
    pub max_deliveries: usize,
    /// Stream and group names that get metrics of their own; the others share `other`.
    pub max_metric_names: usize,
    /// Spans kept for the page of recent traces.
    pub max_recent_spans: usize,
    /// Client connections, over all listeners.
    pub max_connections: usize,
}

impl Limits {
    /// Where nothing else is said.
    pub const DEFAULT: Self = Self {
        max_message_bytes: 1 << 20,
        max_held_bytes: Self::held_bytes(1 << 20),
        max_pending_replies: 65_536,
        max_pending_bytes: Self::pending_bytes(65_536),
        max_deliveries: 65_536,
        max_metric_names: 256,
        max_recent_spans: 10_000,
        max_connections: 10_000,
    };

    /// Bytes that a connection may hold in one direction: a message of the largest size, and one read.
    #[must_use]
    pub const fn direction_bytes(&self) -> usize {
        self.max_message_bytes.saturating_add(READ_BYTES)
    }

    /// [`max_held_bytes`](Self::max_held_bytes) where it is not set: 128 messages of the largest size.
    const fn held_bytes(max_message_bytes: usize) -> usize {
        max_message_bytes.saturating_mul(128)
    }

    /// [`max_pending_bytes`](Self::max_pending_bytes) where it is not set: 1 KiB for each of as many commands as one connection
    /// may have.
    const fn pending_bytes(max_pending_replies: usize) -> usize {
        max_pending_replies.saturating_mul(1024)
    }

    /// Each under its key of the file.
    #[must_use]
    pub const fn named(&self) -> [(&'static str, usize); 8] {
        [
            ("max_message_bytes", self.max_message_bytes),
            ("max_held_bytes", self.max_held_bytes),
            ("max_pending_replies", self.max_pending_replies),
            ("max_pending_bytes", self.max_pending_bytes),
            ("max_deliveries", self.max_deliveries),
            ("max_metric_names", self.max_metric_names),
            ("max_recent_spans", self.max_recent_spans),
            ("max_connections", self.max_connections),
        ]
    }
}

impl Choice for InferParent {
    const ALL: &[(&str, Self)] = &[
        ("off", Self::Off),
        ("connection", Self::Connection),
        ("process", Self::Process),
    ];
}

impl Choice for LogFormat {
    const ALL: &[(&str, Self)] = &[("text", Self::Text), ("json", Self::Json)];
}

impl Default for Config {
    fn default() -> Self {
        Self {
            file: None,
            admin: Address::tcp("127.0.0.1", 9464),
            workers: 1,
            listeners: vec![Listener::default()],
            service_name: "tars-proxy".into(),
            region: None,
            trace: true,
            drain_timeout: Duration::from_secs(30),
            rules: Arc::default(),
            limits: Limits::default(),
            log: Log::default(),
        }
    }
}

impl Default for Listener {
    fn default() -> Self {
        Self {
            listen: Address::tcp("127.0.0.1", 6380),
            upstream: Some(Upstream {
                address: Address::tcp("127.0.0.1", 6379),
                tls: false,
            }),
            upstream_env: None,
            login: Login::default(),
            upstream_tls: UpstreamTls::default(),
            tls: None,
            service_name: None,
            infer_parent: InferParent::Off,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: LogFormat::Text,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
