//! Where the data threads leave finished spans, and what is counted of them.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::Settings;
use crate::sync::{Mutex, MutexGuard, Notify, PoisonError};
use crate::trace::span::Span;

/// Finished spans on their way to the exporter, shared by all data threads.
///
/// Handing spans over never waits for anything but the lock of a vector that others append to, or swap. What finds no
/// room is dropped and counted.
#[derive(Debug)]
pub struct SpanQueue {
    waiting: Mutex<Waiting>,
    /// Told when a batch has gathered, and not of each span: waking another thread costs more than a span.
    gathered: Notify,
    capacity: usize,
    batch: usize,
    counters: SpanCounters,
}

#[derive(Debug, Default)]
struct Waiting {
    spans: Vec<Span>,
    closed: bool,
}

impl SpanQueue {
    /// An empty queue with room for `max_queue_size` spans.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Self {
            waiting: Mutex::default(),
            gathered: Notify::new(),
            capacity: settings.batch.max_queue_size,
            batch: settings.batch_size(),
            counters: SpanCounters::new(),
        }
    }

    /// Has room for as many spans on their way to the ring of recent traces, also where fewer may wait to be exported.
    #[must_use]
    pub fn holding(mut self, recent: usize) -> Self {
        self.capacity = self.capacity.max(recent);
        self
    }

    /// Hands over one finished span.
    pub fn push(&self, span: Span) {
        self.offer(1, std::iter::once(span));
    }

    /// Hands over the finished spans of one read under one lock, and leaves `spans` empty with its room.
    pub fn push_all(&self, spans: &mut Vec<Span>) {
        if !spans.is_empty() {
            self.offer(spans.len(), spans.drain(..));
        }
    }

    /// What became of the spans.
    #[must_use]
    pub fn counters(&self) -> &SpanCounters {
        &self.counters
    }

    fn offer(&self, offered: usize, mut spans: impl Iterator<Item = Span>) {
        let mut waiting = self.lock();
        let before = waiting.spans.len();
        let closed = waiting.closed;
        let room = if closed {
            0
        } else {
            self.capacity.saturating_sub(before)
        };
        waiting.spans.extend(spans.by_ref().take(room));
        let after = waiting.spans.len();
        let taken = after - before;
        // Under the lock, so that no span is seen to leave before it was seen to come.
        self.counters.ended.inc_by(count(offered));
        self.counters.queue_length.add(length(taken));
        drop(waiting);

        if taken < offered {
            let reason = if closed {
                DropReason::Shutdown
            } else {
                DropReason::QueueFull
            };
            self.counters.count_dropped(reason, offered - taken);
        }
        if before < self.batch && self.batch <= after {
            self.gathered.notify_one();
        }
    }

    /// Waits until a batch has gathered since the last time.
    pub(crate) async fn gathered(&self) {
        self.gathered.notified().await;
    }

    /// Swaps all waiting spans for the empty vector in `taken`.
    pub(crate) fn take(&self, taken: &mut Vec<Span>) {
        debug_assert!(taken.is_empty(), "spans taken before are still there");
        std::mem::swap(&mut self.lock().spans, taken);
    }

    /// From now on spans are dropped and counted.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a span was not exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// No room: spans end faster than they are exported.
    QueueFull,
    /// Its batch was refused, or not taken in time.
    ExportFailed,
    /// The proxy stopped before its batch was exported.
    Shutdown,
}

/// What became of the spans that ended. Where there is an exporter,
/// `ended = exported + dropped + queue_length`; otherwise nothing is exported and only what found no room is dropped.
#[derive(Clone, Debug)]
pub struct SpanCounters {
    /// Spans that ended.
    pub ended: IntCounter,
    /// Spans that an exporter took.
    pub exported: IntCounter,
    /// Spans that are waiting to be exported, or being exported.
    pub queue_length: IntGauge,
    /// By reason.
    all_dropped: IntCounterVec,
    queue_full: IntCounter,
    export_failed: IntCounter,
    shutdown: IntCounter,
}

impl SpanCounters {
    fn new() -> Self {
        let all_dropped = IntCounterVec::new(
            Opts::new(
                "tars_proxy_spans_dropped_total",
                "Spans that were not exported, by reason: queue_full, export_failed, shutdown.",
            ),
            &["reason"],
        )
        .expect(VALID);
        Self {
            ended: IntCounter::new("tars_proxy_spans_ended_total", "Spans that ended.")
                .expect(VALID),
            exported: IntCounter::new(
                "tars_proxy_spans_exported_total",
                "Spans that were exported.",
            )
            .expect(VALID),
            queue_length: IntGauge::new(
                "tars_proxy_span_queue_length",
                "Spans that are waiting to be exported, or being exported.",
            )
            .expect(VALID),
            queue_full: all_dropped.with_label_values(&["queue_full"]),
            export_failed: all_dropped.with_label_values(&["export_failed"]),
            shutdown: all_dropped.with_label_values(&["shutdown"]),
            all_dropped,
        }
    }

    /// Shows the counters on `/metrics`.
    ///
    /// # Errors
    /// If the registry has metrics of these names already.
    pub fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        registry.register(Box::new(self.ended.clone()))?;
        registry.register(Box::new(self.exported.clone()))?;
        registry.register(Box::new(self.all_dropped.clone()))?;
        registry.register(Box::new(self.queue_length.clone()))
    }

    /// Spans that were not exported for this reason.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.of(reason).get()
    }

    pub(super) fn count_dropped(&self, reason: DropReason, spans: usize) {
        self.of(reason).inc_by(count(spans));
    }

    pub(crate) fn leave_queue(&self, spans: usize) {
        self.queue_length.sub(length(spans));
    }

    fn of(&self, reason: DropReason) -> &IntCounter {
        match reason {
            DropReason::QueueFull => &self.queue_full,
            DropReason::ExportFailed => &self.export_failed,
            DropReason::Shutdown => &self.shutdown,
        }
    }
}

/// Why making a metric cannot fail.
const VALID: &str = "the metric's name and labels are constants in Prometheus' alphabet";

fn count(spans: usize) -> u64 {
    u64::try_from(spans).unwrap_or(u64::MAX)
}

fn length(spans: usize) -> i64 {
    i64::try_from(spans).unwrap_or(i64::MAX)
}
