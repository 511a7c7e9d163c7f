//! The one source of chance: PCG64 (XSL-RR 128/64), after O'Neill, "PCG: A Family of Simple Fast Space-Efficient Statistically
//! Good Algorithms for Random Number Generation", 2014, section 6.3.3.
//!
//! A generator is a seed and a stream. Streams of one seed are independent of each other, so that every environment and every
//! purpose has its own, and neither the number of threads nor the order in which they run changes what is drawn.

/// The multiplier of PCG's 128-bit linear congruential generator.
const MULTIPLIER: u128 = 0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645;

/// A generator of pseudo-random numbers: small, fast, deterministic, and not for secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rng {
    state: u128,
    increment: u128,
}

impl Rng {
    /// The generator of `stream` under `seed`.
    #[must_use]
    pub fn new(seed: u64, stream: u64) -> Self {
        let increment = (u128::from(stream) << 1) | 1;
        let state = increment
            .wrapping_add(u128::from(seed))
            .wrapping_mul(MULTIPLIER);
        Self {
            state: state.wrapping_add(increment),
            increment,
        }
    }

    /// What [`Rng::restore`] takes: state and increment, high halves first.
    #[must_use]
    pub fn save(&self) -> [u64; 4] {
        [
            (self.state >> 64) as u64,
            self.state as u64,
            (self.increment >> 64) as u64,
            self.increment as u64,
        ]
    }

    /// The generator that was saved.
    #[must_use]
    pub fn restore([state_high, state_low, increment_high, increment_low]: [u64; 4]) -> Self {
        let join = |high: u64, low: u64| (u128::from(high) << 64) | u128::from(low);
        Self {
            state: join(state_high, state_low),
            // An even increment would shorten the period.
            increment: join(increment_high, increment_low) | 1,
        }
    }

    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self
            .state
            .wrapping_mul(MULTIPLIER)
            .wrapping_add(self.increment);
        let folded = (self.state >> 64) as u64 ^ self.state as u64;
        folded.rotate_right((self.state >> 122) as u32)
    }

    /// 32 random bits.
    pub fn next_u32(&mut self) -> u32 {
        (self.next_u64() >> 32) as u32
    }

    /// A number in `[0, 1)`, uniform over the multiples of 2⁻⁵³.
    pub fn uniform(&mut self) -> f64 {
        const ULP: f64 = 1.0 / (1u64 << 53) as f64;
        (self.next_u64() >> 11) as f64 * ULP
    }

    /// A whole number in `0..bound`, without bias (Lemire, "Fast Random Integer Generation in an Interval", 2019, algorithm 5).
    ///
    /// # Panics
    /// If `bound` is zero.
    pub fn below(&mut self, bound: u32) -> u32 {
        assert!(bound > 0, "there is no number below zero");
        let mut product = u64::from(self.next_u32()) * u64::from(bound);
        if (product as u32) < bound {
            let threshold = bound.wrapping_neg() % bound;
            while (product as u32) < threshold {
                product = u64::from(self.next_u32()) * u64::from(bound);
            }
        }
        (product >> 32) as u32
    }

    /// A number from the standard normal distribution (Marsaglia's polar method, 1964). The pair's second half is not kept, so
    /// that the state is the generator's alone.
    pub fn normal(&mut self) -> f64 {
        loop {
            let x = 2.0 * self.uniform() - 1.0;
            let y = 2.0 * self.uniform() - 1.0;
            let square = x * x + y * y;
            if square > 0.0 && square < 1.0 {
                return x * (-2.0 * square.ln() / square).sqrt();
            }
        }
    }

    /// Puts `items` into a random order (Fisher and Yates; Durstenfeld, 1964).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u32 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first six numbers of the reference implementation's `pcg64-demo`.
    #[test]
    fn is_pcg64() {
        let mut rng = Rng::new(42, 54);
        let drawn: Vec<u64> = (0..6).map(|_| rng.next_u64()).collect();
        let reference = [
            0x86b1_da1d_7206_2b68,
            0x1304_aa46_c985_3d39,
            0xa367_0e9e_0dd5_0358,
            0xf909_0e52_9a7d_ae00,
            0xc85b_9fd8_3799_6f2c,
            0x6061_21f8_e391_9196,
        ];
        assert_eq!(drawn, reference);
    }

    #[test]
    fn goes_on_where_it_was_saved() {
        let mut rng = Rng::new(7, 3);
        rng.normal();
        let mut again = Rng::restore(rng.save());
        assert_eq!(rng.next_u64(), again.next_u64());
        assert_ne!(Rng::new(7, 3).next_u64(), Rng::new(7, 4).next_u64());
        assert_ne!(Rng::new(7, 3).next_u64(), Rng::new(8, 3).next_u64());
    }

    #[test]
    fn has_the_moments_of_its_distributions() {
        let mut rng = Rng::new(1, 0);
        let n = 200_000;
        let (mut uniform, mut normal, mut square) = (0.0, 0.0, 0.0);
        for _ in 0..n {
            uniform += rng.uniform();
            let z = rng.normal();
            normal += z;
            square += z * z;
        }
        let n = f64::from(n);
        assert!((uniform / n - 0.5).abs() < 0.005);
        assert!((normal / n).abs() < 0.01);
        assert!((square / n - 1.0).abs() < 0.02);
    }

    #[test]
    fn below_is_even() {
        let mut rng = Rng::new(1, 0);
        let mut seen = [0u32; 3];
        for _ in 0..30_000 {
            seen[rng.below(3) as usize] += 1;
        }
        assert!(
            seen.iter().all(|&n| (9_600..10_400).contains(&n)),
            "{seen:?}"
        );
    }
}
