//! The account as metrics, taken when somebody asks.

use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, IntGauge, IntGaugeVec, Opts};

use super::Account;
use crate::memory::cgroup::Cgroup;
use crate::service::agents::Agents;

/// The label of what belongs to no agent: no agent is called so.
const PROCESS: &str = "_process";

/// See the module.
pub struct Collected {
    agents: Arc<Agents>,
    cgroup: Option<Cgroup>,
    bytes: IntGaugeVec,
    limit: IntGauge,
    rss_anon: IntGauge,
    used: IntGauge,
    most: IntGauge,
    some: Gauge,
    full: Gauge,
}

impl Collected {
    /// Metrics of these agents and their process.
    ///
    /// # Errors
    /// If a name is none.
    pub fn new(agents: Arc<Agents>) -> prometheus::Result<Self> {
        let pressure = |kind: &str| {
            Gauge::new(
                format!("tars_agent_memory_pressure_{kind}_ratio"),
                format!(
                    "Part of the last 10 seconds in which {kind} tasks waited for memory (PSI), where the kernel says so."
                ),
            )
        };
        Ok(Self {
            agents,
            cgroup: Cgroup::find(),
            bytes: IntGaugeVec::new(
                Opts::new(
                    "tars_agent_memory_bytes",
                    "Bytes of memory by agent and component; what belongs to no agent under agent=\"_process\".",
                ),
                &["agent", "component"],
            )?,
            limit: IntGauge::new(
                "tars_agent_memory_budget_bytes",
                "Bytes that all agents together may reserve.",
            )?,
            rss_anon: IntGauge::new(
                "tars_agent_rss_anon_bytes",
                "Anonymous memory of the process that is resident, as the kernel counts it.",
            )?,
            used: IntGauge::new(
                "tars_agent_cgroup_working_set_bytes",
                "Memory of the cgroup that cannot be had back for the asking: usage less inactive file pages.",
            )?,
            most: IntGauge::new(
                "tars_agent_cgroup_limit_bytes",
                "Memory that the cgroup may have.",
            )?,
            some: pressure("some")?,
            full: pressure("full")?,
        })
    }
}

impl Collector for Collected {
    fn desc(&self) -> Vec<&Desc> {
        let gauges = [&self.limit, &self.rss_anon, &self.used, &self.most];
        let ratios = [&self.some, &self.full];
        self.bytes
            .desc()
            .into_iter()
            .chain(gauges.into_iter().flat_map(Collector::desc))
            .chain(ratios.into_iter().flat_map(Collector::desc))
            .collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // Agents come and go.
        self.bytes.reset();
        let set = |agent: &str, component: &str, bytes: u64| {
            let gauge = self.bytes.with_label_values(&[agent, component]);
            gauge.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        };
        let budget = self.agents.budget();
        for agent in self.agents.all() {
            for (component, bytes) in agent.budget().by_component() {
                set(&agent.spec().name, component.name(), bytes as u64);
            }
        }
        let account = Account::take(budget.held_by_all());
        for (component, bytes) in account.components() {
            set(PROCESS, component, bytes);
        }
        let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        self.limit.set(number(budget.limit() as u64));
        self.rss_anon.set(number(account.rss_anon));
        let mut families = self.bytes.collect();
        families.extend(self.limit.collect());
        families.extend(self.rss_anon.collect());
        let Some(cgroup) = &self.cgroup else {
            return families;
        };
        let (used, most) = (cgroup.working_set().ok(), cgroup.limit());
        for (gauge, figure) in [(&self.used, used), (&self.most, most)] {
            if let Some(figure) = figure {
                gauge.set(number(figure));
                families.extend(gauge.collect());
            }
        }
        if let Some(pressure) = cgroup.pressure() {
            self.some.set(pressure.some.avg10 / 100.0);
            self.full.set(pressure.full.avg10 / 100.0);
            families.extend(self.some.collect());
            families.extend(self.full.collect());
        }
        families
    }
}
