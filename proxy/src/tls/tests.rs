#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::PathBuf;

use rustls::{CertificateError, OtherError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::testing::Authority;
use super::*;

fn upstream(ca: PathBuf) -> UpstreamTls {
    UpstreamTls {
        ca: Some(ca),
        ..UpstreamTls::default()
    }
}

fn listener((cert, key): (PathBuf, PathBuf)) -> ListenerTls {
    ListenerTls {
        cert,
        key,
        client_ca: None,
    }
}

/// What a file is refused for, without the folder.
fn refused(authority: &Authority, settings: &UpstreamTls) -> String {
    let folder = format!("{}/", authority.folder.path().display());
    match Connector::new(settings, "localhost") {
        Err(error) => error.to_string().replace(&folder, ""),
        Ok(_) => "nothing".to_owned(),
    }
}

#[test]
fn a_file_that_cannot_be_used_is_told_with_its_setting() {
    let authority = Authority::new();
    let (cert, key) = authority.sign("a", "localhost");
    let (_, other_key) = authority.sign("b", "localhost");
    let ca = authority.path("ca.pem");
    let damaged = authority.path("damaged.pem");
    fs::write(
        &damaged,
        "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    let no_certificate = authority.path("junk.pem");
    fs::write(
        &no_certificate,
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    let encrypted = authority.path("encrypted.key");
    fs::write(
        &encrypted,
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    )
    .unwrap();
    let with_cert = |cert: &PathBuf, key: &PathBuf| UpstreamTls {
        cert: Some(cert.clone()),
        key: Some(key.clone()),
        ..upstream(ca.clone())
    };
    for (settings, expected) in [
        (
            upstream(authority.path("none.pem")),
            "upstream_ca: none.pem cannot be read (No such file or directory (os error 2)); name a PEM file that this process may read",
        ),
        (
            upstream("/dev/zero".into()),
            "upstream_ca: /dev/zero cannot be read (it is not a file but a pipe, a socket or a device); name a PEM file that this process may read",
        ),
        (
            upstream(key.clone()),
            "upstream_ca: a.key holds no certificate in PEM format; it begins with -----BEGIN CERTIFICATE-----",
        ),
        (
            upstream(damaged),
            "upstream_ca: damaged.pem is damaged (base64 decode error: InvalidCharacter(33)); give an intact PEM file",
        ),
        (
            upstream(no_certificate),
            "upstream_ca: junk.pem holds a certificate that cannot be used (invalid peer certificate: BadEncoding); give the authority's own, X.509 version 3",
        ),
        (
            with_cert(&cert, &authority.path("none.key")),
            "upstream_key: none.key cannot be read (No such file or directory (os error 2)); name a PEM file that this process may read",
        ),
        (
            with_cert(&cert, &cert),
            "upstream_key: a.pem holds no private key in PEM format; it begins with -----BEGIN PRIVATE KEY-----",
        ),
        (
            with_cert(&cert, &encrypted),
            "upstream_key: encrypted.key is encrypted; give the key without a passphrase, readable by this process alone",
        ),
        (
            with_cert(&cert, &other_key),
            "upstream_key: the key in b.key does not belong to the certificate in a.pem; give the two that were made together",
        ),
        (with_cert(&cert, &key), "nothing"),
    ] {
        assert_eq!(refused(&authority, &settings), expected);
    }
    let folder = authority.folder.path().display();
    assert_eq!(
        Acceptor::new(&listener((cert, other_key)))
            .err()
            .unwrap()
            .to_string(),
        format!(
            "tls_key: the key in {folder}/b.key does not belong to the certificate in {folder}/a.pem; give the two that were made together"
        )
    );
    assert_eq!(
        Connector::new(&upstream(ca), "-")
            .err()
            .unwrap()
            .to_string(),
        "upstream_server_name: no certificate can be for `-`; give the name that the server's certificate has"
    );
}

#[test]
fn changed_files_are_taken_up_and_broken_ones_told_once() {
    let authority = Authority::new();
    let paths = authority.sign("a", "localhost");
    let acceptor = Acceptor::new(&listener(paths.clone())).unwrap();
    let files = acceptor.files();
    let first = files.current();
    assert_eq!(files.look(), None);

    // A certificate without its key: perhaps only half of a change, and told at the second look.
    let (cert, key) = authority.sign("b", "localhost");
    fs::copy(&cert, &paths.0).unwrap();
    assert_eq!(files.look(), None);
    assert!(matches!(
        files.look(),
        Some(Err(FileError::Mismatch { .. }))
    ));
    assert_eq!(files.look(), None);
    assert!(Arc::ptr_eq(&first, &files.current()));

    // The other half.
    fs::copy(&key, &paths.1).unwrap();
    assert_eq!(files.look(), Some(Ok(())));
    let second = files.current();
    assert!(!Arc::ptr_eq(&first, &second));
    assert_eq!(files.look(), None);

    fs::remove_file(&paths.1).unwrap();
    assert_eq!(files.look(), None);
    assert!(matches!(
        files.look(),
        Some(Err(FileError::Unreadable { .. }))
    ));
    assert!(Arc::ptr_eq(&second, &files.current()));
    fs::copy(&key, &paths.1).unwrap();
    assert_eq!(files.look(), Some(Ok(())));
}

/// A handshake between the two sides, and what each says of it. The one that is content goes on to read, as it would.
async fn handshake(connector: &Connector, acceptor: &Acceptor) -> (String, String) {
    let listening = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listening.local_addr().unwrap();
    let server = async {
        let stream = listening.accept().await.unwrap().0;
        acceptor.accept(stream).await
    };
    let client = async {
        let stream = TcpStream::connect(address).await.unwrap();
        let mut socket = connector.connect(stream).await?;
        let mut byte = [0];
        std::future::poll_fn(|cx| socket.poll_read(cx, &mut byte))
            .await
            .map_err(|error| connector.explain(error))
    };
    let said = |error: io::Error| error.to_string();
    let (client, server) = tokio::join!(client, async { server.await.map(drop) });
    (
        client.map_or_else(said, |_| String::new()),
        server.map_or_else(said, |()| String::new()),
    )
}

#[tokio::test]
async fn what_is_wrong_with_a_certificate_is_told() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = |paths| Acceptor::new(&listener(paths)).unwrap();
    let trusting = |settings: &UpstreamTls| Connector::new(settings, "localhost").unwrap();
    let ca = authority.path("ca.pem");
    let good = server(authority.sign("good", "localhost"));
    let client = trusting(&upstream(ca.clone()));
    assert_eq!(
        handshake(&client, &good).await,
        (String::new(), String::new())
    );

    let now = std::time::SystemTime::now();
    let days = |days: u64| std::time::Duration::from_secs(days * 86_400);
    let expired = server(authority.sign_with("expired", "localhost", |params| {
        params.not_after = (now - days(3)).into();
    }));
    let early = server(authority.sign_with("early", "localhost", |params| {
        params.not_before = (now + days(10) + days(1) / 24).into();
    }));
    let elsewhere = server(authority.sign("elsewhere", "redis.internal"));
    let namesake = trusting(&upstream(other.path("ca.pem")));
    let stranger = Authority::named("stranger");
    let strange = trusting(&upstream(stranger.path("ca.pem")));
    let not_signed_by = |authority: &Authority| {
        format!(
            "the server's certificate was not signed by an authority in {}; give the one that signed it as upstream_ca",
            authority.path("ca.pem").display()
        )
    };
    for (client, server, expected) in [
        (&client, &expired, "the server's certificate expired 3 days ago; renew it".to_owned()),
        (
            &client,
            &early,
            "the server's certificate is not valid for another 10 days; are the clocks right?".to_owned(),
        ),
        (
            &client,
            &elsewhere,
            "the server's certificate is for redis.internal, and not for localhost; give the name it has as upstream_server_name".to_owned(),
        ),
        (&strange, &good, not_signed_by(&stranger)),
        (&namesake, &good, not_signed_by(&other)),
    ] {
        let (said, heard) = handshake(client, server).await;
        assert_eq!(said, expected);
        if said.contains("expired") || said.contains("not valid for another") {
            assert_eq!(
                heard,
                "by its clock the certificate in tls_cert is not valid; renew it, or put that clock right"
            );
            continue;
        }
        assert!(heard.starts_with("it refuses the handshake ("), "{heard}");
        assert!(heard.ends_with("); does it trust the authority of tls_cert, and the name in it?"));
    }
    let renamed = UpstreamTls {
        server_name: Some("redis.internal".into()),
        ..upstream(ca)
    };
    assert_eq!(handshake(&trusting(&renamed), &elsewhere).await.0, "");
}

#[tokio::test]
async fn what_is_wrong_with_a_clients_certificate_is_told() {
    let (authority, namesake) = (Authority::new(), Authority::new());
    let other = Authority::named("other");
    let acceptor = Acceptor::new(&ListenerTls {
        client_ca: Some(authority.path("ca.pem")),
        ..listener(authority.sign("server", "localhost"))
    })
    .unwrap();
    let with = |(cert, key): (PathBuf, PathBuf)| {
        let settings = UpstreamTls {
            cert: Some(cert),
            key: Some(key),
            ..upstream(authority.path("ca.pem"))
        };
        Connector::new(&settings, "localhost").unwrap()
    };
    assert_eq!(
        handshake(&with(authority.sign("client", "c")), &acceptor)
            .await
            .0,
        ""
    );
    let without = Connector::new(&upstream(authority.path("ca.pem")), "localhost").unwrap();
    assert_eq!(
        handshake(&without, &acceptor).await,
        (
            "the server wants a certificate of its clients; give upstream_cert and upstream_key"
                .to_owned(),
            "it shows no certificate, and tls_client_ca asks for one".to_owned()
        )
    );
    for (other, alert) in [(other, "UnknownCA"), (namesake, "DecryptError")] {
        let strange = other.sign("strange", "c");
        let shown = strange.0.display().to_string();
        assert_eq!(
            handshake(&with(strange), &acceptor).await,
            (
                format!(
                    "the server refuses the certificate in {shown} ({alert}); give one that its authority has signed and that is valid as upstream_cert"
                ),
                "its certificate was not signed by an authority in tls_client_ca".to_owned()
            )
        );
    }
}

#[tokio::test]
async fn a_peer_without_tls_is_told() {
    let authority = Authority::new();
    let acceptor = Acceptor::new(&listener(authority.sign("a", "localhost"))).unwrap();
    let connector = Connector::new(&upstream(authority.path("ca.pem")), "localhost").unwrap();
    for (answer, expected) in [
        (
            &b"-ERR unknown command\r\n"[..],
            "what answers there does not speak TLS; did you mean redis://?",
        ),
        (
            b"",
            "the server closed the connection in the TLS handshake; does it speak TLS there, or did you mean redis://?",
        ),
    ] {
        let listening = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listening.local_addr().unwrap())
            .await
            .unwrap();
        let (mut peer, _) = listening.accept().await.unwrap();
        peer.write_all(answer).await.unwrap();
        peer.shutdown().await.unwrap();
        let said = connector.connect(stream).await.err().unwrap();
        assert_eq!(said.to_string(), expected);
    }

    let listening = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listening.local_addr().unwrap())
        .await
        .unwrap();
    client.write_all(b"*1\r\n$4\r\nPING\r\n").await.unwrap();
    let stream = listening.accept().await.unwrap().0;
    let said = acceptor.accept(stream).await.err().unwrap();
    assert_eq!(
        said.to_string(),
        "it does not speak TLS; does it mean rediss://?"
    );
}

#[tokio::test]
async fn what_speaks_tls_answers_a_hello_that_trusts_nobody() {
    let authority = Authority::new();
    let acceptor = Acceptor::new(&listener(authority.sign("a", "localhost"))).unwrap();
    let listening = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listening.local_addr().unwrap())
        .await
        .unwrap();
    client.write_all(&client_hello()).await.unwrap();
    client.shutdown().await.unwrap();
    assert!(
        acceptor
            .accept(listening.accept().await.unwrap().0)
            .await
            .is_err()
    );
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    assert!(is_record(&answer));
    assert!(!is_record(b"-ERR\r\n"));
    assert!(!is_record(b""));
}

#[test]
fn times_are_told_in_a_unit_that_fits() {
    for (seconds, expected) in [
        (0, "0 s"),
        (119, "119 s"),
        (120, "2 minutes"),
        (7_200, "2 hours"),
        (172_799, "47 hours"),
        (172_800, "2 days"),
    ] {
        assert_eq!(explain::span(seconds), expected);
    }
}

#[test]
fn the_name_of_an_error_is_told_in_words() {
    let other = |text: &str| {
        CertificateError::Other(OtherError(Arc::from(Box::<
            dyn std::error::Error + Send + Sync,
        >::from(text))))
    };
    for (error, expected) in [
        (CertificateError::BadEncoding, "bad encoding"),
        (other("UnsupportedCertVersion"), "unsupported cert version"),
        (
            other("MaximumNameConstraints(Context { n: 1 })"),
            "maximum name constraints",
        ),
        (other("UnknownThing { expected: 1 }"), "unknown thing"),
        (other("it is odd"), "it is odd"),
        (other("It is odd"), "It is odd"),
        (other(""), ""),
    ] {
        assert_eq!(explain::in_words(&error), expected);
    }
}
