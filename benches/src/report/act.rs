//! Tables of what acting costs.

use std::fmt::Write as _;

use super::targets::Target;
use super::{date, met, number, table, text};
use crate::act::{Case, Run, Sample, Server};
use crate::measured::Spread;

/// All of them.
#[must_use]
pub fn act(run: &Run) -> String {
    let machine = &run.machine;
    let rounds = run.cases.values().flat_map(|servers| servers.values());
    let mut out = format!(
        "{}: {} rounds in {} min; {} x {}, Linux {}, load {} before. Median (smallest to largest of the rounds).\n\n{}",
        date(run.began),
        rounds.map(Vec::len).max().unwrap_or(0),
        run.seconds.div_ceil(60),
        machine.cores,
        machine.processor,
        machine.kernel,
        machine.load,
        met(&targets(run))
    );
    for case in run.cases.keys() {
        let _ = write!(out, "\n{}:\n\n{}", case.title(), figures(run, *case));
    }
    out
}

fn figures(run: &Run, case: Case) -> String {
    let mut head = vec!["", "requests/s"];
    if case == Case::Learning {
        head.push("updates/s");
    } else {
        head.push("CPU us/request");
    }
    if case.shows_latency() {
        head.extend(["p50 us", "p99 us", "p99.9 us"]);
    }
    let counted = run.instructions.get(&case);
    if counted.is_some() {
        head.push("instructions/request");
    }
    let rows = Server::ALL.map(|server| {
        let cell = |digits, figure: fn(&Sample) -> f64| {
            let spread = run.spread(case, server, figure);
            spread.map_or_else(String::new, |spread| text(spread, digits))
        };
        let mut row = vec![server.name().to_owned(), cell(0, |s| s.rate)];
        if case == Case::Learning {
            row.push(match server {
                Server::Axum => "a thread computes".to_owned(),
                Server::Agent => cell(1, |s| s.updates.unwrap_or(0.0)),
            });
        } else {
            row.push(cell(1, |s| s.cpu_micros));
        }
        if case.shows_latency() {
            row.extend([
                cell(0, |s| s.latency.p50),
                cell(0, |s| s.latency.p99),
                cell(0, |s| s.latency.p999),
            ]);
        }
        if let Some(counted) = counted {
            row.push(
                counted
                    .get(&server)
                    .map_or_else(String::new, |&count| number(count, 0)),
            );
        }
        row
    });
    let head: Vec<String> = head.into_iter().map(str::to_owned).collect();
    table(&head, rows)
}

fn targets(run: &Run) -> Vec<Target> {
    use Case::{Full, Learning, Steady};
    use Server::{Agent, Axum};
    let p99 = |sample: &Sample| sample.latency.p99;
    let rate = |sample: &Sample| sample.rate;
    let mut found = Vec::new();
    let mut add = |what: &str,
                   make: fn(String, Spread, usize, f64) -> Target,
                   measured: Option<Spread>,
                   limit| {
        found.extend(measured.map(|measured| make(what.to_owned(), measured, 2, limit)));
    };
    add(
        "p99 at 1,000 requests a second, of the echo's",
        Target::at_most,
        run.against(Steady, (Steady, Axum), p99),
        1.2,
    );
    add(
        "throughput, of the echo's",
        Target::at_least,
        run.against(Full, (Full, Axum), rate),
        0.85,
    );
    add(
        "p99 while it learns, of the echo's that gets as many bytes beside a thread that computes",
        Target::at_most,
        run.against(Learning, (Learning, Axum), p99),
        1.2,
    );
    add(
        "p99 while it learns, of its own at rest",
        Target::at_most,
        run.against(Learning, (Steady, Agent), p99),
        1.2,
    );
    found
}
