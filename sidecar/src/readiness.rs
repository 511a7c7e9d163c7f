//! What the process still waits for before it takes traffic.
//!
//! Two kinds of condition: a [`Blocked`] guard, held by a piece of start-up until it is done, and
//! [`Readiness::set`], for what comes and goes (the upstream is up, is down).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The name of a condition, as `/ready` lists it.
pub type Name = Cow<'static, str>;

/// The conditions of this process; clones share them. Without any condition the process is ready.
#[derive(Clone, Default)]
pub struct Readiness(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// How many guards are held under each name.
    blocked: BTreeMap<Name, usize>,
    /// The reason of each condition that was last set to an error.
    failed: BTreeMap<Name, String>,
}

/// One thing that readiness waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The condition.
    pub name: Name,
    /// Why it is not met.
    pub reason: String,
}

impl Readiness {
    /// No conditions yet: ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// Not ready until the guard is dropped; several may be held under one name.
    #[must_use = "a guard that is dropped at once blocks nothing"]
    pub fn block(&self, name: impl Into<Name>) -> Blocked {
        let name = name.into();
        *self.state().blocked.entry(name.clone()).or_default() += 1;
        Blocked {
            readiness: self.clone(),
            name,
        }
    }

    /// Sets a condition that comes and goes. `true` when it is met now and was not, or the other way round (a change
    /// of the reason alone is no change): an outage can be logged once.
    pub fn set(&self, name: impl Into<Name>, condition: Result<(), String>) -> bool {
        let mut state = self.state();
        match condition {
            Ok(()) => state.failed.remove(&name.into()).is_some(),
            Err(reason) => state.failed.insert(name.into(), reason).is_none(),
        }
    }

    /// Whether every condition is met.
    pub fn is_ready(&self) -> bool {
        let state = self.state();
        state.blocked.is_empty() && state.failed.is_empty()
    }

    /// The conditions that are not met.
    pub fn missing(&self) -> Vec<Missing> {
        let state = self.state();
        let blocked = state.blocked.keys().map(|name| Missing {
            name: name.clone(),
            reason: "not done yet".to_owned(),
        });
        let failed = state.failed.iter().map(|(name, reason)| Missing {
            name: name.clone(),
            reason: reason.clone(),
        });
        blocked.chain(failed).collect()
    }

    /// A panic while the lock was held cannot leave the maps half changed.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readiness")
            .field("missing", &self.missing())
            .finish()
    }
}

/// Blocks readiness until it is dropped.
#[derive(Debug)]
pub struct Blocked {
    readiness: Readiness,
    name: Name,
}

impl Drop for Blocked {
    fn drop(&mut self) {
        let mut state = self.readiness.state();
        if let Entry::Occupied(mut held) = state.blocked.entry(std::mem::take(&mut self.name)) {
            *held.get_mut() -= 1;
            if *held.get() == 0 {
                held.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(readiness: &Readiness) -> Vec<String> {
        readiness
            .missing()
            .into_iter()
            .map(|missing| missing.name.into_owned())
            .collect()
    }

    #[test]
    fn ready_without_conditions() {
        assert!(Readiness::new().is_ready());
    }

    #[test]
    fn blocked_until_the_last_guard_of_a_name_is_dropped() {
        let readiness = Readiness::new();
        let one = readiness.block("listeners");
        let two = readiness.block("listeners");
        let other = readiness.block(format!("rules of {}", "shop"));
        assert_eq!(names(&readiness), ["listeners", "rules of shop"]);
        drop(one);
        drop(other);
        assert_eq!(names(&readiness), ["listeners"]);
        assert!(!readiness.is_ready());
        drop(two);
        assert!(readiness.is_ready());
    }

    #[test]
    fn conditions_come_and_go_and_tell_of_changes() {
        let readiness = Readiness::new();
        assert!(!readiness.set("upstream", Ok(())));
        assert!(readiness.set("upstream", Err("connection refused".to_owned())));
        assert!(!readiness.set("upstream", Err("timed out".to_owned())));
        let missing = Missing {
            name: "upstream".into(),
            reason: "timed out".to_owned(),
        };
        assert_eq!(readiness.missing(), [missing]);
        assert!(!readiness.is_ready());
        assert!(readiness.set("upstream", Ok(())));
        assert!(readiness.is_ready());
    }

    #[test]
    fn a_guard_and_a_condition_of_one_name_are_two_things() {
        let readiness = Readiness::new();
        let guard = readiness.block("upstream");
        readiness.set("upstream", Ok(()));
        assert!(
            !readiness.is_ready(),
            "a condition that is met does not lift a guard"
        );
        drop(guard);
        assert!(readiness.is_ready());
    }
}
