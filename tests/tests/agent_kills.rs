//! `tars-agent serve`, killed at random moments while experience flows: it comes back, and counts every transition once.
//!
//! `AGENT_KILLS` says how often (10 times each, unless it says otherwise).
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::env;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tars_tests::address::Address;
use tars_tests::agent::{Agent, cart, fragment, run_to_end};
use tars_tests::http;
use tars_tests::resp::Client;
use tars_tests::server::{Kind, Server};
use tars_tests::stage::Stage;
use tars_tests::wait::{self, PATIENCE};

const KILLS: u64 = 10;
/// Transitions of a fragment, and of an update.
const ROWS: usize = 16;
const UPDATE_ROWS: usize = 64;
/// The same, as ledgers count.
const FRAGMENT: u64 = ROWS as u64;
const UPDATE: u64 = UPDATE_ROWS as u64;
/// A life is shorter than this, and ends at any moment of it.
const LONGEST_LIFE: u64 = 300;

fn kills() -> u64 {
    env::var("AGENT_KILLS").map_or(KILLS, |kills| kills.parse().unwrap())
}

fn sum(ledger: &Value, parts: &[&str]) -> u64 {
    parts
        .iter()
        .map(|part| ledger[part].as_u64().unwrap())
        .sum()
}

/// The account, which is to be balanced whenever it is looked at.
fn ledger(service: &Agent) -> Value {
    let ledger = service.status("a")["ledger"].take();
    let parts = sum(&ledger, &["trained", "stale", "dropped", "pending"]);
    assert_eq!(sum(&ledger, &["accepted"]), parts, "{ledger}");
    ledger
}

/// What producers need to know, and tell.
#[derive(Default)]
struct Flow {
    /// The version that acted when somebody last looked.
    version: AtomicU64,
    /// Fragments that were acknowledged to whoever sent them.
    sent: AtomicU64,
    stop: AtomicBool,
}

/// Kills the agent again and again. What `check` says must hold after every restart, when it has read what it had acknowledged.
fn kill_again_and_again(service: &mut Agent, flow: &Flow, check: impl Fn(&Agent, u64)) {
    let (mut version, mut updates) = (0, 0);
    for kill in 0..kills() {
        let life = RandomState::new().hash_one(kill) % LONGEST_LIFE;
        // A moment that nothing chooses: there is nothing to wait for.
        thread::sleep(Duration::from_millis(life));
        service.kill();
        let acknowledged = flow.sent.load(SeqCst);
        service.start_again();
        check(service, acknowledged);
        let status = service.status("a");
        let now = status["policy_version"].as_u64().unwrap();
        assert!(
            now >= version,
            "version {version} acted before the kill, {now} after it"
        );
        version = now;
        flow.version.store(version, SeqCst);
        assert!(
            !service.stderr().contains("skipped"),
            "a checkpoint is corrupt:\n{}",
            service.stderr()
        );
        // In between it gets on.
        wait::until("another update", PATIENCE, || {
            let status = service.status("a");
            flow.version
                .store(status["policy_version"].as_u64().unwrap(), SeqCst);
            let now = status["updates"].as_u64().unwrap();
            (now > updates).then(|| updates = now)
        });
        version = flow.version.load(SeqCst);
        ledger(service);
    }
    assert!(version > 0);
}

/// All of its checkpoints can be read.
fn inspect(mut service: Agent) {
    // While it runs it removes those that it has too many of.
    service.drain();
    let mut found = 0;
    for entry in std::fs::read_dir(service.data().join("a/checkpoints")).unwrap() {
        let path = entry.unwrap().path();
        if path.join("manifest.json").exists() {
            let (status, _, said) = run_to_end(&["inspect", path.to_str().unwrap()]);
            assert!(status.success(), "{}: {said}", path.display());
            found += 1;
        }
    }
    assert!(found > 0);
}

#[test]
fn killed_while_experience_comes_over_streams() {
    let stage = Stage::configured(Kind::Redis70, |proxy| proxy.args(["--no-trace"]));
    let url = format!("redis://{}", stage.proxy.address());
    let mut service = Agent::builder().args(["--redis", &url]).start();
    let mut spec = cart("a", UPDATE_ROWS);
    spec["streams"] = json!({"experience": "experience"});
    service.create(&spec);
    let (flow, mut client) = (Flow::default(), stage.connect());
    let total = thread::scope(|scope| {
        let producing = scope.spawn(|| produce(&mut client, &flow));
        // What was not acknowledged to Redis is read again, and counted when it is: never more than there is.
        let check = |service: &Agent, _: u64| {
            let ledger = ledger(service);
            let sent: u64 = stage
                .direct("XLEN experience")
                .trim_matches(|c: char| !c.is_numeric())
                .parse()
                .unwrap();
            assert!(
                sum(&ledger, &["accepted"]) <= sent * FRAGMENT,
                "{sent} entries: {ledger}"
            );
        };
        let stopping = Stop(&flow.stop);
        kill_again_and_again(&mut service, &flow, check);
        drop(stopping);
        producing.join().unwrap() * FRAGMENT
    });
    wait::until("all is accepted", PATIENCE, || {
        let ledger = ledger(&service);
        let accepted = sum(&ledger, &["accepted"]);
        assert!(accepted <= total, "{total} were sent: {ledger}");
        (accepted == total && sum(&ledger, &["pending"]) < UPDATE).then_some(())
    });
    // What waits for the next update, and nothing else, is not acknowledged.
    wait::until("all that is settled is acknowledged", PATIENCE, || {
        let pending = stage
            .direct("XPENDING experience tars-agent")
            .lines()
            .nth(1)
            .unwrap()
            .to_owned();
        let pending: u64 = pending.trim_start_matches(':').parse().unwrap();
        (pending * FRAGMENT == sum(&ledger(&service), &["pending"])).then_some(())
    });
    assert_eq!(sum(&ledger(&service), &["accepted"]), total);
    assert_eq!(service.status("a")["episodes"], total / FRAGMENT);
    inspect(service);
}

/// Sends fragments as entries until it is told to stop; how many.
fn produce(client: &mut Client, flow: &Flow) -> u64 {
    let mut sent = 0;
    while !flow.stop.load(SeqCst) {
        let version = flow.version.load(SeqCst);
        let fragment = fragment(1, sent * FRAGMENT, version, ROWS);
        let id = client.call(&["XADD", "experience", "*", "fragment", &fragment.to_string()]);
        assert!(id.starts_with('$'), "{id}");
        sent += 1;
        flow.sent.store(sent, SeqCst);
        // A pace that the agent can keep up with.
        thread::sleep(Duration::from_millis(2));
    }
    sent
}

#[test]
fn killed_while_experience_comes_over_http() {
    let mut service = Agent::start();
    service.create(&cart("a", UPDATE_ROWS));
    let (flow, address) = (Flow::default(), Address::Tcp(service.address()));
    let total = thread::scope(|scope| {
        let producing = scope.spawn(|| insist(&address, &flow));
        // What was acknowledged is there at once; what was on its way may be there, too.
        let check = |service: &Agent, acknowledged: u64| {
            let status = service.status("a");
            let accepted = sum(&status["ledger"], &["accepted"]);
            // Each fragment is an episode.
            assert_eq!(status["episodes"], accepted / FRAGMENT, "{status}");
            let least = acknowledged * FRAGMENT;
            assert!(accepted >= least, "{accepted} of {least}");
            // The producer goes on meanwhile.
            let most = (flow.sent.load(SeqCst) + 1) * FRAGMENT;
            assert!(accepted <= most, "{accepted}, and {most} were sent");
        };
        let stopping = Stop(&flow.stop);
        kill_again_and_again(&mut service, &flow, check);
        drop(stopping);
        producing.join().unwrap() * FRAGMENT
    });
    assert_eq!(sum(&ledger(&service), &["accepted"]), total);
    inspect(service);
}

/// Sends fragments until it is told to stop, each until it is acknowledged; how many were.
fn insist(address: &Address, flow: &Flow) -> u64 {
    let mut seq = 0;
    while !flow.stop.load(SeqCst) {
        let version = flow.version.load(SeqCst);
        let fragment = fragment(1, seq * FRAGMENT, version, ROWS);
        let sent =
            json!({"producer": "p", "epoch": 1, "seq": seq, "fragments": [fragment]}).to_string();
        wait::until("it is acknowledged", PATIENCE, || {
            let answer = http::post(
                address,
                "/v1/agents/a/experience",
                "application/json",
                sent.as_bytes(),
            )
            .ok()?;
            assert!(matches!(answer.status, 200 | 429 | 503), "{}", answer.body);
            (answer.status == 200).then_some(())
        });
        seq += 1;
        flow.sent.store(seq, SeqCst);
    }
    seq
}

/// Stops the producers, also when an expectation fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// The disk refuses checkpoints: what is learnt meanwhile neither acts nor is acknowledged nor announced, and a kill loses nothing of it.
#[test]
fn nothing_is_acknowledged_published_or_announced_before_it_is_on_the_disk() {
    let server = Server::redis70();
    let mut service = Agent::builder().args(["--redis", &server.url()]).start();
    let mut spec = cart("a", UPDATE_ROWS);
    spec["streams"] = json!({"experience": "experience", "hot_reload": "hot-reload"});
    service.create(&spec);
    let mut client = server.connect();
    wait::until("version 0 is announced", PATIENCE, || {
        (client.call(&["XLEN", "hot-reload"]) == ":1\r\n").then_some(())
    });
    let checkpoints = service.data().join("a/checkpoints");
    let aside = service.data().join("a/aside");
    std::fs::rename(&checkpoints, &aside).unwrap();
    std::fs::write(&checkpoints, "no directory").unwrap();
    for seq in 0..UPDATE / FRAGMENT {
        let fragment = fragment(1, seq * FRAGMENT, 0, ROWS).to_string();
        client.call(&["XADD", "experience", "*", "fragment", &fragment]);
    }
    let status = service.wait_status("a", "it fails", |status| {
        status["checkpoint_failures"].as_u64() > Some(1)
    });
    assert_eq!(status["policy_version"], 0);
    assert_eq!(status["ledger"]["trained"], UPDATE);
    // Two that are refused are acknowledged: with the second it is certain that whatever could be has been, too.
    for refused in 1..=2 {
        client.call(&["XADD", "experience", "*", "no", "fragment"]);
        wait::until("it is acknowledged", PATIENCE, || {
            let acknowledged = service
                .metrics()
                .sum("tars_agent_stream_acknowledged_total", &[]);
            (acknowledged >= f64::from(refused)).then_some(())
        });
    }
    let pending = client.call(&["XPENDING", "experience", "tars-agent"]);
    assert!(pending.starts_with("*4\r\n:4\r\n"), "{pending}");
    assert_eq!(client.call(&["XLEN", "hot-reload"]), ":1\r\n");
    service.kill();
    std::fs::remove_file(&checkpoints).unwrap();
    std::fs::rename(&aside, &checkpoints).unwrap();
    service.start_again();
    let status = service.wait_status("a", "it is learnt from again", |status| {
        status["policy_version"] == 1
    });
    assert_eq!(
        status["ledger"],
        json!({"accepted": UPDATE, "trained": UPDATE, "stale": 0, "dropped": 0, "pending": 0})
    );
    wait::until("all is acknowledged", PATIENCE, || {
        client
            .call(&["XPENDING", "experience", "tars-agent"])
            .starts_with("*4\r\n:0\r\n")
            .then_some(())
    });
}

/// Redis is gone when entries become durable, and the agent is killed before it is back: what is read again is known.
#[test]
fn what_could_not_be_acknowledged_is_not_counted_again() {
    let mut stage = Stage::configured(Kind::Redis70, |proxy| proxy.args(["--no-trace"]));
    let url = format!("redis://{}", stage.proxy.address());
    let mut service = Agent::builder().args(["--redis", &url]).start();
    let mut spec = cart("a", UPDATE_ROWS);
    spec["streams"] = json!({"experience": "experience"});
    service.create(&spec);
    let _ = service.post("/v1/agents/a/pause", &json!({})).expect(200);
    for seq in 0..UPDATE / FRAGMENT {
        let fragment = fragment(1, seq * FRAGMENT, 0, ROWS).to_string();
        stage
            .connect()
            .call(&["XADD", "experience", "*", "fragment", &fragment]);
    }
    service.wait_status("a", "it is accepted", |status| {
        status["ledger"]["pending"] == UPDATE
    });
    stage.proxy.kill();
    let _ = service.post("/v1/agents/a/resume", &json!({})).expect(200);
    service.wait_status("a", "it is learnt from", |status| {
        status["policy_version"] == 1
    });
    assert!(
        stage
            .direct("XPENDING experience tars-agent")
            .starts_with("*4\r\n:4\r\n")
    );
    service.kill();
    stage.proxy.start_again();
    service.start_again();
    wait::until("all is acknowledged", PATIENCE, || {
        stage
            .direct("XPENDING experience tars-agent")
            .starts_with("*4\r\n:0\r\n")
            .then_some(())
    });
    let expected =
        json!({"accepted": UPDATE, "trained": UPDATE, "stale": 0, "dropped": 0, "pending": 0});
    assert_eq!(ledger(&service), expected);
}
