//! The loss' gradient against finite differences of the loss, for every distribution and option.

use super::*;
use crate::rng::Rng;
use crate::simd::Simd;

const ROWS: usize = 12;

struct Recorded {
    actions: Vec<f32>,
    masks: Vec<bool>,
    log_probs: Vec<f32>,
    values: Vec<f32>,
    advantages: Vec<f32>,
    returns: Vec<f32>,
}

/// What the network put out: logits or means, values, and logarithms of deviations, one after the other.
struct Outputs {
    numbers: Vec<f32>,
    logits: usize,
}

/// The whole loss (equation 9), and its gradient with respect to all outputs.
fn loss(
    simd: Simd,
    distribution: &Distribution,
    settings: Settings,
    recorded: &Recorded,
    outputs: &Outputs,
) -> (f64, Vec<f32>) {
    let (logits, rest) = outputs.numbers.split_at(outputs.logits);
    let (values, log_std) = rest.split_at(ROWS);
    let (mut logits_gradient, mut values_gradient) = (vec![9.0; logits.len()], vec![9.0; ROWS]);
    let mut log_std_gradient = vec![0.0; log_std.len()];
    let sums = simd.run(Loss {
        distribution,
        settings,
        heads: Heads {
            logits,
            logits_gradient: &mut logits_gradient,
            values,
            values_gradient: &mut values_gradient,
        },
        log_std,
        log_std_gradient: &mut log_std_gradient,
        transitions: Transitions {
            actions: &recorded.actions,
            masks: &recorded.masks,
            log_probs: &recorded.log_probs,
            values: &recorded.values,
            advantages: &recorded.advantages,
            returns: &recorded.returns,
        },
    });
    let whole = sums.policy_loss
        + f64::from(settings.ent_coef) * sums.entropy_loss
        + f64::from(settings.vf_coef) * sums.value_loss;
    let gradient = [logits_gradient, values_gradient, log_std_gradient].concat();
    (whole * f64::from(settings.per_row), gradient)
}

fn settings() -> Vec<Settings> {
    let plain = Settings {
        clip_range: 0.2,
        clip_range_vf: None,
        ent_coef: 0.0,
        vf_coef: 0.5,
        advantage: Scale::NONE,
        per_row: 1.0 / ROWS as f32,
    };
    vec![
        plain,
        Settings {
            clip_range_vf: Some(0.3),
            ..plain
        },
        Settings {
            ent_coef: 0.3,
            advantage: Scale {
                mean: 0.2,
                factor: 1.7,
            },
            ..plain
        },
    ]
}

#[test]
fn gradients_are_finite_differences() {
    let distributions = [
        (Distribution::Categorical(vec![4]), false),
        (Distribution::Categorical(vec![3, 2]), false),
        (Distribution::Categorical(vec![3, 3]), true),
        (Distribution::Gaussian(2), false),
    ];
    let mut rng = Rng::new(11, 0);
    for (distribution, masked) in &distributions {
        let (outputs, width) = (distribution.outputs(), distribution.action_width());
        let mut normal = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.normal() as f32).collect() };
        let gaussian = distribution.log_std() > 0;
        let recorded = Recorded {
            actions: if gaussian {
                normal(ROWS * width)
            } else {
                vec![1.0; ROWS * width]
            },
            // The chosen one is allowed, another is not.
            masks: if *masked {
                (0..ROWS * outputs).map(|at| at % 3 != 2).collect()
            } else {
                vec![]
            },
            log_probs: normal(ROWS)
                .iter()
                .map(|x| 0.3 * x - if gaussian { 3.0 } else { 1.2 })
                .collect(),
            values: normal(ROWS),
            advantages: normal(ROWS),
            returns: normal(ROWS),
        };
        let at = Outputs {
            numbers: normal(ROWS * outputs + ROWS + distribution.log_std())
                .iter()
                .map(|x| 0.4 * x)
                .collect(),
            logits: ROWS * outputs,
        };
        for settings in settings() {
            for simd in Simd::available() {
                let (_, gradient) = loss(simd, distribution, settings, &recorded, &at);
                for (n, gradient) in gradient.into_iter().enumerate() {
                    let at_distance = |distance: f32| {
                        let mut numbers = at.numbers.clone();
                        numbers[n] += distance;
                        let outputs = Outputs { numbers, ..at };
                        loss(simd, distribution, settings, &recorded, &outputs).0
                    };
                    let difference = (at_distance(2e-3) - at_distance(-2e-3)) / 4e-3;
                    assert!(
                        (f64::from(gradient) - difference).abs() < 2e-3 * difference.abs().max(0.5),
                        "{} {distribution:?} {settings:?} {n}: {gradient} is {difference}",
                        simd.name()
                    );
                }
            }
        }
    }
}

#[test]
fn what_is_out_of_range_has_no_gradient_in_that_direction() {
    let mut sums = Sums::default();
    struct Policy<'a>(f32, f32, &'a mut Sums);
    impl Kernel for Policy<'_> {
        type Output = (f32, f32);

        #[inline(always)]
        fn run<V: Vector>(self) -> (f32, f32) {
            policy::<V>(self.0, self.1, 0.2, self.2)
        }
    }
    let mut gradient = |ratio: f32, advantage: f32| {
        Simd::detect()
            .run(Policy(ratio.ln(), advantage, &mut sums))
            .1
    };
    assert_eq!(gradient(1.5, 1.0), 0.0);
    assert_eq!(gradient(0.5, -1.0), 0.0);
    assert!((gradient(1.5, -1.0) - 1.5).abs() < 1e-5);
    assert!((gradient(0.5, 1.0) + 0.5).abs() < 1e-5);
    assert!((gradient(1.1, 1.0) + 1.1).abs() < 1e-5);
    assert_eq!(sums.clipped, 4.0);
}

#[test]
fn advantages_are_brought_to_scale_as_a_sample_is() {
    let scale = Scale::standard([1.0, 2.0, 3.0, 6.0].into_iter());
    assert_eq!(scale.mean, 3.0);
    assert!((scale.factor - 1.0 / (14.0f32 / 3.0).sqrt()).abs() < 1e-6);
    assert_eq!(Scale::standard([5.0].into_iter()), Scale::NONE);
}
