//! What was measured, as it is kept in JSON, and what is read from it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::contender::Contender;
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
    pub cases: Vec<Measured>,
    /// Memory.
    pub memory: BTreeMap<Contender, Vec<Memory>>,
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
    fn the_median_of_an_even_number_is_between() {
        let spread = |figures: &[f64]| Spread::of(figures.iter().copied());
        let of = |min, median, max| Some(Spread { min, median, max });
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[3.0, 1.0, 2.0]), of(1.0, 2.0, 3.0));
        assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0]), of(1.0, 2.5, 4.0));
    }
}
