//! Where a server listens, or where it is: `host:port`, `[::1]:6380`, `unix:/path`.
//!
//! An error repeats what was written only where no password can be in it.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

/// `sun_path` has 108 bytes on Linux, the last of them zero.
const MAX_UNIX_PATH: usize = 107;

/// A name in the DNS has at most 253 characters (RFC 1035).
const MAX_HOST: usize = 253;

/// Where to listen or to connect: `host:port` or `unix:/path`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// Host (a name or an IP address, without brackets) and port.
    Tcp {
        /// Name or IP address.
        host: Arc<str>,
        /// Port.
        port: u16,
    },
    /// Path of a Unix socket.
    Unix(PathBuf),
}

/// Why an address or a URL is refused. The sentence goes on after the name of the setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AddressError(pub String);

fn refuse<T>(why: impl Into<String>) -> Result<T, AddressError> {
    Err(AddressError(why.into()))
}

impl Address {
    /// A TCP address.
    #[must_use]
    pub fn tcp(host: impl Into<Arc<str>>, port: u16) -> Self {
        let host = host.into();
        Self::Tcp { host, port }
    }

    /// Reads an address for a setting whose usual port is `port`: an error that says what would be right names that one.
    ///
    /// # Errors
    /// As [`FromStr`].
    pub fn read(text: &str, port: u16) -> Result<Self, AddressError> {
        parse(text, Some(port))
    }

    /// The socket address, if the host is an IP address.
    #[must_use]
    pub fn as_socket_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp { host, port } => host.parse().ok().map(|ip| SocketAddr::new(ip, *port)),
            Self::Unix(_) => None,
        }
    }

    /// Whether whoever listens here would be reached by connecting to `target` from the same machine.
    #[must_use]
    pub fn accepts(&self, target: &Self) -> bool {
        match (self, target) {
            (Self::Unix(own), Self::Unix(other)) => own == other,
            (
                Self::Tcp { host, port },
                Self::Tcp {
                    host: other,
                    port: other_port,
                },
            ) => {
                let is_localhost = |name: &str| name.eq_ignore_ascii_case("localhost");
                let ip = |name: &str| name.parse::<IpAddr>().ok();
                let loopback = |name: &str| {
                    is_localhost(name)
                        || ip(name).is_some_and(|ip| ip.is_loopback() || ip.is_unspecified())
                };
                port == other_port
                    && *port != 0
                    && (host.eq_ignore_ascii_case(other)
                        || ip(host).is_some_and(|ip| ip.is_unspecified()) && loopback(other)
                        || is_localhost(host) && loopback(other)
                        || is_localhost(other) && loopback(host))
            }
            _ => false,
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::tcp(address.ip().to_string(), address.port())
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        parse(text, None)
    }
}

fn parse(text: &str, usual: Option<u16>) -> Result<Address, AddressError> {
    if let Some(path) = text.strip_prefix("unix:") {
        return unix(path);
    }
    if text.contains('@') {
        return refuse("an address has no user or password; write host:port or unix:/path");
    }
    if text.contains("://") {
        return refuse("this is a URL; write an address: host:port or unix:/path");
    }
    if text.starts_with('/') {
        return refuse(format!("`{text}` is a path; write unix:{text}"));
    }
    let (host, port) = split(text, usual)?;
    match port {
        Some(port) => Ok(Address::tcp(host, number(port)?)),
        None => refuse(format!(
            "`{text}` has no port; write {text}:{}",
            shown(usual)
        )),
    }
}

/// The port in an example, or its place.
fn shown(usual: Option<u16>) -> String {
    usual.map_or_else(|| "<port>".to_owned(), |port| port.to_string())
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            // Two slashes would begin a URL's host.
            Self::Unix(path) if path.as_os_str().as_encoded_bytes().starts_with(b"//") => {
                write!(f, "unix://{}", path.display())
            }
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What is said where a password may have been written.
pub const CREDENTIALS: &str = "the URL has a user or a password; leave them out: clients send their own AUTH through the proxy";

/// `/path`, or what a URL has there: `///path`.
fn unix(path: &str) -> Result<Address, AddressError> {
    let path = match path.strip_prefix("//") {
        Some(path) if path.starts_with('/') => path,
        Some(authority) if authority.contains('@') => return refuse(CREDENTIALS),
        Some(_) => return refuse("a Unix socket has no host; write unix:/path or unix:///path"),
        None => path,
    };
    if !path.starts_with('/') {
        return refuse(format!(
            "`unix:{path}` is no absolute path; write unix:/path"
        ));
    }
    if path.contains('?') || path.contains('\0') {
        return refuse("a Unix socket's path is followed by nothing; write unix:/path");
    }
    if path.len() > MAX_UNIX_PATH {
        return refuse(format!(
            "the path is {} bytes long; a Unix socket's has at most {MAX_UNIX_PATH}",
            path.len()
        ));
    }
    Ok(Address::Unix(path.into()))
}

/// Host, without brackets, and port, which may be missing. `usual` is the one that errors name as an example. A number alone is
/// no host: it is a port whose host is missing.
///
/// # Errors
/// A sentence that says what is wrong, and what would be right.
pub fn split(text: &str, usual: Option<u16>) -> Result<(&str, Option<&str>), AddressError> {
    let example = shown(usual);
    if let Some(rest) = text.strip_prefix('[') {
        let Some((host, rest)) = rest.split_once(']') else {
            return refuse(format!("`{text}` has no `]`; write [::1]:{example}"));
        };
        if host.parse::<Ipv6Addr>().is_err() {
            return refuse(format!(
                "`{host}` is no IPv6 address; write [::1]:{example}"
            ));
        }
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => refuse(format!(
                "a `:` and the port follow the `]`; write [::1]:{example}"
            )),
        };
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return refuse(format!(
            "`{text}` is an IPv6 address without port; write [{text}]:{example}"
        ));
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    if port.is_some_and(|port| port.contains(':')) {
        return refuse(format!(
            "there is more than one `:`; write host:port, and an IPv6 address as [::1]:{example}"
        ));
    }
    if host.is_empty() {
        return refuse(format!(
            "the host is missing; write host:port, such as 127.0.0.1:{example}"
        ));
    }
    if port.is_none() && host.bytes().all(|b| b.is_ascii_digit()) {
        let port = number(host)?;
        return refuse(format!("`{text}` has no host; write 127.0.0.1:{port}"));
    }
    let in_a_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if host.len() > MAX_HOST || !host.chars().all(in_a_name) {
        return refuse(format!(
            "the host is neither a name nor an IP address; write host:port, such as 127.0.0.1:{example}"
        ));
    }
    Ok((host, port))
}

/// A port. What was written is not repeated: in `redis://user:password` it would be the password.
///
/// # Errors
/// For anything but 0 to 65535.
pub fn number(port: &str) -> Result<u16, AddressError> {
    match port.parse() {
        Ok(number) if port.bytes().all(|b| b.is_ascii_digit()) => Ok(number),
        _ => refuse("the port, behind the host, is no number from 0 to 65535"),
    }
}
