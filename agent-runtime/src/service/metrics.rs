//! What is exported of agents: read off them when somebody asks, so that what is shown is consistent and costs nothing else.

use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::agents::Agents;

/// Exports these agents.
///
/// # Errors
/// When the registry has metrics of these names.
pub fn register(registry: &Registry, agents: Arc<Agents>) -> prometheus::Result<()> {
    registry.register(Box::new(Exported {
        descriptions: Families::new()?.descriptions(),
        agents,
    }))
}

struct Exported {
    descriptions: Vec<Desc>,
    agents: Arc<Agents>,
}

/// Made anew for each look: an agent that is gone leaves nothing behind.
struct Families {
    transitions: IntGaugeVec,
    waiting: IntGaugeVec,
    room: IntGaugeVec,
    version: IntGaugeVec,
    updates: IntCounterVec,
    undone: IntCounterVec,
    steps: IntCounterVec,
    episodes: IntCounterVec,
    mean_return: GaugeVec,
    acted: IntCounterVec,
    journal: IntGaugeVec,
    producers: IntGaugeVec,
    failures: IntCounterVec,
    stopped: IntGaugeVec,
    failed: IntGauge,
}

impl Families {
    fn new() -> prometheus::Result<Self> {
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            IntGaugeVec::new(Opts::new(name, help), labels)
        };
        let counter =
            |name: &str, help: &str| IntCounterVec::new(Opts::new(name, help), &["agent"]);
        Ok(Self {
            transitions: gauge(
                "tars_agent_transitions",
                "Where every transition is: accepted = trained + stale + dropped + pending.",
                &["agent", "state"],
            )?,
            waiting: gauge(
                "tars_agent_buffer_used",
                "What waits in the buffer for an update.",
                &["agent", "kind"],
            )?,
            room: gauge(
                "tars_agent_buffer_size",
                "What may wait in the buffer.",
                &["agent", "kind"],
            )?,
            version: gauge(
                "tars_agent_policy_version",
                "The version of the policy that acts.",
                &["agent"],
            )?,
            updates: counter(
                "tars_agent_updates_total",
                "Updates, those that were undone among them.",
            )?,
            undone: counter(
                "tars_agent_updates_undone_total",
                "Updates that were undone.",
            )?,
            steps: counter(
                "tars_agent_steps_total",
                "Transitions that were learnt from.",
            )?,
            episodes: counter("tars_agent_episodes_total", "Episodes that ended.")?,
            mean_return: GaugeVec::new(
                Opts::new(
                    "tars_agent_mean_return",
                    "Mean return of the latest 100 episodes; absent before the first has ended.",
                ),
                &["agent"],
            )?,
            acted: counter(
                "tars_agent_acted_total",
                "Observations that were acted on since the process started.",
            )?,
            journal: gauge(
                "tars_agent_journal_bytes",
                "Bytes of the journal.",
                &["agent"],
            )?,
            producers: gauge(
                "tars_agent_producers",
                "Producers that are known.",
                &["agent"],
            )?,
            failures: counter(
                "tars_agent_checkpoint_failures_total",
                "Attempts to write a checkpoint that failed, since the process started.",
            )?,
            stopped: gauge(
                "tars_agent_stopped",
                "1: nothing is learnt (paused), nothing is taken in (closed), or ingest waits for learning (backpressure).",
                &["agent", "state"],
            )?,
            failed: IntGauge::new(
                "tars_agent_failed_agents",
                "Agents that could not be started.",
            )?,
        })
    }

    fn all(&self) -> [&dyn Collector; 15] {
        [
            &self.transitions,
            &self.waiting,
            &self.room,
            &self.version,
            &self.updates,
            &self.undone,
            &self.steps,
            &self.episodes,
            &self.mean_return,
            &self.acted,
            &self.journal,
            &self.producers,
            &self.failures,
            &self.stopped,
            &self.failed,
        ]
    }

    fn descriptions(&self) -> Vec<Desc> {
        let all = self.all().into_iter();
        all.flat_map(|family| family.desc().into_iter().cloned())
            .collect()
    }

    fn read(&self, agents: &Agents) {
        self.failed.set(agents.failed().len() as i64);
        for agent in agents.all() {
            let (name, report) = (agent.spec().name.as_str(), agent.report());
            let of = |family: &IntGaugeVec, label: &str, value: u64| {
                family.with_label_values(&[name, label]).set(value as i64);
            };
            for (state, transitions) in [
                ("accepted", report.ledger.accepted),
                ("trained", report.ledger.trained),
                ("stale", report.ledger.stale),
                ("dropped", report.ledger.dropped),
                ("pending", report.ledger.pending),
            ] {
                of(&self.transitions, state, transitions);
            }
            for (family, size) in [(&self.waiting, report.waiting), (&self.room, report.room)] {
                of(family, "transitions", size.transitions as u64);
                of(family, "closings", size.closings as u64);
                of(family, "fragments", size.fragments as u64);
            }
            of(&self.stopped, "paused", report.paused.is_some().into());
            of(&self.stopped, "closed", report.closed.is_some().into());
            of(&self.stopped, "backpressure", report.backpressure.into());
            for (family, value) in [
                (&self.updates, report.updates),
                (&self.undone, report.undone),
                (&self.steps, report.steps),
                (&self.episodes, report.episodes),
                (&self.acted, report.acted),
                (&self.failures, report.state.checkpoint_failures),
            ] {
                family.with_label_values(&[name]).inc_by(value);
            }
            for (family, value) in [
                (&self.version, report.policy_version),
                (&self.journal, report.journal_bytes),
                (&self.producers, report.producers as u64),
            ] {
                family.with_label_values(&[name]).set(value as i64);
            }
            if let Some(mean) = report.mean_return {
                self.mean_return.with_label_values(&[name]).set(mean);
            }
        }
    }
}

impl Collector for Exported {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // The names were good when they were registered.
        let Ok(families) = Families::new() else {
            return Vec::new();
        };
        families.read(&self.agents);
        families
            .all()
            .into_iter()
            .flat_map(Collector::collect)
            .collect()
    }
}
