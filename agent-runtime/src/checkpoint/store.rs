//! Where a run's checkpoints are kept.
//!
//! `checkpoint-000000065536` is the one after so many steps. It is written under another name, flushed to the disk, and renamed:
//! there is never half of one under its own. A file `NAME.pin` holds the name of a checkpoint that is kept whatever comes after it;
//! `best.pin` is the program's own.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::seal::seal;
use super::{BadCheckpoint, Checkpoint, MANIFEST, Manifest, POLICY, Snapshot, TRAINING};
use crate::tensors::BadTensors;
use crate::train::{Trainer, WINDOW};

/// So many of the latest are kept.
pub const KEPT: usize = 5;

/// The pin of the checkpoint with the highest mean return.
pub const BEST: &str = "best";

const CHECKPOINT: &str = "checkpoint-";
const PARTIAL: &str = ".partial-";
const PIN: &str = "pin";

/// A checkpoint cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {error}", path.display())]
pub struct CannotWrite {
    path: PathBuf,
    error: io::Error,
}

/// A directory of checkpoints.
#[derive(Clone, Debug)]
pub struct Store {
    directory: PathBuf,
}

impl Store {
    /// The store in this directory, which is made if it is not there. What a kill left half written is removed.
    ///
    /// # Errors
    /// If nothing can be written there.
    pub fn open(directory: &Path) -> Result<Self, CannotWrite> {
        let cannot = |error| cannot_write(directory, error);
        fs::create_dir_all(directory).map_err(cannot)?;
        // Whether anything can be written is better known before hours of training.
        let probe = directory.join(format!("{PARTIAL}probe"));
        fs::create_dir_all(&probe).map_err(cannot)?;
        for entry in fs::read_dir(directory).map_err(cannot)? {
            let entry = entry.map_err(cannot)?;
            if entry.file_name().to_string_lossy().starts_with(PARTIAL) {
                let removed = if entry.path().is_dir() {
                    fs::remove_dir_all(entry.path())
                } else {
                    fs::remove_file(entry.path())
                };
                removed.map_err(cannot)?;
            }
        }
        Ok(Self::at(directory))
    }

    /// The store in this directory, to be read only. It need not be there.
    #[must_use]
    pub fn at(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
        }
    }

    /// All checkpoints, the newest first. What has another name, a copy somebody made, say, is none of the store's.
    #[must_use]
    pub fn checkpoints(&self) -> Vec<PathBuf> {
        let mut numbers: Vec<u64> = names(&self.directory)
            .filter_map(|name| number(&name))
            .collect();
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        numbers
            .into_iter()
            .map(|number| self.directory.join(checkpoint(number)))
            .collect()
    }

    /// The newest checkpoint that is intact. `skipped` hears of those that are not.
    pub fn latest(&self, mut skipped: impl FnMut(&BadCheckpoint)) -> Option<Checkpoint> {
        self.checkpoints()
            .iter()
            .find_map(|path| Checkpoint::read(path).map_err(|bad| skipped(&bad)).ok())
    }

    /// Writes a checkpoint, pins it if it is the best so far, and removes what need not be kept.
    ///
    /// # Errors
    /// If it cannot be written; what was there before is still there.
    pub fn save(&self, trainer: &Trainer) -> Result<PathBuf, CannotWrite> {
        let broken = |error: BadTensors| cannot_write(&self.directory, io::Error::other(error));
        self.put(&Snapshot::of(trainer).map_err(broken)?)
    }

    /// The same of any snapshot.
    ///
    /// # Errors
    /// If it cannot be written; what was there before is still there.
    pub fn put(&self, snapshot: &Snapshot) -> Result<PathBuf, CannotWrite> {
        let name = checkpoint(snapshot.number);
        let path = self.directory.join(&name);
        if Checkpoint::read(&path).is_err() {
            self.write(&name, snapshot).map_err(|error| {
                // What was written of it takes the room that the next one needs.
                let _ = fs::remove_dir_all(self.directory.join(format!("{PARTIAL}{name}")));
                cannot_write(&path, error)
            })?;
        }
        if self.is_best(&snapshot.manifest) {
            self.pin(BEST, &path)?;
        }
        self.prune(&path);
        Ok(path)
    }

    fn write(&self, name: &str, snapshot: &Snapshot) -> io::Result<()> {
        let manifest = seal(&snapshot.manifest)?;
        let partial = self.directory.join(format!("{PARTIAL}{name}"));
        let path = self.directory.join(name);
        if partial.exists() {
            fs::remove_dir_all(&partial)?;
        }
        fs::create_dir(&partial)?;
        for (file, data) in [
            (POLICY, &snapshot.policy),
            (TRAINING, &snapshot.training),
            (MANIFEST, &manifest),
        ] {
            write_durably(&partial.join(file), data)?;
        }
        sync_directory(&partial)?;
        // Only one that cannot be read is in the way.
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::rename(&partial, &path)?;
        sync_directory(&self.directory)
    }

    /// Keeps a checkpoint under this name, until another is kept under it.
    ///
    /// # Errors
    /// If that cannot be written down.
    pub fn pin(&self, name: &str, checkpoint: &Path) -> Result<(), CannotWrite> {
        let pin = self.directory.join(format!("{name}.{PIN}"));
        let partial = self.directory.join(format!("{PARTIAL}{name}.{PIN}"));
        let of = checkpoint.file_name().unwrap_or_default().to_string_lossy();
        write_durably(&partial, format!("{of}\n").as_bytes())
            .and_then(|()| fs::rename(&partial, &pin))
            .and_then(|()| sync_directory(&self.directory))
            .map_err(|error| cannot_write(&pin, error))
    }

    /// The checkpoint that is kept under this name.
    #[must_use]
    pub fn pinned(&self, name: &str) -> Option<PathBuf> {
        let of = fs::read_to_string(self.directory.join(format!("{name}.{PIN}"))).ok()?;
        let of = of.trim();
        of.starts_with(CHECKPOINT).then(|| self.directory.join(of))
    }

    /// The names by which checkpoints are kept.
    pub fn pins(&self) -> impl Iterator<Item = String> {
        names(&self.directory).filter_map(|name| name.strip_suffix(".pin").map(str::to_owned))
    }

    /// Means are compared over whole windows only.
    fn is_best(&self, manifest: &Manifest) -> bool {
        let Some(mean) = manifest.mean_return.filter(|_| manifest.window == WINDOW) else {
            return false;
        };
        let best = self
            .pinned(BEST)
            .and_then(|path| Manifest::read(&path).ok());
        best.and_then(|best| best.mean_return)
            .is_none_or(|best| mean > best)
    }

    /// Removes all but the latest and the pinned ones. What cannot be removed is tried again next time. Newer than the one just saved are only those that
    /// could not be read when training was resumed: they take the place of none.
    fn prune(&self, saved: &Path) {
        let pinned: Vec<PathBuf> = self.pins().filter_map(|name| self.pinned(&name)).collect();
        let checkpoints = self.checkpoints();
        let older = checkpoints.iter().skip_while(|path| *path != saved);
        for path in older.skip(KEPT) {
            if !pinned.contains(path) {
                let _ = fs::remove_dir_all(path);
            }
        }
    }
}

/// The name of the one with this number.
fn checkpoint(number: u64) -> String {
    format!("{CHECKPOINT}{number:012}")
}

fn number(name: &str) -> Option<u64> {
    let number = name.strip_prefix(CHECKPOINT)?.parse().ok()?;
    (checkpoint(number) == name).then_some(number)
}

fn names(directory: &Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned())
}

fn write_durably(path: &Path, data: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(data)?;
    file.sync_all()
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn cannot_write(path: &Path, error: io::Error) -> CannotWrite {
    CannotWrite {
        path: path.to_owned(),
        error,
    }
}
