//! Choices: softmax over logits. With several, log-probabilities and entropies add up.

use super::{Draw, Evaluation, Row};
use crate::math::{exp, ln};
use crate::simd::Vector;

/// The log-probability of what a mask forbids: its exponential is zero, and zero times it is zero.
const FORBIDDEN: f32 = -1e8;

/// ln πⱼ = zⱼ − ln Σₖ exp zₖ, the largest logit taken off before.
#[inline(always)]
fn log_softmax<V: Vector>(logits: &[f32], mask: &[bool], log_probs: &mut [f32]) {
    let allowed = |j: usize| mask.is_empty() || mask[j];
    let mut largest = f32::NEG_INFINITY;
    for (j, &logit) in logits.iter().enumerate() {
        if allowed(j) && logit > largest {
            largest = logit;
        }
    }
    let mut sum = 0.0;
    for (j, (log_prob, logit)) in log_probs.iter_mut().zip(logits).enumerate() {
        *log_prob = logit - largest;
        if allowed(j) {
            sum += exp::<V>(*log_prob);
        }
    }
    let log_sum = ln::<V>(sum);
    for (j, log_prob) in log_probs.iter_mut().enumerate() {
        *log_prob = if allowed(j) {
            *log_prob - log_sum
        } else {
            FORBIDDEN
        };
    }
}

/// Calls `each` for every choice with its number, where its logits begin, and their count.
#[inline(always)]
fn choices(sizes: &[usize], mut each: impl FnMut(usize, usize, usize)) {
    let mut start = 0;
    for (choice, &size) in sizes.iter().enumerate() {
        each(choice, start, size);
        start += size;
    }
}

#[inline(always)]
fn part(mask: &[bool], start: usize, size: usize) -> &[bool] {
    if mask.is_empty() {
        mask
    } else {
        &mask[start..start + size]
    }
}

/// The index that an action's number stands for.
#[inline(always)]
fn index(action: f32, size: usize) -> usize {
    (action as usize).min(size - 1)
}

/// By inversion: the first choice whose cumulated probability exceeds a uniform number.
#[inline(always)]
pub(super) fn draw<V: Vector>(
    sizes: &[usize],
    row: Row<'_>,
    draw: &mut Draw<'_>,
    action: &mut [f32],
) -> f32 {
    let mut total = 0.0;
    choices(sizes, |choice, start, size| {
        let (logits, mask) = (&row.head[start..start + size], part(row.mask, start, size));
        let options = || {
            let all = logits.iter().copied().enumerate();
            all.filter(|&(j, _)| mask.is_empty() || mask[j])
        };
        let (likeliest, largest) = options().fold((0, f32::NEG_INFINITY), |best, option| {
            if option.1 > best.1 { option } else { best }
        });
        let weight = |logit: f32| exp::<V>(logit - largest);
        let mut sum = 0.0;
        options().for_each(|(_, logit)| sum += weight(logit));
        let chosen = match draw {
            Draw::Mode => likeliest,
            Draw::Sample(rng) => {
                let threshold = rng.uniform() as f32 * sum;
                let mut cumulated = 0.0;
                let drawn = options().find(|&(_, logit)| {
                    cumulated += weight(logit);
                    cumulated > threshold
                });
                // Rounding may leave the threshold no lower than the last sum.
                drawn.map_or(likeliest, |(j, _)| j)
            }
        };
        action[choice] = chosen as f32;
        total += logits[chosen] - largest - ln::<V>(sum);
    });
    total
}

/// Leaves ln πⱼ in `work`. H = −Σⱼ πⱼ·ln πⱼ.
#[inline(always)]
pub(super) fn evaluate<V: Vector>(
    sizes: &[usize],
    row: Row<'_>,
    action: &[f32],
    work: &mut [f32],
) -> Evaluation {
    let mut sum = Evaluation::default();
    choices(sizes, |choice, start, size| {
        let log_probs = &mut work[start..start + size];
        log_softmax::<V>(
            &row.head[start..start + size],
            part(row.mask, start, size),
            log_probs,
        );
        sum.log_prob += log_probs[index(action[choice], size)];
        for &log_prob in &*log_probs {
            if log_prob > FORBIDDEN {
                sum.entropy -= exp::<V>(log_prob) * log_prob;
            }
        }
    });
    sum
}

/// ∂ ln πₐ/∂zⱼ = [j = a] − πⱼ; ∂H/∂zⱼ = −πⱼ·(ln πⱼ + H).
#[inline(always)]
pub(super) fn gradient<V: Vector>(
    sizes: &[usize],
    action: &[f32],
    weights: Evaluation,
    work: &mut [f32],
) {
    choices(sizes, |choice, start, size| {
        let work = &mut work[start..start + size];
        let prob = |log_prob: f32| {
            if log_prob > FORBIDDEN {
                exp::<V>(log_prob)
            } else {
                0.0
            }
        };
        let entropy: f32 = work
            .iter()
            .map(|&log_prob| -prob(log_prob) * log_prob)
            .sum();
        let chosen = index(action[choice], size);
        for (j, work) in work.iter_mut().enumerate() {
            let (log_prob, prob) = (*work, prob(*work));
            let taken = if j == chosen && log_prob > FORBIDDEN {
                1.0
            } else {
                0.0
            };
            *work =
                weights.log_prob * (taken - prob) - weights.entropy * prob * (log_prob + entropy);
        }
    });
}
