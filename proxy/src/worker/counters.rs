//! What a thread counts on the byte path: plain numbers, which are added to those of the process before the thread sleeps.

use std::cell::Cell;

use prometheus::IntCounter;

use crate::metrics::Metrics;
use crate::request::command::{Family, Kind};

/// What is counted, besides commands by family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Bytes from clients.
    BytesUp,
    /// Bytes from servers.
    BytesDown,
    /// Bytes that injection added to commands.
    InjectedBytes,
    /// Contexts injected: none was there.
    InjectedNew,
    /// Contexts injected in the place of an invalid one.
    InjectedReplaced,
    /// Contexts injected from an envelope.
    InjectedEnvelope,
    /// Contexts of the application's own.
    FoundField,
    /// Contexts of the application's own, in an envelope.
    FoundEnvelope,
    /// Contexts found in messages delivered.
    ExtractedField,
    /// The same, in an envelope.
    ExtractedEnvelope,
    /// Invalid ones.
    ExtractedInvalid,
    /// Messages delivered without any.
    ExtractedNone,
    /// Inferences over the connection that found one message.
    ConnectionOne,
    /// That found none.
    ConnectionNone,
    /// That found several.
    ConnectionSeveral,
    /// Inferences over the listener that found one message.
    ProcessOne,
    /// That found none.
    ProcessNone,
    /// That found several.
    ProcessSeveral,
}

impl Count {
    /// All, in order.
    const ALL: [Self; 18] = [
        Self::BytesUp,
        Self::BytesDown,
        Self::InjectedBytes,
        Self::InjectedNew,
        Self::InjectedReplaced,
        Self::InjectedEnvelope,
        Self::FoundField,
        Self::FoundEnvelope,
        Self::ExtractedField,
        Self::ExtractedEnvelope,
        Self::ExtractedInvalid,
        Self::ExtractedNone,
        Self::ConnectionOne,
        Self::ConnectionNone,
        Self::ConnectionSeveral,
        Self::ProcessOne,
        Self::ProcessNone,
        Self::ProcessSeveral,
    ];

    fn shown(self, metrics: &Metrics) -> IntCounter {
        match self {
            Self::BytesUp => metrics.bytes_up.clone(),
            Self::BytesDown => metrics.bytes_down.clone(),
            Self::InjectedBytes => metrics.injected_bytes.clone(),
            Self::InjectedNew => metrics.injected("new"),
            Self::InjectedReplaced => metrics.injected("replaced"),
            Self::InjectedEnvelope => metrics.injected("envelope"),
            Self::FoundField => metrics.found("field"),
            Self::FoundEnvelope => metrics.found("envelope"),
            Self::ExtractedField => metrics.extracted("field"),
            Self::ExtractedEnvelope => metrics.extracted("envelope"),
            Self::ExtractedInvalid => metrics.extracted("invalid"),
            Self::ExtractedNone => metrics.extracted("none"),
            Self::ConnectionOne => metrics.inferences("connection", "one"),
            Self::ConnectionNone => metrics.inferences("connection", "none"),
            Self::ConnectionSeveral => metrics.inferences("connection", "several"),
            Self::ProcessOne => metrics.inferences("process", "one"),
            Self::ProcessNone => metrics.inferences("process", "none"),
            Self::ProcessSeveral => metrics.inferences("process", "several"),
        }
    }
}

/// Numbers of a thread: those of [`Count`], and then one for each [`Family`].
const NUMBERS: usize = Count::ALL.len() + Family::LABELS.len();

/// A thread's own numbers.
pub struct Counters {
    pending: [Cell<u64>; NUMBERS],
    /// Which of them are not zero, a bit each.
    touched: Cell<u64>,
    shown: Box<[IntCounter]>,
}

impl Counters {
    pub(super) fn new(metrics: &Metrics) -> Self {
        const { assert!(NUMBERS <= u64::BITS as usize, "a bit for each") }
        let counts = Count::ALL.iter().map(|count| count.shown(metrics));
        let families = Family::LABELS.iter().map(|label| metrics.commands(label));
        Self {
            pending: [const { Cell::new(0) }; NUMBERS],
            touched: Cell::new(0),
            shown: counts.chain(families).collect(),
        }
    }

    /// One more.
    #[inline]
    pub fn inc(&self, count: Count) {
        self.add_at(count as usize, 1);
    }

    /// So many more.
    #[inline]
    pub fn add(&self, count: Count, n: u64) {
        self.add_at(count as usize, n);
    }

    /// A command.
    #[inline]
    pub fn command(&self, kind: Kind) {
        self.add_at(Count::ALL.len() + kind.family() as usize, 1);
    }

    #[inline]
    fn add_at(&self, index: usize, n: u64) {
        if let Some(pending) = self.pending.get(index) {
            pending.set(pending.get() + n);
            self.touched.set(self.touched.get() | 1 << index);
        }
    }

    /// Shows what was counted.
    pub fn flush(&self) {
        let mut touched = self.touched.take();
        while touched != 0 {
            let index = touched.trailing_zeros() as usize;
            touched &= touched - 1;
            if let (Some(pending), Some(shown)) = (self.pending.get(index), self.shown.get(index)) {
                shown.inc_by(pending.take());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_added_to_its_own_counter() {
        let metrics = Metrics::new(1);
        let counters = Counters::new(&metrics);
        for (index, count) in Count::ALL.into_iter().enumerate() {
            assert_eq!(count as usize, index);
            counters.add(count, index as u64);
            counters.inc(count);
        }
        counters.command(Kind::Xadd);
        counters.command(Kind::Replication);
        counters.flush();
        counters.flush();
        for (index, count) in Count::ALL.into_iter().enumerate() {
            assert_eq!(count.shown(&metrics).get(), index as u64 + 1, "{count:?}");
        }
        for (label, commands) in [("xadd", 1), ("replication", 1), ("other", 0)] {
            assert_eq!(metrics.commands(label).get(), commands, "{label}");
        }
    }
}
