//! The binary's subcommands that need no server: what they print and what they exit with.
#![allow(clippy::unwrap_used)]

use std::io::Write as _;
use std::process::{Command, Stdio};

/// Exit code, standard output, standard error.
fn tars_proxy(args: &[&str], env: &[(&str, &str)], input: &str) -> (i32, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tars-proxy"))
        .args(args)
        .env_clear()
        .envs(env.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A child that refuses its arguments does not wait for its input.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let done = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        done.status.code().unwrap(),
        text(done.stdout),
        text(done.stderr),
    )
}

#[test]
fn check_config_says_ok() {
    let (code, out, err) = tars_proxy(&["check-config", "--upstream", "redis:7000"], &[], "");
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(
        out.starts_with("ok\nlisten 127.0.0.1:6380 -> redis://redis:7000,"),
        "{out}"
    );
}

#[test]
fn a_bad_configuration_exits_64_whoever_reads_it() {
    let sentence = "TARS_WORKERS: `0` is no whole number from 1 to 1024\n";
    for args in [&[][..], &["run"], &["check-config"], &["explain"]] {
        let (code, out, err) = tars_proxy(args, &[("TARS_WORKERS", "0")], "");
        assert_eq!(
            (code, out.as_str(), err.as_str()),
            (64, "", sentence),
            "{args:?}"
        );
    }
    let (code, out, err) = tars_proxy(&["--lisen", "a:1"], &[], "");
    assert_eq!((code, out.as_str()), (64, ""));
    assert!(
        err.contains("unexpected argument '--lisen' found") && err.contains("--listen"),
        "{err}"
    );
}

/// What begins with a hyphen is a value where a number is asked for, and told as one that is wrong.
#[test]
fn negative_numbers_are_told_as_such() {
    for (flag, value, sentence) in [
        (
            "--drain-timeout",
            "-1s",
            "`-1s` is negative, and no duration is; write a duration as 250ms, 30s, 5m or 1h",
        ),
        ("--workers", "-1", "`-1` is no whole number from 1 to 1024"),
        (
            "--max-message-bytes",
            "-1MiB",
            "`-1MiB` is no whole number of bytes; write a size as 65536, 64KiB or 1MiB",
        ),
    ] {
        let (code, out, err) = tars_proxy(&["check-config", flag, value], &[], "");
        assert_eq!((code, out.as_str()), (64, ""));
        assert_eq!(err, format!("{flag}: {sentence}\n"));
    }
}

#[test]
fn help_and_version_are_no_errors() {
    let (code, out, _) = tars_proxy(&["--help"], &[], "");
    assert!(
        code == 0 && out.contains("check-config") && out.contains("--upstream <URL>"),
        "{out}"
    );
    let (code, out, _) = tars_proxy(&["--version"], &[], "");
    assert_eq!(
        (code, out),
        (0, format!("tars-proxy {}\n", env!("CARGO_PKG_VERSION")))
    );
}

#[test]
fn explain_reads_the_standard_input() {
    for args in [&["explain"][..], &["explain", "-"]] {
        let (code, out, err) = tars_proxy(args, &[], "XADD orders * id 1\n");
        assert_eq!((code, err.as_str()), (0, ""));
        assert!(
            out.contains("1  orders  inject a new context  traceparent   +80   +66"),
            "{out}"
        );
    }
}
