//! Names that clients choose, as labels: as many as `max_metric_names` get metrics of their own.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use prometheus::{IntCounter, IntGauge};

/// A longer name has no label of its own: it would be written in every line of a scrape, twenty times a histogram.
const MAX_LABEL_BYTES: usize = 256;

/// The names of one kind.
pub(super) struct Names<T> {
    known: Mutex<HashSet<T>>,
    bound: usize,
    /// How many are known.
    held: IntGauge,
    /// Lookups of others.
    refused: IntCounter,
}

impl<T: Eq + Hash> Names<T> {
    /// None yet, and no more than `bound`.
    pub(super) fn new(bound: usize, held: IntGauge, refused: IntCounter) -> Self {
        Self {
            known: Mutex::default(),
            bound,
            held,
            refused,
        }
    }

    /// Whether this name, the longest part of which has as many `bytes`, has metrics of its own.
    pub(super) fn admits(&self, name: T, bytes: usize) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains(&name) {
            return true;
        }
        if known.len() >= self.bound || bytes > MAX_LABEL_BYTES {
            self.refused.inc();
            return false;
        }
        known.insert(name);
        self.held.inc();
        true
    }
}
