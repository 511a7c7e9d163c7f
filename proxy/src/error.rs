//! Errors of a connection, by the side they came from; and how often the same is logged.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Where an error arose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client's connection.
    Client,
    /// The server's connection.
    Server,
}

impl Side {
    /// The label of `tars_proxy_errors_total`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// A connection ended in an error.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", side.label())]
pub struct Error {
    /// Where it arose.
    pub side: Side,
    /// What it was.
    pub source: io::Error,
}

impl Error {
    /// Marks an error with its side.
    pub(crate) fn of(side: Side) -> impl Fn(io::Error) -> Self {
        move |source| Self { side, source }
    }

    /// The same error seen from the other direction.
    pub(crate) fn swapped(self) -> Self {
        Self {
            side: self.side.other(),
            ..self
        }
    }

    /// Whether the side had closed in an orderly way before it was written to.
    pub(crate) fn is_end(&self) -> bool {
        matches!(
            self.source.kind(),
            io::ErrorKind::BrokenPipe | io::ErrorKind::NotConnected
        )
    }

    /// Whether the side broke the connection off: that is how clients and servers end, and no fault.
    #[must_use]
    pub fn is_reset(&self) -> bool {
        matches!(
            self.source.kind(),
            io::ErrorKind::ConnectionReset
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::NotConnected
        )
    }
}

/// What goes on failing is logged when it begins, and not again before it has not happened for so long: it may work now and
/// then meanwhile.
const LULL: Duration = Duration::from_secs(10);

/// Something that fails, and will fail again and again.
#[derive(Debug, Default)]
pub struct Outbreak {
    latest: Mutex<Option<Instant>>,
}

impl Outbreak {
    /// It has not failed yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            latest: Mutex::new(None),
        }
    }

    /// It has failed; whether that is the beginning of it.
    pub fn begins(&self) -> bool {
        self.begins_at(Instant::now())
    }

    fn begins_at(&self, now: Instant) -> bool {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let before = latest.replace(now);
        before.is_none_or(|before| now.saturating_duration_since(before) > LULL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outbreak_begins_once_and_again_after_a_lull() {
        let (outbreak, start) = (Outbreak::default(), Instant::now());
        let after = |seconds| outbreak.begins_at(start + Duration::from_secs(seconds));
        assert!(after(0));
        assert!(!after(9) && !after(18) && !after(28));
        assert!(after(39));
        assert!(!after(38), "clocks of threads may differ");
    }
}
