//! What is not RESP on the ports that are redirected: passed as it is, from the first byte, whoever speaks first.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use socket2::SockRef;
use tars_tests::pod::{self, run_program};
use tars_tests::server::Kind;
use tars_tests::tls::Authority;
use tars_tests::wait::PATIENCE;

use crate::{Stage, redirect};

/// Both ends of a connection through the proxy.
fn connect(listener: &TcpListener) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    for end in [&client, &server] {
        end.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    (client, server)
}

#[track_caller]
fn passes(from: &mut TcpStream, to: &mut TcpStream, bytes: &[u8]) {
    from.write_all(bytes).unwrap();
    let mut read = vec![0; bytes.len()];
    to.read_exact(&mut read).unwrap();
    assert_eq!(read, bytes);
}

fn relays(stage: &Stage, reason: &str) -> f64 {
    let labels = [("reason", reason)];
    stage.proxy.metric("tars_proxy_raw_relays_total", &labels)
}

#[test]
fn a_server_that_speaks_first() {
    pod::run("relay::a_server_that_speaks_first", |pod| {
        let listener = pod.listen("10.44.0.11:6379");
        let stage = Stage::new();
        redirect("6379");
        let (mut client, mut server) = connect(&listener);
        passes(&mut server, &mut client, b"220 mail.example ESMTP\r\n");
        passes(&mut client, &mut server, b"EHLO me\r\n");
        passes(&mut server, &mut client, b"250 mail.example\r\n");
        assert_eq!(relays(&stage, "unexpected_reply"), 1.0);

        // What begins like a reply does not hold it up either.
        let (mut client, mut server) = connect(&listener);
        passes(&mut server, &mut client, b"+OK POP3\r\n");
        passes(&mut client, &mut server, b"USER me\r\n");
        passes(&mut server, &mut client, b"$12");
    });
}

#[test]
fn a_client_that_does_not_speak_resp() {
    pod::run("relay::a_client_that_does_not_speak_resp", |pod| {
        let listener = pod.listen("[fd44::11]:6379");
        let stage = Stage::new();
        redirect("6379");
        let (mut client, mut server) = connect(&listener);
        let all: Vec<u8> = (0..=255).collect();
        passes(&mut client, &mut server, &all);
        passes(&mut server, &mut client, &all);
        assert_eq!(relays(&stage, "protocol"), 1.0);

        // A half-close is passed on, and the other half stays.
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(server.read(&mut [0; 9]).unwrap(), 0);
        passes(&mut server, &mut client, b"last words");
        drop(server);
        assert_eq!(client.read(&mut [0; 9]).unwrap(), 0);

        // So is a reset, in both directions.
        let (mut client, mut server) = connect(&listener);
        passes(&mut client, &mut server, &all);
        SockRef::from(&server)
            .set_linger(Some(std::time::Duration::ZERO))
            .unwrap();
        drop(server);
        let error = client.read(&mut [0; 9]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        let (mut client, mut server) = connect(&listener);
        passes(&mut client, &mut server, &all);
        SockRef::from(&client)
            .set_linger(Some(std::time::Duration::ZERO))
            .unwrap();
        drop(client);
        let error = server.read(&mut [0; 9]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn tls() {
    pod::run("relay::tls", |pod| {
        let authority = Authority::new("authority");
        let server = authority.sign("server", "10.44.0.11");
        let path = |path: &std::path::Path| path.to_str().unwrap().to_owned();
        let (ca, cert, key) = (path(&authority.ca()), path(&server.cert), path(&server.key));
        let tls = [
            ["--tls-port", "6379"],
            ["--tls-cert-file", &cert],
            ["--tls-key-file", &key],
            ["--tls-ca-cert-file", &ca],
            ["--tls-auth-clients", "no"],
        ];
        // The port without TLS comes first, and is none.
        let args = [&["--port", "0"], tls.as_flattened()].concat();
        let _node = pod.server(Kind::Redis70, "10.44.0.11:6379", &args);
        let mut stage = Stage::new();
        redirect("6379");
        let client = ["-h", "10.44.0.11", "--tls", "--cacert", &ca];
        for _ in 0..2 {
            let answer = run_program("redis-cli", client.iter().chain(&["PING"]));
            assert_eq!(answer.trim(), "PONG");
        }
        assert_eq!(relays(&stage, "protocol"), 2.0);
        stage.proxy.wait_log("a redirected client speaks TLS");
    });
}
