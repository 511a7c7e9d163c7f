//! TLS on both sides: to a real Redis, and from clients, with the certificates that go wrong in the field.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod messages;
mod reload;
mod sni;
mod trouble;

use std::fs;
use std::path::Path;
use std::process::Command;

use tars_tests::address::Address;
use tars_tests::port::Port;
use tars_tests::proxy::{Builder, Proxy};
use tars_tests::server::{Kind, Server};
use tars_tests::tls::{Authority, Identity};

const LOCALHOST: &str = "127.0.0.1";

/// A server that is reached with TLS. Of the kinds at hand Redis 7.0 alone is built with it; before the others a proxy of its own ends it,
/// as another terminator would.
struct TlsServer {
    url: String,
    _terminator: Option<Proxy>,
    _server: Server,
    _port: Port,
}

impl TlsServer {
    fn start(authority: &Authority, identity: &Identity, auth_clients: &str) -> Self {
        Self::of(Kind::Redis70, authority, identity, auth_clients)
    }

    fn of(kind: Kind, authority: &Authority, identity: &Identity, auth_clients: &str) -> Self {
        let port = Port::claim();
        let ca = authority.ca().display().to_string();
        let (server, terminator) = if kind == Kind::Redis70 {
            let number = port.number().to_string();
            let server = Server::builder(kind)
                .args(["--tls-port", &number, "--tls-auth-clients", auth_clients])
                .args(["--tls-ca-cert-file", &ca])
                .args(identity.args("--tls-cert-file", "--tls-key-file"))
                .start();
            (server, None)
        } else {
            let server = Server::of(kind);
            let mut terminator = Proxy::to(&server)
                .listen(Address::Tcp(port.addr()))
                .args(identity.args("--tls-cert", "--tls-key"))
                .args(["--no-trace"]);
            if auth_clients == "yes" {
                terminator = terminator.args(["--tls-client-ca", &ca]);
            }
            (server, Some(terminator.start()))
        };
        Self {
            url: format!("rediss://{}", port.addr()),
            _terminator: terminator,
            _server: server,
            _port: port,
        }
    }

    fn url(&self) -> String {
        self.url.clone()
    }

    /// Without TLS.
    fn plain(&self) -> String {
        self.url.replace("rediss://", "redis://")
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
    fn of(kind: Kind, authority: &Authority, configure: impl FnOnce(Builder) -> Builder) -> Self {
        let server = authority.sign("redis", LOCALHOST);
        let client = authority.sign("client", "client");
        let own = authority.sign("proxy", LOCALHOST);
        let server = TlsServer::of(kind, authority, &server, "yes");
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
