//! What was made from files, made again when they change: rotated secrets are taken up without a restart.
//!
//! Files are looked at once a second, by polling: a Kubernetes secret is a link to a link, which is exchanged, and a network
//! file system tells nobody of changes.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::{MissedTickBehavior, interval};

use super::FileError;

/// How often files are looked at: a rotated certificate overlaps the one before by minutes at least.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Of each file what changes with its content, as far as `stat(2)` tells: device, inode, size, time of the last change.
type Stamp = Vec<Option<(u64, u64, u64, i64, i64)>>;

/// A value made from files.
pub struct Reloading<T> {
    files: Vec<PathBuf>,
    load: Box<dyn Fn() -> Result<T, FileError> + Send + Sync>,
    current: ArcSwap<T>,
    seen: Mutex<Seen>,
}

struct Seen {
    /// The files that the value in force was made from, or those that were warned of.
    settled: Stamp,
    /// The files that could not be used the last time.
    failing: Option<Stamp>,
}

impl<T> Reloading<T> {
    /// Makes the value.
    ///
    /// # Errors
    /// As `load` has them.
    pub fn new<'a>(
        files: impl Iterator<Item = &'a PathBuf>,
        load: impl Fn() -> Result<T, FileError> + Send + Sync + 'static,
    ) -> Result<Self, FileError> {
        let files: Vec<PathBuf> = files.cloned().collect();
        // Before the files are read: what changes in between is seen at the next look.
        let settled = stamp(&files);
        Ok(Self {
            current: ArcSwap::from_pointee(load()?),
            files,
            load: Box::new(load),
            seen: Mutex::new(Seen {
                settled,
                failing: None,
            }),
        })
    }

    /// The value in force.
    #[must_use]
    pub fn current(&self) -> Arc<T> {
        self.current.load_full()
    }

    /// Looks at the files for as long as the process runs.
    pub async fn watch(&self) {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match self.look() {
                Some(Ok(())) => tracing::info!(files = %self.names(), "TLS files reloaded"),
                Some(Err(error)) => {
                    tracing::warn!("{error}; new connections go on with what was read before");
                }
                None => {}
            }
        }
    }

    /// Makes the value again if a file has changed. None if nothing is to be said.
    pub(super) fn look(&self) -> Option<Result<(), FileError>> {
        let stamp = stamp(&self.files);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.settled == stamp {
            return None;
        }
        match (self.load)() {
            Ok(value) => {
                self.current.store(Arc::new(value));
                *seen = Seen {
                    settled: stamp,
                    failing: None,
                };
                Some(Ok(()))
            }
            // A certificate and its key are not replaced in one moment: what does not fit now may fit at the next look.
            Err(_) if seen.failing.as_ref() != Some(&stamp) => {
                seen.failing = Some(stamp);
                None
            }
            Err(error) => {
                seen.settled = stamp;
                Some(Err(error))
            }
        }
    }

    fn names(&self) -> String {
        let names: Vec<_> = self
            .files
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        names.join(", ")
    }
}

fn stamp(files: &[PathBuf]) -> Stamp {
    files
        .iter()
        .map(|path| {
            let data = fs::metadata(path).ok()?;
            Some((
                data.dev(),
                data.ino(),
                data.size(),
                data.mtime(),
                data.mtime_nsec(),
            ))
        })
        .collect()
}
