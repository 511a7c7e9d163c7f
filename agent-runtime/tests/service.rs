//! Agents that learn from what they are sent, are stopped and killed, and count every transition once.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tars_agent::env::{self, Environment};
use tars_agent::fragments::Ledger;
use tars_agent::memory::MemoryBudget;
use tars_agent::rng::Rng;
use tars_agent::service::agent::{Agent, CannotStart};
use tars_agent::service::agents::{Agents, AgentsError};
use tars_agent::service::experience::Batch;
use tars_agent::service::ingest::{Accepted, NotAccepted};
use tars_agent::service::policy::Question;
use tars_agent::service::producers::OutOfOrder;
use tars_agent::service::spec::AgentSpec;

const PATIENCE: Duration = Duration::from_secs(60);

/// An agent for CartPole that learns after 64 transitions.
fn spec(change: impl FnOnce(&mut Value)) -> AgentSpec {
    let mut spec = json!({
        "name": "cart",
        "observation_space": {"type": "Box", "shape": [4]},
        "action_space": {"type": "Discrete", "n": 2},
        "hyperparameters": {"n_steps": 64, "batch_size": 32, "n_epochs": 2, "normalize_observation": true, "normalize_reward": true},
        "buffer": {"transitions": 512},
    });
    change(&mut spec);
    serde_json::from_value(spec).unwrap()
}

fn start(spec: AgentSpec, directory: &Path) -> Result<Agent, CannotStart> {
    let budget = MemoryBudget::new(64 << 20);
    if directory.join("agent.json").exists() {
        Agent::start(spec, directory, budget, 2, None)
    } else {
        Agent::create(spec, directory, budget, 2, None)
    }
}

/// Somebody who plays, and sends what came of it.
struct Player {
    env: Box<dyn Environment>,
    rng: Rng,
    seen: Vec<f32>,
    step: u64,
    producer: &'static str,
    seq: u64,
}

impl Player {
    fn new(producer: &'static str) -> Self {
        let mut env = env::make("cartpole").unwrap();
        let (mut rng, mut seen) = (Rng::new(1, 0), vec![0.0; 4]);
        env.reset(&mut rng, &mut seen);
        Self {
            env,
            rng,
            seen,
            step: 0,
            producer,
            seq: 0,
        }
    }

    /// Plays so many steps, and gives the request that says so.
    async fn play(&mut self, agent: &Agent, steps: usize) -> Value {
        let first = self.step;
        let (mut transitions, mut version) = (Vec::new(), None);
        for _ in 0..steps {
            let question = Question {
                observations: &self.seen,
                masks: &[],
                deterministic: false,
            };
            let answer = agent.act(question).await;
            // A fragment is of one version.
            if *version.get_or_insert(answer.version) != answer.version {
                break;
            }
            let seen = self.seen.clone();
            let step = self
                .env
                .step(&answer.actions, &mut self.rng, &mut self.seen);
            let mut transition = json!({
                "observation": seen, "action": answer.actions[0], "log_prob": answer.log_probs[0],
                "reward": step.reward, "terminated": step.terminated, "truncated": step.truncated,
            });
            if step.truncated {
                transition["final_observation"] = json!(self.seen);
            }
            transitions.push(transition);
            self.step += 1;
            if step.done() {
                self.env.reset(&mut self.rng, &mut self.seen);
            }
        }
        let batch = json!({
            "producer": self.producer, "epoch": 1, "seq": self.seq,
            "fragments": [{
                "env_id": self.producer, "seq": first, "policy_version": version,
                "transitions": transitions, "next_observation": self.seen,
            }],
        });
        self.seq += 1;
        batch
    }
}

async fn send(agent: &Agent, batch: &Value) -> Result<Accepted, NotAccepted> {
    let batch: Batch = serde_json::from_value(batch.clone()).unwrap();
    let spaces = agent.acting().spaces();
    let fragments = batch
        .fragments
        .into_iter()
        .map(|fragment| fragment.0.check("fragments", agent.spec(), spaces))
        .collect::<Result<_, _>>()
        .map_err(NotAccepted::Invalid)?;
    agent
        .accept(batch.producer, batch.epoch, batch.seq, fragments, None)
        .await
}

fn length(batch: &Value) -> u64 {
    let count = |fragment: &Value| fragment["transitions"].as_array().unwrap().len() as u64;
    batch["fragments"]
        .as_array()
        .unwrap()
        .iter()
        .map(count)
        .sum()
}

async fn until(agent: &Agent, what: &str, is: impl Fn(&Ledger) -> bool) -> Ledger {
    let begin = Instant::now();
    loop {
        let ledger = agent.report().ledger;
        assert_eq!(
            ledger.accepted,
            ledger.trained + ledger.stale + ledger.dropped + ledger.pending,
            "{ledger:?}"
        );
        if is(&ledger) {
            return ledger;
        }
        assert!(
            begin.elapsed() < PATIENCE,
            "not {what}: {:?}",
            agent.report()
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Sends until it is accepted: there is back-pressure, and recovery.
async fn insist(agent: &Agent, batch: &Value) -> Accepted {
    let begin = Instant::now();
    loop {
        match send(agent, batch).await {
            Ok(accepted) => return accepted,
            Err(NotAccepted::Full(_)) if begin.elapsed() < PATIENCE => {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            Err(error) => unreachable!("{error}"),
        }
    }
}

#[tokio::test]
async fn what_is_sent_is_learnt_from_once() {
    let directory = tempfile::tempdir().unwrap();
    let agent = start(spec(|_| ()), directory.path()).unwrap();
    let (mut player, mut sent) = (Player::new("p"), 0);
    for _ in 0..40 {
        let batch = player.play(&agent, 16).await;
        sent += length(&batch);
        assert_eq!(insist(&agent, &batch).await.transitions, length(&batch));
        // A duplicate, of what may be settled already.
        let again = insist(&agent, &batch).await;
        assert_eq!((again.transitions, again.duplicates), (0, 1));
    }
    let ledger = until(&agent, "settled", |ledger| ledger.pending < 64).await;
    assert_eq!(ledger.accepted, sent);
    let report = agent.report();
    assert!(report.policy_version > 1, "{report:?}");
    assert!(
        report.mean_return.is_some_and(|mean| mean > 5.0),
        "{report:?}"
    );
    assert_eq!(
        agent.history().since(0).last().map(|point| point.version),
        Some(report.policy_version)
    );
}

#[tokio::test]
async fn an_agent_goes_on_where_it_was_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let mut player = Player::new("p");
    let (mut sent, mut version, mut last) = (0, 0, Value::Null);
    for _ in 0..4 {
        let agent = start(spec(|_| ()), directory.path()).unwrap();
        assert!(agent.report().policy_version >= version);
        if !last.is_null() {
            assert_eq!(insist(&agent, &last).await.duplicates, 1);
        }
        for _ in 0..7 {
            last = player.play(&agent, 10).await;
            sent += insist(&agent, &last).await.transitions;
        }
        version = agent.report().policy_version;
        agent.stop();
    }
    let agent = start(spec(|_| ()), directory.path()).unwrap();
    let ledger = until(&agent, "read", |ledger| ledger.accepted == sent).await;
    assert!(ledger.trained > 0, "{ledger:?}");
    assert!(version > 0);
}

/// A kill leaves what was on the disk at that moment: a copy of it is an agent that was killed.
#[tokio::test]
async fn whatever_a_kill_leaves_counts_every_acknowledged_transition_once() {
    let (directory, mut rng) = (tempfile::tempdir().unwrap(), Rng::new(5, 0));
    let agent = Arc::new(start(spec(|_| ()), directory.path()).unwrap());
    let (mut player, mut sent) = (Player::new("p"), 0);
    for at in 0..30 {
        let batch = player.play(&agent, 12).await;
        sent += insist(&agent, &batch).await.transitions;
        if at % 3 != 0 {
            continue;
        }
        // At any moment of the update that runs now, if one does.
        tokio::time::sleep(Duration::from_micros(u64::from(rng.below(8_000)))).await;
        let copy = tempfile::tempdir().unwrap();
        if copy_tree(directory.path(), copy.path()).is_err() {
            // A checkpoint was removed while it was copied: no kill does that.
            continue;
        }
        let killed = start(spec(|_| ()), copy.path()).unwrap();
        let ledger = until(&killed, "read", |ledger| ledger.accepted >= sent).await;
        assert_eq!(ledger.accepted, sent);
        // What is sent once more counts no more.
        assert_eq!(insist(&killed, &batch).await.duplicates, 1);
        assert_eq!(killed.report().ledger.accepted, sent);
    }
}

/// The journal last: what it holds is never older than what the checkpoints count.
fn copy_tree(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    let mut entries = fs::read_dir(from)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn gaps_and_older_lives_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let agent = start(spec(|_| ()), directory.path()).unwrap();
    let mut player = Player::new("p");
    insist(&agent, &player.play(&agent, 3).await).await;
    let lost = player.play(&agent, 3).await;
    let next = player.play(&agent, 3).await;
    let gap = OutOfOrder::Gap {
        epoch: 1,
        expected: 1,
        found: 2,
    };
    assert_eq!(send(&agent, &next).await, Err(gap.into()));
    insist(&agent, &lost).await;
    insist(&agent, &next).await;
    let mut old = player.play(&agent, 3).await;
    old["epoch"] = json!(0);
    let fenced = OutOfOrder::Fenced { epoch: 1, found: 0 };
    assert_eq!(send(&agent, &old).await, Err(fenced.into()));
    player.seq -= 1;
    let mut early = player.play(&agent, 3).await;
    early["fragments"][0]["policy_version"] = json!(9);
    assert_eq!(
        send(&agent, &early).await.unwrap_err().to_string(),
        "fragments[0].policy_version: expected at most 0, the latest that was published, found 9"
    );
    assert_eq!(agent.report().ledger.accepted, 9);
}

#[tokio::test]
async fn a_paused_agent_presses_back_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let agent = start(spec(|_| ()), directory.path()).unwrap();
    agent.pause();
    let (mut player, mut sent) = (Player::new("p"), 0);
    let refused = loop {
        let batch = player.play(&agent, 20).await;
        match send(&agent, &batch).await {
            Ok(accepted) => sent += accepted.transitions,
            Err(NotAccepted::Full(why)) if !why.contains("restart") => break why,
            Err(NotAccepted::Full(_)) => player.seq -= 1,
            Err(error) => unreachable!("{error}"),
        }
    };
    // From 90 % on.
    assert_eq!(
        refused,
        "the buffer is full: 480 of 512 transitions wait for an update"
    );
    assert_eq!(sent, 480);
    assert!(agent.report().backpressure);
    agent.resume();
    // All of the same version: those of the first updates are learnt from, the others are older than max_policy_lag then.
    let ledger = until(&agent, "settled", |ledger| ledger.pending < 64).await;
    assert_eq!(ledger.accepted, 480);
    assert!(ledger.trained >= 120 && ledger.stale > 0, "{ledger:?}");
}

#[tokio::test]
async fn the_oldest_are_dropped_where_that_is_the_rule() {
    let directory = tempfile::tempdir().unwrap();
    let drops = |spec: &mut Value| spec["buffer"]["overflow"] = json!("drop_oldest");
    let agent = start(spec(drops), directory.path()).unwrap();
    agent.pause();
    let mut player = Player::new("p");
    for _ in 0..60 {
        let batch = player.play(&agent, 20).await;
        insist(&agent, &batch).await;
    }
    let ledger = agent.report().ledger;
    assert_eq!(ledger.accepted, 1200);
    assert!(ledger.dropped > 500 && ledger.pending <= 512, "{ledger:?}");
}

#[tokio::test]
async fn a_disk_that_refuses_stops_learning_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let agent = start(spec(|_| ()), directory.path()).unwrap();
    let mut player = Player::new("p");
    // Nobody can write into a directory that is a file.
    let (checkpoints, aside) = (
        directory.path().join("checkpoints"),
        directory.path().join("aside"),
    );
    fs::rename(&checkpoints, &aside).unwrap();
    fs::write(&checkpoints, "").unwrap();
    for _ in 0..8 {
        insist(&agent, &player.play(&agent, 16).await).await;
    }
    let begin = Instant::now();
    while agent.report().state.checkpoint_error.is_none() {
        assert!(begin.elapsed() < PATIENCE, "{:?}", agent.report());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(agent.report().policy_version, 0);
    let batch = player.play(&agent, 16).await;
    insist(&agent, &batch).await;
    fs::remove_file(&checkpoints).unwrap();
    fs::rename(&aside, &checkpoints).unwrap();
    let begin = Instant::now();
    while agent.report().policy_version == 0 {
        assert!(begin.elapsed() < PATIENCE, "{:?}", agent.report());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(agent.report().state.checkpoint_error, None);
}

#[tokio::test]
async fn many_agents_share_one_budget() {
    let directory = tempfile::tempdir().unwrap();
    let open = || {
        let agents = Agents::new(
            directory.path(),
            MemoryBudget::new(4 << 20),
            1,
            Box::new(|_| Ok(None)),
        )
        .unwrap();
        agents.start().unwrap();
        agents
    };
    let named = |name: &str| spec(|spec| spec["name"] = json!(name));
    let agents = open();
    let mut made = 0;
    let refused = loop {
        match agents.create(named(&format!("agent-{made}"))) {
            Ok((_, is_new)) => assert!(is_new),
            Err(error) => break error,
        }
        made += 1;
    };
    assert!(made >= 2, "{made}");
    assert!(
        refused.to_string().starts_with("the memory budget of "),
        "{refused}"
    );
    assert!(!directory.path().join(format!("agent-{made}")).exists());
    assert!(!agents.create(named("agent-0")).unwrap().1);
    let other = spec(|spec| {
        spec["name"] = json!("agent-0");
        spec["seed"] = json!(1);
    });
    assert!(matches!(
        agents.create(other),
        Err(AgentsError::Exists { .. })
    ));
    agents.remove("agent-0").unwrap();
    assert!(matches!(
        agents.get("agent-0"),
        Err(AgentsError::Unknown(_))
    ));
    drop(agents);
    // What a kill has left of one that was being made.
    fs::create_dir(directory.path().join("half")).unwrap();
    let agents = open();
    assert_eq!(agents.all().len(), made - 1);
    assert!(!directory.path().join("half").exists());
}
