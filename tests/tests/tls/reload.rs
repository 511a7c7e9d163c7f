//! Certificates that change on disk, on either side.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use tars_tests::proxy::Proxy;
use tars_tests::resp::Client;
use tars_tests::server::{Kind, Server};
use tars_tests::tls::{Authority, Identity};
use tars_tests::wait;

use crate::{Chain, LOCALHOST, TlsServer, ca, redis_cli};

#[test]
fn certificates_are_rotated_under_load() {
    let (authority, next) = (Authority::new("authority"), Authority::new("next"));
    let Chain {
        mut entrance,
        mut proxy,
        _server,
    } = Chain::of(Kind::Redis70, &authority, |proxy| proxy);
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

#[test]
fn a_certificate_shown_to_the_server_is_exchanged() {
    let (authority, stranger) = (Authority::new("authority"), Authority::new("stranger"));
    let server = TlsServer::start(&authority, &authority.sign("redis", LOCALHOST), "yes");
    let shown = stranger.sign("client", "client");
    let mut proxy = ca(Proxy::to_url(&server.url()), &authority.ca())
        .args(shown.args("--upstream-cert", "--upstream-key"))
        .start_unready();
    proxy.wait_log("the server refuses the certificate in");
    authority.sign("client", "client").replace(&shown);
    proxy.wait_ready();
    assert_eq!(proxy.connect().call(&["PING"]), "+PONG\r\n");
}

#[test]
fn authorities_of_clients_are_exchanged() {
    let (authority, next) = (Authority::new("authority"), Authority::new("next"));
    let server = Server::of(Kind::Valkey);
    let trusted = authority.path("trusted.pem");
    fs::copy(authority.ca(), &trusted).unwrap();
    let own = authority.sign("proxy", LOCALHOST);
    let mut proxy = Proxy::to(&server)
        .args(own.args("--tls-cert", "--tls-key"))
        .args(["--tls-client-ca", &trusted.display().to_string()])
        .start();
    let ca_file = authority.ca().display().to_string();
    let clients = [&authority, &next].map(|by| by.sign("client", "client"));
    let ping = |proxy: &Proxy, client: &Identity| {
        let shown = client.args("--cert", "--key");
        let shown = shown.iter().map(String::as_str);
        let args: Vec<&str> = shown.chain(["--cacert", &ca_file, "PING"]).collect();
        redis_cli(proxy, &args).1
    };
    assert_eq!(ping(&proxy, &clients[0]), "PONG\n");
    assert!(!ping(&proxy, &clients[1]).contains("PONG"));
    proxy.wait_log("its certificate was not signed by an authority in tls_client_ca");
    fs::copy(next.ca(), &trusted).unwrap();
    wait_reloads(&mut proxy, 1);
    assert_eq!(ping(&proxy, &clients[1]), "PONG\n");
    assert!(!ping(&proxy, &clients[0]).contains("PONG"));
}
