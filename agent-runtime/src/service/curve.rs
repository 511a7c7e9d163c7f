//! What the latest updates said, on the disk: a line of JSON each, so that the curves go on after a restart.
//!
//! Nothing depends on it: it is not waited for, a line that cannot be written is missing, and one that cannot be read is passed over.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, BufWriter, Read as _, Write as _};
use std::path::PathBuf;

use super::history::{History, MOST_POINTS, Point};

/// A longer line is none of ours.
const MOST_LINE: u64 = 4 << 10;

/// See the module.
#[derive(Debug)]
pub struct Curve {
    path: PathBuf,
    lines: usize,
}

impl Curve {
    /// Tells `history` of the updates that are in this file, up to number `updates`: a checkpoint may be older.
    #[must_use]
    pub fn open(path: PathBuf, updates: u64, history: &mut History) -> Self {
        let mut lines = 0;
        let read = each_line(&path, |line| {
            lines += 1;
            let point = serde_json::from_slice::<Point>(line).ok();
            if let Some(point) = point.filter(|point| point.updates <= updates) {
                history.push(point);
            }
            Ok(())
        });
        if let Err(error) = read
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "the curves cannot be read: they begin anew");
        }
        Self { path, lines }
    }

    /// Appends an update. There are never more than twice as many lines as are shown.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn push(&mut self, point: &Point) -> io::Result<()> {
        if self.lines >= 2 * MOST_POINTS {
            self.forget(self.lines - (MOST_POINTS - 1))?;
        }
        let mut line = serde_json::to_vec(point)?;
        line.push(b'\n');
        let mut options = OpenOptions::new();
        let mut file = options.append(true).create(true).open(&self.path)?;
        file.write_all(&line)?;
        self.lines += 1;
        Ok(())
    }

    /// Forgets the oldest, so many.
    fn forget(&mut self, mut oldest: usize) -> io::Result<()> {
        let partial = self.path.with_extension("partial");
        let (mut to, mut kept) = (BufWriter::new(File::create(&partial)?), 0);
        each_line(&self.path, |line| {
            if oldest > 0 {
                oldest -= 1;
                return Ok(());
            }
            kept += 1;
            to.write_all(line)
        })?;
        to.into_inner().map_err(io::IntoInnerError::into_error)?;
        fs::rename(&partial, &self.path)?;
        self.lines = kept;
        Ok(())
    }
}

/// Reads a file line by line, whatever is in it.
fn each_line(path: &PathBuf, mut tell: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let (mut from, mut line) = (BufReader::new(File::open(path)?), Vec::new());
    loop {
        line.clear();
        if from.by_ref().take(MOST_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        tell(&line)?;
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::memory::MemoryBudget;

    fn point(updates: u64) -> Point {
        // As an update says it that was undone: NaN is null.
        serde_json::from_value(json!({
            "at": 1.5, "version": updates, "updates": updates, "steps": 64 * updates, "episodes": 3, "mean_return": null, "transitions": 64,
            "update_seconds": 0.1, "checkpoint_seconds": 0.2, "outcome": "undone", "epochs": 1, "policy_loss": null, "value_loss": null,
            "entropy_loss": null, "loss": null, "approx_kl": null, "clip_fraction": null, "gradient_norm": null, "explained_variance": null,
            "learning_rate": 0.0003, "clip_range": 0.2,
        }))
        .expect("a point")
    }

    fn open(path: &Path, updates: u64) -> (Curve, Vec<u64>) {
        let mut history = History::new(&MemoryBudget::new(1 << 20)).expect("fits");
        let curve = Curve::open(path.to_owned(), updates, &mut history);
        let known = history.since(0).map(|point| point.updates).collect();
        (curve, known)
    }

    #[test]
    fn the_latest_updates_are_there_again_and_the_file_stays_bounded() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("curve.jsonl");
        let most = MOST_POINTS as u64;
        let (mut curve, known) = open(&path, 0);
        assert!(known.is_empty());
        let mut longest = 0;
        for updates in 1..=3 * most {
            curve.push(&point(updates)).expect("written");
            let lines = fs::read_to_string(&path).expect("a file").lines().count();
            assert_eq!(lines, curve.lines);
            longest = longest.max(lines);
        }
        assert_eq!(longest, 2 * MOST_POINTS);
        let (_, known) = open(&path, u64::MAX);
        assert_eq!(known, (2 * most + 1..=3 * most).collect::<Vec<_>>());
    }

    #[test]
    fn what_an_older_checkpoint_takes_back_and_what_is_broken_is_passed_over() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("curve.jsonl");
        let (mut curve, _) = open(&path, 0);
        for updates in 1..=4 {
            curve.push(&point(updates)).expect("written");
        }
        let mut text = fs::read_to_string(&path).expect("a file");
        text.push_str("{\"at\": 1");
        text.push_str(&"x".repeat(10_000));
        text.push('\n');
        fs::write(&path, text).expect("written");
        let (mut curve, known) = open(&path, 2);
        assert_eq!(known, [1, 2]);
        curve.push(&point(3)).expect("written");
        let (_, known) = open(&path, 9);
        assert_eq!(known, [1, 2, 3]);
    }
}
