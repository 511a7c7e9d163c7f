//! TLS on both sides: to a real Redis, and from clients, with the certificates that go wrong in the field.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tars_tests::otlp::Collector;
use tars_tests::port::Port;
use tars_tests::proxy::{Builder, Proxy, run_to_end};
use tars_tests::resp::{Client, encode};
use tars_tests::server::{Kind, Server};
use tars_tests::tls::{Authority, Identity};
use tars_tests::wait;

const LOCALHOST: &str = "127.0.0.1";

/// A Redis that listens with TLS too, on a port of its own.
struct TlsServer {
    _server: Server,
    port: Port,
}

impl TlsServer {
    fn start(authority: &Authority, identity: &Identity, auth_clients: &str) -> Self {
        let port = Port::claim();
        let number = port.number().to_string();
        let ca = authority.ca().display().to_string();
        let server = Server::builder(Kind::Redis70)
            .args(["--tls-port", &number, "--tls-auth-clients", auth_clients])
            .args(["--tls-ca-cert-file", &ca])
            .args(identity.args("--tls-cert-file", "--tls-key-file"))
            .start();
        Self {
            _server: server,
            port,
        }
    }

    fn url(&self) -> String {
        format!("rediss://{}", self.port.addr())
    }
}

fn ca(builder: Builder, ca: &Path) -> Builder {
    builder.args(["--upstream-ca".to_owned(), ca.display().to_string()])
}

/// TLS on both sides of `proxy`, with a certificate of each client; and `entrance`, which clients without TLS reach it through.
struct Chain {
    entrance: Proxy,
    proxy: Proxy,
    _server: TlsServer,
}

impl Chain {
    fn start(authority: &Authority, configure: impl FnOnce(Builder) -> Builder) -> Self {
        let server = authority.sign("redis", LOCALHOST);
        let client = authority.sign("client", "client");
        let own = authority.sign("proxy", LOCALHOST);
        let server = TlsServer::start(authority, &server, "yes");
        let proxy = ca(Proxy::to_url(&server.url()), &authority.ca())
            .args(client.args("--upstream-cert", "--upstream-key"))
            .args(own.args("--tls-cert", "--tls-key"))
            .args([
                "--tls-client-ca".to_owned(),
                authority.ca().display().to_string(),
            ]);
        let proxy = configure(proxy).start();
        // Its own copy: a test changes it.
        let trusted = authority.path("trusted.pem");
        fs::copy(authority.ca(), &trusted).unwrap();
        let entrance = ca(
            Proxy::to_url(&format!("rediss://{}", proxy.address())),
            &trusted,
        )
        .args(client.args("--upstream-cert", "--upstream-key"))
        .args(["--no-trace"])
        .start();
        Self {
            entrance,
            proxy,
            _server: server,
        }
    }
}

fn redis_cli(proxy: &Proxy, args: &[&str]) -> (bool, String) {
    let (host, port) = proxy
        .address()
        .to_string()
        .split_once(':')
        .map(|(h, p)| (h.to_owned(), p.to_owned()))
        .unwrap();
    let done = Command::new("redis-cli")
        .args(["-h", &host, "-p", &port, "--tls"])
        .args(args)
        .output()
        .unwrap();
    let text = [done.stdout, done.stderr].concat();
    (
        done.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

#[test]
fn messages_are_linked_over_tls_on_both_sides() {
    const MESSAGES: usize = 10_000;
    const PIPELINE: usize = 100;
    let authority = Authority::new("authority");
    let collector = Collector::start();
    let Chain {
        entrance,
        mut proxy,
        _server,
    } = Chain::start(&authority, |proxy| {
        proxy
            .otlp_grpc(&collector.grpc())
            .env("OTEL_BSP_MAX_QUEUE_SIZE", (4 * MESSAGES).to_string())
    });
    let mut client = entrance.connect();
    assert_eq!(
        client.call(&["XGROUP", "CREATE", "s", "g", "0", "MKSTREAM"]),
        "+OK\r\n"
    );
    let pipeline = encode(&["XADD", "s", "*", "a", "1"]).repeat(PIPELINE);
    for _ in 0..MESSAGES / PIPELINE {
        client.send(&pipeline);
        assert!(
            client
                .replies(PIPELINE)
                .iter()
                .all(|id| id.starts_with(b"$"))
        );
    }
    let mut settled = 0;
    while settled < MESSAGES {
        let read = client.call(&[
            "XREADGROUP",
            "GROUP",
            "g",
            "c",
            "COUNT",
            "500",
            "STREAMS",
            "s",
            ">",
        ]);
        let ids: Vec<&str> = read.split("\r\n").filter(|word| is_id(word)).collect();
        let mut ack = vec!["XACK", "s", "g"];
        ack.extend(&ids);
        assert_eq!(client.call(&ack), format!(":{}\r\n", ids.len()));
        settled += ids.len();
    }
    assert_eq!(settled, MESSAGES);

    // Far more than one record, and than the kernel holds.
    let value = "v".repeat(20 << 20);
    assert_eq!(client.call(&["SET", "large", &value]), "+OK\r\n");
    assert_eq!(
        client.call(&["GET", "large"]),
        format!("${}\r\n{value}\r\n", value.len())
    );
    drop(client);

    // A client that is not ours: OpenSSL.
    let tls = authority.sign("cli", "cli").args("--cert", "--key");
    let ca = authority.ca().display().to_string();
    let args: Vec<&str> = tls
        .iter()
        .map(String::as_str)
        .chain(["--cacert", &ca, "XLEN", "s"])
        .collect();
    assert_eq!(redis_cli(&proxy, &args), (true, format!("{MESSAGES}\n")));

    drop(entrance);
    proxy.drain();
    let spans = collector.spans();
    let mut sent = HashMap::new();
    for span in spans.iter().filter(|span| span.name == "send s") {
        sent.insert(span.attr("messaging.message.id").as_str().unwrap(), span);
    }
    let processed: Vec<_> = spans
        .iter()
        .filter(|span| span.name == "process s")
        .collect();
    assert_eq!((sent.len(), processed.len()), (MESSAGES, MESSAGES));
    for span in processed {
        let id = span.attr("messaging.message.id").as_str().unwrap();
        assert!(span.is_child_of(sent[id]), "{id}");
    }
}

fn is_id(word: &str) -> bool {
    word.split_once('-').is_some_and(|(ms, seq)| {
        ms.len() == 13 && !seq.is_empty() && seq.bytes().all(|b| b.is_ascii_digit())
    })
}

#[test]
fn certificates_are_rotated_under_load() {
    let (authority, next) = (Authority::new("authority"), Authority::new("next"));
    let Chain {
        mut entrance,
        mut proxy,
        _server,
    } = Chain::start(&authority, |proxy| proxy);
    let trusted = authority.path("trusted.pem");
    let own = Identity {
        cert: authority.path("proxy.pem"),
        key: authority.path("proxy.key"),
    };

    let (stop, connections) = (AtomicBool::new(false), AtomicUsize::new(0));
    let address = entrance.address().clone();
    thread::scope(|scope| {
        let load = || {
            // One connection lives through it all; others come and go.
            let mut lasting = Client::connect(&address);
            while !stop.load(Ordering::Relaxed) {
                let mut fresh = Client::connect(&address);
                for client in [&mut fresh, &mut lasting] {
                    assert!(client.call(&["XADD", "s", "*", "a", "1"]).starts_with('$'));
                }
                connections.fetch_add(1, Ordering::Relaxed);
            }
        };
        let loads = [scope.spawn(load), scope.spawn(load)];
        let more = || {
            let before = connections.load(Ordering::Relaxed);
            wait::until("more connections", wait::PATIENCE, || {
                let ended = loads.iter().any(thread::ScopedJoinHandle::is_finished);
                (ended || connections.load(Ordering::Relaxed) > before + 20).then_some(())
            });
        };
        more();
        // Both authorities, the new certificate, the new authority alone: each step leaves everybody content.
        fs::write(&trusted, authority.pem() + &next.pem()).unwrap();
        wait_reloads(&mut entrance, 1);
        more();
        next.sign("proxy", LOCALHOST).replace(&own);
        wait_reloads(&mut proxy, 1);
        more();
        fs::copy(next.ca(), &trusted).unwrap();
        wait_reloads(&mut entrance, 2);
        more();
        // What cannot be used changes nothing.
        fs::write(&own.cert, "no certificate").unwrap();
        proxy.wait_log(&format!(
            "tls_cert: {} holds no certificate in PEM format; it begins with -----BEGIN CERTIFICATE-----; new connections go on with what was read before",
            own.cert.display()
        ));
        more();
        // The upstream side of the entrance has rotated as well: the old certificate would not be trusted any more.
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(
        proxy.stderr().matches("WARN").count(),
        1,
        "{}",
        proxy.stderr()
    );
    assert_eq!(
        entrance.stderr().matches("WARN").count(),
        0,
        "{}",
        entrance.stderr()
    );
}

fn wait_reloads(proxy: &mut Proxy, count: usize) {
    wait::until("files are reloaded", wait::PATIENCE, || {
        (proxy.stderr().matches("TLS files reloaded").count() >= count).then_some(())
    });
}

/// The proxy is not ready for this reason, says so once, and closes its clients' connections. Returns once it has.
fn assert_refused(proxy: &mut Proxy, name: &str, reason: &str) {
    let expected = format!(
        r#"{{"missing":[{{"name":"upstream {name}","reason":"{reason}"}}],"ready":false}}"#
    );
    let mut last = String::new();
    wait::poll(wait::PATIENCE, || {
        last = proxy.get("/ready").body;
        (last == expected).then_some(())
    })
    .unwrap_or_else(|| panic!("{last}\nis not\n{expected}"));
    let logged = format!(
        "server cannot be reached; its clients' connections are closed until it can upstream={name} error={reason}"
    );
    proxy.wait_log(&logged);
    assert_eq!(
        proxy.stderr().matches("WARN").count(),
        1,
        "{}",
        proxy.stderr()
    );
    assert_eq!(proxy.get("/ready").status, 503);
}

/// A client is not served.
fn assert_closed(proxy: &Proxy) {
    let mut client = proxy.connect();
    let answered = client
        .try_send(b"PING\r\n")
        .and_then(|()| client.try_reply());
    assert!(answered.is_err(), "{answered:?}");
}

#[test]
fn what_is_wrong_with_a_servers_certificate_is_told_once_an_outage() {
    let (authority, stranger) = (Authority::new("authority"), Authority::new("stranger"));
    let good = authority.sign("good", LOCALHOST);
    let expired =
        authority.sign_expired("expired", LOCALHOST, Duration::from_secs(3 * 86_400 + 60));
    let elsewhere = authority.sign("elsewhere", "redis.internal");
    let trusted = authority.path("trusted.pem");
    fs::copy(stranger.ca(), &trusted).unwrap();
    for (identity, ca_file, reason) in [
        (
            &good,
            &trusted,
            format!(
                "the server's certificate was not signed by an authority in {}; give the one that signed it as upstream_ca",
                trusted.display()
            ),
        ),
        (
            &expired,
            &authority.ca(),
            "the server's certificate expired 3 days ago; renew it".to_owned(),
        ),
        (
            &elsewhere,
            &authority.ca(),
            "the server's certificate is for redis.internal, and not for 127.0.0.1; give the name it has as upstream_server_name".to_owned(),
        ),
    ] {
        let server = TlsServer::start(&authority, identity, "no");
        let mut proxy = ca(Proxy::to_url(&server.url()), ca_file).start_unready();
        assert_refused(&mut proxy, &server.url(), &reason);
        assert_closed(&proxy);
        assert_eq!(proxy.stderr().matches("WARN").count(), 1, "{}", proxy.stderr());
    }

    // The right authority, put there while the proxy runs, ends the outage.
    let server = TlsServer::start(&authority, &good, "no");
    let mut proxy = ca(Proxy::to_url(&server.url()), &trusted).start_unready();
    fs::copy(authority.ca(), &trusted).unwrap();
    proxy.wait_ready();
    proxy.wait_log("server is reachable again");
    assert_eq!(proxy.connect().call(&["PING"]), "+PONG\r\n");
    // A name that is given goes for the host's.
    let server = TlsServer::start(&authority, &elsewhere, "no");
    let proxy = ca(Proxy::to_url(&server.url()), &trusted)
        .args(["--upstream-server-name", "redis.internal"])
        .start();
    assert_eq!(proxy.connect().call(&["PING"]), "+PONG\r\n");
    // The system's authorities, as the environment names them.
    let server = TlsServer::start(&authority, &good, "no");
    let proxy = Proxy::to_url(&server.url())
        .env("SSL_CERT_FILE", authority.ca().display().to_string())
        .start();
    assert_eq!(proxy.connect().call(&["PING"]), "+PONG\r\n");
}

#[test]
fn a_server_that_wants_a_certificate_says_so() {
    let (authority, stranger) = (Authority::new("authority"), Authority::new("stranger"));
    let server = TlsServer::start(&authority, &authority.sign("redis", LOCALHOST), "yes");
    let mut proxy = ca(Proxy::to_url(&server.url()), &authority.ca()).start_unready();
    let wanted =
        "the server wants a certificate of its clients; give upstream_cert and upstream_key";
    assert_refused(&mut proxy, &server.url(), wanted);
    assert_closed(&proxy);
    // A handshake alone, which TLS 1.3 ends before the server has looked at the certificate, makes nobody ready.
    assert_refused(&mut proxy, &server.url(), wanted);

    let strange = stranger.sign("strange", "c");
    let mut proxy = ca(Proxy::to_url(&server.url()), &authority.ca())
        .args(strange.args("--upstream-cert", "--upstream-key"))
        .start_unready();
    let refused = format!(
        "the server refuses the certificate in {} (UnknownCA); give one that its authority has signed and that is valid as upstream_cert",
        strange.cert.display()
    );
    assert_refused(&mut proxy, &server.url(), &refused);
}

#[test]
fn tls_where_there_is_none_and_the_reverse_are_told() {
    let authority = Authority::new("authority");
    let server = TlsServer::start(&authority, &authority.sign("redis", LOCALHOST), "no");
    let mut proxy = Proxy::to_url(&format!("redis://{}", server.port.addr())).start_unready();
    let reason = "the server speaks TLS, and was asked without; did you mean rediss://?";
    assert_refused(&mut proxy, &server.port.addr(), reason);
    assert_closed(&proxy);
    assert_refused(&mut proxy, &server.port.addr(), reason);

    let server = Server::redis70();
    let url = server.url().replace("redis://", "rediss://");
    let mut proxy = ca(Proxy::to_url(&url), &authority.ca()).start_unready();
    // A handshake with a line's end in it is answered at once, by an error; one without, mostly, never.
    let silent = "the server speaks no TLS, and was asked with it; did you mean redis://?";
    wait::until(
        "the reason of a handshake without answer",
        wait::PATIENCE,
        || {
            let body = proxy.get("/ready").body;
            assert!(
                body.contains("not reached yet")
                    || body.ends_with(r#"; did you mean redis://?"}],"ready":false}"#),
                "{body}"
            );
            body.contains(&format!(r#""reason":"{silent}""#))
                .then_some(())
        },
    );
    proxy.wait_log("; did you mean redis://?");
    assert_eq!(
        proxy.stderr().matches("WARN").count(),
        1,
        "{}",
        proxy.stderr()
    );
}

#[test]
fn a_client_without_tls_or_certificate_is_closed_and_told_of_once() {
    let authority = Authority::new("authority");
    let server = Server::redis70();
    let own = authority
        .sign("proxy", LOCALHOST)
        .args("--tls-cert", "--tls-key");
    let mut proxy = Proxy::to(&server).args(own.clone()).start();
    for _ in 0..3 {
        assert_closed(&proxy);
    }
    let told = "a client's TLS handshake failed; further failures are not logged until one succeeds error=127.0.0.1: it does not speak TLS; does it mean rediss://?";
    proxy.wait_log(told);
    assert_eq!(
        proxy.stderr().matches("WARN").count(),
        1,
        "{}",
        proxy.stderr()
    );
    let ca_file = authority.ca().display().to_string();
    assert_eq!(
        redis_cli(&proxy, &["--cacert", &ca_file, "PING"]),
        (true, "PONG\n".to_owned())
    );
    assert_closed(&proxy);
    wait::until("it is told again", wait::PATIENCE, || {
        (proxy.stderr().matches(told).count() == 2).then_some(())
    });

    let mut proxy = Proxy::to(&server)
        .args(own)
        .args(["--tls-client-ca", &ca_file])
        .start();
    assert!(
        !redis_cli(&proxy, &["--cacert", &ca_file, "PING"])
            .1
            .contains("PONG")
    );
    proxy.wait_log("error=127.0.0.1: it shows no certificate, and tls_client_ca asks for one");
}

#[test]
fn files_that_cannot_be_used_stop_the_start_with_one_sentence() {
    let authority = Authority::new("authority");
    let (one, other) = (authority.sign("one", "a"), authority.sign("other", "a"));
    let [cert, key] = [&one.cert, &other.key].map(|path| path.display().to_string());
    for (args, expected) in [
        (
            vec!["--upstream", "rediss://127.0.0.1", "--upstream-ca", "/nowhere/ca.pem"],
            "upstream_ca: /nowhere/ca.pem cannot be read (No such file or directory (os error 2)); name a PEM file that this process may read\n".to_owned(),
        ),
        (
            vec!["--listen", "127.0.0.1:0", "--tls-cert", &cert, "--tls-key", &key],
            format!("tls_key: the key in {key} does not belong to the certificate in {cert}; give the two that were made together\n"),
        ),
    ] {
        for command in ["run", "check-config"] {
            let mut line = vec![command];
            line.extend(&args);
            let (status, out, err) = run_to_end(&line);
            assert_eq!((status.code(), out.as_str(), &err), (Some(64), "", &expected));
        }
    }
}
