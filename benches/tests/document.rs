//! Documents show the runs that are committed beside them, and nothing that was typed by hand.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use tars_benches::report;

#[test]
fn the_tables_are_those_of_the_runs_beside_them() {
    for name in ["benchmarks", "learning"] {
        let document = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../docs/{name}.md"));
        let text = fs::read_to_string(&document).unwrap();
        let runs = report::runs(&document).unwrap();
        let written = report::rewrite(&text, name, &runs).unwrap();
        assert!(
            written == text,
            "docs/{name}.md is not what its runs say: scripts/bench document"
        );
    }
}
