//! The tables of `docs/compatibility.md`: read, compared, written.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use tars_tests::parts;
use tars_tests::server::Kind;

use crate::{APPLICATION, CLIENTS, Client, ClientKind, LIBRARY};

/// What stands before the tables in the document; all that follows is written.
const BEGIN: &str = "<!-- From here on written by `make compatibility`. -->\n";

/// The heading of what [`note`] makes.
const NOTES: &str = "When a connection is killed";

/// A row, and the heading of the table that it stands in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    heading: String,
    name: String,
    cells: Vec<String>,
}

/// Of a client on a server: its version comes first.
pub(crate) fn row(client: &Client, kind: Kind, cells: Vec<String>) -> Row {
    let mut all = vec![client.language.version(client.package)];
    all.extend(cells);
    Row {
        heading: heading(client.kind == ClientKind::Library, kind),
        name: client.name.to_owned(),
        cells: all,
    }
}

/// What a library does when its connection is killed.
pub(crate) fn note(client: &Client, note: &str) -> Row {
    Row {
        heading: NOTES.to_owned(),
        name: client.name.to_owned(),
        cells: vec![note.to_owned()],
    }
}

/// The names of all clients that have a row.
pub(crate) fn names() -> BTreeSet<String> {
    parse(&document())
        .into_keys()
        .map(|(_, name)| name)
        .collect()
}

/// Whether rows are written, not compared.
pub(crate) fn writing() -> bool {
    env::var_os("TARS_COMPATIBILITY").is_some_and(|mode| mode == "write")
}

/// Compares these rows with the document's, or puts them there.
pub(crate) fn keep(rows: &[Row]) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let text = document();
    let mut all = parse(&text);
    if writing() {
        for row in rows {
            all.insert((row.heading.clone(), row.name.clone()), row.cells.clone());
        }
        let (prose, _) = text.split_once(BEGIN).unwrap();
        std::fs::write(path(), format!("{prose}{BEGIN}{}", render(&all))).unwrap();
        return;
    }
    for row in rows {
        let documented = all.get(&(row.heading.clone(), row.name.clone()));
        assert_eq!(
            documented,
            Some(&row.cells),
            "docs/compatibility.md says (left) other than the test (right) on {} under '{}'; to write what the test found: make compatibility CLIENT='{}'",
            row.name,
            row.heading,
            row.name,
        );
    }
}

fn path() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/compatibility.md")
}

fn document() -> String {
    std::fs::read_to_string(path()).unwrap()
}

fn heading(library: bool, kind: Kind) -> String {
    let server = match kind {
        Kind::Redis70 => format!("Redis {}", parts::version("REDIS70_VERSION")),
        Kind::Valkey => format!("Valkey {}", parts::version("VALKEY_VERSION")),
        Kind::Redis82 => format!("Redis {}", parts::version("REDIS82_VERSION")),
    };
    let what = if library { "Libraries" } else { "Applications" };
    format!("{what} on {server}")
}

/// The cells of every row, by heading and name.
type Rows = BTreeMap<(String, String), Vec<String>>;

fn parse(text: &str) -> Rows {
    let (_, tables) = text
        .split_once(BEGIN)
        .expect("docs/compatibility.md has the line before its tables");
    let mut rows = Rows::new();
    let mut heading = "";
    for line in tables.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            heading = title;
        }
        let inner = line.strip_prefix("| ").and_then(|l| l.strip_suffix(" |"));
        let Some((name, rest)) = inner.and_then(|inner| inner.split_once(" | ")) else {
            continue;
        };
        if name == "---" || HEADS.contains(&name) {
            continue;
        }
        let cells = rest.split(" | ").map(str::to_owned).collect();
        rows.insert((heading.to_owned(), name.to_owned()), cells);
    }
    rows
}

/// The first column's heads, in the order of the tables.
const HEADS: [&str; 2] = ["Library", "Application"];

/// The tables with the rows of all clients that there are, in their order. Rows of others are left out.
fn render(rows: &Rows) -> String {
    let mut text = String::new();
    let mut table = |heading: &str, columns: &[&str]| {
        let cells = |client: &Client| rows.get(&(heading.to_owned(), client.name.to_owned()));
        if CLIENTS.iter().all(|client| cells(client).is_none()) {
            return;
        }
        writeln!(text, "\n## {heading}\n\n| {} |", columns.join(" | ")).unwrap();
        writeln!(text, "|{}", " --- |".repeat(columns.len())).unwrap();
        for client in CLIENTS {
            if let Some(cells) = cells(client) {
                writeln!(text, "| {} | {} |", client.name, cells.join(" | ")).unwrap();
            }
        }
    };
    let columns = |head: &'static str, features: &[&'static str], last: &'static str| {
        let mut columns = vec![head, "version"];
        columns.extend(features);
        columns.push(last);
        columns
    };
    let [library, application] = HEADS;
    for kind in Kind::ALL {
        table(&heading(true, kind), &columns(library, LIBRARY, "traced"));
    }
    table(NOTES, &[library, "A command whose reply was awaited"]);
    for kind in Kind::ALL {
        table(
            &heading(false, kind),
            &columns(application, APPLICATION, "linked"),
        );
    }
    text
}
