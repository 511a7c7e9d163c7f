//! The environment's share of the configuration: `TARS_*`, and of `OTEL_*` the sampler and the service's name. The other
//! `OTEL_*` variables are the exporter's.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::error::{Origin, Problem, Warning};
use super::names;
use super::rules::Sampler;
use super::source::{Given, Source};
use super::value;

/// The variables, taken once so that a test, or a reload, sees what it is given.
#[derive(Clone, Debug, Default)]
pub struct Environment(BTreeMap<String, Result<String, NotUtf8>>);

#[derive(Clone, Copy, Debug)]
struct NotUtf8;

impl Environment {
    /// The variables of this process.
    #[must_use]
    pub fn of_process() -> Self {
        let variables = std::env::vars_os().filter_map(|(name, text)| {
            Some((
                name.into_string().ok()?,
                text.into_string().map_err(|_| NotUtf8),
            ))
        });
        Self(variables.collect())
    }

    /// A variable's value; an empty one is as none.
    pub fn get(&self, name: &str) -> Option<&str> {
        match self.0.get(name) {
            Some(Ok(text)) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    /// What `TARS_*` says.
    pub(super) fn source(&self, problems: &mut Vec<Problem>) -> Source {
        let mut source = Source::default();
        let mut given = |key: &str| {
            let name = names::variable(key);
            match self.0.get(&name)? {
                Ok(text) if text.is_empty() => None,
                Ok(text) => Some(Given {
                    text: text.clone(),
                    origin: Origin::Variable(name),
                }),
                Err(NotUtf8) => {
                    let message = "the value is no UTF-8 text; write it in UTF-8".to_owned();
                    problems.push(Problem {
                        origin: Origin::Variable(name),
                        message,
                    });
                    None
                }
            }
        };
        for key in names::single() {
            if let Some(value) = given(key) {
                source.settings.values.insert(key, value);
            }
        }
        source.deliver = given(names::DELIVER)
            .as_ref()
            .map(items)
            .unwrap_or_default();
        source.sample = given(names::SAMPLE).as_ref().map(items).unwrap_or_default();
        // Read by its name before; here it is only looked at.
        given(names::CONFIG);
        given(names::CONFIG_INLINE);
        source
    }

    /// A warning for each `TARS_*` that means nothing here, but one for all that Kubernetes makes for the Services of a
    /// namespace (`TARS_PROXY_SERVICE_HOST`, `TARS_PROXY_PORT_6380_TCP`, …).
    pub(super) fn warnings(&self) -> Vec<Warning> {
        let known = || {
            names::single().chain([
                names::CONFIG,
                names::CONFIG_INLINE,
                names::DELIVER,
                names::SAMPLE,
            ])
        };
        let unknown: Vec<&str> = self
            .0
            .keys()
            .map(String::as_str)
            .filter(|name| {
                name.starts_with(names::PREFIX) && !known().any(|key| names::variable(key) == *name)
            })
            .collect();
        let services: Vec<&str> = unknown
            .iter()
            .filter_map(|name| name.strip_suffix("_SERVICE_HOST"))
            .collect();
        let (made, written): (Vec<&str>, Vec<&str>) = unknown.iter().partition(|name| {
            services.iter().any(|service| {
                let rest = name.strip_prefix(service).unwrap_or_default();
                rest.starts_with("_SERVICE_") || rest == "_PORT" || rest.starts_with("_PORT_")
            })
        });
        let mut warnings = Vec::new();
        if !made.is_empty() {
            warnings.push(Warning(format!(
                "{} and others like it are ignored: Kubernetes makes them for a Service (`enableServiceLinks: false` stops it)",
                made.first().copied().unwrap_or_default()
            )));
        }
        warnings.extend(written.into_iter().map(|name| {
            let key = name
                .strip_prefix(names::PREFIX)
                .unwrap_or_default()
                .to_ascii_lowercase();
            let near = names::nearest(&key, known())
                .map(|near| format!("; the nearest is {}", names::variable(near)))
                .unwrap_or_default();
            Warning(format!("{name} is ignored: there is no such setting{near}"))
        }));
        warnings
    }

    /// `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG`.
    pub(super) fn sampler(&self, problems: &mut Vec<Problem>) -> Sampler {
        const NAME: &str = "OTEL_TRACES_SAMPLER";
        const ARG: &str = "OTEL_TRACES_SAMPLER_ARG";
        let mut refuse = |name: &str, message| {
            problems.push(Problem {
                origin: Origin::Variable(name.to_owned()),
                message,
            });
        };
        let Some(name) = self.get(NAME) else {
            return Sampler::default();
        };
        let lower = name.to_ascii_lowercase();
        let (root, parent_based) = match lower.strip_prefix("parentbased_") {
            Some(root) => (root, true),
            None => (lower.as_str(), false),
        };
        let ratio = match root {
            "always_on" => 1.0,
            "always_off" => 0.0,
            "traceidratio" => match self.get(ARG).map_or(Ok(1.0), value::ratio) {
                Ok(ratio) => ratio,
                Err(message) => {
                    refuse(ARG, message);
                    1.0
                }
            },
            _ => {
                refuse(
                    NAME,
                    format!(
                        "{} is no sampler of this version; write always_on, always_off, traceidratio, \
                         parentbased_always_on, parentbased_always_off or parentbased_traceidratio",
                        value::shown(name)
                    ),
                );
                1.0
            }
        };
        Sampler {
            ratio,
            parent_based,
        }
    }

    /// `OTEL_SERVICE_NAME`, or `service.name` of `OTEL_RESOURCE_ATTRIBUTES`.
    pub(super) fn service_name(&self) -> Option<Arc<str>> {
        if let Some(name) = self.get("OTEL_SERVICE_NAME") {
            return Some(name.into());
        }
        self.get("OTEL_RESOURCE_ATTRIBUTES")?
            .split(',')
            .filter_map(|pair| pair.split_once('='))
            .find(|(key, _)| key.trim() == "service.name")
            .map(|(_, value)| percent_decoded(value.trim()).into())
            .filter(|name: &Arc<str>| !name.is_empty())
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        Self(
            variables
                .into_iter()
                .map(|(name, text)| (name.into(), Ok(text.into())))
                .collect(),
        )
    }
}

/// The items of a list: `orders*=strip,audit*=keep`.
fn items(list: &Given) -> Vec<Given> {
    list.text
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(|item| Given {
            text: item.to_owned(),
            origin: list.origin.clone(),
        })
        .collect()
}

/// Resource attributes are percent-encoded (W3C Baggage). What is no escape stays as it is.
fn percent_decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    loop {
        rest = match rest {
            [b'%', high, low, after @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                let digit = |b: u8| {
                    char::from(b)
                        .to_digit(16)
                        .and_then(|d| u8::try_from(d).ok())
                        .unwrap_or_default()
                };
                out.push(digit(*high) << 4 | digit(*low));
                after
            }
            [byte, after @ ..] => {
                out.push(*byte);
                after
            }
            [] => return String::from_utf8_lossy(&out).into_owned(),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_is_no_text_is_an_error() {
        let names = [
            "TARS_CONFIG",
            "TARS_REGION",
            "TARS_SAMPLE",
            "TARS_OTHER",
            "OTEL_SERVICE_NAME",
        ];
        let env = Environment(names.map(|name| (name.to_owned(), Err(NotUtf8))).into());
        let mut problems = Vec::new();
        env.source(&mut problems);
        problems.sort_by_key(ToString::to_string);
        let expected = ["TARS_CONFIG", "TARS_REGION", "TARS_SAMPLE"]
            .map(|name| format!("{name}: the value is no UTF-8 text; write it in UTF-8"));
        assert_eq!(
            problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
            expected
        );
        assert_eq!(env.service_name(), None);
    }

    #[test]
    fn the_process_has_an_environment() {
        let cargo = std::env::var("CARGO_PKG_NAME");
        assert_eq!(
            Environment::of_process().get("CARGO_PKG_NAME"),
            cargo.as_deref().ok()
        );
    }
}
