//! Reads the command line, builds, waits.

use std::process::ExitCode;

use tars_injector::cli::{self, Cli, Command};
use tars_sidecar::program;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    program::run(|cli: Cli, out, err| match &cli.command {
        Command::Serve(args) => cli::serve(args, &cli.settings, err),
        Command::Render(args) => cli::render(args, &cli.settings, out, err),
    })
}
