//! `tars-proxy check-config`.

use std::io::{self, Write};

use tars_sidecar::otlp::OtlpSettings;

use super::{ConfigError, Environment, Flags, load};
use crate::{app, tls};

/// Reads the configuration as `run` would, and says `ok` and what it comes to (as JSON if `print`), or everything that is
/// wrong. Returns what the process should exit with.
///
/// # Errors
/// If `out` or `err` cannot be written to.
pub fn check(
    flags: &Flags,
    env: &Environment,
    print: bool,
    out: &mut impl Write,
    err: &mut impl Write,
) -> io::Result<u8> {
    match load(flags, env) {
        Ok((config, warnings)) => {
            if let Err(error) = app::check_telemetry(|name| env.get(name).map(str::to_owned)) {
                writeln!(err, "{error}")?;
                return Ok(ConfigError::EXIT_CODE);
            }
            for warning in warnings {
                writeln!(err, "warning: {warning}")?;
            }
            let mut wrong: Vec<String> = app::check_addresses(&config)
                .iter()
                .map(ToString::to_string)
                .collect();
            wrong.extend(tls::check(&config).iter().map(ToString::to_string));
            if !wrong.is_empty() {
                for error in wrong {
                    writeln!(err, "{error}")?;
                }
                return Ok(ConfigError::EXIT_CODE);
            }
            for doubt in tls::doubts(&config) {
                writeln!(err, "warning: {doubt}")?;
            }
            if print {
                writeln!(out, "{:#}", config.describe())?;
            } else {
                write!(out, "ok\n{}", config.summary())?;
                if config.trace {
                    writeln!(out, "{}", export(env))?;
                }
            }
            Ok(0)
        }
        Err(error) => {
            writeln!(err, "{error}")?;
            Ok(ConfigError::EXIT_CODE)
        }
    }
}

/// Whether spans leave the process, and where they go.
fn export(env: &Environment) -> String {
    let is = |name, value: &str| {
        env.get(name)
            .is_some_and(|text| text.trim().eq_ignore_ascii_case(value))
    };
    match OtlpSettings::from_env(|name| env.get(name).map(str::to_owned)) {
        Ok(Some(settings)) => format!("spans exported with {settings}"),
        Ok(None) if is("OTEL_SDK_DISABLED", "true") => {
            "spans not exported: OTEL_SDK_DISABLED".to_owned()
        }
        Ok(None) if is("OTEL_TRACES_EXPORTER", "none") => {
            "spans not exported: OTEL_TRACES_EXPORTER is none".to_owned()
        }
        Ok(None) => "spans not exported: no OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn run(flags: &Flags, env: &[(&str, &str)], print: bool) -> (u8, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = check(
            flags,
            &env.iter().copied().collect(),
            print,
            &mut out,
            &mut err,
        )
        .unwrap();
        (
            code,
            String::from_utf8(out).unwrap(),
            String::from_utf8(err).unwrap(),
        )
    }

    #[test]
    fn says_ok_and_what_it_comes_to() {
        let flags = Flags {
            no_trace: Some("true".to_owned()),
            ..Flags::default()
        };
        let (code, out, err) = run(&flags, &[("TARS_WORKER", "2")], false);
        assert_eq!(code, 0);
        assert_eq!(
            out,
            "ok\nlisten 127.0.0.1:6380 -> redis://127.0.0.1:6379, service tars-proxy, infer_parent off\n\
             admin 127.0.0.1:9464, workers 1\nno trace: everything is forwarded as it is\n"
        );
        assert_eq!(
            err,
            "warning: TARS_WORKER is ignored: there is no such setting; the nearest is TARS_WORKERS\n"
        );
    }

    #[test]
    fn says_what_each_rule_does_and_where_spans_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tars.toml");
        std::fs::write(
            &path,
            "[[stream]]\npattern = 'audit'\ntrace = false\n[[stream]]\npattern = 'hot*'\nforce = true\n\
             [[stream]]\npattern = 'bulk:*'\nsample = 0.01\n[[stream]]\npattern = '*'\ndeliver = 'propagate'\n",
        )
        .unwrap();
        let flags = Flags {
            config: Some(path),
            deliver: vec!["strict=strip".to_owned()],
            sample: vec!["hot:us=0.5".to_owned()],
            ..Flags::default()
        };
        let endpoint = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318")];
        let (code, out, err) = run(&flags, &endpoint, false);
        assert_eq!((code, err.as_str()), (0, ""));
        let expected = "\
relation parent, process_timeout 5m, sampled parent-based, 1 of new traces where no rule says otherwise
stream audit: not traced, everything is forwarded as it is
stream hot*: every message sampled (force), deliver keep
stream bulk:*: sampled 0.01, deliver keep
stream *: sampled as above, deliver propagate
stream strict (flag or variable): deliver strip
stream hot:us (flag or variable): sampled 0.5
spans exported with http/protobuf to http://collector:4318/v1/traces
";
        assert_eq!(
            out.lines()
                .skip(3)
                .map(|line| format!("{line}\n"))
                .collect::<String>(),
            expected
        );
        for (env, why) in [
            (&[][..], "no OTEL_EXPORTER_OTLP_ENDPOINT"),
            (&[("OTEL_SDK_DISABLED", "true")], "OTEL_SDK_DISABLED"),
            (
                &[("OTEL_TRACES_EXPORTER", "none")],
                "OTEL_TRACES_EXPORTER is none",
            ),
        ] {
            let (_, out, _) = run(&Flags::default(), env, false);
            assert!(
                out.ends_with(&format!("no stream rules\nspans not exported: {why}\n")),
                "{out}"
            );
        }
    }

    #[test]
    fn prints_json() {
        let (code, out, _) = run(&Flags::default(), &[], true);
        assert_eq!(code, 0);
        let printed: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(printed, crate::config::Config::default().describe());
    }

    #[test]
    fn says_everything_that_is_wrong() {
        let flags = Flags {
            workers: Some("0".to_owned()),
            ..Flags::default()
        };
        let (code, out, err) = run(&flags, &[("TARS_RELATION", "x")], true);
        assert_eq!((code, out.as_str()), (64, ""));
        assert_eq!(
            err,
            "--workers: `0` is no whole number from 1 to 1024\nTARS_RELATION: `x` is not one of parent or link\n"
        );
    }
}
