//! Returns of episodes, put together from fragments.

use std::collections::HashMap;

use super::experience::Experience;
use crate::fragments::End;
use crate::train::Progress;

/// Environments that are followed at once.
pub const MOST_ENVIRONMENTS: usize = 4_096;

/// Episodes under way.
#[derive(Debug, Default)]
pub struct Episodes {
    table: HashMap<u64, Running>,
    clock: u64,
}

#[derive(Clone, Copy, Debug)]
struct Running {
    /// The number of the transition that comes next.
    next: u64,
    sum: f64,
    /// Its beginning was seen.
    whole: bool,
    used: u64,
}

/// An episode under way whose beginning was seen, as a checkpoint keeps it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UnderWay {
    /// Its environment.
    pub environment: u64,
    /// The number of the transition that comes next.
    pub next: u64,
    /// What it has earned so far.
    pub sum: f64,
}

impl Episodes {
    /// Those that can be counted once they end, the one that was silent longest first. Of the others nothing need be known.
    #[must_use]
    pub fn save(&self) -> Vec<UnderWay> {
        let mut whole: Vec<_> = self.table.iter().filter(|(_, one)| one.whole).collect();
        whole.sort_unstable_by_key(|(_, one)| one.used);
        let saved = whole.into_iter().map(|(&environment, one)| UnderWay {
            environment,
            next: one.next,
            sum: one.sum,
        });
        saved.collect()
    }

    /// Goes on with what was saved.
    #[must_use]
    pub fn restore(saved: &[UnderWay]) -> Self {
        let running = |(used, one): (u64, &UnderWay)| {
            let running = Running {
                next: one.next,
                sum: one.sum,
                whole: true,
                used,
            };
            (one.environment, running)
        };
        Self {
            table: (1..).zip(saved).map(running).collect(),
            clock: saved.len() as u64,
        }
    }

    /// Takes a fragment's rewards in, and tells `progress` of the episodes that ended in it. One whose beginning was not seen does not count.
    pub fn play(&mut self, experience: &Experience, progress: &mut Progress) {
        self.clock += 1;
        let known = self.table.get(&experience.environment);
        // The first transition of an environment begins an episode; so does what follows an end.
        let mut running = known
            .filter(|running| running.next == experience.seq)
            .copied()
            .unwrap_or(Running {
                next: experience.seq,
                sum: 0.0,
                whole: experience.seq == 0,
                used: 0,
            });
        for (reward, end) in experience.outcomes() {
            running.sum += f64::from(reward);
            // What a journal of before has may be at the end of all numbers.
            running.next = running.next.wrapping_add(1);
            if end != End::GoesOn {
                if running.whole {
                    progress.finished(running.sum);
                }
                running.sum = 0.0;
                running.whole = true;
            }
        }
        running.used = self.clock;
        if known.is_none() && self.table.len() >= MOST_ENVIRONMENTS {
            let silent = self.table.iter().min_by_key(|(_, running)| running.used);
            if let Some(environment) = silent.map(|(environment, _)| *environment) {
                self.table.remove(&environment);
            }
        }
        self.table.insert(experience.environment, running);
    }
}
