//! From the end of a span to whoever wants to know of it.
//!
//! Data threads leave finished spans in the [`SpanQueue`]. One task of the control thread takes them from there, shows
//! them to the ring of recent traces, and hands them in batches to one exporter per `service.name`. A collector that is
//! slow, refuses or is gone costs spans, which are counted, and nothing else: it neither holds up the data threads nor
//! the ring.

use std::collections::{HashMap, VecDeque};
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry_sdk::trace::SpanExporter;
use tars_sidecar::otlp::Batch;
use tokio::sync::oneshot;
use tokio::task::{Id, JoinError, JoinHandle, JoinSet};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout, timeout_at};

mod otlp;
mod queue;
#[cfg(test)]
mod tests;

pub use queue::{DropReason, SpanCounters, SpanQueue};

use super::recent::Recent;
use super::span::{Outcome, Span};

/// How long an ended span may stay out of the ring of recent traces: what still looks immediate on a page.
pub const SHOW_DELAY: Duration = Duration::from_millis(200);

/// Longer names are cut: a whole batch of spans then stays below the 4 MiB that gRPC servers accept, and a key that
/// happens to be a document does not fill the ring.
const MAX_NAME: usize = 1024;

/// What stands in the place of what was cut.
const ELLIPSIS: &str = "…";

/// When and how much is exported at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `OTEL_BSP_*`. As many spans as the queue holds may besides wait for less than [`SHOW_DELAY`] until the ring has
    /// seen them, so that it goes on while a collector does not.
    pub batch: Batch,
    /// `OTEL_SPAN_LINK_COUNT_LIMIT`: links of a span that are exported. 128.
    pub max_links: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            batch: Batch::default(),
            max_links: 128,
        }
    }
}

impl Settings {
    /// From the environment, or any other look-up of variables.
    ///
    /// # Errors
    /// A sentence that names the variable that is wrong.
    pub fn from_env(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        const LINKS: &str = "OTEL_SPAN_LINK_COUNT_LIMIT";
        let batch = Batch::from_env(&lookup).map_err(|error| error.to_string())?;
        let max_links = match lookup(LINKS).as_deref().map(str::trim) {
            None | Some("") => Self::default().max_links,
            Some(text) => text
                .parse()
                .map_err(|_| format!("{LINKS} is `{text}`, but must be a whole number"))?,
        };
        Ok(Self { batch, max_links })
    }

    /// A batch that the queue can hold, of one span at least.
    fn batch_size(&self) -> usize {
        self.batch
            .max_export_batch_size
            .min(self.batch.max_queue_size)
            .max(1)
    }
}

/// Starts the task that takes spans out of `queue`, on the current runtime. `exporter` makes the exporter of a service's
/// spans from its name; where there is none, spans go to the ring only.
pub fn spawn<E, F, X>(
    settings: Settings,
    queue: Arc<SpanQueue>,
    recent: Arc<Recent>,
    exporter: Option<F>,
) -> Exporting
where
    E: SpanExporter + 'static,
    F: Fn(&str) -> Result<E, X> + Send + 'static,
    X: Display + 'static,
{
    let (stop, stopped) = oneshot::channel();
    let consumer = Consumer {
        settings,
        queue,
        recent,
        make: exporter,
        lanes: HashMap::new(),
        exports: JoinSet::new(),
        held: 0,
        failing: 0,
        taken: Vec::new(),
    };
    Exporting {
        stop,
        task: tokio::spawn(consumer.run(stopped)),
    }
}

/// The running task. Dropping this gives up what has not been exported.
#[derive(Debug)]
#[must_use = "spans are given up when this is dropped"]
pub struct Exporting {
    stop: oneshot::Sender<Instant>,
    task: JoinHandle<()>,
}

impl Exporting {
    /// Closes the queue, exports what it holds, and ends the task; what is left at `deadline` is dropped and counted.
    pub async fn flush(self, deadline: Instant) {
        // Either fails only if the task has panicked: then there is nothing left to flush.
        let _ = self.stop.send(deadline);
        let _ = self.task.await;
    }
}

/// The task's state.
struct Consumer<E, F> {
    settings: Settings,
    queue: Arc<SpanQueue>,
    recent: Arc<Recent>,
    make: Option<F>,
    /// By service name, of which there are no more than listeners.
    lanes: HashMap<Arc<str>, Lane<E>>,
    /// At most one export a lane: an exporter is never called twice at once.
    exports: JoinSet<Result<(), String>>,
    /// Spans in the lanes, and on their way.
    held: usize,
    /// Lanes whose last export failed.
    failing: usize,
    /// Empty between two calls of [`Consumer::take`]: its room goes back and forth between here and the queue.
    taken: Vec<Span>,
}

/// What goes to one exporter.
struct Lane<E> {
    /// None until the first export, or until it can be made.
    exporter: Option<Arc<E>>,
    waiting: VecDeque<Span>,
    /// How many of those waiting no longer wait for a batch to gather.
    due: usize,
    /// The export that is going on, and its spans.
    exporting: Option<(Id, usize)>,
    failing: bool,
}

impl<E, F, X> Consumer<E, F>
where
    E: SpanExporter + 'static,
    F: Fn(&str) -> Result<E, X>,
    X: Display,
{
    async fn run(mut self, mut stopped: oneshot::Receiver<Instant>) {
        let mut show = every(SHOW_DELAY);
        let mut schedule = every(self.settings.batch.schedule_delay);
        loop {
            tokio::select! {
                () = self.queue.gathered() => self.take(),
                _ = show.tick() => self.take(),
                _ = schedule.tick() => {
                    self.take();
                    self.all_due();
                }
                Some(ended) = self.exports.join_next_with_id() => self.finish(ended),
                deadline = &mut stopped => {
                    return self.flush(deadline.unwrap_or_else(|_| Instant::now())).await;
                }
            }
            self.start_exports();
        }
    }

    /// Takes what is in the queue, shows it to the ring, and puts it where it waits to be exported.
    fn take(&mut self) {
        self.queue.take(&mut self.taken);
        if self.taken.is_empty() {
            return;
        }
        self.taken.iter_mut().for_each(cut_names);
        if self.make.is_none() {
            self.queue.counters().leave_queue(self.taken.len());
            self.recent.extend(self.taken.drain(..));
            return;
        }
        self.recent.extend(self.taken.iter().cloned());
        let room = self.settings.batch.max_queue_size.saturating_sub(self.held);
        if let Some(excess) = self.taken.len().checked_sub(room + 1) {
            self.lose(DropReason::QueueFull, excess + 1);
            self.taken.truncate(room);
        }
        self.held += self.taken.len();
        for span in self.taken.drain(..) {
            let name = &span.endpoint.service_name;
            match self.lanes.get_mut(name) {
                Some(lane) => lane.waiting.push_back(span),
                None => {
                    let name = name.clone();
                    self.lanes.insert(name, Lane::new(span));
                }
            }
        }
    }

    /// Nothing that waits now shall wait for more to gather.
    fn all_due(&mut self) {
        for lane in self.lanes.values_mut() {
            lane.due = lane.waiting.len();
        }
    }

    /// Starts an export in each lane that has something to export and is not exporting.
    fn start_exports(&mut self) {
        let Some(make) = &self.make else { return };
        let batch_size = self.settings.batch_size();
        for (name, lane) in &mut self.lanes {
            let gathered = lane.due > 0 || lane.waiting.len() >= batch_size;
            if lane.exporting.is_some() || !gathered {
                continue;
            }
            let size = lane.waiting.len().min(batch_size);
            lane.due = lane.due.saturating_sub(size);
            let batch: Vec<_> = lane
                .waiting
                .drain(..size)
                .map(|span| otlp::span_data(&span, self.settings.max_links))
                .collect();
            let exporter = match &lane.exporter {
                Some(exporter) => Ok(exporter.clone()),
                None => make(name).map(Arc::new).map_err(|e| e.to_string()),
            };
            lane.exporter = exporter.clone().ok();
            let limit = self.settings.batch.export_timeout;
            let task = self.exports.spawn(async move {
                match timeout(limit, exporter?.export(batch)).await {
                    Ok(done) => done.map_err(|e| e.to_string()),
                    Err(_) => Err(format!("no answer within {limit:?}")),
                }
            });
            lane.exporting = Some((task.id(), size));
        }
    }

    /// Counts the spans of an export that has ended, and says once when exporting stops or starts to work.
    fn finish(&mut self, ended: Result<(Id, Result<(), String>), JoinError>) {
        let (id, result) =
            ended.unwrap_or_else(|e| (e.id(), Err(format!("the exporter failed: {e}"))));
        let exporting = |lane: &&mut Lane<E>| lane.exporting.is_some_and(|(it, _)| it == id);
        let Some(lane) = self.lanes.values_mut().find(exporting) else {
            return;
        };
        let Some((_, spans)) = lane.exporting.take() else {
            return;
        };
        let failed_before = std::mem::replace(&mut lane.failing, result.is_err());
        match result {
            Ok(()) => {
                self.held -= spans;
                self.queue.counters().leave_queue(spans);
                self.queue.counters().exported.inc_by(spans as u64);
                if failed_before {
                    self.failing -= 1;
                    if self.failing == 0 {
                        tracing::info!("spans are exported again");
                    }
                }
            }
            Err(error) => {
                self.held -= spans;
                self.lose(DropReason::ExportFailed, spans);
                if !failed_before {
                    self.failing += 1;
                    if self.failing == 1 {
                        tracing::warn!(
                            "spans cannot be exported and are dropped until it works again: {error}"
                        );
                    }
                }
            }
        }
    }

    /// Exports everything until `deadline`.
    async fn flush(&mut self, deadline: Instant) {
        self.queue.close();
        self.take();
        let all = async {
            self.all_due();
            self.start_exports();
            while let Some(ended) = self.exports.join_next_with_id().await {
                self.finish(ended);
                self.start_exports();
            }
        };
        if timeout_at(deadline, all).await.is_err() {
            self.exports.abort_all();
            self.lose(DropReason::Shutdown, self.held);
            tracing::warn!(
                "{} spans were not exported before the proxy stopped",
                self.held
            );
        }
    }

    /// Counts spans that leave the queue without being exported.
    fn lose(&self, reason: DropReason, spans: usize) {
        let counters = self.queue.counters();
        counters.leave_queue(spans);
        counters.count_dropped(reason, spans);
    }
}

impl<E> Lane<E> {
    fn new(first: Span) -> Self {
        Self {
            exporter: None,
            waiting: VecDeque::from([first]),
            due: 0,
            exporting: None,
            failing: false,
        }
    }
}

/// Ticks from `period` from now on; a period of zero would be no interval.
fn every(period: Duration) -> Interval {
    let period = period.max(Duration::from_millis(1));
    let mut interval = interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// Cuts the names that clients choose.
fn cut_names(span: &mut Span) {
    let cut = |name: &mut Arc<str>| {
        if name.len() > MAX_NAME {
            let end = name.floor_char_boundary(MAX_NAME - ELLIPSIS.len());
            *name = format!("{}{ELLIPSIS}", name.get(..end).unwrap_or_default()).into();
        }
    };
    cut(&mut span.stream);
    span.group.iter_mut().for_each(cut);
    span.consumer.iter_mut().for_each(cut);
    if let Outcome::Error(code) = &mut span.outcome
        && code.len() > MAX_NAME
    {
        let end = code.floor_char_boundary(MAX_NAME - ELLIPSIS.len());
        *code = format!("{}{ELLIPSIS}", code.get(..end).unwrap_or_default()).into();
    }
}
