//! What goes wrong in the field, each told in one sentence: what was wrong, where, and what would be right.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tars_tests::address::Address;
use tars_tests::proxy::{Proxy, run_to_end};
use tars_tests::resp::End;
use tars_tests::server::Server;
use tars_tests::tls::Authority;
use tars_tests::wait;

use crate::{LOCALHOST, TlsServer, ca, redis_cli};

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
    let mut proxy = Proxy::to_url(&server.plain()).start_unready();
    let reason = "the server speaks TLS, and was asked without; did you mean rediss://?";
    assert_refused(
        &mut proxy,
        server.plain().trim_start_matches("redis://"),
        reason,
    );
    assert_closed(&proxy);
    assert_refused(
        &mut proxy,
        server.plain().trim_start_matches("redis://"),
        reason,
    );

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

/// The bytes pass, as to Redis; whether anybody answers is the server's affair.
#[test]
fn a_client_that_speaks_tls_to_a_listener_without_it_is_told_of_once() {
    let server = Server::valkey();
    let mut proxy = Proxy::to(&server).start();
    for _ in 0..3 {
        let mut client = proxy.connect();
        client.send(b"\x16\x03\x01\x00\x05hello\x00");
        proxy.wait_metric("tars_proxy_connections", &[], |open| open > 0.0);
    }
    proxy.wait_metric(
        "tars_proxy_raw_relays_total",
        &[("reason", "protocol")],
        |raw| raw == 3.0,
    );
    let told = format!(
        "WARN tars_proxy::worker: a client speaks TLS to a listener without it, and is answered only if the server speaks it; give tls_cert and tls_key, or let the client use redis://; further ones are not logged listen={}",
        proxy.address()
    );
    proxy.wait_log(&told);
    assert_eq!(
        proxy.stderr().matches("WARN").count(),
        1,
        "{}",
        proxy.stderr()
    );
    assert_eq!(proxy.connect().call(&["PING"]), "+PONG\r\n");
}

#[test]
fn a_certificate_of_ones_own_that_has_expired_is_told_before_a_client_refuses_it() {
    let authority = Authority::new("authority");
    let ago = Duration::from_secs(3 * 86_400 + 60);
    let old = authority.sign_expired("old", LOCALHOST, ago);
    let path = old.cert.display();
    let doubt = |setting: &str| {
        format!("{setting}: the certificate in {path} expired 3 days ago; renew it")
    };
    let own = old.args("--tls-cert", "--tls-key");
    let shown = old.args("--upstream-cert", "--upstream-key");
    let ca_file = authority.ca().display().to_string();
    let upstream = [
        "--upstream",
        "rediss://127.0.0.1",
        "--upstream-ca",
        &ca_file,
    ];
    let line = ["check-config"].into_iter().chain(upstream);
    let line: Vec<&str> = line
        .chain(own.iter().chain(&shown).map(String::as_str))
        .collect();
    let (status, out, err) = run_to_end(&line);
    assert!(status.success() && out.starts_with("ok\n"), "{out}{err}");
    let expected =
        ["tls_cert", "upstream_cert"].map(|setting| format!("warning: {}\n", doubt(setting)));
    assert_eq!(err, expected.concat());

    // It starts all the same: the certificate may be renewed while it runs.
    let server = Server::redis70();
    let mut proxy = Proxy::to(&server).args(own).start();
    proxy.wait_log(&doubt("tls_cert"));
    let said = redis_cli(&proxy, &["--cacert", &ca_file, "PING"]);
    assert!(
        !said.0 && said.1.contains("certificate verify failed"),
        "{}",
        said.1
    );
    proxy.wait_log("error=127.0.0.1: by its clock the certificate in tls_cert is not valid; renew it, or put that clock right");
    authority.sign("new", LOCALHOST).replace(&old);
    proxy.wait_log("TLS files reloaded");
    let said = redis_cli(&proxy, &["--cacert", &ca_file, "PING"]);
    assert_eq!(said, (true, "PONG\n".to_owned()));
}

#[test]
fn where_a_socket_cannot_be_is_told_before_and_at_the_start() {
    let server = Server::redis70();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (regular, live, stale, astray) =
        (path("regular"), path("live"), path("stale"), path("no/a"));
    fs::write(&regular, "precious").unwrap();
    let live_proxy = Proxy::to(&server)
        .listen(Address::from(format!("unix:{live}").as_str()))
        .start();
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());

    let here = folder.path().join("no");
    for (path, known_before, expected) in [
        (
            &regular,
            true,
            "there is a file of that name which is not a socket; it stays as it is: move it away, or give another path".to_owned(),
        ),
        (
            &astray,
            true,
            format!("the folder {} does not exist; make it, or give another path", here.display()),
        ),
        // Whoever has it may be whom this one is to follow.
        (&live, false, "the address is in use; stop what has it, or give another address".to_owned()),
    ] {
        for setting in ["listen", "admin"] {
            let address = format!("unix:{path}");
            let flag = format!("--{setting}");
            let expected = format!("{flag}: cannot listen on {address}: {expected}\n");
            let (status, _, err) = run_to_end(&["check-config", &flag, &address]);
            let wanted = if known_before { (Some(64), expected.as_str()) } else { (Some(0), "") };
            assert_eq!((status.code(), err.as_str()), wanted);
            let other = if setting == "listen" { "--admin" } else { "--listen" };
            let (status, _, err) = run_to_end(&[
                "--upstream",
                &server.url(),
                &flag,
                &address,
                other,
                "127.0.0.1:0",
            ]);
            let err = err.lines().last().unwrap_or_default();
            assert_eq!((status.code(), err), (Some(64), expected.trim_end()));
        }
    }
    assert_eq!(fs::read_to_string(&regular).unwrap(), "precious");
    assert_eq!(live_proxy.connect().call(&["PING"]), "+PONG\r\n");

    // Left behind by a process that is no more: replaced.
    let mut proxy = Proxy::to(&server)
        .listen(Address::from(format!("unix:{stale}").as_str()))
        .start();
    assert_eq!(proxy.connect().call(&["PING"]), "+PONG\r\n");
    proxy.drain();
    assert!(!Path::new(&stale).exists());
}

#[test]
fn files_that_cannot_be_used_stop_the_start_with_one_sentence() {
    let authority = Authority::new("authority");
    let (one, other) = (authority.sign("one", "a"), authority.sign("other", "a"));
    let [cert, key] = [&one.cert, &other.key].map(|path| path.display().to_string());
    let folder = authority.ca().parent().unwrap().display().to_string();
    for (args, expected) in [
        (
            vec!["--upstream", "rediss://127.0.0.1", "--upstream-ca", "/nowhere/ca.pem"],
            "upstream_ca: /nowhere/ca.pem cannot be read (No such file or directory (os error 2)); name a PEM file that this process may read\n".to_owned(),
        ),
        (
            vec!["--tls-cert", &cert, "--tls-key", &folder],
            format!("tls_key: {folder} cannot be read (Is a directory (os error 21)); name a PEM file that this process may read\n"),
        ),
        (
            vec!["--tls-cert", &cert, "--tls-key", &cert],
            format!("tls_key: {cert} holds no private key in PEM format; it begins with -----BEGIN PRIVATE KEY-----\n"),
        ),
        (
            vec!["--tls-cert", &cert, "--tls-key", &cert, "--upstream", "rediss://127.0.0.1", "--upstream-ca", &key],
            format!("tls_key: {cert} holds no private key in PEM format; it begins with -----BEGIN PRIVATE KEY-----\nupstream_ca: {key} holds no certificate in PEM format; it begins with -----BEGIN CERTIFICATE-----\n"),
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
            // `check-config` says all of it, and a start the first.
            let expected = match command {
                "run" => expected.split_inclusive('\n').next_back().unwrap_or_default(),
                _ => expected.as_str(),
            };
            assert_eq!((status.code(), out.as_str(), err.as_str()), (Some(64), "", expected));
        }
    }
}

/// What `explain` says of a server that it cannot ask.
fn explained(server: &str, args: &[&str]) -> String {
    let args = [&["explain", "--stream", "s", "--upstream", server], args].concat();
    let (status, out, err) = run_to_end(&args);
    assert_eq!((status.code(), out.as_str()), (Some(1), ""), "{err}");
    err.strip_prefix(server)
        .and_then(|rest| rest.strip_prefix(": "))
        .unwrap_or_else(|| panic!("{err}"))
        .trim_end()
        .to_owned()
}

#[test]
fn explain_tells_what_is_wrong_with_tls_as_the_proxy_does() {
    let authority = Authority::new("authority");
    let ca = authority.ca().display().to_string();
    let ca = ["--upstream-ca", ca.as_str()];
    let server = TlsServer::start(&authority, &authority.sign("redis", LOCALHOST), "yes");
    assert_eq!(
        explained(&server.plain(), &[]),
        "the server speaks TLS, and was asked without; did you mean rediss://?"
    );
    // TLS 1.3 ends the handshake before the server has looked at the certificate.
    assert_eq!(
        explained(&server.url(), &ca),
        "no TLS connection: the server wants a certificate of its clients; give upstream_cert and upstream_key"
    );

    // A handshake with a line's end in it is answered at once, by an error; one without, mostly, never.
    let server = Server::redis70();
    let told = explained(&server.url().replace("redis://", "rediss://"), &ca);
    assert!(
        [
            "the server speaks no TLS, and was asked with it; did you mean redis://?",
            "no TLS connection: what answers there does not speak TLS; did you mean redis://?",
        ]
        .contains(&told.as_str()),
        "{told}"
    );

    // What `openssl req -x509` makes: its own authority.
    let own = authority.sign_authority("own", LOCALHOST);
    let server = TlsServer::start(&authority, &own, "no");
    let reason = "the server shows an authority's own certificate (CA:TRUE); give it one that an authority has signed for its name";
    assert_eq!(
        explained(&server.url(), &ca),
        format!("no TLS connection: {reason}")
    );
    let mut proxy = super::ca(Proxy::to_url(&server.url()), &authority.ca()).start_unready();
    assert_refused(&mut proxy, &server.url(), reason);
}

/// A server that takes connections and says nothing.
#[test]
fn explain_does_not_wait_for_a_handshake_for_ever() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("rediss://{}", silent.local_addr().unwrap());
    assert_eq!(
        explained(&server, &[]),
        "no TLS connection: no answer to the handshake within 5s; is there a server that speaks TLS?"
    );
}

/// Nothing can be said in TLS before a handshake, and who comes beyond the limit gets none.
#[test]
fn beyond_max_connections_a_client_that_speaks_tls_is_reset() {
    let authority = Authority::new("authority");
    let own = authority.sign("proxy", LOCALHOST);
    let server = Server::valkey();
    let mut proxy = Proxy::to(&server)
        .args(own.args("--tls-cert", "--tls-key"))
        .args(["--max-connections", "1"])
        .start();
    let _served = proxy.connect();
    proxy.wait_metric("tars_proxy_connections", &[], |open| open == 1.0);
    let refused = proxy.connect().read_until_closed();
    assert_eq!(refused, (Vec::new(), End::Reset));
    proxy.wait_log("max_connections are open");
}
