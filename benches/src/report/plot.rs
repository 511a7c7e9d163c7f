//! Lines over sizes: both axes by powers of ten, or the vertical one from zero.

use std::fmt::Write as _;

use super::number;
use super::picture::{Picture, escape};
use crate::contender::Contender;
use crate::measured::{Curve, Point, Spread};

const WIDTH: f64 = 540.0;
const HEIGHT: f64 = 330.0;
const LEFT: f64 = 66.0;
const RIGHT: f64 = 34.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 54.0;
const LETTER: f64 = 6.9;

/// Cost of a piece, cost of a unit, memory.
pub(super) fn pictures(curve: &Curve) -> Vec<Picture> {
    let unit = curve.series.unit();
    let piece = lines(curve, |curve, point| {
        point.cpu_micros * curve.series.units(point.size)
    });
    let each = lines(curve, |_, point| point.cpu_micros);
    let peak = lines(curve, |_, point| point.peak as f64 / 1e6);
    let what = match curve.series.axis {
        crate::linear::Axis::Reply => "a reply",
        crate::linear::Axis::Pipeline => "a pipeline",
        crate::linear::Axis::Connections => "a request on each",
    };
    let picture = |title, lines: &[Line], scale, ideal| Picture {
        title,
        width: WIDTH,
        height: HEIGHT,
        body: draw(lines, scale, ideal),
    };
    vec![
        picture(
            format!("CPU us for {what}; dashed: in proportion to the smallest"),
            &piece,
            Scale::Powers,
            Some(1),
        ),
        picture(
            format!("CPU us/{unit}; dashed: as at the smallest"),
            &each,
            Scale::Powers,
            Some(0),
        ),
        picture("Peak memory, MB".to_owned(), &peak, Scale::FromZero, None),
    ]
}

struct Line {
    contender: Contender,
    /// Size, and what was measured there.
    points: Vec<(f64, Spread)>,
}

impl Line {
    /// Both ends of how it would be if cost grew with this power of the size from the smallest on.
    fn ideal(&self, power: i32) -> Option<[(f64, f64); 2]> {
        let ((size, spread), (last, _)) = (self.points.first()?, self.points.last()?);
        let there = spread.median * (last / size).powi(power);
        Some([(*size, spread.median), (*last, there)])
    }
}

fn lines(curve: &Curve, figure: impl Fn(&Curve, &Point) -> f64) -> Vec<Line> {
    let sizes = || curve.series.sizes.iter().enumerate();
    let line = |&contender: &Contender| Line {
        contender,
        points: sizes()
            .filter_map(|(n, &size)| {
                let spread = curve.spread(contender, n, |point| figure(curve, point))?;
                Some((curve.series.units(size), spread))
            })
            .collect(),
    };
    curve.points.keys().map(line).collect()
}

#[derive(Clone, Copy, PartialEq)]
enum Scale {
    Powers,
    FromZero,
}

/// What is between two figures on an axis, and where.
struct Ruler {
    scale: Scale,
    least: f64,
    most: f64,
    from: f64,
    to: f64,
}

impl Ruler {
    fn at(&self, figure: f64) -> f64 {
        let place = |figure: f64| match self.scale {
            Scale::Powers => figure.max(f64::MIN_POSITIVE).log10(),
            Scale::FromZero => figure,
        };
        let share = (place(figure) - place(self.least)) / (place(self.most) - place(self.least));
        self.from + share.clamp(-0.1, 1.1) * (self.to - self.from)
    }

    fn ticks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Powers => std::iter::successors(Some(self.least), |tick| Some(tick * 10.0))
                .take_while(|tick| *tick < self.most * 1.01)
                .collect(),
            Scale::FromZero => (0..=4).map(|n| self.most * f64::from(n) / 4.0).collect(),
        }
    }
}

fn ruler(figures: impl Iterator<Item = f64> + Clone, scale: Scale, from: f64, to: f64) -> Ruler {
    let least = figures.clone().fold(f64::INFINITY, f64::min);
    let most = figures.fold(f64::MIN_POSITIVE, f64::max);
    let (least, most) = match scale {
        // From one power of ten to another.
        Scale::Powers => {
            let (low, high) = (least.log10().floor(), most.log10().ceil());
            (10_f64.powf(low), 10_f64.powf(high.max(low + 1.0)))
        }
        Scale::FromZero => {
            let step = 10_f64.powf(most.log10().floor());
            (0.0, (most / step).ceil() * step)
        }
    };
    Ruler {
        scale,
        least,
        most,
        from,
        to,
    }
}

/// `ideal`: the power of the size with which the dashed lines grow.
fn draw(lines: &[Line], scale: Scale, ideal: Option<i32>) -> String {
    let points = lines.iter().flat_map(|line| &line.points);
    let x = ruler(
        points.clone().map(|(size, _)| *size),
        Scale::Powers,
        LEFT,
        WIDTH - RIGHT,
    );
    let ends = points.flat_map(|(_, spread)| [spread.min, spread.max]);
    let ideals: Vec<[(f64, f64); 2]> = lines.iter().filter_map(|line| line.ideal(ideal?)).collect();
    let ideal_ends = ideals.iter().flatten().map(|(_, figure)| *figure);
    let y = ruler(ends.chain(ideal_ends), scale, HEIGHT - BOTTOM, TOP);
    let mut out = "<g class='chart'>\n".to_owned();
    for tick in x.ticks() {
        let at = x.at(tick);
        let _ = writeln!(
            out,
            "<line x1='{at:.1}' x2='{at:.1}' y1='{TOP}' y2='{}'/><text x='{at:.1}' y='{}' text-anchor='middle'>{}</text>",
            HEIGHT - BOTTOM,
            HEIGHT - BOTTOM + 16.0,
            short(tick)
        );
    }
    for tick in y.ticks() {
        let at = y.at(tick);
        let _ = writeln!(
            out,
            "<line x1='{LEFT}' x2='{}' y1='{at:.1}' y2='{at:.1}'/><text x='{}' y='{:.1}' text-anchor='end'>{}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0,
            short(tick)
        );
    }
    // Names stand one after the other: as wide as they are long, about.
    let mut left = 2.0;
    for (n, line) in lines.iter().enumerate() {
        let _ = write!(out, "<g class='line{n}'>");
        if let Some([(size, figure), (end, there)]) = ideals.get(n) {
            let _ = write!(
                out,
                "<path class='ideal' d='M{:.1} {:.1}L{:.1} {:.1}'/>",
                x.at(*size),
                y.at(*figure),
                x.at(*end),
                y.at(*there)
            );
        }
        let mut path = String::new();
        for (n, (size, spread)) in line.points.iter().enumerate() {
            let (at, command) = (x.at(*size), if n == 0 { 'M' } else { 'L' });
            let _ = write!(path, "{command}{at:.1} {:.1}", y.at(spread.median));
            let _ = write!(
                out,
                "<path d='M{at:.1} {:.1}V{:.1}'/><circle cx='{at:.1}' cy='{:.1}' r='3.5'/>",
                y.at(spread.min),
                y.at(spread.max),
                y.at(spread.median)
            );
        }
        let _ = writeln!(
            out,
            "<path d='{path}'/><circle cx='{:.1}' cy='{}' r='4'/><text x='{:.1}' y='{}'>{}</text></g>",
            left + 4.0,
            HEIGHT - 12.0,
            left + 12.0,
            HEIGHT - 8.0,
            escape(line.contender.name())
        );
        left += 34.0 + LETTER * line.contender.name().len() as f64;
    }
    out + "</g>"
}

/// A tick's figure, short.
fn short(figure: f64) -> String {
    match figure {
        f if f >= 1e6 => format!("{}M", number(f / 1e6, 0)),
        f if f >= 1.0 => number(f, usize::from(f < 100.0 && f.fract() > 0.0)),
        f if f > 0.0 => format!("{f}"),
        _ => "0".to_owned(),
    }
}
