//! A document with parts that are written by this program, so that no figure is typed by hand.

use std::fmt::Write as _;
use std::path::Path;
use std::{fs, io};

use serde::de::DeserializeOwned;

use super::{act, met, pictures, tables, targets};
use crate::measured::Run;

const BEGIN: &str = "<!-- tars-bench: ";
const END: &str = "<!-- tars-bench: end -->";

/// Why a document cannot be written.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It names a part that there is none of.
    #[error("no part is called `{0}`")]
    Unknown(String),
    /// A part does not end.
    #[error("the part `{0}` has no end: {END}")]
    Open(String),
}

/// The names of runs of proxies that a document shows.
const NAMES: [&str; 3] = ["peers", "linear", "count"];

/// Runs by name; none, where it has not been measured.
#[derive(Debug)]
pub struct Runs {
    /// Of proxies.
    pub proxies: Vec<(&'static str, Option<Run>)>,
    /// Of the learner's service.
    pub act: Option<crate::act::Run>,
}

/// The runs beside a document: `NAME.json` in a folder of its name.
///
/// # Errors
/// If one cannot be read.
pub fn runs(document: &Path) -> io::Result<Runs> {
    let folder = document.with_extension("");
    let proxies = NAMES
        .into_iter()
        .map(|name| Ok((name, read(&folder, name)?)));
    Ok(Runs {
        proxies: proxies.collect::<io::Result<_>>()?,
        act: read(&folder, "act")?,
    })
}

fn read<T: DeserializeOwned>(folder: &Path, name: &str) -> io::Result<Option<T>> {
    let path = folder.join(name).with_extension("json");
    if !path.exists() {
        return Ok(None);
    }
    Ok(Some(serde_json::from_slice(&fs::read(path)?)?))
}

/// Writes each part anew between `<!-- tars-bench: NAME -->` and `<!-- tars-bench: end -->`: the tables of that run, or under the name
/// `targets` the targets of all. Pictures are in `folder`, as the document sees it.
///
/// # Errors
/// If the document is not as it should be.
pub fn rewrite(document: &str, folder: &str, runs: &Runs) -> Result<String, Error> {
    let mut out = String::new();
    let mut rest = document;
    while let Some((before, after)) = rest.split_once(BEGIN) {
        let (name, after) = after.split_once(" -->\n").unwrap_or((after, ""));
        let Some((_, after)) = after.split_once(END) else {
            return Err(Error::Open(name.to_owned()));
        };
        let text = text(name, folder, runs).ok_or_else(|| Error::Unknown(name.to_owned()))?;
        out.extend([
            before,
            BEGIN,
            name,
            " -->\n\n",
            text.trim_end(),
            "\n\n",
            END,
        ]);
        rest = after;
    }
    Ok(out + rest)
}

fn text(name: &str, folder: &str, runs: &Runs) -> Option<String> {
    if name == "targets" {
        let all = runs.proxies.iter().filter_map(|(_, run)| run.as_ref());
        return Some(met(&all.flat_map(targets).collect::<Vec<_>>()));
    }
    let unmeasured = || Some("Not measured yet.".to_owned());
    if name == "act" {
        return runs.act.as_ref().map(act).or_else(unmeasured);
    }
    let (_, run) = runs.proxies.iter().find(|(known, _)| *known == name)?;
    let Some(run) = run else {
        return unmeasured();
    };
    let mut text = String::new();
    if pictures(run).is_some() {
        let _ = writeln!(
            text,
            "![What the tables below say, as pictures]({folder}/{name}.svg)\n"
        );
    }
    // The document has the targets of all runs in one place.
    Some(text + &tables(run, false))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::even;

    #[test]
    fn only_the_parts_are_written() {
        let runs = Runs {
            proxies: vec![("peers", Some(even())), ("count", None)],
            act: None,
        };
        let document = "a\n<!-- tars-bench: peers -->\nold\n<!-- tars-bench: end -->\nb\n<!-- tars-bench: count -->\n<!-- tars-bench: end -->\nc\n";
        let written = rewrite(document, "d", &runs).unwrap();
        assert!(
            written.starts_with("a\n<!-- tars-bench: peers -->\n\n![What the tables below say, as pictures](d/peers.svg)\n\nPlan `peers`"),
            "{written}"
        );
        assert!(
            written.contains("-->\nb\n<!--")
                && written.ends_with("Not measured yet.\n\n<!-- tars-bench: end -->\nc\n")
        );
        assert!(!written.contains("old"), "{written}");
        assert_eq!(rewrite(&written, "d", &runs).unwrap(), written);
        let of = |text: &str| rewrite(text, "d", &runs).unwrap_err();
        assert_eq!(
            of("<!-- tars-bench: x -->\n<!-- tars-bench: end -->"),
            Error::Unknown("x".into())
        );
        assert_eq!(
            of("<!-- tars-bench: peers -->\n"),
            Error::Open("peers".into())
        );
    }
}
