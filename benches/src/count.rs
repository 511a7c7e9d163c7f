//! What does not depend on how busy the machine is: system calls of a request (strace), and user instructions (callgrind).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tars_tests::process::{Process, Signal};
use tars_tests::wait::PATIENCE;

use crate::contender::Contender;
use crate::load::{self, Load};
use crate::measured::Run;
use crate::plan::{Case, Plan};
use crate::run::{begin, redis, sink, versions};

/// Requests between two looks, with strace.
const TRACED: u64 = 40_000;

/// Before anything is counted with strace.
const WARM_UP: Duration = Duration::from_millis(300);

/// Requests of the shorter and of the longer run under callgrind: what the start costs cancels out.
const SHORT: u64 = 20_000;
const LONG: u64 = 60_000;

/// Longer than any of them takes.
const LIMIT: Duration = Duration::from_secs(300);

/// What one contender needs for one request of a case.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Counts {
    /// Who.
    pub contender: Contender,
    /// What.
    pub case: Case,
    /// System calls of a request, by name.
    pub calls: BTreeMap<String, f64>,
    /// Those of them that failed, by name: of reads, those for which nothing was there (EAGAIN).
    pub failed: BTreeMap<String, f64>,
    /// User instructions of a request.
    pub instructions: f64,
}

impl Counts {
    /// All system calls of a request.
    #[must_use]
    pub fn all_calls(&self) -> f64 {
        self.calls.values().sum()
    }

    /// Reads of a request for which nothing was there.
    #[must_use]
    pub fn vain_reads(&self) -> f64 {
        let reads = ["read", "readv", "recvfrom", "recvmsg"];
        let vain = reads.iter().filter_map(|name| self.failed.get(*name));
        // A sum of nothing is -0.
        vain.sum::<f64>().abs()
    }
}

/// Counts for every contender, by case.
///
/// # Errors
/// If a contender does not pass what is asked of it.
///
/// # Panics
/// If a part is missing.
pub fn run(contenders: &[Contender], mut progress: impl FnMut(&str)) -> Result<Run, load::Error> {
    let mut run = begin("count");
    let clock = Instant::now();
    let (server, upstream) = redis();
    let (_sink, collector) = sink();
    for case in Plan::counted() {
        for &contender in contenders {
            progress(&format!("{}: {}", contender.name(), case.title()));
            server.connect().call(&["FLUSHALL", "SYNC"]);
            let (calls, failed) = system_calls(contender, &case, upstream, collector)?;
            let executed = |requests| {
                server.connect().call(&["FLUSHALL", "SYNC"]);
                executed(contender, &case, requests, upstream, collector)
            };
            let (short, long) = (executed(SHORT)?, executed(LONG)?);
            run.counts.push(Counts {
                contender,
                case: case.clone(),
                calls,
                failed,
                instructions: (long.0 - short.0) / (long.1 - short.1),
            });
        }
    }
    run.seconds = clock.elapsed().as_secs();
    run.versions = versions(contenders);
    Ok(run)
}

fn load(case: &Case, warm_up: Duration, requests: u64) -> Load {
    Load {
        speech: case.speech(),
        connections: case.connections,
        pace: case.pace,
        warm_up,
        duration: LIMIT,
        requests,
    }
}

/// Of a request, by name.
type Calls = BTreeMap<String, f64>;

/// System calls of a request, and those of them that failed. They are counted once every connection is in use.
fn system_calls(
    contender: Contender,
    case: &Case,
    upstream: SocketAddr,
    collector: SocketAddr,
) -> Result<(Calls, Calls), load::Error> {
    let mut running = contender.start(upstream, collector, &[]);
    let id = running.process().map_or(0, |process| process.id());
    let mut strace: Option<Process> = None;
    let outcome = load::run(running.address, &load(case, WARM_UP, TRACED), || {
        if let Some(strace) = &mut strace {
            strace.signal(Signal::INT);
            return;
        }
        let mut started = Process::start(Path::new("strace"), |command| {
            command.args(["-f", "-c", "-p", &id.to_string()]);
        });
        started.wait_until("it traces", PATIENCE, |strace| {
            strace.stderr().contains("attached").then_some(())
        });
        strace = Some(started);
    })?;
    let sent = outcome.requests as f64;
    let said = strace.map_or_else(String::new, |mut strace| {
        strace.wait_exit(PATIENCE);
        strace.stderr()
    });
    let (mut calls, mut failed) = (Calls::new(), Calls::new());
    for line in said.lines() {
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
            let errors = errors.parse::<f64>().unwrap_or(0.0);
            failed.insert((*name).to_owned(), errors / sent);
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
    let sent = load::run(
        running.address,
        &load(case, Duration::ZERO, requests),
        || {},
    )?
    .requests;
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
