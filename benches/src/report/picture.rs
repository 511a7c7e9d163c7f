//! A picture: within a page, or many of them in one file.

use std::fmt::Write as _;

/// Sizes in the file of many pictures.
const COLUMN: f64 = 560.0;
const GAP: f64 = 24.0;
const HEADING: f64 = 40.0;
const CAPTION: f64 = 24.0;

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

    /// Its height where it is as wide as a column.
    fn scaled(&self) -> f64 {
        self.height * COLUMN / self.width
    }
}

/// A file of its own: a row of pictures under each heading.
pub(super) fn all(sections: &[(String, Vec<Picture>)], style: &str) -> String {
    let mut body = String::new();
    let (mut top, mut columns) = (GAP, 1);
    for (heading, pictures) in sections {
        let _ = writeln!(
            body,
            "<text class='heading' x='{GAP}' y='{}'>{}</text>",
            top + 18.0,
            escape(heading)
        );
        top += HEADING;
        for (n, picture) in pictures.iter().enumerate() {
            let left = GAP + (COLUMN + GAP) * n as f64;
            let _ = writeln!(
                body,
                "<text class='caption' x='{left}' y='{:.0}'>{}</text>\n\
                 <svg x='{left}' y='{:.0}' width='{COLUMN}' height='{:.0}' viewBox='0 0 {} {}'>\n{}</svg>",
                top + 12.0,
                escape(&picture.title),
                top + CAPTION,
                picture.scaled(),
                picture.width,
                picture.height,
                picture.body
            );
        }
        top += CAPTION + GAP + pictures.iter().map(Picture::scaled).fold(0.0, f64::max);
        columns = columns.max(pictures.len());
    }
    let width = GAP + (COLUMN + GAP) * columns as f64;
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {top:.0}' font-family='system-ui, sans-serif'>\n\
         <style>\n{style}</style>\n{body}</svg>\n"
    )
}

pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('\'', "&#39;")
}
