//! A cgroup with a limit of memory, of whichever version this machine has: what a container is to the kernel.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::wait;

/// See the module. Removed when it is dropped, after the processes in it.
#[derive(Debug)]
pub struct Cgroup {
    directory: PathBuf,
    version_1: bool,
}

impl Cgroup {
    /// One of so many bytes.
    ///
    /// # Errors
    /// Where none can be made: only root may, and not in every container.
    pub fn limited(bytes: u64) -> io::Result<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "tars-tests-{}-{}",
            std::process::id(),
            MADE.fetch_add(1, Relaxed)
        );
        let first = Path::new("/sys/fs/cgroup/memory");
        let version_1 = first.exists();
        let (parent, limit, swap) = if version_1 {
            (
                first,
                "memory.limit_in_bytes",
                "memory.memsw.limit_in_bytes",
            )
        } else {
            (Path::new("/sys/fs/cgroup"), "memory.max", "memory.swap.max")
        };
        let directory = parent.join(name);
        fs::create_dir(&directory)?;
        let made = Self {
            directory,
            version_1,
        };
        made.write(limit, bytes)?;
        // No way out. Where swap is not accounted for, there is no such file.
        let _ = made.write(swap, if version_1 { bytes } else { 0 });
        Ok(made)
    }

    /// The same; where that is not possible, it says why, and there is nothing to test.
    #[must_use]
    pub fn limited_if_possible(bytes: u64) -> Option<Self> {
        match Self::limited(bytes) {
            Ok(made) => Some(made),
            Err(error) => {
                eprintln!("not tested: no memory cgroup can be made here: {error}");
                None
            }
        }
    }

    /// Where it is.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Processes that were killed in it for want of memory.
    ///
    /// # Panics
    /// When the kernel does not say.
    #[must_use]
    pub fn killed(&self) -> u64 {
        let file = if self.version_1 {
            "memory.oom_control"
        } else {
            "memory.events"
        };
        let text = fs::read_to_string(self.directory.join(file)).unwrap();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.unwrap_or_else(|| panic!("{text}")).parse().unwrap()
    }

    /// The most that was used, pages of files among them; none before Linux 5.19 in version 2.
    #[must_use]
    pub fn peak(&self) -> Option<u64> {
        let file = if self.version_1 {
            "memory.max_usage_in_bytes"
        } else {
            "memory.peak"
        };
        let text = fs::read_to_string(self.directory.join(file)).ok()?;
        text.trim().parse().ok()
    }

    fn write(&self, file: &str, bytes: u64) -> io::Result<()> {
        // Not to be created: on a file system of another kind it could.
        let mut file = OpenOptions::new()
            .write(true)
            .open(self.directory.join(file))?;
        file.write_all(bytes.to_string().as_bytes())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // A process that was killed is in it until it is gone.
        wait::poll(wait::PATIENCE, || fs::remove_dir(&self.directory).ok());
    }
}
