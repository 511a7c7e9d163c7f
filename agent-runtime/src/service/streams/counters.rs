//! What is counted of streams.

use prometheus::{IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry};

/// What became of an entry that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the buffer.
    Accepted,
    /// It was there already, or is settled: it had been read before.
    Known,
    /// Refused: no fragment in JSON.
    Malformed,
    /// Refused: not what the agent sees and does.
    Invalid,
    /// Refused: larger than a fragment may be.
    Oversized,
    /// Refused: no field `fragment`, or two.
    Missing,
    /// It was deleted from the stream before it was read again.
    Gone,
}

impl Outcome {
    const ALL: [Self; 7] = [
        Self::Accepted,
        Self::Known,
        Self::Malformed,
        Self::Invalid,
        Self::Oversized,
        Self::Missing,
        Self::Gone,
    ];

    /// As a label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Known => "known",
            Self::Malformed => "malformed",
            Self::Invalid => "invalid",
            Self::Oversized => "oversized",
            Self::Missing => "missing",
            Self::Gone => "gone",
        }
    }
}

/// See the module. Those that are of one agent go with it.
#[derive(Clone, Debug)]
pub struct Counters {
    entries: Vec<IntCounter>,
    /// Entries that were acknowledged.
    pub acknowledged: IntCounter,
    /// Versions that were announced.
    pub announced: IntCounter,
    /// Announcements that Redis refused.
    pub unannounced: IntCounter,
    /// Times that Redis was lost.
    pub outages: IntCounter,
    /// Whether an agent has Redis.
    pub up: IntGaugeVec,
    /// Whether an agent has an entry in hand that there is no room for.
    pub waiting: IntGaugeVec,
}

impl Counters {
    /// Counters in this registry.
    ///
    /// # Errors
    /// If it has some of these names.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let entries = IntCounterVec::new(
            Opts::new(
                "tars_agent_stream_entries_total",
                "Entries that were read from a stream, by what became of them.",
            ),
            &["outcome"],
        )?;
        let announcements = IntCounterVec::new(
            Opts::new(
                "tars_agent_stream_announcements_total",
                "Versions of a policy that were announced on a stream, or that Redis refused to take.",
            ),
            &["outcome"],
        )?;
        let acknowledged = IntCounter::new(
            "tars_agent_stream_acknowledged_total",
            "Entries that were acknowledged: refused, or settled in a checkpoint that is on the disk.",
        )?;
        let outages = IntCounter::new(
            "tars_agent_stream_outages_total",
            "Times that an agent lost Redis, or did not find it.",
        )?;
        let gauge = |name: &str, help: &str| IntGaugeVec::new(Opts::new(name, help), &["agent"]);
        let up = gauge(
            "tars_agent_stream_up",
            "1 while an agent reads from its stream, 0 while Redis is not to be had.",
        )?;
        let waiting = gauge(
            "tars_agent_stream_waiting",
            "1 while an entry is in hand that there is no room for: nothing more is read.",
        )?;
        registry.register(Box::new(entries.clone()))?;
        registry.register(Box::new(announcements.clone()))?;
        registry.register(Box::new(acknowledged.clone()))?;
        registry.register(Box::new(outages.clone()))?;
        registry.register(Box::new(up.clone()))?;
        registry.register(Box::new(waiting.clone()))?;
        Ok(Self {
            entries: Outcome::ALL
                .map(|outcome| entries.with_label_values(&[outcome.name()]))
                .into(),
            announced: announcements.with_label_values(&["announced"]),
            unannounced: announcements.with_label_values(&["refused"]),
            acknowledged,
            outages,
            up,
            waiting,
        })
    }

    /// Counts an entry.
    pub fn count(&self, outcome: Outcome) {
        if let Some(counter) = self.entries.get(outcome as usize) {
            counter.inc();
        }
    }
}
