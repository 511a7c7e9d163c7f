//! Two days of a service in half an hour: the same process that `serve` is, fed at so many times the pace that a service has, and its memory.
//!
//! At speed 1 eight environments make ten transitions a second together. Nothing in the service waits for a clock that would have to run faster, too: it
//! learns when there is enough to learn from. What is asked: does memory stay below its bound, and is growth over time distinguishable from none?

mod client;
mod slope;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};

use crate::env::vector::Vector;
use crate::plot::{Chart, Level, Point, Series};
use client::Client;
pub use slope::Slope;

/// Transitions a second at speed 1.
pub const PACE: f64 = 10.0;
/// Environments side by side.
const ENVIRONMENTS: usize = 8;
/// Transitions of a fragment.
const FRAGMENT: usize = 32;
/// What is left out of the slope: buffers fill, and the allocator finds its level.
const WARM_UP: f64 = 0.15;
/// The bound on resident memory of the whole process, in bytes.
pub const MOST_RESIDENT: u64 = 32_000_000;
/// The bound on growth, in bytes an hour of simulated time.
pub const MOST_GROWTH: f64 = 100_000.0;
/// How long the service may take to answer at first.
const PATIENCE: Duration = Duration::from_secs(30);
/// Points of a line of the drawing, at most: each is the mean of a stretch, between its least and its most.
const DRAWN: usize = 240;
/// How often memory is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long, and how fast.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Simulated time.
    pub hours: f64,
    /// Simulated time over real time.
    pub speed: f64,
    /// Where what came of it is written.
    pub out: PathBuf,
}

/// A look at the process.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Sample {
    /// Simulated hours since the beginning.
    pub hours: f64,
    /// `VmRSS`.
    pub resident: u64,
    /// `RssAnon`.
    pub anonymous: u64,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// Simulated hours.
    pub hours: f64,
    /// Simulated time over real time, as it was.
    pub speed: f64,
    /// Transitions that were acknowledged.
    pub transitions: u64,
    /// Requests that were refused for want of room.
    pub refused: u64,
    /// Updates.
    pub updates: u64,
    /// The most that was resident, in bytes.
    pub most_resident: u64,
    /// Growth of resident memory after the first 15 %, in bytes an hour, and its 95 % bounds; absent if it was too short to tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub growth: Option<Slope>,
    /// Checkpoints that were kept at most.
    pub most_checkpoints: usize,
    /// Transitions that waited at most.
    pub most_waiting: u64,
    /// How many may.
    pub waiting_bound: u64,
    /// Bytes of the journal at most.
    pub most_journal: u64,
    /// How many it may have.
    pub journal_bound: u64,
    /// What did not hold; empty: everything did.
    pub failures: Vec<String>,
    /// Every look.
    #[serde(skip)]
    pub samples: Vec<Sample>,
}

/// The service, ended when this is dropped.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs it. `progress` is told where it is; `stop` ends it early, and then nothing is judged.
///
/// # Errors
/// If the service cannot be started, ends, or answers what it must not.
pub fn run(
    plan: &Plan,
    stop: &AtomicBool,
    mut progress: impl FnMut(&Sample, f64),
) -> io::Result<Verdict> {
    fs::create_dir_all(&plan.out)?;
    let directory = tempfile::tempdir()?;
    let socket = directory.path().join("api");
    let mut service = start(directory.path(), &socket)?;
    let mut client = Client::connect(&socket, PATIENCE)?;
    create(&mut client)?;
    let pid = service.0.id();

    let mut players = Players::new()?;
    let mut seen = Seen::default();
    let (begin, pace) = (Instant::now(), PACE * plan.speed);
    let mut look = begin;
    loop {
        let real = begin.elapsed().as_secs_f64();
        let hours = real * plan.speed / 3_600.0;
        if hours >= plan.hours || stop.load(Relaxed) {
            break;
        }
        // Of what should have been sent by now: a service that falls behind is not spared.
        let due = (real * pace) as u64;
        if players.steps < due {
            players.step(&mut client, &mut seen)?;
        } else {
            thread::sleep(Duration::from_millis(1));
        }
        if look.elapsed() >= LOOK_EVERY {
            look = Instant::now();
            let sample = sample(pid, hours)?;
            seen.look(sample, &mut client)?;
            progress(&sample, plan.hours);
        }
        if let Some(status) = service.0.try_wait()? {
            return Err(io::Error::other(format!("the service has ended: {status}")));
        }
    }
    let real = begin.elapsed().as_secs_f64();
    let verdict = seen.verdict(
        real * plan.speed / 3_600.0,
        players.steps as f64 / real / PACE,
    );
    write(plan, &verdict)?;
    Ok(verdict)
}

fn start(directory: &Path, socket: &Path) -> io::Result<Service> {
    let address = |socket: &Path| format!("unix:{}", socket.display());
    let child = Command::new(std::env::current_exe()?)
        .arg("serve")
        .arg("--data")
        .arg(directory.join("data"))
        .args(["--listen", &address(socket)])
        .args(["--admin", &address(&directory.join("admin"))])
        .args(["--log-level", "warn"])
        .stdin(Stdio::null())
        .spawn()?;
    Ok(Service(child))
}

/// The default agent: what is not said is as documented.
fn create(client: &mut Client) -> io::Result<()> {
    let spec = json!({
        "name": "soak",
        "observation_space": {"type": "Box", "shape": [4]},
        "action_space": {"type": "Discrete", "n": 2},
    });
    match client.ask("POST", "/v1/agents", Some(&spec))? {
        (201, _) => Ok(()),
        (status, answer) => Err(io::Error::other(format!(
            "no agent was made: {status} {answer}"
        ))),
    }
}

/// Those who play, and send what came of it.
struct Players {
    vector: Vector,
    steps: u64,
    requests: u64,
    fragments: Vec<Vec<Value>>,
    first: u64,
    version: Option<u64>,
}

impl Players {
    fn new() -> io::Result<Self> {
        Ok(Self {
            vector: Vector::new("CartPole-v1", ENVIRONMENTS, 1, 0).map_err(io::Error::other)?,
            steps: 0,
            requests: 0,
            fragments: vec![Vec::new(); ENVIRONMENTS],
            first: 0,
            version: None,
        })
    }

    /// One step of every environment, and a request when fragments are long enough or a new version acts.
    fn step(&mut self, client: &mut Client, seen: &mut Seen) -> io::Result<()> {
        let observations: Vec<f32> = self.vector.observations().to_vec();
        let (status, answer) = client.ask(
            "POST",
            "/v1/agents/soak/act",
            Some(&json!({"observations": observations})),
        )?;
        if status != 200 {
            return Err(io::Error::other(format!("act: {status} {answer}")));
        }
        let version = answer["policy_version"].as_u64();
        if self.version != version || self.fragments[0].len() == FRAGMENT {
            self.send(client, seen)?;
            self.version = version;
        }
        let numbers = |name: &str| -> Vec<f64> {
            let array = answer[name].as_array().map_or(&[][..], Vec::as_slice);
            array.iter().filter_map(Value::as_f64).collect()
        };
        let (actions, log_probs) = (numbers("actions"), numbers("log_probs"));
        let flat: Vec<f32> = actions.iter().map(|&action| action as f32).collect();
        self.vector.step(&flat);
        let finals = self.vector.final_observations().chunks_exact(4);
        let rows = observations
            .chunks_exact(4)
            .zip(self.vector.steps())
            .zip(finals);
        for (at, ((observation, step), last)) in rows.enumerate() {
            let mut transition = json!({
                "observation": observation, "action": actions[at], "log_prob": log_probs[at],
                "reward": step.reward, "terminated": step.terminated, "truncated": step.truncated,
            });
            if step.cut_off() {
                transition["final_observation"] = json!(last);
            }
            self.fragments[at].push(transition);
        }
        self.steps += ENVIRONMENTS as u64;
        Ok(())
    }

    fn send(&mut self, client: &mut Client, seen: &mut Seen) -> io::Result<()> {
        let length = self.fragments[0].len() as u64;
        if length == 0 {
            return Ok(());
        }
        let next = self.vector.observations().chunks_exact(4);
        let fragments: Vec<Value> = (0u64..)
            .zip(self.fragments.iter_mut().map(std::mem::take).zip(next))
            .map(|(env, (transitions, next))| {
                json!({
                    "env_id": env, "seq": self.first, "policy_version": self.version,
                    "transitions": transitions, "next_observation": next,
                })
            })
            .collect();
        let batch = json!({"producer": "soak", "epoch": 1, "seq": self.requests * ENVIRONMENTS as u64, "fragments": fragments});
        loop {
            match client.ask("POST", "/v1/agents/soak/experience", Some(&batch))? {
                (200, _) => break,
                (429, _) => {
                    seen.refused += 1;
                    thread::sleep(Duration::from_millis(20));
                }
                (status, answer) => {
                    return Err(io::Error::other(format!("experience: {status} {answer}")));
                }
            }
        }
        self.requests += 1;
        self.first += length;
        seen.transitions += length * ENVIRONMENTS as u64;
        Ok(())
    }
}

#[derive(Default)]
struct Seen {
    samples: Vec<Sample>,
    transitions: u64,
    refused: u64,
    updates: u64,
    checkpoints: usize,
    waiting: u64,
    waiting_bound: u64,
    journal: u64,
    journal_bound: u64,
    unbalanced: Option<String>,
}

impl Seen {
    fn look(&mut self, sample: Sample, client: &mut Client) -> io::Result<()> {
        self.samples.push(sample);
        let (_, agent) = client.ask("GET", "/v1/agents/soak", None)?;
        let report = &agent["status"];
        let number = |value: &Value| value.as_u64().unwrap_or(0);
        let ledger = |name: &str| number(&report["ledger"][name]);
        let sum: u64 = ["trained", "stale", "dropped", "pending"]
            .into_iter()
            .map(ledger)
            .sum();
        if ledger("accepted") != sum {
            self.unbalanced = Some(report["ledger"].to_string());
        }
        self.updates = number(&report["updates"]);
        self.waiting = self.waiting.max(ledger("pending"));
        self.waiting_bound = number(&report["room"]["transitions"]);
        self.journal = self.journal.max(number(&report["journal_bytes"]));
        self.journal_bound = number(&report["journal_bytes_most"]);
        let (_, checkpoints) = client.ask("GET", "/v1/agents/soak/checkpoints", None)?;
        let list = &checkpoints["checkpoints"];
        self.checkpoints = self.checkpoints.max(list.as_array().map_or(0, Vec::len));
        Ok(())
    }

    fn verdict(self, hours: f64, speed: f64) -> Verdict {
        let warm = self
            .samples
            .iter()
            .filter(|sample| sample.hours >= hours * WARM_UP);
        let points: Vec<(f64, f64)> = warm
            .map(|sample| (sample.hours, sample.resident as f64))
            .collect();
        let mut verdict = Verdict {
            hours,
            speed,
            transitions: self.transitions,
            refused: self.refused,
            updates: self.updates,
            most_resident: self
                .samples
                .iter()
                .map(|sample| sample.resident)
                .max()
                .unwrap_or(0),
            growth: Slope::of(&points),
            most_checkpoints: self.checkpoints,
            most_waiting: self.waiting,
            waiting_bound: self.waiting_bound,
            most_journal: self.journal,
            journal_bound: self.journal_bound,
            failures: Vec::new(),
            samples: self.samples,
        };
        let mut must = |holds: bool, sentence: String| {
            if !holds {
                verdict.failures.push(sentence);
            }
        };
        must(
            verdict.most_resident < MOST_RESIDENT,
            format!(
                "{} bytes were resident, of less than {MOST_RESIDENT}",
                verdict.most_resident
            ),
        );
        must(
            verdict
                .growth
                .is_some_and(|growth| growth.high < MOST_GROWTH),
            match verdict.growth {
                Some(Slope { high, .. }) => format!(
                    "memory may grow by {high:.0} bytes an hour: it must be less than {MOST_GROWTH:.0}"
                ),
                None => "it was too short to tell whether memory grows".to_owned(),
            },
        );
        for (what, most, bound) in [
            (
                "transitions waited",
                verdict.most_waiting,
                verdict.waiting_bound,
            ),
            (
                "bytes were in the journal",
                verdict.most_journal,
                verdict.journal_bound,
            ),
        ] {
            must(most <= bound, format!("{most} {what}, of {bound} at most"));
        }
        must(verdict.updates > 0, "nothing was learnt".to_owned());
        // The latest five, the best, and version 0 while it is still the best.
        must(
            verdict.most_checkpoints <= 7,
            format!("{} checkpoints were kept", verdict.most_checkpoints),
        );
        must(
            self.unbalanced.is_none(),
            format!(
                "the ledger does not add up: {}",
                self.unbalanced.unwrap_or_default()
            ),
        );
        verdict
    }
}

fn sample(pid: u32, hours: f64) -> io::Result<Sample> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let bytes = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kilobytes.map_or(0, |kilobytes| kilobytes << 10)
    };
    Ok(Sample {
        hours,
        resident: bytes("VmRSS:"),
        anonymous: bytes("RssAnon:"),
    })
}

fn write(plan: &Plan, verdict: &Verdict) -> io::Result<()> {
    let line = |name: &str, of: fn(&Sample) -> u64| Series {
        name: name.to_owned(),
        points: verdict
            .samples
            .chunks(verdict.samples.len().div_ceil(DRAWN).max(1))
            .map(|stretch| {
                let count = stretch.len() as f64;
                let hours = stretch.iter().map(|sample| sample.hours).sum::<f64>() / count;
                let bytes = stretch.iter().map(of);
                let range = (bytes.clone().min(), bytes.clone().max());
                let megabytes = |bytes: Option<u64>| bytes.unwrap_or(0) as f64 / 1e6;
                Point {
                    // Minutes: the scale is of whole numbers.
                    steps: (hours * 60.0) as u64,
                    middle: bytes.sum::<u64>() as f64 / count / 1e6,
                    range: (megabytes(range.0), megabytes(range.1)),
                }
            })
            .collect(),
    };
    let growth = verdict.growth.map_or(String::new(), |growth| {
        format!(
            "; growth {:.0} to {:.0} bytes an hour (95 %)",
            growth.low, growth.high
        )
    });
    let chart = Chart {
        title: "Memory of tars-agent serve, MB".to_owned(),
        subtitle: format!(
            "{:.1} simulated hours at {:.0}x, {} transitions, {} updates{growth}",
            verdict.hours, verdict.speed, verdict.transitions, verdict.updates
        ),
        across: "simulated minutes",
        series: vec![
            line("resident", |sample| sample.resident),
            line("anonymous", |sample| sample.anonymous),
        ],
        levels: vec![Level {
            name: "bound".to_owned(),
            value: MOST_RESIDENT as f64 / 1e6,
        }],
    };
    fs::write(plan.out.join("soak.svg"), chart.to_svg())?;
    let mut json = serde_json::to_vec_pretty(verdict)?;
    json.push(b'\n');
    fs::write(plan.out.join("soak.json"), json)?;
    let mut samples = fs::File::create(plan.out.join("soak.csv"))?;
    writeln!(samples, "hours,resident,anonymous")?;
    for sample in &verdict.samples {
        writeln!(
            samples,
            "{:.4},{},{}",
            sample.hours, sample.resident, sample.anonymous
        )?;
    }
    Ok(())
}
