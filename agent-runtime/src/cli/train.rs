//! `tars-agent train`.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use super::show::{Show, grouped};
use super::{Outcome, TrainArgs};
use crate::checkpoint::Store;
use crate::memory::MemoryBudget;
use crate::plot::Curve;
use crate::train::{MOST_UNDONE, Trainer};
use crate::{env, zoo};

/// What a shell expects of a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

pub(super) fn run(args: &TrainArgs, out: &mut impl Write) -> Outcome {
    let out = &mut Heedless(out);
    let name = env::full_name(&args.env)?;
    let directory = args
        .out
        .clone()
        .unwrap_or_else(|| Path::new("runs").join(name));
    let budget = MemoryBudget::from_environment(args.memory);
    let early = lock(&directory)?;
    let mut trainer = if args.resume {
        resume(args, name, &directory, &budget, out)?
    } else {
        begin(args, name, &directory, &budget)?
    };
    trainer.set_threads(args.threads, &budget)?;
    let plot = args.plot.as_deref().map(Plot::new).transpose()?;
    let store = Store::open(&directory)?;
    let _lock = match early {
        Some(lock) => Some(lock),
        None => lock(&directory)?,
    };
    let stop = stop_on_signals()?;

    let hyper = trainer.learner().hyper().clone();
    let every = args
        .checkpoint_every
        .unwrap_or_else(|| hyper.n_timesteps.map_or(100_000, |all| (all / 10).max(1)));
    writeln!(
        out,
        "{name}: {} parameters, {} environments, {}, {} of memory, checkpoints in {}",
        grouped(parameters(&trainer)),
        hyper.n_envs,
        threads(trainer.learner().threads()),
        mebibytes(budget.reserved()),
        directory.display()
    )?;
    if let Some(name) = hyper.never_falls() {
        let _ = writeln!(
            io::stderr(),
            "{name} does not fall, as there are no n_timesteps over which it would: --steps gives them"
        );
    }
    let mut show = Show::new(hyper.n_timesteps, trainer.progress().steps);
    let kept = KeptCurve::of(&directory);
    let mut curve = if args.resume {
        kept.read(trainer.progress().steps)
    } else {
        Curve::default()
    };
    let mut due = trainer.progress().steps.saturating_add(every);
    while !trainer.is_done() && !stop.load(Ordering::Relaxed) {
        let statistics = trainer.advance();
        let progress = trainer.progress();
        if let Some(mean) = progress.mean_return() {
            curve.push(progress.steps, mean);
        }
        show.update(progress, &statistics, out)?;
        if progress.undone_in_a_row >= MOST_UNDONE {
            show.finish();
            return Err(format!(
                "{MOST_UNDONE} updates in a row had to be undone, as a loss or a gradient was not finite: what the environment gives cannot be learnt from; the last checkpoint is as it was"
            )
            .into());
        }
        if progress.steps >= due && !trainer.is_done() {
            due = due.saturating_add(every);
            // A full disk may have room again by the next one: training is worth more.
            if let Err(error) = save(&store, &trainer, &kept, &curve, &show) {
                show.warn(&format!("{error}; training goes on"));
            }
        }
    }
    show.finish();
    let saved = save(&store, &trainer, &kept, &curve, &show)?;
    if let Some(plot) = plot {
        plot.write(&trainer, &curve)?;
    }
    let progress = trainer.progress();
    let mean = progress
        .mean_return()
        .map_or("no episode has ended".to_owned(), |mean| {
            format!(
                "mean return {mean:.2} over the last {} episodes",
                progress.returns.len()
            )
        });
    let done = trainer.is_done();
    let word = if done { "done" } else { "stopped" };
    writeln!(
        out,
        "{word} after {} steps: {mean}; saved {}",
        grouped(progress.steps),
        saved.display()
    )?;
    if !done {
        writeln!(out, "--resume goes on from there")?;
    }
    Ok(if done {
        ExitCode::SUCCESS
    } else {
        INTERRUPTED.into()
    })
}

/// Whoever listens may leave, and a full disk take no more lines: training is worth more than what is said of it.
struct Heedless<'a, W>(&'a mut W);

impl<W: Write> Write for Heedless<'_, W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        Ok(self.0.write(buffer).unwrap_or(buffer.len()))
    }

    fn flush(&mut self) -> io::Result<()> {
        let _ = self.0.flush();
        Ok(())
    }
}

fn begin(
    args: &TrainArgs,
    name: &str,
    directory: &Path,
    budget: &MemoryBudget,
) -> Result<Trainer, Box<dyn std::error::Error>> {
    if !Store::at(directory).checkpoints().is_empty() {
        return Err(format!(
            "{} already holds checkpoints: --resume goes on from them, --out names another directory",
            directory.display()
        )
        .into());
    }
    let mut hyper = match &args.config {
        Some(path) => zoo::from_file(path, name)?,
        None => zoo::built_in(name),
    };
    hyper.n_timesteps = args.steps.or(hyper.n_timesteps);
    Ok(Trainer::new(name, hyper, args.seed, budget)?)
}

fn resume(
    args: &TrainArgs,
    name: &str,
    directory: &Path,
    budget: &MemoryBudget,
    out: &mut impl Write,
) -> Result<Trainer, Box<dyn std::error::Error>> {
    let checkpoint = super::find(directory)?;
    let manifest = checkpoint.manifest();
    if manifest.environment != name {
        return Err(format!(
            "{} is a checkpoint of {}, not of {name}",
            checkpoint.path().display(),
            manifest.environment
        )
        .into());
    }
    let trainer = checkpoint.resume(args.steps, budget)?;
    writeln!(out, "resumed {}", checkpoint.path().display())?;
    let instructions = trainer.learner().policy().simd.name();
    if manifest.instructions != instructions {
        let _ = writeln!(
            io::stderr(),
            "it was computed with {} instructions and goes on with {instructions}: the last bits will differ",
            manifest.instructions
        );
    }
    Ok(trainer)
}

/// Set by the first SIGINT or SIGTERM; a second SIGINT ends the process at once.
pub(super) fn stop_on_signals() -> io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    flag::register_conditional_shutdown(SIGINT, INTERRUPTED.into(), Arc::clone(&stop))?;
    flag::register(SIGINT, Arc::clone(&stop))?;
    flag::register(SIGTERM, Arc::clone(&stop))?;
    Ok(stop)
}

/// Held as long as training writes there: two at once would remove each other's files. None if there is no such directory yet, or its file system has
/// no locks.
fn lock(directory: &Path) -> Result<Option<fs::File>, String> {
    let Ok(file) = fs::File::open(directory) else {
        return Ok(None);
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Err(format!(
            "another training writes its checkpoints in {}",
            directory.display()
        )),
        Err(fs::TryLockError::Error(_)) => Ok(None),
    }
}

/// The curve first: of what is newer than the checkpoint that training is resumed from nothing is taken. No checkpoint fails for want of it.
fn save(
    store: &Store,
    trainer: &Trainer,
    kept: &KeptCurve,
    curve: &Curve,
    show: &Show,
) -> Result<PathBuf, Box<dyn std::error::Error>> {
    if let Err(error) = kept.write(curve) {
        show.warn(&format!("{error}; only the learning curve wants it"));
    }
    Ok(store.save(trainer)?)
}

/// A run's curve beside its checkpoints. As one of them it is written under another name, flushed and renamed; what a kill leaves of it is removed with
/// what it leaves of them.
struct KeptCurve {
    path: PathBuf,
    partial: PathBuf,
}

impl KeptCurve {
    fn of(directory: &Path) -> Self {
        Self {
            path: directory.join("curve.json"),
            partial: directory.join(".partial-curve.json"),
        }
    }

    fn write(&self, curve: &Curve) -> Result<(), String> {
        let written = fs::File::create(&self.partial)
            .and_then(|mut file| {
                file.write_all(curve.to_json().as_bytes())?;
                file.sync_all()
            })
            .and_then(|()| fs::rename(&self.partial, &self.path));
        written.map_err(|error| {
            let _ = fs::remove_file(&self.partial);
            format!("cannot write {}: {error}", self.path.display())
        })
    }

    /// The curve up to so many steps. One that cannot be read is not worth training: another begins.
    fn read(&self, steps: u64) -> Curve {
        let json = match fs::read(&self.path) {
            Ok(json) => json,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Curve::default(),
            Err(error) => return self.anew(&error),
        };
        match Curve::from_json(&json) {
            Ok(mut curve) => {
                curve.truncate(steps);
                curve
            }
            Err(error) => self.anew(&error),
        }
    }

    fn anew(&self, error: &dyn std::error::Error) -> Curve {
        let path = self.path.display();
        let _ = writeln!(
            io::stderr(),
            "{path} cannot be used: {error}; the learning curve begins anew"
        );
        Curve::default()
    }
}

/// Where the drawing goes. It is drawn beside its name and then renamed; that this can be done is known before training begins.
struct Plot {
    path: PathBuf,
    partial: PathBuf,
}

impl Plot {
    fn new(path: &Path) -> Result<Self, String> {
        let plot = Self {
            path: path.to_owned(),
            partial: path.with_added_extension("partial"),
        };
        if path.is_dir() {
            return Err(plot.cannot_write(&io::ErrorKind::IsADirectory.into()));
        }
        let tried = fs::File::create(&plot.partial).and_then(|_| fs::remove_file(&plot.partial));
        tried.map_err(|error| plot.cannot_write(&error))?;
        Ok(plot)
    }

    fn cannot_write(&self, error: &io::Error) -> String {
        format!("cannot write {}: {error}", self.path.display())
    }

    fn write(&self, trainer: &Trainer, curve: &Curve) -> Result<(), String> {
        let hyper = trainer.learner().hyper();
        let subtitle = format!(
            "mean return of the last 100 training episodes · seed {} · {} × {} steps, minibatches of {}, {} epochs",
            trainer.seed(),
            hyper.n_envs,
            hyper.n_steps,
            hyper.batch_size,
            hyper.n_epochs
        );
        let svg = curve.to_svg(trainer.environment(), &subtitle);
        let written =
            fs::write(&self.partial, svg).and_then(|()| fs::rename(&self.partial, &self.path));
        written.map_err(|error| {
            let _ = fs::remove_file(&self.partial);
            self.cannot_write(&error)
        })
    }
}

fn parameters(trainer: &Trainer) -> u64 {
    trainer
        .learner()
        .net()
        .named()
        .iter()
        .map(|named| named.at.len() as u64)
        .sum()
}

fn threads(threads: usize) -> String {
    let plural = if threads == 1 { "" } else { "s" };
    format!("{threads} thread{plural}")
}

fn mebibytes(bytes: usize) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
