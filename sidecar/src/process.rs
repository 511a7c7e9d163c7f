//! What the process uses of the machine, for `/metrics`: the `process_*` metrics that every Prometheus client has,
//! read from `/proc`, and what jemalloc holds, `tars_jemalloc_*_bytes`.
//!
//! A figure that cannot be read is left out.

use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge, IntGauge, Registry};
use tikv_jemalloc_ctl::{epoch, stats, thread};

/// Ticks a second in `/proc/*/stat`: fixed in Linux' interface to user space, whatever the kernel's own rate is.
const USER_HZ: f64 = 100.0;

/// Registers the process metrics and, where jemalloc is the global allocator, its gauges.
///
/// # Errors
/// When the registry has metrics of these names.
pub fn register(registry: &Registry) -> prometheus::Result<()> {
    registry.register(Box::new(Process::new("/proc")?))?;
    if serves_the_heap() {
        registry.register(Box::new(Jemalloc::new()?))?;
    }
    Ok(())
}

struct Process {
    proc: PathBuf,
    cpu_seconds: Counter,
    open_fds: IntGauge,
    max_fds: IntGauge,
    virtual_memory: IntGauge,
    resident_memory: IntGauge,
    threads: IntGauge,
    start_time: Gauge,
}

impl Process {
    fn new(proc: impl Into<PathBuf>) -> prometheus::Result<Self> {
        Ok(Self {
            proc: proc.into(),
            cpu_seconds: Counter::new(
                "process_cpu_seconds_total",
                "Total user and system CPU time spent in seconds.",
            )?,
            open_fds: IntGauge::new("process_open_fds", "Number of open file descriptors.")?,
            max_fds: IntGauge::new(
                "process_max_fds",
                "Maximum number of open file descriptors.",
            )?,
            virtual_memory: IntGauge::new(
                "process_virtual_memory_bytes",
                "Virtual memory size in bytes.",
            )?,
            resident_memory: IntGauge::new(
                "process_resident_memory_bytes",
                "Resident memory size in bytes.",
            )?,
            threads: IntGauge::new("process_threads", "Number of OS threads in the process.")?,
            start_time: Gauge::new(
                "process_start_time_seconds",
                "Start time of the process since unix epoch in seconds.",
            )?,
        })
    }

    fn read(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.proc.join(file)).ok()
    }
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        let int_gauges = [
            &self.open_fds,
            &self.max_fds,
            &self.virtual_memory,
            &self.resident_memory,
            &self.threads,
        ];
        int_gauges
            .into_iter()
            .flat_map(Collector::desc)
            .chain(self.cpu_seconds.desc())
            .chain(self.start_time.desc())
            .collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let stat = self.read("self/stat");
        let times = stat.as_deref().and_then(times);
        let status = self.read("self/status");
        let status = status.as_deref();
        let limits = self.read("self/limits");
        let boot = self.read("stat");

        let mut families = Vec::new();
        if let Some(times) = times {
            // Counters cannot be set. Two scrapes at once may both add what is new: the later one is behind by that.
            let new = times.cpu / USER_HZ - self.cpu_seconds.get();
            if new > 0.0 {
                self.cpu_seconds.inc_by(new);
            }
            families.extend(self.cpu_seconds.collect());
        }
        if let (Some(times), Some(boot)) = (times, boot.as_deref().and_then(boot_time)) {
            self.start_time.set(boot + times.start / USER_HZ);
            families.extend(self.start_time.collect());
        }
        let figures = [
            (&self.open_fds, open_fds(&self.proc.join("self/fd"))),
            (&self.max_fds, limits.as_deref().and_then(max_fds)),
            (
                &self.virtual_memory,
                status.and_then(|text| kilobytes(text, "VmSize:")),
            ),
            (
                &self.resident_memory,
                status.and_then(|text| kilobytes(text, "VmRSS:")),
            ),
            (
                &self.threads,
                status.and_then(|text| number_after(text, "Threads:")),
            ),
        ];
        for (gauge, figure) in figures {
            if let Some(figure) = figure {
                gauge.set(figure);
                families.extend(gauge.collect());
            }
        }
        families
    }
}

/// From `/proc/self/stat`, in ticks.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Times {
    cpu: f64,
    start: f64,
}

fn times(stat: &str) -> Option<Times> {
    // The second field is the program's name in parentheses and may hold anything, also parentheses.
    let (_, fields) = stat.rsplit_once(')')?;
    // What follows begins with field 3; user and system time are fields 14 and 15, the start is field 22.
    let mut fields = fields.split_ascii_whitespace();
    let user: f64 = fields.nth(14 - 3)?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    let start = fields.nth(22 - 16)?.parse().ok()?;
    Some(Times {
        cpu: user + system,
        start,
    })
}

/// Seconds since the epoch at which the machine started, from `/proc/stat`.
fn boot_time(stat: &str) -> Option<f64> {
    stat.lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()
}

fn number_after(text: &str, key: &str) -> Option<i64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

fn kilobytes(text: &str, key: &str) -> Option<i64> {
    number_after(text, key)?.checked_mul(1024)
}

fn max_fds(limits: &str) -> Option<i64> {
    number_after(limits, "Max open files")
}

/// Linux tells the number as the folder's size since 6.2; before, ten thousand connections are ten thousand names.
fn open_fds(folder: &Path) -> Option<i64> {
    let told = fs::metadata(folder).ok()?.len();
    if told > 0 {
        return i64::try_from(told).ok();
    }
    // The folder itself is open while it is read.
    i64::try_from(fs::read_dir(folder).ok()?.count().saturating_sub(1)).ok()
}

/// Whether what this program allocates comes from jemalloc. That it is linked says nothing.
fn serves_the_heap() -> bool {
    let Ok(allocated) = thread::allocatedp::read() else {
        return false;
    };
    let before = allocated.get();
    drop(black_box(Box::new(0_u64)));
    allocated.get() != before
}

struct Jemalloc {
    gauges: Vec<(IntGauge, Read)>,
}

type Read = fn() -> tikv_jemalloc_ctl::Result<usize>;

impl Jemalloc {
    fn new() -> prometheus::Result<Self> {
        let statistics: [(&str, &str, Read); 6] = [
            (
                "allocated",
                "Bytes that the program has allocated.",
                stats::allocated::read,
            ),
            (
                "active",
                "Bytes in pages that hold allocations.",
                stats::active::read,
            ),
            (
                "resident",
                "Bytes in pages that are physically resident.",
                stats::resident::read,
            ),
            (
                "metadata",
                "Bytes of jemalloc's own bookkeeping.",
                stats::metadata::read,
            ),
            (
                "retained",
                "Bytes of address space kept for later, without memory behind it.",
                stats::retained::read,
            ),
            ("mapped", "Bytes in mapped extents.", stats::mapped::read),
        ];
        let gauge = |(name, help, read): (&str, &str, Read)| {
            Ok((
                IntGauge::new(format!("tars_jemalloc_{name}_bytes"), help)?,
                read,
            ))
        };

        let gauges = statistics
            .into_iter()
            .map(gauge)
            .collect::<prometheus::Result<_>>()?;
        Ok(Self { gauges })
    }
}

impl Collector for Jemalloc {
    fn desc(&self) -> Vec<&Desc> {
        self.gauges
            .iter()
            .flat_map(|(gauge, _)| gauge.desc())
            .collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // jemalloc counts anew only when the epoch is advanced.
        if epoch::advance().is_err() {
            return Vec::new();
        }
        let mut families = Vec::new();
        for (gauge, read) in &self.gauges {
            if let Some(bytes) = read().ok().and_then(|bytes| i64::try_from(bytes).ok()) {
                gauge.set(bytes);
                families.extend(gauge.collect());
            }
        }
        families
    }
}

/// Raises the soft limit of open file descriptors to the hard one, as Redis does for itself, and returns what it is now.
/// Shells and service managers start processes with 1024 and allow far more.
pub fn raise_descriptor_limit() -> u64 {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum || limit.maximum.is_none() {
        let raised = rustix::process::Rlimit {
            current: limit.maximum,
            ..limit
        };
        // Where that is refused, the limit stays what it was.
        if setrlimit(Resource::Nofile, raised).is_ok() {
            limit = raised;
        }
    }
    limit.current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;
    use std::fs::File;
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    fn figures(collector: &dyn Collector) -> BTreeMap<String, f64> {
        let value = |family: MetricFamily| {
            let metric = family.get_metric().first().unwrap().clone();
            let counter = metric.get_counter().get_value();
            (
                family.name().to_owned(),
                metric.get_gauge().get_value() + counter,
            )
        };
        collector.collect().into_iter().map(value).collect()
    }

    #[test]
    fn figures_of_this_process() {
        let process = Process::new("/proc").unwrap();
        let first = figures(&process);
        let names = [
            "process_cpu_seconds_total",
            "process_max_fds",
            "process_open_fds",
            "process_resident_memory_bytes",
            "process_start_time_seconds",
            "process_threads",
            "process_virtual_memory_bytes",
        ];
        assert!(first.keys().eq(names), "{first:?}");
        let of = |figures: &BTreeMap<String, f64>, name: &str| *figures.get(name).unwrap();
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs_f64();
        let age = now - of(&first, "process_start_time_seconds");
        assert!(
            (-2.0..600.0).contains(&age),
            "a test process is young, not {age} s old"
        );
        assert!(of(&first, "process_threads") >= 1.0);
        let resident = of(&first, "process_resident_memory_bytes");
        assert!(resident > 100_000.0 && resident < of(&first, "process_virtual_memory_bytes"));

        let files: Vec<_> = (0..100).map(|_| File::open("/dev/null").unwrap()).collect();
        let second = figures(&process);
        let more = of(&second, "process_open_fds") - of(&first, "process_open_fds");
        // Other tests open and close files meanwhile.
        assert!(
            (50.0..150.0).contains(&more),
            "{more} more for {} files",
            files.len()
        );
        assert!(
            of(&second, "process_cpu_seconds_total") >= of(&first, "process_cpu_seconds_total")
        );
    }

    #[test]
    fn descriptions_match_what_is_collected() {
        let process = Process::new("/proc").unwrap();
        let mut described: Vec<_> = process
            .desc()
            .into_iter()
            .map(|desc| desc.fq_name.clone())
            .collect();
        described.sort();
        assert!(figures(&process).keys().eq(&described));
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let process = Process::new(folder.path()).unwrap();
        assert!(figures(&process).is_empty());
        fs::create_dir_all(folder.path().join("self")).unwrap();
        fs::write(folder.path().join("self/stat"), "1 (a) R 1").unwrap();
        fs::write(
            folder.path().join("self/limits"),
            "Max open files unlimited",
        )
        .unwrap();
        fs::write(
            folder.path().join("self/status"),
            "VmSize:\nVmRSS: 9223372036854775807 kB\nThreads: 3",
        )
        .unwrap();
        assert_eq!(
            figures(&process),
            BTreeMap::from([("process_threads".to_owned(), 3.0)])
        );
    }

    #[test]
    fn the_name_of_the_program_may_look_like_fields() {
        let stat = "7 (a) R 9 (b) S 1 2 3 4 5 6 7 8 9 10 70 5 0 0 20 0 1 0 12345 0 0";
        assert_eq!(
            times(stat),
            Some(Times {
                cpu: 75.0,
                start: 12345.0
            })
        );
        for cut in 0..stat.len() - "2345 0 0".len() {
            assert_eq!(times(stat.get(..cut).unwrap()), None, "cut at {cut}");
        }
    }

    #[test]
    fn without_jemalloc_there_are_no_gauges_of_it() {
        let registry = Registry::new();
        register(&registry).unwrap();
        assert!(!serves_the_heap());
        assert!(
            registry
                .gather()
                .iter()
                .all(|family| !family.name().contains("jemalloc"))
        );
        assert!(
            register(&registry).is_err(),
            "a second time, the names are taken"
        );
    }
}
