//! A relay before a server that passes the server's bytes on one at a time: replies cut wherever they can be.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

use crate::address::{Address, Stream};

/// A running relay. Its threads end with their connections, and with the test process.
#[derive(Debug)]
pub struct Chopper {
    address: SocketAddr,
}

impl Chopper {
    /// A relay to `server`.
    ///
    /// # Panics
    /// When there is no port to be had.
    #[must_use]
    pub fn before(server: &Address) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = server.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A server that is gone is one that refuses: dropping the client is what it would see.
                if let Ok(stream) = server.connect() {
                    relay(client, stream);
                }
            }
        });
        Self { address }
    }

    /// Its address as `--upstream` takes it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }
}

fn relay(client: TcpStream, server: Stream) {
    client.set_nodelay(true).unwrap();
    let (mut from_client, mut to_server) =
        (client.try_clone().unwrap(), server.try_clone().unwrap());
    thread::spawn(move || {
        // Either side's end ends the other; whether it was an orderly one makes no difference here.
        let _ = std::io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Write);
    });
    let (mut from_server, mut to_client) = (server, client);
    thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(n @ 1..) = from_server.read(&mut bytes) {
            for byte in bytes[..n].chunks(1) {
                if to_client.write_all(byte).is_err() {
                    break;
                }
            }
        }
        let _ = to_client.shutdown(Shutdown::Write);
    });
}
