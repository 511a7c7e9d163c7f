//! What is written along a drawing's sides.

/// So many steps at most, and a bit.
const STEPS: f64 = 6.0;

/// A range, widened to whole steps of 1, 2 or 5 times a power of ten.
pub(super) struct Axis {
    low: f64,
    pub(super) high: f64,
    step: f64,
}

impl Axis {
    pub(super) fn over(low: f64, high: f64) -> Self {
        let span = (high - low).max(1e-9 * high.abs()).max(1e-9);
        let power = 10f64.powf((span / STEPS).log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .map(|factor| factor * power)
            .into_iter()
            .find(|step| span / step <= STEPS);
        let step = step.unwrap_or(span);
        Self {
            low: (low / step).floor() * step,
            high: (high / step).ceil() * step,
            step,
        }
    }

    /// From zero to just here.
    pub(super) fn until(high: f64) -> Self {
        Self {
            high,
            ..Self::over(0.0, high)
        }
    }

    /// Where a number lies between 0 and 1.
    pub(super) fn at(&self, value: f64) -> f64 {
        if self.high > self.low {
            (value - self.low) / (self.high - self.low)
        } else {
            0.5
        }
    }

    pub(super) fn ticks(&self) -> impl Iterator<Item = f64> {
        let (low, high, step) = (self.low, self.high, self.step);
        (0..=20)
            .map(move |at| low + step * f64::from(at))
            .take_while(move |&tick| tick <= high + step * 0.01)
    }
}

/// 250, 25k, 2.5M.
pub(super) fn label(value: f64) -> String {
    let (scaled, unit) = match value.abs() {
        size if size >= 1e6 => (value / 1e6, "M"),
        size if size >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let rounded = (scaled * 100.0).round() / 100.0 + 0.0;
    minus(&format!("{rounded}{unit}"))
}

/// With the sign that is as wide as a plus.
pub(super) fn minus(number: &str) -> String {
    number.replace('-', "−")
}
