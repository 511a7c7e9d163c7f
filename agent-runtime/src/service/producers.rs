//! Who has sent what: each fragment is accepted once, however often it comes.
//!
//! A producer numbers its fragments without a gap, from zero in each epoch. What was accepted before is answered as accepted; what leaves a gap is
//! refused, and so is what an older epoch sends. The table is bounded: a producer that was silent while so many others sent is forgotten, and
//! begins a new epoch when it is told so.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

/// Producers that are known at once.
pub const MOST_PRODUCERS: usize = 1_024;

/// What comes next from each producer.
#[derive(Clone, Debug, Default)]
pub struct Producers {
    table: HashMap<String, Mark>,
    clock: u64,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    epoch: u64,
    next: u64,
    used: u64,
}

/// A producer, in a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    name: String,
    epoch: u64,
    next: u64,
}

/// What a number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It comes next.
    Next,
    /// It was accepted before.
    Duplicate,
}

/// A number that cannot be accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutOfOrder {
    /// Something is missing before it.
    #[error("seq = {found} of this producer leaves a gap: {expected} comes next in epoch {epoch}")]
    Gap {
        /// The epoch.
        epoch: u64,
        /// What comes next.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// A producer that is not known, or not any more.
    #[error(
        "seq = {found} of a producer that is not known: it begins an epoch, with a higher number than any before, at seq = 0"
    )]
    Unknown {
        /// What came.
        found: u64,
    },
    /// An older life of the producer.
    #[error("epoch = {found} is over: this producer has begun epoch {epoch}")]
    Fenced {
        /// The epoch that runs.
        epoch: u64,
        /// The one that came.
        found: u64,
    },
}

impl Producers {
    /// What this number of this producer means.
    ///
    /// # Errors
    /// If it cannot be accepted.
    pub fn place(&self, name: &str, epoch: u64, seq: u64) -> Result<Place, OutOfOrder> {
        let Some(mark) = self.table.get(name) else {
            return if seq == 0 {
                Ok(Place::Next)
            } else {
                Err(OutOfOrder::Unknown { found: seq })
            };
        };
        if epoch < mark.epoch {
            return Err(OutOfOrder::Fenced {
                epoch: mark.epoch,
                found: epoch,
            });
        }
        let expected = if epoch == mark.epoch { mark.next } else { 0 };
        match seq {
            seq if seq < expected => Ok(Place::Duplicate),
            seq if seq == expected => Ok(Place::Next),
            found => Err(OutOfOrder::Gap {
                epoch,
                expected,
                found,
            }),
        }
    }

    /// This number was accepted.
    pub fn accepted(&mut self, name: &str, epoch: u64, seq: u64) {
        self.clock += 1;
        let mark = Mark {
            epoch,
            next: seq + 1,
            used: self.clock,
        };
        if let Some(known) = self.table.get_mut(name) {
            *known = mark;
            return;
        }
        if self.table.len() >= MOST_PRODUCERS {
            let silent = self.table.iter().min_by_key(|(_, mark)| mark.used);
            if let Some(name) = silent.map(|(name, _)| name.clone()) {
                self.table.remove(&name);
            }
        }
        self.table.insert(name.to_owned(), mark);
    }

    /// How many are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// All of them, the longest silent first.
    #[must_use]
    pub fn save(&self) -> Vec<Saved> {
        let mut all: Vec<_> = self.table.iter().collect();
        all.sort_unstable_by_key(|(_, mark)| mark.used);
        all.into_iter()
            .map(|(name, mark)| Saved {
                name: name.clone(),
                epoch: mark.epoch,
                next: mark.next,
            })
            .collect()
    }

    /// Those that were saved.
    #[must_use]
    pub fn restore(saved: &[Saved]) -> Self {
        let mut producers = Self::default();
        for Saved { name, epoch, next } in saved {
            producers.accepted(name, *epoch, next.saturating_sub(1));
        }
        producers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_accepted_once_and_in_order() {
        let mut producers = Producers::default();
        let place = |producers: &Producers, epoch, seq| producers.place("a", epoch, seq);
        assert_eq!(
            place(&producers, 5, 3),
            Err(OutOfOrder::Unknown { found: 3 })
        );
        assert_eq!(place(&producers, 5, 0), Ok(Place::Next));
        producers.accepted("a", 5, 0);
        assert_eq!(place(&producers, 5, 0), Ok(Place::Duplicate));
        assert_eq!(place(&producers, 5, 1), Ok(Place::Next));
        let gap = OutOfOrder::Gap {
            epoch: 5,
            expected: 1,
            found: 2,
        };
        assert_eq!(place(&producers, 5, 2), Err(gap));
        let fenced = OutOfOrder::Fenced { epoch: 5, found: 4 };
        assert_eq!(place(&producers, 4, 0), Err(fenced));
        assert_eq!(place(&producers, 6, 0), Ok(Place::Next));
        producers.accepted("a", 6, 0);
        let restored = Producers::restore(&producers.save());
        assert_eq!(restored.save(), producers.save());
        assert_eq!(place(&restored, 6, 0), Ok(Place::Duplicate));
    }

    #[test]
    fn the_longest_silent_is_forgotten() {
        let mut producers = Producers::default();
        for at in 0..MOST_PRODUCERS {
            producers.accepted(&at.to_string(), 1, 0);
        }
        producers.accepted("0", 1, 1);
        producers.accepted("new", 1, 0);
        assert_eq!(producers.len(), MOST_PRODUCERS);
        assert_eq!(producers.place("0", 1, 2), Ok(Place::Next));
        assert_eq!(
            producers.place("1", 1, 1),
            Err(OutOfOrder::Unknown { found: 1 })
        );
    }
}
