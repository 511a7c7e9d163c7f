//! Waiting for a thing to be so, instead of for a time to pass.

use std::time::{Duration, Instant};

/// How long a part may take to start or to end: long, since a busy machine is slow, and only a failure waits it out.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The longest pause between two looks: short beside anything a test measures.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// Looks until `look` finds something, for at most `limit`.
pub fn poll<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_micros(500);
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Looks until `look` finds something.
///
/// # Panics
/// When `limit` has passed, saying `what` was waited for.
#[track_caller]
pub fn until<T>(what: &str, limit: Duration, look: impl FnMut() -> Option<T>) -> T {
    poll(limit, look).unwrap_or_else(|| panic!("waited {limit:?} in vain: {what}"))
}
