//! Products of matrices of the sizes that a policy has.
//!
//! `C ← A·B` or `C ← C + A·B`, row-major, the columns of B and C a multiple of [`LANES`] (networks pad their layers). A tile of
//! C stays in registers while one row of B after the other is multiplied into it (Goto and van de Geijn, "Anatomy of
//! High-Performance Matrix Multiplication", 2008; without their packing, as these matrices fit into the caches).
//! Nothing is allocated.

use crate::simd::{Kernel, Vector};

/// Numbers in the widest vector register, to a multiple of which layers are padded.
pub const LANES: usize = 16;

/// The least multiple of [`LANES`] that holds `columns`.
#[must_use]
pub const fn padded(columns: usize) -> usize {
    columns.next_multiple_of(LANES)
}

/// A matrix to multiply from the left.
#[derive(Clone, Copy, Debug)]
pub enum Left<'a> {
    /// Row `i`, column `p` at `data[i * stride + p]`.
    Rows {
        /// The numbers.
        data: &'a [f32],
        /// From a row to the next.
        stride: usize,
    },
    /// The transpose: row `i`, column `p` at `data[p * stride + i]`.
    Columns {
        /// The numbers.
        data: &'a [f32],
        /// From a column to the next.
        stride: usize,
    },
}

/// One product: A is `m` by `k`, B `k` by `n`, C `m` by `n`.
#[derive(Debug)]
pub struct Gemm<'a> {
    /// Rows of A and C.
    pub m: usize,
    /// Columns of A, rows of B.
    pub k: usize,
    /// Columns of B and C, and from one of their rows to the next: a multiple of [`LANES`].
    pub n: usize,
    /// A.
    pub a: Left<'a>,
    /// B.
    pub b: &'a [f32],
    /// C.
    pub c: &'a mut [f32],
    /// `C + A·B` rather than `A·B`.
    pub accumulate: bool,
}

impl Kernel for Gemm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(mut self) {
        debug_assert!(self.n.is_multiple_of(LANES));
        let mut j = 0;
        // One row has one sum a column: with few columns at once, each addition would wait for the one before.
        while self.m == 1 && j + 8 * V::LANES <= self.n {
            self.tile::<V, 8, 1>(0, j);
            j += 8 * V::LANES;
        }
        while self.m == 1 && j + 4 * V::LANES <= self.n {
            self.tile::<V, 4, 1>(0, j);
            j += 4 * V::LANES;
        }
        while j + 2 * V::LANES <= self.n {
            self.columns::<V, 2>(j);
            j += 2 * V::LANES;
        }
        if j < self.n {
            self.columns::<V, 1>(j);
        }
    }
}

impl Gemm<'_> {
    /// The columns from `j`, `W` vectors wide, in tiles of as many rows as there are registers for their sums.
    #[inline(always)]
    fn columns<V: Vector, const W: usize>(&mut self, j: usize) {
        let mut i = 0;
        while V::MANY && i + 8 <= self.m {
            self.tile::<V, W, 8>(i, j);
            i += 8;
        }
        while i + 4 <= self.m {
            self.tile::<V, W, 4>(i, j);
            i += 4;
        }
        while i < self.m {
            self.tile::<V, W, 1>(i, j);
            i += 1;
        }
    }

    /// `R` rows from `i` of those columns.
    #[inline(always)]
    fn tile<V: Vector, const W: usize, const R: usize>(&mut self, i: usize, j: usize) {
        let (k, n) = (self.k, self.n);
        let mut sums = [[V::splat(0.0); W]; R];
        let rows_of_b = self.b[..k * n].chunks_exact(n);
        match self.a {
            Left::Rows { data, stride } => {
                let rows: [&[f32]; R] = std::array::from_fn(|r| &data[(i + r) * stride..][..k]);
                for (p, row) in rows_of_b.enumerate() {
                    multiply_row(&mut sums, |r| rows[r][p], &row[j..]);
                }
            }
            Left::Columns { data, stride } => {
                for (row, column) in rows_of_b.zip(data.chunks(stride)) {
                    let column = &column[i..][..R];
                    multiply_row(&mut sums, |r| column[r], &row[j..]);
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            let out = &mut self.c[(i + r) * n + j..][..W * V::LANES];
            for (out, &sum) in out.chunks_exact_mut(V::LANES).zip(sums) {
                let sum = if self.accumulate {
                    V::load(out).add(sum)
                } else {
                    sum
                };
                sum.store(out);
            }
        }
    }
}

#[inline(always)]
fn multiply_row<V: Vector, const W: usize, const R: usize>(
    sums: &mut [[V; W]; R],
    column: impl Fn(usize) -> f32,
    row: &[f32],
) {
    let row = &row[..W * V::LANES];
    let row: [V; W] = std::array::from_fn(|w| V::load(&row[w * V::LANES..]));
    for (r, sums) in sums.iter_mut().enumerate() {
        let a = V::splat(column(r));
        for (sum, b) in sums.iter_mut().zip(row) {
            *sum = sum.add_product(a, b);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use crate::simd::Simd;

    #[test]
    fn is_the_sum_of_products_for_every_shape_and_every_set_of_instructions() {
        let mut rng = Rng::new(1, 0);
        let mut random = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.normal() as f32).collect() };
        for (m, k, n) in [
            (1, 1, 16),
            (1, 9, 208),
            (3, 5, 16),
            (8, 4, 32),
            (13, 64, 48),
            (64, 7, 64),
            (21, 33, 80),
        ] {
            let (rows, b, before) = (random(m * k), random(k * n), random(m * n));
            let columns: Vec<f32> = (0..m * k).map(|at| rows[at % m * k + at / m]).collect();
            for simd in Simd::available() {
                for accumulate in [false, true] {
                    for a in [
                        Left::Rows {
                            data: &rows,
                            stride: k,
                        },
                        Left::Columns {
                            data: &columns,
                            stride: m,
                        },
                    ] {
                        let mut c = before.clone();
                        simd.run(Gemm {
                            m,
                            k,
                            n,
                            a,
                            b: &b,
                            c: &mut c,
                            accumulate,
                        });
                        for (at, &c) in c.iter().enumerate() {
                            let (i, j) = (at / n, at % n);
                            let products = (0..k)
                                .map(|p| f64::from(rows[i * k + p]) * f64::from(b[p * n + j]));
                            let exact = products.sum::<f64>()
                                + f64::from(if accumulate { before[at] } else { 0.0 });
                            assert!(
                                (f64::from(c) - exact).abs() < 1e-4,
                                "{} {m}x{k}x{n} at {at}",
                                simd.name()
                            );
                        }
                    }
                }
            }
        }
    }
}
