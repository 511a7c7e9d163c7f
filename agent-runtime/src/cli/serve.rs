//! `serve`: agents as a service.

use std::process::ExitCode;

use super::Outcome;
use crate::service::app;
use crate::service::config::Config;

pub(super) fn run(config: Config) -> Outcome {
    app::run(config)?;
    Ok(ExitCode::SUCCESS)
}
