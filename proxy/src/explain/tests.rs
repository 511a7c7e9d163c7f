#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::io::BufReader;
use std::net::TcpListener;

use serde_json::{Value, json};

use super::*;

fn args() -> Args {
    Args {
        file: None,
        stream: Vec::new(),
        count: 100,
        db: None,
        json: false,
    }
}

/// What `explain` says of commands in a file: exit code, standard output, standard error.
fn explain(input: &[u8], args: Args, flags: &Flags) -> (u8, String, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("commands");
    std::fs::write(&path, input).unwrap();
    run_with(
        &Args {
            file: Some(path),
            ..args
        },
        flags,
        &Environment::default(),
    )
}

fn run_with(args: &Args, flags: &Flags, env: &Environment) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = run(args, flags, env, &mut out, &mut err).unwrap();
    (
        code,
        String::from_utf8(out).unwrap(),
        String::from_utf8(err).unwrap(),
    )
}

const INPUT: &[u8] = b"XADD orders * id 1
GET x
XADD orders * id 2 traceparent 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
XADD orders * id 3 traceparent none
XADD orders IDMPAUTO p * id 4
XADD orders * id
xadd \"a\\x1b\" * _trace_context '{\"traceparent\":\"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\"}'
";

#[test]
fn commands_for_people() {
    let (code, out, err) = explain(INPUT, args(), &Flags::default());
    assert_eq!(
        out,
        "\
#  STREAM   WHAT                                   FIELDS ADDED  WIRE  PAYLOAD
1  orders   inject a new context                   traceparent   +80   +66
3  orders   keep the application's own             -             +0    +0
4  orders   replace an invalid traceparent         -             +52   +51
5  orders   skip: IDMPAUTO hashes the fields       -             +0    +0
6  orders   skip: malformed, Redis will refuse it  -             +0    +0
7  a\\u{1b}  copy from _trace_context               traceparent   +80   +66

7 commands, 6 of them XADD, 3 changed: +212 bytes on the wire (RESP), +183 bytes of field names and values
"
    );
    assert_eq!((code, err.as_str()), (0, ""));
}

#[test]
fn commands_for_machines() {
    let resp = b"*5\r\n$4\r\nXADD\r\n$1\r\ns\r\n$1\r\n*\r\n$1\r\nf\r\n$1\r\nv\r\n*1\r\n";
    let (code, out, _) = explain(
        resp,
        Args {
            json: true,
            ..args()
        },
        &Flags::default(),
    );
    assert_eq!(code, 1, "a part could not be read");
    assert_eq!(
        serde_json::from_str::<Value>(&out).unwrap(),
        json!({
            "xadds": [{
                "number": 1, "stream": "s", "action": "inject", "reason": null, "fields": ["traceparent"],
                "wire_bytes": 80, "payload_bytes": 66,
            }],
            "unreadable": ["command 2: the RESP is cut off; give whole commands"],
            "total": { "commands": 1, "xadds": 1, "changed": 1, "wire_bytes": 80, "payload_bytes": 66 },
        })
    );
}

#[test]
fn the_configuration_decides_what_is_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tars.toml");
    std::fs::write(&path, "[[stream]]\npattern = 'audit*'\ntrace = false").unwrap();
    let with_file = Flags {
        config: Some(path),
        ..Flags::default()
    };
    let with_limit = Flags {
        max_message_bytes: Some("40".to_owned()),
        ..Flags::default()
    };
    let without = Flags {
        no_trace: Some("true".to_owned()),
        ..Flags::default()
    };
    for (flags, what) in [
        (with_file, "skip: trace = false for this stream"),
        (with_limit, "skip: larger than max_message_bytes"),
        (without, "skip: --no-trace"),
    ] {
        let (_, out, _) = explain(b"XADD audit:1 * f value", args(), &flags);
        assert!(out.contains(what), "{out}");
    }
}

#[test]
fn says_what_cannot_be_looked_at() {
    let nowhere = Args {
        file: Some("/nowhere".into()),
        ..args()
    };
    let flags = Flags {
        workers: Some("0".to_owned()),
        ..Flags::default()
    };
    for (args, flags, code, expected) in [
        (
            nowhere,
            Flags::default(),
            1,
            "/nowhere: the file cannot be read (No such file or directory (os error 2))\n",
        ),
        (
            args(),
            flags,
            64,
            "--workers: `0` is no whole number from 1 to 1024\n",
        ),
        (
            Args {
                stream: vec!["s".to_owned()],
                ..args()
            },
            Flags {
                upstream: Some("rediss://h".to_owned()),
                upstream_ca: Some("/nowhere".to_owned()),
                ..Flags::default()
            },
            1,
            "rediss://h:6379: upstream_ca: /nowhere cannot be read (No such file or directory (os error 2)); name a PEM file that this process may read\n",
        ),
    ] {
        assert_eq!(
            run_with(&args, &flags, &Environment::default()),
            (code, String::new(), expected.to_owned())
        );
    }
    assert_eq!(
        explain(b"GET a\n", args(), &Flags::default()).1,
        "1 command, 0 of them XADD, 0 changed: +0 bytes on the wire (RESP), +0 bytes of field names and values\n"
    );
    assert_eq!(explain(b"XADD \"a", args(), &Flags::default()).0, 1);
}

/// A server that checks each command against the next of these, and answers.
fn server(script: Vec<(Vec<&'static str>, String)>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut input = BufReader::new(stream.try_clone().unwrap());
        for (expected, answer) in script {
            let mut request = expected
                .iter()
                .fold(format!("*{}\r\n", expected.len()), |request, arg| {
                    request + &format!("${}\r\n{arg}\r\n", arg.len())
                });
            let mut received = vec![0; request.len()];
            input.read_exact(&mut received).unwrap();
            if received != request.as_bytes() {
                request = format!("-unexpected {}\r\n", received.escape_ascii());
                stream.write_all(request.as_bytes()).unwrap();
                return;
            }
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    url
}

fn entries(entries: &[&[&str]]) -> String {
    let bulk = |text: &str| format!("${}\r\n{text}\r\n", text.len());
    entries
        .iter()
        .fold(format!("*{}\r\n", entries.len()), |reply, fields| {
            let fields = fields
                .iter()
                .fold(format!("*{}\r\n", fields.len()), |reply, field| {
                    reply + &bulk(field)
                });
            format!("{reply}*2\r\n{}{fields}", bulk("1-0"))
        })
}

#[test]
fn streams_of_a_server() {
    let valid = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let envelope = format!(r#"{{"traceparent":"{valid}"}}"#);
    let fourth = "v".repeat(34);
    let orders = entries(&[
        &["id", "1"],
        &["id", "12", "traceparent", valid],
        &["_trace_context", &envelope],
        &["id", &fourth],
    ]);
    let range = |key| vec!["XREVRANGE", key, "+", "-", "COUNT", "4"];
    let script = || {
        vec![
            (vec!["AUTH", "s3cret"], "+OK\r\n".to_owned()),
            (vec!["SELECT", "3"], "+OK\r\n".to_owned()),
            (range("orders"), orders.clone()),
            (range("strict"), entries(&[&["id", "1"]])),
            (range("none"), "*0\r\n".to_owned()),
            (
                range("hash"),
                "-WRONGTYPE Operation against a key\r\n".to_owned(),
            ),
            (
                range("shut"),
                "-NOAUTH Authentication required.\r\n".to_owned(),
            ),
        ]
    };
    let env: Environment = [
        ("REDISCLI_AUTH", "s3cret"),
        ("OTEL_TRACES_SAMPLER", "traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.5"),
    ]
    .into_iter()
    .collect();
    let url = server(script());
    let flags = Flags {
        deliver: vec!["strict=strip".to_owned()],
        upstream: Some(url.clone()),
        ..Flags::default()
    };
    let wanted = ["orders", "strict", "none", "hash", "shut"]
        .map(str::to_owned)
        .to_vec();
    let args = Args {
        stream: wanted,
        count: 4,
        db: Some(3),
        ..args()
    };
    let (code, out, err) = run_with(&args, &flags, &env);
    assert_eq!((code, err.as_str()), (1, ""), "a hash is no stream");
    let expected = "
STREAM  ENTRIES  PAYLOAD  WITH CONTEXT  ADDED      WIRE ADDED  TRACED  NEW NAMES  DELIVER  SAMPLE  RULE
orders  4        53 / 87  86 / 153      +101.0 %   80 / 80     1 / 1   yes        keep     0.5     default
strict  1        3 / 3    69 / 69       +2200.0 %  80 / 80     0 / 0   no         strip    0.5     flag
none    0        -        -             -          -           -       -          keep     0.5     default

PAYLOAD       field names and values of an entry, in bytes: median / largest; Redis stores a few more for each field
WITH CONTEXT  the same as the proxy would write it
WIRE ADDED    bytes of RESP added to an XADD: median / largest
TRACED        entries with a valid traceparent / with a context in _trace_context only
NEW NAMES     whether readers behind the proxy would see field names that the producer did not write; strict decoders need deliver = strip
none: there is nothing to look at: the stream is empty, or not there; look at its name, and at --db
hash: WRONGTYPE Operation against a key
shut: NOAUTH Authentication required. Give the password in REDISCLI_AUTH.
";
    assert_eq!(out, format!("{url}\n{expected}"));

    let flags = Flags {
        upstream: Some(server(script())),
        ..flags
    };
    let (_, out, _) = run_with(&Args { json: true, ..args }, &flags, &env);
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        report["streams"][1],
        json!({
            "stream": "strict", "error": null, "entries": 1,
            "payload_before": { "median": 3, "max": 3 }, "payload_after": { "median": 69, "max": 69 }, "added_percent": 2200.0,
            "wire_added": { "median": 80, "max": 80 },
            "with_traceparent": 0, "with_envelope": 0, "with_invalid": 0, "skipped": 0, "new_field_names": false,
            "rule": { "pattern": null, "flag": true, "trace": true, "deliver": "strip", "sample": 0.5, "force": false },
        })
    );
    assert_eq!(
        report["streams"][2],
        json!({
            "stream": "none", "error": null, "entries": 0,
            "payload_before": null, "payload_after": null, "added_percent": null, "wire_added": null,
            "with_traceparent": 0, "with_envelope": 0, "with_invalid": 0, "skipped": 0, "new_field_names": null,
            "rule": { "pattern": null, "flag": false, "trace": true, "deliver": "keep", "sample": 0.5, "force": false },
        })
    );
    assert_eq!(
        report["streams"][3]["error"],
        "WRONGTYPE Operation against a key"
    );
}

#[test]
fn nothing_to_look_at_is_not_everything() {
    let range = vec!["XREVRANGE", "none", "+", "-", "COUNT", "100"];
    let flags = Flags {
        upstream: Some(server(vec![(range, "*0\r\n".to_owned())])),
        ..Flags::default()
    };
    let args = Args {
        stream: vec!["none".to_owned()],
        ..args()
    };
    let (code, out, err) = run_with(&args, &flags, &Environment::default());
    assert_eq!((code, err.as_str()), (1, ""));
    assert!(out.contains("none: there is nothing to look at"), "{out}");
}

#[test]
fn a_server_that_is_not_there() {
    let url = format!(
        "redis://{}",
        TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
    );
    let flags = Flags {
        upstream: Some(url.clone()),
        ..Flags::default()
    };
    let (code, out, err) = run_with(
        &Args {
            stream: vec!["s".to_owned()],
            ..args()
        },
        &flags,
        &Environment::default(),
    );
    assert_eq!((code, out.as_str()), (1, ""));
    assert_eq!(
        err,
        format!(
            "{url}: no connection (Connection refused (os error 111)); start Redis, or name another server with --upstream\n"
        )
    );
}
