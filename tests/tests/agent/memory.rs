//! Where the memory is: what the service says of itself, held against what the kernel says.

use serde_json::{Value, json};
use tars_tests::agent::{Agent, batch, fragment};
use tars_tests::proxy::metrics::Metrics;

/// Transitions of an update by default.
const UPDATE: u64 = 2_048;
/// Transitions of a fragment, and the same as a length.
const FRAGMENT: u64 = 256;
const ROWS: usize = 256;
/// What the service may have in memory with one default agent.
const MOST_RESIDENT: usize = 32_000_000;

/// An agent of which only the spaces are said.
fn default(name: &str) -> Value {
    json!({
        "name": name,
        "observation_space": {"type": "Box", "shape": [4]},
        "action_space": {"type": "Discrete", "n": 2},
    })
}

/// All that is in memory by its components, and what the kernel counts, in bytes.
fn account(metrics: &Metrics) -> (f64, f64) {
    let bytes = |component: &[(&str, &str)]| metrics.sum("tars_agent_memory_bytes", component);
    let mapped = bytes(&[("component", "fragments_mapped")]);
    let anonymous = metrics.sum("tars_agent_rss_anon_bytes", &[]);
    (bytes(&[]) - mapped, anonymous)
}

/// The sum is what the kernel says, give or take 10 %, and what it is said to say is what it says.
#[track_caller]
fn adds_up(service: &Agent, when: &str) {
    let (before, metrics) = (service.memory().anonymous, service.metrics());
    let (sum, anonymous) = account(&metrics);
    let said = format!("{when}: {sum} bytes by components, {anonymous} by the kernel");
    eprintln!("{said}: {:.3}", sum / anonymous);
    assert!((sum / anonymous - 1.0).abs() <= 0.1, "{said}");
    // The answer itself takes some memory, and the kernel counts in steps of its own.
    let between = before.min(service.memory().anonymous) as f64 - 1e6..=before as f64 + 1e6;
    assert!(between.contains(&anonymous), "{said}, {before} before");
}

/// Updates of an agent, from experience that comes as fast as it may.
fn learn(service: &Agent, name: &str, updates: u64) {
    let mut seq = 0;
    for version in 0..updates {
        for _ in 0..UPDATE / FRAGMENT {
            let sent = fragment(0, seq * FRAGMENT, version, ROWS);
            let path = format!("/v1/agents/{name}/experience");
            let _ = service.post(&path, &batch("p", seq, sent)).expect(200);
            seq += 1;
        }
        service.wait_status(name, "an update", |status| {
            status["policy_version"] == version + 1
        });
    }
}

#[test]
fn components_add_up_to_what_the_kernel_counts() {
    let service = Agent::start();
    service.create(&default("one"));
    adds_up(&service, "one agent");
    learn(&service, "one", 3);
    adds_up(&service, "one agent that has learnt");
    service.create(&default("two"));
    adds_up(&service, "two agents");
    learn(&service, "two", 3);
    adds_up(&service, "two agents that have learnt");
    assert_eq!(
        service.ask("DELETE", "/v1/agents/one", &[], b"").status,
        204
    );
    adds_up(&service, "one of two agents");
}

#[test]
fn the_default_agent_stays_below_its_bound() {
    let service = Agent::start();
    service.create(&default("one"));
    let room = service.status("one")["room"]["transitions"].clone();
    assert_eq!(room, 100_000);
    learn(&service, "one", 5);
    // Its buffer nearly full: what waits was there before it was written to.
    assert_eq!(
        service.ask("POST", "/v1/agents/one/pause", &[], b"").status,
        200
    );
    let before = service.memory();
    let version = service.status("one")["policy_version"].as_u64().unwrap();
    for seq in 0..160 {
        let sent = fragment(1, seq * 512, version, 512);
        let _ = service
            .post("/v1/agents/one/experience", &batch("full", seq, sent))
            .expect(200);
    }
    let after = service.memory();
    assert_eq!(service.status("one")["ledger"]["pending"], 160 * 512);
    assert!(after.peak < MOST_RESIDENT, "{after:?}");
    let more = after.anonymous.saturating_sub(before.anonymous);
    assert!(more < 1 << 20, "{before:?}, then {after:?}");
}
