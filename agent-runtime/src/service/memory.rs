//! Where every byte of the process is, and what is done before there are too many.
//!
//! What agents reserve is known by component. Beside it stands what the allocator has given to everything else (`heap`), what it keeps
//! (`allocator`), the stacks of threads (`stacks`), and the pages of the program and its libraries that are its own (`program`). Each is measured by
//! itself, and none is found by subtracting the others from what the kernel says, so that the sum can be held against it: `RssAnon` in `/proc/self/status`.
//!
//! [`Guard`] watches what the kernel counts against the cgroup's limit. Before that is reached, nothing more is taken in.

mod allocator;
mod collector;
mod smaps;
mod stacks;

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::agents::Agents;
use crate::memory::cgroup::Cgroup;

pub use collector::Collected;
pub use stacks::count_this_stack;

/// Nothing more is taken in when so much of the cgroup's limit is used, in percent ...
const CLOSE: u64 = 90;
/// ... until it is so much again.
const OPEN: u64 = 85;
/// How often the guard looks: what arrives in between fits into what is kept back of the limit.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Bytes of the process that belong to no agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Allocated, but by no agent's reservation.
    pub heap: u64,
    /// Resident in the allocator beyond what is allocated.
    pub allocator: u64,
    /// Of threads.
    pub stacks: u64,
    /// Of the program and its libraries: what was written to.
    pub program: u64,
    /// What the kernel says in all, to be held against the sum of these and the reservations.
    pub rss_anon: u64,
}

impl Account {
    /// The account of this process, in which agents have reserved so many bytes.
    #[must_use]
    pub fn take(reserved: usize) -> Self {
        let held = allocator::held();
        let smaps = fs::read_to_string("/proc/self/smaps").unwrap_or_default();
        let mapped = smaps::sums(&smaps);
        let threads = stacks::resident(&stacks::counted(), &mapped.unnamed, mapped.page);
        Self {
            heap: held.allocated.saturating_sub(reserved) as u64,
            allocator: held.overhead as u64,
            stacks: mapped.stack + threads,
            program: mapped.program,
            rss_anon: rss_anon(),
        }
    }

    /// Its components by name.
    #[must_use]
    pub fn components(self) -> [(&'static str, u64); 4] {
        [
            ("heap", self.heap),
            ("allocator", self.allocator),
            ("stacks", self.stacks),
            ("program", self.program),
        ]
    }
}

fn rss_anon() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) << 10
}

/// See the module.
#[derive(Debug)]
pub struct Guard {
    cgroup: Option<Cgroup>,
    agents: Arc<Agents>,
    closed: bool,
}

impl Guard {
    /// Watches over these agents.
    #[must_use]
    pub fn new(agents: Arc<Agents>) -> Self {
        Self {
            cgroup: Cgroup::find().filter(|cgroup| cgroup.limit().is_some()),
            agents,
            closed: false,
        }
    }

    /// Looks, again and again. Where there is no limit there is nothing to look at.
    pub async fn watch(mut self) {
        if self.cgroup.is_none() {
            return;
        }
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.look();
        }
    }

    fn look(&mut self) {
        let Some(cgroup) = &self.cgroup else { return };
        let (Ok(used), Some(limit)) = (cgroup.working_set(), cgroup.limit()) else {
            return;
        };
        let at = if self.closed { OPEN } else { CLOSE };
        let closed = used.saturating_mul(100) >= limit.saturating_mul(at);
        if closed != self.closed {
            let percent = used.saturating_mul(100) / limit.max(1);
            if closed {
                tracing::warn!(
                    used,
                    limit,
                    percent,
                    "memory is scarce: nothing more is taken in"
                );
            } else {
                tracing::info!(used, limit, percent, "experience is taken in again");
            }
        }
        self.closed = closed;
        let why = closed.then(|| {
            format!(
                "memory is scarce: {used} of the {limit} bytes that the cgroup may have are used"
            )
        });
        // Every time: agents come and go.
        for agent in self.agents.all() {
            agent.guard(why.as_deref());
        }
    }
}

#[cfg(test)]
mod tests;
