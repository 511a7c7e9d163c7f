//! `soak`: two days of a service in half an hour.

use std::io::{IsTerminal as _, Write};
use std::process::ExitCode;
use std::sync::atomic::Ordering::Relaxed;

use super::train::stop_on_signals;
use super::{Outcome, SoakArgs};
use crate::soak::{self, Plan, Sample};

/// Of hours, and of times faster.
const MOST: f64 = 1e6;

pub(super) fn run(args: &SoakArgs, out: &mut impl Write) -> Outcome {
    let plan = Plan {
        hours: above_zero("hours", args.hours)?,
        speed: above_zero("speed", args.speed)?,
        out: args.out.clone(),
    };
    let stop = stop_on_signals()?;
    let terminal = std::io::stderr().is_terminal();
    let mut said = 0.0;
    let progress = |sample: &Sample, hours: f64| {
        // On a terminal always, otherwise twenty lines in all.
        if terminal || sample.hours >= said {
            let end = if terminal { '\r' } else { '\n' };
            let resident = sample.resident as f64 / 1e6;
            let _ = write!(
                std::io::stderr(),
                "{:6.2} of {hours} hours: {resident:.1} MB resident{end}",
                sample.hours
            );
            said += hours / 20.0;
        }
    };
    let verdict = soak::run(&plan, &stop, progress)?;
    writeln!(out, "{}", serde_json::to_string_pretty(&verdict)?)?;
    if stop.load(Relaxed) {
        return Ok(130.into());
    }
    if verdict.failures.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    Err(verdict.failures.join("; ").into())
}

/// A number that everything computed from it can be written down.
fn above_zero(flag: &str, number: f64) -> Result<f64, String> {
    if number > 0.0 && number <= MOST {
        return Ok(number);
    }
    Err(format!(
        "--{flag}: expected a number above zero and up to {MOST}, found {number}"
    ))
}
