#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::future::poll_fn;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use super::*;
use crate::config::{ListenerTls, UpstreamTls};
use crate::tls::testing::Authority;
use crate::tls::{Acceptor, Connector};

/// Two ends of one connection: without TLS, and with it.
async fn pairs() -> [(Socket, Socket); 2] {
    let authority = Authority::new();
    let (cert, key) = authority.sign("a", "localhost");
    let acceptor = Acceptor::new(&ListenerTls {
        cert,
        key,
        client_ca: None,
    })
    .unwrap();
    let connector = Connector::new(
        &UpstreamTls {
            ca: Some(authority.path("ca.pem")),
            ..UpstreamTls::default()
        },
        "localhost",
    )
    .unwrap();
    let (client, server) = tcp().await;
    let (tls_client, tls_server) = tcp().await;
    let (tls_client, tls_server) =
        tokio::join!(connector.connect(tls_client), acceptor.accept(tls_server));
    [
        (Socket::tcp(client).unwrap(), Socket::tcp(server).unwrap()),
        (tls_client.unwrap(), tls_server.unwrap()),
    ]
}

async fn tcp() -> (TcpStream, TcpStream) {
    let listening = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listening.local_addr().unwrap())
        .await
        .unwrap();
    (client, listening.accept().await.unwrap().0)
}

async fn read(socket: &mut Socket) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 64 << 10];
    let n = poll_fn(|cx| socket.poll_read(cx, &mut bytes)).await?;
    bytes.truncate(n);
    Ok(bytes)
}

async fn write(socket: &mut Socket, bytes: &[u8]) {
    let mut written = 0;
    while written < bytes.len() {
        written += poll_fn(|cx| socket.poll_write(cx, &bytes[written..]))
            .await
            .unwrap();
    }
    poll_fn(|cx| socket.poll_flush(cx)).await.unwrap();
}

#[test]
fn tls_makes_no_plain_socket_larger() {
    assert!(size_of::<Socket>() <= size_of::<TcpStream>() + size_of::<usize>());
}

#[tokio::test]
async fn a_half_close_leaves_the_other_direction_open() {
    for (mut client, mut server) in pairs().await {
        write(&mut client, b"last").await;
        poll_fn(|cx| client.poll_shutdown(cx)).await.unwrap();
        assert_eq!(read(&mut server).await.unwrap(), b"last");
        assert_eq!(read(&mut server).await.unwrap(), b"");
        write(&mut server, b"answer").await;
        poll_fn(|cx| server.poll_shutdown(cx)).await.unwrap();
        assert_eq!(read(&mut client).await.unwrap(), b"answer");
        assert_eq!(read(&mut client).await.unwrap(), b"");
    }
}

#[tokio::test]
async fn an_end_without_close_notify_is_an_end() {
    for (mut client, mut server) in pairs().await {
        write(&mut client, b"last").await;
        match client {
            Socket::Tls(mut stream) => stream.get_mut().0.shutdown().await.unwrap(),
            Socket::Tcp(mut stream) => stream.shutdown().await.unwrap(),
            Socket::Unix(_) => unreachable!("there is none"),
        }
        assert_eq!(read(&mut server).await.unwrap(), b"last");
        assert_eq!(read(&mut server).await.unwrap(), b"");
        assert_eq!(read(&mut server).await.unwrap(), b"");
    }
}

#[tokio::test]
async fn a_reset_is_a_reset() {
    for (client, mut server) in pairs().await {
        client.reset_on_close();
        drop(client);
        let error = read(&mut server).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}

/// More than the kernel and TLS hold: all of it arrives once somebody reads, and the writer waits meanwhile.
#[tokio::test]
async fn what_finds_no_room_is_sent_when_there_is_some() {
    const BYTES: usize = 32 << 20;
    for (mut client, mut server) in pairs().await {
        let sent = vec![7; BYTES];
        let reading = async {
            let mut received = 0;
            while received < BYTES {
                let bytes = read(&mut server).await.unwrap();
                assert!(bytes.iter().all(|byte| *byte == 7));
                received += bytes.len();
            }
            received
        };
        assert_eq!(tokio::join!(write(&mut client, &sent), reading).1, BYTES);
    }
}
