//! As much of a Redis client as the dry run needs: one command, one bounded reply.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use redis_protocol::resp2::decode::decode;
use redis_protocol::resp2::encode::encode;
use redis_protocol::resp2::types::{OwnedFrame, Resp2Frame as _};

use crate::config::Address;
use crate::tls::{self, Connector, FileError};

/// Somebody waits in front of the terminal.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);

/// For the question whether it is TLS that is missing, or there against expectation.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// The reply is held in memory: a hundred entries of half a megabyte.
const MAX_REPLY: usize = 64 << 20;

/// XREVRANGE: the list, an entry, its fields.
const MAX_DEPTH: usize = 3;

/// The fields of an entry.
pub(super) type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// Nobody there.
    #[error("no connection ({0}); start Redis, or name another server with --upstream")]
    Connect(io::Error),
    /// The handshake failed, or what follows it: a server may say only then what it has against our certificate.
    #[error("no TLS connection: {0}")]
    Tls(io::Error),
    /// TLS on one side only.
    #[error("{0}")]
    Scheme(&'static str),
    /// TLS cannot be set up.
    #[error(transparent)]
    File(#[from] FileError),
    /// Nobody there any more.
    #[error("the connection broke ({0}); try again")]
    Lost(io::Error),
    /// See [`REPLY_TIMEOUT`].
    #[error("there is no reply within {}s; look whether Redis is busy, and try again", REPLY_TIMEOUT.as_secs())]
    Silent,
    /// An error reply.
    #[error("Redis answers: {0}")]
    Refused(String),
    /// See [`MAX_REPLY`].
    #[error("the reply is larger than 64MiB; ask for fewer entries with --count")]
    TooLarge,
    /// Not what Redis answers.
    #[error("the answer is not what Redis answers to {0}; name a Redis server with --upstream")]
    Unexpected(String),
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::Silent,
            _ => Self::Lost(error),
        }
    }
}

pub(super) struct Client<'a> {
    address: &'a Address,
    tls: Option<&'a Connector>,
    stream: Box<dyn ReadWrite>,
    /// Whether the server has answered anything.
    heard: bool,
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

impl<'a> Client<'a> {
    pub(super) fn connect(address: &'a Address, tls: Option<&'a Connector>) -> Result<Self, Error> {
        let stream: Box<dyn ReadWrite> = match address {
            Address::Unix(path) => {
                let stream = UnixStream::connect(path).map_err(Error::Connect)?;
                stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
                stream.set_write_timeout(Some(REPLY_TIMEOUT))?;
                Box::new(stream)
            }
            Address::Tcp { host, port } => {
                let stream = connect_tcp(host, *port).map_err(Error::Connect)?;
                stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
                stream.set_write_timeout(Some(REPLY_TIMEOUT))?;
                match tls {
                    None => Box::new(stream),
                    Some(tls) => {
                        // Nothing is heard from a server without TLS: see the time-out of its answer.
                        stream.set_read_timeout(Some(CONNECT_TIMEOUT))?;
                        let stream = tls
                            .connect_blocking(stream)
                            .map_err(|error| no_handshake(error, host, *port))?;
                        stream.sock.set_read_timeout(Some(REPLY_TIMEOUT))?;
                        Box::new(stream)
                    }
                }
            }
        };
        Ok(Self {
            address,
            tls,
            stream,
            heard: false,
        })
    }

    /// The latest entries of a stream, the newest first.
    pub(super) fn latest(&mut self, key: &[u8], count: u32) -> Result<Vec<Fields>, Error> {
        let reply = self.call(&[
            b"XREVRANGE",
            key,
            b"+",
            b"-",
            b"COUNT",
            count.to_string().as_bytes(),
        ])?;
        let OwnedFrame::Array(entries) = reply else {
            return Err(Error::Unexpected("XREVRANGE".to_owned()));
        };
        entries
            .into_iter()
            .map(|entry| fields(entry).ok_or_else(|| Error::Unexpected("XREVRANGE".to_owned())))
            .collect()
    }

    /// Sends a command and reads its reply.
    pub(super) fn call(&mut self, args: &[&[u8]]) -> Result<OwnedFrame, Error> {
        let answer = self.exchange(args).map_err(|error| self.explain(error));
        self.heard = true;
        answer
    }

    /// What the first answer, or that there is none, says of TLS.
    fn explain(&self, error: Error) -> Error {
        match (error, self.tls, self.address) {
            // What the kernel says has nothing behind it.
            (Error::Lost(error), Some(tls), _) if error.get_ref().is_some() => {
                Error::Tls(tls.explain(error))
            }
            // It closes on what is no handshake, some after an alert.
            (Error::Lost(_) | Error::Unexpected(_), None, Address::Tcp { host, port })
                if !self.heard && tls::is_record(&answer(host, *port, &tls::client_hello())) =>
            {
                Error::Scheme(tls::ASKED_WITHOUT_TLS)
            }
            (error, ..) => error,
        }
    }

    fn exchange(&mut self, args: &[&[u8]]) -> Result<OwnedFrame, Error> {
        let name =
            || String::from_utf8_lossy(args.first().copied().unwrap_or_default()).into_owned();
        let frame = OwnedFrame::Array(
            args.iter()
                .map(|arg| OwnedFrame::BulkString(arg.to_vec()))
                .collect(),
        );
        let mut request = vec![0; frame.encode_len(false)];
        encode(&mut request, &frame, false).map_err(|_| Error::Unexpected(name()))?;
        self.stream.write_all(&request)?;
        let mut reply = Vec::new();
        let mut scan = Scan::default();
        let mut chunk = vec![0; 64 << 10];
        while !scan
            .advance(&reply)
            .ok_or_else(|| Error::Unexpected(name()))?
        {
            if reply.len() > MAX_REPLY {
                return Err(Error::TooLarge);
            }
            match self.stream.read(&mut chunk)? {
                0 => return Err(Error::Lost(io::ErrorKind::UnexpectedEof.into())),
                n => reply.extend_from_slice(chunk.get(..n).unwrap_or_default()),
            }
        }
        match decode(&reply) {
            Ok(Some((OwnedFrame::Error(error), _))) => Err(Error::Refused(error)),
            Ok(Some((frame, _))) => Ok(frame),
            _ => Err(Error::Unexpected(name())),
        }
    }
}

/// Why there was no handshake.
fn no_handshake(error: io::Error, host: &str, port: u16) -> Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            if matches!(answer(host, port, PING).first(), Some(b'+' | b'-')) {
                return Error::Scheme(tls::ASKED_WITH_TLS);
            }
            let text = format!(
                "no answer to the handshake within {}s; is there a server that speaks TLS?",
                CONNECT_TIMEOUT.as_secs()
            );
            Error::Tls(io::Error::new(error.kind(), text))
        }
        _ => Error::Tls(error),
    }
}

/// What a connection of its own, without TLS, is answered; nothing if it is not.
fn answer(host: &str, port: u16, question: &[u8]) -> Vec<u8> {
    let asked = || {
        let mut stream = connect_tcp(host, port)?;
        stream.set_read_timeout(Some(PROBE_TIMEOUT))?;
        stream.write_all(question)?;
        let mut answer = vec![0; 64];
        let read = stream.read(&mut answer)?;
        answer.truncate(read);
        Ok::<_, io::Error>(answer)
    };
    asked().unwrap_or_default()
}

const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

fn connect_tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// `[id, [field, value, …]]`
fn fields(entry: OwnedFrame) -> Option<Fields> {
    let OwnedFrame::Array(parts) = entry else {
        return None;
    };
    let mut parts = parts.into_iter();
    let (OwnedFrame::BulkString(_), OwnedFrame::Array(flat), None) =
        (parts.next()?, parts.next()?, parts.next())
    else {
        return None;
    };
    let mut out = Vec::with_capacity(flat.len() / 2);
    let mut flat = flat.into_iter();
    while let Some(name) = flat.next() {
        let (OwnedFrame::BulkString(name), OwnedFrame::BulkString(value)) = (name, flat.next()?)
        else {
            return None;
        };
        out.push((name, value));
    }
    Some(out)
}

/// Finds the end of a reply as it comes in, without recursion and without looking at a byte twice: redis-protocol begins anew
/// at each piece, and recurses as deep as it is told to.
#[derive(Debug, Default)]
struct Scan {
    /// Bytes that are understood.
    done: usize,
    /// Elements that each open array still lacks, the innermost last.
    open: Vec<u64>,
    started: bool,
}

impl Scan {
    /// Whether the reply is complete; none if it is no RESP2, or deeper than any reply that was asked for.
    fn advance(&mut self, reply: &[u8]) -> Option<bool> {
        while !self.started || !self.open.is_empty() {
            let rest = reply.get(self.done..)?;
            let Some(end) = memchr::memchr(b'\n', rest) else {
                return (rest.len() <= MAX_LINE).then_some(false);
            };
            let line = rest.get(..end)?.strip_suffix(b"\r")?;
            let (kind, text) = line.split_first()?;
            let mut next = self.done + end + 1;
            match kind {
                b'+' | b'-' | b':' => {}
                b'$' | b'*' => {
                    let number: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
                    match (kind, u64::try_from(number)) {
                        (_, Err(_)) => {}
                        (b'$', Ok(len)) => {
                            next = next
                                .checked_add(usize::try_from(len).ok()?)?
                                .checked_add(2)?;
                            if next > reply.len() {
                                return Some(false);
                            }
                        }
                        (_, Ok(0)) => {}
                        (_, Ok(elements)) => {
                            if self.open.len() == MAX_DEPTH {
                                return None;
                            }
                            self.open.push(elements);
                            self.started = true;
                            self.done = next;
                            continue;
                        }
                    }
                }
                _ => return None,
            }
            self.started = true;
            self.done = next;
            // An element is complete, and with the last one its array.
            while let Some(lacking) = self.open.last_mut() {
                *lacking -= 1;
                if *lacking > 0 {
                    break;
                }
                self.open.pop();
            }
        }
        Some(true)
    }
}

/// Simple strings and errors are short; what goes on without a line's end is no Redis.
const MAX_LINE: usize = 64 << 10;

#[cfg(test)]
mod tests;
