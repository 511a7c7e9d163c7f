//! Where Redis is: `redis://host:port`, `rediss://host:port` (TLS), `host:port`, `unix:/path`.
//!
//! An error repeats what was written only where no password can be in it.

use std::fmt;
use std::str::FromStr;

pub use tars_sidecar::address::{Address, AddressError};
use tars_sidecar::address::{CREDENTIALS, number, split};

/// Redis' port, for URLs without one.
const REDIS_PORT: u16 = 6379;

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
        let Some((scheme, rest)) = text
            .split_once("://")
            .filter(|_| !text.starts_with("unix:"))
        else {
            if text.contains('@') && !text.starts_with("unix:") {
                return refuse(CREDENTIALS);
            }
            let address = text.parse()?;
            connectable(&address)?;
            return Ok(Self {
                address,
                tls: false,
            });
        };
        let tls = scheme.eq_ignore_ascii_case("rediss");
        if !tls && !scheme.eq_ignore_ascii_case("redis") {
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
        let (host, port) = split(authority)?;
        let port = port.map_or(Ok(REDIS_PORT), number)?;
        let address = Address::tcp(host, port);
        connectable(&address)?;
        Ok(Self { address, tls })
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

/// Port 0 asks for a free port when listening; there is nothing to connect to.
fn connectable(address: &Address) -> Result<(), AddressError> {
    match address {
        Address::Tcp { port: 0, .. } => {
            refuse("port 0 cannot be connected to; write a port from 1 to 65535")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
