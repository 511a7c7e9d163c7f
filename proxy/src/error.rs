//! Errors of a connection, by the side they came from.

use std::io;

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
