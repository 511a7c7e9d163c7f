//! A learning curve as SVG.

use std::fmt::Write as _;

/// So many points at most: with more, every other one is left out.
const MOST_POINTS: usize = 2_000;

const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 440.0;
const LEFT: f64 = 72.0;
const RIGHT: f64 = 28.0;
const TOP: f64 = 80.0;
const BOTTOM: f64 = 56.0;

/// Mean returns over steps. Bounded, however long training lasts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Curve {
    points: Vec<(u64, f64)>,
    stride: usize,
    seen: usize,
}

impl Curve {
    /// Adds a point; steps only grow.
    pub fn push(&mut self, steps: u64, mean_return: f64) {
        let stride = self.stride.max(1);
        if self.seen.is_multiple_of(stride) && mean_return.is_finite() {
            self.points.push((steps, mean_return));
        }
        self.seen += 1;
        if self.points.len() > MOST_POINTS {
            let mut at = 0;
            self.points.retain(|_| {
                at += 1;
                at % 2 == 1
            });
            self.stride = stride * 2;
        }
    }

    /// The drawing.
    #[must_use]
    pub fn to_svg(&self, title: &str, subtitle: &str) -> String {
        let (first, last) = match (self.points.first(), self.points.last()) {
            (Some(first), Some(last)) => (first.0, last.0),
            _ => (0, 0),
        };
        let end = (last as f64).max(1.0);
        let x_axis = Axis {
            high: end,
            ..Axis::over(0.0, end)
        };
        let returns = || self.points.iter().map(|point| point.1);
        let (low, high) = (
            returns().fold(f64::INFINITY, f64::min),
            returns().fold(f64::NEG_INFINITY, f64::max),
        );
        let y_axis = if low <= high {
            Axis::over(low, high)
        } else {
            Axis::over(0.0, 1.0)
        };
        let x = |steps: f64| LEFT + x_axis.at(steps) * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| HEIGHT - BOTTOM - y_axis.at(value) * (HEIGHT - TOP - BOTTOM);

        let mut svg = String::new();
        let _ = write!(svg, "{HEAD}");
        let _ = writeln!(
            svg,
            r#"<text class="title" x="{LEFT}" y="28">{}</text>"#,
            escape(title)
        );
        let _ = writeln!(
            svg,
            r#"<text class="note" x="{LEFT}" y="48">{}</text>"#,
            escape(subtitle)
        );
        for tick in y_axis.ticks() {
            let y = y(tick);
            let _ = writeln!(
                svg,
                r#"<path class="grid" d="M{LEFT} {y:.1}H{:.1}"/>"#,
                WIDTH - RIGHT
            );
            let _ = writeln!(
                svg,
                r#"<text class="end" x="{}" y="{:.1}">{}</text>"#,
                LEFT - 8.0,
                y + 4.0,
                label(tick)
            );
        }
        for tick in x_axis.ticks() {
            let x = x(tick);
            let _ = writeln!(
                svg,
                r#"<text class="middle" x="{x:.1}" y="{}">{}</text>"#,
                HEIGHT - BOTTOM + 20.0,
                label(tick)
            );
        }
        let _ = writeln!(
            svg,
            r#"<text class="middle note" x="{:.1}" y="{}">environment steps</text>"#,
            f64::midpoint(LEFT, WIDTH - RIGHT),
            HEIGHT - 12.0
        );
        let mut line = String::new();
        for (at, &(steps, value)) in self.points.iter().enumerate() {
            let command = if at == 0 { 'M' } else { 'L' };
            let _ = write!(line, "{command}{:.1} {:.1}", x(steps as f64), y(value));
        }
        if let Some(&(steps, value)) = self.points.last() {
            let (end, floor) = (x(steps as f64), HEIGHT - BOTTOM);
            let _ = writeln!(
                svg,
                r#"<path class="area" d="{line}L{end:.1} {floor}L{:.1} {floor}Z"/>"#,
                x(first as f64)
            );
            let _ = writeln!(svg, r#"<path class="line" d="{line}"/>"#);
            let _ = writeln!(
                svg,
                r#"<circle class="dot" cx="{end:.1}" cy="{:.1}" r="4"/>"#,
                y(value)
            );
            let above = y(value) - 12.0;
            let _ = writeln!(
                svg,
                r#"<text class="end value" x="{end:.1}" y="{above:.1}">{value:.1}</text>"#
            );
        }
        svg.push_str("</svg>\n");
        svg
    }
}

/// Colours for a light page and a dark one.
const HEAD: &str = r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 800 440" font-family="system-ui, sans-serif" font-size="12">
<style>
svg { background: #ffffff } text { fill: #5b6472 } .title { fill: #1c2430; font-size: 18px; font-weight: 600 } .note { font-size: 12px }
.end { text-anchor: end } .middle { text-anchor: middle } .grid { stroke: #e6e9ee } .line { fill: none; stroke: #2563c9; stroke-width: 2; stroke-linejoin: round }
.area { fill: #2563c9; opacity: 0.08 } .dot { fill: #2563c9 } .value { fill: #2563c9; font-weight: 600 }
@media (prefers-color-scheme: dark) {
svg { background: #12161d } text { fill: #98a2b3 } .title { fill: #eef1f5 } .grid { stroke: #262d38 } .line { stroke: #6ea8fe } .area, .dot, .value { fill: #6ea8fe } }
</style>
"##;

/// A range, widened to whole steps of 1, 2 or 5 times a power of ten.
struct Axis {
    low: f64,
    high: f64,
    step: f64,
}

impl Axis {
    fn over(low: f64, high: f64) -> Self {
        let span = (high - low).max(1e-9 * high.abs()).max(1e-9);
        let power = 10f64.powf((span / 5.0).log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .map(|factor| factor * power)
            .into_iter()
            .find(|step| span / step <= 5.0);
        let step = step.unwrap_or(span);
        Self {
            low: (low / step).floor() * step,
            high: (high / step).ceil() * step,
            step,
        }
    }

    /// Where a number lies between 0 and 1.
    fn at(&self, value: f64) -> f64 {
        if self.high > self.low {
            (value - self.low) / (self.high - self.low)
        } else {
            0.5
        }
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        let (low, high, step) = (self.low, self.high, self.step);
        (0..=20)
            .map(move |at| low + step * f64::from(at))
            .take_while(move |&tick| tick <= high + step * 0.01)
    }
}

/// 250, 2.5k, 2.5M.
fn label(value: f64) -> String {
    let (scaled, unit) = match value.abs() {
        size if size >= 1e6 => (value / 1e6, "M"),
        size if size >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let rounded = (scaled * 100.0).round() / 100.0 + 0.0;
    format!("{rounded}{unit}")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_is_drawn_from_its_first_point_to_its_last() {
        let mut curve = Curve::default();
        (1..=50).for_each(|at| curve.push(at * 2_000, at as f64 * 10.0));
        let svg = curve.to_svg("a < b", "");
        assert!(svg.contains("a &lt; b") && svg.contains(">100k<") && svg.contains(">500.0<"));
        assert!(svg.contains(r#"<path class="line" d="M86.0 "#), "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn nothing_and_one_point_can_be_drawn_too() {
        let mut curve = Curve::default();
        assert!(curve.to_svg("", "").ends_with("</svg>\n"));
        curve.push(0, 5.0);
        let svg = curve.to_svg("", "");
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn it_stays_bounded_and_keeps_its_ends_near() {
        let mut curve = Curve::default();
        (0..100_000).for_each(|at| curve.push(at, 1.0));
        assert!(curve.points.len() <= MOST_POINTS);
        assert_eq!(curve.points.first().map(|point| point.0), Some(0));
        assert!(curve.points.last().is_some_and(|point| point.0 > 99_000));
    }
}
