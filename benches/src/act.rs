//! Asking an agent for actions, beside a bare axum (`bare_axum.rs`) that takes and gives as many bytes: by the same client, in the same
//! rounds. The echo has a thread a processor, the agent what it has by default.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tars_tests::address::Address;
use tars_tests::http::{Response, get, post};
use tars_tests::port::Port;
use tars_tests::process::{Process, Signal};
use tars_tests::wait::PATIENCE;
use tempfile::TempDir;

use crate::contender::beside;
use crate::http;
use crate::load::{self, Load, Pace, Speech};
use crate::measured::{Latency, Machine, Spread};
use crate::run::machine;
use crate::usage;

mod feeder;

/// Before anything counts.
const WARM_UP: Duration = Duration::from_millis(500);
/// How long a case is measured: long enough for 30 requests above p99 at [`RATE`]. More rounds meet what else happens on the machine better than longer ones.
const DURATION: Duration = Duration::from_secs(3);
/// Requests a second in open loop.
const RATE: f64 = 1_000.0;
/// Over so many connections.
const OPEN: usize = 4;
/// Connections in closed loop.
const CLOSED: usize = 16;
/// Observations of a batch.
const ROWS: usize = 64;
/// Requests of the shorter and of the longer run under callgrind: what the start costs cancels out.
const SHORT: u64 = 2_000;
const LONG: u64 = 10_000;
/// The priority with which the service learns.
const NICE: &str = "10";
/// What the agent is called.
const NAME: &str = "bench";

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Case {
    /// One observation a request, at a fixed rate.
    Steady,
    /// The same, while experience comes and a thread computes: the agent learns.
    Learning,
    /// One observation a request, as many as can be answered.
    Full,
    /// Many observations a request, as many as can be answered.
    Batch,
}

impl Case {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Steady, Self::Learning, Self::Full, Self::Batch];

    /// In words.
    #[must_use]
    pub fn title(self) -> String {
        match self {
            Self::Steady => format!("1 observation, {RATE} requests a second, {OPEN} connections"),
            Self::Learning => format!("{}, while it learns", Self::Steady.title()),
            Self::Full => format!("1 observation, {CLOSED} connections, closed loop"),
            Self::Batch => format!("{ROWS} observations, {CLOSED} connections, closed loop"),
        }
    }

    /// Whether its latencies mean something.
    #[must_use]
    pub fn shows_latency(self) -> bool {
        matches!(self, Self::Steady | Self::Learning)
    }

    fn rows(self) -> usize {
        if self == Self::Batch { ROWS } else { 1 }
    }

    fn load(self, request: Vec<u8>, duration: Duration) -> Load {
        let (connections, pace) = if self.shows_latency() {
            (OPEN, Pace::Open(RATE))
        } else {
            (CLOSED, Pace::Closed)
        };
        Load {
            speech: Speech::Http(request.into()),
            connections,
            pace,
            warm_up: WARM_UP,
            duration,
            requests: u64::MAX,
        }
    }
}

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Server {
    /// The echo.
    Axum,
    /// The service.
    Agent,
}

impl Server {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Axum, Self::Agent];

    /// As it is written in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Axum => "bare axum, echo",
            Self::Agent => "tars-agent, act",
        }
    }
}

/// One server in one round.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Sample {
    /// Requests a second.
    pub rate: f64,
    /// Processor time of the server for one of them, in microseconds; that of learning is in it.
    pub cpu_micros: f64,
    /// From when a request was due.
    pub latency: Latency,
    /// Updates a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updates: Option<f64>,
}

/// Everything of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    /// Seconds from 1970 to its begin.
    pub began: u64,
    /// How long it took.
    pub seconds: u64,
    /// Where.
    pub machine: Machine,
    /// Samples in the order of rounds.
    pub cases: BTreeMap<Case, BTreeMap<Server, Vec<Sample>>>,
    /// User instructions of a request, where they were counted.
    #[serde(default)]
    pub instructions: BTreeMap<Case, BTreeMap<Server, f64>>,
}

impl Run {
    /// A figure of a server over the rounds.
    pub fn spread(
        &self,
        case: Case,
        of: Server,
        figure: impl Fn(&Sample) -> f64,
    ) -> Option<Spread> {
        Spread::of(self.cases.get(&case)?.get(&of)?.iter().map(figure))
    }

    /// The agent's figure in a case, divided by that of a server in another case of the same round.
    pub fn against(
        &self,
        case: Case,
        (other, server): (Case, Server),
        figure: impl Fn(&Sample) -> f64,
    ) -> Option<Spread> {
        let agent = self.cases.get(&case)?.get(&Server::Agent)?;
        let other = self.cases.get(&other)?.get(&server)?;
        Spread::of(
            agent
                .iter()
                .zip(other)
                .map(|(one, other)| figure(one) / figure(other)),
        )
    }
}

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How often each case is measured.
    pub rounds: usize,
    /// How long each time.
    pub duration: Duration,
    /// Whether instructions are counted, by callgrind.
    pub instructions: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            rounds: 9,
            duration: DURATION,
            instructions: true,
        }
    }
}

/// Runs it; `progress` is told what is about to be measured.
///
/// # Errors
/// If a server does not answer what it should.
///
/// # Panics
/// If a part is missing or does not start.
pub fn run(options: &Options, mut progress: impl FnMut(&str)) -> Result<Run, load::Error> {
    let began = SystemTime::now().duration_since(UNIX_EPOCH);
    let clock = Instant::now();
    let mut run = Run {
        began: began.map_or(0, |began| began.as_secs()),
        seconds: 0,
        machine: machine(),
        cases: BTreeMap::new(),
        instructions: BTreeMap::new(),
    };
    for round in 0..options.rounds {
        for (n, case) in Case::ALL.into_iter().enumerate() {
            // Each time beginning with the other one.
            let mut servers = Server::ALL;
            servers.rotate_left((round + n) % 2);
            for server in servers {
                let what = format!("{}: {}", server.name(), case.title());
                progress(&format!(
                    "round {} of {}: {what}",
                    round + 1,
                    options.rounds
                ));
                let sample = measure(case, server, options.duration)?;
                let samples = run.cases.entry(case).or_default();
                samples.entry(server).or_default().push(sample);
            }
        }
    }
    // Not of batches: callgrind takes minutes for what they compute.
    let case = Case::Full;
    for server in Server::ALL.into_iter().filter(|_| options.instructions) {
        progress(&format!(
            "{}: instructions, {}",
            server.name(),
            case.title()
        ));
        let (short, long) = (
            executed(case, server, SHORT)?,
            executed(case, server, LONG)?,
        );
        let each = (long.0 - short.0) / (long.1 - short.1);
        let counted = run.instructions.entry(case).or_default();
        counted.insert(server, each);
    }
    run.seconds = clock.elapsed().as_secs();
    Ok(run)
}

fn measure(case: Case, server: Server, duration: Duration) -> Result<Sample, load::Error> {
    let running = Running::start(server, case == Case::Learning, &[]);
    let load = case.load(running.request(case.rows()), duration);
    let feeder = (case == Case::Learning).then(|| feeder::Feeder::start(&running));
    let mut edges = Vec::with_capacity(2);
    let outcome = load::run(running.address, &load, || {
        edges.push((usage::of(running.process.id()), running.updates()));
    })?;
    drop(feeder);
    let [(before, updates), (after, more)] = edges[..] else {
        unreachable!("a measured time has two edges");
    };
    let seconds = outcome.elapsed.as_secs_f64();
    let updates = (server == Server::Agent && case == Case::Learning)
        .then(|| (more - updates) as f64 / seconds);
    assert!(updates != Some(0.0), "it has not learnt");
    let quantile = |q| outcome.latency.value_at_quantile(q) as f64;
    Ok(Sample {
        rate: outcome.requests as f64 / seconds,
        cpu_micros: after.cpu.saturating_sub(before.cpu).as_secs_f64() * 1e6
            / outcome.requests.max(1) as f64,
        latency: Latency {
            p50: quantile(0.5),
            p99: quantile(0.99),
            p999: quantile(0.999),
        },
        updates,
    })
}

/// All user instructions of a server's life, and the requests that it answered in it.
fn executed(case: Case, server: Server, requests: u64) -> Result<(f64, f64), load::Error> {
    let valgrind = [
        "valgrind",
        "--tool=callgrind",
        "--callgrind-out-file=/dev/null",
    ];
    let mut running = Running::start(server, false, &valgrind);
    let load = Load {
        requests,
        warm_up: Duration::ZERO,
        // One after the other: threads that look for work are not what is counted.
        connections: 1,
        ..case.load(running.request(case.rows()), PATIENCE * 10)
    };
    let sent = load::run(running.address, &load, || {})?.requests;
    running.process.signal(Signal::TERM);
    running.process.wait_exit(PATIENCE);
    let said = running.process.stderr();
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

/// A server that runs; dropping it ends it.
struct Running {
    server: Server,
    address: SocketAddr,
    process: Process,
    _ports: [Port; 2],
    _data: TempDir,
}

impl Running {
    /// Starts it; in a `busy` echo a thread computes. A command line given as `under` runs it.
    fn start(server: Server, busy: bool, under: &[&str]) -> Self {
        let ports = [Port::claim(), Port::claim()];
        let [listen, admin] = &ports;
        let data = tempfile::tempdir().expect("a temporary folder can be made");
        let workers = thread::available_parallelism()
            .map_or(1, usize::from)
            .min(4);
        let binary = beside(match server {
            Server::Axum => "bare-axum",
            Server::Agent => "tars-agent",
        });
        let program = under.first().map_or(binary.as_path(), Path::new);
        let mut process = Process::start(program, |command| {
            if !under.is_empty() {
                command.args(under.iter().skip(1)).arg(&binary);
            }
            match server {
                Server::Axum => command
                    .args([listen.addr(), workers.to_string()])
                    .args(busy.then_some(NICE)),
                Server::Agent => command
                    .args(["serve", "--log-level", "warn"])
                    .args([
                        "--listen",
                        &listen.addr(),
                        "--admin",
                        &admin.addr(),
                        "--data",
                    ])
                    .arg(data.path().join("agents")),
            };
        });
        let at = Address::Tcp(match server {
            Server::Axum => listen.addr(),
            Server::Agent => admin.addr(),
        });
        process.wait_until("it is ready", PATIENCE, |_| {
            get(&at, "/ready")
                .is_ok_and(|answer| server == Server::Axum || answer.status == 200)
                .then_some(())
        });
        let running = Self {
            server,
            address: ([127, 0, 0, 1], listen.number()).into(),
            process,
            _ports: ports,
            _data: data,
        };
        if server == Server::Agent {
            running.ask("/v1/agents", &spec().to_string(), 201);
        }
        running
    }

    fn at(&self) -> Address {
        Address::Tcp(self.address.to_string())
    }

    /// `POST path`, answered by this status.
    fn ask(&self, path: &str, body: &str, status: u16) -> Response {
        let answer = post(&self.at(), path, "application/json", body.as_bytes());
        let answer = answer.unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        answer
    }

    /// Updates so far.
    fn updates(&self) -> u64 {
        match self.server {
            Server::Axum => 0,
            Server::Agent => status(&self.at(), "/updates"),
        }
    }

    /// A request to act on so many rows; of the echo one of the same size, and an answer as long as the agent's is.
    fn request(&self, rows: usize) -> Vec<u8> {
        let body = observations(rows);
        match self.server {
            Server::Agent => http::post(&format!("/v1/agents/{NAME}/act"), &body),
            Server::Axum => {
                // As long as the agent's answers are, about.
                let answer = 70 + 30 * rows;
                http::post(&format!("/{answer}"), &body)
            }
        }
    }
}

/// A number of what the agent says of itself.
fn status(at: &Address, pointer: &str) -> u64 {
    let answer = get(at, &format!("/v1/agents/{NAME}"));
    let answer = answer.unwrap_or_else(|error| panic!("its status: {error}"));
    let said: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    let number = said
        .pointer(&format!("/status{pointer}"))
        .and_then(Value::as_u64);
    number.unwrap_or_else(|| panic!("no number is its {pointer}: {said}"))
}

fn spec() -> Value {
    json!({
        "name": NAME,
        "observation_space": {"type": "Box", "shape": [4]},
        "action_space": {"type": "Discrete", "n": 2},
        // An update takes about a tenth of a second of one processor; without optimisation an epoch takes ten times as long.
        "hyperparameters": {"n_steps": feeder::TRANSITIONS, "batch_size": 64, "n_epochs": if cfg!(debug_assertions) { 10 } else { 100 }},
    })
}

/// As Gymnasium's clients write it: numbers of 32 bits, printed as if they had 64.
fn observations(rows: usize) -> String {
    let mut state = 1_u32;
    let mut number = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from((state >> 8) as f32 / (1 << 24) as f32 - 0.5)
    };
    let rows: Vec<[f64; 4]> = (0..rows)
        .map(|_| std::array::from_fn(|_| number()))
        .collect();
    json!({ "observations": rows }).to_string()
}
