//! Against a collector in this process: one that speaks both protocols, over real sockets, with and without TLS. Every
//! test runs on a current-thread runtime.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod collector;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::SystemTime;

use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::server::WebPkiClientVerifier;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime;
use tokio::time::Instant;

use super::super::Service;
use super::*;
use collector::Collector;

const PROTOCOLS: [&str; 2] = ["grpc", "http/protobuf"];
const SECRET: &str = "s3cr3t";

fn settings_for(collector: &Collector, protocol: &str, more: &[(&str, &str)]) -> OtlpSettings {
    settings(&format!("http://{}", collector.address), protocol, more)
}

fn settings(endpoint: &str, protocol: &str, more: &[(&str, &str)]) -> OtlpSettings {
    let read = OtlpSettings::from_env(|name| match name {
        "OTEL_EXPORTER_OTLP_ENDPOINT" => Some(endpoint.to_owned()),
        "OTEL_EXPORTER_OTLP_PROTOCOL" => Some(protocol.to_owned()),
        "OTEL_EXPORTER_OTLP_HEADERS" => {
            Some(format!("authorization=Bearer%20{SECRET},x-team=tars"))
        }
        _ => more
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| (*value).to_owned()),
    });
    read.unwrap().unwrap()
}

fn resource(name: &str) -> Resource {
    Service::default().resource(name)
}

fn exporter(settings: &OtlpSettings) -> Exporter {
    settings.exporter(&resource("shop")).unwrap()
}

fn span(name: &'static str) -> SpanData {
    SpanData {
        span_context: SpanContext::new(
            TraceId::from(0x1234_u128),
            SpanId::from(0x56_u64),
            TraceFlags::SAMPLED,
            false,
            TraceState::default(),
        ),
        parent_span_id: SpanId::INVALID,
        parent_span_is_remote: false,
        span_kind: SpanKind::Producer,
        name: name.into(),
        start_time: SystemTime::UNIX_EPOCH,
        end_time: SystemTime::now(),
        attributes: vec![KeyValue::new("messaging.system", "redis")],
        dropped_attributes_count: 0,
        events: Default::default(),
        links: Default::default(),
        status: Status::Unset,
        instrumentation_scope: InstrumentationScope::builder("tars").build(),
    }
}

async fn failure(exporter: &Exporter) -> String {
    exporter
        .export(vec![span("lost")])
        .await
        .unwrap_err()
        .to_string()
}

#[tokio::test]
async fn spans_arrive_over_both_protocols() {
    for protocol in PROTOCOLS {
        let mut collector = Collector::start(None).await;
        let settings = settings_for(&collector, protocol, &[]);
        let shop = exporter(&settings);
        let payment = settings.exporter(&resource("payment")).unwrap();
        shop.export(vec![span("send orders"), span("send mails")])
            .await
            .unwrap();
        let got = collector.received.recv().await.unwrap();
        assert_eq!(
            got.span_names(),
            ["send orders", "send mails"],
            "{protocol}"
        );
        assert!(got.service_name().contains("shop"), "{protocol}");
        assert_eq!(got.header("authorization"), "Bearer s3cr3t", "{protocol}");
        assert_eq!(
            got.headers.get_all("x-team").iter().count(),
            1,
            "{protocol}"
        );
        payment.export(vec![span("process orders")]).await.unwrap();
        assert!(
            collector
                .received
                .recv()
                .await
                .unwrap()
                .service_name()
                .contains("payment")
        );
        assert!(!format!("{shop:?} {payment:?}").contains(SECRET));
    }
}

/// Nor do the libraries below: what they log, down to single frames, is held against the secret.
#[test]
fn secrets_are_not_logged_at_any_level() {
    let runtime = || {
        runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let (started, collectors) = std::sync::mpsc::channel();
    // In a thread of its own: its log would show what it received.
    thread::spawn(move || {
        runtime().block_on(async {
            started.send(Collector::start(None).await).unwrap();
            std::future::pending::<()>().await;
        });
    });
    let mut collector = collectors.recv().unwrap();
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        runtime().block_on(async {
            for protocol in PROTOCOLS {
                let exporter = exporter(&settings_for(&collector, protocol, &[]));
                exporter.export(vec![span("send orders")]).await.unwrap();
                let got = collector.received.recv().await.unwrap();
                assert!(got.header("authorization").contains(SECRET));
            }
        });
    });
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(
        text.contains("h2::") && text.contains("hyper_util::"),
        "libraries log: {text}"
    );
    assert!(!text.contains(SECRET), "{text}");
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn gzip_over_both_protocols() {
    for (protocol, header) in [
        ("grpc", "grpc-encoding"),
        ("http/protobuf", "content-encoding"),
    ] {
        let mut collector = Collector::start(None).await;
        let exporter = exporter(&settings_for(
            &collector,
            protocol,
            &[("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")],
        ));
        exporter.export(vec![span("send orders")]).await.unwrap();
        let got = collector.received.recv().await.unwrap();
        assert_eq!(got.header(header), "gzip");
        if protocol == "grpc" {
            assert_eq!(got.span_names(), ["send orders"], "decompressed by tonic");
        }
    }
}

#[tokio::test]
async fn an_overloaded_collector_is_asked_again() {
    for protocol in PROTOCOLS {
        let mut collector = Collector::start(None).await;
        let exporter = exporter(&settings_for(&collector, protocol, &[]));
        collector.refuse.store(1, Ordering::SeqCst);
        exporter.export(vec![span("send orders")]).await.unwrap();
        assert_eq!(
            collector.received.recv().await.unwrap().span_names(),
            ["send orders"]
        );

        collector.refuse.store(1000, Ordering::SeqCst);
        let why = failure(&exporter).await;
        let cause = if protocol == "grpc" {
            "Unavailable"
        } else {
            "status code: 503"
        };
        assert!(why.contains(cause) && why.contains(&exporter.to), "{why}");
    }
}

#[tokio::test]
async fn a_collector_that_is_not_there_is_told_and_found_when_it_comes() {
    for protocol in PROTOCOLS {
        let collector = Collector::start(None).await;
        let settings = settings_for(&collector, protocol, &[]);
        let address = collector.stop().await;
        let exporter = exporter(&settings);
        let why = failure(&exporter).await;
        assert!(
            why.contains("Connection refused") && why.contains(&settings.endpoint()),
            "{why}"
        );
        assert!(!why.contains(SECRET), "{why}");

        let mut collector = Collector::start_at(address, None).await;
        exporter.export(vec![span("found")]).await.unwrap();
        assert_eq!(
            collector.received.recv().await.unwrap().span_names(),
            ["found"]
        );

        // Gone and back again, with a connection that was in use.
        let address = collector.stop().await;
        failure(&exporter).await;
        let mut collector = Collector::start_at(address, None).await;
        exporter.export(vec![span("found again")]).await.unwrap();
        assert_eq!(
            collector.received.recv().await.unwrap().span_names(),
            ["found again"]
        );
    }
}

/// The clock stands still, and jumps to the next timer when nothing else can go on.
#[tokio::test(start_paused = true)]
async fn a_collector_that_does_not_answer_holds_nobody_up() {
    for protocol in PROTOCOLS {
        // One that accepts and says nothing, and one that does not even accept: its backlog is full, so that
        // connecting hangs as it does behind a firewall.
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let full = TcpSocket::new_v4().unwrap();
        full.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let full = full.listen(0).unwrap();
        let filler = TcpStream::connect(full.local_addr().unwrap())
            .await
            .unwrap();
        for address in [silent.local_addr().unwrap(), full.local_addr().unwrap()] {
            let more = [("OTEL_EXPORTER_OTLP_TIMEOUT", "3000")];
            let exporter = exporter(&settings(&format!("http://{address}"), protocol, &more));
            let start = Instant::now();
            failure(&exporter).await;
            let taken = start.elapsed();
            assert!(
                taken > Duration::from_millis(2900) && taken < Duration::from_millis(3100),
                "{protocol} {taken:?}"
            );
        }
        drop(filler);
    }
}

/// Certificates of a test, as PEM files.
struct Pki {
    folder: TempDir,
    server: CertifiedKey<rcgen::KeyPair>,
    client: CertifiedKey<rcgen::KeyPair>,
}

impl Pki {
    fn new() -> Self {
        let of = |name: &str| generate_simple_self_signed([name.to_owned()]).unwrap();
        let pki = Self {
            folder: tempfile::tempdir().unwrap(),
            server: of("127.0.0.1"),
            client: of("client"),
        };
        for (file, pem) in [
            ("server.pem", pki.server.cert.pem()),
            ("client.pem", pki.client.cert.pem()),
            ("client.key", pki.client.signing_key.serialize_pem()),
            ("empty.pem", String::new()),
        ] {
            fs::write(pki.file(file), pem).unwrap();
        }
        pki
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn server_config(&self, ask_for_certificate: bool) -> ServerConfig {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions();
        let builder = builder.unwrap();
        let builder = if ask_for_certificate {
            let mut trusted = RootCertStore::empty();
            trusted.add(self.client.cert.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(trusted), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivatePkcs8KeyDer::from(self.server.signing_key.serialize_der());
        let mut config = builder
            .with_single_cert(vec![self.server.cert.der().clone()], key.into())
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config
    }

    fn settings(
        &self,
        address: SocketAddr,
        protocol: &str,
        files: &[(&str, &str)],
    ) -> OtlpSettings {
        let files: Vec<_> = files
            .iter()
            .map(|(name, file)| (*name, self.file(file)))
            .collect();
        let more: Vec<_> = files
            .iter()
            .map(|(name, path)| (*name, path.to_str().unwrap()))
            .collect();
        settings(&format!("https://{address}"), protocol, &more)
    }
}

#[tokio::test]
async fn tls_over_both_protocols() {
    let pki = Pki::new();
    for protocol in PROTOCOLS {
        let mut collector = Collector::start(Some(pki.server_config(false))).await;
        let exporter_with =
            |file| exporter(&pki.settings(collector.address, protocol, &[(CERTIFICATE, file)]));
        exporter_with("server.pem")
            .export(vec![span("sealed")])
            .await
            .unwrap();
        let why = failure(&exporter_with("client.pem")).await;
        assert!(why.contains("certificate"), "{protocol}: {why}");
        assert_eq!(
            collector.received.recv().await.unwrap().span_names(),
            ["sealed"]
        );
    }
}

#[tokio::test]
async fn tls_with_a_certificate_of_the_client() {
    let pki = Pki::new();
    let own = [
        (CERTIFICATE, "server.pem"),
        (CLIENT_CERTIFICATE, "client.pem"),
        (CLIENT_KEY, "client.key"),
    ];
    for protocol in PROTOCOLS {
        let mut collector = Collector::start(Some(pki.server_config(true))).await;
        let without = exporter(&pki.settings(collector.address, protocol, &own[..1]));
        failure(&without).await;
        let with = exporter(&pki.settings(collector.address, protocol, &own));
        with.export(vec![span("known")]).await.unwrap();
        assert_eq!(
            collector.received.recv().await.unwrap().span_names(),
            ["known"]
        );
    }
}

#[tokio::test]
async fn files_that_cannot_be_used_are_told() {
    let pki = Pki::new();
    let address = "127.0.0.1:1".parse().unwrap();
    let own = (CLIENT_CERTIFICATE, "client.pem");
    for (files, wrong, reason) in [
        (
            vec![(CERTIFICATE, "missing.pem")],
            "missing.pem",
            "No such file",
        ),
        (
            vec![(CERTIFICATE, "empty.pem")],
            "empty.pem",
            "no PEM certificate",
        ),
        (
            vec![(CERTIFICATE, "client.key")],
            "client.key",
            "no PEM certificate",
        ),
        (
            vec![(CERTIFICATE, "server.pem"), own, (CLIENT_KEY, "client.pem")],
            "client.pem",
            "no items found",
        ),
    ] {
        let (variable, _) = *files.last().unwrap();
        let error = pki
            .settings(address, "grpc", &files)
            .exporter(&resource("shop"))
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with(&format!("{variable}: cannot use /")),
            "{error}"
        );
        assert!(error.contains(wrong) && error.contains(reason), "{error}");
    }
}

#[test]
fn outside_a_runtime_is_an_error_and_no_panic() {
    for protocol in PROTOCOLS {
        let settings = settings("http://127.0.0.1:1", protocol, &[]);
        assert!(matches!(
            settings.exporter(&resource("shop")),
            Err(Error::NoRuntime)
        ));
    }
}
