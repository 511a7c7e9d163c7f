//! Who may do what: whoever has the token or the certificate, and no web page in somebody's browser.

use std::hint::black_box;
use std::net::IpAddr;

use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, Method};

use super::problem::{Problem, Reason};
use super::route::Route;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    /// What changes something must carry it, if given.
    pub token: Option<Secret>,
    /// What changes something must come with a client's certificate.
    pub certificate: bool,
    /// What only tells something must, too.
    pub protect_reads: bool,
    /// It listens where only this machine can reach it: then only a name that stands for this machine can be meant.
    pub local: bool,
    /// Other names that may be meant there.
    pub hosts: Vec<String>,
    /// TLS is spoken.
    pub tls: bool,
}

/// A token. Never shown.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// A token without the space around it; none if nothing is left.
    #[must_use]
    pub fn new(text: &[u8]) -> Option<Self> {
        let text = text.trim_ascii();
        (!text.is_empty()).then(|| Self(text.to_owned()))
    }

    /// Takes as long whatever is right of what was given.
    fn is(&self, given: &[u8]) -> bool {
        let differ = self
            .0
            .iter()
            .zip(given)
            .fold(0, |all, (a, b)| all | (a ^ b));
        black_box(differ) == 0 && self.0.len() == given.len()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Guard {
    /// Lets a request through, or says why not.
    ///
    /// # Errors
    /// If it comes from a page of somebody else's, or lacks what is required.
    pub fn judge(
        &self,
        route: Route,
        method: &Method,
        headers: &HeaderMap,
        certified: bool,
    ) -> Result<(), Problem> {
        self.browser(headers)
            .map_err(|why| Problem::new(Reason::Forbidden, why))?;
        if !(route.changes(method) || self.protect_reads && route.tells()) {
            return Ok(());
        }
        if self.certificate && !certified {
            return Err(Problem::new(
                Reason::Unauthorized,
                "expected a client certificate that this service trusts",
            ));
        }
        let Some(token) = &self.token else {
            return Ok(());
        };
        let given = single(headers, AUTHORIZATION).flatten();
        let given = given.and_then(|given| {
            let (scheme, given) = given.split_once(' ')?;
            scheme
                .eq_ignore_ascii_case("bearer")
                .then_some(given.trim())
        });
        if given.is_some_and(|given| token.is(given.as_bytes())) {
            return Ok(());
        }
        Err(Problem::new(
            Reason::Unauthorized,
            "expected Authorization: Bearer with the token of this service",
        ))
    }

    fn browser(&self, headers: &HeaderMap) -> Result<(), &'static str> {
        let host = single(headers, HOST).ok_or("expected one Host header")?;
        if self.local && !host.is_none_or(|host| self.is_meant(host)) {
            return Err(
                "expected an IP address or localhost as Host, or a name that --allow-host gives: others may be made to lead here by a web page",
            );
        }
        let origin = single(headers, ORIGIN).ok_or("expected at most one Origin header")?;
        let scheme = if self.tls { "https://" } else { "http://" };
        let own = |origin: &str| host.is_some_and(|host| origin.strip_prefix(scheme) == Some(host));
        if !origin.is_none_or(own) {
            return Err(
                "expected no Origin but this service's own: pages of others are not answered",
            );
        }
        Ok(())
    }

    fn is_meant(&self, host: &str) -> bool {
        let Ok(authority) = host.parse::<Authority>() else {
            return false;
        };
        let name = authority.host();
        let bare = name
            .strip_prefix('[')
            .and_then(|name| name.strip_suffix(']'))
            .unwrap_or(name);
        bare.parse::<IpAddr>().is_ok()
            || name.eq_ignore_ascii_case("localhost")
            || self.hosts.iter().any(|own| own.eq_ignore_ascii_case(name))
    }
}

/// The value of a header that may come once: `None` when it came more often or is no text.
fn single(headers: &HeaderMap, name: HeaderName) -> Option<Option<&str>> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Some(None),
        (Some(value), None) => value.to_str().ok().map(Some),
        (Some(_), Some(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn judge(
        guard: &Guard,
        method: &Method,
        route: Route,
        all: &[(HeaderName, &'static str)],
    ) -> Option<Reason> {
        let mut headers = HeaderMap::new();
        for (name, value) in all {
            headers.append(name, HeaderValue::from_static(value));
        }
        let judged = guard.judge(route, method, &headers, false);
        judged.err().map(|problem| problem.reason)
    }

    #[test]
    fn a_token_is_required_for_what_changes_something() {
        let guard = Guard {
            token: Secret::new(b" secret\n"),
            ..Guard::default()
        };
        let (post, get) = (Method::POST, Method::GET);
        assert_eq!(judge(&guard, &get, Route::Agents, &[]), None);
        assert_eq!(
            judge(&guard, &post, Route::Act, &[]),
            None,
            "acting changes nothing"
        );
        for (text, right) in [
            ("Bearer secret", true),
            ("bearer  secret", true),
            ("Bearer secre", false),
            ("Bearer secrets", false),
            ("Bearer ", false),
            ("Bearer", false),
            ("Basic secret", false),
        ] {
            let judged = judge(&guard, &post, Route::Experience, &[(AUTHORIZATION, text)]);
            assert_eq!(judged.is_none(), right, "{text}");
        }
        let twice = [
            (AUTHORIZATION, "Bearer secret"),
            (AUTHORIZATION, "Bearer secret"),
        ];
        assert!(judge(&guard, &Method::DELETE, Route::Agent, &twice).is_some());
        let closed = Guard {
            protect_reads: true,
            ..guard
        };
        assert_eq!(
            judge(&closed, &get, Route::Agents, &[]),
            Some(Reason::Unauthorized)
        );
        assert_eq!(
            judge(&closed, &post, Route::Act, &[]),
            Some(Reason::Unauthorized)
        );
        assert_eq!(
            judge(&closed, &get, Route::Page, &[]),
            None,
            "it holds nothing"
        );
    }

    #[test]
    fn a_certificate_is_required_where_one_is_asked_for() {
        let guard = Guard {
            certificate: true,
            ..Guard::default()
        };
        let headers = HeaderMap::new();
        assert!(
            guard
                .judge(Route::Agents, &Method::POST, &headers, true)
                .is_ok()
        );
        assert!(
            guard
                .judge(Route::Agents, &Method::POST, &headers, false)
                .is_err()
        );
    }

    #[test]
    fn a_page_of_others_is_not_answered() {
        let local = Guard {
            local: true,
            hosts: vec!["agent".to_owned()],
            ..Guard::default()
        };
        let asked = |all: &[(HeaderName, &'static str)]| {
            judge(&local, &Method::GET, Route::Agents, all).is_none()
        };
        for host in [
            "127.0.0.1:1",
            "[::1]:1",
            "localhost",
            "LOCALHOST:1",
            "agent:80",
            "10.0.0.1",
        ] {
            assert!(asked(&[(HOST, host)]), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "", "a b"] {
            assert!(!asked(&[(HOST, host)]), "{host}");
        }
        assert!(asked(&[
            (HOST, "localhost:1"),
            (ORIGIN, "http://localhost:1")
        ]));
        for origin in [
            "null",
            "http://evil.example",
            "http://localhost",
            "https://localhost:1",
        ] {
            assert!(
                !asked(&[(HOST, "localhost:1"), (ORIGIN, origin)]),
                "{origin}"
            );
        }
        assert!(
            !asked(&[(ORIGIN, "http://localhost")]),
            "no Host to compare with"
        );
        let open = Guard::default();
        assert_eq!(
            judge(&open, &Method::GET, Route::Agents, &[(HOST, "agent.svc")]),
            None
        );
    }
}
