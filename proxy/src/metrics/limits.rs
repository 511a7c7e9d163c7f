//! The limits in force, and how full what they bound is, read when somebody asks.

use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, IntGauge, IntGaugeVec, Opts, Registry};

use crate::budget::Budget;
use crate::config::Limits;
use crate::trace::recent::Recent;

/// What is counted where it happens, without these metrics.
pub struct Bounded {
    /// For messages that are held.
    pub held: Arc<Budget>,
    /// For commands that wait for their replies.
    pub pending: Arc<Budget>,
    /// For the page of recent traces.
    pub recent: Arc<Recent>,
}

impl Bounded {
    /// Registers what is in force, and how full it is.
    ///
    /// # Errors
    /// When the registry has metrics of these names.
    pub fn register(self, limits: &Limits, registry: &Registry) -> prometheus::Result<()> {
        let in_force = IntGaugeVec::new(
            Opts::new(
                "tars_proxy_limit",
                "Limits in force, by their setting; max_connections is lower where file descriptors are short.",
            ),
            &["setting"],
        )?;
        for (setting, limit) in limits.named() {
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            in_force.with_label_values(&[setting]).set(limit);
        }
        registry.register(Box::new(in_force))?;
        let metrics = self.metrics()?;
        let descriptions = metrics.iter().flat_map(|metric| metric.desc());
        registry.register(Box::new(Reader {
            descriptions: descriptions.cloned().collect(),
            bounded: self,
        }))
    }

    /// All metrics as they are now.
    fn metrics(&self) -> prometheus::Result<Vec<Box<dyn Collector>>> {
        let gauge = |name: &str, help: &str, value: usize| -> prometheus::Result<_> {
            let gauge = IntGauge::new(name, help)?;
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
            Ok(Box::new(gauge) as Box<dyn Collector>)
        };
        let counter = |name: &str, help: &str, value: u64| -> prometheus::Result<_> {
            let counter = IntCounter::new(name, help)?;
            counter.inc_by(value);
            Ok(Box::new(counter) as Box<dyn Collector>)
        };
        Ok(vec![
            gauge(
                "tars_proxy_held_bytes",
                "Bytes set aside for messages that are held, out of max_held_bytes.",
                self.held.taken(),
            )?,
            counter(
                "tars_proxy_held_refused_total",
                "Times that a message found no room in max_held_bytes and passed unread.",
                self.held.refused() as u64,
            )?,
            gauge(
                "tars_proxy_pending_bytes",
                "Bytes set aside for commands that wait for their replies, out of max_pending_bytes.",
                self.pending.taken(),
            )?,
            counter(
                "tars_proxy_pending_refused_total",
                "Times that a command found no room in max_pending_bytes and passed without being followed.",
                self.pending.refused() as u64,
            )?,
            gauge(
                "tars_proxy_recent_spans",
                "Spans kept for the page of recent traces.",
                self.recent.len(),
            )?,
            counter(
                "tars_proxy_recent_spans_evicted_total",
                "Spans that left the page of recent traces because others came.",
                self.recent.evicted(),
            )?,
        ])
    }
}

struct Reader {
    bounded: Bounded,
    descriptions: Vec<Desc>,
}

impl Collector for Reader {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let metrics = self.bounded.metrics().unwrap_or_default();
        metrics.iter().flat_map(|metric| metric.collect()).collect()
    }
}
