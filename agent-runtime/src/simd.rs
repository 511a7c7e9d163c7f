//! Vector instructions, chosen at run time.
//!
//! A [`Kernel`] is a loop over slices, written against a [`Vector`] or so that the compiler vectorises it. [`Simd::run`] holds it
//! compiled once for each set of instructions and calls the one that this processor has. To call a function that was compiled
//! for instructions which the processor may lack is what Rust calls unsafe; a value of type [`Simd`] is the
//! proof that it may be: one can be had from [`Simd::detect`] and [`Simd::available`] alone.

#![allow(
    unsafe_code,
    reason = "instructions that were detected (docs/adr/0009)"
)]

/// A loop that is compiled once for each set of instructions. All that `run` calls must be `#[inline(always)]`.
pub trait Kernel {
    /// What it gives back.
    type Output;

    /// The loop.
    fn run<V: Vector>(self) -> Self::Output;
}

/// Numbers in one register. Only [`Simd::run`] makes a kernel meet one, after its instructions were detected.
pub trait Vector: Copy + sealed::Sealed {
    /// How many numbers.
    const LANES: usize;
    /// There are 32 registers of them rather than 16.
    const MANY: bool;
    /// A fused multiply-add is one instruction.
    const FMA: bool;

    /// `x` in each lane.
    fn splat(x: f32) -> Self;

    /// The first [`Vector::LANES`] numbers of `from`.
    fn load(from: &[f32]) -> Self;

    /// Into the first [`Vector::LANES`] numbers of `to`.
    fn store(self, to: &mut [f32]);

    /// `self + x`.
    fn add(self, x: Self) -> Self;

    /// `self + a * b`.
    fn add_product(self, a: Self, b: Self) -> Self;

    /// `a * b + c`, fused where that is one instruction; elsewhere the fused form would be a call of a library.
    #[inline(always)]
    #[must_use]
    fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
        if Self::FMA {
            a.mul_add(b, c)
        } else {
            a * b + c
        }
    }
}

mod sealed {
    pub trait Sealed {}
}

/// A set of instructions that this processor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Simd(Level);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    /// What every processor of this architecture has.
    Baseline,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Simd {
    /// The widest set of instructions there is.
    #[must_use]
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("fma")
            {
                return Self(Level::Avx512);
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                return Self(Level::Avx2);
            }
        }
        Self(Level::Baseline)
    }

    /// Every set of instructions there is, the widest last.
    #[must_use]
    pub fn available() -> Vec<Self> {
        let widest = Self::detect();
        let mut all = vec![Self(Level::Baseline)];
        #[cfg(target_arch = "x86_64")]
        if widest == Self(Level::Avx512) {
            all.push(Self(Level::Avx2));
        }
        if widest != Self(Level::Baseline) {
            all.push(widest);
        }
        all
    }

    /// Its name, for a checkpoint's manifest: the same bits come out under the same instructions.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self.0 {
            Level::Baseline => "baseline",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => "avx512",
        }
    }

    /// Runs `kernel`, compiled for these instructions.
    #[inline]
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self.0 {
            Level::Baseline => kernel.run::<Baseline>(),
            // SAFETY: a `Simd` of this level exists only if `detect` found these instructions.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => unsafe { avx2(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => unsafe { avx512(kernel) },
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<x86::Avx2>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,fma")]
fn avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<x86::Avx512>()
}

#[cfg(target_arch = "x86_64")]
use x86::Sse2 as Baseline;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use core::arch::x86_64::*;

    use super::{Vector, sealed::Sealed};

    macro_rules! vector {
        ($name:ident, $register:ty, $lanes:literal, many: $many:literal, fma: $fma:literal,
         $splat:ident, $load:ident, $store:ident, $add:ident, |$sum:ident, $a:ident, $b:ident| $add_product:expr) => {
            #[derive(Clone, Copy)]
            pub(super) struct $name($register);

            impl Sealed for $name {}

            // SAFETY of every block: these instructions were detected, or are part of x86-64, and the pointers come from
            // slices whose length was checked.
            impl Vector for $name {
                const LANES: usize = $lanes;
                const MANY: bool = $many;
                const FMA: bool = $fma;

                #[inline(always)]
                fn splat(x: f32) -> Self {
                    Self(unsafe { $splat(x) })
                }

                #[inline(always)]
                fn load(from: &[f32]) -> Self {
                    Self(unsafe { $load(from[..$lanes].as_ptr()) })
                }

                #[inline(always)]
                fn store(self, to: &mut [f32]) {
                    unsafe { $store(to[..$lanes].as_mut_ptr(), self.0) }
                }

                #[inline(always)]
                fn add(self, x: Self) -> Self {
                    Self(unsafe { $add(self.0, x.0) })
                }

                #[inline(always)]
                fn add_product(self, Self($a): Self, Self($b): Self) -> Self {
                    let $sum = self.0;
                    Self(unsafe { $add_product })
                }
            }
        };
    }

    vector!(Sse2, __m128, 4, many: false, fma: false, _mm_set1_ps, _mm_loadu_ps, _mm_storeu_ps, _mm_add_ps,
            |sum, a, b| _mm_add_ps(sum, _mm_mul_ps(a, b)));
    vector!(Avx2, __m256, 8, many: false, fma: true, _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_add_ps,
            |sum, a, b| _mm256_fmadd_ps(a, b, sum));
    vector!(Avx512, __m512, 16, many: true, fma: true, _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_add_ps,
            |sum, a, b| _mm512_fmadd_ps(a, b, sum));
}

/// What the compiler makes of four numbers.
#[cfg(not(target_arch = "x86_64"))]
#[derive(Clone, Copy)]
struct Baseline([f32; 4]);

#[cfg(not(target_arch = "x86_64"))]
impl sealed::Sealed for Baseline {}

#[cfg(not(target_arch = "x86_64"))]
impl Vector for Baseline {
    const LANES: usize = 4;
    const MANY: bool = cfg!(target_arch = "aarch64");
    const FMA: bool = cfg!(target_arch = "aarch64");

    #[inline(always)]
    fn splat(x: f32) -> Self {
        Self([x; 4])
    }

    #[inline(always)]
    fn load(from: &[f32]) -> Self {
        Self([from[0], from[1], from[2], from[3]])
    }

    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        to[..4].copy_from_slice(&self.0);
    }

    #[inline(always)]
    fn add(self, x: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] + x.0[i]))
    }

    #[inline(always)]
    fn add_product(self, a: Self, b: Self) -> Self {
        Self(std::array::from_fn(|i| {
            Self::multiply_add(a.0[i], b.0[i], self.0[i])
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                sources(&path, found);
            } else {
                found.push(path);
            }
        }
    }

    #[test]
    fn only_this_module_mapping_and_the_allocators_configuration_may_be_unsafe() {
        let mut found = Vec::new();
        sources(
            &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
            &mut found,
        );
        let word = "unsafe_code";
        found.retain(|path| fs::read_to_string(path).expect("a source").contains(word));
        found.sort();
        let names: Vec<_> = found.iter().filter_map(|path| path.file_name()).collect();
        assert_eq!(names, ["main.rs", "mapped.rs", "simd.rs"]);
    }
}
