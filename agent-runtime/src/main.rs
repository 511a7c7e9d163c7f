//! Parses, runs, exits.

use std::process::ExitCode;

fn main() -> ExitCode {
    tars_agent::cli::run()
}
