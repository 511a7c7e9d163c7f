//! What the project set itself to reach, held against what was measured.

use std::collections::BTreeMap;

use super::growth::TOLERANCE;
use super::number;
use crate::contender::Contender::{
    self, BareRelay, EnvoyRedis, Haproxy, Tars100Percent, TarsNoTrace, TarsUnsampled,
};
use crate::linear::Axis;
use crate::load::Pace;
use crate::measured::{Measured, Memory, Run, Sample, Spread};
use crate::workload::Workload;

/// What the proxy may hold at most, of any size of work, in MB: with the defaults the tables of deliveries and of recent spans are full
/// below it, and a reply of 100 MB that was kept would not be.
const MOST_MEMORY: f64 = 64.0;

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
    /// At most so much.
    pub(super) fn at_most(what: String, measured: Spread, digits: usize, limit: f64) -> Self {
        Self {
            what,
            measured,
            digits,
            at_most: true,
            limit,
        }
    }

    /// At least so much.
    pub(super) fn at_least(what: String, measured: Spread, digits: usize, limit: f64) -> Self {
        Self {
            at_most: false,
            ..Self::at_most(what, measured, digits, limit)
        }
    }

    /// Whether it is reached.
    #[must_use]
    pub fn is_met(&self) -> bool {
        self.meets(self.measured.median)
    }

    /// The bound in words.
    #[must_use]
    pub fn bound(&self) -> String {
        let which = if self.at_most { "at most" } else { "at least" };
        let digits = usize::from(self.limit.fract() != 0.0) * 2;
        format!("{which} {}", number(self.limit, digits))
    }

    /// Whether it is reached, by how much, and whether always.
    #[must_use]
    pub fn verdict(&self) -> String {
        let distance = (self.measured.median - self.limit).abs();
        let distance = if self.limit == 0.0 {
            number(distance, self.digits)
        } else {
            format!("{} %", number(distance / self.limit * 100.0, 0))
        };
        let Spread { min, max, .. } = self.measured;
        let (best, worst) = if self.at_most { (min, max) } else { (max, min) };
        match (self.is_met(), self.meets(best), self.meets(worst)) {
            (true, _, true) => format!("met, {distance} to spare"),
            (true, _, false) => format!("met, {distance} to spare, not in every round"),
            (false, true, _) => format!("**missed** by {distance}, met in some rounds"),
            (false, false, _) => format!("**missed** by {distance}"),
        }
    }

    fn meets(&self, figure: f64) -> bool {
        if self.at_most {
            figure <= self.limit
        } else {
            figure >= self.limit
        }
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
    for (workload, limit) in [(Workload::Xadd, 3.0), (Workload::Path, 6.0)] {
        let which = (workload, 16, 50);
        found.more(which, "CPU us", (Tars100Percent, BareRelay), cpu, limit);
        found.spans(workload, limit);
    }
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
    found.more(
        (Workload::Get, 1, 1),
        "p99 us",
        (TarsUnsampled, Haproxy),
        p99,
        0.0,
    );
    found.memory();
    found.blocking();
    found.counts();
    found.growth();
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
        let closed = |measured: &&Measured| measured.case.pace == Pace::Closed;
        self.run.cases.iter().filter(closed).find(wanted)
    }

    /// What a message costs more when its spans are exported: at a rate at which they can be.
    fn spans(&mut self, workload: Workload, limit: f64) {
        let open =
            |case: &&Measured| case.case.workload == workload && case.case.pace != Pace::Closed;
        let run = self.run;
        let Some(case) = run.cases.iter().find(open) else {
            return;
        };
        let title = case.case.title();
        let more = case.beyond(Tars100Percent, BareRelay, |sample| sample.cpu_micros);
        let (ours, relay) = (Tars100Percent.name(), BareRelay.name());
        self.at_most(
            format!("{title}: CPU us, {ours} less {relay}"),
            more,
            2,
            limit,
        );
        let samples = case.samples.get(&Tars100Percent).into_iter().flatten();
        let exported = Spread::of(samples.filter_map(|sample| Some(sample.exported? * 100.0)));
        if let Some(exported) = exported {
            self.add(
                format!("{title}: spans exported, %"),
                exported,
                1,
                false,
                99.0,
            );
        }
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
        self.add(what, measured, digits, at_most, limit);
    }

    fn add(&mut self, what: String, measured: Spread, digits: usize, at_most: bool, limit: f64) {
        self.out.push(Target {
            what,
            measured,
            digits,
            at_most,
            limit,
        });
    }

    /// At most so much of what there are several rounds of.
    fn at_most(&mut self, what: String, measured: Option<Spread>, digits: usize, limit: f64) {
        if let Some(measured) = measured {
            self.add(what, measured, digits, true, limit);
        }
    }

    fn memory(&mut self) {
        for (contender, rounds) in ours(&self.run.memory) {
            let name = contender.name();
            let spread = |figure: fn(&Memory) -> f64| Spread::of(rounds.iter().map(figure));
            let empty = spread(|memory| memory.empty as f64 / 1e6);
            self.at_most(format!("{name}: empty, MB"), empty, 1, 6.0);
            let each = spread(Memory::per_connection);
            self.at_most(
                format!("{name}: bytes per idle connection"),
                each,
                0,
                2048.0,
            );
        }
    }

    /// One that waited for the other would take as long.
    fn blocking(&mut self) {
        for (contender, rounds) in ours(&self.run.blocking) {
            let longest = Spread::of(rounds.iter().map(|blocking| blocking.longest_ms));
            let what = "longest GET of others while an XREAD waits for 2 s, ms";
            self.at_most(format!("{}: {what}", contender.name()), longest, 1, 100.0);
        }
    }

    fn counts(&mut self) {
        let counts = self.run.counts.iter();
        for counts in counts.filter(|counts| counts.contender.is_ours()) {
            let case = &counts.case;
            let (calls, instructions) = match (case.workload, case.pipeline) {
                (Workload::Get, 1) => (4.15, Some(2_500.0)),
                (Workload::Xadd, 1) => (4.15, Some(3_500.0)),
                (Workload::Xadd, _) => (0.3, Some(1_500.0)),
                _ => (0.3, None),
            };
            let what = |of: &str| {
                let name = counts.contender.name();
                format!(
                    "{}, P={}: {of}, {name}",
                    case.workload.name(),
                    case.pipeline
                )
            };
            let once = |figure| Spread::of([figure]);
            self.at_most(what("system calls"), once(counts.all_calls()), 3, calls);
            self.at_most(what("reads in vain"), once(counts.vain_reads()), 3, 0.01);
            if let Some(limit) = instructions {
                let executed = once(counts.instructions);
                self.at_most(what("instructions"), executed, 0, limit);
            }
        }
    }

    fn growth(&mut self) {
        for curve in &self.run.curves {
            let series = &curve.series;
            for (&contender, _) in ours(&curve.points) {
                let what = |of: &str| format!("{}: {of}, {}", series.title(), contender.name());
                let limit = 1.0 + TOLERANCE;
                self.at_most(what("exponent"), curve.exponent(contender), 2, limit);
                let Some(largest) = series.sizes.len().checked_sub(1) else {
                    continue;
                };
                let peak = curve.spread(contender, largest, |point| point.peak as f64 / 1e6);
                let size = series
                    .sizes
                    .last()
                    .map_or_else(String::new, |size| series.size(*size));
                self.at_most(what(&format!("peak at {size}, MB")), peak, 1, MOST_MEMORY);
                if series.axis == Axis::Connections {
                    let open = curve.spread(contender, largest, |point| point.open as f64 / 1e6);
                    self.at_most(what(&format!("{size} idle, MB")), open, 1, 30.0);
                }
            }
        }
    }
}

fn ours<T>(all: &BTreeMap<Contender, T>) -> impl Iterator<Item = (&Contender, &T)> {
    all.iter().filter(|(contender, _)| contender.is_ours())
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
        assert!(targets.len() > 20, "{}", targets.len());
    }
}
