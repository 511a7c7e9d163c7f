//! What the injector counts: `tars_injector_*`.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use crate::inject::{Decision, Outcome, Reason};

/// From 50 µs to a second.
const SECONDS: &[f64] = &[
    5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 1.0,
];

/// Why a request got no review.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No AdmissionReview.
    Malformed,
    /// Too large.
    Oversized,
    /// Not all of it came in time.
    Slow,
    /// No TLS, or none that both sides know.
    Handshake,
}

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    reviews: IntCounterVec,
    skipped: IntCounterVec,
    failures: IntCounterVec,
    /// Warnings that were sent.
    pub warnings: IntCounter,
    /// From a request's headers to its answer.
    pub seconds: Histogram,
    /// Connections that are open.
    pub connections: IntGauge,
    /// When the certificate in use ends, in seconds since 1970; 0 if that is not known.
    pub certificate_not_after: IntGauge,
    /// Certificates that were taken into use.
    pub certificates: IntCounter,
    /// Failed requests to the API server.
    pub api_errors: IntCounter,
    /// Whether this replica looks after the certificates.
    pub leader: IntGauge,
}

impl Metrics {
    /// All at zero, each label that can be in place.
    ///
    /// # Errors
    /// If two have one name, which a test would show.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let labelled = |name: &str, help: &str, label: &str, values: &[&str]| {
            let vector = IntCounterVec::new(Opts::new(name, help), &[label])?;
            for value in values {
                vector.get_metric_with_label_values(&[value])?;
            }
            registry.register(Box::new(vector.clone()))?;
            Ok::<_, prometheus::Error>(vector)
        };
        let seconds = HistogramOpts::new(
            "tars_injector_review_seconds",
            "From a request's headers to its answer.",
        );
        let seconds = Histogram::with_opts(seconds.buckets(SECONDS.to_vec()))?;
        registry.register(Box::new(seconds.clone()))?;
        Ok(Self {
            reviews: labelled(
                "tars_injector_reviews_total",
                "Pods decided about.",
                "decision",
                &["injected", "skipped", "refused", "updated", "unknown"],
            )?,
            skipped: labelled(
                "tars_injector_skipped_total",
                "Pods that got no sidecar.",
                "reason",
                &Reason::ALL.map(Reason::label),
            )?,
            failures: labelled(
                "tars_injector_failed_requests_total",
                "Requests that were no review.",
                "reason",
                &["malformed", "oversized", "slow", "handshake"],
            )?,
            warnings: counter(
                "tars_injector_warnings_total",
                "Warnings sent to whoever created a pod.",
            )?,
            seconds,
            connections: gauge(
                "tars_injector_connections",
                "Connections of API servers that are open.",
            )?,
            certificate_not_after: gauge(
                "tars_injector_certificate_not_after_seconds",
                "When the certificate that the injector made for itself ends, in seconds since 1970.",
            )?,
            certificates: counter(
                "tars_injector_certificates_total",
                "Certificates that were taken into use.",
            )?,
            api_errors: counter(
                "tars_injector_api_errors_total",
                "Failed requests to the API server.",
            )?,
            leader: gauge(
                "tars_injector_leader",
                "Whether this replica looks after the certificates.",
            )?,
            registry,
        })
    }

    /// For the admin server.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Counts a decision.
    pub fn decided(&self, outcome: &Outcome) {
        let decision = match &outcome.decision {
            Decision::Injected => "injected",
            Decision::Skipped(reason) => {
                self.skipped.with_label_values(&[reason.label()]).inc();
                "skipped"
            }
            Decision::Refused(_) => "refused",
        };
        self.reviews.with_label_values(&[decision]).inc();
        self.warnings.inc_by(outcome.warnings.len() as u64);
    }

    /// Counts an update of a pod.
    pub fn updated(&self) {
        self.reviews.with_label_values(&["updated"]).inc();
    }

    /// Counts something that this webhook is not for.
    pub fn unknown(&self) {
        self.reviews.with_label_values(&["unknown"]).inc();
    }

    /// Counts a request without review.
    pub fn failed(&self, failure: Failure) {
        let reason = match failure {
            Failure::Malformed => "malformed",
            Failure::Oversized => "oversized",
            Failure::Slow => "slow",
            Failure::Handshake => "handshake",
        };
        self.failures.with_label_values(&[reason]).inc();
    }
}
