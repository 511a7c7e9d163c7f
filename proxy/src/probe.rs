//! What is asked of a proxy that runs, by another process with the same configuration: whether it serves, and whether clients are
//! connected. For images without a shell, whose probes and hooks can run nothing but the program itself.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::config::{self, Address, ConfigError, Environment, Flags};

/// What an answer takes at most: the kubelet gives a probe two seconds, and wants a sentence.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(1500);

/// How often what is waited for is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// So long nobody is to be connected before nobody is expected any more: an application that ends may connect once more.
const LULL: Duration = Duration::from_secs(1);

/// Metrics are some hundred lines; so many bytes are read of an answer.
const MAX_ANSWER: usize = 4 << 20;

/// Said where something else has the port.
const FOREIGN: &str = "what answers there is not tars-proxy";

/// The gauge of connected clients.
const CONNECTIONS: &str = "tars_proxy_connections ";

/// What `check-live` takes.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct LiveArgs {
    /// Try for so long, until it is
    #[arg(long, value_name = "TIME", value_parser = config::duration)]
    pub wait: Option<Duration>,
}

/// What `await-clients` takes.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct AwaitArgs {
    /// Wait for so long at most
    #[arg(long, value_name = "TIME", value_parser = config::duration, default_value = "25s")]
    pub wait: Duration,
}

/// Whether the proxy serves: 0 if it does, 1 if not.
///
/// # Errors
/// If `out` or `err` cannot be written to.
pub fn check_live(
    args: &LiveArgs,
    flags: &Flags,
    env: &Environment,
    out: &mut impl Write,
    err: &mut impl Write,
) -> io::Result<u8> {
    let admin = match admin(flags, env) {
        Ok(admin) => admin,
        Err(error) => return refuse(&error, err),
    };
    let until = Instant::now() + args.wait.unwrap_or_default();
    loop {
        match ask(&admin, "/live").and_then(|answer| is_live(&answer)) {
            Ok(()) => {
                writeln!(out, "live: {admin} answers")?;
                return Ok(0);
            }
            Err(why) if Instant::now() >= until => {
                writeln!(err, "not live: {admin}: {why}")?;
                return Ok(1);
            }
            Err(_) => sleep(LOOK_EVERY),
        }
    }
}

/// Returns when no client has been connected for a second, or the time is over: 0 in both cases, since a hook that fails would be
/// taken for a fault; 1 if the proxy does not answer.
///
/// # Errors
/// If `out` or `err` cannot be written to.
pub fn await_clients(
    args: &AwaitArgs,
    flags: &Flags,
    env: &Environment,
    out: &mut impl Write,
    err: &mut impl Write,
) -> io::Result<u8> {
    let admin = match admin(flags, env) {
        Ok(admin) => admin,
        Err(error) => return refuse(&error, err),
    };
    let until = Instant::now() + args.wait;
    let mut nobody_since = None;
    loop {
        let connections = match ask(&admin, "/metrics").and_then(|text| connections(&text)) {
            Ok(connections) => connections,
            Err(why) => {
                writeln!(err, "no answer: {admin}: {why}")?;
                return Ok(1);
            }
        };
        let now = Instant::now();
        let since = *nobody_since.get_or_insert(now);
        if connections > 0 {
            nobody_since = None;
        } else if now.duration_since(since) >= LULL {
            writeln!(out, "no client is connected")?;
            return Ok(0);
        }
        if now >= until {
            writeln!(out, "the time is over; clients connected: {connections}")?;
            return Ok(0);
        }
        sleep(LOOK_EVERY);
    }
}

/// Where the proxy with this configuration is asked, from its own machine.
fn admin(flags: &Flags, env: &Environment) -> Result<Address, ConfigError> {
    let (config, _) = config::load(flags, env)?;
    Ok(reachable(config.admin))
}

/// An address that stands for all of the machine's is none to connect to.
fn reachable(address: Address) -> Address {
    match address {
        Address::Tcp { host, port } if *host == *"0.0.0.0" => Address::tcp("127.0.0.1", port),
        Address::Tcp { host, port } if *host == *"::" => Address::tcp("::1", port),
        address => address,
    }
}

fn refuse(error: &ConfigError, err: &mut impl Write) -> io::Result<u8> {
    writeln!(err, "{error}").map(|()| ConfigError::EXIT_CODE)
}

/// The body of what the admin server answers with 200, or a sentence.
fn ask(admin: &Address, path: &str) -> Result<String, String> {
    let answer = match admin {
        Address::Tcp { host, port } => {
            let addresses = (&**host, *port)
                .to_socket_addrs()
                .map_err(|error| error.to_string())?;
            let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
            let connected = addresses.into_iter().find_map(|address| {
                TcpStream::connect_timeout(&address, ANSWER_TIMEOUT)
                    .map_err(|error| last = error)
                    .ok()
            });
            let stream = connected.ok_or(last).map_err(|error| said(&error))?;
            stream
                .set_read_timeout(Some(ANSWER_TIMEOUT))
                .and_then(|()| exchange(stream, path))
        }
        Address::Unix(socket) => UnixStream::connect(socket).and_then(|stream| {
            stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
            exchange(stream, path)
        }),
    };
    let answer = answer.map_err(|error| said(&error))?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(FOREIGN)?;
    let status = head.lines().next().unwrap_or_default();
    match status.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        _ => Err(format!("it answers {}", status.escape_debug())),
    }
}

fn said(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            format!("no answer within {} ms", ANSWER_TIMEOUT.as_millis())
        }
        _ => error.to_string(),
    }
}

/// HTTP/1.0: the answer ends with the connection.
fn exchange(mut stream: impl Read + Write, path: &str) -> io::Result<String> {
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes())?;
    let (began, mut answer, mut some) = (Instant::now(), Vec::new(), [0; 4096]);
    // However slowly it comes.
    while began.elapsed() < ANSWER_TIMEOUT {
        let n = stream.read(&mut some)?;
        if n == 0 || answer.len() >= MAX_ANSWER {
            return Ok(String::from_utf8_lossy(&answer).into_owned());
        }
        answer.extend_from_slice(some.get(..n).unwrap_or_default());
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// Whether that is what an admin server of ours answers: another program's page may well be there, with 200.
fn is_live(answer: &str) -> Result<(), String> {
    match answer {
        "live\n" => Ok(()),
        _ => Err(FOREIGN.to_owned()),
    }
}

/// The number of clients, out of the metrics.
fn connections(metrics: &str) -> Result<u64, String> {
    metrics
        .lines()
        .find_map(|line| line.strip_prefix(CONNECTIONS)?.trim().parse().ok())
        .ok_or_else(|| "its metrics do not say how many clients there are".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::net::TcpListener;

    use super::*;

    /// What answers each connection with this text.
    fn answering(text: &'static str) -> Address {
        let listening = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listening.local_addr().unwrap().into();
        std::thread::spawn(move || {
            for stream in listening.incoming() {
                let mut stream = stream.unwrap();
                let mut question = [0; 256];
                let _ = stream.read(&mut question).unwrap();
                stream.write_all(text.as_bytes()).unwrap();
            }
        });
        address
    }

    #[test]
    fn only_an_answer_of_a_proxy_counts() {
        let good = answering("HTTP/1.0 200 OK\r\ncontent-type: x\r\n\r\nlive\n");
        is_live(&ask(&good, "/live").unwrap()).unwrap();
        let page = ask(&answering("HTTP/1.0 200 OK\r\n\r\n<html>live"), "/live");
        assert_eq!(is_live(&page.unwrap()).unwrap_err(), FOREIGN);
        for (text, why) in [
            (
                "HTTP/1.0 404 Not Found\r\n\r\n",
                "it answers HTTP/1.0 404 Not Found",
            ),
            (
                "-ERR unknown command\r\n",
                "what answers there is not tars-proxy",
            ),
            ("", "what answers there is not tars-proxy"),
        ] {
            assert_eq!(ask(&answering(text), "/live").unwrap_err(), why);
        }
    }

    #[test]
    fn an_answer_that_never_ends_is_none() {
        let listening = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listening.local_addr().unwrap().into();
        std::thread::spawn(move || {
            let (mut stream, _) = listening.accept().unwrap();
            // Until the other side has gone.
            while stream.write_all(b"x").is_ok() {
                sleep(LOOK_EVERY);
            }
        });
        let error = ask(&address, "/live").unwrap_err();
        assert!(error.starts_with("no answer within"), "{error}");
    }

    #[test]
    fn all_addresses_are_asked_on_loopback() {
        for (written, asked) in [
            ("0.0.0.0:19464", "127.0.0.1:19464"),
            ("[::]:1", "[::1]:1"),
            ("10.0.0.1:1", "10.0.0.1:1"),
            ("unix:/a", "unix:/a"),
        ] {
            let address: Address = written.parse().unwrap();
            assert_eq!(reachable(address).to_string(), asked);
        }
    }

    #[test]
    fn the_gauge_is_found_among_others() {
        let metrics = "# TYPE tars_proxy_connections gauge\ntars_proxy_connections_total 9\ntars_proxy_connections 3\n";
        assert_eq!(connections(metrics), Ok(3));
        assert!(connections("").is_err());
    }
}
