//! A run: in each round every contender is started, its memory looked at, and every case measured, one contender after the other
//! and each time beginning with another one, so that whatever else happens on the machine meets all alike.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{fs, thread};

use tars_tests::address::Address;
use tars_tests::port::Port;
use tars_tests::process::Process;
use tars_tests::resp::Client;
use tars_tests::server::{Kind, Server};
use tars_tests::wait::{self, PATIENCE};

use crate::contender::{Contender, Running};
use crate::load::{self, Load};
use crate::measured::{Latency, Machine, Measured, Memory, Run, Sample};
use crate::plan::{Case, Plan};
use crate::workload::Workload;

/// Before anything counts.
const WARM_UP: Duration = Duration::from_millis(300);

/// More than any plan opens. A relay needs two descriptors a client, and 20,000 are a common limit.
const MAX_CLIENTS: &str = "9500";

/// What failed, and where.
#[derive(Debug, thiserror::Error)]
#[error("{}, {}: {error}", contender.name(), case.title())]
pub struct Error {
    contender: Contender,
    case: Case,
    error: load::Error,
}

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The cases.
    pub plan: Plan,
    /// How often each case is measured.
    pub rounds: usize,
    /// Which contenders; the direct way is always among them.
    pub contenders: Vec<Contender>,
}

/// Runs it; `progress` is told what is about to be measured.
///
/// # Errors
/// If a contender does not pass what is asked of it.
///
/// # Panics
/// If a part is missing or does not start.
pub fn run(options: &Options, mut progress: impl FnMut(&str)) -> Result<Run, Error> {
    let began = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let clock = Instant::now();
    let machine = machine();
    let (server, upstream) = redis();
    let (_sink, collector) = sink();
    let mut contenders = options.contenders.clone();
    contenders.push(Contender::Direct);
    contenders.sort();
    contenders.dedup();
    let mut cases: Vec<Measured> = options
        .plan
        .cases()
        .into_iter()
        .map(|case| Measured {
            case,
            samples: BTreeMap::new(),
        })
        .collect();
    let mut memory: BTreeMap<Contender, Vec<Memory>> = BTreeMap::new();
    for round in 0..options.rounds {
        let said = |what: &str| format!("round {} of {}: {what}", round + 1, options.rounds);
        let mut running = BTreeMap::new();
        for &contender in &contenders {
            progress(&said(&format!("{}, memory", contender.name())));
            let started = contender.start(upstream, collector, &[]);
            if contender != Contender::Direct {
                let held = idle(&started, options.plan.idle_connections());
                memory.entry(contender).or_default().push(held);
            }
            running.insert(contender, started);
        }
        for (n, measured) in cases.iter_mut().enumerate() {
            let mut samples = BTreeMap::new();
            let first = (round + n) % contenders.len();
            let (after, before) = contenders.split_at(first);
            for &contender in before.iter().chain(after) {
                if measured.case.workload == Workload::Path && !contender.has_groups() {
                    continue;
                }
                let Some(running) = running.get(&contender) else {
                    continue;
                };
                let title = measured.case.title();
                progress(&said(&format!("{}: {title}", contender.name())));
                server.connect().call(&["FLUSHALL", "SYNC"]);
                let sample = measure(&measured.case, options.plan.duration(), running);
                let sample = sample.map_err(|error| Error {
                    contender,
                    case: measured.case.clone(),
                    error,
                })?;
                samples.insert(contender, sample);
            }
            let direct = samples.get(&Contender::Direct).map_or(0.0, |s| s.rate);
            for (contender, mut sample) in samples {
                sample.ratio = sample.rate / direct;
                measured.samples.entry(contender).or_default().push(sample);
            }
        }
    }
    let versions = contenders
        .iter()
        .filter_map(|&contender| Some((contender, contender.version()?)));
    Ok(Run {
        plan: format!("{:?}", options.plan).to_lowercase(),
        began: began.as_secs(),
        seconds: clock.elapsed().as_secs(),
        machine,
        versions: versions.collect(),
        cases,
        memory,
    })
}

/// Starts the server behind all contenders.
pub(crate) fn redis() -> (Server, SocketAddr) {
    let server = Server::builder(Kind::Redis70)
        .args(["--maxclients", MAX_CLIENTS])
        .start();
    let Address::Tcp(upstream) = server.address() else {
        unreachable!("the server was not asked for a Unix socket");
    };
    let upstream = upstream.parse().expect("a server's address is one");
    (server, upstream)
}

fn measure(case: &Case, duration: Duration, through: &Running) -> Result<Sample, load::Error> {
    let load = Load {
        workload: case.workload,
        value: case.value,
        pipeline: case.pipeline,
        connections: case.connections,
        pace: case.pace,
        warm_up: WARM_UP,
        duration,
        requests: u64::MAX,
    };
    let mut usages = Vec::with_capacity(2);
    let outcome = load::run(through.address, &load, || usages.push(through.usage()))?;
    let [before, after] = usages[..] else {
        unreachable!("a measured time has two edges");
    };
    let requests = outcome.requests.max(1) as f64;
    let quantile = |q| outcome.latency.value_at_quantile(q) as f64;
    Ok(Sample {
        rate: outcome.requests as f64 / outcome.elapsed.as_secs_f64(),
        ratio: 0.0,
        cpu_micros: after.cpu.saturating_sub(before.cpu).as_secs_f64() * 1e6 / requests,
        resident: after.resident,
        latency: Latency {
            p50: quantile(0.5),
            p99: quantile(0.99),
            p999: quantile(0.999),
        },
    })
}

/// Looks at the memory of a contender that has just been started, and again with connections open.
fn idle(through: &Running, connections: usize) -> Memory {
    let address = Address::Tcp(through.address.to_string());
    let ping = || {
        let mut client = Client::connect(&address);
        client.send(b"*1\r\n$4\r\nPING\r\n");
        assert_eq!(client.reply(), b"+PONG\r\n");
        client
    };
    drop(ping());
    let empty = through.usage().resident;
    let open: Vec<Client> = (0..connections).map(|_| ping()).collect();
    // Allocators and background threads come to rest.
    thread::sleep(Duration::from_millis(100));
    let idle = through.usage().resident;
    drop(open);
    Memory {
        empty,
        connections,
        idle,
    }
}

/// Starts the collector, in a process of its own.
pub(crate) fn sink() -> (Process, SocketAddr) {
    let port = Port::claim();
    let this = std::env::current_exe().expect("this program knows where it is");
    let process = Process::start(&this, |command| {
        command.args(["sink", &port.addr()]);
    });
    let address = Address::Tcp(port.addr());
    wait::until("the collector listens", PATIENCE, || address.connect().ok());
    (process, ([127, 0, 0, 1], port.number()).into())
}

fn machine() -> Machine {
    let read = |path: &str| -> io::Result<String> { fs::read_to_string(path) };
    let processor = read("/proc/cpuinfo").unwrap_or_default();
    let name = processor
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let kernel = read("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = read("/proc/loadavg").unwrap_or_default();
    Machine {
        processor: name.map_or_else(String::new, |(_, name)| name.to_owned()),
        cores: thread::available_parallelism().map_or(1, usize::from),
        kernel: kernel.trim().to_owned(),
        load: load
            .split(' ')
            .next()
            .and_then(|text| text.parse().ok())
            .unwrap_or(0.0),
    }
}
