//! Tables of how cost grows with size.

use super::{number, table, text};
use crate::contender::Contender;
use crate::linear::Axis;
use crate::measured::{Curve, Point, Spread};

/// So far may an exponent be from 1 and still be called linear: a hundred times the size costs 79 to 126 times as much.
pub(super) const TOLERANCE: f64 = 0.05;

/// What is said of an exponent.
fn verdict(exponent: f64) -> &'static str {
    if exponent > 1.0 + TOLERANCE {
        "**more than linear**"
    } else if exponent < 1.0 - TOLERANCE {
        "less than linear"
    } else {
        "linear"
    }
}

/// All exponents.
pub(super) fn exponents(curves: &[Curve]) -> String {
    let head = ["work", "contender", "exponent", "steepest step", ""].map(str::to_owned);
    let rows = curves.iter().flat_map(|curve| {
        curve.points.keys().filter_map(|&contender| {
            let (exponent, steepest) = (curve.exponent(contender)?, curve.steepest(contender)?);
            Some(vec![
                curve.series.title(),
                contender.name().to_owned(),
                text(exponent, 2),
                text(steepest, 2),
                verdict(exponent.median).to_owned(),
            ])
        })
    });
    table(&head, rows)
}

/// Every size of a curve.
pub(super) fn sizes(curve: &Curve) -> String {
    let series = &curve.series;
    let connections = series.axis == Axis::Connections;
    let traced = curve.points.values().flatten().flatten();
    let traced = traced.into_iter().any(|point| point.exported.is_some());
    let mut head = vec![
        "size".to_owned(),
        "contender".to_owned(),
        format!("CPU us/{}", series.unit()),
        "peak MB".to_owned(),
    ];
    if connections {
        head.extend(["CPU us to open one", "open and idle MB", "bytes each"].map(str::to_owned));
    }
    if traced {
        head.push("spans exported %".to_owned());
    }
    let rows = series.sizes.iter().enumerate().flat_map(|(n, &size)| {
        curve.points.keys().map(move |&contender| {
            let cell = |figure: fn(&Point) -> f64, digits| {
                shown(curve.spread(contender, n, figure), digits)
            };
            let mut row = vec![
                series.size(size),
                contender.name().to_owned(),
                cell(|point| point.cpu_micros, digits(series.axis)),
                cell(|point| point.peak as f64 / 1e6, 1),
            ];
            if connections {
                row.push(cell(|point| point.opened_micros, 0));
                row.push(cell(|point| point.open as f64 / 1e6, 1));
                // Of fewer the kernel's pages are all that would be seen.
                row.push(if size < 1_000 {
                    String::new()
                } else {
                    shown(curve.spread(contender, n, Point::per_connection), 0)
                });
            }
            if traced {
                row.push(shown(exported(curve, contender, n), 0));
            }
            row
        })
    });
    table(&head, rows)
}

/// Digits of a cost that mean something.
pub(super) fn digits(axis: Axis) -> usize {
    match axis {
        Axis::Reply => 0,
        Axis::Pipeline | Axis::Connections => 2,
    }
}

fn exported(curve: &Curve, contender: Contender, size: usize) -> Option<Spread> {
    let points = curve.points.get(&contender)?.iter();
    let points = points.filter_map(|points| points.get(size)?.exported);
    Spread::of(points.map(|share| share * 100.0))
}

fn shown(spread: Option<Spread>, digits: usize) -> String {
    spread.map_or_else(String::new, |spread| text(spread, digits))
}

/// The tolerance in words.
pub(super) fn rule() -> String {
    let factor = |exponent: f64| number(100_f64.powf(exponent), 0);
    format!(
        "Exponent: cost grows as size to this power, by least squares through the logarithms; 1 is linear. Called linear: {} to {}, a \
         hundred times the size for {} to {} times the cost. Less than linear: a fixed cost is shared by more. Steepest step: the largest \
         exponent between neighbouring sizes.",
        1.0 - TOLERANCE,
        1.0 + TOLERANCE,
        factor(1.0 - TOLERANCE),
        factor(1.0 + TOLERANCE)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_grows_faster_is_more() {
        let said = [0.8, 0.96, 1.0, 1.04, 1.2].map(verdict);
        let linear = "linear";
        let expected = [
            "less than linear",
            linear,
            linear,
            linear,
            "**more than linear**",
        ];
        assert_eq!(said, expected);
        assert!(
            rule().contains("0.95 to 1.05") && rule().contains("79 to 126"),
            "{}",
            rule()
        );
    }
}
