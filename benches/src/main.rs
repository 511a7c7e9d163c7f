//! The command line of `tars-bench`.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use serde::Serialize;
use tars_benches::contender::Contender;
use tars_benches::measured::Run;
use tars_benches::plan::Plan;
use tars_benches::run::Options;
use tars_benches::{act, count, report, run, sink};

/// Measures proxies in front of Redis, side by side, in interleaved rounds.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a plan; print its tables, and write FILE.json, FILE.md and FILE.html
    Run {
        /// Which cases
        plan: Plan,
        /// How often everything is measured [default: 5; linear 4, smoke 1]
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
        rounds: Option<u16>,
        /// Only these contenders (the direct way is always among them)
        #[arg(long, value_delimiter = ',')]
        only: Vec<Contender>,
        /// Where to write, without an ending
        #[arg(long, value_name = "FILE", default_value = "target/bench/run")]
        out: PathBuf,
    },
    /// Count system calls and user instructions of a request (needs strace and valgrind); write as `run` does
    Count {
        /// Only these contenders
        #[arg(long, value_delimiter = ',', default_values = ["bare-relay", "tars-no-trace", "tars-unsampled"])]
        only: Vec<Contender>,
        /// Where to write, without an ending
        #[arg(long, value_name = "FILE", default_value = "target/bench/count")]
        out: PathBuf,
    },
    /// Measure the learner's service beside a bare axum (needs valgrind, unless --no-instructions); print its tables, and write FILE.json and FILE.md
    Act {
        /// How often everything is measured
        #[arg(long, default_value = "9", value_parser = clap::value_parser!(u16).range(1..))]
        rounds: u16,
        /// Seconds of each measurement
        #[arg(long, default_value = "3", value_parser = clap::value_parser!(u16).range(1..))]
        seconds: u16,
        /// Count no instructions
        #[arg(long)]
        no_instructions: bool,
        /// Where to write, without an ending
        #[arg(long, value_name = "FILE", default_value = "target/bench/act")]
        out: PathBuf,
    },
    /// Make the tables and the page of an earlier run again
    Report {
        /// What `run` or `count` wrote
        json: PathBuf,
    },
    /// Write the tables of runs into a document, where it says so, and a picture beside each run
    Document {
        /// The document. The runs are NAME.json in a folder of its name without the ending
        document: PathBuf,
    },
    /// Take spans over OTLP/gRPC and forget them, until killed
    #[command(hide = true)]
    Sink {
        /// Where to listen
        listen: SocketAddr,
    },
}

fn main() -> ExitCode {
    match execute(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tars-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn execute(command: Command) -> Result<(), Box<dyn std::error::Error>> {
    match command {
        Command::Run {
            plan,
            rounds,
            only,
            out,
        } => {
            let contenders = if only.is_empty() {
                plan.contenders().to_vec()
            } else {
                only
            };
            let options = Options {
                plan,
                rounds: rounds.unwrap_or(plan.rounds()).into(),
                contenders,
            };
            write_run(&run::run(&options, progress)?, &out)
        }
        Command::Count { only, out } => write_run(&count::run(&only, progress)?, &out),
        Command::Act {
            rounds,
            seconds,
            no_instructions,
            out,
        } => {
            let options = act::Options {
                rounds: rounds.into(),
                duration: Duration::from_secs(seconds.into()),
                instructions: !no_instructions,
            };
            let measured = act::run(&options, progress)?;
            write_json(&measured, &out)?;
            let tables = report::act(&measured);
            fs::write(out.with_extension("md"), &tables)?;
            let _ = writeln!(io::stdout(), "{tables}");
            Ok(())
        }
        Command::Document { document } => write_document(&document),
        Command::Report { json } => {
            let measured = serde_json::from_slice(&fs::read(&json)?)?;
            write_report(&measured, &json)
        }
        Command::Sink { listen } => Ok(sink::serve(listen)?),
    }
}

fn write_run(measured: &Run, out: &Path) -> Result<(), Box<dyn std::error::Error>> {
    write_report(measured, &write_json(measured, out)?)
}

fn write_json(
    measured: &impl Serialize,
    out: &Path,
) -> Result<PathBuf, Box<dyn std::error::Error>> {
    if io::stderr().is_terminal() {
        eprint!("\r\x1b[2K");
    }
    if let Some(folder) = out.parent() {
        fs::create_dir_all(folder)?;
    }
    let json = out.with_extension("json");
    fs::write(&json, serde_json::to_string_pretty(measured)? + "\n")?;
    Ok(json)
}

fn write_document(document: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let folder = document.with_extension("");
    let runs = report::runs(document)?;
    for (name, run) in &runs.proxies {
        if let Some(pictures) = run.as_ref().and_then(report::pictures) {
            fs::write(folder.join(name).with_extension("svg"), pictures)?;
        }
    }
    let text = fs::read_to_string(document)?;
    let folder = folder.file_name().unwrap_or_default().to_string_lossy();
    fs::write(document, report::rewrite(&text, &folder, &runs)?)?;
    Ok(())
}

fn write_report(measured: &Run, json: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let tables = report::tables(measured, true);
    fs::write(json.with_extension("md"), &tables)?;
    let page = json.with_extension("html");
    fs::write(&page, report::page(measured))?;
    // Whoever closes the pipe early has seen enough.
    let _ = writeln!(io::stdout(), "{tables}\n{}", page.display());
    Ok(())
}

/// One line that is written over on a terminal, lines elsewhere.
fn progress(what: &str) {
    if io::stderr().is_terminal() {
        eprint!("\r\x1b[2K{what}");
    } else {
        eprintln!("{what}");
    }
}
