//! `docs/limits.md`: every row of its tables has a test, named in its last section.

use std::collections::{BTreeMap, BTreeSet};

use crate::{read, root, rows};

const DOCUMENT: &str = "docs/limits.md";
const SECTION: &str = "\n## Each with its test\n";

/// The first cell of each row of each table, the tables' headings aside.
fn firsts(document: &str) -> BTreeSet<&str> {
    let is_rule = |line: &&str| line.starts_with("| ---");
    let lines: Vec<&str> = document.lines().chain([""]).collect();
    let pairs = lines.windows(2).filter(|pair| !pair.iter().any(is_rule));
    let within = pairs.filter_map(|pair| rows(pair.first()?).next());
    within.filter_map(|row| row.first().copied()).collect()
}

/// The links of a text: what they say, and where they lead.
fn links(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let links = text.split('[').skip(1);
    links.filter_map(|link| link.split_once(')')?.0.split_once("]("))
}

#[test]
fn every_row_has_a_test_that_there_is() {
    let document = read(DOCUMENT);
    let (limits, tests) = document.split_once(SECTION).unwrap();
    let listed = firsts(limits);
    let tested: BTreeMap<&str, &str> = rows(tests)
        .filter_map(|row| match row[..] {
            [first, links] => Some((first, links)),
            _ => None,
        })
        .filter(|(first, _)| !matches!(*first, "Row" | "---"))
        .collect();
    let named: BTreeSet<&str> = tested.keys().copied().collect();
    let (without, of_nothing) = (&listed - &named, &named - &listed);
    assert!(without.is_empty(), "rows without a test: {without:#?}");
    assert!(of_nothing.is_empty(), "tests of no row: {of_nothing:#?}");
    assert!(listed.len() > 50, "{}", listed.len());
    for (first, text) in tested {
        assert!(links(text).next().is_some(), "{first}: no test");
        for (name, path) in links(text) {
            let file = read(root().join("docs").join(path));
            assert!(is_test(&file, name), "{first}: {path} has no test {name}");
        }
    }
}

/// Whether a file has a test of this name.
fn is_test(file: &str, name: &str) -> bool {
    let test = |line: &str| line.contains("#[test]") || line.contains("#[tokio::test");
    let lines: Vec<&str> = file.lines().map(str::trim).collect();
    let functions = [format!("fn {name}()"), format!("async fn {name}()")];
    let mut functions = lines.windows(2).filter(|pair| {
        let starts = |function: &String| {
            pair.last()
                .is_some_and(|line| line.starts_with(&**function))
        };
        functions.iter().any(starts)
    });
    functions.any(|pair| pair.first().is_some_and(|line| test(line)))
}
