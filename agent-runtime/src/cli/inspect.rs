//! `tars-agent eval` and `tars-agent inspect`.

use std::io::Write;
use std::process::ExitCode;

use serde_json::json;

use super::show::grouped;
use super::{EvalArgs, InspectArgs, Outcome, find};
use crate::checkpoint::ActionKind;
use crate::hyper::HyperParameters;
use crate::memory::MemoryBudget;
use crate::train::evaluate;

/// What the network's outputs for all episodes may take.
const EVALUATION: usize = 1 << 30;

pub(super) fn eval(args: &EvalArgs, out: &mut impl Write) -> Outcome {
    let checkpoint = find(&args.checkpoint)?;
    let loaded = checkpoint.policy()?;
    let manifest = checkpoint.manifest();
    let budget = MemoryBudget::new(EVALUATION);
    let episodes = args.episodes as usize;
    let returns = evaluate(
        &manifest.environment,
        loaded.policy(),
        loaded.normaliser(),
        episodes,
        args.seed,
        &budget,
    )?;
    let count = returns.len() as f64;
    let mean = returns.iter().sum::<f64>() / count;
    let deviation = (returns.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count).sqrt();
    let (low, high) = returns
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &x| {
            (low.min(x), high.max(x))
        });
    if args.json {
        let answer = json!({
            "checkpoint": checkpoint.path(), "environment": manifest.environment, "steps": manifest.steps,
            "episodes": args.episodes, "mean": mean, "deviation": deviation, "min": low, "max": high,
        });
        writeln!(out, "{answer}")?;
    } else {
        writeln!(
            out,
            "{} after {} steps: mean return {mean:.2} ± {deviation:.2}, from {low:.2} to {high:.2}, over {} episodes",
            manifest.environment,
            grouped(manifest.steps),
            args.episodes
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn run(args: &InspectArgs, out: &mut impl Write) -> Outcome {
    let checkpoint = find(&args.checkpoint)?;
    let manifest = checkpoint.manifest();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(manifest)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let loaded = checkpoint.policy()?;
    let net = loaded.policy().net;
    let parameters: usize = net.named().iter().map(|named| named.at.len()).sum();
    let actions = match &manifest.actions {
        ActionKind::Categorical(sizes) => format!("a choice among {}", list(sizes, " and ")),
        ActionKind::Gaussian(width) => format!("{width} real numbers"),
    };
    let hyper = &manifest.hyperparameters;
    let trunk = |widths: &[usize]| {
        if widths.is_empty() {
            "none".to_owned()
        } else {
            list(widths, "-")
        }
    };
    let mean = manifest.mean_return.map_or("none".to_owned(), |mean| {
        format!("{mean:.2} over {} episodes", manifest.window)
    });
    writeln!(out, "checkpoint    {}", checkpoint.path().display())?;
    writeln!(
        out,
        "environment   {}: {} inputs, {actions}",
        manifest.environment, manifest.inputs
    )?;
    writeln!(out, "mean return   {mean}")?;
    writeln!(
        out,
        "training      {} steps, {} updates ({} undone), {} episodes, seed {}",
        grouped(manifest.steps),
        grouped(manifest.updates),
        manifest.undone,
        grouped(manifest.episodes),
        manifest.seed
    )?;
    writeln!(
        out,
        "network       {} parameters; shared {}, policy {}, value {}",
        grouped(parameters as u64),
        trunk(&hyper.shared),
        trunk(&hyper.policy),
        trunk(hyper.value())
    )?;
    writeln!(
        out,
        "written by    tars-agent {}, {} instructions",
        manifest.version, manifest.instructions
    )?;
    for (name, file) in &manifest.files {
        writeln!(
            out,
            "file          {name}: {} bytes, CRC-32 {}, intact",
            grouped(file.bytes as u64),
            file.crc32
        )?;
    }
    for (name, value) in changed(hyper)? {
        writeln!(out, "{name:<13} {value}")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Hyper-parameters that are not the defaults.
fn changed(hyper: &HyperParameters) -> Result<Vec<(String, serde_json::Value)>, serde_json::Error> {
    let (ours, defaults) = (
        serde_json::to_value(hyper)?,
        serde_json::to_value(HyperParameters::default())?,
    );
    let ours = ours.as_object().cloned().unwrap_or_default();
    Ok(ours
        .into_iter()
        .filter(|(name, value)| defaults.get(name) != Some(value))
        .collect())
}

fn list(numbers: &[usize], between: &str) -> String {
    numbers
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(between)
}
