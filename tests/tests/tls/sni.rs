//! The name that the proxy asks for in its handshake (SNI): that of the host, or the one that is given; an IP address is none.

use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use rustls::server::Acceptor;
use tars_tests::proxy::Proxy;
use tars_tests::tls::Authority;

use crate::ca;

/// Hears the beginning of each handshake, and tells the name in it. Its address.
fn listening() -> (u16, Receiver<Option<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (heard, names) = channel();
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let mut acceptor = Acceptor::default();
            let hello = loop {
                if acceptor.read_tls(&mut client).is_ok_and(|read| read == 0) {
                    break None;
                }
                match acceptor.accept() {
                    Ok(None) => {}
                    Ok(Some(hello)) => break Some(hello),
                    Err(_) => break None,
                }
            };
            let Some(hello) = hello else { continue };
            let name = hello.client_hello().server_name().map(str::to_owned);
            if heard.send(name).is_err() {
                break;
            }
        }
    });
    (port, names)
}

#[test]
fn the_name_of_the_host_or_the_one_that_is_given_is_sent() {
    let authority = Authority::new("authority");
    for (host, given, expected) in [
        ("localhost", None, Some("localhost")),
        ("127.0.0.1", None, None),
        ("127.0.0.1", Some("redis.internal"), Some("redis.internal")),
        ("localhost", Some("redis.internal"), Some("redis.internal")),
        ("localhost", Some("10.0.0.5"), None),
    ] {
        let (port, names) = listening();
        let url = format!("rediss://{host}:{port}");
        let mut proxy = ca(Proxy::to_url(&url), &authority.ca());
        if let Some(name) = given {
            proxy = proxy.args(["--upstream-server-name", name]);
        }
        let _proxy = proxy.start_unready();
        let name = names.recv().unwrap();
        assert_eq!(name.as_deref(), expected, "{host}, {given:?}");
    }
}
