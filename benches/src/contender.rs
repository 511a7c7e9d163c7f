//! What is measured: each contender is started with what its own documentation calls its ordinary settings, on one thread.

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tars_tests::parts;
use tars_tests::port::Port;
use tars_tests::process::Process;
use tars_tests::wait::PATIENCE;
use tempfile::TempDir;

use crate::usage::{self, Usage};

/// What may stand between a client and Redis.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Contender {
    /// Nothing: what the others are compared with.
    Direct,
    /// HAProxy, in TCP mode.
    Haproxy,
    /// Envoy's `tcp_proxy`.
    EnvoyTcp,
    /// Envoy's `redis_proxy`.
    EnvoyRedis,
    /// The least that tokio can do (`bare_relay.rs`).
    BareRelay,
    /// tars-proxy that only forwards.
    TarsNoTrace,
    /// tars-proxy that injects and extracts, and samples nothing.
    TarsUnsampled,
    /// tars-proxy that samples one trace in a hundred.
    #[value(name = "tars-1-percent")]
    #[serde(rename = "tars-1-percent")]
    Tars1Percent,
    /// tars-proxy that samples every trace, and exports it.
    #[value(name = "tars-100-percent")]
    #[serde(rename = "tars-100-percent")]
    Tars100Percent,
}

impl Contender {
    /// As it is written in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "Redis, direct",
            Self::Haproxy => "HAProxy, TCP",
            Self::EnvoyTcp => "Envoy tcp_proxy",
            Self::EnvoyRedis => "Envoy redis_proxy",
            Self::BareRelay => "bare tokio relay",
            Self::TarsNoTrace => "tars-proxy --no-trace",
            Self::TarsUnsampled => "tars-proxy, not sampled",
            Self::Tars1Percent => "tars-proxy, 1 % sampled",
            Self::Tars100Percent => "tars-proxy, 100 % sampled",
        }
    }

    /// Whether it is this project's.
    #[must_use]
    pub fn is_ours(self) -> bool {
        matches!(
            self,
            Self::TarsNoTrace | Self::TarsUnsampled | Self::Tars1Percent | Self::Tars100Percent
        )
    }

    /// Whether it passes the commands of consumer groups.
    #[must_use]
    pub fn has_groups(self) -> bool {
        self != Self::EnvoyRedis
    }

    /// Its executable; none, where there is no process.
    fn binary(self) -> Option<PathBuf> {
        match self {
            Self::Direct => None,
            Self::Haproxy => Some(in_path("haproxy")),
            Self::EnvoyTcp | Self::EnvoyRedis => Some(parts::cached(
                "TARS_ENVOY",
                "envoy",
                "ENVOY_VERSION",
                "envoy",
            )),
            Self::BareRelay => Some(beside("bare-relay")),
            _ => Some(beside("tars-proxy")),
        }
    }

    /// Starts it before the server at `upstream`, its spans going to the collector at `collector`, and waits until it answers.
    /// A command line given as `under` runs it.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn start(self, upstream: SocketAddr, collector: SocketAddr, under: &[&str]) -> Running {
        let Some(binary) = self.binary() else {
            return Running {
                address: upstream,
                process: None,
                admin: None,
                _port: None,
                _files: None,
            };
        };
        let port = Port::claim();
        let admin = self.is_ours().then(Port::claim);
        let address: SocketAddr = ([127, 0, 0, 1], port.number()).into();
        let files = tempfile::tempdir().expect("a temporary folder can be made");
        let file = |name: &str, text: String| {
            let path = files.path().join(name);
            fs::write(&path, text).expect("a temporary folder can be written to");
            path
        };
        let program = under.first().map_or(binary.clone(), PathBuf::from);
        let mut process = Process::start(&program, |command| {
            if !under.is_empty() {
                command.args(under.iter().skip(1)).arg(&binary);
            }
            match self {
                Self::Haproxy => command
                    .args(["-db", "-f"])
                    .arg(file("haproxy.cfg", haproxy(address, upstream))),
                Self::EnvoyTcp | Self::EnvoyRedis => command
                    .args(["--concurrency", "1", "--log-level", "error"])
                    .args(["--disable-hot-restart", "-c"])
                    .arg(file(
                        "envoy.yaml",
                        envoy(self == Self::EnvoyRedis, address, upstream),
                    )),
                Self::BareRelay => command.args([address.to_string(), upstream.to_string()]),
                _ => {
                    command.args(["--log-level", "warn"]);
                    command.args(
                        admin
                            .iter()
                            .flat_map(|admin| ["--admin".to_owned(), admin.addr()]),
                    );
                    command.args(["--listen", &address.to_string()]);
                    command.args(["--upstream", &format!("redis://{upstream}")]);
                    command.args(["--max-connections", "10000"]);
                    command.args((self == Self::TarsNoTrace).then_some("--no-trace"));
                    let (sampler, ratio) = match self {
                        Self::Tars1Percent => ("parentbased_traceidratio", "0.01"),
                        Self::Tars100Percent => ("parentbased_always_on", ""),
                        // Not even where a message that is read says so.
                        _ => ("always_off", ""),
                    };
                    command.env("OTEL_TRACES_SAMPLER", sampler);
                    command.env("OTEL_TRACES_SAMPLER_ARG", ratio);
                    command.env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
                    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{collector}"))
                }
            };
        });
        process.wait_until("it passes a PING", PATIENCE, |_| {
            answers(address).then_some(())
        });
        Running {
            address,
            process: Some(process),
            admin,
            _port: Some(port),
            _files: Some(files),
        }
    }

    /// What it says of its version.
    #[must_use]
    pub fn version(self) -> Option<String> {
        let binary = self.binary()?;
        let flag = if self == Self::Haproxy {
            "-v"
        } else {
            "--version"
        };
        if self == Self::BareRelay {
            return Some(format!("tokio, tars-benches {}", env!("CARGO_PKG_VERSION")));
        }
        let said = std::process::Command::new(binary).arg(flag).output().ok()?;
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let line = said.lines().map(str::trim).find(|line| !line.is_empty())?;
        // Envoy names its own path before it.
        Some(line.rsplit("  version: ").next()?.to_owned())
    }
}

/// A contender that runs; dropping it ends it.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    process: Option<Process>,
    /// Where it tells of itself.
    admin: Option<Port>,
    _port: Option<Port>,
    _files: Option<TempDir>,
}

impl Running {
    /// Its process, if it is one.
    pub fn process(&mut self) -> Option<&mut Process> {
        self.process.as_mut()
    }

    /// What it has used so far: nothing, where there is no process.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let id = self.process.as_ref().map(Process::id);
        id.map_or_else(Usage::default, usage::of)
    }

    /// Spans that have ended, and those of them that were dropped; none where it makes none.
    #[must_use]
    pub fn spans(&self) -> Option<Spans> {
        let admin = tars_tests::address::Address::Tcp(self.admin.as_ref()?.addr());
        let said = tars_tests::http::get(&admin, "/metrics").ok()?.body;
        let sum = |name: &str| -> f64 {
            let samples = said.lines().filter(|line| line.starts_with(name));
            let values = samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
            values.sum()
        };
        Some(Spans {
            ended: sum("tars_proxy_spans_ended_total"),
            dropped: sum("tars_proxy_spans_dropped_total"),
        })
    }
}

/// What became of spans.
#[derive(Clone, Copy, Debug)]
pub struct Spans {
    ended: f64,
    dropped: f64,
}

impl Spans {
    /// Of those that have ended since, the share that was not dropped; none, if none has.
    #[must_use]
    pub fn exported_since(self, before: Self) -> Option<f64> {
        let ended = self.ended - before.ended;
        (ended > 0.0).then(|| 1.0 - (self.dropped - before.dropped) / ended)
    }
}

fn answers(address: SocketAddr) -> bool {
    let address = tars_tests::address::Address::Tcp(address.to_string());
    let ping = || {
        let mut client = tars_tests::resp::Client::open(&address, PATIENCE)?;
        client.try_send(b"*1\r\n$4\r\nPING\r\n")?;
        client.try_reply()
    };
    ping().is_ok_and(|reply| reply == b"+PONG\r\n")
}

/// An executable of this project, built beside this one.
pub(crate) fn beside(name: &str) -> PathBuf {
    let path = env::current_exe()
        .expect("this program knows where it is")
        .with_file_name(name);
    assert!(
        path.is_file(),
        "{} is missing: cargo build --release -p tars-proxy -p tars-agent -p tars-benches",
        path.display()
    );
    path
}

fn in_path(name: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    // Debian keeps servers in /usr/sbin, which is not in everybody's PATH.
    let folders = env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("{name} is not in PATH: run `scripts/setup {name}`"))
}

fn haproxy(listen: SocketAddr, upstream: SocketAddr) -> String {
    format!(
        "global
    nbthread 1
    maxconn 9500
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
frontend redis
    bind {listen}
    default_backend redis
backend redis
    server redis {upstream}
"
    )
}

fn envoy(redis: bool, listen: SocketAddr, upstream: SocketAddr) -> String {
    let filter = if redis {
        "- name: envoy.filters.network.redis_proxy
      typed_config:
        '@type': type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProxy
        stat_prefix: redis
        settings: { op_timeout: 60s }
        prefix_routes: { catch_all_route: { cluster: redis } }"
    } else {
        "- name: envoy.filters.network.tcp_proxy
      typed_config:
        '@type': type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
        stat_prefix: redis
        cluster: redis"
    };
    format!(
        "static_resources:
  listeners:
  - address: {{ socket_address: {{ address: {}, port_value: {} }} }}
    filter_chains:
    - filters:
      {}
  clusters:
  - name: redis
    type: STATIC
    connect_timeout: 5s
    circuit_breakers: {{ thresholds: [{{ max_connections: 9500, max_pending_requests: 9500 }}] }}
    load_assignment:
      cluster_name: redis
      endpoints:
      - lb_endpoints:
        - endpoint: {{ address: {{ socket_address: {{ address: {}, port_value: {} }} }} }}
",
        listen.ip(),
        listen.port(),
        filter.replace("\n      ", "\n        "),
        upstream.ip(),
        upstream.port()
    )
}
