//! How much of an agent may be asked at once, so that one that is asked too much holds up nobody but those who ask it.

use tokio::sync::{Semaphore, SemaphorePermit};

/// Requests to act that are under way at once. Each takes its turn after [`ROWS`](super::policy::ROWS) rows.
pub const ACT: usize = 64;
/// Requests with experience: each holds its fragments in memory until they are on the disk.
pub const EXPERIENCE: usize = 32;

/// Of one agent.
#[derive(Debug)]
pub struct Turns {
    act: Semaphore,
    experience: Semaphore,
}

/// As many as may be are under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected at most {most} requests {what} of this agent at once")]
pub struct Busy {
    most: usize,
    what: &'static str,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            act: Semaphore::new(ACT),
            experience: Semaphore::new(EXPERIENCE),
        }
    }
}

impl Turns {
    /// A turn to act, to be held until it is answered.
    ///
    /// # Errors
    /// If as many as may be have one.
    pub fn act(&self) -> Result<SemaphorePermit<'_>, Busy> {
        turn(&self.act, ACT, "to act")
    }

    /// A turn to bring experience.
    ///
    /// # Errors
    /// If as many as may be have one.
    pub fn experience(&self) -> Result<SemaphorePermit<'_>, Busy> {
        turn(&self.experience, EXPERIENCE, "with experience")
    }
}

fn turn<'a>(
    of: &'a Semaphore,
    most: usize,
    what: &'static str,
) -> Result<SemaphorePermit<'a>, Busy> {
    of.try_acquire().map_err(|_| Busy { most, what })
}
