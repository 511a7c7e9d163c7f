//! What the latest updates said of themselves: bounded, and allocated at once.

use serde::{Deserialize, Serialize};

use crate::memory::{Buffer, Component, MemoryBudget, OverBudget};
use crate::ppo::Statistics;

/// So many of the latest updates are remembered.
pub const MOST_POINTS: usize = 512;

/// An update.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Point {
    /// When it ended, in seconds since 1970.
    pub at: f64,
    /// The version that acts since.
    pub version: u64,
    /// Updates so far.
    pub updates: u64,
    /// Transitions that were learnt from so far.
    pub steps: u64,
    /// Episodes that ended so far.
    pub episodes: u64,
    /// Mean return of the latest episodes.
    pub mean_return: Option<f64>,
    /// Transitions of this update.
    pub transitions: usize,
    /// How long it took.
    pub update_seconds: f64,
    /// How long its checkpoint took.
    pub checkpoint_seconds: f64,
    /// What it said.
    #[serde(flatten)]
    pub statistics: Statistics,
}

/// See the module.
#[derive(Debug)]
pub struct History {
    points: Buffer<Option<Point>>,
    /// Where the next one goes.
    next: usize,
}

impl History {
    /// One that remembers nothing yet.
    ///
    /// # Errors
    /// If it does not fit into the budget.
    pub fn new(budget: &MemoryBudget) -> Result<Self, OverBudget> {
        Ok(Self {
            points: budget.buffer(Component::History, MOST_POINTS, None)?,
            next: 0,
        })
    }

    /// Remembers an update, and forgets the oldest, and what was taken back since.
    pub fn push(&mut self, point: Point) {
        for known in self.points.iter_mut() {
            if known.is_some_and(|known| known.updates >= point.updates) {
                *known = None;
            }
        }
        self.points[self.next] = Some(point);
        self.next = (self.next + 1) % MOST_POINTS;
    }

    /// The updates after version `after`, the oldest first.
    pub fn since(&self, after: u64) -> impl Iterator<Item = &Point> {
        let (newer, older) = self.points.split_at(self.next);
        let all = older.iter().chain(newer).flatten();
        all.filter(move |point| point.updates > after)
    }
}
