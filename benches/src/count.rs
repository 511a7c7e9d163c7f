//! What does not depend on how busy the machine is: system calls of a request (strace), and user instructions (callgrind).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tars_tests::process::{Process, Signal};
use tars_tests::wait::PATIENCE;

use crate::contender::{Contender, Running};
use crate::load::{self, Load};
use crate::plan::Case;
use crate::run::{redis, sink};

/// Requests between two looks, with strace.
const TRACED: u64 = 40_000;

/// Requests of the shorter and of the longer run under callgrind: what the start costs cancels out.
const SHORT: u64 = 20_000;
const LONG: u64 = 60_000;

/// Longer than any of them takes.
const LIMIT: Duration = Duration::from_secs(300);

/// What one contender needs for one request of a case.
#[derive(Debug)]
pub struct Counts {
    /// Who.
    pub contender: Contender,
    /// What.
    pub case: Case,
    /// System calls of a request, by name.
    pub calls: BTreeMap<String, f64>,
    /// Those of them that failed: mostly reads for which nothing was there (EAGAIN).
    pub failed: f64,
    /// User instructions of a request.
    pub instructions: f64,
}

/// Counts for every contender and case.
///
/// # Errors
/// If a contender does not pass what is asked of it.
///
/// # Panics
/// If a part is missing.
pub fn run(
    contenders: &[Contender],
    cases: &[Case],
    mut progress: impl FnMut(&str),
) -> Result<Vec<Counts>, load::Error> {
    let (server, upstream) = redis();
    let (_sink, collector) = sink();
    let mut all = Vec::new();
    for case in cases {
        for &contender in contenders {
            progress(&format!("{}: {}", contender.name(), case.title()));
            server.connect().call(&["FLUSHALL", "SYNC"]);
            let (calls, failed) = system_calls(contender, case, upstream, collector)?;
            let executed = |requests| {
                server.connect().call(&["FLUSHALL", "SYNC"]);
                executed(contender, case, requests, upstream, collector)
            };
            let (short, long) = (executed(SHORT)?, executed(LONG)?);
            all.push(Counts {
                contender,
                case: case.clone(),
                calls,
                failed,
                instructions: (long.0 - short.0) / (long.1 - short.1),
            });
        }
    }
    Ok(all)
}

fn send(case: &Case, through: &Running, requests: u64) -> Result<u64, load::Error> {
    let load = Load {
        workload: case.workload,
        value: case.value,
        pipeline: case.pipeline,
        connections: case.connections,
        pace: case.pace,
        warm_up: Duration::ZERO,
        duration: LIMIT,
        requests,
    };
    Ok(load::run(through.address, &load, || {})?.requests)
}

fn system_calls(
    contender: Contender,
    case: &Case,
    upstream: SocketAddr,
    collector: SocketAddr,
) -> Result<(BTreeMap<String, f64>, f64), load::Error> {
    let mut running = contender.start(upstream, collector, &[]);
    let id = running.process().map_or(0, |process| process.id());
    let mut strace = Process::start(Path::new("strace"), |command| {
        command.args(["-f", "-c", "-p", &id.to_string()]);
    });
    strace.wait_until("it traces", PATIENCE, |strace| {
        strace.stderr().contains("attached").then_some(())
    });
    let sent = send(case, &running, TRACED)? as f64;
    strace.signal(Signal::INT);
    strace.wait_exit(PATIENCE);
    let mut calls = BTreeMap::new();
    let mut failed = 0.0;
    for line in strace.stderr().lines() {
        // % time, seconds, usecs/call, calls, errors if there were any, syscall
        let columns: Vec<&str> = line.split_whitespace().collect();
        let (Some(count), Some(name)) = (columns.get(3), columns.last()) else {
            continue;
        };
        let (Ok(count), true) = (count.parse::<f64>(), *name != "total") else {
            continue;
        };
        calls.insert((*name).to_owned(), count / sent);
        if let [_, _, _, _, errors, _] = columns[..] {
            failed += errors.parse::<f64>().unwrap_or(0.0) / sent;
        }
    }
    Ok((calls, failed))
}

/// All user instructions of a contender's life, and the requests that it passed in it.
fn executed(
    contender: Contender,
    case: &Case,
    requests: u64,
    upstream: SocketAddr,
    collector: SocketAddr,
) -> Result<(f64, f64), load::Error> {
    let valgrind = [
        "valgrind",
        "--tool=callgrind",
        "--callgrind-out-file=/dev/null",
    ];
    let mut running = contender.start(upstream, collector, &valgrind);
    let sent = send(case, &running, requests)?;
    let Some(process) = running.process() else {
        return Ok((0.0, 0.0));
    };
    process.signal(Signal::TERM);
    process.wait_exit(PATIENCE);
    let said = process.stderr();
    let collected = said.lines().find_map(|line| {
        line.split_once("Collected : ")?
            .1
            .trim()
            .parse::<f64>()
            .ok()
    });
    let collected =
        collected.unwrap_or_else(|| panic!("callgrind did not say what it counted:\n{said}"));
    Ok((collected, sent as f64))
}
