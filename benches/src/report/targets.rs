//! What the project set itself to reach, held against what was measured.

use crate::contender::Contender::{
    self, BareRelay, Direct, EnvoyRedis, Haproxy, Tars100Percent, TarsNoTrace, TarsUnsampled,
};
use crate::measured::{Measured, Run, Sample, Spread};
use crate::workload::Workload;

/// One of them.
#[derive(Clone, Debug)]
pub struct Target {
    /// What is measured.
    pub what: String,
    /// What was measured; the median counts.
    pub measured: Spread,
    /// Digits behind the point that mean something.
    pub digits: usize,
    at_most: bool,
    limit: f64,
}

impl Target {
    /// Whether it is reached.
    #[must_use]
    pub fn is_met(&self) -> bool {
        if self.at_most {
            self.measured.median <= self.limit
        } else {
            self.measured.median >= self.limit
        }
    }

    /// The bound in words.
    #[must_use]
    pub fn bound(&self) -> String {
        let which = if self.at_most { "at most" } else { "at least" };
        format!("{which} {}", self.limit)
    }
}

/// Those that this run says something about.
#[must_use]
pub fn targets(run: &Run) -> Vec<Target> {
    let mut found = Found {
        run,
        out: Vec::new(),
    };
    let cpu = |sample: &Sample| sample.cpu_micros;
    let rate = |sample: &Sample| sample.rate;
    for workload in [Workload::Get, Workload::Xadd] {
        for ours in [TarsNoTrace, TarsUnsampled] {
            found.ratio((workload, 1, 50), "CPU", (ours, BareRelay), cpu, true, 1.05);
            found.ratio((workload, 1, 50), "CPU", (ours, Haproxy), cpu, true, 1.0);
            found.ratio(
                (workload, 1, 50),
                "throughput",
                (ours, Haproxy),
                rate,
                false,
                1.0,
            );
        }
        found.ratio(
            (workload, 16, 50),
            "throughput",
            (TarsUnsampled, Haproxy),
            rate,
            false,
            0.9,
        );
    }
    found.ratio(
        (Workload::Get, 16, 50),
        "CPU",
        (TarsUnsampled, BareRelay),
        cpu,
        true,
        1.2,
    );
    found.ratio(
        (Workload::Xadd, 16, 50),
        "CPU",
        (TarsUnsampled, BareRelay),
        cpu,
        true,
        1.3,
    );
    found.ratio(
        (Workload::Xadd, 16, 50),
        "CPU",
        (EnvoyRedis, TarsUnsampled),
        cpu,
        false,
        4.0,
    );
    found.more(
        (Workload::Xadd, 16, 50),
        "CPU us",
        (Tars100Percent, BareRelay),
        cpu,
        3.0,
    );
    found.more(
        (Workload::Path, 16, 50),
        "CPU us",
        (Tars100Percent, BareRelay),
        cpu,
        6.0,
    );
    let p50 = |sample: &Sample| sample.latency.p50;
    let p99 = |sample: &Sample| sample.latency.p99;
    found.more(
        (Workload::Get, 1, 1),
        "p50 us",
        (TarsUnsampled, Haproxy),
        p50,
        0.0,
    );
    found.more(
        (Workload::Get, 1, 1),
        "p99 us",
        (TarsUnsampled, BareRelay),
        p99,
        0.0,
    );
    found.memory();
    found.out
}

struct Found<'a> {
    run: &'a Run,
    out: Vec<Target>,
}

/// A workload, its pipeline and its connections, of small values.
type Which = (Workload, u32, usize);

impl Found<'_> {
    fn case(&self, (workload, pipeline, connections): Which) -> Option<&Measured> {
        let wanted = |measured: &&Measured| {
            let case = &measured.case;
            (case.workload, case.pipeline, case.connections, case.value)
                == (workload, pipeline, connections, 64)
        };
        self.run.cases.iter().find(wanted)
    }

    fn ratio(
        &mut self,
        which: Which,
        what: &str,
        (one, other): (Contender, Contender),
        figure: fn(&Sample) -> f64,
        at_most: bool,
        limit: f64,
    ) {
        let measured = self
            .case(which)
            .and_then(|case| case.against(one, other, figure));
        let title = format!("{} / {}", one.name(), other.name());
        self.push(
            which,
            &format!("{what}, {title}"),
            measured,
            2,
            at_most,
            limit,
        );
    }

    fn more(
        &mut self,
        which: Which,
        what: &str,
        (one, other): (Contender, Contender),
        figure: fn(&Sample) -> f64,
        limit: f64,
    ) {
        let measured = self
            .case(which)
            .and_then(|case| case.beyond(one, other, figure));
        let title = format!("{} less {}", one.name(), other.name());
        self.push(which, &format!("{what}, {title}"), measured, 1, true, limit);
    }

    fn push(
        &mut self,
        (workload, pipeline, connections): Which,
        what: &str,
        measured: Option<Spread>,
        digits: usize,
        at_most: bool,
        limit: f64,
    ) {
        let Some(measured) = measured else { return };
        let connections = match connections {
            1 => ", 1 connection".to_owned(),
            _ => String::new(),
        };
        let what = format!("{}, P={pipeline}{connections}: {what}", workload.name());
        self.out.push(Target {
            what,
            measured,
            digits,
            at_most,
            limit,
        });
    }

    fn memory(&mut self) {
        for (&contender, rounds) in &self.run.memory {
            if !contender.is_ours() || contender == Direct {
                continue;
            }
            let spread =
                |figure: fn(&crate::measured::Memory) -> f64| Spread::of(rounds.iter().map(figure));
            let limits = [
                ("empty, MB", spread(|m| m.empty as f64 / 1e6), 6.0, 1),
                (
                    "bytes per idle connection",
                    spread(|m| m.per_connection()),
                    2048.0,
                    0,
                ),
            ];
            for (what, measured, limit, digits) in limits {
                let Some(measured) = measured else { continue };
                self.out.push(Target {
                    what: format!("{}: {what}", contender.name()),
                    measured,
                    digits,
                    at_most: true,
                    limit,
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::even;

    #[test]
    fn equals_meet_what_compares_and_miss_what_demands_more() {
        let targets = targets(&even());
        let missed: Vec<&str> = targets
            .iter()
            .filter(|target| !target.is_met())
            .map(|target| target.what.as_str())
            .collect();
        let four_times = "XADD, P=16: CPU, Envoy redis_proxy / tars-proxy, not sampled";
        assert_eq!(missed, [four_times]);
        assert!(targets.len() > 15, "{}", targets.len());
    }
}
