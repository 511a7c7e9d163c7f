//! The outermost frame of a program: a command line in, an exit code out.

use std::io::{self, Stderr, Stdout, Write as _};
use std::process::ExitCode;

use clap::Parser;

/// What a command line, or a configuration, that cannot be used exits with: `EX_USAGE` of `sysexits.h`.
pub const USAGE: u8 = 64;

/// Parses the command line, and runs what it says. Help and version go to standard output and are no error.
pub fn run<C: Parser>(
    command: impl FnOnce(C, &mut Stdout, &mut Stderr) -> io::Result<u8>,
) -> ExitCode {
    let cli = match C::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let wrong = error.use_stderr();
            let _ = error.print();
            return if wrong {
                USAGE.into()
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let (mut out, mut err) = (io::stdout(), io::stderr());
    match command(cli, &mut out, &mut err) {
        Ok(code) => code.into(),
        // `explain | head` has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(err, "{error}");
            ExitCode::FAILURE
        }
    }
}
