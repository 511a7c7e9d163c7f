//! A run: in each round every contender is started, its memory looked at, and every case measured, one contender after the other
//! and each time beginning with another one, so that whatever else happens on the machine meets all alike. So it is with curves, one
//! after the other.

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

use crate::blocking;
use crate::contender::{Contender, Running};
use crate::linear;
use crate::load::{self, Load};
use crate::measured::{Curve, Latency, Machine, Measured, Memory, Point, Run, Sample};
use crate::plan::{Case, Plan};

/// Before anything counts.
const WARM_UP: Duration = Duration::from_millis(300);

/// More than any plan opens.
const MAX_CLIENTS: &str = "10000";

/// What failed, and where.
#[derive(Debug, thiserror::Error)]
#[error("{}, {what}: {error}", contender.name())]
pub struct Error {
    contender: Contender,
    what: String,
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
    let plan = options.plan;
    let mut run = begin(&format!("{plan:?}").to_lowercase());
    let clock = Instant::now();
    run.cases = plan.cases().into_iter().map(Measured::new).collect();
    run.curves = plan.series().into_iter().map(Curve::new).collect();
    let (server, upstream) = redis();
    let (_sink, collector) = sink();
    let mut contenders = options.contenders.clone();
    contenders.push(Contender::Direct);
    contenders.sort();
    contenders.dedup();
    let parts = Parts {
        plan,
        server,
        upstream,
        collector,
        contenders,
    };
    for round in 0..options.rounds {
        let mut said = |what: &str| {
            progress(&format!(
                "round {} of {}: {what}",
                round + 1,
                options.rounds
            ));
        };
        if !run.cases.is_empty() {
            parts.cases(&mut run, round, &mut said)?;
        }
    }
    // One after the other, so that what is stored for one of them is not there for the others.
    for (n, curve) in run.curves.iter_mut().enumerate() {
        parts.server.connect().call(&["FLUSHALL", "SYNC"]);
        linear::prepare(&curve.series, &parts.server);
        for round in 0..options.rounds {
            let mut said = |what: &str| {
                progress(&format!(
                    "round {} of {}: {what}",
                    round + 1,
                    options.rounds
                ));
            };
            parts.curve(curve, n + round, &mut said)?;
        }
    }
    run.versions = versions(&parts.contenders);
    run.seconds = clock.elapsed().as_secs();
    Ok(run)
}

/// A run in which nothing has been measured yet.
#[must_use]
pub fn begin(plan: &str) -> Run {
    let began = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Run {
        plan: plan.to_owned(),
        began: began.as_secs(),
        seconds: 0,
        machine: machine(),
        versions: BTreeMap::new(),
        cases: Vec::new(),
        memory: BTreeMap::new(),
        blocking: BTreeMap::new(),
        curves: Vec::new(),
        counts: Vec::new(),
    }
}

/// What contenders say of their versions.
pub(crate) fn versions(of: &[Contender]) -> BTreeMap<Contender, String> {
    let versions = of.iter();
    versions
        .filter_map(|&contender| Some((contender, contender.version()?)))
        .collect()
}

/// What a run needs.
struct Parts {
    plan: Plan,
    server: Server,
    upstream: SocketAddr,
    collector: SocketAddr,
    contenders: Vec<Contender>,
}

impl Parts {
    /// All contenders, each time beginning with another one.
    fn turn(&self, first: usize) -> impl Iterator<Item = Contender> {
        let (after, before) = self.contenders.split_at(first % self.contenders.len());
        before.iter().chain(after).copied()
    }

    /// One round of all cases, with the same process of a contender for all of them.
    fn cases(&self, run: &mut Run, round: usize, said: &mut impl FnMut(&str)) -> Result<(), Error> {
        let mut running = BTreeMap::new();
        for &contender in &self.contenders {
            said(&format!("{}, memory", contender.name()));
            let started = contender.start(self.upstream, self.collector, &[]);
            if contender != Contender::Direct {
                let held = idle(&started, self.plan.idle_connections());
                run.memory.entry(contender).or_default().push(held);
            }
            running.insert(contender, started);
        }
        for (n, measured) in run.cases.iter_mut().enumerate() {
            let title = measured.case.title();
            let mut samples = BTreeMap::new();
            for contender in self.turn(round + n) {
                if measured.case.workload.has_groups() && !contender.has_groups() {
                    continue;
                }
                let Some(running) = running.get(&contender) else {
                    continue;
                };
                said(&format!("{}: {title}", contender.name()));
                self.server.connect().call(&["FLUSHALL", "SYNC"]);
                let sample = measure(&measured.case, self.plan.duration(), running)
                    .map_err(|error| Error::of(contender, &title, error))?;
                samples.insert(contender, sample);
            }
            let direct = samples.get(&Contender::Direct).map_or(0.0, |s| s.rate);
            for (contender, mut sample) in samples {
                sample.ratio = sample.rate / direct;
                measured.samples.entry(contender).or_default().push(sample);
            }
        }
        for contender in self.turn(round).filter(|contender| contender.has_groups()) {
            let Some(running) = running.get(&contender) else {
                continue;
            };
            let title = "others beside a read that waits";
            said(&format!("{}: {title}", contender.name()));
            let seen = blocking::measure(running, self.plan.block())
                .map_err(|error| Error::of(contender, title, error))?;
            run.blocking.entry(contender).or_default().push(seen);
        }
        Ok(())
    }

    /// One round of a curve.
    fn curve(
        &self,
        curve: &mut Curve,
        turn: usize,
        said: &mut impl FnMut(&str),
    ) -> Result<(), Error> {
        let series = &curve.series;
        let mut points: BTreeMap<Contender, Vec<Point>> = BTreeMap::new();
        for (n, &size) in series.sizes.iter().enumerate() {
            for contender in self.turn(turn + n) {
                if contender == Contender::Direct
                    || series.workload.has_groups() && !contender.has_groups()
                {
                    continue;
                }
                let title = format!("{}, {}", series.title(), series.size(size));
                said(&format!("{}: {title}", contender.name()));
                let addresses = (self.upstream, self.collector);
                let point = linear::measure(series, size, contender, &self.server, addresses)
                    .map_err(|error| Error::of(contender, &title, error))?;
                points.entry(contender).or_default().push(point);
            }
        }
        for (contender, points) in points {
            curve.points.entry(contender).or_default().push(points);
        }
        Ok(())
    }
}

impl Error {
    fn of(contender: Contender, what: &str, error: load::Error) -> Self {
        Self {
            contender,
            what: what.to_owned(),
            error,
        }
    }
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
        speech: case.speech(),
        connections: case.connections,
        pace: case.pace,
        warm_up: WARM_UP,
        duration,
        requests: u64::MAX,
    };
    let mut usages = Vec::with_capacity(2);
    let spans = through.spans();
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
        exported: through
            .spans()
            .zip(spans)
            .and_then(|(after, before)| after.exported_since(before)),
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

pub(crate) fn machine() -> Machine {
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
