//! A webhook on a real TLS socket, and an API server's side of it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    dead_code,
    unreachable_pub,
    missing_docs
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use axum::body::{Body, to_bytes};
use axum::http::{Request, Response, StatusCode};
use base64::Engine as _;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tars_injector::certificates::{Bundle, Current, Renewal, renewed, server_config};
use tars_injector::metrics::Metrics;
use tars_injector::server::{Server, Timeouts};
use tars_injector::settings::{Settings, Version};
use tars_injector::webhook::Webhook;
use tars_sidecar::drain::Drain;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The name in the certificate.
pub const NAME: &str = "tars-injector.tars.svc";
/// When something that is waited for will not come any more.
const PATIENCE: Duration = Duration::from_secs(30);

pub fn settings() -> Settings {
    Settings {
        kubernetes_version: Some(Version { minor: 34 }),
        ..Settings::default()
    }
}

/// A new authority and certificate.
pub fn bundle() -> Bundle {
    match renewed(None, &[NAME.to_owned()], SystemTime::now()).unwrap() {
        Renewal::Renewed(bundle) => *bundle,
        Renewal::Good => unreachable!("there was none"),
    }
}

/// A webhook that answers.
pub struct Running {
    pub address: SocketAddr,
    pub current: Arc<Current>,
    pub metrics: Arc<Metrics>,
    pub drain: Drain,
    pub bundle: Bundle,
    pub served: JoinHandle<()>,
}

pub fn start() -> Running {
    start_with(settings(), Timeouts::default(), Duration::from_secs(10))
}

pub fn start_with(settings: Settings, timeouts: Timeouts, body: Duration) -> Running {
    let (bundle, current) = (bundle(), Current::new());
    current
        .set(bundle.cert.as_bytes(), bundle.key.as_bytes())
        .unwrap();
    let metrics = Arc::new(Metrics::new().unwrap());
    let drain = Drain::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let webhook = Webhook::new(settings, metrics.clone(), None).with_body_timeout(body);
    let tls = server_config(current.clone()).unwrap();
    let routes = Arc::new(webhook).routes();
    let server = Server::new(listener, tls, routes, metrics.clone(), drain.clone())
        .unwrap()
        .with(timeouts);
    Running {
        address: server.local_addr().unwrap(),
        current,
        metrics,
        drain,
        bundle,
        served: tokio::spawn(server.serve()),
    }
}

impl Running {
    pub fn trust(&self) -> Arc<ClientConfig> {
        trust(&[&self.bundle])
    }

    pub async fn client(&self) -> Client {
        Client::connect(self.address, self.trust()).await.unwrap()
    }

    /// A counter's or a gauge's value; with a label, `name{label="value"}`.
    pub fn metric(&self, wanted: &str) -> f64 {
        let text = prometheus::TextEncoder::new()
            .encode_to_string(&self.metrics.registry().gather())
            .unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(wanted)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{wanted} is not in {text}"))
            .parse()
            .unwrap()
    }
}

/// What an API server trusts that was told of these authorities.
pub fn trust(bundles: &[&Bundle]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for bundle in bundles {
        for authority in CertificateDer::pem_slice_iter(bundle.authority().as_bytes()) {
            roots.add(authority.unwrap()).unwrap();
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    // A resumed session would show no certificate.
    config.resumption = rustls::client::Resumption::disabled();
    Arc::new(config)
}

pub async fn handshake(
    address: SocketAddr,
    trust: Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from(NAME).unwrap();
    TlsConnector::from(trust).connect(name, stream).await
}

/// One connection of an API server.
pub struct Client {
    sender: SendRequest<Body>,
    connection: JoinHandle<()>,
}

impl Client {
    pub async fn connect(address: SocketAddr, trust: Arc<ClientConfig>) -> std::io::Result<Self> {
        let stream = handshake(address, trust).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(std::io::Error::other)?;
        let connection = tokio::spawn(async {
            let _ = connection.await;
        });
        Ok(Self { sender, connection })
    }

    pub async fn send(&mut self, request: Request<Body>) -> hyper::Result<Response<Vec<u8>>> {
        // Where the answer before said `Connection: close`, this fails, and a client connects anew.
        self.sender.ready().await?;
        let answer = self.sender.send_request(request).await?;
        let (parts, body) = answer.into_parts();
        let body = to_bytes(Body::new(body), usize::MAX).await.unwrap();
        Ok(Response::from_parts(parts, body.to_vec()))
    }

    pub async fn post(&mut self, body: impl Into<Body>) -> (StatusCode, String) {
        let answer = self.send(request(body)).await.unwrap();
        (
            answer.status(),
            String::from_utf8(answer.into_body()).unwrap(),
        )
    }

    /// The `response` of a review.
    pub async fn review(&mut self, review: &Value) -> Value {
        let (status, text) = self.post(review.to_string()).await;
        assert_eq!(status, StatusCode::OK, "{text}");
        let mut answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&answer["apiVersion"], &answer["kind"]),
            (&json!("admission.k8s.io/v1"), &json!("AdmissionReview"))
        );
        assert_eq!(answer["response"]["uid"], review["request"]["uid"]);
        answer["response"].take()
    }

    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

pub fn request(body: impl Into<Body>) -> Request<Body> {
    Request::post("/inject")
        .header("host", NAME)
        .header("content-type", "application/json")
        .body(body.into())
        .unwrap()
}

/// What an API server asks about a pod.
pub fn review(uid: &str, pod: &Value) -> Value {
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": uid,
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "requestKind": {"group": "", "version": "v1", "kind": "Pod"},
        "name": "", "namespace": "shop", "operation": "CREATE", "dryRun": false,
        "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller", "groups": ["system:authenticated"]},
        "object": pod, "oldObject": null, "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"}}})
}

pub fn pod(redis: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"generateName": "shop-6d4cf56db6-", "labels": {"app": "shop", "pod-template-hash": "6d4cf56db6"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "shop-6d4cf56db6", "uid": "u", "controller": true}]},
        "spec": {"containers": [{"name": "app", "image": "app", "env": [{"name": "REDIS_URL", "value": redis}]}]}})
}

/// The pod with the patch of a response.
pub fn patched(pod: &Value, response: &Value) -> Value {
    assert_eq!(
        (&response["allowed"], &response["patchType"]),
        (&json!(true), &json!("JSONPatch")),
        "{response}"
    );
    let patch = base64::engine::general_purpose::STANDARD
        .decode(response["patch"].as_str().unwrap())
        .unwrap();
    let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
    let mut pod = pod.clone();
    json_patch::patch(&mut pod, &patch).unwrap();
    pod
}

/// Looks until it is so.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "in vain waited for: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
