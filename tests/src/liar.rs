//! A relay before a real server that lies where it is told to.
//!
//! A proxy has one server behind a listener. Behind a liar that server can be honest to one client and say anything to another
//! at the same time.

use std::collections::VecDeque;
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::address::{Address, Stream};
use crate::resp::Client;

type Lie = Box<dyn FnOnce(Client) + Send>;

/// A running relay. Its threads end with their connections, and with the test process.
pub struct Liar {
    address: SocketAddr,
    lies: Arc<Mutex<VecDeque<Lie>>>,
}

impl Liar {
    /// An honest relay to `server`, so far.
    ///
    /// # Panics
    /// When there is no port to be had.
    #[must_use]
    pub fn before(server: &Address) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let lies: Arc<Mutex<VecDeque<Lie>>> = Arc::default();
        let (server, prepared) = (server.clone(), lies.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                stream.set_nodelay(true).unwrap();
                let stream = Stream::Tcp(stream);
                let lie = prepared
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .pop_front();
                match lie {
                    Some(lie) => {
                        thread::spawn(move || lie(Client::over(stream)));
                    }
                    // A server that is gone is one that refuses: dropping the stream is what would be seen.
                    None => {
                        if let Ok(server) = server.connect() {
                            relay(stream, server);
                        }
                    }
                }
            }
        });
        Self { address, lies }
    }

    /// Its address as `--upstream` takes it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// The next connection that is made is `lie`'s, which is given the server's side of it, and is over with it. Prepare it
    /// right before the connection is made, and while another one is open: a proxy without connections looks whether its
    /// server is there.
    pub fn next(&self, lie: impl FnOnce(Client) + Send + 'static) {
        self.lies
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_back(Box::new(lie));
    }
}

impl std::fmt::Debug for Liar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Liar")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

fn relay(client: Stream, server: Stream) {
    let ways = [
        (client.try_clone().unwrap(), server.try_clone().unwrap()),
        (server, client),
    ];
    for (mut from, mut to) in ways {
        thread::spawn(move || {
            // Either side's end ends the other; whether it was an orderly one makes no difference here.
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
    }
}
