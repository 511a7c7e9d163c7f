//! A Redis URL as an application would be given it, with user, password and database: what the variable holds that
//! `upstream_env` names.
//!
//! Nothing here ever repeats any of it: neither an error nor `Debug`.

use std::fmt;

use tars_sidecar::percent;

use super::address::{Upstream, server};
use super::value::Parsed;

/// What is said to a server first: who asks, and for which database.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Login {
    /// Empty: the default user.
    pub user: Vec<u8>,
    /// None: nobody is authenticated.
    pub password: Option<Vec<u8>>,
    /// The database that connections begin with.
    pub database: u32,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login(…)")
    }
}

const SEVERAL: &str = "it names several servers, and there can be only one";

fn refuse<T>(why: &str) -> Parsed<T> {
    Err(why.to_owned())
}

/// `redis://user:password@host:port/database`, `rediss://…`, or `host:port`: where that is, and what is said there first.
///
/// Of the options behind `?` those are taken that say the same as the rest of the URL: `db` or `database`, `username`, `password`.
pub(super) fn read(text: &str) -> Parsed<(Upstream, Login)> {
    // What a file or an editor put behind it.
    let text = text.trim();
    let Some((scheme, rest)) = text.split_once("://") else {
        return without_scheme(text);
    };
    let tls = match scheme.to_ascii_lowercase().as_str() {
        "redis" | "valkey" => false,
        "rediss" | "valkeys" => true,
        "unix" => return without_scheme(&format!("unix:{rest}")),
        _ => return refuse("its scheme is neither redis:// nor rediss://"),
    };
    let (rest, _) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, options) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (account, place) = match authority.rsplit_once('@') {
        Some((account, place)) => (Some(account), place),
        None => (None, authority),
    };
    // `user:password@host,user:password@host`; a password with these two in it is written with %40 and %2C.
    if account.is_some_and(|account| {
        account
            .split_once('@')
            .is_some_and(|(_, rest)| rest.contains(','))
    }) {
        return refuse(SEVERAL);
    }
    let mut login = Login::default();
    let mut database = path.trim_matches('/');
    for (name, value) in options
        .split('&')
        .filter_map(|option| option.split_once('='))
    {
        match name {
            "db" | "database" => database = value,
            "username" => login.user = decoded(value)?,
            "password" => login.password = Some(decoded(value)?),
            _ => {}
        }
    }
    match account.map(|account| account.split_once(':')) {
        None => {}
        Some(Some((user, password))) => {
            login.user = decoded(user)?;
            login.password = Some(decoded(password)?);
        }
        // Some clients take it for a user, some for a password.
        Some(None) => {
            return refuse(
                "before the `@` there is no `:`, and whether that is a user or a password nobody knows; write :password@",
            );
        }
    }
    if login.user.is_empty() && login.password.as_deref() == Some(b"") {
        login.password = None;
    }
    if !database.is_empty() {
        login.database = database
            .parse()
            .map_err(|_| "behind the `/` there is no number of a database".to_owned())?;
    }
    // Clients take a URL without host for one of their own machine's.
    let host = match place.starts_with(':') || place.is_empty() {
        true => "127.0.0.1",
        false => "",
    };
    Ok((at(&format!("{host}{place}"), tls)?, login))
}

/// `host:port`, or a Unix socket.
fn without_scheme(text: &str) -> Parsed<(Upstream, Login)> {
    if text.contains('@') {
        return refuse("there is an `@` and no scheme; write redis:// before it");
    }
    let upstream = match text.starts_with("unix:") {
        true => text
            .parse()
            .map_err(|_| "the path of a Unix socket is absolute".to_owned())?,
        false => at(text, false)?,
    };
    Ok((upstream, Login::default()))
}

/// The host and port of one server.
fn at(place: &str, tls: bool) -> Parsed<Upstream> {
    if place.contains(',') {
        return refuse(SEVERAL);
    }
    server(place, tls).map_err(|_| "its host and port are none".to_owned())
}

fn decoded(text: &str) -> Parsed<Vec<u8>> {
    percent::decoded(text).ok_or_else(|| {
        "its user or password has a `%` that two hexadecimal digits do not follow; write %25 for `%`".to_owned()
    })
}

/// As [`read`]: what fuzz targets drive.
///
/// # Errors
/// A sentence that holds nothing of `text`.
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub fn read_login(text: &str) -> Result<(Upstream, Login), String> {
    read(text)
}

#[cfg(test)]
mod tests;
