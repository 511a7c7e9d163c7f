#![allow(clippy::unwrap_used)]

use std::net::Ipv6Addr;

use proptest::prelude::*;

use super::*;

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

#[test]
fn reads_addresses() {
    for (text, expected) in [
        ("127.0.0.1:6380", Address::tcp("127.0.0.1", 6380)),
        ("[::1]:6380", Address::tcp("::1", 6380)),
        ("redis-0.redis.svc:0", Address::tcp("redis-0.redis.svc", 0)),
        ("my_host:65535", Address::tcp("my_host", 65535)),
        (
            "unix:/run/redis.sock",
            Address::Unix("/run/redis.sock".into()),
        ),
        (
            "unix:///run/redis.sock",
            Address::Unix("/run/redis.sock".into()),
        ),
    ] {
        assert_eq!(address(text), expected, "{text}");
    }
}

#[test]
fn reads_upstreams() {
    let plain = |address| Upstream {
        address,
        tls: false,
    };
    for (text, expected) in [
        (
            "redis://127.0.0.1:6379",
            plain(Address::tcp("127.0.0.1", 6379)),
        ),
        ("redis://redis", plain(Address::tcp("redis", 6379))),
        ("REDIS://redis/", plain(Address::tcp("redis", 6379))),
        ("redis://[::1]", plain(Address::tcp("::1", 6379))),
        ("redis://[::1]:7000", plain(Address::tcp("::1", 7000))),
        ("localhost", plain(Address::tcp("localhost", 6379))),
        ("[::1]", plain(Address::tcp("::1", 6379))),
        ("redis:7000", plain(Address::tcp("redis", 7000))),
        (
            "unix:/run/redis.sock",
            plain(Address::Unix("/run/redis.sock".into())),
        ),
        (
            "unix:///run/redis.sock",
            plain(Address::Unix("/run/redis.sock".into())),
        ),
        ("unix:/a://b@c", plain(Address::Unix("/a://b@c".into()))),
        (
            "rediss://redis",
            Upstream {
                address: Address::tcp("redis", 6379),
                tls: true,
            },
        ),
    ] {
        assert_eq!(text.parse(), Ok(expected), "{text}");
    }
}

#[test]
fn refuses_bad_addresses() {
    let long_host = format!("{}:1", "a".repeat(254));
    let long_path = format!("unix:/{}", "a".repeat(107));
    for (text, expected) in [
        (
            "",
            "the host is missing; write host:port, such as 127.0.0.1:<port>",
        ),
        ("6380", "`6380` has no host; write 127.0.0.1:6380"),
        (
            "65536",
            "the port, behind the host, is no number from 0 to 65535",
        ),
        ("redis", "`redis` has no port; write redis:<port>"),
        (
            ":6380",
            "the host is missing; write host:port, such as 127.0.0.1:<port>",
        ),
        (
            "redis:",
            "the port, behind the host, is no number from 0 to 65535",
        ),
        (
            "redis:65536",
            "the port, behind the host, is no number from 0 to 65535",
        ),
        (
            "redis:+1",
            "the port, behind the host, is no number from 0 to 65535",
        ),
        (
            "redis://h:1",
            "this is a URL; write an address: host:port or unix:/path",
        ),
        (
            "u:p@h:1",
            "an address has no user or password; write host:port or unix:/path",
        ),
        (
            "/run/a.sock",
            "`/run/a.sock` is a path; write unix:/run/a.sock",
        ),
        (
            "unix:a.sock",
            "`unix:a.sock` is no absolute path; write unix:/path",
        ),
        ("unix:", "`unix:` is no absolute path; write unix:/path"),
        (
            "unix://host/a",
            "a Unix socket has no host; write unix:/path or unix:///path",
        ),
        (
            "unix:/a?db=1",
            "a Unix socket's path is followed by nothing; write unix:/path",
        ),
        (
            &long_path,
            "the path is 108 bytes long; a Unix socket's has at most 107",
        ),
        (
            "::1",
            "`::1` is an IPv6 address without port; write [::1]:<port>",
        ),
        (
            "a:b:1",
            "there is more than one `:`; write host:port, and an IPv6 address as [::1]:<port>",
        ),
        ("[::1", "`[::1` has no `]`; write [::1]:<port>"),
        ("[host]:1", "`host` is no IPv6 address; write [::1]:<port>"),
        (
            "[::1]6380",
            "a `:` and the port follow the `]`; write [::1]:<port>",
        ),
        ("[::1]", "`[::1]` has no port; write [::1]:<port>"),
        (
            "a b:1",
            "the host is neither a name nor an IP address; write host:port, such as 127.0.0.1:<port>",
        ),
        (
            &long_host,
            "the host is neither a name nor an IP address; write host:port, such as 127.0.0.1:<port>",
        ),
    ] {
        assert_eq!(
            text.parse::<Address>().unwrap_err().to_string(),
            expected,
            "{text}"
        );
    }
}

#[test]
fn refuses_bad_upstreams() {
    for (text, expected) in [
        (
            "http://h",
            "`http://` is no scheme of Redis; write redis://host:port, rediss://host:port or unix:/path",
        ),
        (
            "redis://",
            "the host is missing; write host:port, such as 127.0.0.1:6379",
        ),
        (
            "redis://h:0",
            "port 0 cannot be connected to; write a port from 1 to 65535",
        ),
        (
            "h:0",
            "port 0 cannot be connected to; write a port from 1 to 65535",
        ),
        ("6379", "`6379` has no host; write 127.0.0.1:6379"),
        ("redis://7000", "`7000` has no host; write 127.0.0.1:7000"),
        (
            "::1",
            "`::1` is an IPv6 address without port; write [::1]:6379",
        ),
        (
            "/run/a.sock",
            "`/run/a.sock` is a path; write unix:/run/a.sock",
        ),
        (
            "a:1,redis://b:2",
            "there is a `,`, and there can be only one server; write redis://host:port, and a [[listener]] for each further one",
        ),
        (
            "redis://h/2",
            "the URL names database 2; leave it out: clients send their own SELECT through the proxy",
        ),
        (
            "redis://h/x",
            "the URL goes on after host and port; write redis://host:port",
        ),
        (
            "redis://h?db=1",
            "the URL goes on after host and port; write redis://host:port",
        ),
        (
            "redis://h#1",
            "the URL goes on after host and port; write redis://host:port",
        ),
    ] {
        assert_eq!(
            text.parse::<Upstream>().unwrap_err().to_string(),
            expected,
            "{text}"
        );
    }
}

#[test]
fn no_error_repeats_a_password() {
    for text in [
        "redis://user:s3cret@host/2",
        "redis://:s3cret@host",
        "rediss://:s3cret@host",
        "redis://:s3/cret@host",
        "redis://:s3?cret@host",
        "user:s3cret@host:6379",
        "unix://:s3cret@/path",
        "redis://user:s3cret",
        "redis://:s3cret",
        "redis://user:s3cret%40host",
        "user:s3cret@a,redis://b",
        "user:s3cret,redis://b",
    ] {
        for error in [
            text.parse::<Upstream>().unwrap_err(),
            text.parse::<Address>().unwrap_err(),
        ] {
            assert!(!error.to_string().contains("cret"), "{error}");
        }
    }
    assert_eq!(
        "redis://user:s3cret@host/2"
            .parse::<Upstream>()
            .unwrap_err()
            .to_string(),
        "the URL has a user or a password; leave them out: clients send their own AUTH through the proxy"
    );
}

#[test]
fn tells_a_listener_that_would_reach_itself() {
    for (listen, target, expected) in [
        ("127.0.0.1:6379", "127.0.0.1:6379", true),
        ("0.0.0.0:6379", "127.0.0.1:6379", true),
        ("[::]:6379", "localhost:6379", true),
        ("localhost:6379", "127.0.0.1:6379", true),
        ("127.0.0.1:6379", "LOCALHOST:6379", true),
        ("redis:6379", "redis:6379", true),
        ("unix:/a", "unix:/a", true),
        ("127.0.0.1:6380", "127.0.0.1:6379", false),
        ("127.0.0.2:6379", "127.0.0.1:6379", false),
        ("0.0.0.0:6379", "redis:6379", false),
        ("127.0.0.1:0", "127.0.0.1:0", false),
        ("unix:/a", "unix:/b", false),
        ("unix:/a", "a:1", false),
    ] {
        assert_eq!(
            address(listen).accepts(&address(target)),
            expected,
            "{listen} {target}"
        );
    }
}

fn any_address() -> impl Strategy<Value = Address> {
    prop_oneof![
        ("[a-z0-9][a-z0-9._-]{0,20}", any::<u16>())
            .prop_map(|(host, port)| Address::tcp(host, port)),
        (any::<std::net::Ipv4Addr>(), any::<u16>())
            .prop_map(|(ip, port)| Address::tcp(ip.to_string(), port)),
        (any::<Ipv6Addr>(), any::<u16>()).prop_map(|(ip, port)| Address::tcp(ip.to_string(), port)),
        "/[a-z0-9/@:. ü-]{0,40}".prop_map(|path| Address::Unix(path.into())),
    ]
}

proptest! {
    #[test]
    fn a_printed_address_reads_back(address in any_address()) {
        prop_assert_eq!(address.to_string().parse::<Address>(), Ok(address));
    }

    #[test]
    fn a_printed_upstream_reads_back(address in any_address(), tls in any::<bool>()) {
        prop_assume!(!matches!(address, Address::Tcp { port: 0, .. }));
        let tls = tls && matches!(address, Address::Tcp { .. });
        let upstream = Upstream { address, tls };
        prop_assert_eq!(upstream.to_string().parse::<Upstream>(), Ok(upstream));
    }

    #[test]
    fn no_text_panics(text in ".{0,60}", url in "(redis|unix|rediss):/{0,3}[a-z0-9@:/\\[\\]?#%.]{0,30}") {
        for text in [text, url] {
            if let Ok(address) = text.parse::<Address>() {
                prop_assert_eq!(address.to_string().parse::<Address>(), Ok(address));
            }
            if let Ok(upstream) = text.parse::<Upstream>() {
                prop_assert_eq!(upstream.to_string().parse::<Upstream>(), Ok(upstream));
            }
        }
    }
}
