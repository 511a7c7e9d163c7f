//! Gradients against finite differences, probabilities against counts.

use super::*;
use crate::simd::{Kernel, Simd};

struct Evaluate<'a>(&'a Distribution, Row<'a>, &'a [f32]);

impl Kernel for Evaluate<'_> {
    type Output = Evaluation;

    #[inline(always)]
    fn run<V: Vector>(self) -> Evaluation {
        self.0
            .evaluate::<V>(self.1, self.2, &mut vec![0.0; self.1.head.len()])
    }
}

struct Gradient<'a>(&'a Distribution, Row<'a>, &'a [f32], Evaluation);

impl Kernel for Gradient<'_> {
    type Output = (Vec<f32>, Vec<f32>);

    #[inline(always)]
    fn run<V: Vector>(self) -> (Vec<f32>, Vec<f32>) {
        let Self(distribution, row, action, weights) = self;
        let (mut head, mut log_std) = (vec![0.0; row.head.len()], vec![0.0; row.log_std.len()]);
        distribution.evaluate::<V>(row, action, &mut head);
        distribution.gradient::<V>(row, action, weights, &mut head, &mut log_std);
        (head, log_std)
    }
}

struct Sample<'a>(&'a Distribution, Row<'a>, Draw<'a>, &'a mut [f32]);

impl Kernel for Sample<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<V: Vector>(mut self) -> f32 {
        self.0.draw::<V>(self.1, &mut self.2, self.3)
    }
}

struct Case {
    distribution: Distribution,
    head: Vec<f32>,
    log_std: Vec<f32>,
    mask: Vec<bool>,
    action: Vec<f32>,
}

fn cases() -> Vec<Case> {
    let categorical = |sizes: &[usize], mask: &[bool], action: &[f32]| Case {
        distribution: Distribution::Categorical(sizes.to_vec()),
        head: (0..sizes.iter().sum())
            .map(|i| (i as f32 * 1.7).sin() * 2.0)
            .collect(),
        log_std: vec![],
        mask: mask.to_vec(),
        action: action.to_vec(),
    };
    vec![
        categorical(&[4], &[], &[2.0]),
        categorical(&[3, 2, 5], &[], &[0.0, 1.0, 4.0]),
        categorical(&[4], &[true, false, true, false], &[2.0]),
        categorical(
            &[3, 3],
            &[true, true, false, false, false, true],
            &[1.0, 2.0],
        ),
        Case {
            distribution: Distribution::Gaussian(3),
            head: vec![0.3, -1.0, 2.0],
            log_std: vec![-0.5, 0.0, 0.7],
            mask: vec![],
            action: vec![0.5, 0.5, 0.5],
        },
    ]
}

#[test]
fn gradients_are_finite_differences() {
    let weights = Evaluation {
        log_prob: 0.7,
        entropy: -1.3,
    };
    for simd in Simd::available() {
        for Case {
            distribution,
            head,
            log_std,
            mask,
            action,
        } in cases()
        {
            let value = |head: &[f32], log_std: &[f32]| {
                let row = Row {
                    head,
                    log_std,
                    mask: &mask,
                };
                let Evaluation { log_prob, entropy } =
                    simd.run(Evaluate(&distribution, row, &action));
                f64::from(weights.log_prob) * f64::from(log_prob)
                    + f64::from(weights.entropy) * f64::from(entropy)
            };
            let row = Row {
                head: &head,
                log_std: &log_std,
                mask: &mask,
            };
            let (head_gradient, log_std_gradient) =
                simd.run(Gradient(&distribution, row, &action, weights));
            for (at, gradient) in head_gradient
                .into_iter()
                .chain(log_std_gradient)
                .enumerate()
            {
                let at_distance = |distance: f32| {
                    let (mut head, mut log_std) = (head.clone(), log_std.clone());
                    match at.checked_sub(head.len()) {
                        Some(at) => log_std[at] += distance,
                        None => head[at] += distance,
                    }
                    value(&head, &log_std)
                };
                let difference = (at_distance(5e-3) - at_distance(-5e-3)) / 1e-2;
                assert!(
                    (f64::from(gradient) - difference).abs() < 1e-3,
                    "{} {distribution:?} {at}: {gradient} is {difference}",
                    simd.name()
                );
            }
        }
    }
}

#[test]
fn what_is_drawn_has_the_probability_that_is_said() {
    let simd = Simd::detect();
    for Case {
        distribution,
        head,
        log_std,
        mask,
        action,
    } in cases()
    {
        let row = Row {
            head: &head,
            log_std: &log_std,
            mask: &mask,
        };
        let mut rng = Rng::new(5, 0);
        let mut drawn = action.clone();
        let (draws, mut entropy, mut same) = (100_000, 0.0, 0.0);
        for _ in 0..draws {
            let log_prob = simd.run(Sample(
                &distribution,
                row,
                Draw::Sample(&mut rng),
                &mut drawn,
            ));
            let Evaluation {
                log_prob: again, ..
            } = simd.run(Evaluate(&distribution, row, &drawn));
            assert!((log_prob - again).abs() < 1e-5, "{distribution:?}");
            entropy -= f64::from(log_prob);
            same += if drawn == action { 1.0 } else { 0.0 };
        }
        let evaluation = simd.run(Evaluate(&distribution, row, &action));
        // The entropy is the expectation of −ln π.
        assert!(
            (entropy / f64::from(draws) - f64::from(evaluation.entropy)).abs() < 0.02,
            "{distribution:?}"
        );
        if matches!(distribution, Distribution::Categorical(_)) {
            let expected = f64::from(evaluation.log_prob.exp());
            assert!(
                (same / f64::from(draws) - expected).abs() < 0.01,
                "{distribution:?}"
            );
        }
    }
}

#[test]
fn the_mode_is_the_likeliest_that_is_allowed() {
    let simd = Simd::detect();
    let distribution = Distribution::Categorical(vec![3, 2]);
    let row = Row {
        head: &[5.0, 1.0, 2.0, 0.0, 1.0],
        log_std: &[],
        mask: &[false, true, true, true, true],
    };
    let mut action = [0.0; 2];
    simd.run(Sample(&distribution, row, Draw::Mode, &mut action));
    assert_eq!(action, [2.0, 1.0]);
}
