//! All wiring: what is built, in which thread it runs, and how it ends.
//!
//! The control thread (this one) holds the admin server, the exporter, signals and timers. Data threads hold connections
//! and nothing else; each runs an event loop of its own, and accepts from all listening sockets.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use tars_sidecar::admin::{Admin, Parts};
use tars_sidecar::drain::Drain;
use tars_sidecar::listen::{BindError, Inherited, Listener as Bound};
use tars_sidecar::logging::LogLevel;
use tars_sidecar::otlp;
use tars_sidecar::readiness::Readiness;
use tars_sidecar::signals::{Event, Signals};
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::config::{self, Address, Config, ConfigError, Limits, Reloaded};
use crate::deliveries::Deliveries;
use crate::greeting::Greeting;
use crate::listener::{Acceptor, serve};
use crate::metrics::{Bounded, Metrics};
use crate::original::{self, Originals};
use crate::tls::{self, Connector, FileError};
use crate::trace::export::{self, SpanQueue};
use crate::trace::recent::{self, Recent};
use crate::trace::span::Endpoint;
use crate::upstream::Upstream;
use crate::worker::{self, Destination, Destinations, Listener, Shared, Worker, budgets, now};

/// How often deliveries are looked through for those that are too old.
const EXPIRE_EVERY: Duration = Duration::from_millis(250);

/// How often connections are asked, during a drain, whether they are at rest.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Descriptors that are kept for the admin server (128 connections), listeners, exporters and the readiness check, so that
/// a proxy that is full still answers its probes; half of them where there are hardly more.
const RESERVED_DESCRIPTORS: u64 = 192;

/// What is left to replies under way when connections have used all of `drain_timeout`.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);

/// What remains of the drain for spans when connections have used all of it.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// A listening socket, and the listener that it is of.
type Served = (Bound, Arc<Listener>);

/// Why the proxy did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address is not to be had.
    #[error("--{setting}: {error}")]
    Bind {
        /// The setting that names it.
        setting: &'static str,
        /// Why not.
        error: BindError,
    },
    /// A file of TLS cannot be used.
    #[error(transparent)]
    Tls(#[from] FileError),
    /// A socket that was handed over is not to be had.
    #[error(transparent)]
    Inherited(BindError),
    /// An `OTEL_*` variable cannot be used.
    #[error("{0}")]
    Telemetry(String),
    /// The operating system refused something.
    #[error("cannot start: {0}")]
    Io(#[from] io::Error),
}

/// Serves until told to stop. `reload` reads the configuration again (SIGHUP).
///
/// # Errors
/// If an address cannot be listened at, or the telemetry cannot be set up.
pub fn run(
    config: Config,
    log_level: LogLevel,
    env: impl Fn(&str) -> Option<String>,
    reload: impl Fn(&Config) -> Result<Reloaded, ConfigError>,
) -> Result<(), Error> {
    // Before there are other threads: it changes the environment.
    let inherited = Inherited::from_env().map_err(Error::Inherited)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(control(config, inherited, log_level, env, reload))
}

/// Whether `run` could use the `OTEL_*` variables that it needs.
///
/// # Errors
/// The first that it could not.
pub fn check_telemetry(env: impl Fn(&str) -> Option<String>) -> Result<(), Error> {
    let telemetry = |error: &dyn std::fmt::Display| Error::Telemetry(error.to_string());
    export::Settings::from_env(&env).map_err(|error| telemetry(&error))?;
    otlp::OtlpSettings::from_env(&env).map_err(|error| telemetry(&error))?;
    otlp::Service::from_env(&env).map_err(|error| telemetry(&error))?;
    Ok(())
}

/// The addresses of a configuration that `run` could not listen on, as far as can be told without listening.
#[must_use]
pub fn check_addresses(config: &Config) -> Vec<Error> {
    let of = |setting, address| {
        let error = Bound::check(address).err()?;
        Some(Error::Bind { setting, error })
    };
    let listeners = config.listeners.iter();
    listeners
        .map(|listener| ("listen", &listener.listen))
        .chain([("admin", &config.admin)])
        .filter_map(|(setting, address)| of(setting, address))
        .collect()
}

async fn control(
    config: Config,
    mut inherited: Inherited,
    log_level: LogLevel,
    env: impl Fn(&str) -> Option<String>,
    reload: impl Fn(&Config) -> Result<Reloaded, ConfigError>,
) -> Result<(), Error> {
    let mut signals = Signals::new()?;
    let metrics = Arc::new(Metrics::new(config.limits.max_metric_names));
    let (drain, readiness) = (Drain::new(), Readiness::new());
    let settings = export::Settings::from_env(&env).map_err(Error::Telemetry)?;
    let spans = Arc::new(SpanQueue::new(&settings).holding(config.limits.max_recent_spans));
    let registered = tars_sidecar::process::register(metrics.registry())
        .and_then(|()| spans.counters().register(metrics.registry()));
    registered.map_err(|error| Error::Telemetry(error.to_string()))?;

    let listeners = listeners(&config, &metrics, &readiness)?;
    let bound = bind(&listeners, &config, &mut inherited)?;
    let addresses: Vec<String> = bound
        .iter()
        .map(|(bound, _)| bound.local_addr().map(|address| address.to_string()))
        .collect::<Result<_, _>>()?;
    let recent = Arc::new(
        Recent::new(config.limits.max_recent_spans)
            .listening_on(addresses.iter().cloned())
            .off((!config.trace).then_some("tracing is off (no_trace)")),
    );
    let described = Arc::new(ArcSwap::from_pointee(config.describe()));
    let (shown, level) = (described.clone(), log_level.clone());
    let admin = Admin::new(Parts {
        name: "tars-proxy",
        version: env!("CARGO_PKG_VERSION"),
        drain: drain.clone(),
        readiness: readiness.clone(),
        registry: metrics.registry().clone(),
        log_level,
    })
    .merge(recent::routes(recent.clone()))
    .merge(axum::Router::new().route(
        "/config",
        axum::routing::get(async move || axum::Json(in_force(&shown.load(), &level))),
    ))
    .list("/traces", "recent traces, live")
    .list("/config", "what is in force")
    .on(inherited.bind(&config.admin).map_err(|error| Error::Bind {
        setting: "admin",
        error,
    })?);
    for address in inherited.unused() {
        tracing::warn!(%address, "LISTEN_FDS brought a socket that no listener is configured for; nobody answers there");
    }
    let admin_address = admin.local_addr()?;

    let otlp =
        otlp::OtlpSettings::from_env(&env).map_err(|error| Error::Telemetry(error.to_string()))?;
    if let Some(otlp) = &otlp {
        tracing::info!(%otlp, "exporting spans");
    }
    let service =
        otlp::Service::from_env(&env).map_err(|error| Error::Telemetry(error.to_string()))?;
    let exporter = otlp.map(|otlp| move |name: &str| otlp.exporter(&service.resource(name)));
    let exporting = export::spawn(settings, spans.clone(), recent.clone(), exporter);

    let rules = Arc::new(ArcSwap::new(config.rules.clone()));
    let [held, pending] = budgets(&config.limits);
    let limits = Limits {
        max_connections: connections(&config),
        ..config.limits
    };
    Bounded {
        held: held.clone(),
        pending: pending.clone(),
        recent,
    }
    .register(&limits, metrics.registry())
    .map_err(|error| Error::Telemetry(error.to_string()))?;
    let shared = Arc::new(Shared {
        deliveries: Deliveries::new(
            config.limits.max_deliveries,
            metrics.deliveries.clone(),
            metrics.deliveries_evicted.clone(),
        ),
        room: AtomicUsize::new(limits.max_connections),
        held,
        pending,
        rules: rules.clone(),
        metrics,
        spans,
        drain: drain.clone(),
        overdue: AtomicBool::new(false),
        config,
    });
    let threads = spawn_workers(&shared, &bound)?;
    for (address, (_, listener)) in addresses.iter().zip(&*bound) {
        tracing::info!(%address, upstream = listener.destinations.name(), "listening");
    }
    tracing::info!(address = %admin_address, "admin");

    let mut tasks = tokio::task::JoinSet::new();
    for upstream in distinct(&listeners) {
        if let Some(files) = upstream.tls().map(Connector::files) {
            tasks.spawn(async move { files.watch().await });
        }
        tasks.spawn(async move { upstream.watch().await });
    }
    for tls in listeners
        .iter()
        .filter_map(|listener| listener.tls.as_ref())
    {
        let files = tls.files();
        tasks.spawn(async move { files.watch().await });
    }
    tasks.spawn(expire(shared.clone()));
    let admin = tokio::spawn(admin.serve());

    loop {
        let event = tokio::select! {
            event = signals.next() => event,
            () = drain.started() => Event::Shutdown,
        };
        match event {
            Event::Reload => reloaded(reload(&shared.config), &shared, &described),
            Event::Shutdown => break,
        }
    }
    stop(&shared, bound, threads, exporting).await;
    admin.abort();
    Ok(())
}

/// The configuration with what was changed in it while the process runs, and not by reading it again.
fn in_force(described: &serde_json::Value, log_level: &LogLevel) -> serde_json::Value {
    let mut shown = described.clone();
    if let (Some(level), Ok(now)) = (shown.get_mut("log_level"), log_level.get()) {
        *level = now.into();
    }
    shown
}

/// Connections that may be open at once: `max_connections`, or fewer where the process may not have descriptors for as
/// many. Each takes two.
fn connections(config: &Config) -> usize {
    let descriptors = tars_sidecar::process::raise_descriptor_limit();
    let reserved = RESERVED_DESCRIPTORS.min(descriptors / 2);
    let room = descriptors.saturating_sub(reserved) / 2;
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    if room < config.limits.max_connections {
        tracing::info!(
            connections = room,
            max_connections = config.limits.max_connections,
            descriptors,
            "fewer connections than max_connections: raise the limit of open files (ulimit -n, LimitNOFILE)"
        );
    }
    room.min(config.limits.max_connections)
}

/// Stops accepting, lets connections finish, ends open spans, and exports what there is: within `drain_timeout`.
async fn stop(
    shared: &Arc<Shared>,
    bound: Arc<[Served]>,
    threads: Vec<JoinHandle<()>>,
    exporting: export::Exporting,
) {
    let deadline = Instant::now() + shared.config.drain_timeout;
    shared.drain.start();
    tracing::info!(connections = shared.metrics.connections.get(), "draining");
    drop(bound);
    let finished = async |limit| timeout(limit, shared.drain.finished()).await.is_ok();
    let mut all = finished(shared.config.drain_timeout).await;
    if !all {
        tracing::warn!(
            connections = shared.metrics.connections.get(),
            "drain_timeout is over: closing what is still open"
        );
        shared.overdue.store(true, Ordering::Relaxed);
        all = finished(REPLY_TIMEOUT).await;
    }
    if all {
        for thread in threads {
            // A thread ends with its last connection; one that panicked has said so.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    } else {
        tracing::warn!(
            connections = shared.metrics.connections.get(),
            "cutting what has not come to its end"
        );
    }
    let mut ended = Vec::new();
    shared.deliveries.lock().drain(now(), &mut ended);
    shared.spans.push_all(&mut ended);
    exporting
        .flush(deadline.max(Instant::now() + FLUSH_TIMEOUT))
        .await;
    tracing::info!("stopped");
}

fn listeners(
    config: &Config,
    metrics: &Arc<Metrics>,
    readiness: &Readiness,
) -> Result<Vec<Arc<Listener>>, FileError> {
    let mut upstreams: Vec<(&config::Listener, Arc<Upstream>)> = Vec::new();
    config
        .listeners
        .iter()
        .map(|listener| {
            let service_name = listener.service_name.as_ref();
            let service_name = service_name.unwrap_or(&config.service_name).clone();
            let of = |destinations, tls| {
                Arc::new(Listener {
                    address: listener.listen.to_string(),
                    destinations,
                    infer_parent: listener.infer_parent,
                    inference: Default::default(),
                    tls,
                    tls_fails: AtomicBool::new(false),
                    starved: Default::default(),
                })
            };
            let Some(server) = &listener.upstream else {
                let originals = Originals::new(
                    listener.listen.to_string(),
                    service_name,
                    config.region.clone(),
                    u32::try_from(config.listeners.len()).unwrap_or(u32::MAX),
                    metrics.clone(),
                );
                return Ok(of(Destinations::Original(originals), None));
            };
            let address = &server.address;
            let known = upstreams.iter().find(|(known, _)| {
                known.upstream == listener.upstream && known.upstream_tls == listener.upstream_tls
            });
            let upstream = match known {
                Some((_, upstream)) => upstream.clone(),
                None => {
                    // One server is one server, however it is reached: a message may be read here and settled there.
                    let same = config.listeners.iter();
                    let other = |l: &&config::Listener| {
                        l.upstream.as_ref().is_none_or(|u| u.address != *address)
                    };
                    let number = same.take_while(other).count();
                    let mut name = match server.tls {
                        true => server.to_string(),
                        false => address.to_string(),
                    };
                    let reached =
                        |(l, _): &&(&config::Listener, _)| l.upstream == listener.upstream;
                    let times = upstreams.iter().filter(reached).count();
                    if times > 0 {
                        name = format!("{name} #{}", times + 1);
                    }
                    let upstream = Arc::new(Upstream::new(
                        u32::try_from(number).unwrap_or(u32::MAX),
                        address.clone(),
                        tls::connector(listener)?,
                        name.clone(),
                        readiness.clone(),
                        metrics.upstream_up(&name),
                    ));
                    upstreams.push((listener, upstream.clone()));
                    upstream
                }
            };
            let (server_address, server_port) = match address {
                Address::Tcp { host, port } => (host.clone(), Some(*port)),
                Address::Unix(path) => (path.to_string_lossy().into(), None),
            };
            let destination = Arc::new(Destination {
                endpoint: Arc::new(Endpoint {
                    service_name,
                    server_address,
                    server_port,
                    region: config.region.clone(),
                }),
                upstream,
                greeting: Greeting::new(&listener.login),
            });
            let tls = listener.tls.as_ref().map(tls::Acceptor::new).transpose()?;
            Ok(of(Destinations::One(destination), tls))
        })
        .collect()
}

fn distinct(listeners: &[Arc<Listener>]) -> Vec<Arc<Upstream>> {
    let mut upstreams: Vec<Arc<Upstream>> = Vec::new();
    for listener in listeners {
        if let Destinations::One(destination) = &listener.destinations
            && !(upstreams.iter()).any(|known| Arc::ptr_eq(known, &destination.upstream))
        {
            upstreams.push(destination.upstream.clone());
        }
    }
    upstreams
}

/// Binds every socket before any is served: a proxy that cannot have all of them does not start.
fn bind(
    listeners: &[Arc<Listener>],
    config: &Config,
    inherited: &mut Inherited,
) -> Result<Arc<[Served]>, Error> {
    let mut all = Vec::with_capacity(listeners.len());
    let mut bind = |address: &Address| {
        inherited.bind(address).map_err(|error| Error::Bind {
            setting: "listen",
            error,
        })
    };
    for (listener, config) in listeners.iter().zip(&config.listeners) {
        let bound = bind(&config.listen)?;
        let address = bound.local_addr()?;
        all.push((bound, listener.clone()));
        let Destinations::Original(_) = &listener.destinations else {
            continue;
        };
        // Connections over IPv6 are redirected to its own loopback address, where there is one.
        if let Some(twin) = original::twin(&address) {
            match bind(&twin) {
                Ok(bound) => all.push((bound, listener.clone())),
                Err(Error::Bind { error, .. }) if error.is_absent() => {
                    tracing::info!(address = %twin, "there is no IPv6 here; connections over IPv4 alone are taken");
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(all.into())
}

fn spawn_workers(shared: &Arc<Shared>, bound: &Arc<[Served]>) -> io::Result<Vec<JoinHandle<()>>> {
    (0..shared.config.workers)
        .map(|number| {
            let (shared, bound) = (shared.clone(), bound.clone());
            // An event loop stays on the thread that made it, which says how that went.
            let (says, hears) = sync_channel(1);
            let thread = std::thread::Builder::new()
                .name(format!("data-{number}"))
                .spawn(move || match data_thread(&shared, number, &bound) {
                    Ok((runtime, worker)) => {
                        // The sockets are closed when the proxy drains, and this thread does not hold them open.
                        drop(bound);
                        // Whoever started the thread waits for this, or is no more.
                        let _ = says.send(Ok(()));
                        runtime.block_on(until_drained(&shared, &worker));
                    }
                    Err(error) => {
                        let _ = says.send(Err(error));
                    }
                })?;
            hears.recv().map_err(io::Error::other)??;
            Ok(thread)
        })
        .collect()
}

/// A thread's event loop, which accepts from all listening sockets.
fn data_thread(
    shared: &Arc<Shared>,
    number: usize,
    bound: &[Served],
) -> io::Result<(LocalRuntime, Rc<Worker>)> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .on_thread_park(worker::before_sleep)
        .build_local(LocalOptions::default())?;
    let worker = Worker::of_this_thread(shared.clone(), number);
    // A socket is registered with the event loop of the runtime that is entered.
    let entered = runtime.enter();
    for (bound, listener) in bound {
        runtime.spawn_local(serve(
            Acceptor::new(bound)?,
            listener.clone(),
            worker.clone(),
        ));
    }
    drop(entered);
    Ok((runtime, worker))
}

async fn until_drained(shared: &Shared, worker: &Worker) {
    shared.drain.started().await;
    // Each time they are woken, connections look whether they are at rest by now.
    let mut looks = interval(LOOK_EVERY);
    let mut finished = std::pin::pin!(shared.drain.finished());
    loop {
        tokio::select! {
            () = &mut finished => return,
            _ = looks.tick() => worker.wake_all(),
        }
    }
}

/// Gives up deliveries that nobody settles.
async fn expire(shared: Arc<Shared>) {
    let mut ticks = interval(EXPIRE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ended = Vec::new();
    loop {
        ticks.tick().await;
        let timeout =
            u64::try_from(shared.rules.load().process_timeout.as_nanos()).unwrap_or(u64::MAX);
        let now = now();
        shared
            .deliveries
            .lock()
            .expire(now.saturating_sub(timeout), now, &mut ended);
        shared.spans.push_all(&mut ended);
    }
}

fn reloaded(
    reloaded: Result<Reloaded, ConfigError>,
    shared: &Shared,
    described: &ArcSwap<serde_json::Value>,
) {
    match reloaded {
        Ok(Reloaded {
            rules,
            restart,
            warnings,
        }) => {
            for warning in warnings {
                tracing::warn!("{warning}");
            }
            let in_force = Config {
                rules: rules.clone(),
                ..shared.config.clone()
            };
            described.store(Arc::new(in_force.describe()));
            shared.rules.store(rules);
            tracing::info!("configuration reloaded");
            if !restart.is_empty() {
                tracing::warn!(
                    settings = restart.join(", "),
                    "changed in the configuration, but not in force before a restart"
                );
            }
        }
        Err(error) => tracing::error!("{error}; the configuration in force stays"),
    }
}
