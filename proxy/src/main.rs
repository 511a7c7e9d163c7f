//! Parses, builds, waits.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use tars_proxy::cli::{Cli, Command};
use tars_proxy::config::{self, Config, ConfigError, Environment, Flags, LogFormat};
use tars_proxy::{app, explain, intercept, probe};
use tars_sidecar::logging::{self, Format};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and the version come this way too.
            let wrong = error.use_stderr();
            let _ = error.print();
            return if wrong {
                ConfigError::EXIT_CODE.into()
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let (flags, env) = (cli.flags, Environment::of_process());
    let (mut out, mut err) = (io::stdout(), io::stderr());
    let done = match cli.command.unwrap_or(Command::Run) {
        Command::Run => serve(&flags, &env),
        Command::CheckConfig { print } => config::check(&flags, &env, print, &mut out, &mut err),
        Command::Intercept(args) => intercept::run(&args, &mut out, &mut err),
        Command::CheckLive(args) => probe::check_live(&args, &flags, &env, &mut out, &mut err),
        Command::AwaitClients(args) => {
            probe::await_clients(&args, &flags, &env, &mut out, &mut err)
        }
        Command::Explain(args) => explain::run(&args, &flags, &env, &mut out, &mut err),
    };
    match done {
        Ok(code) => code.into(),
        // `explain | head` has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(err, "{error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(flags: &Flags, env: &Environment) -> io::Result<u8> {
    let (config, warnings) = match config::load(flags, env) {
        Ok(loaded) => loaded,
        Err(error) => return refuse(&error),
    };
    let format = match config.log.format {
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    };
    let log_level = match logging::init(&config.log.level, format) {
        Ok(log_level) => log_level,
        Err(error) => return refuse(&error),
    };
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let reload = |current: &Config| config::reload(flags, env, current);
    match app::run(
        config,
        log_level,
        |name| env.get(name).map(str::to_owned),
        reload,
    ) {
        Ok(()) => Ok(0),
        Err(error) => refuse(&error),
    }
}

/// One clear sentence, and the exit code for what the caller can put right.
fn refuse(error: &dyn std::error::Error) -> io::Result<u8> {
    writeln!(io::stderr(), "{error}").map(|()| ConfigError::EXIT_CODE)
}
