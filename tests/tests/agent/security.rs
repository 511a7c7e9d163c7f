//! Who may do what.

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tars_tests::agent::{Agent, Answer, cart, read};
use tars_tests::process::Signal;
use tars_tests::tls::{Authority, Identity};
use tars_tests::wait::{self, PATIENCE};

#[test]
fn a_token_is_required_for_what_changes_something() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "secret\n").unwrap();
    let mut service = Agent::builder()
        .args(["--token-file", &file.display().to_string()])
        .start();
    let spec = cart("a", 64).to_string();
    let make = |service: &Agent, token: &str| {
        service.ask(
            "POST",
            "/v1/agents",
            &[("Authorization", token)],
            spec.as_bytes(),
        )
    };
    let answer = service.ask("POST", "/v1/agents", &[], spec.as_bytes());
    assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    let _ = answer.problem(401, "unauthorized");
    let _ = make(&service, "Bearer wrong").problem(401, "unauthorized");
    assert_eq!(make(&service, "Bearer secret").status, 201);
    assert_eq!(service.get("/v1/agents/a").status, 200, "reading is open");
    assert_eq!(
        service
            .post("/v1/agents/a/act", &json!({"observations": [0, 0, 0, 0]}))
            .status,
        200
    );
    for (method, path) in [
        ("POST", "/v1/agents/a/experience"),
        ("POST", "/v1/agents/a/pause"),
        ("POST", "/v1/agents/a/checkpoints"),
        ("DELETE", "/v1/agents/a"),
    ] {
        let _ = service
            .ask(method, path, &[], b"{}")
            .problem(401, "unauthorized");
    }
    // Another token without a restart.
    std::fs::write(&file, "other").unwrap();
    service.signal(Signal::HUP);
    wait::until("the new token is in force", PATIENCE, || {
        (make(&service, "Bearer other").status == 200).then_some(())
    });
    let _ = make(&service, "Bearer secret").problem(401, "unauthorized");

    let closed = Agent::builder()
        .args([
            "--token-file",
            &file.display().to_string(),
            "--protect-reads",
        ])
        .start();
    let _ = closed.get("/v1/agents").problem(401, "unauthorized");
    assert_eq!(closed.get("/").status, 200, "the page holds nothing");
    assert_eq!(
        closed
            .ask(
                "GET",
                "/v1/agents",
                &[("Authorization", "Bearer other")],
                b""
            )
            .status,
        200
    );
}

#[test]
fn pages_of_others_are_not_answered() {
    let service = Agent::start();
    service.create(&cart("a", 64));
    for headers in [
        [("Host", "evil.example"), ("Accept", "*/*")],
        [("Host", "localhost"), ("Origin", "http://evil.example")],
        [("Host", "localhost"), ("Origin", "null")],
    ] {
        let _ = service
            .ask("GET", "/v1/agents", &headers, b"")
            .problem(403, "forbidden");
        let _ = service
            .ask("DELETE", "/v1/agents/a", &headers, b"")
            .problem(403, "forbidden");
    }
    assert_eq!(
        service
            .ask(
                "GET",
                "/v1/agents",
                &[("Host", "localhost"), ("Origin", "http://localhost")],
                b""
            )
            .status,
        200
    );
    let page = service.get("/");
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("connect-src 'self'"));
    let text = String::from_utf8(page.body).unwrap();
    assert!(
        !text.contains("src=\"http") && !text.contains("url(http"),
        "no outside resource"
    );
}

fn over_tls(
    service: &Agent,
    authority: &Authority,
    identity: Option<&Identity>,
    method: &str,
    path: &str,
    body: &str,
) -> std::io::Result<Answer> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain = CertificateDer::pem_file_iter(&identity.cert)
                .unwrap()
                .map(Result::unwrap)
                .collect();
            let key = PrivateKeyDer::from_pem_file(&identity.key).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    let stream = TcpStream::connect(service.address())?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let name = ServerName::try_from("localhost").unwrap();
    let session =
        rustls::ClientConnection::new(Arc::new(config), name).map_err(std::io::Error::other)?;
    let mut stream = rustls::StreamOwned::new(session, stream);
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    read(stream)
}

#[test]
fn a_client_certificate_is_required_for_what_changes_something() {
    let (authority, stranger) = (Authority::new("tars"), Authority::new("stranger"));
    let (own, client, other) = (
        authority.sign("server", "localhost"),
        authority.sign("client", "client"),
        stranger.sign("client", "client"),
    );
    let service = Agent::builder()
        .args(own.args("--tls-cert", "--tls-key"))
        .args([
            "--tls-client-ca".to_owned(),
            authority.ca().display().to_string(),
        ])
        .start();
    let spec = cart("a", 64).to_string();
    let ask =
        |identity, method, path, body| over_tls(&service, &authority, identity, method, path, body);
    let _ = ask(None, "POST", "/v1/agents", &spec)
        .unwrap()
        .problem(401, "unauthorized");
    assert!(
        ask(Some(&other), "POST", "/v1/agents", &spec).is_err(),
        "a stranger's certificate ends the connection"
    );
    assert_eq!(
        ask(Some(&client), "POST", "/v1/agents", &spec)
            .unwrap()
            .status,
        201
    );
    assert_eq!(
        ask(None, "GET", "/v1/agents/a", "").unwrap().status,
        200,
        "reading is open"
    );
    assert!(
        service.try_ask("GET", "/v1/agents", &[], b"").is_err(),
        "nothing is answered without TLS"
    );
}
