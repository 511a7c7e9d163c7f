#![allow(clippy::unwrap_used)]

use std::net::{Ipv4Addr, Ipv6Addr};

use tokio::net::TcpListener;

use super::*;

fn originals() -> Originals {
    let metrics = Arc::new(Metrics::new(8));
    Originals::new("here".to_owned(), "shop".into(), None, 3, metrics)
}

fn server(number: u32) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::from_bits(number).into(), 6379)
}

/// A connection of `outgoing` and its other end; the other end of one that anybody made.
async fn accepted(outgoing: &Arc<Outgoing>, ip: IpAddr) -> (TcpStream, Departure, TcpStream) {
    let listener = TcpListener::bind((ip, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (_near, departure) = outgoing.connect(address).await.unwrap();
    let (own, _) = listener.accept().await.unwrap();
    let _foreign = TcpStream::connect(address).await.unwrap();
    let (foreign, _) = listener.accept().await.unwrap();
    (own, departure, foreign)
}

#[tokio::test]
async fn a_connection_that_leads_nowhere_is_told_from_one_of_our_own() {
    let originals = originals();
    let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let (own, departure, foreign) = accepted(&originals.outgoing, ip).await;
    assert_eq!(originals.of(&own).err(), Some(Stray::OwnConnection));
    assert_eq!(originals.of(&foreign).err(), Some(Stray::NotRedirected));
    drop(departure);
    assert_eq!(originals.of(&own).err(), Some(Stray::NotRedirected));
}

#[tokio::test]
async fn a_connection_of_our_own_is_known_behind_a_listener_for_both_families() {
    let outgoing = Arc::new(Outgoing::default());
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).await.unwrap();
    let to = SocketAddr::new(
        Ipv4Addr::LOCALHOST.into(),
        listener.local_addr().unwrap().port(),
    );
    let (_near, _departure) = outgoing.connect(to).await.unwrap();
    let (own, _) = listener.accept().await.unwrap();
    assert!(own.peer_addr().unwrap().is_ipv6());
    assert!(outgoing.has(&own));
}

#[tokio::test]
async fn nobody_there_is_an_error_and_leaves_nothing() {
    let outgoing = Arc::new(Outgoing::default());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = outgoing.connect(address).await.err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    assert!(outgoing.lock().is_empty());
}

#[test]
fn each_server_is_one_server_and_has_its_own_number() {
    let originals = originals();
    let (one, two) = (
        originals.destination(server(1)),
        originals.destination(server(2)),
    );
    assert_eq!((one.upstream.number, two.upstream.number), (3, 4));
    assert!(Arc::ptr_eq(&one, &originals.destination(server(1))));
    assert_eq!(&*one.endpoint.server_address, "0.0.0.1");
    assert_eq!(one.endpoint.server_port, Some(6379));
    assert_eq!(&*one.endpoint.service_name, "shop");
    assert_eq!(originals.metrics.destinations.get(), 2);
}

#[test]
fn servers_without_connections_are_forgotten_when_there_are_too_many() {
    let originals = originals();
    let used = originals.destination(server(0));
    let bound = u32::try_from(MAX_DESTINATIONS).unwrap();
    for number in 1..=bound {
        let _ = originals.destination(server(number));
    }
    assert_eq!(originals.metrics.destinations.get(), 2);
    assert!(Arc::ptr_eq(&used, &originals.destination(server(0))));
    let again = originals.destination(server(1));
    assert_eq!(again.upstream.number, 3 + bound + 1, "no number twice");

    let all: Vec<_> = (0..2 * bound)
        .map(|number| originals.destination(server(number)))
        .collect();
    assert_eq!(
        originals.metrics.destinations.get(),
        i64::try_from(MAX_DESTINATIONS).unwrap()
    );
    drop(all);
}

#[test]
fn the_loopback_address_of_ipv4_has_a_twin() {
    let twin = |text: &str| twin(&text.parse().unwrap()).map(|twin| twin.to_string());
    assert_eq!(twin("127.0.0.1:16380").as_deref(), Some("[::1]:16380"));
    for alone in ["0.0.0.0:1", "[::1]:1", "10.0.0.1:1", "unix:/a", "host:1"] {
        assert_eq!(twin(alone), None, "{alone}");
    }
}
