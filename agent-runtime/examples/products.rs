//! Own matrix products beside matrixmultiply's: `cargo run --release -p tars-agent --example products` (docs/adr/0009).

#![allow(unsafe_code, reason = "matrixmultiply's interface is raw pointers")]

use std::hint::black_box;
use std::time::Instant;

use tars_agent::gemm::{Gemm, Left};
use tars_agent::simd::Simd;

/// Multiplications and additions in a round, about.
const WORK: usize = 100_000_000;
const ROUNDS: usize = 7;

/// Microseconds of one call: the best round's mean.
fn time(calls: usize, mut call: impl FnMut()) -> f64 {
    let round = |_| {
        let began = Instant::now();
        (0..calls).for_each(|_| call());
        began.elapsed().as_secs_f64() * 1e6 / calls as f64
    };
    (0..ROUNDS).map(round).fold(f64::INFINITY, f64::min)
}

fn main() {
    let simd = Simd::detect();
    println!(
        "| m × k × n, {} | matrixmultiply | own |\n| --- | --- | --- |",
        simd.name()
    );
    for (m, k, n, transposed) in [
        (64, 64, 64, false),
        (64, 64, 64, true),
        (64, 4, 64, false),
        (64, 256, 256, false),
        (1, 64, 64, false),
    ] {
        let numbers =
            |count: usize| -> Vec<f32> { (0..count).map(|at| (at as f32 * 0.37).sin()).collect() };
        let (a, b, mut c) = (numbers(m * k), numbers(k * n), vec![0.0; m * n]);
        let calls = WORK / (m * k * n);
        let own = time(calls, || {
            let a = if transposed {
                Left::Columns {
                    data: &a,
                    stride: m,
                }
            } else {
                Left::Rows {
                    data: &a,
                    stride: k,
                }
            };
            simd.run(Gemm {
                m,
                k,
                n,
                a,
                b: &b,
                c: black_box(&mut c),
                accumulate: false,
            });
        });
        let (row, column) = if transposed { (1, m) } else { (k, 1) };
        let theirs = time(calls, || {
            let c = black_box(&mut c);
            let stride = usize::cast_signed;
            // SAFETY: the matrices are as large as their vectors, and C is of its own.
            unsafe {
                matrixmultiply::sgemm(
                    m,
                    k,
                    n,
                    1.0,
                    a.as_ptr(),
                    stride(row),
                    stride(column),
                    b.as_ptr(),
                    stride(n),
                    1,
                    0.0,
                    c.as_mut_ptr(),
                    stride(n),
                    1,
                );
            }
        });
        let turned = if transposed { ", left transposed" } else { "" };
        println!("| {m} × {k} × {n}{turned} | {theirs:.2} | {own:.2} |");
    }
}
