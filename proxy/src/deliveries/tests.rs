#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use super::*;
use crate::metrics::Metrics;
use crate::trace::context::TraceFlags;
use crate::trace::span::LinkKind;

mod properties;

struct Fixture {
    deliveries: Deliveries,
    metrics: Metrics,
}

fn fixture(bound: usize) -> Fixture {
    let metrics = Metrics::new(256);
    let deliveries = Deliveries::new(
        bound,
        metrics.deliveries.clone(),
        metrics.deliveries_evicted.clone(),
    );
    Fixture {
        deliveries,
        metrics,
    }
}

fn key<'a>(stream: &'a str, group: &'a str) -> GroupKey<'a> {
    GroupKey {
        upstream: 0,
        database: 0,
        stream: stream.as_bytes(),
        group: group.as_bytes(),
    }
}

fn id(n: u64) -> EntryId {
    EntryId { ms: n, seq: 0 }
}

fn endpoint() -> Arc<Endpoint> {
    Arc::new(Endpoint {
        service_name: "shop".into(),
        server_address: "redis".into(),
        server_port: None,
        region: None,
    })
}

fn attempt(start: u64, sampled: bool) -> Attempt {
    Attempt {
        context: SpanContext::root(sampled),
        parent: None,
        trace_state: TraceState::default(),
        endpoint: endpoint(),
        stream: "s".into(),
        group: "g".into(),
        consumer: "c".into(),
        count: None,
        links: Vec::new(),
        start,
    }
}

impl Fixture {
    fn deliver(&self, key: GroupKey<'_>, message: u64, now: u64, out: &mut Vec<Span>) -> Token {
        let mut table = self.deliveries.lock();
        let group = table.group(key, || self.group_metrics());
        table.deliver(group, id(message), now, |_| attempt(now, true), out)
    }

    fn settle(&self, key: GroupKey<'_>, message: u64, now: u64, out: &mut Vec<Span>) -> bool {
        let mut table = self.deliveries.lock();
        let Some(group) = table.find(key) else {
            return false;
        };
        table.settle(group, id(message), now, Outcome::Settled, out)
    }

    fn group_metrics(&self) -> GroupMetrics {
        self.metrics.group(&"s".into(), &"g".into())
    }

    fn is_open(&self, token: Token) -> bool {
        self.deliveries.lock().is_open(token)
    }
}

fn ends(spans: &[Span]) -> Vec<(u64, Outcome)> {
    spans
        .iter()
        .map(|span| (span.message.unwrap().ms, span.outcome.clone()))
        .collect()
}

#[test]
fn a_message_is_known_by_all_that_redis_knows_it_by() {
    let all = fixture(100);
    let base = GroupKey {
        upstream: 0,
        database: 0,
        stream: b"s",
        group: b"g",
    };
    let keys = [
        base,
        GroupKey {
            upstream: 1,
            ..base
        },
        GroupKey {
            database: 1,
            ..base
        },
        GroupKey {
            stream: b"sg",
            group: b"",
            ..base
        },
        GroupKey {
            stream: b"",
            group: b"sg",
            ..base
        },
        GroupKey {
            group: b"h",
            ..base
        },
    ];
    let mut out = Vec::new();
    for key in keys {
        all.deliver(key, 1, 10, &mut out);
        all.deliver(key, 2, 10, &mut out);
    }
    assert!(out.is_empty());
    assert_eq!(all.deliveries.lock().len(), 12);
    for (n, key) in keys.into_iter().enumerate() {
        assert!(all.settle(key, 1, 20, &mut out));
        assert!(!all.settle(key, 1, 20, &mut out));
        assert!(!all.settle(key, 3, 20, &mut out));
        assert_eq!(out.len(), n + 1);
    }
    assert!(!all.settle(
        GroupKey {
            database: 2,
            ..base
        },
        2,
        20,
        &mut out
    ));
    assert_eq!(all.metrics.deliveries.get(), 6);
}

#[test]
fn a_settled_delivery_is_its_span() {
    let all = fixture(10);
    let mut out = Vec::new();
    let token = all.deliver(key("s", "g"), 7, 1_000, &mut out);
    assert!(all.is_open(token) && out.is_empty());
    assert!(all.settle(key("s", "g"), 7, 5_000, &mut out));
    assert!(!all.is_open(token));
    let [span] = &out[..] else { panic!("one span") };
    assert_eq!(
        (span.start, span.end, span.operation, span.message),
        (1_000, 5_000, Operation::Process, Some(id(7)))
    );
    assert_eq!(
        (
            &*span.stream,
            span.group.as_deref(),
            span.consumer.as_deref()
        ),
        ("s", Some("g"), Some("c"))
    );
    assert!(all.deliveries.lock().is_empty());
}

#[test]
fn what_is_not_sampled_is_counted_and_makes_no_span() {
    let all = fixture(1);
    let mut out = Vec::new();
    for message in 0..3 {
        let mut table = all.deliveries.lock();
        let group = table.group(key("s", "g"), || all.group_metrics());
        table.deliver(group, id(message), 10, |_| attempt(10, false), &mut out);
    }
    assert!(all.settle(key("s", "g"), 2, 20, &mut out));
    assert!(out.is_empty());
    assert_eq!(all.group_metrics().delivered.get(), 3);
    assert_eq!(all.metrics.deliveries_evicted.get(), 2);
    assert_eq!(all.group_metrics().processing.get_sample_count(), 1);
}

#[test]
fn another_delivery_supersedes_and_may_link() {
    let all = fixture(10);
    let mut out = Vec::new();
    let first = all.deliver(key("s", "g"), 1, 10, &mut out);
    let mut table = all.deliveries.lock();
    let group = table.find(key("s", "g")).unwrap();
    let again = |previous: Option<&Attempt>| {
        let previous = previous.unwrap();
        let links = vec![Link {
            context: previous.context,
            kind: LinkKind::PreviousAttempt,
        }];
        Attempt {
            links,
            ..attempt(20, true)
        }
    };
    let second = table.deliver(group, id(1), 20, again, &mut out);
    assert!(!table.is_open(first) && table.is_open(second));
    assert_eq!(table.len(), 1);
    table.settle(group, id(1), 30, Outcome::Settled, &mut out);
    assert_eq!(
        ends(&out),
        [(1, Outcome::Superseded), (1, Outcome::Settled)]
    );
    assert_eq!(out[1].links[0].context, out[0].context);
    let metrics = all.group_metrics();
    assert_eq!((metrics.delivered.get(), metrics.redelivered.get()), (2, 1));
}

#[test]
fn when_it_is_full_the_oldest_ends() {
    let all = fixture(3);
    let mut out = Vec::new();
    for message in 1..=5 {
        all.deliver(key("s", "g"), message, message, &mut out);
    }
    assert_eq!(ends(&out), [(1, Outcome::Evicted), (2, Outcome::Evicted)]);
    // A redelivery makes room for itself.
    all.deliver(key("s", "g"), 3, 6, &mut out);
    assert_eq!(ends(&out[2..]), [(3, Outcome::Superseded)]);
    all.deliver(key("s", "g"), 9, 7, &mut out);
    assert_eq!(ends(&out[3..]), [(4, Outcome::Evicted)]);
    assert_eq!(all.metrics.deliveries_evicted.get(), 3);
    assert_eq!(all.metrics.deliveries.get(), 3);
    assert!(fixture(0).deliveries.lock().is_empty());
}

#[test]
fn a_table_of_one_holds_the_latest() {
    // The smallest bound: evicting is unlinking the only slot.
    let all = fixture(0);
    let mut out = Vec::new();
    for message in 1..=4 {
        let token = all.deliver(key("s", "g"), message, message, &mut out);
        assert!(all.is_open(token));
        assert_eq!(all.deliveries.lock().len(), 1);
    }
    assert_eq!(out.len(), 3);
}

#[test]
fn the_old_expire_in_order() {
    let all = fixture(100);
    let mut out = Vec::new();
    for message in 1..=6 {
        all.deliver(
            key("s", if message % 2 == 0 { "g" } else { "h" }),
            message,
            message * 10,
            &mut out,
        );
    }
    all.settle(key("s", "g"), 2, 70, &mut out);
    out.clear();
    all.deliveries.lock().expire(10, 100, &mut out);
    assert!(out.is_empty());
    all.deliveries.lock().expire(41, 100, &mut out);
    assert_eq!(
        ends(&out),
        [
            (1, Outcome::Timeout),
            (3, Outcome::Timeout),
            (4, Outcome::Timeout)
        ]
    );
    assert!(out.iter().all(|span| span.end == 100));
    all.deliveries.lock().drain(200, &mut out);
    assert_eq!(
        ends(&out[3..]),
        [(5, Outcome::Drained), (6, Outcome::Drained)]
    );
    all.deliveries.lock().expire(u64::MAX, 300, &mut out);
    all.deliveries.lock().drain(300, &mut out);
    assert_eq!(out.len(), 5);
    assert_eq!(all.metrics.deliveries.get(), 0);
}

#[test]
fn a_token_is_of_one_delivery_only() {
    let all = fixture(2);
    let mut out = Vec::new();
    let mut old = Vec::new();
    for round in 0..50 {
        let token = all.deliver(key("s", "g"), round % 3, round, &mut out);
        assert!(old.iter().all(|old| *old != token));
        if round % 2 == 0 {
            all.settle(key("s", "g"), round % 3, round, &mut out);
            assert!(!all.is_open(token));
        }
        old.push(token);
    }
    assert!(old.iter().filter(|token| all.is_open(**token)).count() <= 2);
}

#[test]
fn what_is_being_settled_is_not_open() {
    let all = fixture(10);
    let mut out = Vec::new();
    let token = all.deliver(key("s", "g"), 1, 10, &mut out);
    let other = all.deliver(key("s", "g"), 2, 10, &mut out);
    let mut table = all.deliveries.lock();
    let group = table.find(key("s", "g")).unwrap();
    table.settling(group, id(1), true);
    table.settling(group, id(3), true);
    assert!(!table.is_open(token) && table.is_open(other));
    // Redelivered, it is.
    let token = table.deliver(group, id(1), 20, |_| attempt(20, true), &mut out);
    assert!(table.is_open(token));
}

#[test]
fn groups_are_forgotten_when_idle_and_reused() {
    let all = fixture(10);
    let mut out = Vec::new();
    all.deliver(key("kept", "g"), 1, 10, &mut out);
    for n in 0..3 * MAX_IDLE_GROUPS {
        let name = format!("idle{n}");
        all.deliver(key(&name, "g"), 1, 10, &mut out);
        assert!(all.settle(key(&name, "g"), 1, 20, &mut out));
    }
    let mut table = all.deliveries.lock();
    assert!(
        table.group_index.len() <= MAX_IDLE_GROUPS + 1, // and the one that is not idle
        "{}",
        table.group_index.len()
    );
    assert!(
        table.groups.len() <= MAX_IDLE_GROUPS + 1,
        "{}",
        table.groups.len()
    );
    assert!(table.find(key("idle0", "g")).is_none());
    drop(table);
    assert!(all.settle(key("kept", "g"), 1, 20, &mut out));
    assert_eq!(out.len(), 3 * MAX_IDLE_GROUPS + 1);
    assert!(out.iter().all(|span| span.outcome == Outcome::Settled));
}

#[test]
fn a_group_that_took_another_s_place_has_messages_of_its_own() {
    let all = fixture(10);
    let mut out = Vec::new();
    let mut table = all.deliveries.lock();
    let group = table.group(key("a", "g"), || all.group_metrics());
    table.deliver(group, id(1), 10, |_| attempt(10, true), &mut out);
    table.settle(group, id(1), 10, Outcome::Settled, &mut out);
    table.forget_idle_groups();
    let group = table.group(key("b", "g"), || all.group_metrics());
    assert_eq!(table.groups.len(), 1);
    assert!(table.find(key("a", "g")).is_none());
    assert!(!table.settle(group, id(1), 20, Outcome::Settled, &mut out));
    table.deliver(
        group,
        id(1),
        30,
        |previous| {
            assert!(previous.is_none());
            attempt(30, true)
        },
        &mut out,
    );
    assert!(table.settle(group, id(1), 40, Outcome::Settled, &mut out));
}

#[test]
fn each_end_is_counted_by_its_name() {
    let all = fixture(100);
    let mut out = Vec::new();
    let outcomes = [
        (Outcome::Settled, "settled"),
        (Outcome::Uncertain, "uncertain"),
        (Outcome::Released, "released"),
        (Outcome::Error("fail".into()), "failed"),
        (Outcome::Error("fatal".into()), "failed"),
        (Outcome::Timeout, "timeout"),
    ];
    for (n, (outcome, _)) in outcomes.iter().enumerate() {
        all.deliver(key("s", "g"), n as u64, 10, &mut out);
        let mut table = all.deliveries.lock();
        let group = table.find(key("s", "g")).unwrap();
        table.settle(
            group,
            id(n as u64),
            2_000_000_010,
            outcome.clone(),
            &mut out,
        );
    }
    let counted = |outcome: &str| {
        let families = all.metrics.registry().gather();
        let family = families
            .iter()
            .find(|family| family.name() == "tars_stream_messages_settled_total")
            .unwrap();
        let of = |metric: &&prometheus::proto::Metric| {
            metric
                .get_label()
                .iter()
                .any(|label| label.value() == outcome)
        };
        family
            .get_metric()
            .iter()
            .find(of)
            .map_or(0.0, |metric| metric.get_counter().get_value())
    };
    for (outcome, times) in [
        ("settled", 1.0),
        ("uncertain", 1.0),
        ("released", 1.0),
        ("failed", 2.0),
        ("timeout", 1.0),
        ("evicted", 0.0),
    ] {
        assert_eq!(counted(outcome), times, "{outcome}");
    }
    let metrics = all.group_metrics();
    assert_eq!(
        (
            metrics.processing.get_sample_count(),
            metrics.processing.get_sample_sum()
        ),
        (2, 4.0)
    );
}

#[test]
fn the_age_at_delivery_is_measured_where_the_id_is_a_clock() {
    let all = fixture(100);
    let mut out = Vec::new();
    let now_ms = 1_790_000_000_000u64;
    for ms in [
        now_ms - 1_500,
        now_ms + 5_000,
        5,
        now_ms - MAX_AGE_MS,
        now_ms - MAX_AGE_MS + 1,
    ] {
        all.deliver(key("s", "g"), ms, now_ms * 1_000_000, &mut out);
    }
    // Redelivered: not for the first time.
    all.deliver(key("s", "g"), now_ms - 1_500, now_ms * 1_000_000, &mut out);
    let metrics = all.group_metrics();
    assert_eq!(metrics.delivery.get_sample_count(), 2);
    assert_eq!(
        metrics.delivery.get_sample_sum(),
        1.5 + (MAX_AGE_MS - 1) as f64 / 1e3
    );
    assert_eq!((metrics.delivered.get(), metrics.redelivered.get()), (6, 1));
}

#[test]
fn threads_share_the_table() {
    const THREADS: u64 = 4;
    const MESSAGES: u64 = 2_000;
    let all = fixture(64);
    let spans: usize = std::thread::scope(|scope| {
        let work = |thread: u64| {
            let all = &all;
            move || {
                let mut out = Vec::new();
                for n in 0..MESSAGES {
                    let group = if n % 3 == 0 { "shared" } else { "own" };
                    let name = if n % 3 == 0 {
                        "s".to_owned()
                    } else {
                        format!("s{thread}")
                    };
                    all.deliver(key(&name, group), n, n, &mut out);
                    if n % 2 == 0 {
                        all.settle(key(&name, group), n, n, &mut out);
                    }
                    if n % 100 == 0 {
                        all.deliveries
                            .lock()
                            .expire(n.saturating_sub(50), n, &mut out);
                    }
                }
                out.len()
            }
        };
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| scope.spawn(work(thread)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    let mut rest = Vec::new();
    assert!(all.deliveries.lock().len() <= 64);
    all.deliveries.lock().drain(u64::MAX, &mut rest);
    assert_eq!((spans + rest.len()) as u64, THREADS * MESSAGES);
    assert_eq!(all.metrics.deliveries.get(), 0);
}

#[test]
fn a_key_of_megabytes_is_told_from_others_and_not_kept() {
    let all = fixture(10);
    let mut out = Vec::new();
    let long = "k".repeat(2 << 20);
    let other = format!("{}l", &long[1..]);
    all.deliver(key(&long, "g"), 1, 10, &mut out);
    assert!(!all.settle(key(&other, "g"), 1, 20, &mut out));
    assert!(all.settle(key(&long, "g"), 1, 20, &mut out));
    let table = all.deliveries.lock();
    assert!(
        table
            .groups
            .iter()
            .all(|group| group.key.len() <= 4 * MAX_KEPT_NAME)
    );
}

#[test]
fn many_live_groups_do_not_make_a_hot_one_be_forgotten() {
    let all = fixture(3 * MAX_IDLE_GROUPS);
    let mut out = Vec::new();
    for n in 0..2 * MAX_IDLE_GROUPS {
        all.deliver(key(&format!("live{n}"), "g"), 1, 10, &mut out);
    }
    for _ in 0..3 {
        all.deliver(key("hot", "g"), 1, 10, &mut out);
        assert!(all.settle(key("hot", "g"), 1, 20, &mut out));
        all.deliver(key("warm", "g"), 1, 10, &mut out);
        assert!(all.settle(key("warm", "g"), 1, 20, &mut out));
    }
    let mut table = all.deliveries.lock();
    assert!(table.find(key("hot", "g")).is_some() && table.find(key("warm", "g")).is_some());
    assert_eq!(table.idle_groups, 2);
}
