//! How cost grows with size: the same work cut into pieces of several sizes. Each size has a contender of its own, which has done
//! nothing else: what it holds at most is what that size takes.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tars_sidecar::process::raise_descriptor_limit;
use tars_tests::server::Server;
use tars_tests::wait::PATIENCE;

use crate::contender::Contender;
use crate::load::{self, Load, Pace, Speech};
use crate::measured::Point;
use crate::report::number;
use crate::workload::{self, STREAM, Workload};

/// Longer than any of them takes.
const LIMIT: Duration = Duration::from_secs(120);

/// How long allocators and background threads may take to come to rest.
const REST: Duration = Duration::from_millis(100);

/// Descriptors that a proxy keeps for other things than connections: tars-proxy 192.
const OTHER_DESCRIPTORS: u64 = 200;

/// Entries that are stored at once.
const STORED_AT_ONCE: u64 = 1_000;

/// What grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Axis {
    /// A reply of entries, in bytes.
    Reply,
    /// Commands that are sent at once.
    Pipeline,
    /// Connections, with a request each.
    Connections,
}

/// Work that is cut into pieces of several sizes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Series {
    /// What grows.
    pub axis: Axis,
    /// What is sent.
    pub workload: Workload,
    /// Bytes of a value.
    pub value: usize,
    /// The sizes, from small to large.
    pub sizes: Vec<u64>,
    /// How much is done at each size: bytes, commands or requests. It is at least a piece of the largest size.
    pub total: u64,
}

impl Series {
    /// In words.
    #[must_use]
    pub fn title(&self) -> String {
        let name = self.workload.name();
        match self.axis {
            Axis::Reply => {
                let entry = number(self.entry() as f64, 0);
                format!("{name}, replies of entries of {entry} B")
            }
            Axis::Pipeline => format!("{name}, {} B, pipelines", self.value),
            Axis::Connections => format!("{name}, {} B, connections", self.value),
        }
    }

    /// As a part of a file's name.
    #[must_use]
    pub fn slug(&self) -> String {
        let name = self.workload.name().to_lowercase();
        match self.axis {
            Axis::Reply => format!("{name}-replies-{}", self.entry()),
            Axis::Pipeline => format!("{name}-pipelines"),
            Axis::Connections => format!("{name}-connections"),
        }
    }

    /// What costs are given for.
    #[must_use]
    pub fn unit(&self) -> &'static str {
        match self.axis {
            Axis::Reply => "MB",
            Axis::Pipeline => "command",
            Axis::Connections => "request",
        }
    }

    /// How many of them a piece of this size is.
    #[must_use]
    pub fn units(&self, size: u64) -> f64 {
        match self.axis {
            Axis::Reply => size as f64 / 1e6,
            Axis::Pipeline | Axis::Connections => size as f64,
        }
    }

    /// A size in words.
    #[must_use]
    pub fn size(&self, size: u64) -> String {
        match self.axis {
            Axis::Reply => format!("{} MB", self.units(size)),
            Axis::Pipeline | Axis::Connections => number(size as f64, 0),
        }
    }

    /// Bytes of an entry in a reply.
    fn entry(&self) -> u64 {
        workload::entry_bytes(self.value) as u64
    }

    /// Commands of a batch.
    fn pipeline(&self, size: u64) -> u32 {
        let commands = match self.axis {
            Axis::Reply => size / self.entry(),
            Axis::Pipeline => size,
            Axis::Connections => 1,
        };
        u32::try_from(commands).unwrap_or(u32::MAX)
    }

    /// The work, cut into pieces of this size.
    fn load(&self, size: u64) -> Load {
        let (connections, requests) = match self.axis {
            Axis::Reply => (1, self.total / self.entry()),
            Axis::Pipeline => (1, self.total),
            Axis::Connections => (size, self.total),
        };
        Load {
            speech: Speech::Redis {
                workload: self.workload,
                value: self.value,
                pipeline: self.pipeline(size),
            },
            connections: usize::try_from(connections).unwrap_or(usize::MAX),
            pace: Pace::Closed,
            warm_up: Duration::ZERO,
            duration: LIMIT,
            requests,
        }
    }
}

/// As many connections as a proxy can have, up to 10,000: it needs two descriptors for each. This process and those that it starts may
/// open as many from then on.
#[must_use]
pub fn most_connections() -> u64 {
    (raise_descriptor_limit().saturating_sub(OTHER_DESCRIPTORS) / 2).min(10_000)
}

/// Stores the entries that this series reads.
///
/// # Panics
/// If the server does not take them.
pub fn prepare(series: &Series, server: &Server) {
    if series.axis != Axis::Reply {
        return;
    }
    let mut client = server.connect();
    client.give_up_after(PATIENCE);
    let entries = series.total / series.entry();
    for first in (0..entries).step_by(usize::try_from(STORED_AT_ONCE).unwrap_or(1)) {
        let end = entries.min(first + STORED_AT_ONCE);
        client.send(workload::entries(series.value, first..end));
        for _ in first..end {
            let reply = client.reply();
            assert!(reply.starts_with(b"$12\r\n"), "an entry was not stored");
        }
    }
}

/// Does the work in pieces of this size through a contender that it starts.
///
/// # Errors
/// If the contender does not pass what is asked of it.
///
/// # Panics
/// If it does not start, or passes fewer bytes than it should.
pub fn measure(
    series: &Series,
    size: u64,
    contender: Contender,
    server: &Server,
    (upstream, collector): (SocketAddr, SocketAddr),
) -> Result<Point, load::Error> {
    server.connect().call(&["DEL", STREAM]);
    let started = contender.start(upstream, collector, &[]);
    let load = series.load(size);
    let before = started.usage();
    let spans = started.spans();
    let mut usages = Vec::with_capacity(2);
    let outcome = load::run(started.address, &load, || {
        if usages.is_empty() {
            thread::sleep(REST);
        }
        usages.push(started.usage());
    })?;
    let [open, done] = usages[..] else {
        unreachable!("a measured time has two edges");
    };
    if series.axis == Axis::Reply {
        let passed = outcome.received;
        assert!(passed >= series.total, "only {passed} bytes were read");
    }
    let spent = |from: crate::usage::Usage, to: crate::usage::Usage| {
        to.cpu.saturating_sub(from.cpu).as_secs_f64() * 1e6
    };
    let pieces =
        outcome.requests as f64 / load.connections as f64 / f64::from(series.pipeline(size));
    Ok(Point {
        size,
        cpu_micros: spent(open, done) / pieces / series.units(size),
        opened_micros: spent(before, open) / load.connections as f64,
        empty: before.resident,
        open: open.resident,
        peak: done.peak,
        exported: started
            .spans()
            .zip(spans)
            .and_then(|(after, before)| after.exported_since(before)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_is_the_same_work() {
        let replies = Series {
            axis: Axis::Reply,
            workload: Workload::Xrange,
            value: 875,
            sizes: vec![10_000, 1_000_000],
            total: 1_000_000,
        };
        let load = |size| {
            let load = replies.load(size);
            (replies.pipeline(size), load.connections, load.requests)
        };
        assert_eq!(load(10_000), (10, 1, 1_000));
        assert_eq!(load(1_000_000), (1_000, 1, 1_000));
        assert_eq!(replies.title(), "XRANGE, replies of entries of 1,000 B");
        assert_eq!(replies.size(10_000), "0.01 MB");
        let connections = Series {
            axis: Axis::Connections,
            total: 500,
            ..replies
        };
        assert_eq!(connections.load(100).connections, 100);
        assert_eq!(connections.size(1_000), "1,000");
    }
}
