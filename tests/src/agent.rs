//! `tars-agent serve`, started as an operator would start it.

use std::io::Write as _;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::address::Address;
use crate::built::built;
use crate::cgroup::Cgroup;
use crate::http;
use crate::port::Port;
use crate::process::{Memory, Process, Signal};
use crate::proxy::metrics::Metrics;
use crate::wait::{self, PATIENCE};

/// What it is started with.
#[derive(Debug, Default)]
pub struct Builder {
    args: Vec<String>,
    env: Vec<(String, String)>,
    cgroup: Option<PathBuf>,
}

/// A running service. Dropping it kills it, and removes its data.
#[derive(Debug)]
pub struct Agent {
    process: Process,
    listen: Port,
    admin: Port,
    args: Vec<String>,
    env: Vec<(String, String)>,
    cgroup: Option<PathBuf>,
    data: TempDir,
}

/// What it answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The header lines.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON; null if it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// A header's value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1);
        let mut pairs = lines.filter_map(|line| line.split_once(": "));
        pairs
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// The same, once it is what was expected.
    ///
    /// # Panics
    /// When it is not.
    #[track_caller]
    #[must_use]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(
            self.status,
            status,
            "{}",
            String::from_utf8_lossy(&self.body)
        );
        self.json()
    }

    /// The sentence of a problem, once everything else about it is right.
    ///
    /// # Panics
    /// When it is not a problem of this kind.
    #[track_caller]
    #[must_use]
    pub fn problem(self, status: u16, reason: &str) -> String {
        let kind = self.header("content-type").unwrap_or_default().to_owned();
        let body = self.expect(status);
        assert_eq!(kind, "application/problem+json");
        assert_eq!(body["status"], status);
        assert_eq!(body["reason"], reason, "{body}");
        body["detail"].as_str().unwrap().to_owned()
    }
}

impl Builder {
    /// Adds arguments.
    #[must_use]
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable. No `TARS_*` or `OTEL_*` of the test's own environment reaches it.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// Runs it in a cgroup, from its first page on.
    #[must_use]
    pub fn within(mut self, cgroup: &Cgroup) -> Self {
        self.cgroup = Some(cgroup.directory().to_owned());
        self
    }

    /// Exports spans over OTLP/gRPC to `endpoint`, in short intervals.
    #[must_use]
    pub fn otlp_grpc(self, endpoint: &str) -> Self {
        self.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
            .env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
            .env("OTEL_BSP_SCHEDULE_DELAY", "50")
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Panics
    /// When it does not get ready.
    #[track_caller]
    #[must_use]
    pub fn start(self) -> Agent {
        let mut agent = self.spawn();
        agent.wait_ready();
        agent
    }

    /// Starts it and waits for nothing.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    #[must_use]
    pub fn spawn(self) -> Agent {
        let (listen, admin) = (Port::claim(), Port::claim());
        let data = tempfile::tempdir().unwrap();
        let mut args = vec!["serve".to_owned()];
        let directory = data.path().join("agents").display().to_string();
        let all = [
            ("--listen", listen.addr()),
            ("--admin", admin.addr()),
            ("--data", directory),
        ];
        args.extend(
            all.into_iter()
                .flat_map(|(flag, value)| [flag.to_owned(), value]),
        );
        args.extend(self.args);
        Agent {
            process: run(&args, &self.env, self.cgroup.as_deref()),
            listen,
            admin,
            args,
            env: self.env,
            cgroup: self.cgroup,
            data,
        }
    }
}

impl Agent {
    /// One with all defaults, at ports of its own, to be configured.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// One with all defaults.
    #[track_caller]
    #[must_use]
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// Where it answers.
    #[must_use]
    pub fn address(&self) -> String {
        self.listen.addr()
    }

    /// Where its admin server listens.
    #[must_use]
    pub fn admin(&self) -> Address {
        Address::Tcp(self.admin.addr())
    }

    /// Where its agents are on the disk.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.data.path().join("agents")
    }

    /// Its arguments.
    #[must_use]
    pub fn args(&self) -> &[String] {
        &self.args
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// See [`Process::memory`].
    #[track_caller]
    #[must_use]
    pub fn memory(&self) -> Memory {
        self.process.memory()
    }

    /// What it wrote to standard error so far: its log.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.process.stderr()
    }

    /// `GET path`.
    #[track_caller]
    #[must_use]
    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"")
    }

    /// `POST path` with JSON.
    #[track_caller]
    #[must_use]
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path, &[], body.to_string().as_bytes())
    }

    /// Any request, with JSON by its header unless `headers` say something else.
    ///
    /// # Panics
    /// When it is not answered.
    #[track_caller]
    #[must_use]
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let asked = self.try_ask(method, path, headers, body);
        asked.unwrap_or_else(|error| panic!("{method} {path}: {error}\n{}", self.stderr()))
    }

    /// The same, of a service that may be gone.
    ///
    /// # Errors
    /// Those of the connection, and an answer that is not HTTP.
    pub fn try_ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> std::io::Result<Answer> {
        let mut stream = self.connect()?;
        let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        let mut add = |name: &str, value: &str| head.push_str(&format!("{name}: {value}\r\n"));
        for (name, value) in headers {
            add(name, value);
        }
        for (name, value) in [
            ("Host", self.address()),
            ("Content-Type", "application/json".to_owned()),
            ("Content-Length", body.len().to_string()),
        ] {
            if !headers
                .iter()
                .any(|(given, _)| given.eq_ignore_ascii_case(name))
            {
                add(name, &value);
            }
        }
        stream.write_all(format!("{head}\r\n").as_bytes())?;
        // One that is refused by its head is not read to its end.
        let _ = stream.write_all(body);
        read(stream)
    }

    /// A connection to be spoken HTTP on by hand.
    ///
    /// # Errors
    /// Those of connecting.
    pub fn connect(&self) -> std::io::Result<TcpStream> {
        let stream = TcpStream::connect(self.address())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    /// Makes an agent.
    #[track_caller]
    pub fn create(&self, spec: &Value) -> Value {
        self.post("/v1/agents", spec).expect(201)
    }

    /// How an agent is doing.
    #[track_caller]
    #[must_use]
    pub fn status(&self, name: &str) -> Value {
        let mut answer = self.get(&format!("/v1/agents/{name}")).expect(200);
        answer["status"].take()
    }

    /// Waits until an agent's status is as wanted.
    #[track_caller]
    pub fn wait_status(&self, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        wait::until(what, PATIENCE, || Some(self.status(name)).filter(&wanted))
    }

    /// Its metrics now.
    ///
    /// # Panics
    /// When there are none.
    #[track_caller]
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        let answer = http::get(&self.admin(), "/metrics").unwrap();
        assert_eq!(answer.status, 200, "/metrics: {}", answer.body);
        Metrics::parse(&answer.body)
    }

    /// Waits until `/ready` says so.
    #[track_caller]
    pub fn wait_ready(&mut self) {
        let admin = self.admin();
        self.process
            .wait_until("/ready answers 200", PATIENCE, |_| {
                http::get(&admin, "/ready")
                    .is_ok_and(|answer| answer.status == 200)
                    .then_some(())
            });
    }

    /// Sends a signal.
    #[track_caller]
    pub fn signal(&mut self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait_exit(&mut self) -> ExitStatus {
        self.process.wait_exit(PATIENCE)
    }

    /// Ends it by SIGTERM, and expects that to succeed.
    ///
    /// # Panics
    /// When it ends with an error, or not in time.
    #[track_caller]
    pub fn drain(&mut self) {
        self.signal(Signal::TERM);
        let status = self.wait_exit();
        assert!(status.success(), "ended with {status}:\n{}", self.stderr());
    }

    /// Kills it.
    #[track_caller]
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait_exit();
    }

    /// Starts it again with the same arguments and data, after it has ended.
    ///
    /// # Panics
    /// When it still runs, or does not get ready.
    #[track_caller]
    pub fn start_again(&mut self) {
        self.spawn_again();
        self.wait_ready();
    }

    /// The same, and waits for nothing.
    ///
    /// # Panics
    /// When it still runs.
    pub fn spawn_again(&mut self) {
        assert!(self.process.exited().is_some(), "it still runs");
        self.process = run(&self.args, &self.env, self.cgroup.as_deref());
    }
}

/// An agent with four numbers and two actions, whose updates take `n_steps` transitions.
#[must_use]
pub fn cart(name: &str, n_steps: usize) -> Value {
    json!({
        "name": name,
        "observation_space": {"type": "Box", "shape": [4]},
        "action_space": {"type": "Discrete", "n": 2},
        "hyperparameters": {"n_steps": n_steps, "batch_size": n_steps.min(64), "n_epochs": 2},
    })
}

/// A fragment of `transitions` that suit [`cart`]: the last one ends its episode.
#[must_use]
pub fn fragment(env_id: u64, seq: u64, version: u64, transitions: usize) -> Value {
    let transition = |at: usize| {
        json!({
            "observation": [0.1 * at as f64, -0.2, 0.3, 0.0],
            "action": at % 2,
            "log_prob": -0.69,
            "reward": 1.0,
            "terminated": at + 1 == transitions,
        })
    };
    json!({
        "env_id": env_id,
        "seq": seq,
        "policy_version": version,
        "transitions": (0..transitions).map(transition).collect::<Vec<_>>(),
    })
}

/// A request of one fragment.
#[must_use]
#[allow(clippy::needless_pass_by_value, reason = "it is made where it is sent")]
pub fn batch(producer: &str, seq: u64, fragment: Value) -> Value {
    json!({"producer": producer, "epoch": 1, "seq": seq, "fragments": [fragment]})
}

/// Runs the binary with these arguments to its end.
#[track_caller]
#[must_use]
pub fn run_to_end(args: &[&str]) -> (ExitStatus, String, String) {
    let args: Vec<String> = args.iter().map(ToString::to_string).collect();
    let mut process = run(&args, &[], None);
    let status = process.wait_exit(PATIENCE);
    (status, process.stdout(), process.stderr())
}

/// Reads an answer to its end.
///
/// # Errors
/// Those of the connection, and an answer that is not HTTP.
pub fn read(mut stream: impl std::io::Read) -> std::io::Result<Answer> {
    let mut bytes = Vec::new();
    // A connection that is reset after its answer has been answered.
    if let Err(error) = stream.by_ref().read_to_end(&mut bytes)
        && bytes.is_empty()
    {
        return Err(error);
    }
    let parsed = parse(&bytes);
    parsed.ok_or_else(|| std::io::Error::other(format!("not HTTP: {} bytes", bytes.len())))
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head
        .strip_prefix("HTTP/1.1 ")?
        .split(' ')
        .next()?
        .parse()
        .ok()?;
    let mut body = bytes[end + 4..].to_vec();
    if head
        .to_ascii_lowercase()
        .contains("transfer-encoding: chunked")
    {
        body = dechunk(&body)?;
    }
    Some(Answer { status, head, body })
}

fn dechunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).ok()?, 16).ok()?;
        rest = &rest[end + 2..];
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size + 2..)?;
    }
}

#[track_caller]
fn run(args: &[String], environment: &[(String, String)], cgroup: Option<&Path>) -> Process {
    let binary = std::env::var_os("TARS_AGENT").map_or_else(|| built("tars-agent"), PathBuf::from);
    let program = cgroup.map_or(&*binary, |_| Path::new("sh"));
    Process::start(program, |command| {
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("TARS_") || name.starts_with("OTEL_") || name == "RUST_LOG" {
                command.env_remove(name.as_ref());
            }
        }
        if let Some(cgroup) = cgroup {
            // What a process has when it enters stays on another's account: it enters while it is small, and becomes the program then.
            let enter = r#"echo $$ > "$0/cgroup.procs" && exec "$@""#;
            command.args(["-c", enter]).arg(cgroup).arg(&binary);
        }
        command
            .args(args)
            .envs(environment.iter().map(|(name, value)| (name, value)));
    })
}
