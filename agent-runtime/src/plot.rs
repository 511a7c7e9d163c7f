//! Learning curves as SVG.

mod axis;
mod curve;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;

use axis::{Axis, label, minus};

pub use curve::{BadCurve, Curve};

const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 440.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 28.0;
const TOP: f64 = 76.0;
const BOTTOM: f64 = 56.0;
/// A legend takes so much more at the top.
const LEGEND: f64 = 28.0;
/// What a letter takes in a font of which nothing is known, rather too much.
const LETTER: f64 = 6.4;

/// A drawing of returns over environment steps.
#[derive(Clone, Debug, Default)]
pub struct Chart {
    /// What it shows.
    pub title: String,
    /// What exactly.
    pub subtitle: String,
    /// The lines, the first in front of the others. Two can be told apart.
    pub series: Vec<Series>,
    /// What they are held against. Two can be told apart.
    pub levels: Vec<Level>,
}

/// A line, and the range about it.
#[derive(Clone, Debug)]
pub struct Series {
    /// For the legend, which there is if there is more than one line.
    pub name: String,
    /// From left to right.
    pub points: Vec<Point>,
}

/// A place on a line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Environment steps.
    pub steps: u64,
    /// Where the line is.
    pub middle: f64,
    /// Where the range ends below and above; the same as the line's place if there is none.
    pub range: (f64, f64),
}

/// A line straight across.
#[derive(Clone, Debug)]
pub struct Level {
    /// For the legend.
    pub name: String,
    /// Where it is.
    pub value: f64,
}

/// Where numbers lie on the drawing.
struct Scales {
    steps: Axis,
    returns: Axis,
    top: f64,
}

impl Scales {
    fn x(&self, steps: u64) -> f64 {
        LEFT + self.steps.at(steps as f64) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        FLOOR - self.returns.at(value) * (FLOOR - self.top)
    }
}

const FLOOR: f64 = HEIGHT - BOTTOM;

impl Chart {
    /// The drawing. Numbers that are not finite have no place on it.
    #[must_use]
    pub fn to_svg(&self) -> String {
        let names = self.series.len() + self.levels.len();
        let scales = self.scales(if names > 1 { TOP + LEGEND } else { TOP });
        let mut svg = HEAD.to_owned();
        text(&mut svg, "title", LEFT, 28.0, &self.title);
        text(&mut svg, "", LEFT, 49.0, &self.subtitle);
        if names > 1 {
            self.legend(&mut svg, TOP);
        }
        grid(&mut svg, &scales);
        for (at, level) in self.levels.iter().enumerate() {
            let (y, end) = (scales.y(level.value), WIDTH - RIGHT);
            let _ = writeln!(
                svg,
                r#"<path class="level l{at}" d="M{LEFT} {y:.1}H{end}"/>"#
            );
        }
        for (at, series) in self.series.iter().enumerate().rev() {
            draw(&mut svg, at, &series.points, &scales);
        }
        if let [Series { points, .. }] = &self.series[..]
            && let Some(&last) = points.last()
        {
            end(&mut svg, last, &scales);
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn scales(&self, top: f64) -> Scales {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let last = points().map(|point| point.steps).max().unwrap_or(0);
        let ranges = points().flat_map(|point| [point.range.0, point.middle, point.range.1]);
        let returns = ranges.chain(self.levels.iter().map(|level| level.value));
        let (low, high) = returns.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| {
            (low.min(x), high.max(x))
        });
        Scales {
            steps: Axis::until((last as f64).max(1.0)),
            returns: if low <= high {
                Axis::over(low, high)
            } else {
                Axis::over(0.0, 1.0)
            },
            top,
        }
    }

    /// A sample and a name each, side by side.
    fn legend(&self, svg: &mut String, y: f64) {
        let series = self.series.iter().enumerate().map(|(at, series)| {
            let sample = format!(
                r#"<path class="band s{at}" d="M0 -10h24v12H0Z"/><path class="line s{at}" d="M0 -4h24"/>"#
            );
            (sample, &series.name)
        });
        let levels = self.levels.iter().enumerate().map(|(at, level)| {
            let sample = format!(r#"<path class="level l{at}" d="M0 -4h24"/>"#);
            (sample, &level.name)
        });
        let mut x = LEFT;
        for (sample, name) in series.chain(levels) {
            let _ = writeln!(svg, r#"<g transform="translate({x:.1} {y})">{sample}</g>"#);
            text(svg, "", x + 32.0, y, name);
            x += 32.0 + LETTER * name.chars().count() as f64 + 20.0;
        }
    }
}

fn grid(svg: &mut String, scales: &Scales) {
    for tick in scales.returns.ticks() {
        let (y, end) = (scales.y(tick), WIDTH - RIGHT);
        let _ = writeln!(svg, r#"<path class="grid" d="M{LEFT} {y:.1}H{end}"/>"#);
        text(svg, "end", LEFT - 8.0, y + 4.0, &label(tick));
    }
    for tick in scales.steps.ticks() {
        let x = scales.x(tick as u64);
        text(svg, "middle", x, FLOOR + 20.0, &label(tick));
    }
    let middle = f64::midpoint(LEFT, WIDTH - RIGHT);
    text(svg, "middle", middle, HEIGHT - 12.0, "environment steps");
}

/// The `at`th line above its range; above its area, if it has none.
fn draw(svg: &mut String, at: usize, points: &[Point], scales: &Scales) {
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return;
    };
    let place = |point: &Point, value: f64| (scales.x(point.steps), scales.y(value));
    let middle = path(points.iter().map(|point| place(point, point.middle)));
    let band = if points.iter().all(|point| point.range.0 == point.range.1) {
        let (left, right) = (scales.x(first.steps), scales.x(last.steps));
        format!("{middle}L{right:.1} {FLOOR}L{left:.1} {FLOOR}Z")
    } else {
        let above = points.iter().map(|point| place(point, point.range.1));
        let below = points.iter().rev().map(|point| place(point, point.range.0));
        path(above.chain(below)) + "Z"
    };
    let _ = writeln!(svg, r#"<path class="band s{at}" d="{band}"/>"#);
    let _ = writeln!(svg, r#"<path class="line s{at}" d="{middle}"/>"#);
}

/// A dot where the only line ends, and its value.
fn end(svg: &mut String, last: Point, scales: &Scales) {
    let (x, y) = (scales.x(last.steps), scales.y(last.middle));
    let _ = writeln!(
        svg,
        r#"<circle class="dot" cx="{x:.1}" cy="{y:.1}" r="4"/>"#
    );
    let value = minus(&format!("{:.1}", last.middle));
    text(svg, "end value", x + 4.0, y - 12.0, &value);
}

fn path(places: impl Iterator<Item = (f64, f64)>) -> String {
    let mut path = String::new();
    for (at, (x, y)) in places.enumerate() {
        let command = if at == 0 { 'M' } else { 'L' };
        let _ = write!(path, "{command}{x:.1} {y:.1}");
    }
    path
}

fn text(svg: &mut String, class: &str, x: f64, y: f64, text: &str) {
    let text = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    let _ = writeln!(
        svg,
        r#"<text class="{class}" x="{x:.1}" y="{y:.1}">{text}</text>"#
    );
}

/// Colours for a light page and a dark one.
const HEAD: &str = r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 800 440" font-family="system-ui, sans-serif" font-size="12">
<style>
svg { background: #ffffff } text { fill: #5b6472 } .title { fill: #1c2430; font-size: 18px; font-weight: 600 } .end { text-anchor: end } .middle { text-anchor: middle }
.grid { stroke: #e6e9ee } .line { fill: none; stroke-width: 2; stroke-linejoin: round } .band { opacity: 0.14 } .level { stroke: #5b6472; stroke-width: 1.5 }
.l0 { stroke-dasharray: 7 4 } .l1 { stroke-dasharray: 1.5 4; stroke-linecap: round } .line.s0 { stroke: #2563c9 } .band.s0, .dot, .value { fill: #2563c9 } .value { font-weight: 600 }
.line.s1 { stroke: #c2560a } .band.s1 { fill: #c2560a }
@media (prefers-color-scheme: dark) {
svg { background: #12161d } text { fill: #98a2b3 } .title { fill: #eef1f5 } .grid { stroke: #262d38 } .level { stroke: #98a2b3 } .band { opacity: 0.2 }
.line.s0 { stroke: #6ea8fe } .band.s0, .dot, .value { fill: #6ea8fe } .line.s1 { stroke: #f5a35c } .band.s1 { fill: #f5a35c } }
</style>
"##;
