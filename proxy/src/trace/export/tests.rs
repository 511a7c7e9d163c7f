#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::io;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::SpanData;
use tokio::time::sleep;

use super::*;
use crate::trace::testing::{of_service, span};

const SECOND: Duration = Duration::from_secs(1);

fn settings() -> Settings {
    sizes(100, 10)
}

fn sizes(max_queue_size: usize, max_export_batch_size: usize) -> Settings {
    Settings {
        batch: Batch {
            max_queue_size,
            max_export_batch_size,
            schedule_delay: 5 * SECOND,
            export_timeout: 30 * SECOND,
        },
        max_links: 128,
    }
}

// ---- The queue

fn polls<T>(future: impl Future<Output = T>) -> Poll<T> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn a_full_queue_drops_and_counts() {
    let queue = SpanQueue::new(&sizes(3, 10));
    let mut spans: Vec<_> = (0..5).map(|n| span(1, n)).collect();
    let room = spans.capacity();
    queue.push(span(1, 9));
    queue.push_all(&mut spans);
    assert!(
        spans.is_empty() && spans.capacity() == room,
        "the vector is ready for the next read"
    );
    queue.push(span(1, 10));

    let counters = queue.counters();
    assert_eq!(counters.ended.get(), 7);
    assert_eq!(counters.queue_length.get(), 3);
    assert_eq!(counters.dropped(DropReason::QueueFull), 4);
    let mut taken = Vec::new();
    queue.take(&mut taken);
    let ids: Vec<_> = taken
        .iter()
        .map(|span| span.context.span_id.to_bytes()[7])
        .collect();
    assert_eq!(ids, [9, 0, 1], "the first to come are kept");
}

#[test]
fn the_consumer_is_woken_once_a_batch() {
    let queue = SpanQueue::new(&settings());
    for n in 0..9 {
        queue.push(span(1, n));
    }
    assert_eq!(polls(queue.gathered()), Poll::Pending);
    queue.push_all(&mut vec![span(1, 9), span(1, 10)]);
    assert_eq!(polls(queue.gathered()), Poll::Ready(()));
    queue.push_all(&mut (11..30).map(|n| span(1, n)).collect());
    assert_eq!(
        polls(queue.gathered()),
        Poll::Pending,
        "woken again before anything was taken"
    );
    queue.take(&mut Vec::new());
    queue.push_all(&mut (0..10).map(|n| span(1, n)).collect());
    assert_eq!(polls(queue.gathered()), Poll::Ready(()));
}

#[test]
fn a_closed_queue_takes_nothing() {
    let queue = SpanQueue::new(&settings());
    queue.close();
    queue.push(span(1, 1));
    queue.push_all(&mut vec![span(1, 2), span(1, 3)]);
    assert_eq!(queue.counters().dropped(DropReason::Shutdown), 3);
    assert_eq!(queue.counters().queue_length.get(), 0);
}

#[test]
fn the_counters_are_on_metrics() {
    let queue = SpanQueue::new(&settings());
    let registry = prometheus::Registry::new();
    queue.counters().register(&registry).unwrap();
    queue.push(span(1, 1));
    queue.counters().count_dropped(DropReason::ExportFailed, 2);
    let text = prometheus::TextEncoder::new()
        .encode_to_string(&registry.gather())
        .unwrap();
    for line in [
        "tars_proxy_spans_ended_total 1",
        "tars_proxy_spans_exported_total 0",
        "tars_proxy_span_queue_length 1",
        "tars_proxy_spans_dropped_total{reason=\"export_failed\"} 2",
        "tars_proxy_spans_dropped_total{reason=\"queue_full\"} 0",
        "tars_proxy_spans_dropped_total{reason=\"shutdown\"} 0",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
}

// ---- The settings

#[test]
fn the_environment_sets_what_it_names() {
    let env = |name: &str| match name {
        "OTEL_BSP_MAX_QUEUE_SIZE" => Some("100000".to_owned()),
        "OTEL_SPAN_LINK_COUNT_LIMIT" => Some(" 8 ".to_owned()),
        _ => None,
    };
    let expected = Settings {
        batch: Batch {
            max_queue_size: 100_000,
            ..Batch::default()
        },
        max_links: 8,
    };
    assert_eq!(Settings::from_env(env), Ok(expected));
    assert_eq!(
        Settings::from_env(|name| (name == "OTEL_SPAN_LINK_COUNT_LIMIT").then(|| "many".to_owned())),
        Err("OTEL_SPAN_LINK_COUNT_LIMIT is `many`, but must be a whole number".to_owned())
    );
}

#[test]
fn a_batch_fits_into_the_queue() {
    let batch = |queue, batch| sizes(queue, batch).batch_size();
    assert_eq!((batch(100, 10), batch(5, 10), batch(0, 0)), (10, 5, 1));
}

// ---- The task, with an exporter that follows a script. Time is tokio's and moves only when all wait.

/// What the exporter does with a batch; it takes the batches that the script does not mention at once.
#[derive(Debug)]
enum Step {
    Takes(Duration),
    Fails,
}

#[derive(Debug, Default)]
struct Script {
    steps: VecDeque<Step>,
    /// Exporters cannot be made.
    broken: bool,
    made: Vec<String>,
    /// Service, spans, and when they were exported.
    batches: Vec<(String, usize, Duration)>,
    last: Vec<SpanData>,
    /// Services whose exporter has a batch.
    busy: BTreeSet<String>,
}

#[derive(Debug)]
struct Scripted {
    service: String,
    script: Arc<Mutex<Script>>,
    began: Instant,
}

impl SpanExporter for Scripted {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let step = {
            let mut script = self.script.lock().unwrap();
            assert!(
                script.busy.insert(self.service.clone()),
                "called twice at once"
            );
            script.steps.pop_front()
        };
        let _idle = Idle(self);
        match step {
            None => {}
            Some(Step::Takes(time)) => sleep(time).await,
            Some(Step::Fails) => return Err(OTelSdkError::InternalFailure("refused".into())),
        }
        let mut script = self.script.lock().unwrap();
        script
            .batches
            .push((self.service.clone(), batch.len(), self.began.elapsed()));
        script.last = batch;
        Ok(())
    }
}

/// An export ends, or is given up.
struct Idle<'a>(&'a Scripted);

impl Drop for Idle<'_> {
    fn drop(&mut self) {
        self.0.script.lock().unwrap().busy.remove(&self.0.service);
    }
}

struct Rig {
    queue: Arc<SpanQueue>,
    recent: Arc<Recent>,
    script: Arc<Mutex<Script>>,
    exporting: Exporting,
}

impl Rig {
    fn new(settings: Settings, steps: impl IntoIterator<Item = Step>) -> Self {
        let queue = Arc::new(SpanQueue::new(&settings));
        let recent = Arc::new(Recent::new(1000));
        let script = Script {
            steps: steps.into_iter().collect(),
            ..Script::default()
        };
        let script = Arc::new(Mutex::new(script));
        let began = Instant::now();
        let make = {
            let script = script.clone();
            move |service: &str| {
                let mut open = script.lock().unwrap();
                if open.broken {
                    return Err("no such file");
                }
                open.made.push(service.to_owned());
                Ok(Scripted {
                    service: service.to_owned(),
                    script: script.clone(),
                    began,
                })
            }
        };
        let exporting = spawn(settings, queue.clone(), recent.clone(), Some(make));
        Self {
            queue,
            recent,
            script,
            exporting,
        }
    }

    fn push(&self, spans: u64) {
        self.queue
            .push_all(&mut (0..spans).map(|n| span(1, n)).collect());
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    /// Exported, dropped because the queue was full, because exports failed, and at the end.
    fn counted(&self) -> [u64; 4] {
        counted(&self.queue)
    }
}

fn counted(queue: &SpanQueue) -> [u64; 4] {
    let counters = queue.counters();
    let dropped = |reason| counters.dropped(reason);
    let all = [
        counters.exported.get(),
        dropped(DropReason::QueueFull),
        dropped(DropReason::ExportFailed),
        dropped(DropReason::Shutdown),
    ];
    let left = u64::try_from(counters.queue_length.get()).unwrap();
    assert_eq!(
        counters.ended.get(),
        all.iter().sum::<u64>() + left,
        "a span was lost uncounted"
    );
    all
}

fn exported(service: &str, spans: usize, after: Duration) -> (String, usize, Duration) {
    (service.to_owned(), spans, after)
}

#[tokio::test(start_paused = true)]
async fn a_batch_goes_as_soon_as_it_has_gathered() {
    let rig = Rig::new(settings(), []);
    rig.push(25);
    sleep(SECOND).await;
    assert_eq!(
        rig.script().batches,
        [
            exported("shop", 10, Duration::ZERO),
            exported("shop", 10, Duration::ZERO)
        ]
    );
    assert_eq!(rig.queue.counters().queue_length.get(), 5);
    sleep(5 * SECOND).await;
    assert_eq!(
        rig.script().batches[2],
        exported("shop", 5, 5 * SECOND),
        "the rest when it is due"
    );
    assert_eq!(rig.counted(), [25, 0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn spans_show_before_they_are_exported() {
    let rig = Rig::new(settings(), []);
    sleep(SECOND).await;
    rig.push(1);
    assert_eq!(rig.recent.len(), 0);
    sleep(SHOW_DELAY).await;
    assert_eq!(rig.recent.len(), 1);
    assert_eq!(rig.counted(), [0, 0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn each_service_has_an_exporter_of_its_own() {
    let rig = Rig::new(settings(), []);
    for n in 0..15 {
        rig.queue.push(of_service(
            if n % 3 == 0 { "payment" } else { "shop" },
            span(1, n),
        ));
    }
    sleep(6 * SECOND).await;
    rig.queue.push(of_service("payment", span(1, 99)));
    sleep(6 * SECOND).await;
    let mut batches = rig.script().batches.clone();
    batches.sort();
    assert_eq!(
        batches,
        [
            exported("payment", 1, 10 * SECOND),
            exported("payment", 5, 5 * SECOND),
            exported("shop", 10, Duration::ZERO),
        ]
    );
    let mut made = rig.script().made.clone();
    made.sort();
    assert_eq!(made, ["payment", "shop"], "an exporter is made once");
}

#[tokio::test(start_paused = true)]
async fn a_slow_exporter_holds_up_nobody_and_the_excess_is_counted() {
    let rig = Rig::new(settings(), [Step::Takes(20 * SECOND)]);
    rig.push(80);
    sleep(SECOND).await;
    rig.push(50);
    sleep(SECOND).await;
    assert_eq!(rig.recent.len(), 130, "the ring waits for no exporter");
    assert_eq!(rig.queue.counters().queue_length.get(), 100);
    assert_eq!(rig.counted(), [0, 30, 0, 0]);
    sleep(20 * SECOND).await;
    assert_eq!(rig.counted(), [100, 30, 0, 0]);
    rig.push(100);
    sleep(6 * SECOND).await;
    assert_eq!(rig.counted(), [200, 30, 0, 0], "there is room again");
}

#[tokio::test(start_paused = true)]
async fn an_exporter_that_does_not_answer_loses_its_batch() {
    let rig = Rig::new(settings(), [Step::Takes(100 * SECOND)]);
    rig.push(20);
    sleep(29 * SECOND).await;
    assert_eq!(rig.counted(), [0, 0, 0, 0]);
    sleep(2 * SECOND).await;
    assert_eq!(
        rig.counted(),
        [10, 0, 10, 0],
        "the next batch goes after the time-out"
    );
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_said_once_and_its_end_once() {
    let (log, _guard) = Log::new();
    let rig = Rig::new(settings(), [Step::Fails, Step::Fails, Step::Fails]);
    rig.push(30);
    sleep(SECOND).await;
    assert_eq!(rig.counted(), [0, 0, 30, 0]);
    let lines = log.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("spans cannot be exported") && lines[0].contains("refused"));
    rig.push(20);
    sleep(SECOND).await;
    assert_eq!(rig.counted(), [20, 0, 30, 0]);
    let lines = log.lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[1].contains("spans are exported again"));
    rig.script().steps.push_back(Step::Fails);
    rig.push(10);
    sleep(SECOND).await;
    assert_eq!(log.lines().len(), 3, "another outage is said again");
}

#[tokio::test(start_paused = true)]
async fn an_exporter_that_cannot_be_made_is_tried_again() {
    let (log, _guard) = Log::new();
    let rig = Rig::new(settings(), []);
    rig.script().broken = true;
    rig.push(20);
    sleep(SECOND).await;
    assert_eq!(rig.counted(), [0, 0, 20, 0]);
    assert!(log.lines().iter().all(|line| line.contains("no such file")));
    rig.script().broken = false;
    rig.push(10);
    sleep(SECOND).await;
    assert_eq!(rig.counted(), [10, 0, 20, 0]);
}

#[tokio::test(start_paused = true)]
async fn flush_exports_everything() {
    let rig = Rig::new(settings(), (0..6).map(|_| Step::Takes(SECOND)));
    rig.push(10);
    sleep(SECOND / 2).await;
    rig.push(33);
    rig.queue.push(of_service("payment", span(2, 1)));
    let Rig {
        queue,
        recent,
        exporting,
        ..
    } = rig;
    let began = Instant::now();
    exporting.flush(began + 10 * SECOND).await;
    assert_eq!(counted(&queue), [44, 0, 0, 0]);
    assert_eq!(recent.len(), 44);
    let took = SECOND / 2 + 4 * SECOND;
    assert_eq!(
        began.elapsed(),
        took,
        "no batch waits for more, nor for another service"
    );
}

#[tokio::test(start_paused = true)]
async fn flush_gives_up_at_its_deadline() {
    let rig = Rig::new(settings(), [Step::Takes(SECOND), Step::Takes(20 * SECOND)]);
    rig.push(35);
    let Rig {
        queue,
        recent,
        exporting,
        ..
    } = rig;
    let began = Instant::now();
    exporting.flush(began + 10 * SECOND).await;
    assert_eq!(began.elapsed(), 10 * SECOND);
    assert_eq!(counted(&queue), [10, 0, 0, 25]);
    assert_eq!(recent.len(), 35);
    queue.push(span(1, 1));
    assert_eq!(
        counted(&queue),
        [10, 0, 0, 26],
        "spans that come too late are counted"
    );
}

#[tokio::test(start_paused = true)]
async fn dropping_the_handle_gives_up_at_once() {
    let rig = Rig::new(settings(), []);
    rig.push(5);
    let Rig {
        queue, exporting, ..
    } = rig;
    let task = exporting.task;
    drop(exporting.stop);
    task.await.unwrap();
    assert_eq!(counted(&queue)[0] + counted(&queue)[3], 5);
}

#[tokio::test(start_paused = true)]
async fn without_an_exporter_spans_go_to_the_ring() {
    let queue = Arc::new(SpanQueue::new(&settings()));
    let recent = Arc::new(Recent::new(1000));
    let none = None::<fn(&str) -> Result<Scripted, String>>;
    let exporting = spawn(settings(), queue.clone(), recent.clone(), none);
    for round in 1..=3 {
        queue.push_all(&mut (0..100).map(|n| span(1, n)).collect());
        sleep(SHOW_DELAY).await;
        assert_eq!(recent.len(), round * 100);
    }
    assert_eq!(queue.counters().queue_length.get(), 0);
    assert_eq!(queue.counters().dropped(DropReason::QueueFull), 0);
    queue.push(span(1, 1));
    exporting.flush(Instant::now() + SECOND).await;
    assert_eq!(recent.len(), 301);
    assert_eq!(queue.counters().exported.get(), 0);
    assert_eq!(queue.counters().dropped(DropReason::Shutdown), 0);
}

#[tokio::test(start_paused = true)]
async fn long_names_are_cut() {
    let rig = Rig::new(settings(), []);
    let long: Arc<str> = "é".repeat(5000).into();
    rig.queue.push(Span {
        stream: long.clone(),
        group: Some(long.clone()),
        consumer: Some("short".into()),
        outcome: Outcome::Error((&*long).into()),
        ..span(1, 1)
    });
    sleep(6 * SECOND).await;
    let exported = rig.script().last.pop().unwrap();
    let name = exported.name.strip_prefix("send ").unwrap();
    assert!(
        name.len() <= MAX_NAME && name.len() > MAX_NAME - 8,
        "{}",
        name.len()
    );
    assert!(name.starts_with("éé") && name.ends_with("é…"));
    let longest = exported
        .attributes
        .iter()
        .map(|a| a.value.as_str().len())
        .max();
    assert!(longest <= Some(MAX_NAME));
    assert!(
        exported
            .attributes
            .iter()
            .any(|a| a.value.as_str() == "short")
    );
}

/// What is logged on this thread while the guard lives.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn new() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    fn lines(&self) -> Vec<String> {
        let bytes = self.0.lock().unwrap();
        String::from_utf8_lossy(&bytes)
            .lines()
            .map(str::to_owned)
            .collect()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
