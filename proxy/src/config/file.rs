//! The file's share of the configuration: TOML, walked by hand so that every problem is found, each with its line.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Origin, Problem};
use super::names;
use super::source::{Given, Source, Table};
use super::value::list;

/// A larger file is none of ours: a stream rule takes a hundred bytes.
const MAX_FILE: u64 = 1 << 20;

/// Reads and takes apart a file. A file that is no TOML says nothing.
pub(super) fn read(path: &Path, problems: &mut Vec<Problem>) -> Source {
    let mut bytes = Vec::new();
    let path: Arc<Path> = path.into();
    let read = File::open(&path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes));
    let message = match (read, String::from_utf8(bytes)) {
        (Err(error), _) => {
            format!("the file cannot be read ({error}); --config or TARS_CONFIG names it")
        }
        (Ok(n), _) if n as u64 > MAX_FILE => {
            "the file is larger than 1MiB; it cannot be a configuration".to_owned()
        }
        (_, Err(_)) => "the file is no UTF-8 text; TOML is written in UTF-8".to_owned(),
        (_, Ok(text)) => return parse(&path, &text, problems),
    };
    problems.push(Problem {
        origin: Origin::File {
            path,
            line: None,
            key: String::new(),
        },
        message,
    });
    Source::default()
}

/// Takes a file's text apart.
pub(super) fn parse(path: &Arc<Path>, text: &str, problems: &mut Vec<Problem>) -> Source {
    let mut reader = Reader {
        path,
        text,
        problems,
    };
    match DeTable::parse(text) {
        Ok(root) => reader.root(root.get_ref()),
        Err(error) => {
            let at = error.span().map_or(text.len(), |span| span.start);
            // Not the error's own display: it shows the line, and there may be a password in it.
            reader.problem(
                at,
                "",
                format!("this is no TOML: {}", error.message().replace('\n', ", ")),
            );
            Source::default()
        }
    }
}

struct Reader<'a> {
    path: &'a Arc<Path>,
    text: &'a str,
    problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    fn root(&mut self, root: &DeTable<'_>) -> Source {
        let mut source = Source::default();
        for (key, value) in root {
            match key.get_ref().as_ref() {
                "listener" => {
                    source.listeners = self.tables("listener", names::LISTENER, key, value);
                }
                "stream" => source.streams = self.tables("stream", names::STREAM, key, value),
                "limits" => match value.get_ref() {
                    DeValue::Table(table) => {
                        let limits = self.table("limits.", names::LIMITS, "[limits]", table);
                        source.settings.values.extend(limits.values);
                    }
                    _ => self.problem(
                        key.span().start,
                        "limits",
                        "this is a table; write [limits]".to_owned(),
                    ),
                },
                _ => self.entry(&mut source.settings, "", names::TOP, "", key, value),
            }
        }
        source
    }

    /// `[[name]]`, any number of times.
    fn tables(
        &mut self,
        name: &str,
        known: &[&'static str],
        key: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
    ) -> Vec<Table> {
        let DeValue::Array(items) = value.get_ref() else {
            self.problem(
                key.span().start,
                name,
                format!("this is a list of tables; write [[{name}]]"),
            );
            return Vec::new();
        };
        let mut tables = Vec::with_capacity(items.len());
        for item in items {
            let at = item.span().start;
            match item.get_ref() {
                DeValue::Table(table) => {
                    let mut table =
                        self.table(&format!("{name}."), known, &format!("[[{name}]]"), table);
                    table.origin = Some(self.origin(at, name));
                    tables.push(table);
                }
                _ => self.problem(
                    at,
                    name,
                    format!("this is a list of tables; write [[{name}]]"),
                ),
            }
        }
        tables
    }

    fn table(
        &mut self,
        prefix: &str,
        known: &[&'static str],
        title: &str,
        table: &DeTable<'_>,
    ) -> Table {
        let mut out = Table::default();
        for (key, value) in table {
            self.entry(&mut out, prefix, known, title, key, value);
        }
        out
    }

    /// One `key = value`.
    fn entry(
        &mut self,
        out: &mut Table,
        prefix: &str,
        known: &[&'static str],
        title: &str,
        key: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
    ) {
        let written = key.get_ref().as_ref();
        let at = key.span().start;
        let path = format!("{prefix}{written}");
        let Some(name) = known.iter().find(|name| **name == written) else {
            self.problem(at, &path, unknown(written, known, title));
            return;
        };
        match scalar(value.get_ref()) {
            Ok(text) => {
                out.values.insert(
                    name,
                    Given {
                        text,
                        origin: self.origin(at, &path),
                    },
                );
            }
            Err(kind) => self.problem(at, &path, format!("this is {kind}; write a single value")),
        }
    }

    fn origin(&self, at: usize, key: &str) -> Origin {
        let before = self.text.as_bytes().get(..at).unwrap_or_default();
        let line = Some(memchr::memchr_iter(b'\n', before).count() + 1);
        Origin::File {
            path: self.path.clone(),
            line,
            key: key.to_owned(),
        }
    }

    fn problem(&mut self, at: usize, key: &str, message: String) {
        let origin = self.origin(at, key);
        self.problems.push(Problem { origin, message });
    }
}

/// A single value as text, or what else it is.
fn scalar(value: &DeValue<'_>) -> Result<String, &'static str> {
    match value {
        DeValue::String(text) => Ok(text.as_ref().to_owned()),
        DeValue::Integer(number) => Ok(number.to_string()),
        DeValue::Float(number) => Ok(number.as_str().to_owned()),
        DeValue::Boolean(boolean) => Ok(boolean.to_string()),
        DeValue::Datetime(_) => Err("a date"),
        DeValue::Array(_) => Err("a list"),
        DeValue::Table(_) => Err("a table"),
    }
}

/// Where a known key may stand.
fn belongs(key: &str) -> Option<String> {
    let tables = names::TABLES
        .iter()
        .map(|(table, _, keys)| (format!("in {table}"), *keys));
    tables
        .chain([("at the top of the file".to_owned(), names::TOP)])
        .find(|(_, keys)| keys.contains(&key))
        .map(|(place, _)| place)
}

/// What to say about an unknown key: where it belongs, the nearest known key, or all that may stand here.
fn unknown(written: &str, known: &[&'static str], title: &str) -> String {
    let is_top = title.is_empty();
    let here = known.iter().copied().chain(
        names::TABLES
            .iter()
            .filter(|_| is_top)
            .map(|(_, name, _)| *name),
    );
    if let Some(place) = belongs(written) {
        return format!("unknown key here: it belongs {place}");
    }
    // Of equally near ones the one that may stand here.
    let all = here
        .clone()
        .chain(names::TABLES.iter().flat_map(|(_, _, keys)| *keys).copied());
    match names::nearest(written, all.chain(names::TOP.iter().copied())) {
        Some(near) if here.clone().any(|name| name == near) => {
            format!("unknown key; the nearest known one is `{near}`")
        }
        Some(near) => format!(
            "unknown key; the nearest known one is `{near}`, which belongs {}",
            belongs(near).unwrap_or_default()
        ),
        None => format!("unknown key; known ones are {}", list(here, "and")),
    }
}

#[cfg(test)]
mod tests;
