//! `tars-agent serve` with 64 MiB of memory and no more, as a container would have them, and experience that comes faster than it can learn: it is never
//! killed, says so to its clients, and loses nothing that it has acknowledged.
//!
//! `AGENT_SCARCITY_SECONDS` says for how long (20 seconds each, unless it says otherwise).
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::env;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tars_tests::address::Address;
use tars_tests::agent::{Agent, fragment};
use tars_tests::cgroup::Cgroup;
use tars_tests::http;
use tars_tests::server::Server;
use tars_tests::wait::{self, PATIENCE};

const LIMIT: u64 = 64 << 20;
const SECONDS: u64 = 20;
/// Those who send at once.
const CLIENTS: u64 = 16;
/// Transitions of a fragment, and fragments of a request: of a usual one, and of one that is nearly as large as a body may be.
const ROWS: u64 = 256;
const LENGTH: usize = 256;
const FRAGMENTS: u64 = 4;
const MANY: u64 = 45;

fn duration() -> Duration {
    let seconds = env::var("AGENT_SCARCITY_SECONDS");
    Duration::from_secs(seconds.map_or(SECONDS, |seconds| seconds.parse().unwrap()))
}

/// The default agent, but for how long it learns from each update: longer than it takes to send one.
fn slow(name: &str) -> Value {
    json!({
        "name": name,
        "observation_space": {"type": "Box", "shape": [4]},
        "action_space": {"type": "Discrete", "n": 2},
        "hyperparameters": {"n_epochs": 200},
    })
}

/// The account, which is to be balanced whenever it is looked at.
fn ledger(service: &Agent, name: &str) -> Value {
    let ledger = service.status(name)["ledger"].take();
    let number = |part: &str| ledger[part].as_u64().unwrap();
    let parts = ["trained", "stale", "dropped", "pending"].map(number);
    assert_eq!(number("accepted"), parts.iter().sum::<u64>(), "{ledger}");
    ledger
}

/// What the clients of an agent have seen.
struct Seen {
    agent: String,
    /// The version that acted when somebody last looked.
    version: AtomicU64,
    /// Transitions that were acknowledged.
    acknowledged: AtomicU64,
    refused: AtomicU64,
}

impl Seen {
    fn of(agent: &str) -> Self {
        Self {
            agent: agent.to_owned(),
            version: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }
}

/// Sends requests of a producer of its own until it is told to stop, each until it is accepted, as fast as it may.
fn insist(address: &Address, producer: u64, seen: &Seen, stop: &AtomicBool) {
    // Every other one sends all that fits into a body, or nearly.
    let count = if producer.is_multiple_of(2) {
        FRAGMENTS
    } else {
        MANY
    };
    let path = format!("/v1/agents/{}/experience", seen.agent);
    let mut seq = 0;
    while !stop.load(SeqCst) {
        let version = seen.version.load(SeqCst);
        let fragments: Vec<Value> = (seq..seq + count)
            .map(|at| fragment(producer, at * ROWS, version, LENGTH))
            .collect();
        let body = json!({"producer": format!("p{producer}"), "epoch": 1, "seq": seq, "fragments": fragments});
        let body = body.to_string();
        loop {
            let answer = http::post(address, &path, "application/json", body.as_bytes()).unwrap();
            match answer.status {
                200 => {
                    let accepted: Value = serde_json::from_str(&answer.body).unwrap();
                    let accepted = accepted["accepted"].as_u64().unwrap();
                    assert_eq!(accepted, count * ROWS);
                    seen.acknowledged.fetch_add(accepted, SeqCst);
                    break;
                }
                429 => {
                    seen.refused.fetch_add(1, SeqCst);
                    if stop.load(SeqCst) {
                        return;
                    }
                }
                status => panic!("{status}: {}", answer.body),
            }
        }
        seq += count;
    }
}

/// Stops whoever sends, also when an expectation fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// Looks at it for as long as is said: every agent acts, every account is balanced, and nobody has been killed.
fn endures(service: &Agent, cgroup: &Cgroup, all: &[Seen]) {
    let begin = Instant::now();
    while begin.elapsed() < duration() {
        for seen in all {
            let path = format!("/v1/agents/{}/act", seen.agent);
            let answer = service.post(&path, &json!({"observations": [0, 0, 0, 0]}));
            let version = answer.expect(200)["policy_version"].as_u64().unwrap();
            seen.version.store(version, SeqCst);
            ledger(service, &seen.agent);
        }
        assert_eq!(cgroup.killed(), 0);
        thread::sleep(Duration::from_millis(20));
    }
}

/// What it was like, for whoever reads the test's output.
fn report(what: &str, service: &Agent, cgroup: &Cgroup, all: &[Seen]) {
    let of = |count: fn(&Seen) -> &AtomicU64| -> u64 {
        all.iter().map(|seen| count(seen).load(SeqCst)).sum()
    };
    eprintln!(
        "{what}: {} agents, {:?}; {} transitions acknowledged, {} times 429; most used in the cgroup {:?} of {LIMIT}, with pages of files; {} killed",
        all.len(),
        service.memory(),
        of(|seen| &seen.acknowledged),
        of(|seen| &seen.refused),
        cgroup.peak(),
        cgroup.killed(),
    );
}

#[test]
fn more_than_it_can_learn_over_http() {
    let Some(cgroup) = Cgroup::limited_if_possible(LIMIT) else {
        return;
    };
    let mut service = Agent::builder().within(&cgroup).start();
    let budget = service.metrics().sum("tars_agent_memory_budget_bytes", &[]);
    assert_eq!(budget, 48.0 * 1_048_576.0, "it sees its limit");
    // As many agents as there is room for.
    let mut all = Vec::new();
    let refused = loop {
        let name = format!("a{}", all.len());
        let made = service.post("/v1/agents", &slow(&name));
        if made.status != 201 {
            break made;
        }
        all.push(Seen::of(&name));
    };
    let sentence = refused.problem(409, "over_budget");
    assert!(
        sentence.starts_with("the memory budget of 50331648 bytes has "),
        "{sentence}"
    );
    assert!(all.len() > 4, "{sentence}");

    let (address, stop) = (Address::Tcp(service.address()), AtomicBool::new(false));
    let pid = service.process().id();
    thread::scope(|scope| {
        for (producer, seen) in (0..CLIENTS).zip(all.iter().cycle()) {
            let (address, stop) = (&address, &stop);
            scope.spawn(move || insist(address, producer, seen, stop));
        }
        let stopping = Stop(&stop);
        endures(&service, &cgroup, &all);
        drop(stopping);
    });
    report("http", &service, &cgroup, &all);
    assert_eq!((cgroup.killed(), service.process().id()), (0, pid));
    assert!(service.process().exited().is_none());
    for seen in &all {
        let ledger = ledger(&service, &seen.agent);
        assert_eq!(ledger["accepted"], seen.acknowledged.load(SeqCst));
        assert!(ledger["trained"].as_u64() > Some(0), "{ledger}");
        assert!(seen.refused.load(SeqCst) > 0, "input was not fast enough");
    }
    // Nor is it lost when somebody else kills it.
    service.kill();
    service.start_again();
    for seen in &all {
        let ledger = ledger(&service, &seen.agent);
        assert_eq!(ledger["accepted"], seen.acknowledged.load(SeqCst));
    }
    assert_eq!(cgroup.killed(), 0);
}

#[test]
fn more_than_it_can_learn_over_streams() {
    let Some(cgroup) = Cgroup::limited_if_possible(LIMIT) else {
        return;
    };
    let server = Server::redis70();
    let service = Agent::builder()
        .args(["--redis", &server.url()])
        .within(&cgroup)
        .start();
    let mut spec = slow("a");
    spec["streams"] = json!({"experience": "experience"});
    service.create(&spec);
    let (seen, stop) = (Seen::of("a"), AtomicBool::new(false));
    let sent = thread::scope(|scope| {
        let producing = scope.spawn(|| {
            let (mut client, mut sent) = (server.connect(), 0);
            while !stop.load(SeqCst) {
                // What waits in Redis is bounded, too: two buffers of the agent.
                let accepted = seen.acknowledged.load(SeqCst);
                if sent * ROWS > accepted + 200_000 {
                    thread::sleep(Duration::from_millis(1));
                    continue;
                }
                let version = seen.version.load(SeqCst);
                let fragment = fragment(0, sent * ROWS, version, LENGTH).to_string();
                let id = client.call(&["XADD", "experience", "*", "fragment", &fragment]);
                assert!(id.starts_with('$'), "{id}");
                sent += 1;
            }
            sent
        });
        let stopping = Stop(&stop);
        let begin = Instant::now();
        let mut full = false;
        while begin.elapsed() < duration() {
            let status = service.status("a");
            seen.version
                .store(status["policy_version"].as_u64().unwrap(), SeqCst);
            let accepted = ledger(&service, "a")["accepted"].as_u64().unwrap();
            seen.acknowledged.store(accepted, SeqCst);
            full |= status["backpressure"] == true;
            assert_eq!(cgroup.killed(), 0);
            thread::sleep(Duration::from_millis(20));
        }
        drop(stopping);
        assert!(full, "input was not fast enough");
        producing.join().unwrap()
    });
    report("streams", &service, &cgroup, &[seen]);
    // It reads on as it learns: what was sent arrives, every transition once.
    wait::until("all is accepted", 4 * PATIENCE, || {
        (ledger(&service, "a")["accepted"] == sent * ROWS).then_some(())
    });
    assert_eq!(cgroup.killed(), 0);
}
