//! The command line: `train`, `eval`, `inspect`, `serve`, `soak`.

mod inspect;
mod serve;
mod show;
mod soak;
mod train;

use std::error::Error;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::checkpoint::{Checkpoint, Store};
use crate::service::agent::CHECKPOINTS;
use crate::service::config::{Config, memory};

/// What an impossible request exits with; clap's own errors exit with it, too.
const USAGE: u8 = 64;

/// A PPO learner whose memory is bounded by construction.
#[derive(Debug, Parser)]
#[command(name = "tars-agent", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Let an agent learn
    Train(TrainArgs),
    /// Let a checkpoint's policy play, taking its likeliest action
    Eval(EvalArgs),
    /// Say what a checkpoint is
    Inspect(InspectArgs),
    /// Let agents learn from what others send, and act for them
    Serve(Box<Config>),
    /// Let a service live through days in minutes, and see whether its memory grows
    Soak(SoakArgs),
}

#[derive(Debug, Args)]
struct TrainArgs {
    /// What to learn, CartPole-v1 say
    #[arg(long)]
    env: String,
    /// Hyper-parameters: TOML with a table for the environment [default: tuned ones that come with the program]
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    config: Option<PathBuf>,
    /// Environment steps in all, over which schedules fall [default: as the hyper-parameters say, or for ever]
    #[arg(long)]
    steps: Option<u64>,
    /// What all chance comes from
    #[arg(long, default_value_t = 0, conflicts_with = "resume")]
    seed: u64,
    /// Where checkpoints go [default: runs/ENV]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on from the latest checkpoint there
    #[arg(long)]
    resume: bool,
    /// Steps between two checkpoints [default: a tenth of all, or 100000]
    #[arg(long, value_name = "STEPS", value_parser = clap::value_parser!(u64).range(1..))]
    checkpoint_every: Option<u64>,
    /// Draw the learning curve
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Threads of an update, which change nothing but its time; more than a minibatch has parts of 64 rows have nothing to do
    #[arg(long, value_name = "N", default_value_t = 1)]
    threads: usize,
    /// What the learner may allocate: 64MiB, 1GiB, or bytes [default: three quarters of the cgroup's limit, or 256MiB]
    #[arg(long, value_name = "SIZE", value_parser = memory)]
    memory: Option<usize>,
}

#[derive(Debug, Args)]
struct SoakArgs {
    /// How much time to live through
    #[arg(long, default_value_t = 48.0)]
    hours: f64,
    /// How many times faster than it passes; at 1, ten transitions come a second
    #[arg(long, default_value_t = 96.0)]
    speed: f64,
    /// Where soak.svg, soak.json and soak.csv go
    #[arg(long, value_name = "DIR", default_value = "soak")]
    out: PathBuf,
}

#[derive(Debug, Args)]
struct EvalArgs {
    /// A checkpoint, or a directory of them, or of an agent of `serve`: its latest
    checkpoint: PathBuf,
    /// Episodes to play
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    episodes: u32,
    /// What the episodes' chance comes from
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct InspectArgs {
    /// A checkpoint, or a directory of them, or of an agent of `serve`: its latest
    checkpoint: PathBuf,
    /// Print what its manifest says
    #[arg(long)]
    json: bool,
}

/// What a command comes to: an exit code, or one sentence that says why not.
type Outcome = Result<ExitCode, Box<dyn Error>>;

/// Parses the command line and does what it says.
#[must_use]
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and the version come this way too.
            let _ = error.print();
            return if error.use_stderr() {
                USAGE.into()
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let mut out = io::stdout().lock();
    let outcome = match cli.command {
        Command::Train(args) => train::run(&args, &mut out),
        Command::Eval(args) => inspect::eval(&args, &mut out),
        Command::Inspect(args) => inspect::run(&args, &mut out),
        Command::Serve(config) => serve::run(*config),
        Command::Soak(args) => soak::run(&args, &mut out),
    };
    outcome.unwrap_or_else(|error| {
        // `inspect | head` has seen enough.
        let piped = error.downcast_ref::<io::Error>();
        if piped.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
            return ExitCode::SUCCESS;
        }
        let _ = writeln!(io::stderr(), "{error}");
        USAGE.into()
    })
}

/// The checkpoint in this directory, or the latest of those in it, or of those of the service's agent that lives there.
fn find(path: &Path) -> Result<Checkpoint, Box<dyn Error>> {
    if path.join("manifest.json").exists() {
        return Ok(Checkpoint::read(path)?);
    }
    let warn = |bad: &crate::checkpoint::BadCheckpoint| {
        let _ = writeln!(io::stderr(), "skipped: {bad}");
    };
    let found = Store::at(path)
        .latest(warn)
        .or_else(|| Store::at(&path.join(CHECKPOINTS)).latest(warn));
    found.ok_or_else(|| {
        format!(
            "{} is no checkpoint and holds none that is intact",
            path.display()
        )
        .into()
    })
}
