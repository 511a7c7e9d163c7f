//! How single values are written: durations, sizes, counts, ratios, booleans, choices.
//!
//! An error is the end of a sentence that begins with the place of the value: what was written, and what would be right.

use std::fmt::Write as _;
use std::ops::RangeInclusive;
use std::time::Duration;

/// A parsed value, or why it is refused.
pub(crate) type Parsed<T> = Result<T, String>;

/// Deadlines are added to the clock's time: a year keeps that far from overflow, and is longer than anybody waits.
const MAX_DURATION: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Redis takes no larger value (`proto-max-bulk-len`).
const MAX_SIZE: usize = 512 << 20;

/// More memory than there is: a slip.
const MAX_TOTAL: usize = 1 << 40;

/// Of a value that is refused, as much is repeated.
const MAX_SHOWN: usize = 60;

const DURATION_UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
const SIZE_UNITS: [(&str, usize); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// A value out of a few, each with its name.
pub(crate) trait Choice: Copy + PartialEq + 'static {
    /// Names and values, the default first.
    const ALL: &[(&str, Self)];

    /// The name of this value.
    fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find_map(|(name, value)| (*value == self).then_some(*name))
            .unwrap_or_default()
    }
}

/// What was written, in backquotes, without control characters and not endless.
pub(super) fn shown(text: &str) -> String {
    let mut out = String::from("`");
    for (i, c) in text.chars().enumerate() {
        if i == MAX_SHOWN {
            out.push('…');
            break;
        }
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out.push('`');
    out
}

/// `a, b or c`.
pub(super) fn list<'a>(names: impl IntoIterator<Item = &'a str>, last: &str) -> String {
    let names: Vec<_> = names.into_iter().collect();
    match names.split_last() {
        Some((end, [])) => (*end).to_owned(),
        Some((end, rest)) => format!("{} {last} {end}", rest.join(", ")),
        None => String::new(),
    }
}

/// Digits, and what comes behind them.
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let end = text
        .bytes()
        .position(|b| !b.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at_checked(end)?;
    Some((digits.parse().ok()?, unit))
}

/// `5m`, `30s`, `250ms`, `1h`; more than zero.
pub(crate) fn duration(text: &str) -> Parsed<Duration> {
    let refused = |why: &str| {
        Err(format!(
            "{} {why}; write a duration as 250ms, 30s, 5m or 1h",
            shown(text)
        ))
    };
    let Some((number, unit)) = number_and_unit(text) else {
        return refused(if text.starts_with('-') {
            "is negative, and no duration is"
        } else {
            "is no whole number with a unit"
        });
    };
    let Some((_, factor)) = DURATION_UNITS.iter().find(|(name, _)| *name == unit) else {
        return refused(if unit.is_empty() {
            "has no unit"
        } else {
            "has an unknown unit"
        });
    };
    match number.checked_mul(*factor).map(Duration::from_millis) {
        Some(Duration::ZERO) => refused("is no time at all"),
        Some(duration) if duration <= MAX_DURATION => Ok(duration),
        _ => refused("is more than a year"),
    }
}

/// Writes a duration so that [`duration`] reads it back.
pub(super) fn show_duration(duration: Duration) -> String {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let whole = |(_, factor): &&(&str, u64)| ms.is_multiple_of(*factor);
    match DURATION_UNITS.iter().find(whole) {
        Some((unit, factor)) => format!("{}{unit}", ms / factor),
        None => format!("{ms}ms"),
    }
}

/// The size of one message: `1MiB`, `64KiB`, or bytes: `65536`; more than zero.
pub(super) fn size(text: &str) -> Parsed<usize> {
    bytes(
        text,
        MAX_SIZE,
        "is more than 512MiB, the largest value Redis takes",
    )
}

/// A size of what many share, written as [`size`].
pub(super) fn total_size(text: &str) -> Parsed<usize> {
    bytes(text, MAX_TOTAL, "is more than 1024GiB")
}

fn bytes(text: &str, max: usize, too_many: &str) -> Parsed<usize> {
    let refused = |why: &str| {
        Err(format!(
            "{} {why}; write a size as 65536, 64KiB or 1MiB",
            shown(text)
        ))
    };
    let Some((number, unit)) = number_and_unit(text) else {
        return refused("is no whole number of bytes");
    };
    let factor = match SIZE_UNITS
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(unit))
    {
        Some((_, factor)) => *factor,
        None if unit.is_empty() || unit.eq_ignore_ascii_case("B") => 1,
        None => return refused("has an unknown unit"),
    };
    match usize::try_from(number)
        .ok()
        .and_then(|n| n.checked_mul(factor))
    {
        Some(0) => refused("is no size at all"),
        Some(bytes) if bytes <= max => Ok(bytes),
        _ => refused(too_many),
    }
}

/// Writes a size so that [`size`] reads it back.
pub(super) fn show_size(bytes: usize) -> String {
    let whole = |(_, factor): &&(&str, usize)| bytes != 0 && bytes.is_multiple_of(*factor);
    match SIZE_UNITS.iter().find(whole) {
        Some((unit, factor)) => format!("{}{unit}", bytes / factor),
        None => bytes.to_string(),
    }
}

/// A whole number in a range.
pub(super) fn count(text: &str, range: RangeInclusive<usize>) -> Parsed<usize> {
    match number_and_unit(text) {
        Some((number, "")) if usize::try_from(number).is_ok_and(|n| range.contains(&n)) => {
            usize::try_from(number).map_err(|e| e.to_string())
        }
        _ => Err(format!(
            "{} is no whole number from {} to {}",
            shown(text),
            range.start(),
            range.end()
        )),
    }
}

/// A share, 0 to 1.
pub(super) fn ratio(text: &str) -> Parsed<f64> {
    match text.parse::<f64>() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio.abs()),
        _ => Err(format!(
            "{} is no number from 0 to 1, such as 0.25",
            shown(text)
        )),
    }
}

/// `true` or `false`.
pub(super) fn boolean(text: &str) -> Parsed<bool> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("{} is neither true nor false", shown(text))),
    }
}

/// One of the names of a [`Choice`].
pub(super) fn choice<T: Choice>(text: &str) -> Parsed<T> {
    T::ALL
        .iter()
        .find_map(|(name, value)| (*name == text).then_some(*value))
        .ok_or_else(|| {
            let names = list(T::ALL.iter().map(|(name, _)| *name), "or");
            format!("{} is not one of {names}", shown(text))
        })
}

/// A name: anything that can be shown and is not blank.
pub(super) fn name(text: &str) -> Parsed<std::sync::Arc<str>> {
    let text = text.trim();
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(format!(
            "{} is no name; write a word such as shop",
            shown(text)
        ));
    }
    Ok(text.into())
}

/// The name of a variable. Nothing is repeated: somebody may have written there what the variable should hold.
pub(super) fn variable(text: &str) -> Parsed<std::sync::Arc<str>> {
    let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    match !text.is_empty() && text.chars().all(named) {
        true => Ok(text.into()),
        false => Err(
            "this is no name of a variable; write one such as REDIS_URL, whose value is the server's URL"
                .to_owned(),
        ),
    }
}

/// The path of a file.
pub(super) fn path(text: &str) -> Parsed<std::path::PathBuf> {
    if text.is_empty() || text.contains('\0') {
        return Err(format!("{} is no path; name a file", shown(text)));
    }
    Ok(text.into())
}

/// A name that a certificate can be for.
pub(super) fn server_name(text: &str) -> Parsed<std::sync::Arc<str>> {
    rustls::pki_types::ServerName::try_from(text)
        .map(|_| text.into())
        .map_err(|_| {
            format!(
                "{} is no server's name; write one such as redis.internal, or an IP address",
                shown(text)
            )
        })
}

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// A level, or levels by module: `info`, `info,tars_proxy=debug`.
pub(super) fn log_level(text: &str) -> Parsed<String> {
    let is_level = |word: &str| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word));
    let is_target = |word: &str| {
        !word.is_empty()
            && word
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '-'))
    };
    let mut out = String::new();
    for directive in text.split(',') {
        let directive = directive.trim();
        let good = match directive.split_once('=') {
            Some((target, level)) => is_target(target) && is_level(level),
            None => is_level(directive),
        };
        if !good {
            let levels = list(LEVELS, "or");
            return Err(format!(
                "{} is no log level; write {levels}, or levels by module such as info,tars_proxy=debug",
                shown(directive)
            ));
        }
        let comma = if out.is_empty() { "" } else { "," };
        let _ = write!(out, "{comma}{directive}");
    }
    Ok(out)
}

/// `PATTERN=VALUE`; the pattern may contain `=` itself.
pub(super) fn pair<'a>(text: &'a str, value: &str, example: &str) -> Parsed<(&'a str, &'a str)> {
    text.rsplit_once('=')
        .ok_or_else(|| format!("{} is not PATTERN={value}, such as {example}", shown(text)))
}

#[cfg(test)]
mod tests;
