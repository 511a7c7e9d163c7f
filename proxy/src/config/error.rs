//! What is wrong with a configuration, and where.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// Of a sentence, and of a key in it, as many characters are said at each end: what is wrong, and what would be right.
const MAX_END: usize = 300;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// On the command line, by the flag's name: `--workers`.
    Flag(String),
    /// In the environment: `TARS_WORKERS`.
    Variable(String),
    /// In the file.
    File {
        /// As it was given.
        path: Arc<Path>,
        /// From 1; none where the whole file is meant.
        line: Option<usize>,
        /// `limits.max_deliveries`; empty where no key is meant.
        key: String,
    },
    /// Nowhere: the setting of this name has its default.
    Default(&'static str),
}

/// One thing that is wrong: where, what, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub origin: Origin,
    /// What, and what would be right.
    pub message: String,
}

/// Something that is not an error but probably not meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning(pub(super) String);

/// A configuration that cannot be used: everything that is wrong with it, a line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    problems: Vec<Problem>,
}

impl ConfigError {
    /// What the process exits with: `EX_USAGE` of `sysexits.h`.
    pub const EXIT_CODE: u8 = tars_sidecar::program::USAGE;

    /// The error of these problems, in the order flags, environment, file; none if there are none.
    pub(super) fn of(mut problems: Vec<Problem>) -> Result<(), Self> {
        if problems.is_empty() {
            return Ok(());
        }
        problems.sort_by(|a, b| (&a.origin, &a.message).cmp(&(&b.origin, &b.message)));
        problems.dedup();
        Err(Self { problems })
    }

    /// Each thing that is wrong.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            let line_end = if i == 0 { "" } else { "\n" };
            write!(f, "{line_end}{problem}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    /// One line that is not endless, whatever was written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, one_line(&self.message))
    }
}

/// Without control characters; of what is very long, the two ends.
fn one_line(text: &str) -> String {
    let escaped: String = text
        .chars()
        .map(|c| match c.is_control() {
            true => c.escape_default().to_string(),
            false => c.to_string(),
        })
        .collect();
    let ends = escaped
        .char_indices()
        .nth(MAX_END)
        .zip(escaped.char_indices().nth_back(MAX_END));
    match ends {
        Some(((head, _), (tail, _))) if head < tail => {
            format!("{}…{}", &escaped[..head], &escaped[tail..])
        }
        _ => escaped,
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) | Self::Variable(name) => f.write_str(name),
            Self::File { path, line, key } => {
                write!(f, "{}", path.display())?;
                if let Some(line) = line {
                    write!(f, ":{line}")?;
                }
                if !key.is_empty() {
                    write!(f, " {}", one_line(&key.escape_debug().to_string()))?;
                }
                Ok(())
            }
            Self::Default(key) => write!(f, "the default of {key}"),
        }
    }
}
