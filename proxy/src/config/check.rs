//! `tars-proxy check-config`.

use std::io::{self, Write};

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
            let wrong = tls::check(&config);
            if !wrong.is_empty() {
                for error in wrong {
                    writeln!(err, "{error}")?;
                }
                return Ok(ConfigError::EXIT_CODE);
            }
            if print {
                writeln!(out, "{:#}", config.describe())?;
            } else {
                write!(out, "ok\n{}", config.summary())?;
            }
            Ok(0)
        }
        Err(error) => {
            writeln!(err, "{error}")?;
            Ok(ConfigError::EXIT_CODE)
        }
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
