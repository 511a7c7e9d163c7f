//! Running means and variances, with which observations and rewards are brought to scale, as Stable-Baselines3's `VecNormalize`
//! does it.

/// Added to a variance.
const EPSILON: f64 = 1e-8;
/// No normalised number is larger.
const LIMIT: f64 = 10.0;

/// Mean and variance of all that was seen: Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing
/// Sample Variances", 1979.
#[derive(Clone, Debug, PartialEq)]
pub struct RunningMoments {
    mean: Vec<f64>,
    variance: Vec<f64>,
    count: f64,
}

impl RunningMoments {
    /// Of so many numbers a sample, of which none was seen.
    #[must_use]
    pub fn new(width: usize) -> Self {
        Self {
            mean: vec![0.0; width],
            variance: vec![1.0; width],
            // Stable-Baselines3's, so that the first batch divides by something.
            count: 1e-4,
        }
    }

    /// Those that were saved: mean and variance of each number, and how many samples they are of. None if they cannot be.
    #[must_use]
    pub fn restore(mean: Vec<f64>, variance: Vec<f64>, count: f64) -> Option<Self> {
        let sound = mean.len() == variance.len()
            && mean.iter().all(|x| x.is_finite())
            && variance.iter().all(|x| x.is_finite() && *x >= 0.0)
            && count.is_finite()
            && count > 0.0;
        sound.then_some(Self {
            mean,
            variance,
            count,
        })
    }

    /// What [`RunningMoments::restore`] takes.
    #[must_use]
    pub fn save(&self) -> (&[f64], &[f64], f64) {
        (&self.mean, &self.variance, self.count)
    }

    /// How many numbers a sample has.
    #[must_use]
    pub fn width(&self) -> usize {
        self.mean.len()
    }

    /// Mean and variance of number `at`.
    #[must_use]
    pub fn moments(&self, at: usize) -> (f64, f64) {
        (self.mean[at], self.variance[at])
    }

    /// Takes in a batch of samples, one after the other in `batch`. Numbers that are not finite would never leave again: a batch with one is left out.
    pub fn update(&mut self, batch: &[f32]) {
        let width = self.width();
        if width == 0 || batch.iter().any(|x| !x.is_finite()) {
            return;
        }
        let samples = (batch.len() / width) as f64;
        let total = self.count + samples;
        for at in 0..width {
            let column = || batch.iter().skip(at).step_by(width).map(|&x| f64::from(x));
            let mean = column().sum::<f64>() / samples;
            let variance = column().map(|x| (x - mean) * (x - mean)).sum::<f64>() / samples;
            let delta = mean - self.mean[at];
            let squares = self.variance[at] * self.count
                + variance * samples
                + delta * delta * self.count * samples / total;
            self.mean[at] += delta * samples / total;
            self.variance[at] = squares / total;
        }
        self.count = total;
    }

    /// Brings samples to mean 0 and variance 1, within ±10.
    pub fn normalise(&self, samples: &mut [f32]) {
        for sample in samples.chunks_exact_mut(self.width().max(1)) {
            for ((x, mean), variance) in sample.iter_mut().zip(&self.mean).zip(&self.variance) {
                let scaled = (f64::from(*x) - mean) / (variance + EPSILON).sqrt();
                *x = scaled.clamp(-LIMIT, LIMIT) as f32;
            }
        }
    }
}

/// Rewards divided by the standard deviation of the discounted return.
#[derive(Clone, Debug, PartialEq)]
pub struct RewardScale {
    moments: RunningMoments,
    returns: Vec<f64>,
    gamma: f64,
    batch: Vec<f32>,
}

impl RewardScale {
    /// For so many environments side by side.
    #[must_use]
    pub fn new(environments: usize, gamma: f64) -> Self {
        Self {
            moments: RunningMoments::new(1),
            returns: vec![0.0; environments],
            gamma,
            batch: Vec::with_capacity(environments),
        }
    }

    /// What is saved: the moments of returns, and the returns of the running episodes.
    #[must_use]
    pub fn save(&self) -> (&RunningMoments, &[f64]) {
        (&self.moments, &self.returns)
    }

    /// Takes up what was saved. `false`, and nothing is changed, if it is of another number of environments.
    #[must_use]
    pub fn restore(&mut self, moments: RunningMoments, returns: Vec<f64>) -> bool {
        let fits = moments.width() == 1 && returns.len() == self.returns.len();
        if fits {
            self.moments = moments;
            self.returns = returns;
        }
        fits
    }

    /// Takes in a step of all environments, and scales its rewards to within ±10.
    pub fn step(&mut self, rewards: &mut [f32], ends: &[bool]) {
        self.batch.clear();
        for (sum, reward) in self.returns.iter_mut().zip(&*rewards) {
            *sum = *sum * self.gamma + f64::from(*reward);
            self.batch.push(*sum as f32);
        }
        self.moments.update(&self.batch);
        let scaled = scaled_by(&self.moments);
        for ((sum, reward), end) in self.returns.iter_mut().zip(rewards).zip(ends) {
            *reward = scaled(*reward);
            if *end || !sum.is_finite() {
                *sum = 0.0;
            }
        }
    }
}

/// Divides a reward by the deviation of returns, within ±10.
pub(crate) fn scaled_by(returns: &RunningMoments) -> impl Fn(f32) -> f32 + use<> {
    let deviation = (returns.variance[0] + EPSILON).sqrt();
    move |reward| (f64::from(reward) / deviation).clamp(-LIMIT, LIMIT) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn batches_give_the_moments_of_the_whole() {
        let mut rng = Rng::new(1, 0);
        let samples: Vec<f32> = (0..600)
            .map(|i| (rng.normal() * 3.0 + f64::from(i % 2) * 5.0) as f32)
            .collect();
        let mut running = RunningMoments::new(2);
        samples.chunks(60).for_each(|batch| running.update(batch));
        for at in 0..2 {
            let column: Vec<f64> = samples
                .iter()
                .skip(at)
                .step_by(2)
                .map(|&x| f64::from(x))
                .collect();
            let mean = column.iter().sum::<f64>() / 300.0;
            let variance = column.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / 300.0;
            let (running_mean, running_variance) = running.moments(at);
            assert!((running_mean - mean).abs() < 1e-4);
            assert!((running_variance - variance).abs() < 1e-3);
        }
        let mut far = [1e9, -1e9];
        running.normalise(&mut far);
        assert_eq!(far, [10.0, -10.0]);
    }

    #[test]
    fn what_is_not_finite_leaves_no_trace() {
        let mut running = RunningMoments::new(1);
        running.update(&[1.0, 2.0]);
        let before = running.clone();
        running.update(&[f32::NAN, 2.0]);
        running.update(&[f32::INFINITY]);
        assert_eq!(running, before);
    }

    #[test]
    fn rewards_are_scaled_by_the_deviation_of_returns_which_end_with_episodes() {
        let mut scale = RewardScale::new(1, 0.5);
        let mut rewards = [4.0];
        scale.step(&mut rewards, &[false]);
        scale.step(&mut rewards, &[true]);
        assert_eq!(scale.returns, [0.0]);
        let mut rewards = [4.0];
        scale.step(&mut rewards, &[false]);
        assert_eq!(scale.returns, [4.0]);
        let deviation = scale.moments.variance[0].sqrt();
        assert!((f64::from(rewards[0]) - (4.0 / deviation).min(10.0)).abs() < 1e-5);
    }
}
