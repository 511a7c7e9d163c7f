//! `docs/metrics.md` against the registry.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use arc_swap::ArcSwap;
use prometheus::proto::MetricType;
use tars_proxy::config::Config;
use tars_proxy::deliveries::Deliveries;
use tars_proxy::metrics::{Bounded, Metrics};
use tars_proxy::trace::export::{Settings, SpanQueue};
use tars_proxy::trace::recent::Recent;
use tars_proxy::worker::{Shared, Worker, budgets};
use tars_sidecar::drain::Drain;

use crate::{files, quoted, read, root, rows};

const DOCUMENT: &str = "docs/metrics.md";

/// Labels whose values are names that clients or operators choose.
const NAMES: [&str; 3] = ["stream", "group", "upstream"];

#[derive(Debug, Default, PartialEq, Eq)]
struct Metric {
    kind: String,
    labels: BTreeSet<String>,
    help: String,
}

/// Metric, label, value.
type Values = BTreeSet<(String, String, String)>;

/// Everything that a proxy registers, and the values that labels have from the start. A vector without a child does not
/// show up, so that each gets one.
fn registered() -> (BTreeMap<String, Metric>, Values) {
    let metrics = Arc::new(Metrics::new(10));
    let config = Config::default();
    let spans = Arc::new(SpanQueue::new(&Settings::default()));
    tars_sidecar::process::register(metrics.registry()).unwrap();
    spans.counters().register(metrics.registry()).unwrap();
    let [held, pending] = budgets(&config.limits);
    let bounded = Bounded {
        held: held.clone(),
        pending: pending.clone(),
        recent: Arc::new(Recent::new(1)),
    };
    bounded
        .register(&config.limits, metrics.registry())
        .unwrap();
    let _worker = Worker::new(
        Arc::new(Shared {
            deliveries: Deliveries::new(
                1,
                metrics.deliveries.clone(),
                metrics.deliveries_evicted.clone(),
            ),
            overdue: AtomicBool::new(false),
            room: AtomicUsize::new(1),
            held,
            pending,
            rules: Arc::new(ArcSwap::new(config.rules.clone())),
            metrics: metrics.clone(),
            spans,
            drain: Drain::new(),
            config,
        }),
        0,
    );
    metrics.raw_relay("protocol");
    let _ = metrics.strays("not_redirected");
    metrics.skipped("rule");
    metrics.not_followed("too_large");
    metrics.error("client");
    let _ = (
        metrics.upstream_up("redis:6379"),
        metrics.sent(&"s".into()),
        metrics.group(&"s".into(), &"g".into()),
    );

    let mut found = BTreeMap::new();
    let mut values = BTreeSet::new();
    for family in metrics.registry().gather() {
        let kind = match family.get_field_type() {
            MetricType::COUNTER => "counter",
            MetricType::GAUGE => "gauge",
            MetricType::HISTOGRAM => "histogram",
            other => panic!("{}: {other:?}", family.name()),
        };
        let labels = family
            .get_metric()
            .iter()
            .flat_map(|metric| metric.get_label());
        for label in labels
            .clone()
            .filter(|label| !NAMES.contains(&label.name()))
        {
            values.insert((
                family.name().to_owned(),
                label.name().to_owned(),
                label.value().to_owned(),
            ));
        }
        let labels = labels.map(|label| label.name().to_owned()).collect();
        let metric = Metric {
            kind: kind.to_owned(),
            labels,
            help: family.help().to_owned(),
        };
        found.insert(family.name().to_owned(), metric);
    }
    (found, values)
}

/// The rows `name | type | labels | help`.
fn documented(document: &str) -> BTreeMap<String, Metric> {
    let mut found = BTreeMap::new();
    for row in rows(document) {
        if let [
            name,
            kind @ ("counter" | "gauge" | "histogram"),
            labels,
            help,
        ] = *row
        {
            let name = quoted(name).next().unwrap().to_owned();
            let labels = quoted(labels).map(str::to_owned).collect();
            let metric = Metric {
                kind: kind.to_owned(),
                labels,
                help: help.to_owned(),
            };
            assert!(
                found.insert(name.clone(), metric).is_none(),
                "{DOCUMENT} has {name} twice"
            );
        }
    }
    found
}

/// The rows `value of LABEL | meaning` under each heading `### METRIC`.
fn documented_values(document: &str) -> Values {
    let mut found = BTreeSet::new();
    let (mut metric, mut label) = (None, None);
    for line in document.lines() {
        if let Some(heading) = line.strip_prefix('#') {
            metric = quoted(heading).next().map(str::to_owned);
            label = None;
        } else if let (Some(metric), Some(row)) = (&metric, rows(line).next()) {
            let first = quoted(row.first().unwrap()).next();
            match (first, &label) {
                (Some(head), None) => label = Some(head.to_owned()),
                (Some(value), Some(label)) => {
                    found.insert((metric.clone(), label.clone(), value.to_owned()));
                }
                (None, _) => {}
            }
        }
    }
    found
}

/// The program's text without its tests.
fn sources() -> String {
    let mut paths: Vec<PathBuf> = Vec::new();
    for folder in ["proxy/src", "sidecar/src"] {
        files(&root().join(folder), "rs", &mut paths);
    }
    let kept = paths
        .iter()
        .filter(|path| !path.to_string_lossy().contains("tests"));
    kept.map(|path| {
        read(path)
            .split("#[cfg(test)]\nmod tests {")
            .next()
            .unwrap()
            .to_owned()
    })
    .collect()
}

#[test]
fn every_metric_is_documented_as_it_is_registered() {
    let (registered, _) = registered();
    let documented = documented(&read(DOCUMENT));
    for (name, metric) in &registered {
        assert_eq!(documented.get(name), Some(metric), "{name} in {DOCUMENT}");
    }
    let unknown: Vec<_> = documented
        .keys()
        .filter(|name| !registered.contains_key(*name))
        .collect();
    assert!(
        unknown.is_empty(),
        "{DOCUMENT} has what is not registered: {unknown:?}"
    );
}

/// A vector that nobody gives a child would be missing in the comparison above.
#[test]
fn every_metric_of_the_sources_is_compared() {
    let (registered, _) = registered();
    let sources = sources();
    let names = sources.split('"').filter(|text| {
        (text.starts_with("tars_proxy_") || text.starts_with("tars_stream_"))
            && text
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    });
    let missing: BTreeSet<_> = names
        .filter(|name| !registered.contains_key(*name))
        .collect();
    assert!(
        missing.is_empty(),
        "give these a child in registered(): {missing:?}"
    );
}

#[test]
fn every_label_value_is_documented_and_real() {
    let (_, from_start) = registered();
    let documented = documented_values(&read(DOCUMENT));
    for (metric, label, value) in &from_start {
        assert!(
            documented.contains(&(metric.clone(), label.clone(), value.clone())),
            "{DOCUMENT} lacks {metric}{{{label}={value:?}}}"
        );
    }
    let sources = sources();
    for (metric, label, value) in &documented {
        assert!(
            sources.contains(&format!("\"{value}\"")),
            "{DOCUMENT} has {metric}{{{label}={value:?}}}, which the sources do not know"
        );
    }
    let request = ["request", "request/inline", "request/producer"]
        .map(|file| read(format!("proxy/src/{file}.rs")))
        .concat();
    let of = |metric: &str| -> BTreeSet<&str> {
        documented
            .iter()
            .filter(|(m, ..)| m == metric)
            .map(|(.., value)| value.as_str())
            .collect()
    };
    let raw = sources
        .split("Raw(\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next());
    // Written as `Self(…)`.
    assert_eq!(
        of("tars_proxy_raw_relays_total"),
        raw.chain(["protocol"]).collect()
    );
    let skipped = ["skipped(", "xadd_as_it_is(", "Some(\""].map(|before| {
        request
            .lines()
            .filter(|line| line.contains(before))
            .filter_map(|line| line.split('"').nth(1))
            .collect::<BTreeSet<_>>()
    });
    assert_eq!(
        of("tars_proxy_contexts_skipped_total"),
        skipped.into_iter().flatten().collect()
    );
}

/// A reason that is told as a list of commands is told as the same list in both documents.
#[test]
fn raw_relays_are_due_to_the_same_commands_everywhere() {
    let told = |text: &str| -> BTreeMap<String, String> {
        let told = |row: Vec<&str>| match row[..] {
            [reason, commands, ..] => {
                Some((quoted(reason).next()?.to_owned(), commands.to_owned()))
            }
            _ => None,
        };
        rows(text).filter_map(told).collect()
    };
    let is_list = |cell: &str| {
        cell.bytes()
            .all(|b| b.is_ascii_uppercase() || b" ,".contains(&b))
    };
    let metrics = read(DOCUMENT);
    let (_, section) = metrics
        .split_once("### `tars_proxy_raw_relays_total`")
        .unwrap();
    let metrics = told(section.split("\n### ").next().unwrap());
    let mut limits = told(
        read("docs/limits.md")
            .split("\n## Each with its test")
            .next()
            .unwrap(),
    );
    limits.retain(|reason, commands| metrics.contains_key(reason) && is_list(commands));
    assert!(limits.contains_key("replication"), "{limits:?}");
    for (reason, commands) in limits {
        assert_eq!(
            metrics.get(&reason),
            Some(&commands),
            "{reason} in {DOCUMENT}"
        );
    }
}

/// In alerts, tables and prose.
#[test]
fn every_metric_that_a_document_names_exists() {
    let (registered, _) = registered();
    let mut paths = vec![root().join("README.md")];
    files(&root().join("docs"), "md", &mut paths);
    let mut named = 0;
    for path in paths {
        let text = read(&path);
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for word in words.filter(|word| {
            ["tars_proxy_", "tars_stream_", "tars_jemalloc_"]
                .iter()
                .any(|start| word.starts_with(start))
        }) {
            let name = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| word.strip_suffix(end))
                .unwrap_or(word);
            assert!(
                registered.contains_key(name) || registered.contains_key(word),
                "{}: there is no {word}",
                path.display()
            );
            named += 1;
        }
    }
    assert!(named > 50, "only {named} names were found");
}
