//! All wiring: what is built, in which order, and how it ends.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use rustix::fs::{FlockOperation, flock};
use tars_sidecar::address::Address;
use tars_sidecar::admin::{Admin, Parts};
use tars_sidecar::drain::Drain;
use tars_sidecar::listen::{BindError, Inherited};
use tars_sidecar::logging::{self, LogLevel};
use tars_sidecar::otlp;
use tars_sidecar::readiness::{Blocked, Readiness};
use tars_sidecar::signals::{Event, Signals};
use tokio::runtime::{Builder, Handle};
use tokio::time::{Instant, sleep, timeout};

use super::agent::RECOVERING;
use super::agents::{Agents, AgentsError};
use super::config::Config;
use super::http::counters::Counters;
use super::http::guard::{Guard, Secret};
use super::http::threads::{STACK, Threads};
use super::http::tls::{Acceptor, BadFile, Files};
use super::http::{Http, serve};
use super::memory::{Collected, Guard as MemoryGuard, count_this_stack};
use super::metrics;
use super::streams::counters::Counters as StreamCounters;
use super::streams::listener as listen_to;
use super::tracing::{SpanCounters, start};
use crate::memory::{Component, MemoryBudget, OverBudget};

/// Held by the process whose agents these are.
const LOCK: &str = ".lock";
/// For what waits: agents that are made or removed, large bodies, files.
const BLOCKING: usize = 8;
/// A body may have one part in so many of the budget, unless that is said ...
const BODY_PART: usize = 32;
/// ... and at least and at most so much.
const LEAST_BODY: usize = 64 << 10;
const MOST_BODY: usize = 8 << 20;
/// What becomes of a body takes so many times what it has: itself, its numbers in lists that grow by doubling, and their place in the journal.
const BODY_FACTOR: usize = 4;
/// How often it is asked whether agents have read what they had acknowledged.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// What remains of the drain for spans.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the service did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address is not to be had.
    #[error("--{setting}: {error}")]
    Bind {
        /// The flag that names it.
        setting: &'static str,
        /// Why not.
        error: BindError,
    },
    /// A socket that was handed over is not to be had.
    #[error(transparent)]
    Inherited(BindError),
    /// Somebody else's agents.
    #[error("--data: {} belongs to another tars-agent that runs: end it, or give another directory", .0.display())]
    Locked(PathBuf),
    /// The directory cannot be used.
    #[error("--data: {}: {error}", path.display())]
    Data {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The same, said by the agents.
    #[error("--data: {0}")]
    Agents(#[from] AgentsError),
    /// There is too little for bodies.
    #[error("--{setting}: {error}")]
    Bodies {
        /// The flag that is to blame.
        setting: &'static str,
        /// How little.
        error: OverBudget,
    },
    /// A token that is none.
    #[error("--token-file: {}: {why}", path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// A file of TLS.
    #[error("TLS: {0}")]
    Tls(#[from] BadFile),
    /// The log cannot be set up.
    #[error("--log-level: {0}")]
    Log(#[from] logging::Error),
    /// An `OTEL_*` variable.
    #[error(transparent)]
    Telemetry(#[from] otlp::Error),
    /// Two metrics of one name: a defect.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
    /// The operating system refused something.
    #[error("cannot start: {0}")]
    Io(#[from] io::Error),
}

/// Serves until told to stop.
///
/// # Errors
/// If it cannot start.
pub fn run(config: Config) -> Result<(), Error> {
    // Before there are other threads: it changes the environment.
    let inherited = Inherited::from_env().map_err(Error::Inherited)?;
    let log_level = logging::init(&config.log_level, config.log_format)?;
    // This thread accepts, reads streams and answers the admin's requests; others answer everybody else's.
    let runtime = Builder::new_current_thread()
        .max_blocking_threads(BLOCKING)
        .thread_stack_size(STACK)
        .thread_name("aside")
        .on_thread_start(|| count_this_stack(STACK))
        .enable_all()
        .build()?;
    runtime.block_on(control(config, inherited, log_level))
}

async fn control(
    config: Config,
    mut inherited: Inherited,
    log_level: LogLevel,
) -> Result<(), Error> {
    let mut signals = Signals::new()?;
    let (drain, readiness, registry) = (Drain::new(), Readiness::new(), Registry::new());
    let guard = guard(&config)?;
    let tls = files(&config).map(Acceptor::new).transpose()?.map(Arc::new);
    let _lock = lock(&config.data)?;
    let bind = |inherited: &mut Inherited, setting, address: &Address| {
        let bound = inherited.bind(address);
        bound.map_err(|error| Error::Bind { setting, error })
    };
    let listener = bind(&mut inherited, "listen", &config.listen)?;
    let admin = bind(&mut inherited, "admin", &config.admin)?;
    let env = |name: &str| std::env::var(name).ok();
    tars_sidecar::process::register(&registry)?;
    let spans = start(env, SpanCounters::register(&registry)?)?;

    let budget = MemoryBudget::from_environment(config.memory);
    let max_body = config
        .max_body
        .unwrap_or(MOST_BODY.min(budget.limit() / BODY_PART).max(LEAST_BODY));
    let bodies = budget.set_aside(Component::Bodies, max_body.saturating_mul(BODY_FACTOR));
    let _bodies = bodies.map_err(|error| {
        let told = config.max_body.is_some();
        let setting = if told { "max-body" } else { "memory" };
        Error::Bodies { setting, error }
    })?;
    let agents = Arc::new(Agents::new(
        &config.data,
        budget,
        config.workers.get(),
        listen_to(
            config.streams(),
            StreamCounters::register(&registry)?,
            Handle::current(),
        ),
    )?);
    metrics::register(&registry, agents.clone())?;
    registry.register(Box::new(Collected::new(agents.clone())?))?;
    let counters = Counters::register(&registry)?;
    let http = Arc::new(Http::new(
        agents.clone(),
        guard,
        max_body,
        counters,
        Handle::current(),
    ));
    let threads = Arc::new(Threads::start(config.workers.get())?);

    let admin = Admin::new(Parts {
        name: "tars-agent",
        version: env!("CARGO_PKG_VERSION"),
        drain: drain.clone(),
        readiness: readiness.clone(),
        registry,
        log_level,
    })
    .on(admin);
    tracing::info!(address = %listener.local_addr()?, "listening");
    tracing::info!(address = %admin.local_addr()?, "admin");
    warn(&config);
    let starting = readiness.block("agents");
    let admin = tokio::spawn(admin.serve());
    let serving = serve::serve(
        listener,
        http.clone(),
        tls.clone(),
        config.max_connections.get(),
        threads.clone(),
        drain.clone(),
    );
    let serving = tokio::spawn(serving);
    recover(agents.clone(), &http, starting).await?;
    tokio::spawn(MemoryGuard::new(agents.clone()).watch());

    loop {
        let event = tokio::select! {
            event = signals.next() => event,
            () = drain.started() => Event::Shutdown,
        };
        match event {
            Event::Reload => reload(&config, &http, tls.as_deref()),
            Event::Shutdown => break,
        }
    }
    drain.start();
    tracing::info!(connections = drain.guards(), "draining");
    if timeout(config.drain_timeout, drain.finished())
        .await
        .is_err()
    {
        tracing::warn!(
            connections = drain.guards(),
            "the drain's time is over: cutting what has not come to its end"
        );
    }
    serving.abort();
    // An agent that has ended has written what it must.
    let _ = tokio::task::spawn_blocking(move || agents.stop()).await;
    if let Some(spans) = spans {
        spans.flush(Instant::now() + FLUSH_TIMEOUT).await;
    }
    admin.abort();
    tracing::info!("stopped");
    Ok(())
}

/// Starts what is on the disk. Ready once every agent has read what it had acknowledged.
async fn recover(agents: Arc<Agents>, http: &Arc<Http>, starting: Blocked) -> Result<(), Error> {
    let all = agents.clone();
    let started = tokio::task::spawn_blocking(move || all.start()).await;
    started.map_err(io::Error::other)??;
    http.started();
    tokio::spawn(async move {
        let recovers = |agents: &Agents| {
            let all = agents.all();
            all.iter()
                .any(|agent| agent.report().closed.as_deref() == Some(RECOVERING))
        };
        while recovers(&agents) {
            sleep(LOOK_EVERY).await;
        }
        tracing::info!(agents = agents.all().len(), "ready");
        drop(starting);
    });
    Ok(())
}

/// A directory belongs to one process: two would write the same journals.
fn lock(data: &Path) -> Result<File, Error> {
    let cannot = |error| Error::Data {
        path: data.to_owned(),
        error,
    };
    if data.exists() && !data.is_dir() {
        return Err(cannot(io::Error::other(
            "this is no directory; agents are kept in one",
        )));
    }
    std::fs::create_dir_all(data).map_err(cannot)?;
    let path = data.join(LOCK);
    let file = OpenOptions::new().create(true).append(true).open(&path);
    let file = file.map_err(cannot)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::Locked(data.to_owned())),
        Err(error) => Err(cannot(error.into())),
    }
}

fn files(config: &Config) -> Option<Files> {
    Some(Files {
        certificate: config.tls_cert.clone()?,
        key: config.tls_key.clone()?,
        client_ca: config.tls_client_ca.clone(),
    })
}

fn guard(config: &Config) -> Result<Guard, Error> {
    let bad = |path: &Path, why: String| Error::Token {
        path: path.to_owned(),
        why,
    };
    let token = config.token_file.as_deref().map(|path| {
        let text = std::fs::read(path).map_err(|error| bad(path, error.to_string()))?;
        let token = Secret::new(&text);
        token.ok_or_else(|| bad(path, "expected a token, found nothing".to_owned()))
    });
    Ok(Guard {
        token: token.transpose()?,
        certificate: config.tls_client_ca.is_some(),
        protect_reads: config.protect_reads,
        local: is_local(&config.listen),
        hosts: config.allow_host.clone(),
        tls: config.tls_cert.is_some(),
    })
}

fn is_local(address: &Address) -> bool {
    match address {
        Address::Unix(_) => false,
        Address::Tcp { host, .. } => {
            &**host == "localhost"
                || address
                    .as_socket_addr()
                    .is_some_and(|address| address.ip().is_loopback())
        }
    }
}

fn warn(config: &Config) {
    let open = matches!(config.listen, Address::Tcp { .. }) && !is_local(&config.listen);
    if open && config.token_file.is_none() && config.tls_client_ca.is_none() {
        tracing::warn!(
            "whoever reaches this address may change and delete agents: give --token-file, or --tls-client-ca"
        );
    }
}

/// Token and certificates are read again; those in force stay if they cannot be.
fn reload(config: &Config, http: &Http, tls: Option<&Acceptor>) {
    let done = guard(config).and_then(|guard| {
        tls.map_or(Ok(()), Acceptor::reload)?;
        http.set_guard(guard);
        Ok(())
    });
    match done {
        Ok(()) => tracing::info!("token and certificates were read again"),
        Err(error) => tracing::error!("{error}; what is in force stays"),
    }
}
