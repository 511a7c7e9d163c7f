//! The command line's share of the configuration.
//!
//! Values stay text here: they are understood in one place, wherever they were written, so that an error reads the same.

use std::path::PathBuf;

use super::error::Origin;
use super::names;
use super::source::{Given, Source};

/// Every flag is read from the environment too, as TARS_ and its name (TARS_DRAIN_TIMEOUT), and under its name from the file
/// (drain_timeout). Flags go over the environment, the environment over the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Configuration")]
pub struct Flags {
    /// TOML file to read
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where clients connect: host:port or unix:/path [default: 127.0.0.1:6380]
    #[arg(long, global = true, value_name = "ADDR")]
    pub listen: Option<String>,
    /// Where Redis is: redis://host:port, with TLS rediss://host:port, unix:/path, or, for clients that are redirected here, original
    /// [default: redis://127.0.0.1:6379]
    #[arg(long, global = true, value_name = "URL")]
    pub upstream: Option<String>,
    /// Variable that holds the server's URL with user, password and database, which clients then need not know
    #[arg(long, global = true, value_name = "VARIABLE")]
    pub upstream_env: Option<String>,
    /// Where metrics, traces and health are served: host:port or unix:/path [default: 127.0.0.1:9464]
    #[arg(long, global = true, value_name = "ADDR")]
    pub admin: Option<String>,
    /// Data threads [default: 1]
    #[arg(long, global = true, value_name = "N", allow_hyphen_values = true)]
    pub workers: Option<String>,
    /// Value of tars.region on every span
    #[arg(long, global = true, value_name = "NAME")]
    pub region: Option<String>,
    /// service.name of the clients' spans [default: OTEL_SERVICE_NAME]
    #[arg(long, global = true, value_name = "NAME")]
    pub service_name: Option<String>,
    /// Whether a message sent while another is handled is its child: off, connection or process [default: off]
    #[arg(long, global = true, value_name = "HOW")]
    pub infer_parent: Option<String>,
    /// How a delivery points at its message: parent or link [default: parent]
    #[arg(long, global = true, value_name = "HOW")]
    pub relation: Option<String>,
    /// When a delivery that nobody acknowledged is given up [default: 5m]
    #[arg(long, global = true, value_name = "TIME", allow_hyphen_values = true)]
    pub process_timeout: Option<String>,
    /// How long connections may take to finish when the proxy stops [default: 30s]
    #[arg(long, global = true, value_name = "TIME", allow_hyphen_values = true)]
    pub drain_timeout: Option<String>,
    /// What readers of matching streams get: keep, propagate or strip (repeatable) [default: keep]
    #[arg(long, global = true, value_name = "PATTERN=MODE")]
    pub deliver: Vec<String>,
    /// Share of new traces that is sampled on matching streams (repeatable) [default: OTEL_TRACES_SAMPLER]
    #[arg(long, global = true, value_name = "PATTERN=RATIO")]
    pub sample: Vec<String>,
    /// Only forward: nothing is read, added or traced
    #[arg(
        long,
        global = true,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub no_trace: Option<String>,
    /// off, error, warn, info, debug or trace, or by module: info,tars_proxy=debug [default: info]
    #[arg(long, global = true, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// text or json [default: text]
    #[arg(long, global = true, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// Authorities that may have signed a rediss:// server's certificate, a PEM file; without it, the system's
    #[arg(long, global = true, value_name = "FILE", help_heading = "TLS")]
    pub upstream_ca: Option<String>,
    /// Certificate shown to a rediss:// server, a PEM file
    #[arg(long, global = true, value_name = "FILE", help_heading = "TLS")]
    pub upstream_cert: Option<String>,
    /// Private key of --upstream-cert, a PEM file
    #[arg(long, global = true, value_name = "FILE", help_heading = "TLS")]
    pub upstream_key: Option<String>,
    /// Name in a rediss:// server's certificate, if it is not the host of --upstream
    #[arg(long, global = true, value_name = "NAME", help_heading = "TLS")]
    pub upstream_server_name: Option<String>,
    /// Certificate shown to clients, a PEM file: they then connect with TLS
    #[arg(long, global = true, value_name = "FILE", help_heading = "TLS")]
    pub tls_cert: Option<String>,
    /// Private key of --tls-cert, a PEM file
    #[arg(long, global = true, value_name = "FILE", help_heading = "TLS")]
    pub tls_key: Option<String>,
    /// Authorities whose certificates clients must show, a PEM file
    #[arg(long, global = true, value_name = "FILE", help_heading = "TLS")]
    pub tls_client_ca: Option<String>,
    /// Larger commands and entries pass unread [default: 1MiB]
    #[arg(
        long,
        global = true,
        value_name = "SIZE",
        allow_hyphen_values = true,
        help_heading = "Limits"
    )]
    pub max_message_bytes: Option<String>,
    /// Bytes of messages that are held, over all connections [default: 128 × max_message_bytes]
    #[arg(
        long,
        global = true,
        value_name = "SIZE",
        allow_hyphen_values = true,
        help_heading = "Limits"
    )]
    pub max_held_bytes: Option<String>,
    /// Commands of one connection that wait for a reply [default: 65536]
    #[arg(
        long,
        global = true,
        value_name = "N",
        allow_hyphen_values = true,
        help_heading = "Limits"
    )]
    pub max_pending_replies: Option<String>,
    /// Bytes of commands that wait for a reply, over all connections [default: 1KiB × max_pending_replies]
    #[arg(
        long,
        global = true,
        value_name = "SIZE",
        allow_hyphen_values = true,
        help_heading = "Limits"
    )]
    pub max_pending_bytes: Option<String>,
    /// Messages delivered and not yet acknowledged [default: 65536]
    #[arg(
        long,
        global = true,
        value_name = "N",
        allow_hyphen_values = true,
        help_heading = "Limits"
    )]
    pub max_deliveries: Option<String>,
    /// Stream and group names with metrics of their own [default: 256]
    #[arg(
        long,
        global = true,
        value_name = "N",
        allow_hyphen_values = true,
        help_heading = "Limits"
    )]
    pub max_metric_names: Option<String>,
    /// Spans kept for the page of recent traces [default: 10000]
    #[arg(
        long,
        global = true,
        value_name = "N",
        allow_hyphen_values = true,
        help_heading = "Limits"
    )]
    pub max_recent_spans: Option<String>,
    /// Client connections, over all listeners [default: 10000]
    #[arg(
        long,
        global = true,
        value_name = "N",
        allow_hyphen_values = true,
        help_heading = "Limits"
    )]
    pub max_connections: Option<String>,
}

impl Flags {
    /// Each setting that has one value.
    fn single(&self) -> [(&'static str, &Option<String>); 29] {
        [
            ("listen", &self.listen),
            ("upstream", &self.upstream),
            ("upstream_env", &self.upstream_env),
            ("admin", &self.admin),
            ("workers", &self.workers),
            ("region", &self.region),
            ("service_name", &self.service_name),
            ("infer_parent", &self.infer_parent),
            ("upstream_ca", &self.upstream_ca),
            ("upstream_cert", &self.upstream_cert),
            ("upstream_key", &self.upstream_key),
            ("upstream_server_name", &self.upstream_server_name),
            ("tls_cert", &self.tls_cert),
            ("tls_key", &self.tls_key),
            ("tls_client_ca", &self.tls_client_ca),
            ("relation", &self.relation),
            ("process_timeout", &self.process_timeout),
            ("drain_timeout", &self.drain_timeout),
            ("no_trace", &self.no_trace),
            ("log_level", &self.log_level),
            ("log_format", &self.log_format),
            ("max_message_bytes", &self.max_message_bytes),
            ("max_held_bytes", &self.max_held_bytes),
            ("max_pending_replies", &self.max_pending_replies),
            ("max_pending_bytes", &self.max_pending_bytes),
            ("max_deliveries", &self.max_deliveries),
            ("max_metric_names", &self.max_metric_names),
            ("max_recent_spans", &self.max_recent_spans),
            ("max_connections", &self.max_connections),
        ]
    }

    pub(super) fn source(&self) -> Source {
        let given = |key: &str, text: &String| Given {
            text: text.clone(),
            origin: Origin::Flag(names::flag(key)),
        };
        let mut source = Source::default();
        for (key, text) in self.single() {
            if let Some(text) = text {
                source.settings.values.insert(key, given(key, text));
            }
        }
        source.deliver = self
            .deliver
            .iter()
            .map(|text| given(names::DELIVER, text))
            .collect();
        source.sample = self
            .sample
            .iter()
            .map(|text| given(names::SAMPLE, text))
            .collect();
        source
    }
}
