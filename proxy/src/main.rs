//! Reads the command line, builds, waits.

use std::io::{self, Write as _};
use std::process::ExitCode;

use tars_proxy::cli::{Cli, Command};
use tars_proxy::config::{self, Config, ConfigError, Environment, Flags, LogFormat};
use tars_proxy::{app, explain, intercept, probe};
use tars_sidecar::logging::{self, Format};
use tars_sidecar::program;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    program::run(|cli: Cli, out, err| {
        let (flags, env) = (cli.flags, Environment::of_process());
        match cli.command.unwrap_or(Command::Run) {
            Command::Run => serve(&flags, &env),
            Command::CheckConfig { print } => config::check(&flags, &env, print, out, err),
            Command::Intercept(args) => intercept::run(&args, out, err),
            Command::CheckLive(args) => probe::check_live(&args, &flags, &env, out, err),
            Command::AwaitClients(args) => probe::await_clients(&args, &flags, &env, out, err),
            Command::Explain(args) => explain::run(&args, &flags, &env, out, err),
        }
    })
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
