//! Weights at first.
//!
//! Orthogonal: Saxe, McClelland and Ganguli, "Exact Solutions to the Nonlinear Dynamics of Learning in Deep Linear
//! Neural Networks", 2013; as `torch.nn.init.orthogonal_` does it.

use crate::rng::Rng;

/// A matrix of `rows` by `columns`, row-major, whose rows (or columns, if there are fewer of these) are orthogonal to each other
/// and `gain` long.
///
/// PyTorch takes Q of the QR decomposition of a Gaussian matrix, with signs such that R's diagonal is positive. That Q is unique,
/// and Gram-Schmidt finds it; each vector is made orthogonal twice, which is enough for working precision (Giraud and others,
/// "The Loss of Orthogonality in the Gram-Schmidt Orthogonalization Process", 2005).
pub(super) fn orthogonal(rng: &mut Rng, rows: usize, columns: usize, gain: f64) -> Vec<f32> {
    let (count, length) = (rows.min(columns), rows.max(columns));
    let mut vectors: Vec<Vec<f64>> = Vec::with_capacity(count);
    while vectors.len() < count {
        let mut vector: Vec<f64> = (0..length).map(|_| rng.normal()).collect();
        for _ in 0..2 {
            for other in &vectors {
                let product = dot(&vector, other);
                for (x, y) in vector.iter_mut().zip(other) {
                    *x -= product * y;
                }
            }
        }
        let norm = dot(&vector, &vector).sqrt();
        vector.iter_mut().for_each(|x| *x /= norm);
        vectors.push(vector);
    }
    let at = |row: usize, column: usize| match rows <= columns {
        true => vectors[row][column],
        false => vectors[column][row],
    };
    (0..rows * columns)
        .map(|index| (gain * at(index / columns, index % columns)) as f32)
        .collect()
}

/// Weights and biases of PyTorch's `Linear`, uniform within ±1/√inputs: He and others, "Delving Deep into Rectifiers", 2015, with PyTorch's a = √5.
pub(super) fn uniform(rng: &mut Rng, inputs: usize) -> f32 {
    ((2.0 * rng.uniform() - 1.0) / (inputs as f64).sqrt()) as f32
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_or_columns_are_orthogonal() {
        for (rows, columns) in [(64, 4), (2, 64), (8, 8)] {
            let matrix = orthogonal(&mut Rng::new(1, 0), rows, columns, 3.0);
            let (count, length) = (rows.min(columns), rows.max(columns));
            let at = |vector: usize, i: usize| match rows <= columns {
                true => matrix[vector * columns + i],
                false => matrix[i * columns + vector],
            };
            for a in 0..count {
                for b in 0..count {
                    let product: f32 = (0..length).map(|i| at(a, i) * at(b, i)).sum();
                    let exact = if a == b { 9.0 } else { 0.0 };
                    assert!(
                        (product - exact).abs() < 1e-4,
                        "{rows}x{columns}: {a}·{b} = {product}"
                    );
                }
            }
        }
    }
}
