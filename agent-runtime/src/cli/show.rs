//! How training shows itself: a bar on a terminal, plain lines elsewhere.

use std::io::{self, IsTerminal as _, Write};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::ppo::{Outcome, Statistics};
use crate::train::Progress;

/// So many plain lines for the whole of training.
const LINES: u64 = 20;
/// Steps between two plain lines of training that has no end.
const ENDLESS: u64 = 50_000;

pub(super) struct Show {
    bar: Option<ProgressBar>,
    began: Instant,
    steps_then: u64,
    all: Option<u64>,
    due: u64,
}

impl Show {
    pub(super) fn new(all: Option<u64>, steps: u64) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let template = match all {
                Some(_) => "{bar:32.cyan/dim} {percent:>3} %  {msg}  {eta} left",
                None => "{spinner:.cyan} {msg}  {elapsed}",
            };
            let style = ProgressStyle::with_template(template)
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = ProgressBar::with_draw_target(all, ProgressDrawTarget::stderr_with_hz(10));
            bar.with_style(style.progress_chars("━━╌"))
                .with_position(steps)
        });
        Self {
            bar,
            began: Instant::now(),
            steps_then: steps,
            all,
            due: 0,
        }
    }

    pub(super) fn update(
        &mut self,
        progress: &Progress,
        statistics: &Statistics,
        out: &mut impl Write,
    ) -> io::Result<()> {
        if let Some(bar) = &self.bar {
            bar.set_position(progress.steps);
            bar.set_message(self.line(progress, statistics));
            return Ok(());
        }
        let end = self.all.is_some_and(|all| progress.steps >= all);
        if progress.steps < self.due && !end {
            return Ok(());
        }
        let every = self.all.map_or(ENDLESS, |all| (all / LINES).max(1));
        self.due = (progress.steps / every + 1) * every;
        writeln!(out, "{}", self.line(progress, statistics))
    }

    fn line(&self, progress: &Progress, statistics: &Statistics) -> String {
        let mean = progress
            .mean_return()
            .map_or("     –".to_owned(), |mean| format!("{mean:6.1}"));
        let speed = (progress.steps - self.steps_then) as f64
            / self.began.elapsed().as_secs_f64().max(1e-9);
        let mut line = format!(
            "{:>9} steps  return {mean}  kl {:.4}  clipped {:.2}  explained {:.2}  {:>7} steps/s",
            grouped(progress.steps),
            statistics.approx_kl,
            statistics.clip_fraction,
            statistics.explained_variance,
            grouped(speed as u64),
        );
        if statistics.outcome == Outcome::Undone {
            line.push_str("  undone");
        }
        line
    }

    pub(super) fn warn(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => {
                let _ = writeln!(io::stderr(), "{text}");
            }
        }
    }

    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish();
        }
    }
}

/// 1,234,567.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn thousands_are_grouped() {
        assert_eq!(
            [7, 999, 1_000, 1_234_567].map(super::grouped),
            ["7", "999", "1,000", "1,234,567"]
        );
    }
}
