//! Where Redis is: `redis://host:port`, `rediss://host:port` (TLS), `host:port`, `host`, `unix:/path`.
//!
//! An error repeats what was written only where no password can be in it.

use std::fmt;
use std::str::FromStr;

pub use tars_sidecar::address::{Address, AddressError};
use tars_sidecar::address::{CREDENTIALS, number, split};

/// Redis' port, for servers without one.
const REDIS_PORT: u16 = 6379;

/// The default of `listen` has this port, and errors name it.
pub(super) const LISTEN_PORT: u16 = 6380;

/// The same of `admin`.
pub(super) const ADMIN_PORT: u16 = 9464;

/// Written for an upstream: each client's own, as it was connecting to when it was redirected here.
pub const ORIGINAL: &str = "original";

/// Reads an upstream; none is [`ORIGINAL`].
pub(crate) fn upstream(text: &str) -> Result<Option<Upstream>, AddressError> {
    match text {
        ORIGINAL => Ok(None),
        server => server.parse().map(Some),
    }
}

/// Writes an upstream as [`upstream`] reads it.
pub(crate) fn show(upstream: Option<&Upstream>) -> String {
    upstream.map_or_else(|| ORIGINAL.to_owned(), Upstream::to_string)
}

/// Where Redis is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Upstream {
    /// Address of the server.
    pub address: Address,
    /// `rediss://`.
    pub tls: bool,
}

fn refuse<T>(why: impl Into<String>) -> Result<T, AddressError> {
    Err(AddressError(why.into()))
}

impl Upstream {
    /// The host that is reached over TLS, if it is.
    #[must_use]
    pub fn tls_host(&self) -> Option<&str> {
        match &self.address {
            Address::Tcp { host, .. } if self.tls => Some(host),
            _ => None,
        }
    }
}

impl FromStr for Upstream {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        // The first of all: in what stands before the comma there may be anything.
        if text.contains(',') && !text.contains('@') && !text.starts_with("unix:") {
            return refuse(
                "there is a `,`, and there can be only one server; write redis://host:port, and a [[listener]] for each further one",
            );
        }
        let Some((scheme, rest)) = text
            .split_once("://")
            .filter(|_| !text.starts_with("unix:"))
        else {
            if text.contains('@') && !text.starts_with("unix:") {
                return refuse(CREDENTIALS);
            }
            if !text.starts_with("unix:") && !text.starts_with('/') {
                return server(text, false);
            }
            let address = text.parse()?;
            return Ok(Self {
                address,
                tls: false,
            });
        };
        let tls = scheme.eq_ignore_ascii_case("rediss");
        if !tls && !scheme.eq_ignore_ascii_case("redis") {
            if text.contains('@') {
                return refuse(CREDENTIALS);
            }
            return refuse(format!(
                "`{scheme}://` is no scheme of Redis; write redis://host:port, rediss://host:port or unix:/path"
            ));
        }
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
        if authority.contains('@') || path.contains('@') {
            return refuse(CREDENTIALS);
        }
        match path.strip_prefix('/').unwrap_or(path) {
            "" => {}
            database if database.bytes().all(|b| b.is_ascii_digit()) => {
                return refuse(format!(
                    "the URL names database {database}; leave it out: clients send their own SELECT through the proxy"
                ));
            }
            _ => return refuse("the URL goes on after host and port; write redis://host:port"),
        }
        server(authority, tls)
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.address, self.tls) {
            (Address::Unix(_), _) => write!(f, "{}", self.address),
            (address, false) => write!(f, "redis://{address}"),
            (address, true) => write!(f, "rediss://{address}"),
        }
    }
}

/// `host:port`, or a host alone.
pub(super) fn server(text: &str, tls: bool) -> Result<Upstream, AddressError> {
    let (host, port) = split(text, Some(REDIS_PORT))?;
    match port.map_or(Ok(REDIS_PORT), number)? {
        // It asks for a free port when listening; there is nothing to connect to.
        0 => refuse("port 0 cannot be connected to; write a port from 1 to 65535"),
        port => Ok(Upstream {
            address: Address::tcp(host, port),
            tls,
        }),
    }
}

#[cfg(test)]
mod tests;
