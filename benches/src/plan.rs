//! Which cases are run, by name.

use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::contender::Contender;
use crate::load::Pace;
use crate::workload::Workload;

/// One kind of load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// What is sent.
    pub workload: Workload,
    /// Bytes of a value.
    pub value: usize,
    /// Commands of a batch.
    pub pipeline: u32,
    /// Connections.
    pub connections: usize,
    /// When batches are sent.
    pub pace: Pace,
}

impl Case {
    const fn closed(workload: Workload, value: usize, pipeline: u32, connections: usize) -> Self {
        Self {
            workload,
            value,
            pipeline,
            connections,
            pace: Pace::Closed,
        }
    }

    const fn open(workload: Workload, connections: usize, rate: f64) -> Self {
        Self {
            workload,
            value: 64,
            pipeline: 1,
            connections,
            pace: Pace::Open(rate),
        }
    }

    /// Whether its latencies mean something: nothing waits for others of the same load, or what waits is counted.
    #[must_use]
    pub fn shows_latency(&self) -> bool {
        self.connections == 1 || self.pace != Pace::Closed
    }

    /// In words.
    #[must_use]
    pub fn title(&self) -> String {
        let value = match self.value {
            bytes if bytes >= 1024 => format!("{} KiB", bytes / 1024),
            bytes => format!("{bytes} B"),
        };
        let connections = match self.connections {
            1 => "1 connection".to_owned(),
            n => format!("{n} connections"),
        };
        let pace = match self.pace {
            Pace::Closed => String::new(),
            Pace::Open(rate) => format!(", {rate} a second"),
        };
        format!(
            "{}, {value}, P={}, {connections}{pace}",
            self.workload.name(),
            self.pipeline
        )
    }
}

/// A named set of cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Plan {
    /// GET and XADD beside every peer, in under 15 minutes.
    Peers,
    /// Every workload, value size, pipeline and number of connections.
    Full,
    /// A second or two, to see that everything starts.
    Smoke,
}

impl Plan {
    /// Its cases.
    #[must_use]
    pub fn cases(self) -> Vec<Case> {
        use Workload::{Get, Path, Set, Xadd};
        let peers = [
            Case::closed(Get, 64, 1, 50),
            Case::closed(Xadd, 64, 1, 50),
            Case::closed(Get, 64, 16, 50),
            Case::closed(Xadd, 64, 16, 50),
            Case::closed(Path, 64, 16, 50),
            Case::closed(Get, 64, 1, 1),
        ];
        let more = [
            Case::closed(Set, 64, 1, 50),
            Case::closed(Path, 64, 1, 50),
            Case::closed(Xadd, 64, 1, 1),
            Case::closed(Get, 64, 100, 50),
            Case::closed(Xadd, 64, 100, 50),
            Case::closed(Get, 1024, 16, 50),
            Case::closed(Xadd, 1024, 16, 50),
            Case::closed(Get, 64 * 1024, 1, 50),
            Case::closed(Xadd, 64 * 1024, 1, 50),
            Case::closed(Get, 64, 1, 1000),
            Case::closed(Xadd, 64, 1, 1000),
            Case::open(Get, 50, 5_000.0),
            Case::open(Xadd, 50, 5_000.0),
            Case::open(Get, 1000, 5_000.0),
        ];
        match self {
            Self::Peers => peers.into(),
            Self::Full => peers.into_iter().chain(more).collect(),
            Self::Smoke => vec![Case::closed(Xadd, 64, 16, 2), Case::open(Path, 2, 300.0)],
        }
    }

    /// The cases whose system calls and instructions are counted.
    #[must_use]
    pub fn counted() -> Vec<Case> {
        use Workload::{Get, Xadd};
        let cases = [(Get, 1), (Xadd, 1), (Get, 16), (Xadd, 16)];
        cases
            .map(|(workload, pipeline)| Case::closed(workload, 64, pipeline, 50))
            .into()
    }

    /// How long each case is measured for each contender in each round.
    #[must_use]
    pub fn duration(self) -> Duration {
        match self {
            Self::Smoke => Duration::from_millis(300),
            Self::Peers | Self::Full => Duration::from_millis(1_500),
        }
    }

    /// How many idle connections show what one takes.
    #[must_use]
    pub fn idle_connections(self) -> usize {
        match self {
            Self::Smoke => 100,
            Self::Peers => 1_000,
            Self::Full => 9_000,
        }
    }

    /// Its contenders.
    #[must_use]
    pub fn contenders(self) -> &'static [Contender] {
        Contender::value_variants()
    }
}
