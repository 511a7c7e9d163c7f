#![allow(clippy::unwrap_used)]

use std::future::poll_fn;

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

use super::*;
use crate::config::{Address, Config, InferParent, ListenerTls, UpstreamTls};
use crate::testing::World;
use crate::tls::testing::Authority;
use crate::tls::{Acceptor, Connector};

/// What ten thousand idle connections multiply.
#[test]
fn a_connection_is_small() {
    assert!(
        size_of::<Connection>() <= 1024,
        "{} bytes",
        size_of::<Connection>()
    );
}

/// Who waits longer waits for ever.
const FOR_EVER: Duration = Duration::from_secs(5);

/// Two ends of a connection between which the kernel holds little.
async fn tcp() -> (TcpStream, TcpStream) {
    let listening = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpSocket::new_v4().unwrap();
    near.set_send_buffer_size(16 << 10).unwrap();
    near.set_recv_buffer_size(16 << 10).unwrap();
    let near = near.connect(listening.local_addr().unwrap()).await.unwrap();
    (near, listening.accept().await.unwrap().0)
}

/// The same in TLS; the first end is the one that began.
async fn tls() -> (Socket, Socket) {
    let authority = Authority::new();
    let (cert, key) = authority.sign("a", "localhost");
    let client_ca = None;
    let acceptor = Acceptor::new(&ListenerTls {
        cert,
        key,
        client_ca,
    });
    let ca = Some(authority.path("ca.pem"));
    let files = UpstreamTls {
        ca,
        ..UpstreamTls::default()
    };
    let connector = Connector::new(&files, "localhost").unwrap();
    let (near, far) = tcp().await;
    let acceptor = acceptor.unwrap();
    let (near, far) = tokio::join!(connector.connect(near), acceptor.accept(far));
    (near.unwrap(), far.unwrap())
}

/// A connection that only relays, from a client to a server; what joins it to its upstream is another server's.
async fn relay(client: Socket, server: Socket) -> Connection {
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::tcp("127.0.0.1", other.local_addr().unwrap().port());
    let config = Config {
        trace: false,
        ..Config::default()
    };
    let World {
        worker,
        listener,
        destination,
    } = World::before(address, config, InferParent::Off);
    let (_, connected) = destination.upstream.connect().await.unwrap();
    Connection::new(worker, listener, destination, client, server, connected)
}

/// Says a little at a time until TLS holds a record that the kernel has no room for, then no more: all of it arrives once the
/// other end reads.
async fn the_last_record_arrives(
    mut connection: Connection,
    mut says: TcpStream,
    mut hears: Socket,
    count: Count,
    holds: impl Fn(&Connection) -> &Socket,
) {
    let worker = connection.telemetry.cx.worker.clone();
    let metrics = &worker.shared.metrics;
    let read = match count {
        Count::BytesUp => &metrics.bytes_up,
        _ => &metrics.bytes_down,
    };
    let mut said = 0;
    while !holds(&connection).holds() {
        says.write_all(&[7; 1000]).await.unwrap();
        said += 1000;
        poll_fn(|task| {
            assert!(Pin::new(&mut connection).poll(task).is_pending());
            worker.flush();
            if read.get() == said {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
    let mut heard = 0;
    let hearing = poll_fn(|task| {
        assert!(Pin::new(&mut connection).poll(task).is_pending());
        let mut bytes = [0; 4096];
        while heard < said {
            heard += ready!(hears.poll_read(task, &mut bytes)).unwrap() as u64;
        }
        Poll::Ready(())
    });
    let arrived = timeout(FOR_EVER, hearing).await;
    assert!(arrived.is_ok(), "{heard} bytes of {said}");
}

#[tokio::test]
async fn the_last_record_of_a_reply_is_sent_when_there_is_room() {
    let (hears, client) = tls().await;
    let (says, server) = tcp().await;
    let connection = relay(client, Socket::tcp(server).unwrap()).await;
    the_last_record_arrives(connection, says, hears, Count::BytesDown, |c| &c.client).await;
}

#[tokio::test]
async fn the_last_record_of_a_command_is_sent_when_there_is_room() {
    let (server, hears) = tls().await;
    let (says, client) = tcp().await;
    let connection = relay(Socket::tcp(client).unwrap(), server).await;
    the_last_record_arrives(connection, says, hears, Count::BytesUp, |c| &c.server).await;
}
