//! What the dry run found, as a table for people and as JSON for machines.

use std::fmt::Write as _;

use serde::Serialize;

use super::decide::{Action, Decision, Reason};
use crate::config::{Choice as _, Deliver, StreamSettings};

/// Every XADD of the input.
#[derive(Debug, Default, Serialize)]
pub(super) struct CommandReport {
    /// Commands that could be read, XADD or not.
    pub(super) read: usize,
    pub(super) xadds: Vec<CommandLine>,
    /// What could not be read, and why.
    pub(super) unreadable: Vec<String>,
}

/// One XADD.
#[derive(Debug, Serialize)]
pub(super) struct CommandLine {
    number: usize,
    stream: String,
    action: Action,
    reason: Option<Reason>,
    fields: Vec<&'static str>,
    wire_bytes: i64,
    payload_bytes: i64,
}

/// Streams of a server.
#[derive(Debug, Serialize)]
pub(super) struct StreamReport {
    pub(super) upstream: String,
    pub(super) streams: Vec<StreamLine>,
}

/// The latest entries of one stream.
#[derive(Debug, Serialize)]
pub(super) struct StreamLine {
    stream: String,
    /// Why it could not be looked at.
    pub(super) error: Option<String>,
    entries: usize,
    /// Names and values of an entry as it is; this and what follows from it is none where there are no entries.
    payload_before: Option<Spread>,
    /// The same through the proxy.
    payload_after: Option<Spread>,
    /// Of all sampled payload.
    added_percent: Option<f64>,
    /// RESP bytes added to each XADD.
    wire_added: Option<Spread>,
    /// Entries that carry a valid `traceparent`.
    with_traceparent: usize,
    /// Entries with a context in `_trace_context` only.
    with_envelope: usize,
    /// Entries whose `traceparent` is invalid.
    with_invalid: usize,
    /// Entries that would be left alone: `trace = false`, or too large.
    skipped: usize,
    /// Whether a reader that refuses fields it does not know would see some.
    new_field_names: Option<bool>,
    rule: Rule,
}

/// What holds for the stream.
#[derive(Debug, Serialize)]
struct Rule {
    /// Of the `[[stream]]` that counts; none: the defaults.
    pattern: Option<String>,
    /// Whether `--deliver` or `--sample` said something over it.
    flag: bool,
    trace: bool,
    deliver: &'static str,
    /// Share of new traces that is sampled.
    sample: f64,
    force: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Spread {
    median: i64,
    max: i64,
}

impl Spread {
    fn of(mut values: Vec<i64>) -> Self {
        values.sort_unstable();
        let at = |index: usize| values.get(index).copied().unwrap_or_default();
        Self {
            median: i64::midpoint(at(values.len().saturating_sub(1) / 2), at(values.len() / 2)),
            max: values.last().copied().unwrap_or_default(),
        }
    }
}

impl CommandLine {
    pub(super) fn new(number: usize, stream: &[u8], decision: Decision) -> Self {
        let Decision {
            action,
            reason,
            fields,
            wire_bytes,
            payload_bytes,
        } = decision;
        let stream = String::from_utf8_lossy(stream).into_owned();
        Self {
            number,
            stream,
            action,
            reason,
            fields,
            wire_bytes,
            payload_bytes,
        }
    }

    fn what(&self) -> String {
        match (self.action, self.reason) {
            (Action::Inject, _) => "inject a new context".to_owned(),
            (Action::Own, _) => "keep the application's own".to_owned(),
            (Action::Envelope, _) => "copy from _trace_context".to_owned(),
            (Action::Replace, _) => "replace an invalid traceparent".to_owned(),
            (Action::Skip, reason) => format!("skip: {}", reason.map_or("", Reason::text)),
        }
    }
}

impl CommandReport {
    pub(super) fn show(&self, json: bool) -> String {
        let wire: i64 = self.xadds.iter().map(|line| line.wire_bytes).sum();
        let payload: i64 = self.xadds.iter().map(|line| line.payload_bytes).sum();
        let changed = self
            .xadds
            .iter()
            .filter(|line| !matches!(line.action, Action::Own | Action::Skip))
            .count();
        if json {
            let total = serde_json::json!({
                "commands": self.read, "xadds": self.xadds.len(), "changed": changed, "wire_bytes": wire, "payload_bytes": payload,
            });
            let report = serde_json::json!({ "xadds": self.xadds, "unreadable": self.unreadable, "total": total });
            return format!("{report:#}\n");
        }
        let mut rows =
            vec![["#", "STREAM", "WHAT", "FIELDS ADDED", "WIRE", "PAYLOAD"].map(str::to_owned)];
        rows.extend(self.xadds.iter().map(|line| {
            [
                line.number.to_string(),
                shown(&line.stream),
                line.what(),
                if line.fields.is_empty() {
                    "-".to_owned()
                } else {
                    line.fields.join(", ")
                },
                format!("{:+}", line.wire_bytes),
                format!("{:+}", line.payload_bytes),
            ]
        }));
        let mut out = if self.xadds.is_empty() {
            String::new()
        } else {
            table(&rows) + "\n"
        };
        let _ = writeln!(
            out,
            "{} {}, {} of them XADD, {changed} changed: {wire:+} bytes on the wire (RESP), {payload:+} bytes of field names \
             and values",
            self.read,
            if self.read == 1 {
                "command"
            } else {
                "commands"
            },
            self.xadds.len(),
        );
        for why in &self.unreadable {
            let _ = writeln!(out, "{why}");
        }
        out
    }
}

impl StreamLine {
    pub(super) fn new(
        stream: &str,
        pattern: Option<String>,
        flag: bool,
        settings: &StreamSettings,
        root_ratio: f64,
    ) -> Self {
        let sample = if settings.force {
            1.0
        } else {
            settings.sample.unwrap_or(root_ratio)
        };
        let rule = Rule {
            pattern,
            flag,
            trace: settings.trace,
            deliver: settings.deliver.name(),
            sample,
            force: settings.force,
        };
        Self {
            stream: stream.to_owned(),
            error: None,
            entries: 0,
            payload_before: None,
            payload_after: None,
            added_percent: None,
            wire_added: None,
            with_traceparent: 0,
            with_envelope: 0,
            with_invalid: 0,
            skipped: 0,
            new_field_names: None,
            rule,
        }
    }

    /// Takes entries in: the payload of each, and what would be done to it.
    pub(super) fn measure(&mut self, entries: impl Iterator<Item = (u64, Decision)>) {
        let (mut before, mut after, mut wire) = (Vec::new(), Vec::new(), Vec::new());
        let mut new_field_names = false;
        for (payload, decision) in entries {
            let payload = i64::try_from(payload).unwrap_or(i64::MAX);
            before.push(payload);
            after.push(payload + decision.payload_bytes);
            wire.push(decision.wire_bytes);
            match decision.action {
                Action::Own => self.with_traceparent += 1,
                Action::Envelope => self.with_envelope += 1,
                Action::Replace => self.with_invalid += 1,
                Action::Skip => self.skipped += 1,
                Action::Inject => {}
            }
            new_field_names |=
                !decision.fields.is_empty() && self.rule.deliver != Deliver::Strip.name();
        }
        if before.is_empty() {
            return;
        }
        let (old, new) = (before.iter().sum::<i64>(), after.iter().sum::<i64>());
        // To a tenth; the bytes of a sample are far below what a f64 counts exactly.
        self.added_percent = Some(((new - old) as f64 * 1000.0 / old.max(1) as f64).round() / 10.0);
        self.entries = before.len();
        self.payload_before = Some(Spread::of(before));
        self.payload_after = Some(Spread::of(after));
        self.wire_added = Some(Spread::of(wire));
        self.new_field_names = Some(new_field_names);
    }

    /// Whether there was anything to look at.
    pub(super) fn seen(&self) -> bool {
        self.error.is_none() && self.entries > 0
    }

    fn row(&self) -> [String; 11] {
        let none = || "-".to_owned();
        let spread = |spread: Option<Spread>| {
            spread.map_or_else(none, |spread| format!("{} / {}", spread.median, spread.max))
        };
        let sample = if self.rule.force {
            "forced".to_owned()
        } else {
            self.rule.sample.to_string()
        };
        let rule = match (&self.rule.pattern, self.rule.trace, self.rule.flag) {
            (None, _, false) => "default".to_owned(),
            (None, _, true) => "flag".to_owned(),
            // Nothing is sampled or delivered otherwise there, whatever a flag says.
            (Some(pattern), false, _) => format!("{}, trace = false", shown(pattern)),
            (Some(pattern), true, false) => shown(pattern),
            (Some(pattern), true, true) => format!("{}, flag", shown(pattern)),
        };
        [
            shown(&self.stream),
            self.entries.to_string(),
            spread(self.payload_before),
            spread(self.payload_after),
            self.added_percent
                .map_or_else(none, |percent| format!("{percent:+.1} %")),
            spread(self.wire_added),
            if self.seen() {
                format!("{} / {}", self.with_traceparent, self.with_envelope)
            } else {
                none()
            },
            match self.new_field_names {
                None => "-",
                Some(true) => "yes",
                Some(false) => "no",
            }
            .to_owned(),
            self.rule.deliver.to_owned(),
            sample,
            rule,
        ]
    }
}

impl StreamReport {
    pub(super) fn show(&self, json: bool) -> String {
        if json {
            return format!("{:#}\n", serde_json::json!(self));
        }
        let mut rows = vec![
            [
                "STREAM",
                "ENTRIES",
                "PAYLOAD",
                "WITH CONTEXT",
                "ADDED",
                "WIRE ADDED",
                "TRACED",
                "NEW NAMES",
                "DELIVER",
                "SAMPLE",
                "RULE",
            ]
            .map(str::to_owned),
        ];
        rows.extend(
            self.streams
                .iter()
                .filter(|line| line.error.is_none())
                .map(StreamLine::row),
        );
        let mut out = format!("{}\n\n", self.upstream);
        if rows.len() > 1 {
            out += &table(&rows);
            out += LEGEND;
        }
        for line in &self.streams {
            if let Some(error) = &line.error {
                let _ = writeln!(out, "{}: {error}", shown(&line.stream));
            } else if line.entries == 0 {
                let _ = writeln!(
                    out,
                    "{}: there is nothing to look at: the stream is empty, or not there; look at its name, and at --db",
                    shown(&line.stream)
                );
            }
        }
        out
    }
}

const LEGEND: &str = "
PAYLOAD       field names and values of an entry, in bytes: median / largest; Redis stores a few more for each field
WITH CONTEXT  the same as the proxy would write it
WIRE ADDED    bytes of RESP added to an XADD: median / largest
TRACED        entries with a valid traceparent / with a context in _trace_context only
NEW NAMES     whether readers behind the proxy would see field names that the producer did not write; strict decoders need deliver = strip
";

/// As text that cannot steer a terminal.
fn shown(text: &str) -> String {
    text.escape_debug().to_string()
}

/// Columns as wide as what stands in them.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            let _ = write!(line, "{cell:width$}  ");
        }
        out += line.trim_end();
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [["a", "long head"], ["wide ü", "1"]].map(|row| row.map(str::to_owned));
        assert_eq!(table(&rows), "a       long head\nwide ü  1\n");
    }

    #[test]
    fn a_spread_is_the_median_and_the_largest() {
        assert_eq!(Spread::of(vec![]), Spread { median: 0, max: 0 });
        assert_eq!(Spread::of(vec![7]), Spread { median: 7, max: 7 });
        assert_eq!(Spread::of(vec![9, 1, 5]), Spread { median: 5, max: 9 });
        assert_eq!(Spread::of(vec![9, 1, 5, 8]), Spread { median: 6, max: 9 });
    }
}
