//! The page of recent traces with made-up spans, for those who work on it:
//! `cargo run -p tars-proxy --example trace_page [empty|live]`, then <http://127.0.0.1:9465/traces>.
//!
//! It shows every kind of span, a trace of 500 spans, and names that someone chose to break the page. With `live`, an
//! order comes every second.
#![allow(clippy::unwrap_used)]

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tars_proxy::trace::context::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};
use tars_proxy::trace::recent::{Recent, routes};
use tars_proxy::trace::span::{Endpoint, EntryId, Link, LinkKind, Operation, Outcome, Span};

const MS: u64 = 1_000_000;
const US: u64 = 1_000;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mode = std::env::args().nth(1).unwrap_or_default();
    let listeners = ["127.0.0.1:6380", "127.0.0.1:6381"].map(String::from);
    let recent = Arc::new(Recent::new(10_000).listening_on(listeners));
    if mode != "empty" {
        recent.extend(history());
    }
    if mode == "live" {
        tokio::spawn(trickle(recent.clone()));
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:9465")
        .await
        .unwrap();
    println!("http://{}/traces", listener.local_addr().unwrap());
    axum::serve(listener, routes(recent)).await.unwrap();
}

async fn trickle(recent: Arc<Recent>) {
    let mut every = tokio::time::interval(Duration::from_secs(1));
    for n in 0.. {
        every.tick().await;
        recent.extend(order(now(), n));
    }
}

/// Half an hour of a small shop.
fn history() -> Vec<Span> {
    let start = now() - 1_800_000 * MS;
    let mut spans = Vec::new();
    for n in 0..40 {
        spans.extend(order(start + n * 41_300 * MS, n));
    }
    spans.extend(large(start + 1_500_000 * MS));
    spans.extend(hostile(start + 1_600_000 * MS));
    spans.extend(batch(start + 1_650_000 * MS));
    spans.extend(failures(start + 1_700_000 * MS));
    spans.extend(redelivered(start + 1_720_000 * MS));
    spans.extend(order(start + 1_790_000 * MS, 3));
    spans
}

/// shop -> orders -> payment -> payments -> shipping, one in seven with an error.
fn order(at: u64, n: u64) -> Vec<Span> {
    let id = at / MS;
    let jitter = |k: u64| (n * 7919 + k * 104_729) % 4000 * US;
    let send = new(
        "shop",
        Operation::Send,
        "orders",
        at,
        310 * US + jitter(1) / 40,
    );
    let mut send = at_entry(send, id);
    let mut pay = under(
        &send,
        "payment",
        Operation::Process,
        "orders",
        2 * MS + jitter(2),
        0,
    );
    pay = in_group(at_entry(pay, id), "payments", "payment-1");
    let mut paid = under(
        &pay,
        "payment",
        Operation::Send,
        "payments",
        9 * MS + jitter(3),
        240 * US,
    );
    paid = at_entry(paid, id + 12);
    paid.inferred = true;
    pay.end = paid.end + 3 * MS + jitter(4);
    pay.outcome = Outcome::Settled;
    let ship = under(
        &paid,
        "shipping",
        Operation::Process,
        "payments",
        3 * MS,
        18 * MS + jitter(5),
    );
    let mut ship = in_group(at_entry(ship, id + 12), "shippers", "shipping-2");
    ship.outcome = Outcome::Settled;
    if n % 7 == 5 {
        ship.outcome = Outcome::Error("fail".into());
    }
    if n % 11 == 4 {
        send.outcome = Outcome::Error("OOM".into());
        send.message = None;
        return vec![send];
    }
    let audit = under(
        &paid,
        "audit",
        Operation::Receive,
        "payments",
        4 * MS,
        90 * US,
    );
    vec![send, paid, pay, ship, at_entry(audit, id + 12)]
}

/// Three deliveries of a message; the first worker hung, the second gave it back.
fn redelivered(at: u64) -> Vec<Span> {
    let id = at / MS;
    let send = at_entry(new("shop", Operation::Send, "orders", at, 280 * US), id);
    let attempt = |n: u32, consumer: &str, from: u64, to: u64| {
        let span = under(&send, "payment", Operation::Process, "orders", 0, 0);
        let mut span = in_group(at_entry(span, id), "payments", consumer);
        span.start = at + from * MS;
        span.end = at + to * MS;
        span.delivery_count = NonZeroU32::new(n);
        span
    };
    let after = |span: &mut Span, before: &Span| {
        span.links.push(Link {
            context: before.context,
            kind: LinkKind::PreviousAttempt,
        });
    };
    let mut first = attempt(1, "payment-1", 4, 640);
    first.outcome = Outcome::Superseded;
    let mut second = attempt(2, "payment-2", 640, 980);
    second.outcome = Outcome::Released;
    after(&mut second, &first);
    let mut third = attempt(3, "payment-3", 1240, 1492);
    third.outcome = Outcome::Settled;
    after(&mut third, &second);
    let mut paid = under(
        &third,
        "payment",
        Operation::Send,
        "payments",
        230 * MS,
        260 * US,
    );
    paid = at_entry(paid, id + 1480);
    paid.inferred = true;
    let mut ship = under(
        &paid,
        "shipping",
        Operation::Process,
        "payments",
        5 * MS,
        140 * MS,
    );
    ship = in_group(at_entry(ship, id + 1480), "shippers", "shipping-1");
    ship.outcome = Outcome::Settled;
    vec![send, first, second, third, paid, ship]
}

/// Every end that is not a good one, under a parent of the application's own.
fn failures(at: u64) -> Vec<Span> {
    let id = at / MS;
    let mut send = new(
        "frontend",
        Operation::SendClient,
        "jobs:render",
        at,
        450 * US,
    );
    send.parent = Some(SpanId::from_bytes([7; 8]));
    let send = at_entry(send, id);
    let ends = [
        Outcome::Timeout,
        Outcome::Error("fatal".into()),
        Outcome::Uncertain,
        Outcome::Evicted,
        Outcome::Drained,
        Outcome::Unknown,
        Outcome::Settled,
    ];
    let mut spans = vec![send.clone()];
    for (n, outcome) in (1u32..).zip(ends) {
        let lag = u64::from(n) * 23 * MS;
        let mut span = under(
            &send,
            "renderer",
            Operation::Process,
            "jobs:render",
            lag,
            90 * MS + lag,
        );
        span = in_group(at_entry(span, id), &format!("render-{n}"), "gpu-0");
        span.outcome = outcome;
        spans.push(span);
    }
    let mut missing = under(
        &send,
        "frontend",
        Operation::Send,
        "jobs:thumbs",
        40 * MS,
        200 * US,
    );
    missing.outcome = Outcome::NotSent;
    spans.push(missing);
    spans
}

/// `relation = "link"`: a batch that points at its messages, each in a trace of its own.
fn batch(at: u64) -> Vec<Span> {
    let mut spans = Vec::new();
    let mut links = Vec::new();
    for n in 0..9 {
        let send = new(
            "sensors",
            Operation::Send,
            "telemetry:eu-west",
            at + n * 3 * MS,
            190 * US,
        );
        let send = at_entry(send, at / MS + n * 3);
        links.push(Link {
            context: send.context,
            kind: LinkKind::Message,
        });
        spans.push(send);
    }
    let mut read = new(
        "collector",
        Operation::ReceiveBatch,
        "telemetry:eu-west",
        at + 40 * MS,
        2 * MS,
    );
    read.batch = Some(9);
    read.links = links;
    spans.push(in_group(read, "ingest", "collector-a"));
    spans
}

/// A fan-out of 500 spans: 25 chains of messages, each handled and answered by the next.
fn large(at: u64) -> Vec<Span> {
    let root = new("scheduler", Operation::Send, "evaluation", at, 600 * US);
    let root = at_entry(root, at / MS);
    let mut spans = vec![root.clone()];
    let mut services = ["evaluator", "scorer", "reporter"].into_iter().cycle();
    let (mut last, mut service) = (root.clone(), "");
    for n in 0u64..499 {
        let (chain, step) = (n / 20, n % 20);
        let stream = format!("evaluation:{}", step.div_ceil(2));
        let lag = MS + (n * 7919) % 9 * MS;
        let mut span = if step % 2 == 0 {
            service = services.next().unwrap_or_default();
            let sent = if step == 0 { &root } else { &last };
            let lasts = 12 * MS + (n * 131) % 17 * MS;
            let span = under(
                sent,
                service,
                Operation::Process,
                &stream,
                lag + chain * MS,
                lasts,
            );
            let mut span = in_group(span, "workers", &format!("worker-{}", n % 16));
            span.outcome = Outcome::Settled;
            span
        } else {
            under(&last, service, Operation::Send, &stream, lag, 300 * US)
        };
        if n % 97 == 96 {
            span.outcome = Outcome::Error("WRONGTYPE".into());
        }
        last = at_entry(span, at / MS + n);
        spans.push(last.clone());
    }
    spans
}

/// Names that someone chose to break the page.
fn hostile(at: u64) -> Vec<Span> {
    let script = "<script>document.title='broken'</script><img src=x onerror=alert(1)>";
    let long = "a-very-long-name/".repeat(300);
    let root = new(script, Operation::Send, script, at, 900 * US);
    let mut spans = vec![root.clone()];
    let names = [
        long.as_str(),
        "طلبات:الدفع",
        "user\u{202e}gnp.exe",
        "two\nlines\tand \u{0} nul",
        "",
        "😀🧵 émoji 注文",
        "${alert(1)} {{7*7}} %3Cscript%3E &lt;b&gt;",
    ];
    for (n, name) in (0u64..).zip(names) {
        let mut span = under(
            &root,
            "consumer",
            Operation::Process,
            name,
            n * 2 * MS,
            5 * MS,
        );
        span = in_group(span, name, name);
        span.outcome = Outcome::Settled;
        if n == 0 {
            span.outcome = Outcome::Error(script.into());
        }
        spans.push(span);
    }
    spans
}

fn new(service: &str, operation: Operation, stream: &str, start: u64, lasts: u64) -> Span {
    Span {
        context: SpanContext {
            trace_id: TraceId::from_bytes(fastrand::u128(..).to_be_bytes()),
            span_id: SpanId::from_bytes(fastrand::u64(..).to_be_bytes()),
            flags: TraceFlags::from_byte(3),
        },
        parent: None,
        trace_state: TraceState::default(),
        operation,
        endpoint: Arc::new(Endpoint {
            service_name: service.into(),
            server_address: "127.0.0.1".into(),
            server_port: Some(6379),
            region: Some("eu-west-1".into()),
        }),
        stream: stream.into(),
        group: None,
        consumer: None,
        message: None,
        delivery_count: None,
        batch: None,
        inferred: false,
        start,
        end: start + lasts,
        outcome: Outcome::Done,
        links: Vec::new(),
    }
}

/// A span that starts `lag` after its parent's start.
fn under(
    parent: &Span,
    service: &str,
    operation: Operation,
    stream: &str,
    lag: u64,
    lasts: u64,
) -> Span {
    let mut span = new(service, operation, stream, parent.start + lag, lasts);
    span.context.trace_id = parent.context.trace_id;
    span.parent = Some(parent.context.span_id);
    span
}

fn at_entry(mut span: Span, ms: u64) -> Span {
    span.message = Some(EntryId { ms, seq: 0 });
    span
}

fn in_group(mut span: Span, group: &str, consumer: &str) -> Span {
    span.group = Some(group.into());
    span.consumer = Some(consumer.into());
    span.delivery_count = NonZeroU32::new(1);
    span
}

fn now() -> u64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    u64::try_from(since.as_nanos()).unwrap()
}
