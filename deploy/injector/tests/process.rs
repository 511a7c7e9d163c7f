//! The program itself: `serve` from start to end, its exit codes, `render`; and, when asked for, what it costs.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod support;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use support::{Client, bundle, patched, pod, review, trust, until};
use tars_injector::certificates::Bundle;

const PROGRAM: &str = env!("CARGO_BIN_EXE_tars-injector");

/// A program that serves, killed at the latest when the test is over.
struct Serving {
    child: Child,
    address: SocketAddr,
    admin: SocketAddr,
    bundle: Bundle,
    _folder: tempfile::TempDir,
}

impl Serving {
    fn start() -> Self {
        let (folder, bundle) = (tempfile::tempdir().unwrap(), bundle());
        let (cert, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
        fs::write(&cert, &bundle.cert).unwrap();
        fs::write(&key, &bundle.key).unwrap();
        let mut child = Command::new(PROGRAM)
            .args([
                "serve",
                "--no-api",
                "--kubernetes-version",
                "1.34",
                "--listen",
                "127.0.0.1:0",
                "--admin",
                "127.0.0.1:0",
            ])
            .args(["--log-format", "json", "--tls-cert"])
            .arg(&cert)
            .arg("--tls-key")
            .arg(&key)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut address = |message: &str| -> SocketAddr {
            let line = lines.find_map(|line| {
                let line: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
                (line["message"] == message).then(|| line["address"].as_str().unwrap().to_owned())
            });
            line.unwrap().parse().unwrap()
        };
        let (admin, address) = (address("admin"), address("listening"));
        // The log goes on, and somebody has to read it.
        std::thread::spawn(move || lines.for_each(drop));
        Self {
            child,
            address,
            admin,
            bundle,
            _folder: folder,
        }
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.admin).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn terminate(&self) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    /// User's and system's time, of clock ticks of 10 ms.
    fn processor_us(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields = stat.rsplit_once(") ").unwrap().1.split(' ');
        let ticks: u64 = fields
            .skip(11)
            .take(2)
            .map(|ticks| ticks.parse::<u64>().unwrap())
            .sum();
        ticks * 10_000
    }

    fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        line.unwrap()
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .unwrap()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn serves_until_it_is_told_to_stop() {
    let mut serving = Serving::start();
    let trusted = trust(&[&serving.bundle]);
    let mut client = Client::connect(serving.address, trusted).await.unwrap();
    let before = pod("redis://redis");
    patched(&before, &client.review(&review("a", &before)).await);
    until("readiness", || {
        serving.get("/ready").starts_with("HTTP/1.1 200 ")
    })
    .await;
    let metrics = serving.get("/metrics");
    assert!(
        metrics.contains("tars_injector_reviews_total{decision=\"injected\"} 1"),
        "{metrics}"
    );
    assert!(
        metrics.contains("process_resident_memory_bytes"),
        "{metrics}"
    );

    serving.terminate();
    until("the drain", || {
        serving.get("/ready").starts_with("HTTP/1.1 503 ")
    })
    .await;
    // It goes on answering until everybody has heard, and says that the next review is somebody else's.
    let answer = client
        .send(support::request(review("b", &before).to_string()))
        .await
        .unwrap();
    assert_eq!(answer.headers()["connection"], "close");
    let ended = tokio::task::spawn_blocking(move || serving.child.wait().unwrap())
        .await
        .unwrap();
    assert_eq!(ended.code(), Some(0));
}

fn run(args: &[&str], input: &str) -> (Option<i32>, String, String) {
    let mut child = Command::new(PROGRAM)
        .args(args)
        .env_remove("KUBECONFIG")
        .env("HOME", "/nonexistent")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that refuses its arguments reads nothing.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn what_cannot_be_used_exits_with_one_sentence() {
    for (args, says) in [
        (&["serve", "--no-api"][..], "--tls-cert"),
        (
            &["serve", "--listen", "unix:/tmp/x", "--admin", "127.0.0.1:0"],
            "API servers come over TCP",
        ),
        (&["serve", "--listen", "256.0.0.1:1"], "--listen"),
        (
            &["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"],
            "no API server is known",
        ),
        (
            &[
                "serve",
                "--no-api",
                "--kubernetes-version",
                "1.34",
                "--tls-cert",
                "/none",
                "--tls-key",
                "/none",
                "--listen",
                "127.0.0.1:0",
                "--admin",
                "127.0.0.1:0",
            ],
            "/none",
        ),
        (&["serve", "--log-level", "loud"], "log level"),
        (&["render"], "--filename"),
        (&["render", "-f", "/none"], "/none"),
        (
            &["render", "-f", "-", "--kubernetes-version", "two"],
            "write 1.34",
        ),
        (&["nothing"], "nothing"),
    ] {
        let (code, out, err) = run(args, "");
        assert_eq!((code, out.as_str()), (Some(64), ""), "{args:?}: {err}");
        assert!(err.contains(says), "{args:?}: {err}");
    }
}

#[test]
fn render_reads_standard_input_and_says_what_it_decided() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: a, image: b, env: [{name: REDIS_URL, value: redis://r}]}]}\n";
    let (code, out, err) = run(&["render", "-f", "-"], pod);
    assert_eq!((code, err.as_str()), (Some(0), "Pod/p: injected\n"));
    assert!(
        out.contains("redis://127.0.0.1:16380") && out.contains("restartPolicy: Always"),
        "{out}"
    );
    let (_, classic, _) = run(&["render", "-f", "-", "--kubernetes-version", "1.28"], pod);
    assert!(!classic.contains("restartPolicy: Always"), "{classic}");

    let transparent = pod.replace(
        "{name: p}",
        "{name: p, annotations: {tars.dev/mode: transparent}}",
    );
    let restricted = [
        "render",
        "-f",
        "-",
        "--namespace-label",
        "pod-security.kubernetes.io/enforce=restricted",
    ];
    let (code, out, err) = run(&restricted, &transparent);
    assert!(
        code == Some(0)
            && err.contains("not injected (pod_security)")
            && !out.contains("tars-proxy"),
        "{err}"
    );

    let bad = pod.replace(
        "{name: p}",
        "{name: p, annotations: {tars.dev/mode: magic}}",
    );
    let (code, _, err) = run(&["render", "-f", "-", "--on-bad-annotation", "deny"], &bad);
    assert!(
        code == Some(1) && err.contains("Pod/p: refused: tars.dev/mode"),
        "{err}"
    );

    // What YAML takes for something else, as kubectl reads it: API servers refuse it.
    let unquoted = pod
        .replace(
            "{name: p}",
            "{name: p, annotations: {tars.dev/sample: 0.5, other: y}}",
        )
        .replace("value: redis://r", "value: off");
    let (code, _, err) = run(&["render", "-f", "-"], &unquoted);
    assert_eq!(code, Some(0));
    for says in [
        "annotations: tars.dev/sample is a number",
        "annotations: other is a boolean",
        "container a: REDIS_URL is a boolean",
    ] {
        assert!(err.contains(&format!("Pod/p: warning: {says}")), "{err}");
    }

    for broken in ["{", "a: [", "a: 1\na: 2\n", "\u{0}"] {
        assert_eq!(
            run(&["render", "-f", "-"], broken).0,
            Some(64),
            "{broken:?}"
        );
    }
    let (code, out, err) = run(&["render", "-f", "-", "-o", "patch"], "");
    assert_eq!((code, out.as_str(), err.as_str()), (Some(0), "[]\n", ""));
}

/// `make bench-injector`: what reviews cost, RUNS (5) times, each a process of its own.
#[tokio::test]
#[ignore = "measures, and asserts nothing that depends on the machine"]
async fn what_reviews_cost() {
    let runs = std::env::var("RUNS").map_or(5, |runs| runs.parse().unwrap());
    let mut measured = Vec::new();
    for _ in 0..runs {
        let run = cost().await;
        println!("{run}");
        measured.push(run);
    }
    let spread = |what: &str| {
        let mut all: Vec<_> = measured
            .iter()
            .map(|run| run[what].as_u64().unwrap())
            .collect();
        all.sort_unstable();
        json!({"min": all[0], "median": all[all.len() / 2], "max": all[all.len() - 1]})
    };
    let costs = [
        "p50_us",
        "p99_us",
        "p999_us",
        "max_us",
        "processor_us_a_review",
        "peak_resident_kib",
    ];
    for what in costs {
        println!("{what}: {}", spread(what));
    }
}

/// 500 reviews a second for 20 s, over 16 connections.
async fn cost() -> serde_json::Value {
    const RATE: u32 = 500;
    const SECONDS: u32 = 20;
    const CONNECTIONS: u32 = 16;
    let serving = Serving::start();
    let trusted = trust(&[&serving.bundle]);
    let manifest = fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/manifests/istio.yaml"
    ))
    .unwrap();
    let before = tars_injector::render::read("istio", &manifest)
        .unwrap()
        .remove(0);
    let text = review("a", &before).to_string();
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..CONNECTIONS {
        let mut client = Client::connect(serving.address, trusted.clone())
            .await
            .unwrap();
        let text = text.clone();
        workers.spawn(async move {
            let step = Duration::from_secs(1) * CONNECTIONS / RATE;
            let began = Instant::now() + step * worker / CONNECTIONS;
            let mut took = Vec::new();
            for number in 0..RATE * SECONDS / CONNECTIONS {
                // From when it should have been sent: whoever waits behind a slow answer has waited.
                let due = began + step * number;
                tokio::time::sleep_until(due.into()).await;
                let (status, answer) = client.post(text.clone()).await;
                assert!(status == 200 && answer.contains("JSONPatch"), "{answer}");
                took.push(due.elapsed());
            }
            took
        });
    }
    let mut took = Vec::new();
    while let Some(worker) = workers.join_next().await {
        took.extend(worker.unwrap());
    }
    took.sort();
    let at = |per_mille: usize| took[(took.len() - 1) * per_mille / 1000];
    let micros = |per_mille| u64::try_from(at(per_mille).as_micros()).unwrap();
    json!({"reviews": took.len(), "per_second": RATE, "review_bytes": text.len(), "p50_us": micros(500), "p99_us": micros(990),
        "p999_us": micros(999), "max_us": micros(1000), "processor_us_a_review": serving.processor_us() / took.len() as u64,
        "peak_resident_kib": serving.resident_kib()})
}
