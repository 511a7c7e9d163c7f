//! The names of all settings: a key `drain_timeout` is the flag `--drain-timeout` and the variable `TARS_DRAIN_TIMEOUT`.

/// Keys at the top of the file.
pub(super) const TOP: &[&str] = &[
    "admin",
    "workers",
    "region",
    "relation",
    "process_timeout",
    "drain_timeout",
    "no_trace",
    "log_level",
    "log_format",
];

/// Keys of `[[listener]]`; as flags and variables they set up the only listener.
pub(super) const LISTENER: &[&str] = &[
    "listen",
    "upstream",
    "upstream_env",
    "service_name",
    "infer_parent",
    "upstream_ca",
    "upstream_cert",
    "upstream_key",
    "upstream_server_name",
    "tls_cert",
    "tls_key",
    "tls_client_ca",
];

/// Keys of `[limits]`.
pub(super) const LIMITS: &[&str] = &[
    "max_message_bytes",
    "max_held_bytes",
    "max_pending_replies",
    "max_pending_bytes",
    "max_deliveries",
    "max_metric_names",
    "max_recent_spans",
    "max_connections",
];

/// Keys of `[[stream]]`.
pub(super) const STREAM: &[&str] = &["pattern", "trace", "deliver", "sample", "force"];

/// The file's tables: as they are written, their names, their keys.
pub(super) const TABLES: [(&str, &str, &[&str]); 3] = [
    ("[[listener]]", "listener", LISTENER),
    ("[[stream]]", "stream", STREAM),
    ("[limits]", "limits", LIMITS),
];

/// Flags and variables that are no keys of the file: the file itself, and lists of `PATTERN=VALUE`.
pub(super) const CONFIG: &str = "config";
/// The text of a file, in the environment alone.
pub(super) const CONFIG_INLINE: &str = "config_inline";
pub(super) const DELIVER: &str = "deliver";
pub(super) const SAMPLE: &str = "sample";

/// What every variable of this program begins with.
pub(super) const PREFIX: &str = "TARS_";

/// Less alike than this, a name is no misspelling of another: half of its letters would have to change.
const ALIKE: f64 = 0.5;

/// Settings that have one value, wherever they are written.
pub(super) fn single() -> impl Iterator<Item = &'static str> {
    [TOP, LISTENER, LIMITS].into_iter().flatten().copied()
}

/// `--drain-timeout`
pub(super) fn flag(key: &str) -> String {
    format!("--{}", key.replace('_', "-"))
}

/// `TARS_DRAIN_TIMEOUT`
pub(super) fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.to_ascii_uppercase())
}

/// The name that was probably meant.
pub(super) fn nearest(
    written: &str,
    known: impl IntoIterator<Item = &'static str>,
) -> Option<&'static str> {
    known
        .into_iter()
        .map(|name| (strsim::normalized_damerau_levenshtein(written, name), name))
        .filter(|(alike, _)| *alike >= ALIKE)
        .reduce(|best, next| if next.0 > best.0 { next } else { best })
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_name_that_was_meant() {
        for (written, expected) in [
            ("wrokers", Some("workers")),
            ("worker", Some("workers")),
            ("drain-timeout", Some("drain_timeout")),
            ("loglevel", Some("log_level")),
            ("max_delivery", Some("max_deliveries")),
            ("zzz", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, single()), expected, "{written}");
        }
    }
}
