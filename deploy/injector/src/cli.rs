//! The command line: `tars-injector serve` and `render`, with the settings that both take.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};

use tars_sidecar::logging;
use tars_sidecar::program::USAGE;

use crate::app::{self, ServeArgs};
use crate::inject::Namespace;
use crate::names::{ENABLED, INJECT};
use crate::render::{self, Output};
use crate::settings::Settings;

/// What `render` exits with when a pod was refused.
const REFUSED: u8 = 1;

/// The whole command line.
#[derive(Clone, Debug, clap::Parser)]
#[command(
    name = "tars-injector",
    version,
    about = "Puts tars-proxy into the pods of labelled namespaces"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Taken before and after the subcommand.
    #[command(flatten)]
    pub settings: Settings,
}

/// What to do.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Serve the webhook until told to stop
    Serve(Box<ServeArgs>),
    /// Show what the webhook would make of manifests, without a cluster
    Render(RenderArgs),
}

/// What `render` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct RenderArgs {
    /// Manifest, YAML or JSON, several documents too; - is the standard input (repeatable)
    #[arg(short = 'f', long, required = true, value_name = "FILE")]
    filename: Vec<PathBuf>,
    /// How the result is written
    #[arg(short, long, default_value = "yaml")]
    output: Output,
    /// Namespace of objects that name none
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// Label of the namespace, such as pod-security.kubernetes.io/enforce=restricted (repeatable); tars.dev/inject=enabled is taken for granted
    #[arg(long, value_name = "NAME=VALUE", value_parser = label)]
    namespace_label: Vec<(String, String)>,
}

fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Runs `serve`.
///
/// # Errors
/// If nothing can be written.
pub fn serve(args: &ServeArgs, settings: &Settings, err: &mut dyn Write) -> io::Result<u8> {
    let log_level = match logging::init(&args.log_level, args.log_format) {
        Ok(log_level) => log_level,
        Err(error) => {
            writeln!(err, "{error}")?;
            return Ok(USAGE);
        }
    };
    match app::run(args, settings.clone(), log_level) {
        Ok(()) => Ok(0),
        Err(error) => {
            writeln!(err, "{error}")?;
            Ok(USAGE)
        }
    }
}

/// Runs `render`: the documents to `out`, what was decided to `err`.
///
/// # Errors
/// If nothing can be written.
pub fn render(
    args: &RenderArgs,
    settings: &Settings,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<u8> {
    let mut documents = Vec::new();
    for file in &args.filename {
        let name = file.display().to_string();
        let read = text(file).map_err(|error| format!("{name}: {error}"));
        match read.and_then(|text| render::read(&name, &text).map_err(|error| error.to_string())) {
            Ok(found) => documents.extend(found),
            Err(error) => {
                writeln!(err, "{error}")?;
                return Ok(USAGE);
            }
        }
    }
    let mut labels = BTreeMap::from([(INJECT.to_owned(), ENABLED.to_owned())]);
    labels.extend(args.namespace_label.iter().cloned());
    let namespace = Namespace {
        name: args.namespace.clone(),
        labels: Some(labels),
    };
    let rendered = render::render(documents, &namespace, settings);
    write!(err, "{rendered}")?;
    match rendered.text(args.output) {
        Ok(text) => out.write_all(text.as_bytes())?,
        Err(error) => {
            writeln!(err, "{error}")?;
            return Ok(USAGE);
        }
    }
    Ok(if rendered.refused { REFUSED } else { 0 })
}

fn text(file: &Path) -> io::Result<String> {
    if file == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    fs::read_to_string(file)
}
