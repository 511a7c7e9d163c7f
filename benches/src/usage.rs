//! What a process uses, as the kernel counts it.

use std::fs;
use std::time::Duration;

/// What a process has used so far, and holds now.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Processor time of all its threads, in user and in kernel mode (`/proc/PID/task/*/schedstat`, in nanoseconds).
    pub cpu: Duration,
    /// Resident memory (`VmRSS`), in bytes.
    pub resident: u64,
    /// The most that was resident since it was started (`VmHWM`), in bytes.
    pub peak: u64,
}

/// Of the process with this id; nothing, if there is none.
#[must_use]
pub fn of(process: u32) -> Usage {
    let tasks = fs::read_dir(format!("/proc/{process}/task"));
    let nanoseconds = tasks
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|task| {
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        })
        .sum();
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let bytes = |name: &str| {
        let rest = status.lines().find_map(|line| line.strip_prefix(name));
        let kilobytes = rest.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        kilobytes.unwrap_or(0) * 1024
    };
    Usage {
        cpu: Duration::from_nanos(nanoseconds),
        resident: bytes("VmRSS:"),
        peak: bytes("VmHWM:"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_seen() {
        let before = of(std::process::id());
        assert!(before.resident > 100 * 1024, "{before:?}");
        assert!(before.peak >= before.resident, "{before:?}");
        let mut state = 1_u64;
        while of(std::process::id()).cpu < before.cpu + Duration::from_millis(5) {
            for n in 0..100_000 {
                state = std::hint::black_box(state.wrapping_mul(3).wrapping_add(n));
            }
        }
        assert_eq!(of(u32::MAX).resident, 0);
    }
}
