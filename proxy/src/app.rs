//! All wiring: what is built, in which thread it runs, and how it ends.
//!
//! The control thread (this one) holds the admin server, the exporter, signals and timers. Data threads hold connections
//! and nothing else; each runs an event loop of its own, and accepts from all listening sockets.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use opentelemetry_sdk::Resource;
use tars_sidecar::admin::{Admin, Parts};
use tars_sidecar::drain::Drain;
use tars_sidecar::listen::{BindError, Inherited, Listener as Bound};
use tars_sidecar::logging::LogLevel;
use tars_sidecar::otlp;
use tars_sidecar::readiness::Readiness;
use tars_sidecar::signals::{Event, Signals};
use tokio::runtime::Builder;
use tokio::task::LocalSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::config::{self, Address, Config, ConfigError, Reloaded};
use crate::deliveries::Deliveries;
use crate::listener::{Acceptor, serve};
use crate::metrics::Metrics;
use crate::tls::{self, Connector, FileError};
use crate::trace::export::{self, SpanQueue};
use crate::trace::recent::{self, Recent};
use crate::trace::span::Endpoint;
use crate::upstream::Upstream;
use crate::worker::{Listener, Shared, Worker, now};

/// How often deliveries are looked through for those that are too old.
const EXPIRE_EVERY: Duration = Duration::from_millis(250);

/// How long after the beginning of a drain a connection is kept whose client has not said anything yet: it was accepted
/// a moment ago, and its first command is on the way.
const FIRST_COMMAND: Duration = Duration::from_secs(1);

/// What remains of the drain for spans when connections have used all of it.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the proxy did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address is not to be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A file of TLS cannot be used.
    #[error(transparent)]
    Tls(#[from] FileError),
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
    let inherited = Inherited::from_env()?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(control(config, inherited, log_level, env, reload))
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
    let spans = Arc::new(SpanQueue::new(&settings));
    let registered = tars_sidecar::process::register(metrics.registry())
        .and_then(|()| spans.counters().register(metrics.registry()));
    registered.map_err(|error| Error::Telemetry(error.to_string()))?;

    let listeners = listeners(&config, &metrics, &readiness)?;

    // Every socket is bound before any is served: a proxy that cannot have all of them does not start.
    let bound = config
        .listeners
        .iter()
        .map(|listener| inherited.bind(&listener.listen))
        .collect::<Result<Vec<_>, _>>()?;
    let addresses: Vec<String> = bound
        .iter()
        .map(|bound| bound.local_addr().map(|address| address.to_string()))
        .collect::<Result<_, _>>()?;
    let recent = Arc::new(
        Recent::new(config.limits.max_recent_spans).listening_on(addresses.iter().cloned()),
    );
    let describe = config.describe();
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
        axum::routing::get(async move || axum::Json(describe)),
    ))
    .list("/traces", "recent traces, live")
    .list("/config", "what is in force")
    .on(inherited.bind(&config.admin)?);
    for address in inherited.unused() {
        tracing::warn!(%address, "LISTEN_FDS brought a socket that no listener is configured for; nobody answers there");
    }
    let admin_address = admin.local_addr()?;

    let otlp =
        otlp::OtlpSettings::from_env(&env).map_err(|error| Error::Telemetry(error.to_string()))?;
    if let Some(otlp) = &otlp {
        tracing::info!(%otlp, "exporting spans");
    }
    let exporter = otlp.map(|otlp| {
        move |service: &str| {
            otlp.exporter(
                &Resource::builder()
                    .with_service_name(service.to_owned())
                    .build(),
            )
        }
    });
    let exporting = export::spawn(settings, spans.clone(), recent, exporter);

    let rules = Arc::new(ArcSwap::new(config.rules.clone()));
    let shared = Arc::new(Shared {
        deliveries: Deliveries::new(
            config.limits.max_deliveries,
            metrics.deliveries.clone(),
            metrics.deliveries_evicted.clone(),
        ),
        room: AtomicUsize::new(config.limits.max_connections),
        rules: rules.clone(),
        metrics,
        spans,
        drain: drain.clone(),
        config,
    });
    let threads = spawn_workers(&shared, &bound, &listeners)?;
    for (address, listener) in addresses.iter().zip(&shared.config.listeners) {
        tracing::info!(%address, upstream = %listener.upstream.address, "listening");
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
            Event::Reload => reloaded(reload(&shared.config), &shared),
            Event::Shutdown => break,
        }
    }
    stop(&shared, bound, threads, exporting).await;
    admin.abort();
    Ok(())
}

/// Stops accepting, lets connections finish, ends open spans, and exports what there is: within `drain_timeout`.
async fn stop(
    shared: &Arc<Shared>,
    bound: Vec<Bound>,
    threads: Vec<JoinHandle<()>>,
    exporting: export::Exporting,
) {
    let deadline = Instant::now() + shared.config.drain_timeout;
    let first = shared.drain.start();
    tracing::info!(
        signal = first,
        connections = shared.metrics.connections.get(),
        "draining"
    );
    drop(bound);
    if timeout(shared.config.drain_timeout, shared.drain.finished())
        .await
        .is_err()
    {
        tracing::warn!(
            connections = shared.metrics.connections.get(),
            "drain_timeout is over: closing what is still open"
        );
    } else {
        for thread in threads {
            // A thread ends with its last connection; one that panicked has said so.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
    let mut ended = Vec::new();
    shared.deliveries.lock().drain(now(), &mut ended);
    shared.spans.push_all(&mut ended);
    exporting
        .flush(deadline.max(Instant::now() + FLUSH_TIMEOUT))
        .await;
}

fn listeners(
    config: &Config,
    metrics: &Metrics,
    readiness: &Readiness,
) -> Result<Vec<Arc<Listener>>, FileError> {
    let mut upstreams: Vec<(&config::Listener, Arc<Upstream>)> = Vec::new();
    config
        .listeners
        .iter()
        .map(|listener| {
            let address = &listener.upstream.address;
            let known = upstreams.iter().find(|(known, _)| {
                known.upstream == listener.upstream && known.upstream_tls == listener.upstream_tls
            });
            let upstream = match known {
                Some((_, upstream)) => upstream.clone(),
                None => {
                    // One server is one server, however it is reached: a message may be read here and settled there.
                    let same = config.listeners.iter();
                    let number = same.take_while(|l| l.upstream.address != *address).count();
                    let mut name = match listener.upstream.tls {
                        true => listener.upstream.to_string(),
                        false => address.to_string(),
                    };
                    let reached =
                        |(l, _): &&(&config::Listener, _)| l.upstream == listener.upstream;
                    let times = upstreams.iter().filter(reached).count();
                    if times > 0 {
                        name = format!("{name} #{}", times + 1);
                    }
                    let upstream = Arc::new(Upstream::new(
                        u16::try_from(number).unwrap_or(u16::MAX),
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
            Ok(Arc::new(Listener {
                endpoint: Arc::new(Endpoint {
                    service_name: listener
                        .service_name
                        .clone()
                        .unwrap_or_else(|| config.service_name.clone()),
                    server_address,
                    server_port,
                    region: config.region.clone(),
                }),
                infer_parent: listener.infer_parent,
                inference: Default::default(),
                upstream,
                tls: listener.tls.as_ref().map(tls::Acceptor::new).transpose()?,
                handshakes_fail: AtomicBool::new(false),
            }))
        })
        .collect()
}

fn distinct(listeners: &[Arc<Listener>]) -> Vec<Arc<Upstream>> {
    let mut upstreams: Vec<Arc<Upstream>> = Vec::new();
    for listener in listeners {
        if !upstreams
            .iter()
            .any(|known| Arc::ptr_eq(known, &listener.upstream))
        {
            upstreams.push(listener.upstream.clone());
        }
    }
    upstreams
}

fn spawn_workers(
    shared: &Arc<Shared>,
    bound: &[Bound],
    listeners: &[Arc<Listener>],
) -> io::Result<Vec<JoinHandle<()>>> {
    (0..shared.config.workers)
        .map(|number| {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let acceptors = {
                // A socket is registered with the event loop of the runtime that is entered.
                let _entered = runtime.enter();
                bound
                    .iter()
                    .map(Acceptor::new)
                    .collect::<io::Result<Vec<_>>>()?
            };
            let (shared, listeners) = (shared.clone(), listeners.to_vec());
            std::thread::Builder::new()
                .name(format!("data-{number}"))
                .spawn(move || {
                    let worker = Rc::new(Worker::new(shared.clone(), number));
                    let local = LocalSet::new();
                    for (acceptor, listener) in acceptors.into_iter().zip(listeners) {
                        local.spawn_local(serve(acceptor, listener, worker.clone()));
                    }
                    local.block_on(&runtime, async {
                        shared.drain.started().await;
                        worker.wake_all();
                        // If all are gone before, so much the better.
                        let _ = timeout(FIRST_COMMAND, shared.drain.finished()).await;
                        worker.close_silent();
                        shared.drain.finished().await;
                    });
                })
        })
        .collect()
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

fn reloaded(reloaded: Result<Reloaded, ConfigError>, shared: &Shared) {
    match reloaded {
        Ok(Reloaded {
            rules,
            restart,
            warnings,
        }) => {
            for warning in warnings {
                tracing::warn!("{warning}");
            }
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
