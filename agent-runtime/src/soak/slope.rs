//! A slope, and how sure one can be of it.

use serde::Serialize;

/// Samples that follow each other are alike: their means over so many stretches of time hardly are.
const BLOCKS: usize = 24;
/// Student's t for 95 % and `BLOCKS - 2` degrees of freedom, two-sided.
const T: f64 = 2.074;

/// Of a straight line through points: least squares over the means of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Slope {
    /// The slope.
    pub middle: f64,
    /// It is above this ...
    pub low: f64,
    /// ... and below this, with 95 %.
    pub high: f64,
}

impl Slope {
    /// Through these points, of which there must be some for each block: else nothing is known.
    #[must_use]
    pub fn of(points: &[(f64, f64)]) -> Option<Self> {
        let per_block = points.len() / BLOCKS;
        if per_block == 0 {
            return None;
        }
        let mean = |block: &[(f64, f64)]| {
            let sum = block
                .iter()
                .fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
            (sum.0 / block.len() as f64, sum.1 / block.len() as f64)
        };
        let blocks: Vec<_> = points
            .chunks_exact(per_block)
            .take(BLOCKS)
            .map(mean)
            .collect();
        let (x, y) = mean(&blocks);
        let xx: f64 = blocks.iter().map(|point| (point.0 - x).powi(2)).sum();
        let xy: f64 = blocks
            .iter()
            .map(|point| (point.0 - x) * (point.1 - y))
            .sum();
        let middle = xy / xx;
        let error = |point: &(f64, f64)| (point.1 - y - middle * (point.0 - x)).powi(2);
        let variance = blocks.iter().map(error).sum::<f64>() / (BLOCKS - 2) as f64;
        let half = T * (variance / xx).sqrt();
        let slope = Self {
            middle,
            low: middle - half,
            high: middle + half,
        };
        // Points at one place have no slope.
        half.is_finite().then_some(slope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn a_line_in_noise_is_found_nineteen_times_of_twenty() {
        let mut found = 0;
        for seed in 0..200 {
            let mut rng = Rng::new(seed, 0);
            let points: Vec<_> = (0..480)
                .map(|at| (f64::from(at), 3.0 * f64::from(at) + 500.0 * rng.normal()))
                .collect();
            let slope = Slope::of(&points).expect("enough points");
            found += u32::from(slope.low < 3.0 && 3.0 < slope.high);
        }
        assert!((180..=199).contains(&found), "{found} of 200");
    }

    #[test]
    fn of_too_little_nothing_is_known() {
        let line = |points: u32| {
            (0..points)
                .map(|at| (f64::from(at), 1.0))
                .collect::<Vec<_>>()
        };
        assert_eq!(Slope::of(&line(23)), None);
        assert!(Slope::of(&line(24)).is_some());
        assert_eq!(Slope::of(&[(0.0, 1.0); 48]), None);
    }
}
