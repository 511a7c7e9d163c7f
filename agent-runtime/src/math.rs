//! Elementary functions that the compiler can vectorise, as libm's cannot be. Each states its error, and a test holds it there.

use std::f32::consts::{LN_2, LOG2_E};

use crate::simd::{Kernel, Vector};

/// eˣ, to 2 units in the last place in `[-87, 88]`; beyond it stays at the value there.
///
/// x = n·ln 2 + r, so that eˣ = 2ⁿ·eʳ; eʳ by the polynomial of Cephes' `expf` (Moshier, 1989).
#[inline(always)]
#[must_use]
pub fn exp<V: Vector>(x: f32) -> f32 {
    /// Added to a small number it leaves the nearest integer in the low bits: 1.5·2²³.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts, the first of which n multiplies exactly.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // A NaN must stay one: `clamp` does that, `min` and `max` do not.
    let x = x.clamp(-87.0, 88.0);
    let shifted = V::multiply_add(x, LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = V::multiply_add(n, -LN_2_LOW, V::multiply_add(n, -LN_2_HIGH, x));
    let p = polynomial::<V, 6>(
        r,
        [
            1.987_569_1e-4,
            1.398_199_9e-3,
            8.333_452e-3,
            4.166_579_6e-2,
            1.666_666_5e-1,
            0.5,
        ],
    );
    let exp_r = V::multiply_add(p, r * r, r) + 1.0;
    let two_to_n = f32::from_bits(
        shifted
            .to_bits()
            .wrapping_sub(ROUND.to_bits())
            .wrapping_add(127)
            << 23,
    );
    exp_r * two_to_n
}

/// ln x for positive, normal x: to 1e-7 in `[½, 2]`, elsewhere to 2 units in the last place of the result, or of 1 if that is larger.
///
/// x = 2ⁿ·m with m in `[√½, √2)`; ln m by the polynomial of Cephes' `logf` (Moshier, 1989).
#[inline(always)]
#[must_use]
pub fn ln<V: Vector>(x: f32) -> f32 {
    const SQRT_HALF: u32 = 0x3f35_04f3;
    let offset = x.to_bits().wrapping_sub(SQRT_HALF);
    let n = (offset as i32 >> 23) as f32;
    let m = f32::from_bits((offset & 0x007f_ffff) + SQRT_HALF) - 1.0;
    let p = polynomial::<V, 9>(
        m,
        [
            7.037_683_6e-2,
            -0.115_146_1,
            0.116_769_984,
            -0.124_201_41,
            0.142_493_23,
            -0.166_680_57,
            0.200_007_14,
            -0.249_999_94,
            0.333_333_3,
        ],
    );
    let square = m * m;
    let ln_m = V::multiply_add(square, V::multiply_add(p, m, -0.5), m);
    V::multiply_add(n, LN_2, ln_m)
}

/// tanh x, to 5e-7 everywhere.
///
/// The rational function of degree 13 over 6 that Eigen uses (`generic_fast_tanh_float`), on `[-7.9, 7.9]`, beyond which tanh
/// is ±1 to the last bit but one.
#[inline(always)]
#[must_use]
pub fn tanh<V: Vector>(x: f32) -> f32 {
    let x = x.clamp(-7.905_311, 7.905_311);
    let square = x * x;
    let numerator = polynomial::<V, 7>(
        square,
        [
            -2.760_768_5e-16,
            2.000_188e-13,
            -8.604_672e-11,
            5.122_297e-8,
            1.485_722_4e-5,
            6.372_619_3e-4,
            4.893_524_6e-3,
        ],
    );
    let denominator = polynomial::<V, 4>(
        square,
        [1.198_258_4e-6, 1.185_347_1e-4, 2.268_434_6e-3, 4.893_525e-3],
    );
    x * numerator / denominator
}

/// Horner's scheme, the highest power's coefficient first.
#[inline(always)]
fn polynomial<V: Vector, const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    let mut sum = coefficients[0];
    for &coefficient in &coefficients[1..] {
        sum = V::multiply_add(sum, x, coefficient);
    }
    sum
}

/// A function of one number, for [`Map`].
pub trait Function {
    /// Its value at `x`.
    fn at<V: Vector>(x: f32) -> f32;
}

/// [`exp`].
#[derive(Clone, Copy, Debug)]
pub struct Exp;
/// [`ln`].
#[derive(Clone, Copy, Debug)]
pub struct Ln;
/// [`tanh`].
#[derive(Clone, Copy, Debug)]
pub struct Tanh;

impl Function for Exp {
    #[inline(always)]
    fn at<V: Vector>(x: f32) -> f32 {
        exp::<V>(x)
    }
}

impl Function for Ln {
    #[inline(always)]
    fn at<V: Vector>(x: f32) -> f32 {
        ln::<V>(x)
    }
}

impl Function for Tanh {
    #[inline(always)]
    fn at<V: Vector>(x: f32) -> f32 {
        tanh::<V>(x)
    }
}

/// Replaces each number by the function's value there.
#[derive(Debug)]
pub struct Map<'a, F>(pub &'a mut [f32], pub F);

impl<F: Function> Kernel for Map<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        for x in self.0 {
            *x = F::at::<V>(*x);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Simd;

    /// The largest error of `F` over `steps` numbers from `low` to `high`, on every set of instructions.
    fn largest_error<F: Function + Copy>(
        function: F,
        (low, high): (f64, f64),
        exact: impl Fn(f64) -> f64,
        error: impl Fn(f64, f64) -> f64,
    ) -> f64 {
        let steps = 1_000_000;
        let inputs: Vec<f32> = (0..=steps)
            .map(|i| (low + (high - low) * f64::from(i) / f64::from(steps)) as f32)
            .collect();
        let mut worst = 0.0f64;
        for simd in Simd::available() {
            let mut outputs = inputs.clone();
            simd.run(Map(&mut outputs, function));
            for (x, y) in inputs.iter().zip(outputs) {
                worst = worst.max(error(f64::from(y), exact(f64::from(*x))));
            }
        }
        worst
    }

    fn relative(y: f64, exact: f64) -> f64 {
        ((y - exact) / exact).abs()
    }

    const ULP: f64 = f32::EPSILON as f64;

    #[test]
    fn exp_is_exact_to_two_ulps() {
        let worst = largest_error(Exp, (-87.0, 88.0), f64::exp, relative);
        assert!(worst < 2.0 * ULP, "{worst:e}");
    }

    #[test]
    fn ln_is_exact_to_two_ulps() {
        let worst = largest_error(Ln, (1e-6, 1e3), f64::ln, |y, exact| {
            (y - exact).abs() / exact.abs().max(1.0)
        });
        assert!(worst < 2.0 * ULP, "{worst:e}");
        let near = largest_error(Ln, (0.5, 2.0), f64::ln, |y, exact| (y - exact).abs());
        assert!(near < 1e-7, "{near:e}");
    }

    #[test]
    fn tanh_is_exact_to_5e_7() {
        let worst = largest_error(Tanh, (-20.0, 20.0), f64::tanh, |y, exact| (y - exact).abs());
        assert!(worst < 5e-7, "{worst:e}");
        let small = largest_error(Tanh, (1e-6, 1e-2), f64::tanh, relative);
        assert!(small < 4.0 * ULP, "{small:e}");
    }

    #[test]
    fn what_is_not_a_number_stays_so() {
        for simd in Simd::available() {
            let mut xs = [f32::NAN; 32];
            simd.run(Map(&mut xs, Tanh));
            assert!(xs.iter().all(|x| x.is_nan()));
            let mut xs = [f32::NAN; 32];
            simd.run(Map(&mut xs, Exp));
            assert!(xs.iter().all(|x| x.is_nan()));
        }
    }
}
