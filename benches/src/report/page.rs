//! One HTML file that needs no other, and one picture of all its pictures: a strip of points for each contender, a point a round, the
//! median marked; and lines over sizes.

use std::fmt::Write as _;

use super::picture::{Picture, escape};
use super::{blocking, counts, growth, met, number, plot, provenance, targets};
use crate::contender::Contender;
use crate::measured::{Measured, Run, Spread};

const STYLE: &str = include_str!("page.css");
const PICTURE_STYLE: &str = include_str!("picture.css");

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
    let targets = targets(run);
    if !targets.is_empty() {
        let _ = writeln!(body, "<h2>Targets</h2>\n{}", html_table(&met(&targets)));
    }
    for (title, pictures) in sections(run) {
        let _ = writeln!(body, "<h2>{}</h2>\n<div class=row>", escape(&title));
        for picture in pictures {
            let _ = writeln!(
                body,
                "<figure>\n<figcaption>{}</figcaption>\n{}\n</figure>",
                escape(&picture.title),
                picture.svg()
            );
        }
        body.push_str("</div>\n");
    }
    let mut table = |title: &str, text: &str| {
        let _ = writeln!(body, "<h2>{title}</h2>\n{}", html_table(text));
    };
    if !run.blocking.is_empty() {
        table("Others beside a read that waits", &blocking(run));
    }
    if !run.curves.is_empty() {
        table("How cost grows", &growth::exponents(&run.curves));
    }
    for curve in &run.curves {
        table(&curve.series.title(), &growth::sizes(curve));
    }
    if !run.counts.is_empty() {
        table(
            "System calls and instructions of a request",
            &counts(&run.counts),
        );
    }
    table("Versions", &super::versions(run));
    format!(
        "<!doctype html>\n<html lang=en>\n<meta charset=utf-8>\n<meta name=viewport content='width=device-width'>\n\
         <title>Proxies before Redis, side by side</title>\n<style>\n{PICTURE_STYLE}{STYLE}</style>\n<main>\n{body}</main>\n</html>\n"
    )
}

/// All pictures of the page as one; none, if there are none.
#[must_use]
pub fn pictures(run: &Run) -> Option<String> {
    let sections = sections(run);
    (!sections.is_empty()).then(|| super::picture::all(&sections, PICTURE_STYLE))
}

/// Pictures, under their headings.
fn sections(run: &Run) -> Vec<(String, Vec<Picture>)> {
    let cases = run.cases.iter().map(|measured| {
        let strips = pictures_of(measured).into_iter();
        let charts = strips.map(|(title, strips, digits)| strip_chart(&title, &strips, digits));
        (measured.case.title(), charts.collect())
    });
    let memory = MEMORY.iter().map(|(title, figure, digits)| {
        let strips = run.memory.iter();
        let strips: Vec<Strip> = strips
            .map(|(&contender, rounds)| (contender, rounds.iter().map(figure).collect()))
            .collect();
        strip_chart(title, &strips, *digits)
    });
    let memory = (!run.memory.is_empty()).then(|| ("Memory".to_owned(), memory.collect()));
    let curves = run.curves.iter();
    let curves = curves.map(|curve| (curve.series.title(), plot::pictures(curve)));
    cases.chain(memory).chain(curves).collect()
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

fn pictures_of(measured: &Measured) -> Vec<(String, Vec<Strip>, usize)> {
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

fn strip_chart(title: &str, strips: &[Strip], digits: usize) -> Picture {
    let most = strips
        .iter()
        .flat_map(|(_, figures)| figures)
        .fold(f64::MIN_POSITIVE, |most, &figure| most.max(figure));
    let x = |figure: f64| NAME_WIDTH + figure.max(0.0) / most * PLOT_WIDTH;
    let mut out = String::new();
    for (row, (contender, figures)) in strips.iter().enumerate() {
        let middle = ROW * (row as f64 + 0.5);
        let class = if contender.is_ours() { "ours" } else { "peer" };
        let _ = writeln!(
            out,
            "<g class='{class}'><text x='{}' y='{}' text-anchor='end'>{}</text><line x1='{NAME_WIDTH}' x2='{}' y1='{middle}' y2='{middle}'/>",
            NAME_WIDTH - 10.0,
            middle + 4.0,
            escape(contender.name()),
            NAME_WIDTH + PLOT_WIDTH
        );
        for &figure in figures {
            let _ = write!(out, "<circle cx='{:.1}' cy='{middle}' r='3'/>", x(figure));
        }
        if let Some(spread) = Spread::of(figures.iter().copied()) {
            let at = x(spread.median);
            let _ = write!(
                out,
                "<rect x='{:.1}' y='{:.1}' width='3' height='14'/><text x='{}' y='{}'>{}</text>",
                at - 1.5,
                middle - 7.0,
                NAME_WIDTH + PLOT_WIDTH + 10.0,
                middle + 4.0,
                super::text(spread, digits)
            );
        }
        out.push_str("</g>\n");
    }
    Picture {
        title: format!("{title}; from 0 to {}", number(most, digits)),
        width: NAME_WIDTH + PLOT_WIDTH + FIGURE_WIDTH,
        height: ROW * strips.len() as f64,
        body: out,
    }
}

/// Of a table in Markdown.
fn html_table(markdown: &str) -> String {
    let mut out = String::from("<table>\n");
    for (n, line) in markdown.lines().enumerate().filter(|(n, _)| *n != 1) {
        let cell = if n == 0 { "th" } else { "td" };
        out.push_str("<tr>");
        for text in line.trim_matches('|').split(" | ") {
            let text = bold(&escape(text.trim()));
            let _ = write!(out, "<{cell}>{text}</{cell}>");
        }
        out.push_str("</tr>\n");
    }
    out + "</table>"
}

/// `**so**` as HTML has it.
fn bold(text: &str) -> String {
    let mut out = String::new();
    for (n, part) in text.split("**").enumerate() {
        out.push_str(match n {
            0 => "",
            n if n % 2 == 1 => "<b>",
            _ => "</b>",
        });
        out.push_str(part);
    }
    out
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
        assert_eq!(bold("a **b** c"), "a <b>b</b> c");
    }
}
