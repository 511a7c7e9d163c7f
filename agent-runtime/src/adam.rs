//! Adam: Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015, algorithm 1; with the gradient clipped by its norm before (Pascanu, Mikolov and
//! Bengio, "On the Difficulty of Training Recurrent Neural Networks", 2013, algorithm 1). Both in the order of PyTorch's operations.

use crate::memory::{Buffer, Component, MemoryBudget, OverBudget};
use crate::simd::{Kernel, Simd, Vector};

const BETA_1: f32 = 0.9;
const BETA_2: f32 = 0.999;
/// Stable-Baselines3's, which is not PyTorch's default of 1e-8.
const EPSILON: f32 = 1e-5;

/// The optimiser's state.
#[derive(Debug)]
pub struct Adam {
    /// Running mean of the gradient.
    pub mean: Buffer<f32>,
    /// Running mean of its square.
    pub square: Buffer<f32>,
    /// How many steps were taken.
    pub steps: u64,
}

impl Adam {
    /// For so many parameters.
    ///
    /// # Errors
    /// If it does not fit into the budget.
    pub fn new(budget: &MemoryBudget, parameters: usize) -> Result<Self, OverBudget> {
        Ok(Self {
            mean: budget.buffer(Component::Optimizer, parameters, 0.0)?,
            square: budget.buffer(Component::Optimizer, parameters, 0.0)?,
            steps: 0,
        })
    }

    /// One step down `gradient`, multiplied by `scale`.
    pub fn step(
        &mut self,
        simd: Simd,
        parameters: &mut [f32],
        gradient: &[f32],
        scale: f32,
        learning_rate: f64,
    ) {
        self.steps += 1;
        let power = i32::try_from(self.steps).unwrap_or(i32::MAX);
        let correction = |beta: f32| 1.0 - f64::from(beta).powi(power);
        simd.run(Update {
            parameters,
            gradient,
            mean: &mut self.mean,
            square: &mut self.square,
            scale,
            step: (learning_rate / correction(BETA_1)) as f32,
            root: (1.0 / correction(BETA_2).sqrt()) as f32,
        });
    }
}

struct Update<'a> {
    parameters: &'a mut [f32],
    gradient: &'a [f32],
    mean: &'a mut [f32],
    square: &'a mut [f32],
    scale: f32,
    step: f32,
    root: f32,
}

impl Kernel for Update<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let moments = self.mean.iter_mut().zip(self.square);
        for ((parameter, gradient), (mean, square)) in
            self.parameters.iter_mut().zip(self.gradient).zip(moments)
        {
            let gradient = gradient * self.scale;
            *mean = V::multiply_add(gradient - *mean, 1.0 - BETA_1, *mean);
            *square = V::multiply_add(*square, BETA_2, (1.0 - BETA_2) * gradient * gradient);
            *parameter -= self.step * *mean / (square.sqrt() * self.root + EPSILON);
        }
    }
}

/// The Euclidean norm of a vector. The sum has a fixed order: sixteen partial sums, each over every sixteenth number.
#[must_use]
pub fn norm(simd: Simd, vector: &[f32]) -> f64 {
    simd.run(Norm(vector))
}

struct Norm<'a>(&'a [f32]);

impl Kernel for Norm<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<V: Vector>(self) -> f64 {
        let mut sums = [0.0f32; 16];
        let (rows, rest) = self.0.as_chunks::<16>();
        let mut total = 0.0f64;
        // In blocks, so that no f32 sum grows long.
        for block in rows.chunks(64) {
            for row in block {
                for (sum, x) in sums.iter_mut().zip(row) {
                    *sum = V::multiply_add(*x, *x, *sum);
                }
            }
            total += sums.iter().map(|&sum| f64::from(sum)).sum::<f64>();
            sums = [0.0; 16];
        }
        total += rest
            .iter()
            .map(|&x| f64::from(x) * f64::from(x))
            .sum::<f64>();
        total.sqrt()
    }
}

/// What to multiply a gradient of this norm by, so that it is no longer than `limit` (`torch.nn.utils.clip_grad_norm_`).
#[must_use]
pub fn clip(norm: f64, limit: f64) -> f32 {
    (limit / (norm + 1e-6)).min(1.0) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_steps_by_hand() {
        for simd in Simd::available() {
            let budget = MemoryBudget::new(1_000);
            let mut adam = Adam::new(&budget, 1).expect("fits");
            let mut parameters = [1.0];
            // Corrected for their start, mean and root of the first step are the gradient and its size.
            adam.step(simd, &mut parameters, &[0.5], 1.0, 0.1);
            assert!((parameters[0] - (1.0 - 0.1 * 0.5 / 0.50001)).abs() < 1e-6);
            // mean = (0.9·0.05 + 0.1·(-1)) / 0.19; square = (0.999·0.00025 + 0.001) / 0.001999
            let before = parameters[0];
            adam.step(simd, &mut parameters, &[-2.0], 0.5, 0.1);
            let step = 0.1 * (-0.055 / 0.19) / ((0.001_249_75f32 / 0.001_999).sqrt() + 1e-5);
            assert!((parameters[0] - (before - step)).abs() < 1e-6);
        }
    }

    #[test]
    fn the_norm_is_cut_and_never_raised() {
        let vector: Vec<f32> = (0..2_000)
            .map(|i| if i % 2 == 0 { 3.0 } else { 4.0 })
            .collect();
        let exact = (1_000.0f64 * 25.0).sqrt();
        for simd in Simd::available() {
            assert!((norm(simd, &vector) - exact).abs() < 1e-6);
        }
        assert!((f64::from(clip(exact, 0.5)) * exact - 0.5).abs() < 1e-6);
        assert_eq!(clip(0.25, 0.5), 1.0);
    }
}
