//! Parses, builds, waits.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use tars_proxy::cli::{Cli, Command};
use tars_proxy::config::{self, ConfigError, Environment, Flags, Log, LogFormat};
use tars_proxy::{app, explain};
use tracing_subscriber::EnvFilter;

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
        Err(error) => return writeln!(io::stderr(), "{error}").map(|()| ConfigError::EXIT_CODE),
    };
    start_logging(&config.log);
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    app::run(config, |current| config::reload(flags, env, current)).map(|()| 0)
}

fn start_logging(log: &Log) {
    let filter = EnvFilter::new(&log.level);
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    match log.format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().init(),
    }
}
