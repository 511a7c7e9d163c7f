//! A server that repeats what it is told: any reply to any command.
//!
//! | Command | Answer |
//! | --- | --- |
//! | a command whose first key, or first argument, holds a reply | that reply |
//! | SPELL and a reply | the reply, one byte at a time |
//! | XADD | the id 1-1 |
//! | PING, HELLO, MULTI, EXEC | as Redis |

use std::net::{SocketAddr, TcpListener};
use std::thread;

use crate::address::Stream;
use crate::resp::{Client, arguments};

/// A running parrot. Its threads end with their connections, and with the test process.
#[derive(Debug)]
pub struct Parrot {
    address: SocketAddr,
}

impl Parrot {
    /// One on a free port.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                client.set_nodelay(true).unwrap();
                thread::spawn(move || serve(Client::over(Stream::Tcp(client))));
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

fn serve(mut client: Client) {
    let mut queue: Option<Vec<Vec<u8>>> = None;
    while let Ok(command) = client.try_reply() {
        let args = arguments(&command);
        let name = args.first().map(|name| name.to_ascii_uppercase());
        let name = name.unwrap_or_default();
        let sent = match (&*name, &mut queue) {
            (b"MULTI", None) => {
                queue = Some(Vec::new());
                client.try_send(b"+OK\r\n")
            }
            (b"EXEC", Some(replies)) => {
                let header = format!("*{}\r\n", replies.len()).into_bytes();
                let all = [header, replies.concat()].concat();
                queue = None;
                client.try_send(&all)
            }
            (_, Some(replies)) => {
                replies.push(answer(&name, &args));
                client.try_send(b"+QUEUED\r\n")
            }
            (b"SPELL", None) => {
                let reply = answer(&name, &args);
                reply.chunks(1).try_for_each(|byte| client.try_send(byte))
            }
            _ => client.try_send(&answer(&name, &args)),
        };
        if sent.is_err() {
            return;
        }
    }
}

fn answer(name: &[u8], args: &[Vec<u8>]) -> Vec<u8> {
    match name {
        b"PING" => b"+PONG\r\n".to_vec(),
        b"HELLO" => b"%1\r\n+proto\r\n:3\r\n".to_vec(),
        b"XADD" => b"$3\r\n1-1\r\n".to_vec(),
        _ => {
            let streams = args.iter().position(|arg| arg == b"STREAMS");
            let key = args.get(streams.unwrap_or(0) + 1);
            key.cloned().unwrap_or_default()
        }
    }
}
