//! The curve of one run: it is kept beside the run's checkpoints, so that it is whole after a resume.

use serde::{Deserialize, Serialize};

use super::{Chart, Point, Series};

/// So many points at most: with more, every other one is left out.
pub(super) const MOST_POINTS: usize = 2_000;

/// Mean returns over steps. Bounded, however long training lasts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Curve {
    /// Of so many points one is kept.
    stride: usize,
    /// So many there were.
    seen: usize,
    points: Vec<(u64, f64)>,
}

/// A curve that is none.
#[derive(Debug, thiserror::Error)]
pub enum BadCurve {
    /// It is something else.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// Numbers that no run gives.
    #[error("its points are not those of a run")]
    Points,
}

impl Curve {
    /// Adds a point; steps only grow.
    pub fn push(&mut self, steps: u64, mean_return: f64) {
        let stride = self.stride.max(1);
        if self.seen.is_multiple_of(stride) && mean_return.is_finite() {
            self.points.push((steps, mean_return));
        }
        self.seen += 1;
        if self.points.len() > MOST_POINTS {
            let mut at = 0;
            self.points.retain(|_| {
                at += 1;
                at % 2 == 1
            });
            self.stride = stride * 2;
        }
    }

    /// How many points it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.points.len()
    }

    /// Nothing has been added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// Its first and its last point.
    #[must_use]
    pub fn ends(&self) -> Option<((u64, f64), (u64, f64))> {
        Some((*self.points.first()?, *self.points.last()?))
    }

    /// Forgets what came after so many steps.
    pub fn truncate(&mut self, steps: u64) {
        let kept = self.points.partition_point(|point| point.0 <= steps);
        if kept < self.points.len() {
            self.points.truncate(kept);
            self.seen = kept * self.stride.max(1);
        }
    }

    /// What is kept of it in a file.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::json!(self).to_string() + "\n"
    }

    /// The curve in a file.
    ///
    /// # Errors
    /// If there is none.
    pub fn from_json(json: &[u8]) -> Result<Self, BadCurve> {
        let curve: Self = serde_json::from_slice(json)?;
        let rising = curve.points.windows(2).all(|two| two[0].0 < two[1].0);
        if rising && curve.points.len() <= MOST_POINTS {
            Ok(curve)
        } else {
            Err(BadCurve::Points)
        }
    }

    /// The drawing.
    #[must_use]
    pub fn to_svg(&self, title: &str, subtitle: &str) -> String {
        let point = |&(steps, middle): &(u64, f64)| Point {
            steps,
            middle,
            range: (middle, middle),
        };
        Chart {
            title: title.to_owned(),
            subtitle: subtitle.to_owned(),
            series: vec![Series {
                name: String::new(),
                points: self.points.iter().map(point).collect(),
            }],
            levels: Vec::new(),
        }
        .to_svg()
    }
}
