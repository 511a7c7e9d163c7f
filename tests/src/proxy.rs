//! The binary under test, started as an operator would start it.

use std::env;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::Permissions;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use tempfile::TempDir;

use crate::address::Address;
use crate::built::built;
use crate::http::{self, Response};
use crate::port::Port;
use crate::process::{Memory, Process, Signal};
use crate::resp::Client;
use crate::server::{Server, redis_connection};
use crate::wait::{self, PATIENCE};

pub mod metrics;

use metrics::Metrics;

/// What a proxy is started with.
#[derive(Debug)]
pub struct Builder {
    upstream: String,
    listen: Option<Address>,
    admin: Option<String>,
    listeners: Vec<(Address, String)>,
    config: Option<String>,
    args: Vec<String>,
    env: Vec<(String, String)>,
    inherited: Vec<OwnedFd>,
    descriptors: Option<u32>,
    user: Option<u32>,
}

impl Builder {
    /// It runs as this user, and may do nothing more than anybody. For tests that run as root.
    #[must_use]
    pub fn user(mut self, uid: u32) -> Self {
        self.user = Some(uid);
        self
    }

    /// It can open as many descriptors and no more (`ulimit -n`).
    #[must_use]
    pub fn descriptors(mut self, limit: u32) -> Self {
        self.descriptors = Some(limit);
        self
    }

    /// Hands it a listening socket, as systemd does: descriptors from 3 on, `LISTEN_FDS` their number. It listens there, if that is an
    /// address of its own. Two at most.
    ///
    /// # Panics
    /// When this process has no descriptor left.
    #[must_use]
    pub fn inherit(mut self, socket: impl AsFd) -> Self {
        self.inherited
            .push(socket.as_fd().try_clone_to_owned().unwrap());
        self
    }

    /// Listens there too, each listener with its server.
    #[must_use]
    pub fn listener(mut self, listen: Address, upstream: &str) -> Self {
        self.listeners.push((listen, upstream.to_owned()));
        self
    }

    /// Adds arguments, such as `["--no-trace"]`.
    #[must_use]
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable. No `TARS_*` or `OTEL_*` of the test's own environment reaches the proxy.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// Exports spans over OTLP/gRPC to `endpoint`, in short intervals.
    #[must_use]
    pub fn otlp_grpc(self, endpoint: &str) -> Self {
        self.otlp(endpoint, "grpc")
    }

    /// Exports spans over OTLP/HTTP with protobuf to `endpoint`, in short intervals.
    #[must_use]
    pub fn otlp_http(self, endpoint: &str) -> Self {
        self.otlp(endpoint, "http/protobuf")
    }

    fn otlp(self, endpoint: &str, protocol: &str) -> Self {
        self.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
            .env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
            .env("OTEL_BSP_SCHEDULE_DELAY", "50")
    }

    /// Gives it a configuration file with this TOML.
    #[must_use]
    pub fn config(mut self, toml: &str) -> Self {
        self.config = Some(toml.to_owned());
        self
    }

    /// Reaches its server there instead.
    #[must_use]
    pub fn upstream(mut self, url: &str) -> Self {
        url.clone_into(&mut self.upstream);
        self
    }

    /// Answers probes there instead of on a free port.
    #[must_use]
    pub fn admin(mut self, address: &str) -> Self {
        self.admin = Some(address.to_owned());
        self
    }

    /// Takes its server's URL, with user, password and database, from the environment instead.
    #[must_use]
    pub fn upstream_env(mut self, url: &str) -> Self {
        self.upstream.clear();
        self.args(["--upstream-env", "SHOP_REDIS_URL"])
            .env("SHOP_REDIS_URL", url)
    }

    /// Listens there instead of on a free port.
    #[must_use]
    pub fn listen(mut self, address: Address) -> Self {
        self.listen = Some(address);
        self
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Panics
    /// When it does not get ready.
    #[track_caller]
    #[must_use]
    pub fn start(self) -> Proxy {
        let mut proxy = self.spawn();
        proxy.wait_ready();
        proxy
    }

    /// Starts it and waits until it is live: it need not be ready, since its server may be absent.
    ///
    /// # Panics
    /// When it does not get live.
    #[track_caller]
    #[must_use]
    pub fn start_unready(self) -> Proxy {
        let mut proxy = self.spawn();
        proxy.wait_status("/live", 200);
        proxy
    }

    /// Starts it and waits for nothing.
    #[track_caller]
    #[must_use]
    pub fn spawn(self) -> Proxy {
        let dir = tempfile::tempdir().unwrap();
        let (listen_port, admin_port) = (Port::claim(), Port::claim());
        let address = self
            .listen
            .unwrap_or_else(|| Address::Tcp(listen_port.addr()));
        let admin = self.admin.unwrap_or_else(|| admin_port.addr());
        let mut args = vec!["--admin".into(), admin.clone()];
        let mut config = self.config;
        if self.listeners.is_empty() {
            args.extend(["--listen".into(), address.to_string()]);
            if !self.upstream.is_empty() {
                args.extend(["--upstream".into(), self.upstream]);
            }
        } else {
            // With several, only a file can say which has which server.
            let first = (address.clone(), self.upstream);
            let toml = config.get_or_insert_default();
            for (listen, upstream) in [first].iter().chain(&self.listeners) {
                let _ = write!(
                    toml,
                    "\n[[listener]]\nlisten = \"{listen}\"\nupstream = \"{upstream}\"\n"
                );
            }
        }
        if let Some(toml) = config {
            let path = dir.path().join("tars-proxy.toml");
            std::fs::write(&path, toml).unwrap();
            args.extend(["--config".into(), path.display().to_string()]);
        }
        args.extend(self.args);
        let admin = Address::Tcp(admin);
        let user = self.user.map(|uid| User::of(uid, dir.path()));
        let process = run_with(
            &args,
            &self.env,
            self.inherited,
            self.descriptors,
            user.as_ref(),
        );
        Proxy {
            process,
            user,
            address,
            admin,
            args,
            env: self.env,
            dir,
            _ports: [listen_port, admin_port],
        }
    }
}

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    process: Process,
    address: Address,
    admin: Address,
    args: Vec<String>,
    env: Vec<(String, String)>,
    user: Option<User>,
    dir: TempDir,
    _ports: [Port; 2],
}

/// Somebody else, who has a copy of the program where it can be read: the folder that it was built in need not be everybody's.
#[derive(Debug)]
struct User {
    uid: u32,
    program: PathBuf,
}

impl User {
    fn of(uid: u32, folder: &Path) -> Self {
        let program = folder.join("tars-proxy");
        std::fs::copy(binary(), &program).unwrap();
        std::fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
        Self { uid, program }
    }
}

impl Proxy {
    /// A proxy before `server`, to be configured and started.
    #[must_use]
    pub fn to(server: &Server) -> Builder {
        Self::to_url(&server.url())
    }

    /// A proxy before whatever is, or is not, at `upstream`.
    #[must_use]
    pub fn to_url(upstream: &str) -> Builder {
        Builder {
            upstream: upstream.to_owned(),
            listen: None,
            admin: None,
            listeners: Vec::new(),
            config: None,
            args: Vec::new(),
            env: Vec::new(),
            inherited: Vec::new(),
            descriptors: None,
            user: None,
        }
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Where its admin server listens.
    #[must_use]
    pub fn admin(&self) -> &Address {
        &self.admin
    }

    /// A connection that sees bytes.
    #[track_caller]
    #[must_use]
    pub fn connect(&self) -> Client {
        Client::connect(&self.address)
    }

    /// A connection of the `redis` crate.
    #[track_caller]
    #[must_use]
    pub fn redis(&self) -> redis::Connection {
        redis_connection(&self.address)
    }

    /// `GET path` from its admin server.
    ///
    /// # Panics
    /// When it does not answer.
    #[track_caller]
    #[must_use]
    pub fn get(&self, path: &str) -> Response {
        http::get(&self.admin, path)
            .unwrap_or_else(|e| panic!("GET {path} from the admin server: {e}"))
    }

    /// Its metrics now.
    ///
    /// # Panics
    /// When the answer is not in Prometheus' text format.
    #[track_caller]
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        let answer = self.get("/metrics");
        assert_eq!(answer.status, 200, "/metrics: {}", answer.body);
        Metrics::parse(&answer.body)
    }

    /// The sum of a metric over all of its samples that carry `labels`. See [`Metrics::sum`].
    #[track_caller]
    #[must_use]
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.metrics().sum(name, labels)
    }

    /// Waits until [`Self::metric`] is as wanted; until it exists, it is NaN.
    ///
    /// # Panics
    /// When it is not in time, with its last value.
    #[track_caller]
    pub fn wait_metric(
        &self,
        name: &str,
        labels: &[(&str, &str)],
        wanted: impl Fn(f64) -> bool,
    ) -> f64 {
        let mut last = f64::NAN;
        let found = wait::poll(PATIENCE, || {
            let metrics = self.metrics();
            last = match metrics.names().contains(name) {
                true => metrics.sum(name, labels),
                false => f64::NAN,
            };
            wanted(last).then_some(last)
        });
        found.unwrap_or_else(|| panic!("{name}{labels:?} stayed at {last}"))
    }

    /// Waits until `/ready` says so.
    #[track_caller]
    pub fn wait_ready(&mut self) {
        self.wait_status("/ready", 200);
    }

    /// Waits until `/ready` says that it is not.
    #[track_caller]
    pub fn wait_unready(&mut self) {
        self.wait_status("/ready", 503);
    }

    #[track_caller]
    fn wait_status(&mut self, path: &str, status: u16) {
        let admin = self.admin.clone();
        self.process
            .wait_until(&format!("{path} answers {status}"), PATIENCE, |_| {
                http::get(&admin, path)
                    .is_ok_and(|answer| answer.status == status)
                    .then_some(())
            });
    }

    /// Replaces its configuration file; it is read at the next SIGHUP.
    ///
    /// # Panics
    /// When it was started without one.
    pub fn rewrite_config(&self, toml: &str) {
        let path = self.dir.path().join("tars-proxy.toml");
        assert!(
            path.exists(),
            "this proxy was started without a configuration file"
        );
        std::fs::write(path, toml).unwrap();
    }

    /// Sends a signal.
    #[track_caller]
    pub fn signal(&mut self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait_exit(&mut self, limit: Duration) -> ExitStatus {
        self.process.wait_exit(limit)
    }

    /// Ends it by SIGTERM, which drains, and expects that to succeed.
    ///
    /// # Panics
    /// When it ends with an error, or not in time.
    #[track_caller]
    pub fn drain(&mut self) {
        self.signal(Signal::TERM);
        let status = self.wait_exit(PATIENCE);
        assert!(
            status.success(),
            "the drain ended with {status}:\n{}",
            self.stderr()
        );
    }

    /// Kills it (SIGKILL), as the kernel or a node's end would.
    #[track_caller]
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait_exit(PATIENCE);
    }

    /// Starts it again with the same arguments at the same addresses, after it has ended.
    #[track_caller]
    pub fn start_again(&mut self) {
        assert!(self.process.exited().is_some(), "this proxy still runs");
        self.process = run_with(&self.args, &self.env, Vec::new(), None, self.user.as_ref());
        self.wait_ready();
    }

    /// What it wrote to standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        self.process.stdout()
    }

    /// What it wrote to standard error so far: its log.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.process.stderr()
    }

    /// Waits until its log contains `text`.
    #[track_caller]
    pub fn wait_log(&mut self, text: &str) {
        let what = format!("its log contains {text:?}");
        self.process
            .wait_until(&what, PATIENCE, |p| p.stderr().contains(text).then_some(()));
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// See [`Process::limit_descriptors`].
    pub fn limit_descriptors(&self, more: usize) {
        self.process.limit_descriptors(more);
    }

    /// See [`Process::set_descriptor_limit`].
    pub fn set_descriptor_limit(&self, limit: u64) {
        self.process.set_descriptor_limit(limit);
    }

    /// Whether it has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.process.exited()
    }

    /// See [`Process::memory`].
    #[track_caller]
    #[must_use]
    pub fn memory(&self) -> Memory {
        self.process.memory()
    }

    /// See [`Process::forget_peak`].
    pub fn forget_peak(&self) {
        self.process.forget_peak();
    }
}

/// Runs the binary with nothing but `args`, to its end: for `check-config`, `explain` and refused starts.
///
/// # Panics
/// When it does not end.
#[track_caller]
#[must_use]
pub fn run_to_end(args: &[&str]) -> (ExitStatus, String, String) {
    run_to_end_with(args, &[])
}

/// The same with these variables.
///
/// # Panics
/// When it does not end.
#[track_caller]
#[must_use]
pub fn run_to_end_with(
    args: &[&str],
    environment: &[(String, String)],
) -> (ExitStatus, String, String) {
    let args: Vec<String> = args.iter().map(ToString::to_string).collect();
    let mut process = run(&args, environment);
    let status = process.wait_exit(PATIENCE);
    (status, process.stdout(), process.stderr())
}

#[track_caller]
fn run(args: &[String], environment: &[(String, String)]) -> Process {
    run_with(args, environment, Vec::new(), None, None)
}

/// A shell moves the descriptors to where they are looked for, and becomes the program under the process id it had. What the program
/// writes to its standard output is lost.
const ACTIVATE: [&str; 2] = [
    r#"exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@""#,
    r#"exec 3<&0 4<&1 </dev/null >/dev/null; LISTEN_FDS=2 LISTEN_PID=$$ exec "$@""#,
];

/// A shell lowers the limit of descriptors, and becomes the program.
const LIMIT: &str = r#"ulimit -n "$0"; exec "$@""#;

#[track_caller]
fn run_with(
    args: &[String],
    environment: &[(String, String)],
    inherited: Vec<OwnedFd>,
    descriptors: Option<u32>,
    user: Option<&User>,
) -> Process {
    // Each shell becomes what follows it.
    let mut line: Vec<OsString> = Vec::new();
    if let Some(limit) = descriptors {
        line.extend(["/bin/sh", "-c", LIMIT, &limit.to_string()].map(OsString::from));
    }
    if let Some(index) = inherited.len().checked_sub(1) {
        line.extend(["/bin/sh", "-c", ACTIVATE[index], "sh"].map(OsString::from));
    }
    match user {
        Some(User { uid, program }) => {
            let uid = uid.to_string();
            // A program that becomes another user's is not killed with its parent any more, unless it asks again.
            let become_user = [
                "setpriv",
                "--reuid",
                &uid,
                "--regid",
                &uid,
                "--clear-groups",
            ];
            let and_nothing_more = ["--bounding-set=-all", "--pdeathsig", "KILL", "--"];
            line.extend(become_user.map(OsString::from));
            line.extend(and_nothing_more.map(OsString::from));
            line.push(program.into());
        }
        None => line.push(binary().into()),
    }
    Process::start(Path::new(&line[0]), |command| {
        command.args(&line[1..]);
        let mut sockets = inherited.into_iter();
        if let Some(first) = sockets.next() {
            command.stdin(first);
        }
        if let Some(second) = sockets.next() {
            command.stdout(second);
        }
        for (name, _) in env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("TARS_") || name.starts_with("OTEL_") || name == "RUST_LOG" {
                command.env_remove(name.as_ref());
            }
        }
        command
            .args(args)
            .envs(environment.iter().map(|(name, value)| (name, value)));
    })
}

/// The binary under test: the one that `TARS_PROXY` names, else `tars-proxy` beside the folder of this test's executable.
///
/// # Panics
/// When there is none, or one older than its sources.
#[must_use]
pub fn binary() -> PathBuf {
    env::var_os("TARS_PROXY").map_or_else(|| built("tars-proxy"), PathBuf::from)
}
