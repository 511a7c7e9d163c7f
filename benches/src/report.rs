//! Tables in Markdown, and a page with pictures, of what was measured.

use std::fmt::Write as _;

use crate::contender::Contender;
use crate::count::Counts;
use crate::measured::{Blocking, Measured, Run, Spread};

mod act;
mod document;
mod growth;
mod page;
mod picture;
mod plot;
mod targets;

pub use act::act;
pub use document::{Runs, rewrite, runs};
pub use page::{page, pictures};
pub use targets::{Target, targets};

/// All tables, those of the targets too or not.
#[must_use]
pub fn tables(run: &Run, with_targets: bool) -> String {
    let mut out = format!("{}\n\n", provenance(run));
    let mut section = |title: &str, text: String| {
        let _ = writeln!(out, "### {title}\n\n{text}");
    };
    let targets = targets(run);
    if with_targets && !targets.is_empty() {
        section("Targets", met(&targets));
    }
    for measured in &run.cases {
        section(&measured.case.title(), load(measured));
    }
    if !run.memory.is_empty() {
        section("Memory", memory(run));
    }
    if !run.blocking.is_empty() {
        section("Others beside a read that waits", blocking(run));
    }
    if !run.curves.is_empty() {
        let text = format!("{}\n\n{}", growth::rule(), growth::exponents(&run.curves));
        section("How cost grows", text);
    }
    for curve in &run.curves {
        section(&curve.series.title(), growth::sizes(curve));
    }
    if !run.counts.is_empty() {
        section(
            "System calls and instructions of a request",
            counts(&run.counts),
        );
    }
    if !run.versions.is_empty() {
        section("Versions", versions(run));
    }
    out
}

/// What was counted.
fn counts(counts: &[Counts]) -> String {
    let head = [
        "case",
        "contender",
        "instructions",
        "system calls",
        "reads in vain",
        "which",
    ];
    let rows = counts.iter().map(|counts| {
        let mut calls: Vec<_> = counts
            .calls
            .iter()
            .filter(|(_, count)| **count >= 0.005)
            .collect();
        calls.sort_by(|one, other| other.1.total_cmp(one.1));
        let calls: Vec<String> = calls
            .iter()
            .map(|(name, count)| format!("{name} {count:.3}"))
            .collect();
        vec![
            counts.case.title(),
            counts.contender.name().to_owned(),
            number(counts.instructions, 0),
            number(counts.all_calls(), 3),
            number(counts.vain_reads(), 3),
            calls.join(", "),
        ]
    });
    table(&head.map(str::to_owned), rows)
}

fn provenance(run: &Run) -> String {
    let machine = &run.machine;
    let cases = run.cases.iter().flat_map(|case| case.samples.values());
    let curves = run.curves.iter().flat_map(|curve| curve.points.values());
    let rounds = cases.map(Vec::len).chain(curves.map(Vec::len)).max();
    let rounds = rounds.map_or_else(String::new, |rounds| format!("{rounds} rounds "));
    let spread = if rounds.is_empty() {
        ""
    } else {
        " Median (smallest to largest of the rounds)."
    };
    format!(
        "Plan `{}`, {}: {rounds}in {} min; {} x {}, Linux {}, load {} before.{spread}",
        run.plan,
        date(run.began),
        run.seconds.div_ceil(60),
        machine.cores,
        machine.processor,
        machine.kernel,
        machine.load
    )
}

/// The day, in UTC, on which so many seconds have passed since 1970.
fn date(seconds: u64) -> String {
    let mut days = seconds / 86_400;
    let mut year = 1970;
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let mut month = 1;
    for length in [
        31,
        28 + u64::from(leap(year)),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
    ] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    format!("{year}-{month:02}-{:02}", days + 1)
}

fn load(measured: &Measured) -> String {
    let unit = measured.case.workload.unit();
    let latency = measured.case.shows_latency();
    let mut head = vec![
        "contender".to_owned(),
        format!("{unit}s/s"),
        "of direct".to_owned(),
        format!("CPU us/{unit}"),
        "CPU of bare relay".to_owned(),
    ];
    let traced = measured.samples.values().flatten();
    let traced = traced.into_iter().any(|sample| sample.exported.is_some());
    if traced {
        head.push("spans exported %".to_owned());
    }
    if latency {
        head.extend(["added p50 us", "added p99 us", "added p99.9 us"].map(str::to_owned));
    }
    let rows = measured.samples.keys().map(|&contender| {
        let direct = contender == Contender::Direct;
        let cell = |spread: Option<Spread>, digits| match spread {
            Some(spread) if !direct => text(spread, digits),
            _ => String::new(),
        };
        let mut row = vec![
            contender.name().to_owned(),
            measured
                .spread(contender, |s| s.rate)
                .map_or_else(String::new, |spread| text(spread, 0)),
            cell(measured.spread(contender, |s| s.ratio), 2),
            cell(measured.spread(contender, |s| s.cpu_micros), 2),
            cell(
                measured.against(contender, Contender::BareRelay, |s| s.cpu_micros),
                2,
            ),
        ];
        if traced {
            let samples = measured.samples.get(&contender).into_iter().flatten();
            let shares = samples.filter_map(|sample| sample.exported);
            row.push(cell(Spread::of(shares.map(|share| share * 100.0)), 0));
        }
        if latency {
            row.extend([
                cell(measured.added(contender, |s| s.latency.p50), 0),
                cell(measured.added(contender, |s| s.latency.p99), 0),
                cell(measured.added(contender, |s| s.latency.p999), 0),
            ]);
        }
        row
    });
    table(&head, rows)
}

fn memory(run: &Run) -> String {
    let connections = run.memory.values().flatten().map(|m| m.connections).max();
    let head = [
        "contender".to_owned(),
        "empty MB".to_owned(),
        "bytes per idle connection".to_owned(),
        format!("with {} idle connections MB", connections.unwrap_or(0)),
    ];
    let rows = run.memory.iter().map(|(contender, rounds)| {
        let spread = |figure: &dyn Fn(&crate::measured::Memory) -> f64, digits| {
            Spread::of(rounds.iter().map(figure))
                .map_or_else(String::new, |spread| text(spread, digits))
        };
        vec![
            contender.name().to_owned(),
            spread(&|memory| memory.empty as f64 / 1e6, 1),
            spread(&|memory| memory.per_connection(), 0),
            spread(&|memory| memory.idle as f64 / 1e6, 1),
        ]
    });
    table(&head, rows)
}

fn blocking(run: &Run) -> String {
    let head = ["contender", "longest request ms", "requests answered"].map(str::to_owned);
    let rows = run.blocking.iter().map(|(contender, rounds)| {
        let spread = |figure: fn(&Blocking) -> f64, digits| {
            Spread::of(rounds.iter().map(figure))
                .map_or_else(String::new, |spread| text(spread, digits))
        };
        vec![
            contender.name().to_owned(),
            spread(|blocking| blocking.longest_ms, 1),
            spread(|blocking| blocking.answered as f64, 0),
        ]
    });
    table(&head, rows)
}

fn met(targets: &[Target]) -> String {
    let head = ["what", "target", "measured", ""].map(str::to_owned);
    let rows = targets.iter().map(|target| {
        vec![
            target.what.clone(),
            target.bound(),
            text(target.measured, target.digits),
            target.verdict(),
        ]
    });
    table(&head, rows)
}

fn versions(run: &Run) -> String {
    let head = ["contender", "version"].map(str::to_owned);
    let rows = run
        .versions
        .iter()
        .map(|(contender, version)| vec![contender.name().to_owned(), version.clone()]);
    table(&head, rows)
}

fn table(head: &[String], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut out = format!("| {} |\n|", head.join(" | "));
    for column in 0..head.len() {
        out.push_str(if column == 0 { " --- |" } else { " ---: |" });
    }
    out.push('\n');
    for row in rows {
        let _ = writeln!(out, "| {} |", row.join(" | "));
    }
    out
}

/// `median (smallest to largest)`.
fn text(spread: Spread, digits: usize) -> String {
    let Spread { min, median, max } = spread;
    if min == max {
        return number(median, digits);
    }
    format!(
        "{} ({} to {})",
        number(median, digits),
        number(min, digits),
        number(max, digits)
    )
}

/// With thousands set apart.
pub(crate) fn number(figure: f64, digits: usize) -> String {
    let plain = format!("{figure:.digits$}");
    let (whole, rest) = plain.split_at(plain.find('.').unwrap_or(plain.len()));
    let (sign, digits) = whole.split_at(usize::from(whole.starts_with('-')));
    let mut out = sign.to_owned();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out + rest
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::measured::{Latency, Machine, Memory, Sample};
    use crate::plan::Plan;

    /// A run in which every contender needs the same.
    pub(crate) fn even() -> Run {
        let sample = |rate| Sample {
            rate,
            ratio: 1.0,
            cpu_micros: 2.0,
            resident: 5_000_000,
            exported: None,
            latency: Latency {
                p50: 50.0,
                p99: 100.0,
                p999: 200.0,
            },
        };
        let contenders = Plan::Peers.contenders();
        let cases = Plan::Peers.cases().into_iter().map(|case| Measured {
            case,
            samples: contenders
                .iter()
                .map(|&contender| (contender, vec![sample(1234.0), sample(2345.0)]))
                .collect(),
        });
        let memory = Memory {
            empty: 5_000_000,
            connections: 1000,
            idle: 7_000_000,
        };
        Run {
            began: 0,
            seconds: 61,
            machine: Machine {
                processor: "<fast>".into(),
                cores: 2,
                kernel: "6".into(),
                load: 0.5,
            },
            versions: BTreeMap::from([(Contender::Haproxy, "HAProxy 2".into())]),
            cases: cases.collect(),
            memory: contenders.iter().map(|&c| (c, vec![memory])).collect(),
            ..crate::run::begin("peers")
        }
    }

    #[test]
    fn the_tables_hold_medians_with_their_spread() {
        let text = tables(&even(), true);
        assert!(
            text.contains("| 1,790 (1,234 to 2,345) | 1.00 | 2.00 | 1.00 |"),
            "{text}"
        );
        assert!(
            text.contains("| bare tokio relay | 5.0 | 2,000 | 7.0 |"),
            "{text}"
        );
    }

    #[test]
    fn days_have_dates() {
        let days = [0, 58, 59, 11_016, 20_000, 20_088].map(|day| date(day * 86_400 + 86_399));
        let dates = [
            "1970-01-01",
            "1970-02-28",
            "1970-03-01",
            "2000-02-29",
            "2024-10-04",
            "2024-12-31",
        ];
        assert_eq!(days, dates);
    }

    #[test]
    fn thousands_are_set_apart() {
        let written = [0.0, 999.4, 1000.0, -1_234_567.25].map(|figure| number(figure, 1));
        assert_eq!(written, ["0.0", "999.4", "1,000.0", "-1,234,567.2"]);
    }
}
