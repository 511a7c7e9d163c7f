//! Numbers that are normally distributed and independent: N(μᵢ, σᵢ²).

use std::f32::consts::{E, TAU};

use super::{Draw, Evaluation, Row};
use crate::math::exp;
use crate::simd::Vector;

/// a = μ + σ·z.
#[inline(always)]
pub(super) fn draw<V: Vector>(row: Row<'_>, draw: &mut Draw<'_>, action: &mut [f32]) -> f32 {
    let half_ln_tau = 0.5 * TAU.ln();
    let mut log_prob = 0.0;
    for ((action, mean), log_std) in action.iter_mut().zip(row.head).zip(row.log_std) {
        *action = match draw {
            Draw::Mode => *mean,
            Draw::Sample(rng) => V::multiply_add(exp::<V>(*log_std), rng.normal() as f32, *mean),
        };
        let z = (*action - mean) * exp::<V>(-log_std);
        log_prob -= 0.5 * z * z + log_std + half_ln_tau;
    }
    log_prob
}

/// ln π(a) = −Σᵢ (zᵢ²/2 + ln σᵢ + ½ ln 2π) with zᵢ = (aᵢ − μᵢ)/σᵢ, which is left in `work`; H = Σᵢ (ln σᵢ + ½ ln 2πe).
#[inline(always)]
pub(super) fn evaluate<V: Vector>(row: Row<'_>, action: &[f32], work: &mut [f32]) -> Evaluation {
    let (half_ln_tau, half_ln_tau_e) = (0.5 * TAU.ln(), 0.5 * (TAU * E).ln());
    let mut sum = Evaluation::default();
    for (((action, mean), log_std), work) in action.iter().zip(row.head).zip(row.log_std).zip(work)
    {
        let z = (action - mean) * exp::<V>(-log_std);
        *work = z;
        sum.log_prob -= 0.5 * z * z + log_std + half_ln_tau;
        sum.entropy += log_std + half_ln_tau_e;
    }
    sum
}

/// ∂ ln π/∂μᵢ = zᵢ/σᵢ; ∂ ln π/∂ ln σᵢ = zᵢ² − 1; ∂H/∂ ln σᵢ = 1.
#[inline(always)]
pub(super) fn gradient<V: Vector>(
    row: Row<'_>,
    weights: Evaluation,
    work: &mut [f32],
    log_std_gradient: &mut [f32],
) {
    for ((work, log_std), gradient) in work.iter_mut().zip(row.log_std).zip(log_std_gradient) {
        let z = *work;
        *gradient += weights.log_prob * (z * z - 1.0) + weights.entropy;
        *work = weights.log_prob * z * exp::<V>(-log_std);
    }
}
