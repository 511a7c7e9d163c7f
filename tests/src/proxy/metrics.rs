//! Prometheus' text format, read back.

use std::collections::{BTreeMap, BTreeSet};

/// One sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Its name, with `_bucket`, `_sum` or `_count` where it is a histogram's.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

/// All samples of one answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    /// The samples in their order.
    pub samples: Vec<Sample>,
}

impl Metrics {
    /// Reads the text format.
    ///
    /// # Panics
    /// When a line is not of that format.
    #[track_caller]
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let lines = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        let samples = lines
            .map(|line| sample(line).unwrap_or_else(|| panic!("not a metric: {line}")))
            .collect();
        Self { samples }
    }

    /// The sum of a metric over its samples that carry all of `labels`: 0 when none does.
    ///
    /// # Panics
    /// When no sample at all has that name: a misspelt name would be 0 for ever.
    #[track_caller]
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let of_name: Vec<&Sample> = self
            .samples
            .iter()
            .filter(|sample| sample.name == name)
            .collect();
        assert!(
            !of_name.is_empty(),
            "there is no metric {name}; there are: {:?}",
            self.names()
        );
        let carries = |sample: &Sample| {
            labels
                .iter()
                .all(|(k, v)| sample.labels.get(*k).is_some_and(|have| have == v))
        };
        of_name
            .into_iter()
            .filter(|sample| carries(sample))
            .map(|sample| sample.value)
            .sum()
    }

    /// All names.
    #[must_use]
    pub fn names(&self) -> BTreeSet<&str> {
        self.samples
            .iter()
            .map(|sample| sample.name.as_str())
            .collect()
    }
}

fn sample(line: &str) -> Option<Sample> {
    let name_end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(name_end);
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (label, after) = rest.split_once("=\"")?;
            let (value, after) = quoted(after)?;
            labels.insert(label.to_owned(), value);
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        rest = rest.strip_prefix('}')?;
    }
    let value = rest.strip_prefix(' ')?.split(' ').next()?.parse().ok()?;
    Some(Sample {
        name: name.to_owned(),
        labels,
        value,
    })
}

/// The value before the closing quote, and what comes after it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    loop {
        match chars.next()? {
            (at, '"') => return Some((value, text.get(at + 1..)?)),
            (_, '\\') => value.push(match chars.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            (_, other) => value.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_with_their_labels() {
        let text = "# HELP a A.\n# TYPE a counter\na 1\nb{x=\"1\"} 2.5\nb{x=\"2\",y=\"q\\\"}\\\\\\n,\"} 4\nh_bucket{le=\"+Inf\"} +Inf\n";
        let metrics = Metrics::parse(text);
        assert_eq!(metrics.sum("a", &[]), 1.0);
        assert_eq!(metrics.sum("b", &[]), 6.5);
        assert_eq!(metrics.sum("b", &[("x", "2")]), 4.0);
        assert_eq!(metrics.sum("b", &[("y", "q\"}\\\n,")]), 4.0);
        assert_eq!(metrics.sum("b", &[("x", "3")]), 0.0);
        assert_eq!(metrics.sum("h_bucket", &[]), f64::INFINITY);
        assert_eq!(metrics.names().len(), 3);
    }

    #[test]
    #[should_panic(expected = "there is no metric c; there are: {\"a\"}")]
    fn an_unknown_name_is_told() {
        let _ = Metrics::parse("a 1\n").sum("c", &[]);
    }

    #[test]
    #[should_panic(expected = "not a metric: a{x=\"1} 2")]
    fn a_malformed_line_is_told() {
        let _ = Metrics::parse("a{x=\"1} 2\n");
    }
}
