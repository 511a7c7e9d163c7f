//! Where the real parts are that `make setup` installs, by the versions pinned in `scripts/versions.env`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

const VERSIONS: &str = include_str!("../../scripts/versions.env");

/// The pinned version called `name`.
///
/// # Panics
/// When `scripts/versions.env` has no such name.
#[must_use]
pub fn version(name: &str) -> &'static str {
    VERSIONS
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
        .unwrap_or_else(|| panic!("scripts/versions.env has no {name}"))
}

/// The executable that the environment variable `variable` names, else `file` in the cache of the part `part`, whose version
/// is pinned as `pinned`.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn cached(variable: &str, part: &str, pinned: &str, file: &str) -> PathBuf {
    from_environment(variable).unwrap_or_else(|| {
        let path = cache()
            .join(format!("{part}-{}", version(pinned)))
            .join(file);
        assert!(
            path.is_file(),
            "{} is missing: run `make setup`, or name another one in {variable}",
            path.display()
        );
        path
    })
}

/// The executable that the environment variable `variable` names, else `file` in `PATH`, whose `--version` must contain
/// `v=` and the version pinned as `pinned`.
///
/// # Panics
/// When it is not there, or of another version.
#[must_use]
pub fn in_path(variable: &str, pinned: &str, file: &str) -> PathBuf {
    from_environment(variable).unwrap_or_else(|| {
        let path = env::var_os("PATH").unwrap_or_default();
        let path = env::split_paths(&path)
            .map(|dir| dir.join(file))
            .find(|path| path.is_file())
            .unwrap_or_else(|| panic!("{file} is not in PATH: run `make setup`, or name it in {variable}"));
        let wanted = version(pinned);
        let said = Command::new(&path).arg("--version").output().unwrap();
        let said = String::from_utf8_lossy(&said.stdout);
        assert!(
            said.contains(&format!("v={wanted}.")),
            "{} is not version {wanted}, which the tests expect, but says: {}: name another one in {variable}",
            path.display(),
            said.trim()
        );
        path
    })
}

/// The folder in the cache of the part `part` that was installed from the lock file `lock`: NAME-HASH.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn locked(part: &str, name: &str, lock: &Path) -> PathBuf {
    let sum = Command::new("sha256sum").arg(lock).output().unwrap();
    hashed(part, name, &sum.stdout)
}

/// The folder in the cache of the part `part` that was built from all files of `sources`: NAME-HASH.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn built(part: &str, name: &str, sources: &Path) -> PathBuf {
    // As `built_from` in `scripts/setup`.
    let sum = Command::new("sh")
        .arg("-c")
        .arg(r#"find "$1" -type f -print0 | LC_ALL=C sort -z | xargs -0 cat | sha256sum"#)
        .args(["sh".as_ref(), sources.as_os_str()])
        .output()
        .unwrap();
    hashed(part, name, &sum.stdout)
}

fn hashed(part: &str, name: &str, sum: &[u8]) -> PathBuf {
    let sum = String::from_utf8_lossy(sum);
    let path = cache().join(format!("{name}-{}", sum.get(..12).unwrap_or_default()));
    assert!(
        path.is_dir(),
        "{} is missing: run `scripts/setup {part}`",
        path.display()
    );
    path
}

fn from_environment(variable: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env::var_os(variable)?);
    assert!(
        path.is_file(),
        "{variable} names {}, which is not a file",
        path.display()
    );
    Some(path)
}

fn cache() -> PathBuf {
    let base = env::var_os("XDG_CACHE_HOME")
        .filter(|set| !set.is_empty())
        .map(PathBuf::from);
    base.unwrap_or_else(|| Path::new(&env::var_os("HOME").unwrap_or_default()).join(".cache"))
        .join("tars")
}
