//! Reading `OTEL_*` variables: precedence, numbers, lists of pairs.

use std::fmt::Display;
use std::time::Duration;

use super::Error;

/// A look-up of variables by name.
pub(super) struct Env<'a>(pub(super) &'a dyn Fn(&str) -> Option<String>);

impl Env<'_> {
    /// By the specification an empty variable is as none.
    pub(super) fn get(&self, name: &str) -> Option<Variable> {
        let value = (self.0)(name)?.trim().to_owned();
        (!value.is_empty()).then(|| Variable {
            name: name.to_owned(),
            value,
        })
    }

    /// What is said of traces goes before what is said of every signal.
    pub(super) fn otlp(&self, suffix: &str) -> Option<Variable> {
        self.get(&format!("OTEL_EXPORTER_OTLP_TRACES_{suffix}"))
            .or_else(|| self.get(&format!("OTEL_EXPORTER_OTLP_{suffix}")))
    }
}

/// A variable that is set.
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) value: String,
}

impl Variable {
    pub(super) fn wrong(&self, reason: impl Display) -> Error {
        Error::Variable {
            name: self.name.clone(),
            reason: reason.to_string(),
        }
    }

    pub(super) fn not_one_of(&self, known: &str) -> Error {
        self.wrong(format_args!(
            "{:?} is not supported; give {known}",
            self.value
        ))
    }

    /// Known words are compared without regard to case.
    pub(super) fn is(&self, word: &str) -> bool {
        self.value.eq_ignore_ascii_case(word)
    }

    pub(super) fn count(&self) -> Result<usize, Error> {
        match self.value.parse() {
            Ok(number) if number > 0 => Ok(number),
            _ => Err(self.wrong(format_args!(
                "{:?} is not a positive whole number",
                self.value
            ))),
        }
    }

    pub(super) fn milliseconds(&self) -> Result<Duration, Error> {
        match self.value.parse() {
            Ok(number) if number > 0 => Ok(Duration::from_millis(number)),
            _ => Err(self.wrong(format_args!(
                "{:?} is not a positive number of milliseconds",
                self.value
            ))),
        }
    }

    /// `name=value,name=value`, percent-encoded, as in the W3C `baggage` header but without properties. Errors do not
    /// show values, nor what may be one.
    pub(super) fn pairs(&self) -> Result<Vec<(String, String)>, Error> {
        let mut pairs = Vec::new();
        for (index, entry) in self.value.split(',').enumerate() {
            if entry.trim().is_empty() {
                continue;
            }
            let number = index + 1;
            let Some((name, value)) = entry.split_once('=') else {
                return Err(self.wrong(format_args!(
                    "entry {number} has no =; give name=value,name=value"
                )));
            };
            let decoded = (percent_decode(name.trim()), percent_decode(value.trim()));
            match decoded {
                (Some(name), Some(value)) if !name.is_empty() => pairs.push((name, value)),
                (Some(name), Some(_)) if name.is_empty() => {
                    return Err(self.wrong(format_args!("entry {number} has no name before its =")));
                }
                _ => {
                    return Err(self.wrong(format_args!(
                        "entry {number} is not percent-encoded UTF-8; write % itself as %25"
                    )));
                }
            }
        }
        Ok(pairs)
    }
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
            let value = digit(rest.next())? * 16 + digit(rest.next())?;
            bytes.push(u8::try_from(value).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}
