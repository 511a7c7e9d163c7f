//! Parses, builds, waits.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use tars_injector::cli::{self, Cli, Command};

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
                cli::USAGE.into()
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let (mut out, mut err) = (io::stdout(), io::stderr());
    let done = match &cli.command {
        Command::Serve(args) => cli::serve(args, &cli.settings, &mut err),
        Command::Render(args) => cli::render(args, &cli.settings, &mut out, &mut err),
    };
    match done {
        Ok(code) => code.into(),
        // `render | head` has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(err, "{error}");
            ExitCode::FAILURE
        }
    }
}
