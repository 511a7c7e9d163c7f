//! Spaces as people write them down, named as in Gymnasium, and values of these spaces as JSON brings them.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::numbers::Numbers;
use crate::env::Space;

/// Numbers of one observation, or outputs of one action, at most: what is larger is a mistake, or an attack.
pub const MOST_NUMBERS: usize = 1 << 20;
/// The farthest from zero that a number of a Discrete space may be: up to here 32-bit floats are whole numbers.
const MOST_START: u64 = 1 << 24;
/// Dimensions of a Box at most.
const MOST_DIMENSIONS: usize = 8;

/// A space, as in `{"type": "Box", "shape": [4], "low": -1, "high": 1}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    tag = "type",
    deny_unknown_fields,
    expecting = "a space: an object with a type, such as {\"type\": \"Box\", \"shape\": [4]}"
)]
pub enum SpaceSpec {
    /// Real numbers, flattened in C order.
    Box {
        /// How many along each dimension.
        shape: Vec<usize>,
        /// The least value of all, or of each; not given, or null: unbounded.
        #[serde(default, skip_serializing_if = "Bound::is_none")]
        low: Bound,
        /// The greatest, likewise.
        #[serde(default, skip_serializing_if = "Bound::is_none")]
        high: Bound,
    },
    /// One whole number of `start` to `start + n - 1`.
    Discrete {
        /// How many.
        n: usize,
        /// The least.
        #[serde(default, skip_serializing_if = "is_zero")]
        start: i64,
    },
    /// Several whole numbers, each from zero to below its own bound.
    MultiDiscrete {
        /// The bounds.
        nvec: Vec<usize>,
    },
    /// So many zeros and ones.
    MultiBinary {
        /// How many.
        n: usize,
    },
}

/// A bound of a Box.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected low and high of a Box to be a number, an array of numbers and nulls, or null"
)]
pub enum Bound {
    /// There is none.
    #[default]
    None,
    /// The same for every number.
    All(f32),
    /// One for each number; null: none.
    Each(Vec<Option<f32>>),
}

impl Bound {
    fn is_none(&self) -> bool {
        *self == Self::None
    }

    fn numbers(&self, count: usize, unbounded: f32) -> Option<Vec<f32>> {
        match self {
            Self::None => Some(vec![unbounded; count]),
            Self::All(bound) => Some(vec![*bound; count]),
            Self::Each(bounds) if bounds.len() == count => Some(
                bounds
                    .iter()
                    .map(|bound| bound.unwrap_or(unbounded))
                    .collect(),
            ),
            Self::Each(_) => None,
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's")]
fn is_zero(n: &i64) -> bool {
    *n == 0
}

/// A space that makes no sense, or more than there is room for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadSpace(String);

impl SpaceSpec {
    /// The space. Nothing is allocated before its size is known to be sane.
    ///
    /// # Errors
    /// A sentence that says what would be right.
    pub fn space(&self) -> Result<Space, BadSpace> {
        let bad = |sentence: String| Err(BadSpace(sentence));
        match self {
            Self::Box { shape, low, high } => {
                let count = shape
                    .iter()
                    .try_fold(1usize, |product, n| product.checked_mul(*n));
                let count = count.filter(|count| (1..=MOST_NUMBERS).contains(count));
                let Some(count) = count.filter(|_| shape.len() <= MOST_DIMENSIONS) else {
                    return bad(format!(
                        "the shape of a Box must have at most {MOST_DIMENSIONS} dimensions and 1 to {MOST_NUMBERS} numbers in all"
                    ));
                };
                let (low, high) = (
                    low.numbers(count, f32::NEG_INFINITY),
                    high.numbers(count, f32::INFINITY),
                );
                let (Some(low), Some(high)) = (low, high) else {
                    return bad(format!(
                        "low and high of this Box must be a number, or {count} of them"
                    ));
                };
                if low
                    .iter()
                    .zip(&high)
                    .any(|(low, high)| low.partial_cmp(high) != Some(Ordering::Less))
                {
                    return bad("low must be below high in a Box".to_owned());
                }
                Ok(Space::Box { low, high })
            }
            Self::Discrete { n, .. } if *n == 0 || *n > MOST_NUMBERS => bad(format!(
                "n of a Discrete space must be between 1 and {MOST_NUMBERS}"
            )),
            Self::Discrete { n, start }
                if start.unsigned_abs() > MOST_START
                    || start.saturating_add_unsigned(*n as u64) > MOST_START as i64 =>
            {
                bad(format!(
                    "the numbers of a Discrete space must be between -{MOST_START} and {MOST_START}: these begin at {start}"
                ))
            }
            Self::Discrete { n, .. } => Ok(Space::Discrete(*n)),
            Self::MultiDiscrete { nvec } => {
                let sum = nvec.iter().try_fold(0usize, |sum, n| sum.checked_add(*n));
                if nvec.is_empty() || nvec.contains(&0) || sum.is_none_or(|sum| sum > MOST_NUMBERS)
                {
                    return bad(format!(
                        "nvec of a MultiDiscrete space must have at least one bound, each at least 1, and at most {MOST_NUMBERS} in all"
                    ));
                }
                Ok(Space::MultiDiscrete(nvec.clone()))
            }
            Self::MultiBinary { n } if *n == 0 || *n > MOST_NUMBERS / 2 => bad(format!(
                "n of a MultiBinary space must be between 1 and {}",
                MOST_NUMBERS / 2
            )),
            Self::MultiBinary { n } => Ok(Space::MultiBinary(*n)),
        }
    }

    /// What is added to an index of this space: only that of a Discrete space may begin elsewhere than at zero.
    #[must_use]
    pub fn start(&self) -> i64 {
        match self {
            Self::Discrete { start, .. } => *start,
            _ => 0,
        }
    }
}

/// Whether `values` are values of this space, row by row, which `name` names: as many numbers as they must be, whole and below their bounds where they are indices.
/// `start` is what has been [taken](shift) from those of a Discrete space. Those of a Box may lie beyond its bounds, as Gymnasium's own sometimes do, and a Gaussian's always may; but they are finite.
///
/// # Errors
/// A sentence that says what was expected.
pub fn check(
    space: &Space,
    start: i64,
    name: impl Fn(usize) -> String,
    rows: usize,
    values: &[f32],
) -> Result<(), String> {
    let width = space.width();
    if values.len() != rows * width {
        return Err(format!(
            "{}: expected {width} numbers for each of {rows}, found {} in all",
            name(0),
            values.len()
        ));
    }
    let index_below = |bound: usize, x: f32| x >= 0.0 && x < bound as f32 && x.fract() == 0.0;
    for (at, row) in values.chunks_exact(width).enumerate() {
        let mut numbers = row.iter().copied();
        let wrong = match space {
            Space::Box { .. } => numbers
                .find(|x| !x.is_finite())
                .map(|x| (x, "a finite number".to_owned())),
            Space::Discrete(n) => numbers.find(|x| !index_below(*n, *x)).map(|x| {
                let last = start + (*n as i64 - 1);
                (x, format!("a whole number from {start} to {last}"))
            }),
            Space::MultiDiscrete(nvec) => numbers
                .zip(nvec)
                .find(|(x, n)| !index_below(**n, *x))
                .map(|(x, n)| (x, format!("a whole number from 0 to {}", n - 1))),
            Space::MultiBinary(_) => numbers
                .find(|x| !index_below(2, *x))
                .map(|x| (x, "0 or 1".to_owned())),
        };
        if let Some((x, expected)) = wrong {
            let found = x + start as f32;
            return Err(format!("{}: expected {expected}, found {found}", name(at)));
        }
    }
    Ok(())
}

/// Observations of a Discrete space may begin elsewhere than at zero.
pub fn shift(spec: &SpaceSpec, values: &mut Numbers) {
    let start = spec.start();
    if start != 0 {
        for x in &mut values.0 {
            *x -= start as f32;
        }
    }
}
