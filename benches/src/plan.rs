//! Which cases are run, by name.

use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::contender::Contender;
use crate::linear::{Axis, Series, most_connections};
use crate::load::{Pace, Speech};
use crate::report::number;
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

    const fn open(workload: Workload, pipeline: u32, connections: usize, rate: f64) -> Self {
        Self {
            workload,
            value: 64,
            pipeline,
            connections,
            pace: Pace::Open(rate),
        }
    }

    /// What its connections say.
    #[must_use]
    pub fn speech(&self) -> Speech {
        Speech::Redis {
            workload: self.workload,
            value: self.value,
            pipeline: self.pipeline,
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
            Pace::Open(rate) => format!(", {} batches a second", number(rate, 0)),
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
    /// Replies, pipelines and connections from small to large: how cost grows. In under 5 minutes.
    Linear,
    /// A few seconds, to see that everything starts.
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
            // At a rate at which every span can be exported.
            Case::open(Xadd, 16, 50, 2_000.0),
            Case::open(Path, 16, 50, 2_000.0),
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
            Case::open(Get, 1, 50, 5_000.0),
            Case::open(Xadd, 1, 50, 5_000.0),
            Case::open(Get, 1, 1000, 5_000.0),
        ];
        match self {
            Self::Peers => peers.into(),
            Self::Full => peers.into_iter().chain(more).collect(),
            Self::Linear => Vec::new(),
            Self::Smoke => vec![Case::closed(Xadd, 64, 16, 2), Case::open(Path, 1, 2, 300.0)],
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

    /// What grows in it.
    #[must_use]
    pub fn series(self) -> Vec<Series> {
        use Workload::{Get, Xadd, Xrange, Xreadgroup};
        let decades = |from: u64, to: u64| -> Vec<u64> {
            std::iter::successors(Some(from), |size| Some(size * 10))
                .take_while(|size| *size <= to)
                .collect()
        };
        let series = |axis, workload, value, sizes: Vec<u64>, total| Series {
            axis,
            workload,
            value,
            sizes,
            total,
        };
        // Entries of 1,000 and of 200 bytes in a reply.
        let (large, small) = (875, 76);
        match self {
            Self::Peers | Self::Full => Vec::new(),
            Self::Linear => {
                let (mb, replies) = (1_000_000, || decades(1_000_000, 100_000_000));
                let pipelines = || decades(10, 100_000);
                let mut connections = decades(1, 1_000);
                connections.push(most_connections());
                vec![
                    series(Axis::Reply, Xrange, large, replies(), 100 * mb),
                    series(Axis::Reply, Xreadgroup, large, replies(), 100 * mb),
                    series(Axis::Reply, Xreadgroup, small, replies(), 100 * mb),
                    series(Axis::Pipeline, Get, 64, pipelines(), 100_000),
                    series(Axis::Pipeline, Xadd, 64, pipelines(), 100_000),
                    series(Axis::Connections, Xadd, 64, connections, 10_000),
                ]
            }
            Self::Smoke => vec![
                series(
                    Axis::Reply,
                    Xreadgroup,
                    large,
                    decades(10_000, 100_000),
                    100_000,
                ),
                series(Axis::Pipeline, Xadd, 64, decades(10, 100), 100),
                series(Axis::Connections, Xadd, 64, decades(1, 10), 100),
            ],
        }
    }

    /// How long each case is measured for each contender in each round.
    #[must_use]
    pub fn duration(self) -> Duration {
        match self {
            Self::Smoke => Duration::from_millis(300),
            _ => Duration::from_secs(1),
        }
    }

    /// How often everything is measured, where nothing else is asked for.
    #[must_use]
    pub fn rounds(self) -> u16 {
        match self {
            Self::Smoke => 1,
            Self::Linear => 4,
            Self::Peers | Self::Full => 5,
        }
    }

    /// How many idle connections show what one takes.
    #[must_use]
    pub fn idle_connections(self) -> usize {
        match self {
            Self::Smoke => 100,
            Self::Peers => 1_000,
            Self::Full => 9_000,
            Self::Linear => 0,
        }
    }

    /// How long a command waits in the server to show whether others wait too.
    #[must_use]
    pub fn block(self) -> Duration {
        match self {
            Self::Smoke => Duration::from_millis(200),
            Self::Peers | Self::Full => Duration::from_secs(2),
            Self::Linear => Duration::ZERO,
        }
    }

    /// Its contenders.
    #[must_use]
    pub fn contenders(self) -> &'static [Contender] {
        use Contender::{BareRelay, Tars100Percent, TarsUnsampled};
        match self {
            Self::Linear => &[BareRelay, TarsUnsampled, Tars100Percent],
            _ => Contender::value_variants(),
        }
    }
}
