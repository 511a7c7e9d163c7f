//! What is refused and what is warned of, word by word.

use super::*;

/// Flags, variables, a file, and every line that is said of them.
type Refused<'a> = (
    &'a [&'a str],
    &'a [(&'a str, &'a str)],
    &'a str,
    &'a [&'a str],
);

#[test]
fn every_error_says_where_what_and_what_would_be_right() {
    let table: &[Refused<'_>] = &[
        (
            &["--workers=0"],
            &[],
            "",
            &["--workers: `0` is no whole number from 1 to 1024"],
        ),
        (
            &[],
            &[("TARS_WORKERS", "many")],
            "",
            &["TARS_WORKERS: `many` is no whole number from 1 to 1024"],
        ),
        (
            &[],
            &[],
            "\nworkers = -1",
            &["F:2 workers: `-1` is no whole number from 1 to 1024"],
        ),
        (
            &["--drain-timeout=5"],
            &[],
            "",
            &["--drain-timeout: `5` has no unit; write a duration as 250ms, 30s, 5m or 1h"],
        ),
        (
            &[],
            &[],
            "process_timeout = 0",
            &["F:1 process_timeout: `0` has no unit; write a duration as 250ms, 30s, 5m or 1h"],
        ),
        (
            &["--process-timeout=0s"],
            &[],
            "",
            &[
                "--process-timeout: `0s` is no time at all; write a duration as 250ms, 30s, 5m or 1h",
            ],
        ),
        (
            &["--max-deliveries=0"],
            &[],
            "",
            &["--max-deliveries: `0` is no whole number from 1 to 1073741824"],
        ),
        (
            &[],
            &[],
            "[limits]\nmax_message_bytes = '1MB'",
            &[
                "F:2 limits.max_message_bytes: `1MB` has an unknown unit; write a size as 65536, 64KiB or 1MiB",
            ],
        ),
        (
            &["--relation=child"],
            &[],
            "",
            &["--relation: `child` is not one of parent or link"],
        ),
        (
            &["--infer-parent=on"],
            &[],
            "",
            &["--infer-parent: `on` is not one of off, connection or process"],
        ),
        (
            &["--log-format=xml"],
            &[],
            "",
            &["--log-format: `xml` is not one of text or json"],
        ),
        (
            &["--no-trace=1"],
            &[],
            "",
            &["--no-trace: `1` is neither true nor false"],
        ),
        (
            &["--listen=6380"],
            &[],
            "",
            &["--listen: `6380` has no host; write 127.0.0.1:6380"],
        ),
        (
            &["--listen=::1", "--admin=localhost"],
            &[("TARS_UPSTREAM", "a:1,b:2")],
            "",
            &[
                "--admin: `localhost` has no port; write localhost:9464",
                "--listen: `::1` is an IPv6 address without port; write [::1]:6380",
                "TARS_UPSTREAM: there is a `,`, and there can be only one server; write redis://host:port, and a [[listener]] for each further one",
            ],
        ),
        (
            &["--upstream-ca=/a", "--upstream=redis://h"],
            &[("TARS_UPSTREAM_SERVER_NAME", "n")],
            "",
            &[
                "--upstream-ca: redis://h:6379 is reached without TLS; write rediss://, or leave this out",
                "TARS_UPSTREAM_SERVER_NAME: redis://h:6379 is reached without TLS; write rediss://, or leave this out",
            ],
        ),
        (
            &["--upstream-key=/k"],
            &[],
            "[[listener]]\nupstream = 'unix:/s'",
            &[
                "--upstream-key: unix:/s is reached without TLS, as Unix sockets are; leave this out",
                "--upstream-key: upstream_cert is missing; give both or neither",
            ],
        ),
        (
            &[],
            &[],
            "[[listener]]\nupstream = 'rediss://h'\nupstream_cert = '/c'\ntls_client_ca = '/a'\ntls_key = '/k'",
            &[
                "F:3 listener.upstream_cert: upstream_key is missing; give both or neither",
                "F:4 listener.tls_client_ca: tls_cert is missing; give both or neither",
                "F:5 listener.tls_key: tls_cert is missing; give both or neither",
            ],
        ),
        (
            &["--listen=unix:/s", "--tls-cert=/c", "--tls-key=/k"],
            &[],
            "",
            &["--tls-cert: unix:/s is a Unix socket; TLS needs host:port"],
        ),
        (
            &[
                "--upstream=original",
                "--tls-cert=/c",
                "--tls-key=/k",
                "--upstream-ca=/a",
            ],
            &[],
            "",
            &[
                "--tls-cert: what is redirected here is passed on as it is (upstream = \"original\"), TLS too; leave this out",
                "--upstream-ca: original is reached without TLS by the proxy; leave this out",
            ],
        ),
        (
            &["--listen=unix:/s", "--upstream=original"],
            &[],
            "",
            &[
                "--listen: unix:/s is a Unix socket, and nothing is redirected there; write host:port",
            ],
        ),
        (
            &[],
            &[],
            "[[listener]]\nlisten = 'h:1'\nupstream = 'original'\n[[listener]]\nlisten = 'h:2'\nupstream = 'original'",
            &[
                "F:6 listener.upstream: there is a listener before it with upstream original; redirect all ports to that one",
            ],
        ),
        (
            &["--upstream-server-name=a b", "--tls-cert="],
            &[],
            "",
            &[
                "--tls-cert: `` is no path; name a file",
                "--upstream-server-name: `a b` is no server's name; write one such as redis.internal, or an IP address",
            ],
        ),
        (
            &[],
            &[("TARS_UPSTREAM", "redis://u:s3cret@h")],
            "",
            &[
                "TARS_UPSTREAM: the URL has a user or a password; leave them out: clients send their own AUTH through the proxy",
            ],
        ),
        (
            &[],
            &[],
            "[[listener]]\nupstream = 'redis://h/3'",
            &[
                "F:2 listener.upstream: the URL names database 3; leave it out: clients send their own SELECT through the proxy",
            ],
        ),
        (
            &["--deliver=orders*"],
            &[],
            "",
            &["--deliver: `orders*` is not PATTERN=MODE, such as orders*=strip"],
        ),
        (
            &["--deliver=orders*=drop"],
            &[],
            "",
            &["--deliver: `drop` is not one of keep, propagate or strip"],
        ),
        (
            &["--sample=[a=0.5"],
            &[],
            "",
            &[
                "--sample: pattern `[a`: the `[` at character 1 is never closed; add `]`, or write `\\[` for the bracket itself",
            ],
        ),
        (
            &[],
            &[("TARS_SAMPLE", "a=2")],
            "",
            &["TARS_SAMPLE: `2` is no number from 0 to 1, such as 0.25"],
        ),
        (
            &[],
            &[],
            "[[stream]]\npattern = 'a['\nsample = 1.5\ntrace = 'no'",
            &[
                "F:2 stream.pattern: pattern `a[`: the `[` at character 2 is never closed; add `]`, or write `\\[` for the bracket itself",
                "F:3 stream.sample: `1.5` is no number from 0 to 1, such as 0.25",
                "F:4 stream.trace: `no` is neither true nor false",
            ],
        ),
        (
            &[],
            &[],
            "[[stream]]\ntrace = true",
            &["F:1 stream: this rule has no pattern; write pattern = \"orders*\""],
        ),
        (
            &[],
            &[],
            "[[stream]]\npattern = 'a'\nforce = true\nsample = 0.5",
            &["F:4 stream.sample: force = true samples every message; leave sample out, or force"],
        ),
        (
            &[],
            &[],
            "[[stream]]\npattern = 'a'\ntrace = false\nforce = true\n[[stream]]\npattern = 'b'\nsample = 1\ntrace = false",
            &[
                "F:4 stream.force: with trace = false there is nothing to sample; leave force out, or trace",
                "F:7 stream.sample: with trace = false there is nothing to sample; leave sample out, or trace",
            ],
        ),
        (
            &[],
            &[("OTEL_TRACES_SAMPLER", "jaeger_remote")],
            "",
            &[
                "OTEL_TRACES_SAMPLER: `jaeger_remote` is no sampler of this version; write always_on, always_off, traceidratio, parentbased_always_on, parentbased_always_off or parentbased_traceidratio",
            ],
        ),
        (
            &[],
            &[
                ("OTEL_TRACES_SAMPLER", "traceidratio"),
                ("OTEL_TRACES_SAMPLER_ARG", "10%"),
            ],
            "",
            &["OTEL_TRACES_SAMPLER_ARG: `10%` is no number from 0 to 1, such as 0.25"],
        ),
        (
            &[],
            &[],
            "[[listener]]\nlisten = 'h:1'\n[[listener]]\nlisten = 'h:1'",
            &[
                "F:4 listener.listen: h:1 is taken by F:2 listener.listen; each needs an address of its own",
            ],
        ),
        (
            &[],
            &[],
            "[[listener]]\n[[listener]]",
            &[
                "the default of listen: 127.0.0.1:6380 is taken by the default of listen; each needs an address of its own",
            ],
        ),
        (
            &["--listen=127.0.0.1:9464"],
            &[],
            "",
            &[
                "--listen: 127.0.0.1:9464 is taken by the default of admin; each needs an address of its own",
            ],
        ),
        (
            &["--listen=0.0.0.0:6379"],
            &[],
            "",
            &[
                "the default of upstream: redis://127.0.0.1:6379 is this listener itself (--listen); name the Redis behind it",
            ],
        ),
        // All of them at once, masked or not, in the order flags, environment, file.
        (
            &["--workers=0"],
            &[("TARS_WORKERS", "x")],
            "region = ' '\nworkers = 5000",
            &[
                "--workers: `0` is no whole number from 1 to 1024",
                "TARS_WORKERS: `x` is no whole number from 1 to 1024",
                "F:1 region: `` is no name; write a word such as shop",
                "F:2 workers: `5000` is no whole number from 1 to 1024",
            ],
        ),
    ];
    for (flags, env, file, expected) in table {
        assert_eq!(read(flags, env, file).unwrap_err(), *expected);
    }
}

#[test]
fn a_flag_that_could_mean_any_listener_is_an_error() {
    let env = [("TARS_SERVICE_NAME", "all"), ("TARS_LISTEN", "h:9")];
    assert_eq!(
        read(&["--listen=h:8"], &env, THREE).unwrap_err(),
        [
            "--listen: the file has 3 listeners; say in each [[listener]] where it listens",
            "TARS_LISTEN: the file has 3 listeners; say in each [[listener]] where it listens",
            "TARS_SERVICE_NAME: the file gives its listeners different values of service_name; leave one or the other out",
        ]
    );
}

#[test]
fn a_rule_behind_a_wider_one_is_a_warning() {
    let (_, warnings) = read(
        &[],
        &NOTHING,
        "[[stream]]\npattern = 'a*'\n\n[[stream]]\npattern = 'a:b*'\n",
    )
    .unwrap();
    assert_eq!(
        warnings,
        [
            "F:4 stream: the rule for `a:b*` is never used: the one for `a*` before it matches the same streams"
        ]
    );
}

#[test]
fn variables_that_mean_nothing_are_warnings() {
    let env = [
        ("TARS_WROKERS", "1"),
        ("TARS_", ""),
        ("TARS_PROXY_PORT", "tcp://10.0.0.1:6380"),
        ("TARS_PROXY_PORT_6380_TCP_ADDR", "10.0.0.1"),
        ("TARS_PROXY_SERVICE_HOST", "10.0.0.1"),
        ("TARS_PROXY_SERVICE_PORT_REDIS", "6380"),
        ("TARS_ADMIN_PORT", "1"),
        ("TARS_ZZ", "1"),
        ("STARS_WORKERS", "2"),
    ];
    let (config, warnings) = read(&[], &env, "").unwrap();
    assert_eq!(config, Config::default());
    assert_eq!(
        warnings,
        [
            "TARS_PROXY_PORT and others like it are ignored: Kubernetes makes them for a Service (`enableServiceLinks: false` stops it)",
            "TARS_ is ignored: there is no such setting",
            "TARS_ADMIN_PORT is ignored: there is no such setting; the nearest is TARS_ADMIN",
            "TARS_WROKERS is ignored: there is no such setting; the nearest is TARS_WORKERS",
            "TARS_ZZ is ignored: there is no such setting",
        ]
    );
}

#[test]
fn control_characters_are_shown_and_not_passed_on() {
    let refused = |value: &str| {
        let env = [("TARS_LISTEN", value)].into_iter().collect();
        load_text(&Flags::default(), &env, "")
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        refused("unix:\u{1b}[2Ja\n"),
        "TARS_LISTEN: `unix:\\u{1b}[2Ja\\n` is no absolute path; write unix:/path"
    );
    let endless = refused(&format!("unix:{}é", "\u{1d}".repeat(1000)));
    assert!(
        endless.starts_with("TARS_LISTEN: `unix:\\u{1d}\\u{1d}"),
        "{endless}"
    );
    assert!(
        endless.ends_with("\\u{1d}é` is no absolute path; write unix:/path"),
        "{endless}"
    );
    assert!(
        endless.contains('…') && endless.chars().count() < 650,
        "{endless}"
    );
}
