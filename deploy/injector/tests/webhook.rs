//! The webhook over real TLS sockets: reviews, what is none, what is slow or too much, certificates that change, and the end.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod support;

use std::collections::HashSet;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};
use support::{
    Client, NAME, bundle, handshake, patched, pod, review, settings, start, start_with, trust,
    until,
};
use tars_injector::certificates::Files;
use tars_injector::inject::{Namespace, inject};
use tars_injector::pod::workload;
use tars_injector::server::Timeouts;
use tars_injector::settings::{OnBadAnnotation, Settings};
use tars_injector::webhook::MAX_BODY;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

fn expected(pod: &Value) -> Value {
    let namespace = Namespace {
        name: "shop".to_owned(),
        labels: None,
    };
    inject(pod, &workload(pod), &namespace, &settings()).pod
}

#[tokio::test]
async fn a_pod_gets_its_patch_and_a_second_call_none() {
    let running = start();
    let mut client = running.client().await;
    let before = pod("redis://:pass@redis:6379/1");
    let after = patched(&before, &client.review(&review("a", &before)).await);
    assert_eq!(after, expected(&before));
    let env = after["spec"]["initContainers"][0]["env"].to_string();
    assert!(
        env.contains(r#"{"name":"OTEL_SERVICE_NAME","value":"shop"}"#),
        "{env}"
    );
    let again = client.review(&review("b", &after)).await;
    assert_eq!(again, json!({"uid": "b", "allowed": true}));
    assert_eq!(
        running.metric(r#"tars_injector_reviews_total{decision="injected"}"#),
        2.0
    );
}

#[tokio::test]
async fn a_pod_that_is_applied_again_stays_what_it_is() {
    let running = start();
    let mut client = running.client().await;
    let manifest = pod("redis://redis:6379");
    let old = expected(&manifest);
    let mut update = review("a", &manifest);
    update["request"]["operation"] = json!("UPDATE");
    update["request"]["oldObject"] = old.clone();
    assert_eq!(patched(&manifest, &client.review(&update).await), old);
    update["request"]["object"] = old;
    assert_eq!(client.review(&update).await.get("patch"), None);
    // One that runs without sidecar gets none.
    update["request"]["object"] = manifest.clone();
    update["request"]["oldObject"] = manifest;
    assert_eq!(client.review(&update).await.get("patch"), None);
}

#[tokio::test]
async fn a_dry_run_is_answered_as_what_it_tries() {
    let running = start();
    let mut client = running.client().await;
    let mut dry = review("a", &pod("redis://redis"));
    let wet = client.review(&dry).await;
    dry["request"]["dryRun"] = json!(true);
    assert_eq!(client.review(&dry).await, wet);
}

#[tokio::test]
async fn a_bad_annotation_lets_the_pod_through_or_not_by_policy() {
    let mut bad = pod("redis://redis");
    bad["metadata"]["annotations"] = json!({"tars.dev/mode": "magic"});
    let running = start();
    let answer = running.client().await.review(&review("a", &bad)).await;
    assert_eq!(
        (&answer["allowed"], answer.get("patch")),
        (&json!(true), None)
    );
    assert!(
        answer["warnings"][0]
            .as_str()
            .unwrap()
            .contains("tars.dev/mode"),
        "{answer}"
    );
    assert_eq!(
        running.metric(r#"tars_injector_skipped_total{reason="bad_annotation"}"#),
        1.0
    );

    let strict = Settings {
        on_bad_annotation: OnBadAnnotation::Deny,
        ..settings()
    };
    let running = start_with(strict, Timeouts::default(), Duration::from_secs(10));
    let answer = running.client().await.review(&review("a", &bad)).await;
    assert_eq!(
        (&answer["allowed"], &answer["status"]["code"]),
        (&json!(false), &json!(403))
    );
    assert!(
        answer["status"]["message"]
            .as_str()
            .unwrap()
            .contains("explicit or transparent"),
        "{answer}"
    );
}

#[tokio::test]
async fn transparent_mode_needs_to_know_what_the_namespace_admits() {
    let mut transparent = pod("redis://redis");
    transparent["metadata"]["annotations"] = json!({"tars.dev/mode": "transparent"});
    let running = start();
    let answer = running
        .client()
        .await
        .review(&review("a", &transparent))
        .await;
    assert!(
        answer.get("patch").is_none() && answer["warnings"][0].as_str().unwrap().contains("shop"),
        "{answer}"
    );
}

#[tokio::test]
async fn what_the_webhook_is_not_for_is_allowed_with_a_warning() {
    let running = start();
    let mut client = running.client().await;
    for (field, value) in [
        ("operation", json!("CONNECT")),
        ("operation", json!("DELETE")),
        (
            "resource",
            json!({"group": "apps", "version": "v1", "resource": "deployments"}),
        ),
        ("subResource", json!("ephemeralcontainers")),
    ] {
        let mut other = review("a", &pod("redis://redis"));
        other["request"][field] = value;
        let answer = client.review(&other).await;
        assert_eq!(
            (&answer["allowed"], answer.get("patch")),
            (&json!(true), None)
        );
        assert_eq!(answer["warnings"].as_array().unwrap().len(), 1);
    }
    // Something that is called a pod, and is none.
    for object in [
        json!(null),
        json!([]),
        json!("x"),
        json!({"spec": 1}),
        json!({"spec": {"containers": {"a": 1}}}),
        json!({"metadata": [], "spec": {"containers": [[], 1, null, {"name": 2, "env": {}}]}}),
    ] {
        let answer = client.review(&review("a", &object)).await;
        assert_eq!(
            (&answer["allowed"], answer.get("patch")),
            (&json!(true), None),
            "{object}"
        );
    }
}

#[tokio::test]
async fn malformed_requests_get_a_sentence() {
    let running = start();
    let mut client = running.client().await;
    let bodies = [
        String::new(),
        "{".to_owned(),
        "null".to_owned(),
        json!({"apiVersion": "v1", "kind": "Pod"}).to_string(),
        json!({"apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview"}).to_string(),
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}).to_string(),
        "[".repeat(1 << 20),
        r#"{"a":"#.repeat(100_000),
        "\u{0}\u{1}".repeat(1000),
    ];
    for body in &bodies {
        let (status, sentence) = client.post(body.clone()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{sentence}");
        assert!(
            sentence.starts_with("this ") && sentence.ends_with('\n') && sentence.len() < 300,
            "{sentence}"
        );
    }
    let (status, _) = client.post(vec![0xff; 100]).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let count = running.metric(r#"tars_injector_failed_requests_total{reason="malformed"}"#);
    assert_eq!(count, (bodies.len() + 1) as f64);

    for (request, expected) in [
        (
            Request::get("/inject").body(Body::empty()),
            StatusCode::METHOD_NOT_ALLOWED,
        ),
        (
            Request::post("/other").body(Body::empty()),
            StatusCode::NOT_FOUND,
        ),
        (
            Request::post("/inject")
                .header("content-type", "text/plain")
                .body(Body::empty()),
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ),
        (
            Request::post("/inject").body(Body::empty()),
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ),
    ] {
        let mut request = request.unwrap();
        request.headers_mut().insert("host", NAME.parse().unwrap());
        assert_eq!(client.send(request).await.unwrap().status(), expected);
    }
    patched(
        &pod("redis://r"),
        &client.review(&review("a", &pod("redis://r"))).await,
    );
}

#[tokio::test]
async fn oversized_requests_are_refused_and_large_ones_are_not() {
    let running = start();
    // As large as an object can be.
    let mut large = pod("redis://r");
    large["metadata"]["annotations"] = json!({"large": "x".repeat(3 << 20)});
    let answer = running.client().await.review(&review("a", &large)).await;
    assert_eq!(patched(&large, &answer), expected(&large));

    let (status, sentence) = running.client().await.post(vec![b' '; MAX_BODY + 1]).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{sentence}");
    // Of unknown length: more and more of it, until the other side has had enough.
    let mut stream = handshake(running.address, running.trust()).await.unwrap();
    let head = "POST /inject HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(1 << 16));
    let (mut read, mut write) = tokio::io::split(stream);
    let writing = async { while write.write_all(chunk.as_bytes()).await.is_ok() {} };
    tokio::join!(writing, closed(&mut read));
    assert_eq!(
        running.metric(r#"tars_injector_failed_requests_total{reason="oversized"}"#),
        2.0
    );
    patched(
        &pod("redis://r"),
        &running
            .client()
            .await
            .review(&review("a", &pod("redis://r")))
            .await,
    );
}

/// Reads until the other side closes.
async fn closed(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Vec<u8> {
    let mut read = Vec::new();
    // Closed or reset: both are an end.
    let end = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut read)).await;
    assert!(end.is_ok(), "nobody closed the connection");
    read
}

#[tokio::test]
async fn slow_requests_end_and_hold_nobody_up() {
    let short = Timeouts {
        handshake: Duration::from_millis(100),
        headers: Duration::from_millis(100),
        ..Timeouts::default()
    };
    let running = start_with(settings(), short, Duration::from_millis(100));
    let mut silent = TcpStream::connect(running.address).await.unwrap();
    let mut headers = handshake(running.address, running.trust()).await.unwrap();
    headers
        .write_all(b"POST /inject HTTP/1.1\r\nHost: x\r\n")
        .await
        .unwrap();
    let mut body = handshake(running.address, running.trust()).await.unwrap();
    body.write_all(b"POST /inject HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{").await.unwrap();
    let mut idle = running.client().await;
    patched(
        &pod("redis://r"),
        &idle.review(&review("a", &pod("redis://r"))).await,
    );

    assert_eq!(closed(&mut silent).await, b"");
    assert_eq!(closed(&mut headers).await, b"");
    let answer = String::from_utf8(closed(&mut body).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert_eq!(
        running.metric(r#"tars_injector_failed_requests_total{reason="slow"}"#),
        2.0
    );
    // Between two reviews there may be any time.
    patched(
        &pod("redis://r"),
        &idle.review(&review("a", &pod("redis://r"))).await,
    );
}

#[tokio::test]
async fn bodies_that_do_not_come_do_not_take_all_the_room() {
    let running = start_with(settings(), Timeouts::default(), Duration::from_millis(300));
    let mut greedy = Vec::new();
    for _ in 0..8 {
        let mut stream = handshake(running.address, running.trust()).await.unwrap();
        let head = format!(
            "POST /inject HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {MAX_BODY}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        greedy.push(stream);
    }
    for stream in &mut greedy {
        assert!(closed(stream).await.starts_with(b"HTTP/1.1 408 "));
    }
    patched(
        &pod("redis://r"),
        &running
            .client()
            .await
            .review(&review("a", &pod("redis://r")))
            .await,
    );
}

#[tokio::test]
async fn what_is_no_tls_or_no_http_ends_and_nothing_else() {
    let running = start();
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0x16, 3, 1, 0xff, 0xff],
        &[0; 1000],
        b"",
    ] {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        stream.shutdown().await.unwrap();
        closed(&mut stream).await;
        let mut stream = handshake(running.address, running.trust()).await.unwrap();
        // It may be closed before all is written.
        let _ = stream.write_all(garbage).await;
        let _ = stream.shutdown().await;
        closed(&mut stream).await;
    }
    until("the connections' end", || {
        running.metric("tars_injector_connections") == 0.0
    })
    .await;
    patched(
        &pod("redis://r"),
        &running
            .client()
            .await
            .review(&review("a", &pod("redis://r")))
            .await,
    );
}

/// Reviews over several connections, a share of them new, as often as `between` says; how many were answered rightly.
async fn reviews(
    address: std::net::SocketAddr,
    trusted: Arc<rustls::ClientConfig>,
    going: Arc<AtomicBool>,
    between: Duration,
) -> usize {
    let answered = Arc::new(AtomicUsize::new(0));
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..8 {
        let (trusted, going, answered) = (trusted.clone(), going.clone(), answered.clone());
        workers.spawn(async move {
            let mut ticks = tokio::time::interval(between * 8);
            let mut client = None;
            let mut number = 0;
            while going.load(Ordering::Relaxed) {
                ticks.tick().await;
                let before = pod(&format!("redis://redis-{worker}-{number}:6379"));
                // An API server connects anew where it was told that this is the last answer.
                if client.as_ref().is_none_or(Client::is_closed) || number % 16 == 0 {
                    client = Some(Client::connect(address, trusted.clone()).await.unwrap());
                }
                let uid = format!("{worker}-{number}");
                let response = client
                    .as_mut()
                    .unwrap()
                    .review(&review(&uid, &before))
                    .await;
                assert_eq!(patched(&before, &response), expected(&before));
                answered.fetch_add(1, Ordering::Relaxed);
                number += 1;
            }
        });
    }
    while let Some(worker) = workers.join_next().await {
        worker.unwrap();
    }
    answered.load(Ordering::Relaxed)
}

#[tokio::test]
async fn five_hundred_reviews_a_second_are_all_answered_rightly() {
    let running = start();
    let going = Arc::new(AtomicBool::new(true));
    let load = tokio::spawn(reviews(
        running.address,
        running.trust(),
        going.clone(),
        Duration::from_millis(2),
    ));
    let decided = || running.metric(r#"tars_injector_reviews_total{decision="injected"}"#);
    until("1500 reviews", || decided() >= 1500.0).await;
    going.store(false, Ordering::Relaxed);
    let answered = load.await.unwrap();
    assert_eq!(answered as f64, decided());
}

#[tokio::test]
async fn a_rotation_drops_no_review() {
    let running = start();
    let rounds: Vec<_> = (0..10).map(|_| bundle()).collect();
    let all: Vec<_> = rounds.iter().chain([&running.bundle]).collect();
    let going = Arc::new(AtomicBool::new(true));
    let load = tokio::spawn(reviews(
        running.address,
        trust(&all),
        going.clone(),
        Duration::from_millis(2),
    ));
    let mut seen = HashSet::new();
    for next in &rounds {
        let before = running.metrics.seconds.get_sample_count();
        until("reviews under way", || {
            running.metrics.seconds.get_sample_count() > before + 30
        })
        .await;
        running
            .current
            .set(next.cert.as_bytes(), next.key.as_bytes())
            .unwrap();
        // Who knows only the new authority is served by now.
        let stream = handshake(running.address, trust(&[next])).await.unwrap();
        seen.insert(stream.get_ref().1.peer_certificates().unwrap()[0].to_vec());
    }
    going.store(false, Ordering::Relaxed);
    assert!(load.await.unwrap() > 300);
    assert_eq!(seen.len(), rounds.len());
    // What cannot be used changes nothing.
    assert!(running.current.set(b"", b"").is_err());
    assert!(
        running
            .current
            .set(rounds[0].cert.as_bytes(), rounds[1].key.as_bytes())
            .is_err()
    );
    assert!(
        handshake(running.address, trust(&[&rounds[9]]))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn certificates_in_files_are_read_again_when_they_change() {
    let running = start();
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
    let write = |bundle: &tars_injector::certificates::Bundle| {
        fs::write(&cert, &bundle.cert).unwrap();
        fs::write(&key, &bundle.key).unwrap();
    };
    let (first, second) = (bundle(), bundle());
    write(&first);
    let files = Files::new(
        cert.clone(),
        key.clone(),
        running.current.clone(),
        running.metrics.clone(),
    )
    .unwrap();
    let watching = tokio::spawn(files.watch());
    handshake(running.address, trust(&[&first])).await.unwrap();
    fs::write(&cert, "half of it").unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    handshake(running.address, trust(&[&first])).await.unwrap();
    write(&second);
    until("the second certificate", || {
        running.metric("tars_injector_certificates_total") >= 2.0
    })
    .await;
    handshake(running.address, trust(&[&second])).await.unwrap();
    watching.abort();
}

#[tokio::test]
async fn a_replica_that_ends_drops_no_review() {
    let linger = Timeouts {
        linger: Duration::from_millis(700),
        ..Timeouts::default()
    };
    let going_away = start_with(settings(), linger, Duration::from_secs(10));
    let other = start();
    let trusted = trust(&[&going_away.bundle, &other.bundle]);
    // What a Service does: connections go to the first as long as it is ready.
    let place = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    place.set_nonblocking(true).unwrap();
    let service = tokio::net::TcpListener::from_std(place).unwrap();
    let address = service.local_addr().unwrap();
    let (first, second, drain) = (going_away.address, other.address, going_away.drain.clone());
    let proxy = tokio::spawn(async move {
        loop {
            let (mut from, _) = service.accept().await.unwrap();
            let target = if drain.is_draining() { second } else { first };
            tokio::spawn(async move {
                let mut to = TcpStream::connect(target).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
            });
        }
    });
    let going = Arc::new(AtomicBool::new(true));
    let load = tokio::spawn(reviews(
        address,
        trusted,
        going.clone(),
        Duration::from_millis(2),
    ));
    until("reviews", || {
        going_away.metrics.seconds.get_sample_count() > 100
    })
    .await;
    going_away.drain.start();
    until("its end", || going_away.served.is_finished()).await;
    let before = other.metrics.seconds.get_sample_count();
    until("reviews of the other", || {
        other.metrics.seconds.get_sample_count() > before + 50
    })
    .await;
    going.store(false, Ordering::Relaxed);
    assert!(load.await.unwrap() > 150);
    assert_eq!(going_away.drain.guards(), 0);
    assert!(TcpStream::connect(going_away.address).await.is_err());
    proxy.abort();
}
