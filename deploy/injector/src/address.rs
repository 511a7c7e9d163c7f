//! The value of a variable that says where Redis is: a URL or `host:port`. What is changed is the scheme and what stands
//! between user and path; everything else is kept byte for byte.
//!
//! Errors never repeat a value: a password may be in it.

use tars_sidecar::address::{number, split};

/// Redis' port, for URLs without one.
pub const REDIS_PORT: u16 = 6379;

/// A value, taken apart. The parts, one after the other, are the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written<'a> {
    /// `redis://` or `rediss://`, `valkey://` or `valkeys://`; empty for `host:port`.
    pub scheme: &'a str,
    /// With the `@`.
    pub userinfo: &'a str,
    /// `host`, `host:port`, or nothing.
    pub authority: &'a str,
    /// Path, query, fragment.
    pub rest: &'a str,
}

/// Why a variable stays as it is. The sentence goes on after the variable's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(pub String);

const SEVERAL: &str = "names several servers, and stays as it is; for Cluster and Sentinel take tars.dev/mode: transparent";

fn unusable<T>(why: impl Into<String>) -> Result<T, Unusable> {
    Err(Unusable(why.into()))
}

impl<'a> Written<'a> {
    /// Takes a value apart.
    ///
    /// # Errors
    /// For what is neither a URL of one Redis server nor `host:port`.
    pub fn read(value: &'a str) -> Result<Self, Unusable> {
        if value.starts_with("unix:") || value.starts_with('/') {
            return unusable("is a Unix socket, and stays as it is");
        }
        let Some((scheme, rest)) = value.split_once("://") else {
            return Ok(Self {
                scheme: "",
                userinfo: "",
                authority: value,
                rest: "",
            });
        };
        let known = ["redis", "rediss", "valkey", "valkeys"];
        if !known.iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
            return unusable(
                "is no redis:// or rediss:// URL, and stays as it is; for Cluster and Sentinel take tars.dev/mode: transparent",
            );
        }
        let scheme = value.get(..scheme.len() + 3).unwrap_or(value);
        let (authority, rest) = cut(rest, rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (userinfo, authority) = cut(authority, authority.rfind('@').map_or(0, |at| at + 1));
        if several_accounts(userinfo.trim_end_matches('@')) {
            return unusable(SEVERAL);
        }
        Ok(Self {
            scheme,
            userinfo,
            authority,
            rest,
        })
    }

    /// Whether the application would make TLS.
    #[must_use]
    pub fn tls(&self) -> bool {
        let name = self.scheme.trim_end_matches("://");
        name.eq_ignore_ascii_case("rediss") || name.eq_ignore_ascii_case("valkeys")
    }

    /// The scheme without TLS, in the letters that were written.
    #[must_use]
    pub fn plain_scheme(&self) -> String {
        let name = self.scheme.trim_end_matches("://");
        let plain = name.get(..name.len().saturating_sub(1)).unwrap_or(name);
        match self.tls() {
            true => format!("{plain}://"),
            false => self.scheme.to_owned(),
        }
    }

    /// The value with another scheme and server.
    #[must_use]
    pub fn with(&self, scheme: &str, authority: &str) -> String {
        format!("{scheme}{}{authority}{}", self.userinfo, self.rest)
    }
}

/// `user:password@host,user:password`: what stands before the last `@` of several servers. A password with these two in it is written
/// with `%40` and `%2C`.
fn several_accounts(userinfo: &str) -> bool {
    userinfo
        .split_once('@')
        .is_some_and(|(_, rest)| rest.contains(','))
}

fn cut(text: &str, at: usize) -> (&str, &str) {
    text.split_at_checked(at).unwrap_or((text, ""))
}

/// What a URL or `host:port` leads to, as the proxy's `--upstream` takes it. References, `$(NAME)`, may stand for host or port.
///
/// # Errors
/// For a host or port that cannot be one.
pub fn upstream(authority: &str, tls: bool, is_url: bool) -> Result<String, Unusable> {
    if authority.contains(',') {
        return unusable(SEVERAL);
    }
    let (host, port) = match authority {
        // redis:///0 and redis://:6379: clients take localhost.
        "" if is_url => ("127.0.0.1", None),
        _ if is_url && authority.starts_with(':') => ("127.0.0.1", authority.strip_prefix(':')),
        _ => parts(authority)?,
    };
    let port = match port {
        Some(port) if port.contains("$(") => port.to_owned(),
        Some(port) => match number(port) {
            Ok(1..) => port.to_owned(),
            _ => {
                return unusable(
                    "has a port that is no number from 1 to 65535, and stays as it is",
                );
            }
        },
        None if is_url => REDIS_PORT.to_string(),
        None => {
            return unusable(
                "is a host without port, and stays as it is; name host and port: HOST_VAR+PORT_VAR",
            );
        }
    };
    let host = match host.contains(':') {
        true => format!("[{host}]"),
        false => host.to_owned(),
    };
    let scheme = if tls { "rediss" } else { "redis" };
    Ok(format!("{scheme}://{host}:{port}"))
}

/// Host and port of what may hold references.
fn parts(authority: &str) -> Result<(&str, Option<&str>), Unusable> {
    let (host, port) = match authority.rsplit_once(':') {
        _ if authority.starts_with('[') => (authority, None),
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    if host.contains("$(") {
        return Ok((host, port));
    }
    let checked = match port {
        Some(port) if port.contains("$(") => {
            split(host, Some(REDIS_PORT)).map(|(host, _)| (host, Some(port)))
        }
        _ => split(authority, Some(REDIS_PORT)),
    };
    checked.or_else(|_| unusable("has no host and port that could be read, and stays as it is"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_scheme_and_server_change() {
        for (value, expected, upstream_expected) in [
            ("redis://redis:6379", "redis://L", "redis://redis:6379"),
            ("redis://redis", "redis://L", "redis://redis:6379"),
            (
                "redis://u:p%40@redis:7/3?x=1#f",
                "redis://u:p%40@L/3?x=1#f",
                "redis://redis:7",
            ),
            ("rediss://:p@ss@h:1/0", "redis://:p@ss@L/0", "rediss://h:1"),
            ("REDISS://h", "REDIS://L", "rediss://h:6379"),
            ("valkeys://h/", "valkey://L/", "rediss://h:6379"),
            ("redis:///2", "redis://L/2", "redis://127.0.0.1:6379"),
            (
                "redis://:p@:6380/2",
                "redis://:p@L/2",
                "redis://127.0.0.1:6380",
            ),
            (
                "redis://[fd00::1]:6379/1",
                "redis://L/1",
                "redis://[fd00::1]:6379",
            ),
            ("redis://[fd00::1]", "redis://L", "redis://[fd00::1]:6379"),
            ("redis:6379", "L", "redis://redis:6379"),
            (
                "redis://$(HOST):$(PORT)/0",
                "redis://L/0",
                "redis://$(HOST):$(PORT)",
            ),
            ("redis://a:$(PORT)", "redis://L", "redis://a:$(PORT)"),
            (
                "redis://:$(PASSWORD)@$(HOST)",
                "redis://:$(PASSWORD)@L",
                "redis://$(HOST):6379",
            ),
        ] {
            let written = Written::read(value).unwrap();
            assert_eq!(written.with(&written.plain_scheme(), "L"), expected);
            let found = upstream(written.authority, written.tls(), !written.scheme.is_empty());
            assert_eq!(found.as_deref(), Ok(upstream_expected), "{value}");
        }
    }

    #[test]
    fn what_cannot_be_read_stays_and_is_never_repeated() {
        for value in [
            "redis+sentinel://hidden:1",
            "redis-cluster://hidden:1",
            "amqp://u:hidden@h",
            "unix:///hidden",
            "/hidden.sock",
            "hidden",
            "redis://hidden:1,hidden:2",
            "hidden:1,hidden:2",
            "redis://a:hidden@h1,b:hidden@h2",
            "redis://u=hidden",
            "redis://a=hidden:1",
            "redis://hidden:0",
            "redis://hidden:99999",
            "redis://:hidden/word@h:1",
            "redis://hid den:1",
            "hidden:$PORT",
            "::1:6379",
        ] {
            let why = Written::read(value).and_then(|written| {
                upstream(written.authority, written.tls(), !written.scheme.is_empty())
            });
            let why = why.unwrap_err().to_string();
            assert!(!why.contains("hidden"), "{value}: {why}");
        }
    }

    proptest! {
        #[test]
        fn the_parts_are_the_value(value in "(redis|rediss|valkey)://[a-z:@/?#$()\\[\\]%.é]{0,20}|[a-z:0-9.]{0,20}") {
            if let Ok(written) = Written::read(&value) {
                prop_assert_eq!(written.with(written.scheme, written.authority), value);
            }
        }
    }
}
