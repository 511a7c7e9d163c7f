//! What the kernel lets this process have, and how much of it is used: its memory cgroup, version 1 or 2.
//!
//! `/proc/self/cgroup` names the cgroup by its path in the hierarchy, and `/proc/self/mountinfo` says which part of the hierarchy is mounted where
//! (proc_pid_cgroup(5), proc_pid_mountinfo(5)). In a container the two need not fit together: the path may be the host's while only the container's own
//! cgroup is mounted. Then what is mounted is taken. On a machine with both versions the memory controller belongs to one of them, and the other's
//! tree has no memory files.
//!
//! Nothing is kept but paths: limits change while a process runs (a pod that is resized in place), so that each question is asked of the kernel anew.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Version 1 says "no limit" by the largest number of whole pages that fits into 63 bits, which depends on the size of a page: this is that of the
/// largest pages (64 KiB), and no machine has so much.
const NO_LIMIT: u64 = 0x7FFF_FFFF_FFFF_0000;

/// The memory cgroup of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    version: Version,
    /// The process's own, then its ancestors as far up as they are mounted and account for memory.
    directories: Vec<PathBuf>,
    pressure: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

impl Version {
    fn limit(self) -> &'static str {
        match self {
            Self::V1 => "memory.limit_in_bytes",
            Self::V2 => "memory.max",
        }
    }

    fn usage(self) -> &'static str {
        match self {
            Self::V1 => "memory.usage_in_bytes",
            Self::V2 => "memory.current",
        }
    }

    /// Version 1 has two of each key; what limits counts is the one with the children's.
    fn inactive_file(self) -> &'static str {
        match self {
            Self::V1 => "total_inactive_file",
            Self::V2 => "inactive_file",
        }
    }

    /// The path of the cgroup, if this line of `/proc/self/cgroup` is about memory: `4:memory:/a/b` or `0::/a/b`.
    fn membership(self, line: &str) -> Option<&str> {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let here = match self {
            Self::V1 => controllers.split(',').any(|name| name == "memory"),
            Self::V2 => controllers.is_empty(),
        };
        here.then_some(path)
    }
}

/// A part of a hierarchy, and where it is mounted.
struct Mount {
    version: Version,
    root: PathBuf,
    point: PathBuf,
}

impl Mount {
    /// Of a line of `/proc/self/mountinfo`, if it is one: `35 31 0:32 /root /point rw shared:9 - cgroup cgroup rw,memory`.
    fn parse(line: &str) -> Option<Self> {
        let (mount, source) = line.split_once(" - ")?;
        let mut source = source.split(' ');
        let version = match source.next()? {
            "cgroup" if source.nth(1)?.split(',').any(|name| name == "memory") => Version::V1,
            "cgroup2" => Version::V2,
            _ => return None,
        };
        let mut mount = mount.split(' ').skip(3);
        Some(Self {
            version,
            root: unescaped(mount.next()?),
            point: unescaped(mount.next()?),
        })
    }

    /// The directories of a cgroup and of its ancestors.
    fn directories(&self, root: &Path, path: &Path) -> Vec<PathBuf> {
        let point = root.join(self.point.strip_prefix("/").unwrap_or(&self.point));
        // Another path than one below what is mounted is one of another namespace.
        let inner = path.strip_prefix(&self.root).ok().filter(|inner| {
            inner
                .components()
                .all(|one| matches!(one, Component::Normal(_)))
        });
        inner
            .unwrap_or(Path::new(""))
            .ancestors()
            .map(|inner| point.join(inner))
            .collect()
    }
}

impl Cgroup {
    /// The cgroup of this process; none if memory is not accounted for.
    #[must_use]
    pub fn find() -> Option<Self> {
        Self::under(Path::new("/"))
    }

    /// As if `/proc` and `/sys` were below `root`.
    fn under(root: &Path) -> Option<Self> {
        let read = |path: &str| fs::read(root.join(path)).ok();
        let memberships = read("proc/self/cgroup")?;
        let memberships = String::from_utf8_lossy(&memberships);
        let mounts = read("proc/self/mountinfo")?;
        let mounts = String::from_utf8_lossy(&mounts);
        let mounts: Vec<Mount> = mounts.lines().filter_map(Mount::parse).collect();
        let with = |version: Version, file: &str| {
            let mut lines = memberships.lines();
            let path = Path::new(lines.find_map(|line| version.membership(line))?);
            let mut mounts: Vec<&Mount> =
                mounts.iter().filter(|one| one.version == version).collect();
            mounts.sort_by_key(|mount| !path.starts_with(&mount.root));
            mounts.into_iter().find_map(|mount| {
                let mut directories = mount.directories(root, path);
                directories.retain(|directory| directory.join(file).exists());
                (!directories.is_empty()).then_some(directories)
            })
        };
        // Version 2 has this file also where memory is version 1's.
        let pressure = with(Version::V2, "memory.pressure")
            .and_then(|directories| directories.into_iter().next())
            .map_or(root.join("proc/pressure/memory"), |own| {
                own.join("memory.pressure")
            });
        [Version::V1, Version::V2].into_iter().find_map(|version| {
            let directories = with(version, version.usage())?;
            Some(Self {
                version,
                directories,
                pressure: pressure.clone(),
            })
        })
    }

    /// How many bytes this process and what shares its cgroup may have: the smallest limit on the way up. None if there is no limit.
    #[must_use]
    pub fn limit(&self) -> Option<u64> {
        self.tightest().1
    }

    /// How many bytes are used of that limit and cannot be had back for the asking: usage less the file pages that were not used lately. This is what
    /// decides over life and death, for pages of anonymous memory go nowhere without swap.
    ///
    /// # Errors
    /// If the kernel's files cannot be read.
    pub fn working_set(&self) -> io::Result<u64> {
        let directory = self.tightest().0;
        let usage = fs::read_to_string(directory.join(self.version.usage()))?;
        let usage = usage.trim().parse::<u64>().map_err(io::Error::other)?;
        let inactive = self.stat(directory, self.version.inactive_file())?;
        Ok(usage.saturating_sub(inactive))
    }

    /// How long tasks have lately been waiting for memory; none if the kernel does not say.
    #[must_use]
    pub fn pressure(&self) -> Option<Pressure> {
        Pressure::parse(&fs::read_to_string(&self.pressure).ok()?)
    }

    /// Where the smallest limit is set, the nearest of several; one's own cgroup if there is none.
    fn tightest(&self) -> (&Path, Option<u64>) {
        // There is one at least: `under` says so.
        let own = self.directories.first().map_or(Path::new("/"), |own| own);
        let mut tightest = (own, self.limit_from_out_of_sight(own));
        for directory in &self.directories {
            let limit = fs::read_to_string(directory.join(self.version.limit()));
            let Some(limit) = limit.ok().and_then(|text| bytes(&text)) else {
                continue;
            };
            if tightest.1.is_none_or(|smallest| limit < smallest) {
                tightest = (directory, Some(limit));
            }
        }
        tightest
    }

    /// Version 1 knows what the ancestors set that are not mounted here.
    fn limit_from_out_of_sight(&self, own: &Path) -> Option<u64> {
        if self.version == Version::V2 {
            return None;
        }
        let limit = self.stat(own, "hierarchical_memory_limit").ok()?;
        Some(limit).filter(|&limit| limit < NO_LIMIT)
    }

    /// A number of `memory.stat`.
    fn stat(&self, directory: &Path, key: &str) -> io::Result<u64> {
        let stat = fs::read_to_string(directory.join("memory.stat"))?;
        let value = stat
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        value.and_then(|value| value.parse().ok()).ok_or_else(|| {
            let sentence = format!("{}/memory.stat has no {key}", directory.display());
            io::Error::new(io::ErrorKind::InvalidData, sentence)
        })
    }
}

/// A limit, of either version.
fn bytes(text: &str) -> Option<u64> {
    let limit = text.trim().parse().ok();
    limit.filter(|&limit| limit < NO_LIMIT)
}

/// `mountinfo` writes blanks and backslashes of a path as three octal digits.
fn unescaped(text: &str) -> PathBuf {
    let mut parts = text.split('\\');
    let mut path = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part
            .get(..3)
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => path.extend([char::from(code)].into_iter().chain(part.chars().skip(3))),
            None => path.extend(['\\'].into_iter().chain(part.chars())),
        }
    }
    path.into()
}

/// Pressure stall information (`Documentation/accounting/psi.rst` of Linux): how long tasks waited for memory.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pressure {
    /// Some of them waited.
    pub some: Stall,
    /// All of them did.
    pub full: Stall,
}

/// How long tasks waited.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stall {
    /// In percent of the last 10 seconds.
    pub avg10: f64,
    /// In percent of the last minute.
    pub avg60: f64,
    /// In percent of the last five minutes.
    pub avg300: f64,
    /// In all, in microseconds.
    pub total: u64,
}

impl Pressure {
    /// Of two lines as `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`.
    fn parse(text: &str) -> Option<Self> {
        let stall = |kind: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(kind))?;
            let value = |key: &str| {
                let mut pairs = line.split_whitespace().map(|pair| pair.split_once('='));
                pairs.find_map(|pair| pair.filter(|one| one.0 == key).map(|one| one.1))
            };
            let percent = |key: &str| value(key)?.parse().ok();
            Some(Stall {
                avg10: percent("avg10")?,
                avg60: percent("avg60")?,
                avg300: percent("avg300")?,
                total: value("total")?.parse().ok()?,
            })
        };
        Some(Self {
            some: stall("some")?,
            full: stall("full")?,
        })
    }
}

#[cfg(test)]
mod tests;
