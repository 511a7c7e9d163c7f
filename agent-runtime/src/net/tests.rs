//! The backward pass against finite differences of the forward pass.

use super::*;

/// A loss that weighs every output of both heads differently.
fn loss(
    net: &Net,
    simd: Simd,
    parameters: &[f32],
    observations: &[f32],
    rows: usize,
    tape: &mut Tape,
) -> f64 {
    net.forward(simd, parameters, observations, rows, tape);
    let mut sum = 0.0;
    for row in 0..rows {
        for output in 0..net.architecture.outputs {
            let y = f64::from(tape.logits()[row * net.logits_stride() + output]);
            sum += weight(row, output) * y * y;
        }
        let y = f64::from(tape.values()[row * net.value_stride()]);
        sum += weight(row, 7) * y * y;
    }
    sum
}

fn weight(row: usize, output: usize) -> f64 {
    0.3 + (row as f64 * 0.7 + output as f64 * 1.3).sin()
}

fn architectures() -> Vec<Architecture> {
    let separate = Architecture {
        inputs: 3,
        outputs: 2,
        log_std: 0,
        shared: vec![],
        policy: vec![20, 5],
        value: vec![17],
        activation: Activation::Tanh,
    };
    let shared = Architecture {
        shared: vec![19, 6],
        policy: vec![],
        value: vec![4],
        ..separate
    };
    let relu = Architecture {
        activation: Activation::Relu,
        ..shared.clone()
    };
    vec![separate, shared, relu]
}

#[test]
fn gradients_are_finite_differences() {
    const ROWS: usize = 9;
    for simd in Simd::available() {
        for architecture in architectures() {
            let budget = MemoryBudget::new(1 << 24);
            let mut rng = Rng::new(3, 0);
            let net = Net::new(architecture);
            let mut parameters = net.initial(&budget, &mut rng, true, 0.0).expect("fits");
            for named in net.named() {
                named
                    .at
                    .iter()
                    .for_each(|&at| parameters[at] += 0.1 * rng.normal() as f32);
            }
            let observations: Vec<f32> = (0..ROWS * 3).map(|_| rng.normal() as f32).collect();
            let mut tape = Tape::new(&net, &budget, ROWS).expect("fits");
            loss(&net, simd, &parameters, &observations, ROWS, &mut tape);
            let (logits_stride, value_stride) = (net.logits_stride(), net.value_stride());
            let heads = tape.heads(ROWS);
            heads.logits_gradient.fill(0.0);
            heads.values_gradient.fill(0.0);
            for row in 0..ROWS {
                for output in 0..net.architecture.outputs {
                    let at = row * logits_stride + output;
                    heads.logits_gradient[at] = 2.0 * weight(row, output) as f32 * heads.logits[at];
                }
                let at = row * value_stride;
                heads.values_gradient[at] = 2.0 * weight(row, 7) as f32 * heads.values[at];
            }
            let mut gradient = vec![0.0; net.parameters()];
            net.backward(
                simd,
                &parameters,
                &observations,
                ROWS,
                &mut tape,
                &mut gradient,
            );

            let mut checked = 0;
            for named in net.named() {
                for at in named.at {
                    let original = parameters[at];
                    let mut at_distance = |distance: f32| {
                        parameters[at] = original + distance;
                        loss(&net, simd, &parameters, &observations, ROWS, &mut tape)
                    };
                    let difference = (at_distance(1e-2) - at_distance(-1e-2)) / 2e-2;
                    parameters[at] = original;
                    let error = (f64::from(gradient[at]) - difference).abs();
                    // A corner of a ReLU within the distance tried.
                    let tolerance = if net.architecture.activation == Activation::Relu {
                        0.1
                    } else {
                        5e-3
                    };
                    assert!(
                        error < tolerance * (1.0 + difference.abs()),
                        "{} {}: {} is {difference}",
                        simd.name(),
                        named.name,
                        gradient[at]
                    );
                    checked += 1;
                }
            }
            let padding = gradient.iter().filter(|&&g| g != 0.0).count();
            assert!(padding <= checked, "padding has a gradient");
        }
    }
}

#[test]
fn one_row_is_as_many() {
    for simd in Simd::available() {
        let budget = MemoryBudget::new(1 << 24);
        let mut rng = Rng::new(3, 0);
        let net = Net::new(architectures().swap_remove(1));
        let parameters = net.initial(&budget, &mut rng, true, 0.0).expect("fits");
        let observations: Vec<f32> = (0..13 * 3).map(|_| rng.normal() as f32).collect();
        let mut many = Tape::inference(&net, &budget, 13).expect("fits");
        net.forward(simd, &parameters, &observations, 13, &mut many);
        let mut one = Tape::inference(&net, &budget, 1).expect("fits");
        for row in 0..13 {
            net.forward(simd, &parameters, &observations[row * 3..], 1, &mut one);
            let stride = net.logits_stride();
            assert_eq!(one.logits(), &many.logits()[row * stride..][..stride]);
        }
    }
}
