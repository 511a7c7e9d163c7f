//! Where Redis is, and what it wants to hear first.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use tars_sidecar::address::Address;
use tars_sidecar::percent;

/// Redis' own port.
const PORT: u16 = 6379;

/// `redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE]`, or `unix:/path`. Shown without its password.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    /// Where it listens.
    pub address: Address,
    /// Who asks; the default user if there is a password alone.
    pub user: Option<String>,
    /// How it is proved.
    pub password: Option<String>,
    /// The database.
    pub database: u32,
}

/// A URL that is none. Says nothing of what was given, since there may be a password in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}; expected redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE] or unix:/path")]
pub struct BadUrl(&'static str);

impl FromStr for RedisUrl {
    type Err = BadUrl;

    fn from_str(text: &str) -> Result<Self, BadUrl> {
        if text.starts_with("unix:") {
            let path = text.trim_start_matches("unix:").trim_start_matches("//");
            if !path.starts_with('/') {
                return Err(BadUrl("the path of a Unix socket is absolute"));
            }
            return Ok(Self {
                address: Address::Unix(PathBuf::from(path)),
                user: None,
                password: None,
                database: 0,
            });
        }
        if text.starts_with("rediss://") {
            return Err(BadUrl(
                "TLS is not spoken here: let tars-proxy on the loopback interface do so",
            ));
        }
        let rest = text
            .strip_prefix("redis://")
            .ok_or(BadUrl("the scheme is neither redis nor unix"))?;
        let (place, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (account, place) = match place.rsplit_once('@') {
            Some((account, place)) => (Some(account), place),
            None => (None, place),
        };
        let database = match database {
            "" => 0,
            number => number
                .parse()
                .map_err(|_| BadUrl("the database is no number"))?,
        };
        let (user, password) = match account.map(|account| account.split_once(':')) {
            None => (None, None),
            Some(Some((user, password))) => (Some(decoded(user)?), Some(decoded(password)?)),
            Some(None) => return Err(BadUrl("a user comes with a password")),
        };
        let bare = match place.rfind(']') {
            Some(end) => !place.get(end..).unwrap_or_default().contains(':'),
            None => !place.contains(':'),
        };
        let place = if bare {
            format!("{place}:{PORT}")
        } else {
            place.to_owned()
        };
        let address: Address = place
            .parse()
            .map_err(|_| BadUrl("host and port are none"))?;
        if matches!(address, Address::Unix(_)) {
            return Err(BadUrl("host and port are none"));
        }
        Ok(Self {
            address,
            user: user.filter(|user| !user.is_empty()),
            password,
            database,
        })
    }
}

fn decoded(text: &str) -> Result<String, BadUrl> {
    let bytes = percent::decoded(text).ok_or(BadUrl(
        "user or password have a % that two hexadecimal digits do not follow",
    ))?;
    String::from_utf8(bytes).map_err(|_| BadUrl("user or password are no UTF-8"))
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Address::Unix(_) => write!(f, "{}", self.address),
            Address::Tcp { .. } => write!(f, "redis://{}/{}", self.address, self.database),
        }
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read() {
        let url: RedisUrl = "redis://127.0.0.1".parse().expect("a URL");
        assert_eq!(url.address, Address::tcp("127.0.0.1", 6379));
        assert_eq!((url.user, url.password, url.database), (None, None, 0));
        let url: RedisUrl = "redis://al%20ice:p%40s:s/@[::1]:7/3"
            .replace("s/@", "s@")
            .parse()
            .expect("a URL");
        assert_eq!(url.address, Address::tcp("::1", 7));
        assert_eq!(url.user.as_deref(), Some("al ice"));
        assert_eq!(url.password.as_deref(), Some("p@s:s"));
        assert_eq!(url.database, 3);
        let url: RedisUrl = "redis://:secret@redis:6380/".parse().expect("a URL");
        assert_eq!((url.user, url.password.as_deref()), (None, Some("secret")));
        let url: RedisUrl = "redis://[::1]".parse().expect("a URL");
        assert_eq!(url.address, Address::tcp("::1", 6379));
        let url: RedisUrl = "unix:/run/redis.sock".parse().expect("a URL");
        assert_eq!(url.address, Address::Unix("/run/redis.sock".into()));
    }

    #[test]
    fn a_password_is_never_shown() {
        let url: RedisUrl = "redis://u:secret@h:1/2".parse().expect("a URL");
        assert_eq!(format!("{url} {url:?}"), "redis://h:1/2 redis://h:1/2");
        for text in [
            "",
            "http://u:secret@h",
            "redis://",
            "redis://u:secret@",
            "redis://secret@h",
            "redis://u:%secret@h",
            "redis://u:secret@h:port",
            "redis://u:secret@h/x",
            "rediss://u:secret@h",
            "unix:relative",
        ] {
            let error = text.parse::<RedisUrl>().expect_err(text);
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
