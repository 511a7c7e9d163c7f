//! The spans of the service, on their way to a collector.
//!
//! What ends leaves its span in a bounded queue; a task exports batches of them. A collector that is slow, refuses or is gone costs spans, which are
//! counted, and nothing else.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry::global;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    Sampler, SdkTracerProvider, Span, SpanData, SpanExporter as _, SpanProcessor,
};
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use tars_sidecar::otlp::{self, Batch, Exporter, OtlpSettings, Service};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

/// What the service is called where the environment does not say so.
const NAME: &str = "tars-agent";

/// What happened to spans.
#[derive(Clone, Debug)]
pub struct SpanCounters {
    exported: IntCounter,
    queue_full: IntCounter,
    export_failed: IntCounter,
    shutdown: IntCounter,
}

impl SpanCounters {
    /// Counters in this registry.
    ///
    /// # Errors
    /// If it has some of these names.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let exported = IntCounter::new(
            "tars_agent_spans_exported_total",
            "Spans that were exported.",
        )?;
        let dropped = IntCounterVec::new(
            Opts::new(
                "tars_agent_spans_dropped_total",
                "Spans that were not exported.",
            ),
            &["reason"],
        )?;
        registry.register(Box::new(exported.clone()))?;
        registry.register(Box::new(dropped.clone()))?;
        Ok(Self {
            exported,
            queue_full: dropped.with_label_values(&["queue_full"]),
            export_failed: dropped.with_label_values(&["export_failed"]),
            shutdown: dropped.with_label_values(&["shutdown"]),
        })
    }
}

/// Spans that have ended.
#[derive(Clone, Debug)]
struct Queue(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    spans: Mutex<VecDeque<SpanData>>,
    batch: Batch,
    gathered: Notify,
    counters: SpanCounters,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, VecDeque<SpanData>> {
        self.0.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if !span.span_context.is_sampled() {
            return;
        }
        let mut spans = self.lock();
        if spans.len() >= self.0.batch.max_queue_size {
            self.0.counters.queue_full.inc();
            return;
        }
        spans.push_back(span);
        if spans.len() == self.0.batch.max_export_batch_size {
            self.0.gathered.notify_one();
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.gathered.notify_one();
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// The running export. Dropping it gives up what has not been exported.
#[derive(Debug)]
#[must_use = "spans are given up when this is dropped"]
pub struct Exporting {
    stop: oneshot::Sender<Instant>,
    task: JoinHandle<()>,
}

/// Sets the spans of this process up as `OTEL_*` says, on the current runtime; none if they go nowhere.
///
/// # Errors
/// If a variable is wrong.
pub fn start(
    env: impl Fn(&str) -> Option<String>,
    counters: SpanCounters,
) -> Result<Option<Exporting>, otlp::Error> {
    let Some(settings) = OtlpSettings::from_env(&env)? else {
        return Ok(None);
    };
    let service = Service::from_env(&env)?;
    let resource = service.resource(service.name().unwrap_or(NAME));
    let exporter = settings.exporter(&resource)?;
    ::tracing::info!(otlp = %settings, "exporting spans");
    let queue = Queue(Arc::new(Inner {
        spans: Mutex::default(),
        batch: settings.batch(),
        gathered: Notify::new(),
        counters,
    }));
    let provider = SdkTracerProvider::builder()
        .with_sampler(sampler(&env))
        .with_resource(Resource::builder_empty().build())
        .with_span_processor(queue.clone())
        .build();
    global::set_tracer_provider(provider);
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(export(queue, exporter, stopped));
    Ok(Some(Exporting { stop, task }))
}

impl Exporting {
    /// Exports what there is; what is left at `deadline` is dropped and counted.
    pub async fn flush(self, deadline: Instant) {
        // Either fails only if the task has panicked: then there is nothing left to flush.
        let _ = self.stop.send(deadline);
        let _ = self.task.await;
    }
}

async fn export(queue: Queue, exporter: Exporter, mut stopped: oneshot::Receiver<Instant>) {
    let batch = queue.0.batch;
    let mut failing = false;
    loop {
        let wait = timeout(batch.schedule_delay, queue.0.gathered.notified());
        let deadline = tokio::select! {
            _ = wait => None,
            deadline = &mut stopped => Some(deadline.unwrap_or_else(|_| Instant::now())),
        };
        let Some(deadline) = deadline else {
            send(&queue, &exporter, &mut failing).await;
            continue;
        };
        if timeout_at(deadline, send(&queue, &exporter, &mut failing))
            .await
            .is_err()
        {
            ::tracing::warn!("some spans were not exported before the process ended");
        }
        queue.0.counters.shutdown.inc_by(queue.lock().len() as u64);
        return;
    }
}

/// Exports all that waits.
async fn send(queue: &Queue, exporter: &Exporter, failing: &mut bool) {
    let Inner {
        batch, counters, ..
    } = &*queue.0;
    loop {
        let spans: Vec<SpanData> = {
            let mut waiting = queue.lock();
            let size = waiting.len().min(batch.max_export_batch_size);
            waiting.drain(..size).collect()
        };
        if spans.is_empty() {
            return;
        }
        let count = spans.len() as u64;
        let sent = match timeout(batch.export_timeout, exporter.export(spans)).await {
            Ok(sent) => sent.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {:?}", batch.export_timeout)),
        };
        match sent {
            Ok(()) => {
                counters.exported.inc_by(count);
                if std::mem::take(failing) {
                    ::tracing::info!("spans are exported again");
                }
            }
            Err(error) => {
                counters.export_failed.inc_by(count);
                if !std::mem::replace(failing, true) {
                    ::tracing::warn!(
                        "spans cannot be exported and are dropped until it works again: {error}"
                    );
                }
            }
        }
    }
}

/// `OTEL_TRACES_SAMPLER` and its argument, as the specification has them; what it does not have is the default.
fn sampler(env: impl Fn(&str) -> Option<String>) -> Sampler {
    let ratio = || {
        let ratio = env("OTEL_TRACES_SAMPLER_ARG").and_then(|ratio| ratio.trim().parse().ok());
        Sampler::TraceIdRatioBased(
            ratio
                .filter(|ratio| (0.0..=1.0).contains(ratio))
                .unwrap_or(1.0),
        )
    };
    let parent = |root| Sampler::ParentBased(Box::new(root));
    match env("OTEL_TRACES_SAMPLER").as_deref().map(str::trim) {
        Some("always_on") => Sampler::AlwaysOn,
        Some("always_off") => Sampler::AlwaysOff,
        Some("traceidratio") => ratio(),
        Some("parentbased_always_off") => parent(Sampler::AlwaysOff),
        Some("parentbased_traceidratio") => parent(ratio()),
        _ => parent(Sampler::AlwaysOn),
    }
}
