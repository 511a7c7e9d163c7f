//! A pod's network, and beside it one with servers: network namespaces that the test makes, and that end with it.
//!
//! The test runs itself once more, alone in namespaces of its own for networks, processes and mounts: whatever it starts there ends
//! with it, however it ends, and nothing of the machine changes. It is the application then, and what it connects to it connects to
//! from the pod.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::TcpListener;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Command, Output};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tempfile::TempDir;

use crate::address::Address;
use crate::process::Process;
use crate::proxy::binary;
use crate::resp::Client;
use crate::server::Kind;
use crate::wait::PATIENCE;

/// Names the file that says how far the test has come in its own namespaces.
const INSIDE: &str = "TARS_TESTS_INSIDE";

/// Namespaces of one's own, and what runs in them ends with the first program in them.
const ALONE: [&str; 6] = [
    "--net",
    "--mount",
    "--pid",
    "--fork",
    "--kill-child=KILL",
    "--mount-proc",
];

/// The pod's own addresses.
pub const IPV4: &str = "10.44.0.1";
/// The same over IPv6.
pub const IPV6: &str = "fd44::1";

/// Addresses of servers end in these numbers.
const FIRST: u8 = 11;
const LAST: u8 = 19;

/// The proxy's user, as the injector runs it.
pub const PROXY_UID: u32 = 8277;
/// Where it listens.
pub const PROXY_PORT: u16 = 16380;

/// Two networks, joined by a cable.
#[derive(Debug)]
pub struct Pod {
    /// Keeps the servers' network, and does nothing.
    servers: Process,
}

/// A real Redis or Valkey in the servers' network.
#[derive(Debug)]
pub struct Node {
    process: Process,
    address: Address,
    _dir: TempDir,
}

/// Runs `body` in a pod. `test` is the test's whole name, as `--exact` takes it.
///
/// Where there are no namespaces to be had, it says why and does nothing; with `CI=true` that is a failure.
///
/// # Panics
/// When `body` does, with what it printed.
#[track_caller]
pub fn run(test: &str, body: impl FnOnce(&Pod)) {
    if let Some(progress) = env::var_os(INSIDE) {
        let pod = Pod::new();
        body(&pod);
        fs::write(progress, "done").unwrap();
        return;
    }
    if let Err(why) = possible() {
        let why = format!(
            "{test} needs network namespaces of its own, which are not to be had here: {why}"
        );
        // What is meant to run there must not be left out unnoticed.
        assert!(env::var_os("CI").is_none_or(|ci| ci != "true"), "{why}");
        eprintln!("{why}");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let progress = dir.path().join("progress");
    // A program's parent, to the kernel, is a thread: this one waits.
    let output = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--", "unshare"])
        .args(ALONE)
        .arg(env::current_exe().unwrap())
        .args(["--exact", test, "--test-threads=1", "--nocapture"])
        .env(INSIDE, &progress)
        .output()
        .unwrap();
    // No test of that name is a success to the harness.
    let done = fs::read_to_string(&progress).is_ok_and(|progress| progress == "done");
    assert!(
        done && output.status.success(),
        "{test} in its own namespaces: {}",
        said(&output)
    );
}

/// Whether a test can be alone, or why not.
fn possible() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("run as root".to_owned());
    }
    let tried = Command::new("unshare").args(ALONE).arg("true").output();
    match tried {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(said(&output)),
        Err(error) => Err(format!("unshare (util-linux): {error}")),
    }
}

impl Pod {
    fn new() -> Self {
        let mut servers = Process::start(Path::new("unshare"), |command| {
            command.args(["--net", "sleep", "infinity"]);
        });
        let network = format!("/proc/{}/ns/net", servers.id());
        let own = fs::read_link("/proc/self/ns/net").unwrap();
        servers.wait_until("it has a network of its own", PATIENCE, |_| {
            let other = fs::read_link(&network).ok()?;
            let runs = fs::read_to_string(network.replace("ns/net", "comm")).ok()?;
            (other != own && runs.trim() == "sleep").then_some(())
        });
        let pod = Self { servers };
        let id = pod.servers.id().to_string();
        ip("link set lo up");
        ip(&format!(
            "link add pod type veth peer name servers netns {id}"
        ));
        ip(&format!("addr add {IPV4}/24 dev pod"));
        // Without the search for others who have it, which takes a second.
        ip(&format!("addr add {IPV6}/64 dev pod nodad"));
        ip("link set pod up");
        pod.ip("link set lo up");
        pod.ip("link set servers up");
        for number in FIRST..=LAST {
            for address in [
                format!("10.44.0.{number}/24"),
                format!("fd44::{number}/64 nodad"),
            ] {
                pod.ip(&format!("addr add dev servers {address}"));
            }
        }
        pod
    }

    /// `ip`, in the servers' network.
    fn ip(&self, line: &str) {
        let line = format!("{} ip {line}", self.network());
        run_program("nsenter", line.split(' '));
    }

    fn network(&self) -> String {
        format!("--net=/proc/{}/ns/net", self.servers.id())
    }

    /// A running server at `host:port` in the servers' network; from here it is asked before anything is redirected.
    #[track_caller]
    #[must_use]
    pub fn server(&self, kind: Kind, address: &str, args: &[&str]) -> Node {
        let dir = tempfile::tempdir().unwrap();
        let (host, port) = address.rsplit_once(':').unwrap();
        let host = host.trim_matches(['[', ']']);
        let mut process = Process::start(Path::new("nsenter"), |command| {
            command.arg(self.network()).arg(kind.binary());
            command.current_dir(dir.path());
            command.args(["--bind", host, "--port", port, "--protected-mode", "no"]);
            command.args(["--save", ""]).args(args);
        });
        process.wait_until("it takes connections", PATIENCE, |process| {
            let ready = process.stdout().contains("eady to accept connections");
            ready.then_some(())
        });
        Node {
            process,
            address: Address::Tcp(address.to_owned()),
            _dir: dir,
        }
    }

    /// Listens at an address in the servers' network.
    ///
    /// # Panics
    /// When that cannot be had.
    #[must_use]
    pub fn listen(&self, address: &str) -> TcpListener {
        let network = File::open(format!("/proc/{}/ns/net", self.servers.id())).unwrap();
        // A socket stays in the network that its thread was in when it was made.
        thread::scope(|scope| {
            let listening = scope.spawn(|| {
                let kind = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(network.as_fd(), kind).unwrap();
                TcpListener::bind(address).unwrap()
            });
            listening.join().unwrap()
        })
    }
}

impl Node {
    /// Where it is.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The same as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// A connection that sees bytes.
    #[track_caller]
    #[must_use]
    pub fn connect(&self) -> Client {
        Client::connect(&self.address)
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }
}

/// `tars-proxy intercept` with these arguments, as root with no capability but NET_ADMIN.
///
/// # Panics
/// When it cannot be run.
#[must_use]
pub fn intercept(args: &str) -> Output {
    intercept_with("--bounding-set=-all,+net_admin", args)
}

/// The same with other privileges, as `setpriv` takes them.
///
/// # Panics
/// When it cannot be run.
#[must_use]
pub fn intercept_with(privileges: &str, args: &str) -> Output {
    Command::new("setpriv")
        .args(privileges.split(' '))
        .arg("--")
        .arg(binary())
        .arg("intercept")
        .args(args.split_whitespace())
        .output()
        .unwrap()
}

/// Runs a program to its end, and returns what it printed.
///
/// # Panics
/// When it fails.
#[track_caller]
pub fn run_program<A: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = A>) -> String {
    let output = Command::new(program).args(args).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn ip(line: &str) {
    run_program("ip", line.split(' '));
}

/// How a program ended, and what it printed.
#[must_use]
pub fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy;
    format!(
        "{}\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    )
}
