//! A picture: within a page, or many of them in one file.

use std::fmt::Write as _;

/// Sizes in the file of many pictures.
const WIDTH: f64 = 1776.0;
const GAP: f64 = 24.0;
const HEADING: f64 = 40.0;
const CAPTION: f64 = 24.0;

/// Wider ones stand in two columns, others in three.
const WIDE: f64 = 700.0;

/// What is drawn, and what it is called.
pub(super) struct Picture {
    pub(super) title: String,
    pub(super) width: f64,
    pub(super) height: f64,
    /// The elements of an `svg` of that size; their style is elsewhere.
    pub(super) body: String,
}

impl Picture {
    /// As a part of a page.
    pub(super) fn svg(&self) -> String {
        format!(
            "<svg viewBox='0 0 {} {}' role=img aria-label='{}'>\n{}</svg>",
            self.width,
            self.height,
            escape(&self.title),
            self.body
        )
    }
}

/// A file of its own: pictures under each heading, in rows.
pub(super) fn all(sections: &[(String, Vec<Picture>)], style: &str) -> String {
    let mut body = String::new();
    let mut top = GAP;
    for (heading, pictures) in sections {
        let _ = writeln!(
            body,
            "<text class='heading' x='{GAP}' y='{:.0}'>{}</text>",
            top + 18.0,
            escape(heading)
        );
        top += HEADING;
        let wide = pictures.iter().any(|picture| picture.width > WIDE);
        let columns = if wide { 2 } else { 3 };
        let width = (WIDTH - GAP) / columns as f64 - GAP;
        for row in pictures.chunks(columns) {
            let mut tallest: f64 = 0.0;
            for (n, picture) in row.iter().enumerate() {
                let left = GAP + (width + GAP) * n as f64;
                let height = picture.height * width / picture.width;
                tallest = tallest.max(height);
                let _ = writeln!(
                    body,
                    "<text class='caption' x='{left}' y='{:.0}'>{}</text>\n\
                     <svg x='{left}' y='{:.0}' width='{width}' height='{height:.0}' viewBox='0 0 {} {}'>\n{}</svg>",
                    top + 12.0,
                    escape(&picture.title),
                    top + CAPTION,
                    picture.width,
                    picture.height,
                    picture.body
                );
            }
            top += CAPTION + tallest + GAP;
        }
    }
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {top:.0}' font-family='system-ui, sans-serif'>\n\
         <style>\n{style}</style>\n{body}</svg>\n"
    )
}

pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('\'', "&#39;")
}
