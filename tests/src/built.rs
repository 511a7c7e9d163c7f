//! Programs that were built beside a test, and whether they are of the sources that there are.

use std::env;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// A binary of the workspace, as it was built beside this test: cargo builds no other crate's for one.
///
/// # Panics
/// When there is none, or one older than its sources.
#[must_use]
pub fn built(name: &str) -> PathBuf {
    let this = env::current_exe().unwrap();
    let folder = this.parent().unwrap_or(Path::new("."));
    // Tests are one folder deeper than programs.
    let profile = folder
        .parent()
        .filter(|_| folder.ends_with("deps"))
        .unwrap_or(folder);
    let binary = profile.join(name);
    if let Some(trouble) = stale(&binary) {
        panic!("{trouble}: run `make test`, or `cargo build --workspace --bins` first");
    }
    binary
}

/// What is wrong with a binary, going by the list of its sources that cargo leaves beside it.
fn stale(binary: &Path) -> Option<String> {
    let modified = |path: &Path| path.metadata().and_then(|m| m.modified()).ok();
    let Some(built) = modified(binary) else {
        return Some(format!("{} was not built", binary.display()));
    };
    let sources = std::fs::read_to_string(binary.with_extension("d")).unwrap_or_default();
    let newer = newer_source(&sources, |source| {
        modified(source).is_none_or(|changed| changed > built)
    })?;
    let mut text = format!("{} is older than {}", binary.display(), newer.display());
    if modified(&newer).is_none() {
        let _ = write!(text, ", which is gone");
    }
    Some(text)
}

/// The first source of a dependency file (`target: source source …`, as make reads it) that is `newer`.
fn newer_source(sources: &str, newer: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let (_, sources) = sources.split_once(": ")?;
    // A space within a path is escaped.
    let sources = sources.trim_end().replace("\\ ", "\0");
    sources
        .split(' ')
        .map(|source| PathBuf::from(source.replace('\0', " ")))
        .find(|source| newer(source))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_binary_that_is_absent_or_older_than_a_source_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let (binary, source) = (dir.path().join("bin"), dir.path().join("a source.rs"));
        assert!(stale(&binary).unwrap().ends_with("/bin was not built"));

        std::fs::write(&source, "").unwrap();
        std::fs::write(&binary, "").unwrap();
        let listed = format!(
            "{}: {}\n",
            binary.display(),
            source.display().to_string().replace(' ', "\\ ")
        );
        std::fs::write(binary.with_extension("d"), listed).unwrap();
        assert_eq!(stale(&binary), None);

        let built = binary.metadata().unwrap().modified().unwrap();
        std::fs::File::open(&source)
            .unwrap()
            .set_modified(built + Duration::from_secs(1))
            .unwrap();
        assert!(
            stale(&binary)
                .unwrap()
                .ends_with(&format!("/bin is older than {}", source.display()))
        );
        std::fs::remove_file(&source).unwrap();
        assert!(
            stale(&binary)
                .unwrap()
                .ends_with("a source.rs, which is gone")
        );
    }
}
