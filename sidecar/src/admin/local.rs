//! Who may change the process over the admin server: only somebody on this machine, and no web page in his browser.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, Request};
use axum::http::header::{HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Peer;

/// A middleware for what changes the process: `post(handler).layer(axum::middleware::from_fn(local_only))`.
///
/// It lets through what comes over a unix socket, and what comes from a loopback address unless a browser sent it on
/// behalf of a foreign page: such a request carries that page's `Origin`, or, when the page's own host name was made
/// to resolve to this machine (DNS rebinding), that name as its `Host`. Everything else gets 403 and a sentence.
pub async fn local_only(
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    match judge(peer, request.headers()) {
        Ok(()) => next.run(request).await,
        Err(why) => (StatusCode::FORBIDDEN, why).into_response(),
    }
}

fn judge(peer: Peer, headers: &HeaderMap) -> Result<(), &'static str> {
    let Peer::Tcp(address) = peer else {
        return Ok(());
    };
    if !is_loopback(address) {
        return Err(
            "This changes the process and is answered on the loopback interface and the unix socket only.\n",
        );
    }
    let host = single(headers, HOST).ok_or("A request may carry one Host header.\n")?;
    if !host.is_none_or(is_this_machine) {
        return Err(
            "This changes the process and is answered for an IP address or localhost as Host only.\n",
        );
    }
    let origin = single(headers, ORIGIN).ok_or("A request may carry one Origin header.\n")?;
    let own = |origin: &str| host.is_some_and(|host| origin.strip_prefix("http://") == Some(host));
    if !origin.is_none_or(own) {
        return Err("This changes the process and is not answered for pages of other origins.\n");
    }
    Ok(())
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

/// Also an IPv4 client of an IPv6 socket is seen as what it is.
fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

fn is_this_machine(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    let name = authority.host();
    let bare = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'))
        .unwrap_or(name);
    bare.parse::<IpAddr>().is_ok() || name.eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use axum::http::HeaderValue;

    use super::*;

    fn allowed(peer: &str, headers: &[(HeaderName, &'static str)]) -> bool {
        let peer = if peer == "unix" {
            Peer::Unix
        } else {
            Peer::Tcp(peer.parse().unwrap())
        };
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, HeaderValue::from_static(value));
        }
        judge(peer, &map).is_ok()
    }

    #[test]
    fn only_from_this_machine() {
        for peer in [
            "unix",
            "127.0.0.1:5",
            "127.8.8.8:5",
            "[::1]:5",
            "[::ffff:127.0.0.1]:5",
        ] {
            assert!(allowed(peer, &[]), "{peer}");
        }
        for peer in [
            "10.0.0.1:5",
            "[fe80::1]:5",
            "[::ffff:10.0.0.1]:5",
            "0.0.0.0:5",
        ] {
            assert!(!allowed(peer, &[]), "{peer}");
        }
    }

    #[test]
    fn only_for_a_host_that_cannot_be_rebound() {
        for host in [
            "127.0.0.1",
            "127.0.0.1:9464",
            "[::1]:9464",
            "[::1]",
            "localhost",
            "LOCALHOST:1",
            "10.1.1.1",
        ] {
            assert!(allowed("127.0.0.1:5", &[(HOST, host)]), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:9464",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "",
            "a b",
        ] {
            assert!(!allowed("127.0.0.1:5", &[(HOST, host)]), "{host}");
        }
        assert!(!allowed(
            "127.0.0.1:5",
            &[(HOST, "localhost"), (HOST, "localhost")]
        ));
    }

    #[test]
    fn not_for_pages_of_others() {
        let with = |host, origin| allowed("127.0.0.1:5", &[(HOST, host), (ORIGIN, origin)]);
        assert!(with("127.0.0.1:9464", "http://127.0.0.1:9464"));
        for origin in [
            "http://evil.example",
            "null",
            "http://127.0.0.1:80",
            "https://127.0.0.1:9464",
            "http://127.0.0.1:9464.evil.example",
        ] {
            assert!(!with("127.0.0.1:9464", origin), "{origin}");
        }
        assert!(
            !allowed("127.0.0.1:5", &[(ORIGIN, "http://127.0.0.1:5")]),
            "no Host to compare with"
        );
        assert!(!with("evil.example", "http://evil.example"), "rebound");
    }
}
