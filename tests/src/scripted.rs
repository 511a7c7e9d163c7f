//! A server that says what it is told to: for commands that no server at hand knows yet, and for replies cut as no server cuts
//! them.

use std::net::{SocketAddr, TcpListener};
use std::thread;

use crate::address::{Address, Stream};
use crate::resp::Client;

/// A running server. Its threads end with their connections, and with the test process.
#[derive(Debug)]
pub struct Scripted {
    address: SocketAddr,
}

/// A command, or how it begins with `*` at the end, and the answer to it, which is sent byte by byte.
pub type Exchange = (&'static str, String);

impl Scripted {
    /// A server that answers PING with PONG, and on each connection whatever else comes by `script`, in order. A command that is
    /// not the expected one is answered with an error that says so.
    ///
    /// # Panics
    /// When there is no port to be had.
    #[must_use]
    pub fn serving(script: &[Exchange]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let script = script.to_vec();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let script = script.clone();
                thread::spawn(move || serve(Client::over(Stream::Tcp(client)), &script));
            }
        });
        Self { address }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> Address {
        Address::Tcp(self.address.to_string())
    }

    /// Its address as `--upstream` takes it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }
}

fn serve(mut client: Client, script: &[Exchange]) {
    let mut script = script.iter();
    // A command has the form of a reply: an array of bulk strings.
    while let Ok(command) = client.try_reply() {
        let command = words(&command);
        if command == "PING" {
            client.send("+PONG\r\n");
            continue;
        }
        match script.next() {
            Some((expected, answer)) if matches(&command, expected) => {
                client.send_bytewise(answer);
            }
            other => {
                let expected = other.map(|(expected, _)| expected);
                client.send(format!(
                    "-ERR script expected {expected:?}, not {command}\r\n"
                ));
            }
        }
    }
}

fn matches(command: &str, expected: &str) -> bool {
    let begin = expected.strip_suffix('*');
    begin.map_or(command == expected, |begin| command.starts_with(begin))
}

/// The arguments of a command, with spaces between.
fn words(command: &[u8]) -> String {
    let text = String::from_utf8_lossy(command);
    let words: Vec<&str> = text.split("\r\n").skip(2).step_by(2).collect();
    words.join(" ")
}
