//! One HTML file that needs no other: a strip of points for each contender, a point a round, the median marked.

use std::fmt::Write as _;

use super::{met, number, provenance, targets};
use crate::contender::Contender;
use crate::measured::{Measured, Run, Spread};

const STYLE: &str = include_str!("page.css");

/// Sizes of a picture, in its own units.
const NAME_WIDTH: f64 = 190.0;
const PLOT_WIDTH: f64 = 420.0;
const FIGURE_WIDTH: f64 = 190.0;
const ROW: f64 = 22.0;

/// The page.
#[must_use]
pub fn page(run: &Run) -> String {
    let mut body = format!(
        "<h1>Proxies before Redis, side by side</h1>\n<p>{}</p>\n<p>A point is a round, the bar the median. \
         Compare within a picture: all of it was measured in the same rounds.</p>\n",
        escape(&provenance(run))
    );
    for measured in &run.cases {
        let _ = writeln!(
            body,
            "<h2>{}</h2>\n<div class=row>",
            escape(&measured.case.title())
        );
        for (title, strips, digits) in pictures(measured) {
            body.push_str(&strip_chart(&title, &strips, digits));
        }
        body.push_str("</div>\n");
    }
    if !run.memory.is_empty() {
        body.push_str("<h2>Memory</h2>\n<div class=row>\n");
        for (title, figure, digits) in MEMORY {
            let strips = run.memory.iter();
            let strips: Vec<Strip> = strips
                .map(|(&contender, rounds)| (contender, rounds.iter().map(figure).collect()))
                .collect();
            body.push_str(&strip_chart(title, &strips, digits));
        }
        body.push_str("</div>\n");
    }
    let targets = targets(run);
    if !targets.is_empty() {
        let _ = writeln!(body, "<h2>Targets</h2>\n{}", html_table(&met(&targets)));
    }
    let _ = writeln!(
        body,
        "<h2>Versions</h2>\n{}",
        html_table(&super::versions(run))
    );
    format!(
        "<!doctype html>\n<html lang=en>\n<meta charset=utf-8>\n<meta name=viewport content='width=device-width'>\n\
         <title>Proxies before Redis, side by side</title>\n<style>\n{STYLE}</style>\n<main>\n{body}</main>\n</html>\n"
    )
}

type Strip = (Contender, Vec<f64>);
type MemoryFigure = fn(&crate::measured::Memory) -> f64;

const MEMORY: [(&str, MemoryFigure, usize); 2] = [
    ("Resident, empty, MB", |memory| memory.empty as f64 / 1e6, 1),
    (
        "Bytes an idle connection",
        |memory| memory.per_connection(),
        0,
    ),
];

fn pictures(measured: &Measured) -> Vec<(String, Vec<Strip>, usize)> {
    let unit = measured.case.workload.unit();
    let of = |figure: &dyn Fn(&crate::measured::Sample) -> f64, direct: bool| -> Vec<Strip> {
        let samples = measured.samples.iter();
        samples
            .filter(|(contender, _)| direct || **contender != Contender::Direct)
            .map(|(&contender, samples)| (contender, samples.iter().map(figure).collect()))
            .collect()
    };
    let mut pictures = vec![
        (
            format!("CPU of the proxy, us/{unit}"),
            of(&|s| s.cpu_micros, false),
            2,
        ),
        (
            "Throughput, of direct".to_owned(),
            of(&|s| s.ratio, false),
            2,
        ),
    ];
    if measured.case.shows_latency() {
        pictures.push((
            "Latency p50, us".to_owned(),
            of(&|s| s.latency.p50, true),
            0,
        ));
        pictures.push((
            "Latency p99, us".to_owned(),
            of(&|s| s.latency.p99, true),
            0,
        ));
        pictures.push((
            "Latency p99.9, us".to_owned(),
            of(&|s| s.latency.p999, true),
            0,
        ));
    }
    pictures
}

fn strip_chart(title: &str, strips: &[Strip], digits: usize) -> String {
    let most = strips
        .iter()
        .flat_map(|(_, figures)| figures)
        .fold(f64::MIN_POSITIVE, |most, &figure| most.max(figure));
    let x = |figure: f64| NAME_WIDTH + figure.max(0.0) / most * PLOT_WIDTH;
    let width = NAME_WIDTH + PLOT_WIDTH + FIGURE_WIDTH;
    let height = ROW * strips.len() as f64;
    let mut out = format!(
        "<figure>\n<figcaption>{}</figcaption>\n<svg viewBox='0 0 {width} {height}' role=img aria-label='{}'>\n",
        escape(title),
        escape(title)
    );
    for (row, (contender, figures)) in strips.iter().enumerate() {
        let middle = ROW * (row as f64 + 0.5);
        let class = if contender.is_ours() { "ours" } else { "peer" };
        let _ = writeln!(
            out,
            "<g class={class}><text x='{}' y='{}' text-anchor=end>{}</text><line x1='{NAME_WIDTH}' x2='{}' y1='{middle}' y2='{middle}'/>",
            NAME_WIDTH - 10.0,
            middle + 4.0,
            escape(contender.name()),
            NAME_WIDTH + PLOT_WIDTH
        );
        for &figure in figures {
            let _ = write!(out, "<circle cx='{:.1}' cy='{middle}' r=3 />", x(figure));
        }
        if let Some(spread) = Spread::of(figures.iter().copied()) {
            let at = x(spread.median);
            let _ = write!(
                out,
                "<rect x='{:.1}' y='{:.1}' width=3 height=14 /><text x='{}' y='{}'>{}</text>",
                at - 1.5,
                middle - 7.0,
                NAME_WIDTH + PLOT_WIDTH + 10.0,
                middle + 4.0,
                super::text(spread, digits)
            );
        }
        out.push_str("</g>\n");
    }
    let _ = writeln!(
        out,
        "</svg>\n<small>from 0 to {}</small>\n</figure>",
        number(most, digits)
    );
    out
}

/// Of a table in Markdown.
fn html_table(markdown: &str) -> String {
    let mut out = String::from("<table>\n");
    for (n, line) in markdown.lines().enumerate().filter(|(n, _)| *n != 1) {
        let cell = if n == 0 { "th" } else { "td" };
        out.push_str("<tr>");
        for text in line.trim_matches('|').split(" | ") {
            let text = escape(text.trim()).replace("**missed**", "<b>missed</b>");
            let _ = write!(out, "<{cell}>{text}</{cell}>");
        }
        out.push_str("</tr>\n");
    }
    out + "</table>"
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::even;

    #[test]
    fn the_page_needs_nothing_else_and_escapes() {
        let page = page(&even());
        assert!(page.contains("2 x &lt;fast>"), "{page}");
        assert!(!page.contains("src=") && !page.contains("href="));
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    }
}
