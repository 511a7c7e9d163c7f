//! What was measured, as it is kept in JSON, and what is read from it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::contender::Contender;
use crate::count::Counts;
use crate::linear::Series;
use crate::plan::Case;

/// One run of a plan.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    /// The plan's name.
    pub plan: String,
    /// When it began, in seconds since 1970.
    pub began: u64,
    /// How long it took, in seconds.
    pub seconds: u64,
    /// What it ran on.
    pub machine: Machine,
    /// What each contender says of its version.
    pub versions: BTreeMap<Contender, String>,
    /// Load, case by case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cases: Vec<Measured>,
    /// Memory.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub memory: BTreeMap<Contender, Vec<Memory>>,
    /// What a command that waits does to others.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub blocking: BTreeMap<Contender, Vec<Blocking>>,
    /// How cost grows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub curves: Vec<Curve>,
    /// System calls and instructions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub counts: Vec<Counts>,
}

/// What a run ran on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name.
    pub processor: String,
    /// How many of them.
    pub cores: usize,
    /// The kernel.
    pub kernel: String,
    /// The load average over a minute before the run.
    pub load: f64,
}

/// A case, with a sample of each contender in each round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// The case.
    pub case: Case,
    /// In the order of rounds.
    pub samples: BTreeMap<Contender, Vec<Sample>>,
}

/// One contender in one round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sample {
    /// Requests, or messages, a second.
    pub rate: f64,
    /// The same as a share of what was reached directly in the same round.
    pub ratio: f64,
    /// Processor time of the contender for one of them, in microseconds.
    pub cpu_micros: f64,
    /// Resident memory of the contender at the end, in bytes.
    pub resident: u64,
    /// The share of its spans that were exported, where it made any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exported: Option<f64>,
    /// Latency of a batch, in microseconds.
    pub latency: Latency,
}

/// Quantiles of a latency, in microseconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Latency {
    /// The median.
    pub p50: f64,
    /// 99 of 100 are below it.
    pub p99: f64,
    /// 999 of 1000 are below it.
    pub p999: f64,
}

/// One contender's memory in one round, in bytes.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Memory {
    /// Resident after the start and one connection.
    pub empty: u64,
    /// How many connections were opened then.
    pub connections: usize,
    /// Resident with them open, each having sent one PING.
    pub idle: u64,
}

impl Memory {
    /// Bytes an idle connection.
    #[must_use]
    pub fn per_connection(&self) -> f64 {
        self.idle.saturating_sub(self.empty) as f64 / self.connections as f64
    }
}

/// What others saw while one connection waited in the server.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Blocking {
    /// How many requests of others were answered.
    pub answered: u64,
    /// The longest that one of them took, in milliseconds.
    pub longest_ms: f64,
}

/// Work in several sizes, with the points of each contender: a row a round, a point a size.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Curve {
    /// The work.
    pub series: Series,
    /// In the order of rounds, and of sizes.
    pub points: BTreeMap<Contender, Vec<Vec<Point>>>,
}

impl Curve {
    /// Nothing yet.
    #[must_use]
    pub fn new(series: Series) -> Self {
        Self {
            series,
            points: BTreeMap::new(),
        }
    }

    /// A figure of a contender at a size over the rounds.
    pub fn spread(
        &self,
        of: Contender,
        size: usize,
        figure: impl Fn(&Point) -> f64,
    ) -> Option<Spread> {
        let rounds = self.points.get(&of)?.iter();
        Spread::of(rounds.filter_map(|points| points.get(size)).map(figure))
    }

    /// How cost grows with size: the exponent, which is 1 where it grows as fast. It is the slope of the line of least squares through
    /// the logarithms of sizes and costs of a round.
    #[must_use]
    pub fn exponent(&self, of: Contender) -> Option<Spread> {
        let rounds = self.points.get(&of)?.iter();
        Spread::of(rounds.filter_map(|points| self.slope(points)))
    }

    /// The exponent between neighbouring sizes where its median is largest.
    #[must_use]
    pub fn steepest(&self, of: Contender) -> Option<Spread> {
        let rounds = self.points.get(&of)?;
        let steps = (1..self.series.sizes.len()).filter_map(|n| {
            let steps = rounds.iter().filter_map(|points| points.get(n - 1..=n));
            Spread::of(steps.filter_map(|step| self.slope(step)))
        });
        steps.max_by(|one, other| one.median.total_cmp(&other.median))
    }

    fn slope(&self, points: &[Point]) -> Option<f64> {
        let logarithms = points.iter().map(|point| {
            let units = self.series.units(point.size);
            (units.ln(), (point.cpu_micros * units).ln())
        });
        let logarithms: Vec<(f64, f64)> = logarithms.collect();
        let n = logarithms.len() as f64;
        let mean_x = logarithms.iter().map(|(x, _)| x).sum::<f64>() / n;
        let mean_y = logarithms.iter().map(|(_, y)| y).sum::<f64>() / n;
        let covariance = logarithms.iter().map(|(x, y)| (x - mean_x) * (y - mean_y));
        let variance: f64 = logarithms.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
        (variance > 0.0).then(|| covariance.sum::<f64>() / variance)
    }
}

/// One size of a work, through one contender that has done nothing else.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Point {
    /// The size of a piece.
    pub size: u64,
    /// Processor time for a unit of work, in microseconds.
    pub cpu_micros: f64,
    /// Processor time to open a connection, in microseconds.
    pub opened_micros: f64,
    /// Resident after the start, in bytes.
    pub empty: u64,
    /// Resident when the connections were open, and nothing had been sent but what prepares the work.
    pub open: u64,
    /// The most that was ever resident.
    pub peak: u64,
    /// The share of its spans that were exported, where it made any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exported: Option<f64>,
}

impl Point {
    /// Bytes of an open and idle connection, where connections are what grows.
    #[must_use]
    pub fn per_connection(&self) -> f64 {
        self.open.saturating_sub(self.empty) as f64 / self.size as f64
    }
}

/// A figure of several rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The smallest.
    pub min: f64,
    /// The one in the middle.
    pub median: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Of these figures; none, if there are none.
    #[must_use]
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_by(f64::total_cmp);
        let middle = figures.len().checked_sub(1)? / 2;
        let (low, high) = (figures.get(middle)?, figures.get(figures.len() / 2)?);
        Some(Self {
            min: *figures.first()?,
            median: f64::midpoint(*low, *high),
            max: *figures.last()?,
        })
    }
}

impl Measured {
    /// Nothing yet.
    #[must_use]
    pub fn new(case: Case) -> Self {
        Self {
            case,
            samples: BTreeMap::new(),
        }
    }

    /// A figure of a contender over the rounds.
    pub fn spread(&self, of: Contender, figure: impl Fn(&Sample) -> f64) -> Option<Spread> {
        Spread::of(self.samples.get(&of)?.iter().map(figure))
    }

    /// A figure of a contender, divided by another's in the same round.
    pub fn against(
        &self,
        of: Contender,
        other: Contender,
        figure: impl Fn(&Sample) -> f64,
    ) -> Option<Spread> {
        self.pairs(of, other, figure, |one, other| one / other)
    }

    /// A figure of a contender, less what it was directly in the same round.
    pub fn added(&self, of: Contender, figure: impl Fn(&Sample) -> f64) -> Option<Spread> {
        self.beyond(of, Contender::Direct, figure)
    }

    /// A figure of a contender, less another's in the same round.
    pub fn beyond(
        &self,
        of: Contender,
        other: Contender,
        figure: impl Fn(&Sample) -> f64,
    ) -> Option<Spread> {
        self.pairs(of, other, figure, |one, other| one - other)
    }

    fn pairs(
        &self,
        of: Contender,
        other: Contender,
        figure: impl Fn(&Sample) -> f64,
        compared: fn(f64, f64) -> f64,
    ) -> Option<Spread> {
        let pairs = self.samples.get(&of)?.iter().zip(self.samples.get(&other)?);
        Spread::of(pairs.map(|(one, other)| compared(figure(one), figure(other))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponent_is_that_of_the_cost_of_a_piece() {
        let series = Series {
            axis: crate::linear::Axis::Pipeline,
            workload: crate::workload::Workload::Get,
            value: 64,
            sizes: vec![10, 100, 1_000],
            total: 1_000,
        };
        let point = |(&size, cpu_micros): (&u64, f64)| Point {
            size,
            cpu_micros,
            opened_micros: 0.0,
            empty: 0,
            open: 0,
            peak: 0,
            exported: None,
        };
        let rounds = |costs: [f64; 3]| vec![series.sizes.iter().zip(costs).map(point).collect()];
        let curve = Curve {
            points: BTreeMap::from([
                (Contender::BareRelay, rounds([2.0, 2.0, 2.0])),
                (Contender::TarsUnsampled, rounds([2.0, 2.0, 20.0])),
            ]),
            series: series.clone(),
        };
        let rounded = |of: fn(&Curve, Contender) -> Option<Spread>| {
            [Contender::BareRelay, Contender::TarsUnsampled]
                .map(|contender| (of(&curve, contender).unwrap().median * 100.0).round())
        };
        assert_eq!(rounded(Curve::exponent), [100.0, 150.0]);
        assert_eq!(rounded(Curve::steepest), [100.0, 200.0]);
        assert_eq!(curve.exponent(Contender::Direct), None);
    }

    #[test]
    fn the_median_of_an_even_number_is_between() {
        let spread = |figures: &[f64]| Spread::of(figures.iter().copied());
        let of = |min, median, max| Some(Spread { min, median, max });
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[3.0, 1.0, 2.0]), of(1.0, 2.0, 3.0));
        assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0]), of(1.0, 2.5, 4.0));
    }
}
