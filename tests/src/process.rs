//! A program started by a test: what it printed, signals to it, and its certain end.

use std::collections::BTreeSet;
use std::fs::{DirEntry, File};
use std::io;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::Duration;

pub use rustix::process::Signal;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, kill_process, prlimit};
use tempfile::TempDir;

use crate::wait;

/// A running program. Dropping it kills it; the end of the test process does too, however that comes about.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    // What it prints goes to files: nothing has to be read for it to go on, and all is there once it has ended.
    printed: TempDir,
}

/// Resident memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Now.
    pub now: usize,
    /// At most.
    pub peak: usize,
    /// Now, without what a file stands behind: what the program has made its own.
    pub anonymous: usize,
}

impl Process {
    /// Starts `program`; `configure` adds arguments and environment.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn start(program: &std::path::Path, configure: impl FnOnce(&mut Command)) -> Self {
        let name = program
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let printed = tempfile::tempdir().unwrap();
        // setpriv (util-linux) asks the kernel to kill the program when its parent dies, and becomes the program.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program);
        command.stdin(Stdio::null());
        command.stdout(File::create(printed.path().join("stdout")).unwrap());
        command.stderr(File::create(printed.path().join("stderr")).unwrap());
        configure(&mut command);
        let child = spawn(command)
            .unwrap_or_else(|e| panic!("{} cannot be started by setpriv: {e}", program.display()));
        Self {
            name,
            child,
            printed,
        }
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it printed to standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        self.read("stdout")
    }

    /// What it printed to standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.read("stderr")
    }

    /// Bytes of memory that it has now, and the most it has had since [`Self::forget_peak`].
    ///
    /// # Panics
    /// When it has ended.
    #[track_caller]
    #[must_use]
    pub fn memory(&self) -> Memory {
        let path = format!("/proc/{}/status", self.id());
        let status = std::fs::read_to_string(path).unwrap();
        let bytes = |name: &str| -> Option<usize> {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim().strip_suffix(" kB")?.parse::<usize>().ok()? << 10)
        };
        let bytes = |name| {
            bytes(name).unwrap_or_else(|| panic!("{} has no memory: it has ended", self.name))
        };
        Memory {
            now: bytes("VmRSS:"),
            peak: bytes("VmHWM:"),
            anonymous: bytes("RssAnon:"),
        }
    }

    /// The peak of its memory is what it has now.
    ///
    /// # Panics
    /// When it has ended.
    pub fn forget_peak(&self) {
        // "5" resets the peak resident set size: proc(5).
        std::fs::write(format!("/proc/{}/clear_refs", self.id()), "5").unwrap();
    }

    /// From now on it can open as many descriptors more, as long as it closes none.
    ///
    /// # Panics
    /// When it has ended.
    pub fn limit_descriptors(&self, more: usize) {
        let folder = std::fs::read_dir(format!("/proc/{}/fd", self.id())).unwrap();
        let number = |entry: io::Result<DirEntry>| -> Option<u64> {
            entry.ok()?.file_name().to_str()?.parse().ok()
        };
        let used: BTreeSet<u64> = folder.filter_map(number).collect();
        // The lowest numbers that are free come next, and the limit is one of numbers.
        let mut free = (0..).filter(|number| !used.contains(number));
        let limit = free.nth(more).unwrap();
        self.set_descriptor_limit(limit);
    }

    /// The limit of its descriptors, below what it was started with.
    ///
    /// # Panics
    /// When it has ended, or the limit is beyond that.
    pub fn set_descriptor_limit(&self, limit: u64) {
        let id = Some(Pid::from_child(&self.child));
        let limit = Rlimit {
            current: Some(limit),
            maximum: getrlimit(Resource::Nofile).maximum,
        };
        prlimit(id, Resource::Nofile, limit).unwrap();
    }

    fn read(&self, file: &str) -> String {
        String::from_utf8_lossy(&std::fs::read(self.printed.path().join(file)).unwrap())
            .into_owned()
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// When the process has ended already.
    #[track_caller]
    pub fn signal(&mut self, signal: Signal) {
        // A process that was not waited for keeps its id: it can be no other's.
        assert!(
            self.exited().is_none(),
            "{} has ended already:\n{}",
            self.name,
            self.stderr()
        );
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Its exit status, once it has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it still runs after `limit`.
    #[track_caller]
    pub fn wait_exit(&mut self, limit: Duration) -> ExitStatus {
        wait::poll(limit, || self.exited()).unwrap_or_else(|| {
            panic!(
                "{} still runs after {limit:?}; it printed:\n{}",
                self.name,
                self.stderr()
            )
        })
    }

    /// Waits until `look` finds something.
    ///
    /// # Panics
    /// When the process ends before, or `limit` passes; with what it printed.
    #[track_caller]
    pub fn wait_until<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut look: impl FnMut(&Self) -> Option<T>,
    ) -> T {
        let found = wait::poll(limit, || match look(self) {
            Some(found) => Some(Ok(found)),
            None => self.exited().map(Err),
        });
        let trouble = match found {
            Some(Ok(found)) => return found,
            Some(Err(status)) => format!("ended ({status})"),
            None => format!("took over {limit:?}"),
        };
        panic!(
            "{} {trouble} before this was so: {what}; it printed:\n{}{}",
            self.name,
            self.stdout(),
            self.stderr()
        );
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Either fails only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            // Redis logs to its standard output.
            for printed in [self.stdout(), self.stderr()] {
                let tail: Vec<&str> = printed.lines().rev().take(40).collect();
                for line in tail.iter().rev() {
                    eprintln!("[{}] {line}", self.name);
                }
            }
        }
    }
}

type Order = (Command, SyncSender<io::Result<Child>>);

/// Starts programs from one thread that lives as long as the process: to the kernel, the parent whose death kills a program
/// is the thread that started it, and a test's thread ends before a program that several tests share.
fn spawn(command: Command) -> io::Result<Child> {
    static STARTER: LazyLock<Sender<Order>> = LazyLock::new(|| {
        let (orders, inbox) = channel::<Order>();
        thread::spawn(move || {
            for (mut command, answer) in inbox {
                // The asker waits for the answer.
                let _ = answer.send(command.spawn());
            }
        });
        orders
    });
    let (answer, started) = sync_channel(1);
    STARTER.send((command, answer)).map_err(io::Error::other)?;
    started.recv().map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn shell(script: &str) -> Process {
        Process::start(Path::new("/bin/sh"), |c| {
            c.args(["-c", script]);
        })
    }

    #[test]
    fn what_it_prints_and_its_status_are_seen() {
        let mut process = shell("echo out; echo err >&2; exit 7");
        assert_eq!(process.wait_exit(wait::PATIENCE).code(), Some(7));
        assert_eq!(
            (process.stdout().as_str(), process.stderr().as_str()),
            ("out\n", "err\n")
        );
    }

    fn wait_for_up(process: &mut Process) {
        process.wait_until("it says up", wait::PATIENCE, |p| {
            (p.stdout() == "up\n").then_some(())
        });
    }

    #[test]
    fn a_stopped_process_is_killed_by_drop() {
        let mut process = shell("echo up; exec sleep 1000");
        wait_for_up(&mut process);
        process.signal(Signal::STOP);
        let id = process.id();
        drop(process);
        assert!(!Path::new(&format!("/proc/{id}")).exists());
    }

    #[test]
    fn the_peak_of_its_memory_is_seen_and_forgotten() {
        // A shell variable of 8 MiB, and then none.
        let mut process = shell(
            "x=$(head -c 8388608 /dev/zero | tr '\\0' x); x=; echo up; read line </dev/zero; :",
        );
        wait_for_up(&mut process);
        let before = process.memory();
        assert!(
            before.peak > 8 << 20 && before.now <= before.peak && before.anonymous <= before.now,
            "{before:?}"
        );
        process.forget_peak();
        assert!(process.memory().peak < before.peak);
    }

    #[test]
    fn it_outlives_the_thread_that_asked_for_it() {
        let script = "trap 'exit 3' TERM; echo up; while :; do sleep 0.02; done";
        let mut process = thread::spawn(|| shell(script)).join().unwrap();
        wait_for_up(&mut process);
        process.signal(Signal::TERM);
        // Had it been killed with the thread, its status would be a signal, not a code.
        assert_eq!(process.wait_exit(wait::PATIENCE).code(), Some(3));
    }

    #[test]
    #[should_panic(
        expected = "ended (exit status: 5) before this was so: the impossible; it printed:\nwhy"
    )]
    fn an_early_end_is_told_with_what_was_printed() {
        shell("echo why >&2; exit 5").wait_until("the impossible", wait::PATIENCE, |_| None::<()>);
    }
}
