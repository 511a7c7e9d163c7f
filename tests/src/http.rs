//! Just enough of an HTTP client to ask an admin server, Jaeger and the OTLP receiver.

use std::io::{self, Read, Write};

use crate::address::Address;
use crate::wait::PATIENCE;

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// Its status code.
    pub status: u16,
    /// Its header lines as they came.
    pub head: String,
    /// Its body.
    pub body: String,
}

/// `GET path`.
///
/// # Errors
/// Those of the connection, and an answer that is not HTTP.
pub fn get(addr: &Address, path: &str) -> io::Result<Response> {
    request(addr, "GET", path, "text/plain", &[])
}

/// `POST path` with a body.
///
/// # Errors
/// As [`get`].
pub fn post(addr: &Address, path: &str, content_type: &str, body: &[u8]) -> io::Result<Response> {
    request(addr, "POST", path, content_type, body)
}

/// `PUT path` with a body of text.
///
/// # Errors
/// As [`get`].
pub fn put(addr: &Address, path: &str, body: &str) -> io::Result<Response> {
    request(addr, "PUT", path, "text/plain", body.as_bytes())
}

fn request(
    addr: &Address,
    method: &str,
    path: &str,
    content_type: &str,
    body: &[u8],
) -> io::Result<Response> {
    let mut stream = addr.connect()?;
    stream.set_timeout(PATIENCE)?;
    // HTTP/1.0: the answer ends where the connection does, and is never chunked.
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    parse(&answer).ok_or_else(|| {
        let got = String::from_utf8_lossy(&answer).into_owned();
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{method} {path} at {addr}: not an HTTP answer: {got:?}"),
        )
    })
}

fn parse(answer: &[u8]) -> Option<Response> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head
        .strip_prefix("HTTP/1.")?
        .split(' ')
        .nth(1)?
        .parse()
        .ok()?;
    Some(Response {
        status,
        head: head.to_owned(),
        body: body.to_owned(),
    })
}
