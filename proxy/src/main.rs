//! Parses, builds, waits.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use tars_proxy::cli::{Cli, Command};
use tars_proxy::config::{self, Config, ConfigError, Environment, Flags, LogFormat, Warning};
use tars_proxy::{app, explain};
use tars_sidecar::logging::{self, Format};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and the version are such errors too.
            let wrong = error.use_stderr();
            let _ = error.print();
            return if wrong { ConfigError::EXIT_CODE.into() } else { ExitCode::SUCCESS };
        }
    };
    let (flags, env) = (cli.flags, Environment::of_process());
    let (mut out, mut err) = (io::stdout().lock(), io::stderr());
    let done = match cli.command.unwrap_or(Command::Run) {
        Command::CheckConfig { print } => config::check(&flags, &env, print, &mut out, &mut err),
        Command::Explain(args) => match config::load(&flags, &env) {
            Ok((config, _)) => explain::run(&args, &config, &env, &mut out, &mut err),
            Err(error) => refuse(&error),
        },
        Command::Run => match config::load(&flags, &env) {
            Ok((config, warnings)) => serve(config, &warnings, &flags, &env),
            Err(error) => refuse(&error),
        },
    };
    match done.and_then(|code| out.flush().map(|()| code)) {
        Ok(code) => code.into(),
        // `explain | head` has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(err, "{error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(config: Config, warnings: &[Warning], flags: &Flags, env: &Environment) -> io::Result<u8> {
    let format = match config.log.format {
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    };
    let served = logging::init(&config.log.level, format).map_err(|error| error.to_string()).and_then(|log_level| {
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        let reload = |current: &Config| config::reload(flags, env, current);
        app::run(config, log_level, |name| env.get(name).map(str::to_owned), reload).map_err(|error| error.to_string())
    });
    match served {
        Ok(()) => Ok(0),
        Err(error) => writeln!(io::stderr(), "tars-proxy: {error}").map(|()| ConfigError::EXIT_CODE),
    }
}

fn refuse(error: &ConfigError) -> io::Result<u8> {
    writeln!(io::stderr(), "{error}").map(|()| ConfigError::EXIT_CODE)
}
