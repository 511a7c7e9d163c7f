//! Flags, environment and file become one configuration.

mod listeners;
mod streams;

use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use super::address::ADMIN_PORT;
use super::error::{ConfigError, Origin, Problem, Warning};
use super::rules::Rules;
use super::source::{Given, Source};
use super::value::{self, Parsed};
use super::{Address, Config, Environment, Flags, Limits, Log, file, names};

/// More threads than any machine has cores.
const MAX_WORKERS: usize = 1024;

/// The tables that counts bound would take hundreds of gigabytes: a slip.
const MAX_COUNT: usize = 1 << 30;

/// What a reload brings.
#[derive(Clone, Debug)]
pub struct Reloaded {
    /// In force at once.
    pub rules: Arc<Rules>,
    /// Settings, by their keys in the file, that differ from what the process runs with and wait for its restart.
    pub restart: Vec<&'static str>,
    /// Probably not meant.
    pub warnings: Vec<Warning>,
}

/// Reads all sources.
///
/// # Errors
/// Everything that is wrong in any of them, also where a stronger source goes over it.
pub fn load(flags: &Flags, env: &Environment) -> Result<(Config, Vec<Warning>), ConfigError> {
    let mut problems = Vec::new();
    let variable = names::variable(names::CONFIG);
    let path = flags
        .config
        .clone()
        .or_else(|| env.get(&variable).map(PathBuf::from));
    let inline = names::variable(names::CONFIG_INLINE);
    let (path, file) = match (path, env.get(&inline)) {
        (Some(path), None) => {
            let file = file::read(&path, &mut problems);
            (Some(path), file)
        }
        (Some(path), Some(_)) => {
            let message = "--config or TARS_CONFIG names a file, too; leave one or the other out";
            problems.push(Problem {
                origin: Origin::Variable(inline),
                message: message.to_owned(),
            });
            (Some(path), Source::default())
        }
        // In errors the variable's name stands where a file's would.
        (None, Some(text)) => {
            let path = PathBuf::from(inline);
            let file = file::parse(&path.as_path().into(), text, &mut problems);
            (Some(path), file)
        }
        (None, None) => (None, Source::default()),
    };
    let (mut config, warnings) = resolve(flags, env, file, problems)?;
    config.file = path;
    Ok((config, warnings))
}

/// As [`load`], where the file, called `F`, says `text`: what tests and fuzz targets drive.
///
/// # Errors
/// Those of [`load`].
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub fn load_text(
    flags: &Flags,
    env: &Environment,
    text: &str,
) -> Result<(Config, Vec<Warning>), ConfigError> {
    let mut problems = Vec::new();
    let path = std::path::Path::new("F").into();
    let file = file::parse(&path, text, &mut problems);
    resolve(flags, env, file, problems)
}

/// What the sources come to, with the problems that the file itself has.
fn resolve(
    flags: &Flags,
    env: &Environment,
    file: Source,
    mut problems: Vec<Problem>,
) -> Result<(Config, Vec<Warning>), ConfigError> {
    let mut loader = Loader {
        flags: flags.source(),
        env: env.source(&mut problems),
        file,
        warnings: env.warnings(),
        problems,
    };
    let config = loader.config(env);
    ConfigError::of(loader.problems)?;
    Ok((config, loader.warnings))
}

/// Reads all sources again, for a process that runs with `current`.
///
/// # Errors
/// As [`load`]; the process keeps what it has.
pub fn reload(flags: &Flags, env: &Environment, current: &Config) -> Result<Reloaded, ConfigError> {
    let (new, warnings) = load(flags, env)?;
    let changes = [
        ("listener", new.listeners != current.listeners),
        ("limits", new.limits != current.limits),
        ("admin", new.admin != current.admin),
        ("workers", new.workers != current.workers),
        ("region", new.region != current.region),
        ("drain_timeout", new.drain_timeout != current.drain_timeout),
        ("no_trace", new.trace != current.trace),
        ("log_level", new.log.level != current.log.level),
        ("log_format", new.log.format != current.log.format),
    ];
    let restart = changes
        .into_iter()
        .filter_map(|(key, changed)| changed.then_some(key))
        .collect();
    Ok(Reloaded {
        rules: new.rules,
        restart,
        warnings,
    })
}

struct Loader {
    flags: Source,
    env: Source,
    file: Source,
    problems: Vec<Problem>,
    warnings: Vec<Warning>,
}

impl Loader {
    fn config(&mut self, env: &Environment) -> Config {
        let default = Config::default();
        let config = Config {
            file: None,
            admin: self
                .setting("admin", address(ADMIN_PORT))
                .unwrap_or(default.admin),
            workers: self
                .setting("workers", |text| value::count(text, 1..=MAX_WORKERS))
                .unwrap_or(default.workers),
            listeners: self.listeners(env),
            service_name: env.service_name().unwrap_or(default.service_name),
            region: self.setting("region", value::name),
            trace: !self
                .setting("no_trace", value::boolean)
                .unwrap_or(!default.trace),
            drain_timeout: self
                .setting("drain_timeout", value::duration)
                .unwrap_or(default.drain_timeout),
            rules: Arc::new(self.rules(env)),
            limits: self.limits(),
            log: Log {
                level: self
                    .setting("log_level", value::log_level)
                    .unwrap_or(default.log.level),
                format: self
                    .setting("log_format", value::choice)
                    .unwrap_or(default.log.format),
            },
        };
        // Only of addresses that were understood: the default in the place of a bad one would meet others by chance.
        if self.problems.is_empty() {
            self.conflicts(&config);
        }
        config
    }

    fn setting<T>(&mut self, key: &str, parse: impl Fn(&str) -> Parsed<T>) -> Option<T> {
        let given = [&self.file, &self.env, &self.flags].map(|source| source.settings.get(key));
        strongest(&mut self.problems, given, parse)
    }

    fn limits(&mut self) -> Limits {
        let default = Limits::default();
        let mut count = |key, least, default| {
            self.setting(key, |text| value::count(text, least..=MAX_COUNT))
                .unwrap_or(default)
        };
        let max_pending_replies = count("max_pending_replies", 1, default.max_pending_replies);
        let limits = Limits {
            max_pending_replies,
            max_deliveries: count("max_deliveries", 1, default.max_deliveries),
            max_connections: count("max_connections", 1, default.max_connections),
            // None at all is a choice here: everything is `other`, and no page of recent traces.
            max_metric_names: count("max_metric_names", 0, default.max_metric_names),
            max_recent_spans: count("max_recent_spans", 0, default.max_recent_spans),
            ..default
        };
        let max_message_bytes = self
            .setting("max_message_bytes", value::size)
            .unwrap_or(default.max_message_bytes);
        let mut total = |key, default| self.setting(key, value::total_size).unwrap_or(default);
        Limits {
            max_message_bytes,
            max_held_bytes: total("max_held_bytes", Limits::held_bytes(max_message_bytes)),
            max_pending_bytes: total(
                "max_pending_bytes",
                Limits::pending_bytes(max_pending_replies),
            ),
            ..limits
        }
    }
}

/// The strongest of these, which come weakest first. All are checked.
fn strongest<'a, T>(
    problems: &mut Vec<Problem>,
    given: impl IntoIterator<Item = Option<&'a Given>>,
    parse: impl Fn(&str) -> Parsed<T>,
) -> Option<T> {
    let mut strongest = None;
    for given in given.into_iter().flatten() {
        match parse(&given.text) {
            Ok(value) => strongest = Some(value),
            Err(message) => problems.push(given.problem(message)),
        }
    }
    strongest
}

/// Reads an address; errors name this port.
fn address(port: u16) -> impl Fn(&str) -> Parsed<Address> {
    move |text| Address::read(text, port).map_err(|error| error.to_string())
}

fn parsed<T: FromStr<Err: Display>>(text: &str) -> Parsed<T> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

#[cfg(test)]
mod tests;
