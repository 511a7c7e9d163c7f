//! What the proxy counts: `tars_proxy_*` about itself, `tars_stream_*` about the messages.
//!
//! All counters of the byte path are resolved once, per process or per stream, so that counting is one relaxed addition.
//! Labels are fixed words or bounded by `max_metric_names`; names beyond share `other`.

mod limits;
mod names;

use std::sync::Arc;

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

pub use limits::Bounded;
use names::Names;

/// The label of names beyond the bound.
const OTHER: &str = "other";

/// From a microsecond to ten seconds: what the proxy adds lies at the lower end, what consumers take at the upper.
const ADDED_BUCKETS: &[f64] = &[
    2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 5e-3, 1e-2, 1e-1, 1.0,
];
/// From the age of a message at delivery to the time a consumer takes, in seconds.
const MESSAGE_BUCKETS: &[f64] = &[
    1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 1e-1, 0.25, 0.5, 1.0, 2.5, 5.0,
    10.0, 30.0, 60.0, 300.0,
];

/// All metrics of a process.
pub struct Metrics {
    registry: Registry,
    /// Client connections that are open.
    pub connections: IntGauge,
    /// Client connections accepted.
    pub connections_total: IntCounter,
    /// Client connections refused because there were `max_connections`.
    pub connections_refused: IntCounter,
    commands: IntCounterVec,
    /// Bytes from clients.
    pub bytes_up: IntCounter,
    /// Bytes from servers.
    pub bytes_down: IntCounter,
    raw_relays: IntCounterVec,
    errors: IntCounterVec,
    /// Servers of transparent mode that are remembered.
    pub destinations: IntGauge,
    strays: IntCounterVec,
    upstream_up: IntGaugeVec,
    /// Time from a read to the write of the same bytes, client to server; one read in some is measured.
    pub added_up: Histogram,
    /// The same, server to client.
    pub added_down: Histogram,
    injected: IntCounterVec,
    found: IntCounterVec,
    skipped: IntCounterVec,
    not_followed: IntCounterVec,
    extracted: IntCounterVec,
    /// Bytes that injection added to commands.
    pub injected_bytes: IntCounter,
    inferences: IntCounterVec,
    /// Deliveries that are not settled.
    pub deliveries: IntGauge,
    /// Deliveries that were given up because the table was full.
    pub deliveries_evicted: IntCounter,
    sent: IntCounterVec,
    delivered: IntCounterVec,
    redelivered: IntCounterVec,
    settled: IntCounterVec,
    delivery_seconds: HistogramVec,
    processing_seconds: HistogramVec,
    streams: Names<Arc<str>>,
    groups: Names<(Arc<str>, Arc<str>)>,
}

/// Registers a collector under a name that is used once.
fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: Result<C, prometheus::Error>,
) -> C {
    // Names are literals of this file, and each appears once.
    #[allow(clippy::expect_used)]
    let collector = collector.expect("metric names and labels are valid");
    #[allow(clippy::expect_used)]
    registry
        .register(Box::new(collector.clone()))
        .expect("metric names are unique");
    collector
}

impl Metrics {
    /// Registers everything.
    #[must_use]
    pub fn new(max_names: usize) -> Self {
        let registry = Registry::new();
        let counter = |name: &str, help: &str| register(&registry, IntCounter::new(name, help));
        let gauge = |name: &str, help: &str| register(&registry, IntGauge::new(name, help));
        let counters = |name: &str, help: &str, labels: &[&str]| {
            register(&registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        let added = register(
            &registry,
            HistogramVec::new(
                HistogramOpts::new(
                    "tars_proxy_added_seconds",
                    "Time from reading bytes to having written them on; one read in 64 is measured.",
                )
                .buckets(ADDED_BUCKETS.to_vec()),
                &["direction"],
            ),
        );
        let bytes = counters(
            "tars_proxy_bytes_total",
            "Bytes read, by the side they came from.",
            &["side"],
        );
        let histograms = |name: &str, help: &str| {
            register(
                &registry,
                HistogramVec::new(
                    HistogramOpts::new(name, help).buckets(MESSAGE_BUCKETS.to_vec()),
                    &["stream", "group"],
                ),
            )
        };
        let held_names = register(
            &registry,
            IntGaugeVec::new(
                Opts::new(
                    "tars_proxy_metric_names",
                    "Names that have metrics of their own: streams, and pairs of stream and group.",
                ),
                &["kind"],
            ),
        );
        let refused_names = counters(
            "tars_proxy_metric_names_refused_total",
            "Lookups of names that share the label other, because there are max_metric_names or the name is too long.",
            &["kind"],
        );
        let not_followed = counters(
            "tars_proxy_commands_not_followed_total",
            "Reads, claims and settlements that passed without being followed, by the limit they met: too_large, pending_replies.",
            &["reason"],
        );
        let errors = counters(
            "tars_proxy_errors_total",
            "Connections that ended in an error, by the side it came from.",
            &["side"],
        );
        // From 0 on: the first increment of a series that was not there is no increase to Prometheus.
        for (of, values) in [
            (&not_followed, &["too_large", "pending_replies"][..]),
            (&errors, &["client", "server", "proxy"]),
        ] {
            for value in values {
                let _ = of.with_label_values(&[value]);
            }
        }
        let (held_names, refused_names) = (
            |kind| held_names.with_label_values(&[kind]),
            |kind| refused_names.with_label_values(&[kind]),
        );
        Self {
            connections: gauge(
                "tars_proxy_connections",
                "Client connections that are open.",
            ),
            connections_total: counter(
                "tars_proxy_connections_total",
                "Client connections accepted.",
            ),
            connections_refused: counter(
                "tars_proxy_connections_refused_total",
                "Client connections refused because max_connections were open.",
            ),
            commands: counters(
                "tars_proxy_commands_total",
                "Commands forwarded, by family.",
                &["family"],
            ),
            bytes_up: bytes.with_label_values(&["client"]),
            bytes_down: bytes.with_label_values(&["server"]),
            raw_relays: counters(
                "tars_proxy_raw_relays_total",
                "Connections that became raw relays, untraced for the rest of their lives, by reason.",
                &["reason"],
            ),
            errors,
            destinations: gauge(
                "tars_proxy_original_destinations",
                "Servers that redirected clients were connecting to, out of the 1024 that are remembered.",
            ),
            strays: counters(
                "tars_proxy_strays_total",
                "Connections refused in transparent mode because they lead to no server, by reason: not_redirected, own_connection.",
                &["reason"],
            ),
            upstream_up: register(
                &registry,
                IntGaugeVec::new(
                    Opts::new(
                        "tars_proxy_upstream_up",
                        "Whether the server could last be reached.",
                    ),
                    &["upstream"],
                ),
            ),
            added_up: added.with_label_values(&["to_server"]),
            added_down: added.with_label_values(&["to_client"]),
            injected: counters(
                "tars_proxy_contexts_injected_total",
                "Messages that got a context: none was there (new), an invalid one (replaced), or one in an envelope (envelope).",
                &["kind"],
            ),
            found: counters(
                "tars_proxy_contexts_found_total",
                "Messages sent with a context of the application's own, by where it was.",
                &["source"],
            ),
            skipped: counters(
                "tars_proxy_contexts_skipped_total",
                "Messages sent that got no context, by reason.",
                &["reason"],
            ),
            not_followed,
            extracted: counters(
                "tars_proxy_contexts_extracted_total",
                "Messages delivered, by what was found in them: a context in its field, in an envelope, an invalid one, or none.",
                &["source"],
            ),
            injected_bytes: counter(
                "tars_proxy_injected_bytes_total",
                "Bytes that injection added to commands.",
            ),
            inferences: counters(
                "tars_proxy_inferences_total",
                "XADD without a context: how many messages the rule of infer_parent would have found, by scope, whether it is on or off.",
                &["scope", "found"],
            ),
            deliveries: gauge("tars_proxy_deliveries", "Deliveries that are not settled."),
            deliveries_evicted: counter(
                "tars_proxy_deliveries_evicted_total",
                "Deliveries given up because max_deliveries were unsettled.",
            ),
            sent: counters(
                "tars_stream_messages_sent_total",
                "Messages that the server accepted, by stream.",
                &["stream"],
            ),
            delivered: counters(
                "tars_stream_messages_delivered_total",
                "Messages delivered to a consumer.",
                &["stream", "group"],
            ),
            redelivered: counters(
                "tars_stream_messages_redelivered_total",
                "Messages delivered once more: claimed, or read again from a consumer's own history.",
                &["stream", "group"],
            ),
            settled: counters(
                "tars_stream_messages_settled_total",
                "Deliveries that ended, by how: settled, uncertain, released, superseded, failed, timeout, evicted, drained.",
                &["stream", "group", "outcome"],
            ),
            delivery_seconds: histograms(
                "tars_stream_delivery_latency_seconds",
                "Age of a message at its first delivery: from the clock in its id to its delivery here.",
            ),
            processing_seconds: histograms(
                "tars_stream_processing_seconds",
                "Time from a message's delivery to its settlement.",
            ),
            streams: Names::new(max_names, held_names("stream"), refused_names("stream")),
            groups: Names::new(max_names, held_names("group"), refused_names("group")),
            registry,
        }
    }

    /// The registry, for the admin server, and for whoever has more to count.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Counter of commands of a family.
    #[must_use]
    pub fn commands(&self, family: &str) -> IntCounter {
        self.commands.with_label_values(&[family])
    }

    /// A connection became a raw relay.
    pub fn raw_relay(&self, reason: &'static str) {
        self.raw_relays.with_label_values(&[reason]).inc();
    }

    /// A connection ended in an error of this side.
    pub fn error(&self, side: &'static str) {
        self.errors.with_label_values(&[side]).inc();
    }

    /// Counter of connections of transparent mode that lead nowhere.
    #[must_use]
    pub fn strays(&self, reason: &'static str) -> IntCounter {
        self.strays.with_label_values(&[reason])
    }

    /// Whether this upstream is up.
    #[must_use]
    pub fn upstream_up(&self, upstream: &str) -> IntGauge {
        self.upstream_up.with_label_values(&[upstream])
    }

    /// Counter of contexts injected.
    #[must_use]
    pub fn injected(&self, kind: &'static str) -> IntCounter {
        self.injected.with_label_values(&[kind])
    }

    /// Counter of contexts found in messages sent.
    #[must_use]
    pub fn found(&self, source: &'static str) -> IntCounter {
        self.found.with_label_values(&[source])
    }

    /// A message was sent without a context.
    pub fn skipped(&self, reason: &'static str) {
        self.skipped.with_label_values(&[reason]).inc();
    }

    /// A read, claim or settlement passed without being followed.
    pub fn not_followed(&self, reason: &'static str) {
        self.not_followed.with_label_values(&[reason]).inc();
    }

    /// Counter of contexts found in messages delivered.
    #[must_use]
    pub fn extracted(&self, source: &'static str) -> IntCounter {
        self.extracted.with_label_values(&[source])
    }

    /// Counter of inferences.
    #[must_use]
    pub fn inferences(&self, scope: &'static str, found: &'static str) -> IntCounter {
        self.inferences.with_label_values(&[scope, found])
    }

    /// The metrics of one stream.
    #[must_use]
    pub fn sent(&self, stream: &Arc<str>) -> IntCounter {
        self.sent.with_label_values(&[&*self.stream_label(stream)])
    }

    /// The metrics of one group, or of those who read a stream without one (`group = ""`).
    #[must_use]
    pub fn group(&self, stream: &Arc<str>, group: &Arc<str>) -> GroupMetrics {
        let (stream, group) = self.group_label(stream, group);
        let labels = [&*stream, &*group];
        GroupMetrics {
            delivered: self.delivered.with_label_values(&labels),
            redelivered: self.redelivered.with_label_values(&labels),
            settled: self.settled.clone(),
            delivery: self.delivery_seconds.with_label_values(&labels),
            processing: self.processing_seconds.with_label_values(&labels),
            acknowledged: self
                .settled
                .with_label_values(&[&*stream, &*group, "settled"]),
            stream,
            group,
        }
    }

    fn stream_label(&self, stream: &Arc<str>) -> Arc<str> {
        match self.streams.admits(stream.clone(), stream.len()) {
            true => stream.clone(),
            false => OTHER.into(),
        }
    }

    fn group_label(&self, stream: &Arc<str>, group: &Arc<str>) -> (Arc<str>, Arc<str>) {
        let pair = (stream.clone(), group.clone());
        match self
            .groups
            .admits(pair.clone(), stream.len().max(group.len()))
        {
            true => pair,
            false => (OTHER.into(), OTHER.into()),
        }
    }
}

/// Counters of one consumer group of one stream.
#[derive(Clone)]
pub struct GroupMetrics {
    stream: Arc<str>,
    group: Arc<str>,
    settled: IntCounterVec,
    /// Deliveries that ended with an acknowledgement.
    acknowledged: IntCounter,
    /// Deliveries.
    pub delivered: IntCounter,
    /// Deliveries after the first.
    pub redelivered: IntCounter,
    /// Age at the first delivery.
    pub delivery: Histogram,
    /// From delivery to settlement.
    pub processing: Histogram,
}

impl GroupMetrics {
    /// A delivery ended.
    pub fn ended(&self, outcome: &'static str) {
        match outcome {
            "settled" => self.acknowledged.inc(),
            other => self
                .settled
                .with_label_values(&[&*self.stream, &*self.group, other])
                .inc(),
        }
    }
}
