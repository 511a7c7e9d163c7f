//! The log: text or JSON lines on standard error, its filter changeable while the process runs.

use std::env;
use std::fmt;
use std::io::{self, IsTerminal};
use std::str::FromStr;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt as lines, reload};

/// What a line of the log looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people; coloured on a terminal.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(Error::Format(text.to_owned())),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

/// What can be wrong with the log's set-up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A directive that is not one.
    #[error(
        "log level {directive:?}: {reason}; give error, warn, info, debug, trace or off, or a list \
         such as info,tars_sidecar=debug"
    )]
    Filter {
        /// The part of the filter that is wrong.
        directive: String,
        /// Why.
        reason: &'static str,
    },
    /// Not a format.
    #[error("log format {0:?}: give text or json")]
    Format(String),
    /// A process has one log.
    #[error("the log of this process has been set up before")]
    Twice,
    /// The log has gone.
    #[error("the log's filter cannot be changed any more")]
    Gone,
}

/// Sets the log of this process up. `filter` is a level or a list of directives as of [`EnvFilter`].
///
/// # Errors
/// When the filter is not one, or the process has a log.
pub fn init(filter: &str, format: Format) -> Result<LogLevel, Error> {
    let (filter, level) = filter_layer(filter)?;
    let colours =
        io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
    let lines = lines::layer().with_writer(io::stderr);
    let lines = match format {
        Format::Text => lines.with_ansi(colours).boxed(),
        Format::Json => lines.json().flatten_event(true).boxed(),
    };
    let log = tracing_subscriber::registry().with(filter).with(lines);
    log.try_init().map_err(|_| Error::Twice)?;
    Ok(level)
}

type FilterLayer = reload::Layer<EnvFilter, Registry>;

fn filter_layer(filter: &str) -> Result<(FilterLayer, LogLevel), Error> {
    let (layer, handle) = reload::Layer::new(parse(filter)?);
    Ok((layer, LogLevel(handle)))
}

/// The filter of the running log.
#[derive(Clone, Debug)]
pub struct LogLevel(reload::Handle<EnvFilter, Registry>);

impl LogLevel {
    /// The filter of a log that nothing is written to, for tests: a process can [`init`] only one log.
    ///
    /// # Errors
    /// When the filter is not one.
    pub fn detached(filter: &str) -> Result<Self, Error> {
        let (layer, level) = filter_layer(filter)?;
        // The handle alone does not keep the filter.
        std::mem::forget(layer);
        Ok(level)
    }

    /// The filter as it stands.
    ///
    /// # Errors
    /// When the log has gone.
    pub fn get(&self) -> Result<String, Error> {
        self.0
            .with_current(ToString::to_string)
            .map_err(|_| Error::Gone)
    }

    /// Replaces the filter; the one before stays if the new one is wrong.
    ///
    /// # Errors
    /// When the filter is not one, or the log has gone.
    pub fn set(&self, filter: &str) -> Result<(), Error> {
        self.0.reload(parse(filter)?).map_err(|_| Error::Gone)
    }
}

fn parse(filter: &str) -> Result<EnvFilter, Error> {
    let wrong = |directive: &str, reason| Error::Filter {
        directive: directive.to_owned(),
        reason,
    };
    let directives: Vec<&str> = filter
        .split(',')
        .map(str::trim)
        .filter(|one| !one.is_empty())
        .collect();
    if directives.is_empty() {
        return Err(wrong(filter, "it is empty"));
    }
    for directive in &directives {
        // For EnvFilter a lone word that is no level is a target to be shown in full: "wran" would silence the rest.
        let lone_word = !directive.contains(['=', '[']);
        if lone_word && directive.parse::<LevelFilter>().is_err() {
            return Err(wrong(directive, "not a level"));
        }
        if EnvFilter::builder().parse(directive).is_err() {
            return Err(wrong(directive, "not of the form target=level"));
        }
    }
    let parsed = EnvFilter::builder().parse(directives.join(","));
    parsed.map_err(|_| wrong(filter, "not a list of directives"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_filter_changes_while_the_log_runs() {
        let written = Written::default();
        let writer = written.clone();
        let (filter, level) = filter_layer("warn,tars_sidecar=info").unwrap();
        let lines = lines::layer()
            .with_ansi(false)
            .with_writer(move || writer.clone());
        let log = tracing_subscriber::registry().with(filter).with(lines);
        tracing::subscriber::with_default(log, || {
            tracing::debug!("hidden");
            assert!(level.set("nonsense").is_err());
            tracing::info!("shown");
            level.set("debug").unwrap();
            assert_eq!(level.get().unwrap(), "debug");
            tracing::debug!("shown now");
        });
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(
            text.contains(" shown\n") && text.contains("shown now"),
            "{text}"
        );
        assert_eq!(
            level.set("info").unwrap_err().to_string(),
            Error::Gone.to_string()
        );
    }

    #[test]
    fn a_wrong_filter_is_named() {
        for (filter, directive, reason) in [
            ("", "", "empty"),
            ("wran", "wran", "not a level"),
            ("info,tars_proxy", "tars_proxy", "not a level"),
            (" , ", " , ", "empty"),
            (
                "info,tars_proxy=loud",
                "tars_proxy=loud",
                "form target=level",
            ),
            ("info,a=b=c", "a=b=c", "form target=level"),
        ] {
            let error = parse(filter).unwrap_err().to_string();
            assert!(
                error.contains(&format!("{directive:?}")),
                "{filter}: {error}"
            );
            assert!(error.contains(reason), "{filter}: {error}");
            assert!(
                error.contains("info,tars_sidecar=debug"),
                "{filter}: {error}"
            );
        }
        for filter in [
            "info",
            "INFO",
            " off ",
            "info, hyper=off,",
            "info,tars_proxy=debug",
            "warn,tars_proxy[pump]=trace",
        ] {
            parse(filter).unwrap();
        }
    }

    #[test]
    fn formats() {
        for format in [Format::Text, Format::Json] {
            assert_eq!(format.to_string().parse::<Format>().unwrap(), format);
        }
        let error = "xml".parse::<Format>().unwrap_err().to_string();
        assert_eq!(error, "log format \"xml\": give text or json");
    }
}
