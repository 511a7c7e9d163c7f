//! All wiring of `tars-injector serve`: what is built, in which order it starts, how it ends.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tars_sidecar::address::Address;
use tars_sidecar::admin::{Admin, Parts};
use tars_sidecar::drain::Drain;
use tars_sidecar::listen::{BindError, Listener};
use tars_sidecar::logging::{Format, LogLevel};
use tars_sidecar::readiness::Readiness;
use tars_sidecar::signals::{Event, Signals};
use tokio::runtime::Builder;
use tokio::time::{sleep, timeout};

use crate::certificates::{self, Current, Files, Keeper, Names};
use crate::kubernetes::{self, Cluster};
use crate::metrics::Metrics;
use crate::server::Server;
use crate::settings::Settings;
use crate::webhook::Webhook;

/// Between two attempts to reach the API server.
const TRY_AGAIN: Duration = Duration::from_secs(2);
/// How often readiness looks whether there is a certificate.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// For everything that is under way when the process is told to stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

/// What `serve` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct ServeArgs {
    /// Where API servers call: host:port
    #[arg(
        long,
        env = "TARS_INJECTOR_LISTEN",
        value_name = "ADDR",
        default_value = "0.0.0.0:8443"
    )]
    listen: Address,
    /// Where metrics and health are served: host:port or unix:/path
    #[arg(
        long,
        env = "TARS_INJECTOR_ADMIN",
        value_name = "ADDR",
        default_value = "0.0.0.0:9464"
    )]
    admin: Address,
    /// Certificate for API servers, a PEM file, read again when it changes; without it, the injector makes its own
    #[arg(
        long,
        env = "TARS_INJECTOR_TLS_CERT",
        value_name = "FILE",
        requires = "tls_key"
    )]
    tls_cert: Option<PathBuf>,
    /// Its private key, a PEM file
    #[arg(
        long,
        env = "TARS_INJECTOR_TLS_KEY",
        value_name = "FILE",
        requires = "tls_cert"
    )]
    tls_key: Option<PathBuf>,
    /// Ask no API server: no transparent mode, no events, and the certificate is in files
    #[arg(long, env = "TARS_INJECTOR_NO_API", requires_all = ["tls_cert", "kubernetes_version"])]
    no_api: bool,
    /// Secret, and Lease, for the injector's own certificate
    #[arg(
        long,
        env = "TARS_INJECTOR_SECRET",
        value_name = "NAME",
        default_value = "tars-injector-certificate"
    )]
    secret: String,
    /// MutatingWebhookConfiguration whose caBundle the injector sets, and whose Services its certificate names
    #[arg(
        long,
        env = "TARS_INJECTOR_WEBHOOK",
        value_name = "NAME",
        default_value = "tars-injector"
    )]
    webhook: String,
    /// This replica's name
    #[arg(
        long,
        env = "POD_NAME",
        value_name = "NAME",
        default_value = "tars-injector"
    )]
    pod_name: String,
    /// off, error, warn, info, debug or trace
    #[arg(
        long,
        env = "TARS_INJECTOR_LOG_LEVEL",
        value_name = "LEVEL",
        default_value = "info"
    )]
    pub(crate) log_level: String,
    /// text or json
    #[arg(
        long,
        env = "TARS_INJECTOR_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text"
    )]
    pub(crate) log_format: Format,
}

/// Why the injector did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address is not to be had.
    #[error("{setting}: {error}")]
    Bind {
        /// The setting that names it.
        setting: &'static str,
        /// Why not.
        error: BindError,
    },
    /// Reviews come over TCP.
    #[error("--listen: API servers come over TCP; write host:port")]
    NotTcp,
    /// The certificate's files cannot be used.
    #[error(transparent)]
    Certificate(#[from] certificates::Error),
    /// There is no service account and no kubeconfig.
    #[error("no API server is known (service account or KUBECONFIG): {0}; --no-api goes without")]
    Kubernetes(#[from] kubernetes::Error),
    /// TLS cannot be set up.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// Metrics cannot be set up.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The operating system refused something.
    #[error("cannot start: {0}")]
    Io(#[from] io::Error),
}

/// Serves until told to stop.
///
/// # Errors
/// If something that it needs is not to be had.
pub fn run(args: &ServeArgs, settings: Settings, log_level: LogLevel) -> Result<(), Error> {
    // Two clients of rustls (kube's and this one's server) need no choice: ring is the only provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(args, settings, log_level))
}

async fn serve(args: &ServeArgs, mut settings: Settings, log_level: LogLevel) -> Result<(), Error> {
    let mut signals = Signals::new()?;
    let metrics = Arc::new(Metrics::new()?);
    tars_sidecar::process::register(metrics.registry())?;
    let (drain, readiness) = (Drain::new(), Readiness::new());
    let bind =
        |setting, address| Listener::bind(address).map_err(|error| Error::Bind { setting, error });
    let Listener::Tcp(listener) = bind("--listen", &args.listen)? else {
        return Err(Error::NotTcp);
    };
    let admin = Admin::new(Parts {
        name: "tars-injector",
        version: env!("CARGO_PKG_VERSION"),
        drain: drain.clone(),
        readiness: readiness.clone(),
        registry: metrics.registry().clone(),
        log_level,
    })
    .on(bind("--admin", &args.admin)?);
    tracing::info!(address = %admin.local_addr()?, "admin");
    let admin = tokio::spawn(admin.serve());

    let current = Current::new();
    let mut tasks = tokio::task::JoinSet::new();
    if let (Some(cert), Some(key)) = (&args.tls_cert, &args.tls_key) {
        let files = Files::new(cert.clone(), key.clone(), current.clone(), metrics.clone())?;
        tasks.spawn(files.watch());
    }
    let cluster = match args.no_api {
        true => None,
        false => Some(Arc::new(
            Cluster::new(metrics.clone(), args.pod_name.clone()).await?,
        )),
    };
    if let (Some(cluster), None) = (&cluster, &args.tls_cert) {
        let names = Names {
            secret: args.secret.clone(),
            webhook: args.webhook.clone(),
        };
        tasks.spawn(Keeper::new(cluster.clone(), names, current.clone(), metrics.clone()).run());
    }
    tasks.spawn(until_certified(readiness.clone(), current.clone()));

    let starting = async {
        // A native sidecar in a cluster that knows none would never end: nothing is answered before the version is known.
        if let (Some(cluster), None) = (&cluster, settings.kubernetes_version) {
            settings.kubernetes_version = Some(known_version(cluster, &readiness).await);
        }
        settings
    };
    let stopped = async {
        loop {
            tokio::select! {
                event = signals.next() => if event == Event::Shutdown { return },
                () = drain.started() => return,
            }
        }
    };
    let mut stopped = std::pin::pin!(stopped);
    let settings = tokio::select! {
        settings = starting => Some(settings),
        () = &mut stopped => None,
    };
    if let Some(settings) = settings {
        tracing::info!(
            native_sidecars = settings.native_sidecars(),
            image = settings.proxy_image,
            "injecting"
        );
        let webhook = Arc::new(Webhook::new(settings, metrics.clone(), cluster));
        let tls = certificates::server_config(current)?;
        let server = Server::new(listener, tls, webhook.routes(), metrics, drain.clone())?;
        tracing::info!(address = %server.local_addr()?, "listening");
        tokio::spawn(server.serve());
        stopped.await;
    }
    drain.start();
    tracing::info!("draining");
    if timeout(DRAIN_TIMEOUT, drain.finished()).await.is_err() {
        tracing::warn!("cutting what has not come to its end");
    }
    admin.abort();
    tracing::info!("stopped");
    Ok(())
}

/// Not ready without a certificate.
async fn until_certified(readiness: Readiness, current: Arc<Current>) {
    let blocked = readiness.block("certificate");
    while !current.is_set() {
        sleep(LOOK_EVERY).await;
    }
    drop(blocked);
}

async fn known_version(cluster: &Cluster, readiness: &Readiness) -> crate::settings::Version {
    let _blocked = readiness.block("version of Kubernetes");
    loop {
        match cluster.version().await {
            Ok(version) => return version,
            Err(error) => {
                tracing::warn!(%error, "the API server's version cannot be had; trying again");
            }
        }
        sleep(TRY_AGAIN).await;
    }
}
