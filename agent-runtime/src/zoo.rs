//! Hyper-parameters of environments: those that come with the program, and files.
//!
//! A file is TOML with one table an environment, keys as in [`HyperParameters`]; what is not given is Stable-Baselines3's default.

use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::de::Error as _;

use crate::env::{self, UnknownEnvironment};
use crate::hyper::HyperParameters;

/// Those that come with the program.
const BUILT_IN: [&str; 5] = [
    include_str!("../zoo/cartpole.toml"),
    include_str!("../zoo/acrobot.toml"),
    include_str!("../zoo/mountaincar.toml"),
    include_str!("../zoo/pendulum.toml"),
    include_str!("../zoo/stream-steering.toml"),
];

/// A file that says nothing usable.
#[derive(Debug, thiserror::Error)]
pub enum BadZoo {
    /// It cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It is no TOML, or holds something unknown.
    #[error("{}: {message}", path.display())]
    Toml {
        /// Its path.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// It has no table for this environment.
    #[error("{} has no table [{name:?}]", path.display())]
    Missing {
        /// Its path.
        path: PathBuf,
        /// The environment.
        name: &'static str,
    },
    /// There is no such environment at all.
    #[error(transparent)]
    Environment(#[from] UnknownEnvironment),
}

/// The hyper-parameters that come with the program for this environment; Stable-Baselines3's defaults if there are none.
#[must_use]
pub fn built_in(name: &str) -> HyperParameters {
    let find = |text: &&str| parse(text, name).ok().flatten();
    BUILT_IN.iter().find_map(find).unwrap_or_default()
}

/// Those that a file has for this environment.
///
/// # Errors
/// If it has none, or they cannot be read.
pub fn from_file(path: &Path, name: &str) -> Result<HyperParameters, BadZoo> {
    let name = env::full_name(name)?;
    let path_of = || path.to_owned();
    let text = fs::read_to_string(path).map_err(|error| BadZoo::File {
        path: path_of(),
        error,
    })?;
    let found = parse(&text, name).map_err(|error| BadZoo::Toml {
        path: path_of(),
        message: error.message().trim_end().replace('\n', " "),
    })?;
    found.ok_or_else(|| BadZoo::Missing {
        path: path_of(),
        name,
    })
}

fn parse(text: &str, name: &str) -> Result<Option<HyperParameters>, toml::de::Error> {
    let tables: toml::Table = toml::from_str(text)?;
    for (table, hyper) in tables {
        let full = env::full_name(&table).map_err(toml::de::Error::custom)?;
        if full == name {
            return hyper.try_into().map(Some);
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_with_the_program_makes_sense() {
        let mut built_in_ones = 0;
        for name in env::NAMES {
            let hyper = built_in(name);
            hyper.validate().expect(name);
            built_in_ones += usize::from(hyper != HyperParameters::default());
        }
        assert_eq!(built_in_ones, BUILT_IN.len());
        assert_eq!(built_in("CartPole-v1").n_epochs, 20);
    }

    #[test]
    fn what_a_file_says_wrong_is_said_in_one_sentence() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("zoo.toml");
        let message = |text: &str| {
            fs::write(&path, text).expect("written");
            let error = from_file(&path, "cartpole").expect_err(text).to_string();
            error.split_once("zoo.toml").expect("its name").1.to_owned()
        };
        assert_eq!(message("[Pendulum-v1]"), " has no table [\"CartPole-v1\"]");
        assert!(
            message("[CartPole-v1]\ngama = 0.9")
                .starts_with(": unknown field `gama`, expected one of")
        );
        assert!(
            message("[CartPole-v1]\nlearning_rate = \"sin_1\"")
                .contains("neither a number nor \"lin_\"")
        );
        assert!(message("[CartPool]").contains("the nearest is \"CartPole-v1\""));
        assert!(message("][").starts_with(": "));
    }
}
