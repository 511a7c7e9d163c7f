//! Every link within the repository leads somewhere.

use std::collections::HashSet;
use std::path::PathBuf;

use crate::{files, read, root};

/// The anchors that a document's headings make (GitHub's rule: lower case, spaces to dashes, no punctuation).
fn anchors(document: &str) -> HashSet<String> {
    let headings = document.lines().filter_map(|line| {
        line.trim_start_matches('#')
            .strip_prefix(' ')
            .filter(|_| line.starts_with('#'))
    });
    headings
        .map(|heading| {
            let kept = heading
                .trim()
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            kept.collect::<String>().to_lowercase().replace(' ', "-")
        })
        .collect()
}

/// The acceptance tests start the binary, which cargo does not build for another crate's tests.
#[test]
fn acceptance_tests_are_told_with_the_build_they_need() {
    let mut documents = vec![root().join("README.md")];
    files(&root().join("docs"), "md", &mut documents);
    let mut told = 0;
    for document in &documents {
        let text = read(document);
        for (at, _) in text.match_indices("cargo test -p tars-tests") {
            let before = text.get(..at).unwrap();
            assert!(
                before.ends_with("cargo build -p tars-proxy && "),
                "{}: {}",
                document.display(),
                text.get(at..).unwrap().lines().next().unwrap()
            );
            told += 1;
        }
    }
    assert!(told > 0, "no document tells of them");
}

#[test]
fn links_lead_somewhere() {
    let mut documents = vec![root().join("README.md"), root().join("CHANGELOG.md")];
    files(&root().join("docs"), "md", &mut documents);
    let mut broken = Vec::new();
    let mut followed = 0;
    for document in &documents {
        let text = read(document);
        let folder = document.parent().unwrap();
        let markdown = text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next());
        let images = ["src=\"", "srcset=\""].map(|before| {
            text.split(before)
                .skip(1)
                .filter_map(|rest| rest.split('"').next())
        });
        for link in markdown.chain(images.into_iter().flatten()) {
            if link.starts_with("http://") || link.starts_with("https://") {
                continue;
            }
            followed += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target: PathBuf = if path.is_empty() {
                document.clone()
            } else {
                folder.join(path)
            };
            let good =
                target.exists() && (anchor.is_empty() || anchors(&read(&target)).contains(anchor));
            if !good {
                broken.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(broken.is_empty(), "broken links:\n{}", broken.join("\n"));
    assert!(followed > 20, "only {followed} links were found");
}
