//! The command line: `tars-proxy [run]`, `check-config`, `check-live`, `await-clients`, `explain`, `intercept`, and the flags that all of them take.

use crate::config::Flags;
use crate::{explain, intercept, probe};

/// The whole command line.
#[derive(Clone, Debug, clap::Parser)]
#[command(
    name = "tars-proxy",
    version,
    about = "Carries W3C trace context through Redis Streams, with no change to the programs on either side",
    after_help = "Every configuration flag has a variable (--drain-timeout: TARS_DRAIN_TIMEOUT) and a key in the file \
                  (drain_timeout).\nFlags go over the environment, the environment over the file. Spans are exported as \
                  OTEL_EXPORTER_OTLP_* says."
)]
pub struct Cli {
    /// What to do; `run` if nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Taken before and after the subcommand.
    #[command(flatten)]
    pub flags: Flags,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq, clap::Subcommand)]
pub enum Command {
    /// Serve until told to stop (the default)
    Run,
    /// Check the configuration and exit: 0 if it can be used, 64 if not
    CheckConfig {
        /// Print the configuration as JSON
        #[arg(long)]
        print: bool,
    },
    /// Ask the proxy that runs with this configuration whether it serves, and exit: 0 if it does, 1 if not
    CheckLive(probe::LiveArgs),
    /// Return when no client is connected to it any more, or the time is over
    AwaitClients(probe::AwaitArgs),
    /// Dry run: what would be added to messages, and how many bytes
    Explain(explain::Args),
    /// Redirect connections to ports of Redis here (nf_tables; needs NET_ADMIN), for --upstream original
    Intercept(intercept::Args),
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::{CommandFactory as _, Parser as _};

    use super::*;

    fn cli(line: &str) -> Cli {
        Cli::try_parse_from(line.split(' ')).unwrap()
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn run_is_the_default_and_flags_go_on_either_side() {
        let flags = Flags {
            listen: Some("127.0.0.1:1".to_owned()),
            upstream: Some("redis://h".to_owned()),
            admin: Some("127.0.0.1:2".to_owned()),
            config: Some("f.toml".into()),
            ..Flags::default()
        };
        let written =
            "--listen 127.0.0.1:1 --upstream redis://h --admin 127.0.0.1:2 --config f.toml";
        for (line, command) in [
            (format!("tars-proxy {written}"), None),
            (format!("tars-proxy run {written}"), Some(Command::Run)),
            (format!("tars-proxy {written} run"), Some(Command::Run)),
            (
                format!("tars-proxy check-config {written}"),
                Some(Command::CheckConfig { print: false }),
            ),
            (
                format!("tars-proxy check-config --print {written}"),
                Some(Command::CheckConfig { print: true }),
            ),
        ] {
            let cli = cli(&line);
            assert_eq!((cli.command, cli.flags), (command, flags.clone()), "{line}");
        }
    }

    #[test]
    fn explain_takes_its_own_flags_and_the_configuration() {
        let parsed = cli(
            "tars-proxy explain --stream a --stream b --count 7 --json --upstream h:1 --no-trace",
        );
        let Some(Command::Explain(args)) = parsed.command else {
            unreachable!("explain was written");
        };
        assert_eq!(
            (args.stream, args.count, args.json, args.file),
            (vec!["a".to_owned(), "b".to_owned()], 7, true, None)
        );
        assert_eq!(
            (
                parsed.flags.upstream.as_deref(),
                parsed.flags.no_trace.as_deref()
            ),
            (Some("h:1"), Some("true"))
        );
        for line in [
            "tars-proxy explain --count 0",
            "tars-proxy explain file --stream a",
            "tars-proxy --nope",
            "tars-proxy --listen a:1 --listen b:1",
        ] {
            assert!(
                Cli::try_parse_from(line.split(' '))
                    .unwrap_err()
                    .use_stderr(),
                "{line}"
            );
        }
    }

    #[test]
    fn lists_and_switches() {
        let cli =
            cli("tars-proxy --deliver a*=strip --deliver b=keep --sample a=0.5 --no-trace=false");
        assert_eq!(cli.flags.deliver, ["a*=strip", "b=keep"]);
        assert_eq!(cli.flags.sample, ["a=0.5"]);
        assert_eq!(cli.flags.no_trace.as_deref(), Some("false"));
    }
}
