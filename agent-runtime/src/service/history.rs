//! What the latest updates said of themselves: bounded, and allocated at once.

use std::collections::VecDeque;

use serde::Serialize;

use crate::ppo::Statistics;

/// So many of the latest updates are remembered.
pub const MOST_POINTS: usize = 512;

/// An update.
#[derive(Clone, Copy, Debug, Serialize)]
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
pub struct History(VecDeque<Point>);

impl Default for History {
    fn default() -> Self {
        Self(VecDeque::with_capacity(MOST_POINTS))
    }
}

impl History {
    /// Remembers an update, and forgets the oldest.
    pub fn push(&mut self, point: Point) {
        if self.0.len() == MOST_POINTS {
            self.0.pop_front();
        }
        self.0.push_back(point);
    }

    /// The updates after version `after`, the oldest first.
    pub fn since(&self, after: u64) -> impl Iterator<Item = &Point> {
        self.0.iter().filter(move |point| point.updates > after)
    }

    /// The latest.
    #[must_use]
    pub fn latest(&self) -> Option<&Point> {
        self.0.back()
    }
}
