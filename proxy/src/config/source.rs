//! What one source says, before it is understood: text and place of every value.

use std::collections::BTreeMap;

use super::error::{Origin, Problem};

/// A value as it was written.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub(super) text: String,
    pub(super) origin: Origin,
}

/// Values by the names of their settings.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    /// Where the table begins, if it is one of the file's.
    pub(super) origin: Option<Origin>,
    pub(super) values: BTreeMap<&'static str, Given>,
}

/// The flags, the environment, or the file.
#[derive(Clone, Debug, Default)]
pub(super) struct Source {
    /// Settings that have one value.
    pub(super) settings: Table,
    /// `[[listener]]`; empty but in a file.
    pub(super) listeners: Vec<Table>,
    /// `[[stream]]`; empty but in a file.
    pub(super) streams: Vec<Table>,
    /// `PATTERN=MODE`; empty in a file.
    pub(super) deliver: Vec<Given>,
    /// `PATTERN=RATIO`; empty in a file.
    pub(super) sample: Vec<Given>,
}

impl Given {
    pub(super) fn problem(&self, message: String) -> Problem {
        Problem {
            origin: self.origin.clone(),
            message,
        }
    }
}

impl Table {
    pub(super) fn get(&self, key: &str) -> Option<&Given> {
        self.values.get(key)
    }
}
