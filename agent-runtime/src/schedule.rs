//! Hyper-parameters that change as training goes on.

use serde::{Deserialize, Serialize};

/// A number, or one that falls to zero in a straight line over the stated horizon.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Repr", into = "Repr")]
pub enum Schedule {
    /// Always this.
    Constant(f64),
    /// This at first, zero at the horizon; without a horizon, always this. rl-zoo's `lin_0.001`.
    Linear(f64),
}

impl Schedule {
    /// What it is when `remaining` (1 at first, 0 at the end) of the horizon is left.
    #[must_use]
    pub fn at(self, remaining: f64) -> f64 {
        match self {
            Self::Constant(value) => value,
            Self::Linear(value) => value * remaining,
        }
    }

    /// What it is at first.
    #[must_use]
    pub fn initial(self) -> f64 {
        self.at(1.0)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a number, or a text such as \"lin_0.001\""
)]
enum Repr {
    Number(f64),
    Text(String),
}

impl TryFrom<Repr> for Schedule {
    type Error = String;

    fn try_from(repr: Repr) -> Result<Self, String> {
        match repr {
            Repr::Number(value) => Ok(Self::Constant(value)),
            Repr::Text(text) => text
                .strip_prefix("lin_")
                .and_then(|value| value.parse().ok())
                .map(Self::Linear)
                .ok_or_else(|| format!("{text:?} is neither a number nor \"lin_\" and a number")),
        }
    }
}

impl From<Schedule> for Repr {
    fn from(schedule: Schedule) -> Self {
        match schedule {
            Schedule::Constant(value) => Self::Number(value),
            Schedule::Linear(value) => Self::Text(format!("lin_{value}")),
        }
    }
}

/// How much of a horizon is left after `steps`; without one, all of it.
#[must_use]
pub fn remaining(steps: u64, horizon: Option<u64>) -> f64 {
    horizon.map_or(1.0, |horizon| {
        (1.0 - steps as f64 / horizon as f64).max(0.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn falls_over_the_horizon_or_not_at_all() {
        assert_eq!(
            Schedule::Linear(0.2).at(remaining(25, Some(100))),
            0.2 * 0.75
        );
        assert_eq!(Schedule::Linear(0.2).at(remaining(200, Some(100))), 0.0);
        assert_eq!(Schedule::Linear(0.2).at(remaining(25, None)), 0.2);
        assert_eq!(Schedule::Constant(0.2).at(remaining(25, Some(100))), 0.2);
    }

    #[test]
    fn reads_what_rl_zoo_writes() {
        #[derive(Deserialize, Serialize)]
        struct Table {
            rate: Schedule,
        }
        let read = |text: &str| toml::from_str::<Table>(text).map(|table| table.rate);
        assert_eq!(
            read("rate = 0.5").expect("a number"),
            Schedule::Constant(0.5)
        );
        assert_eq!(
            read("rate = \"lin_0.5\"").expect("a line"),
            Schedule::Linear(0.5)
        );
        let error = read("rate = \"log_0.5\"").expect_err("no such schedule");
        assert!(
            error.to_string().contains("neither a number nor"),
            "{error}"
        );
    }
}
