//! What is traced, how it is sampled and what readers get, by stream: the part that a reload may change.

use std::time::Duration;

use super::Pattern;
use super::value::Choice;

/// What SIGHUP may change without a connection noticing.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// For streams without a ratio of their own.
    pub sampler: Sampler,
    /// `relation`.
    pub relation: Relation,
    /// When an unsettled delivery is given up.
    pub process_timeout: Duration,
    /// The first whose pattern matches a stream's key counts.
    pub streams: Vec<StreamRule>,
    /// `--deliver PATTERN=MODE`: over `deliver` of whatever rule counts; the first match of these.
    pub deliver: Vec<Override<Deliver>>,
    /// `--sample PATTERN=RATIO`: over `sample` and `force` of whatever rule counts; the first match of these.
    pub sample: Vec<Override<f64>>,
}

/// A rule for the streams that a glob matches.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamRule {
    /// Glob over the key, as in Redis' KEYS (`*`, `?`, `[…]`).
    pub pattern: Pattern,
    /// False: XADD passes as it is, and no span is made.
    pub trace: bool,
    /// What readers get.
    pub deliver: Deliver,
    /// Replaces the root sampler's ratio.
    pub sample: Option<f64>,
    /// Every message is sampled; an unsampled parent gets a linked new root.
    pub force: bool,
}

/// One setting for the streams that a glob matches.
#[derive(Clone, Debug, PartialEq)]
pub struct Override<T> {
    /// Glob over the key.
    pub pattern: Pattern,
    /// The setting's value.
    pub value: T,
}

/// What holds for one stream: [`StreamRule`] and overrides resolved for its key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StreamSettings {
    /// False: XADD passes as it is, and no span is made.
    pub trace: bool,
    /// What readers get.
    pub deliver: Deliver,
    /// Replaces the root sampler's ratio.
    pub sample: Option<f64>,
    /// Every message is sampled; an unsampled parent gets a linked new root.
    pub force: bool,
}

/// `relation`: how a delivery points at the message it delivers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Relation {
    /// One trace from end to end.
    #[default]
    Parent,
    /// A new trace, linked (OpenTelemetry messaging conventions to the letter).
    Link,
}

/// `deliver`: what the application reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Deliver {
    /// The stored context.
    #[default]
    Keep,
    /// The `process` span's context in the place of the stored one.
    Propagate,
    /// Without the added fields.
    Strip,
}

/// How new traces are sampled (`OTEL_TRACES_SAMPLER`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    /// Share of new traces that are sampled, 0 to 1.
    pub ratio: f64,
    /// Whether a parent's decision is followed (`parentbased_*`), or every span decides by the ratio.
    pub parent_based: bool,
}

impl Rules {
    /// What holds for a stream. It walks all patterns: ask once for each new name, and keep the answer.
    #[must_use]
    pub fn rule_for(&self, key: &[u8]) -> StreamSettings {
        let mut settings = self
            .matching(key)
            .map_or_else(StreamSettings::default, |rule| StreamSettings {
                trace: rule.trace,
                deliver: rule.deliver,
                sample: rule.sample,
                force: rule.force,
            });
        if let Some(over) = self.deliver.iter().find(|o| o.pattern.matches(key)) {
            settings.deliver = over.value;
        }
        if let Some(over) = self.sample.iter().find(|o| o.pattern.matches(key)) {
            settings.sample = Some(over.value);
            settings.force &= over.value >= 1.0;
        }
        settings
    }

    /// The `[[stream]]` that counts for a key.
    #[must_use]
    pub fn matching(&self, key: &[u8]) -> Option<&StreamRule> {
        self.streams.iter().find(|rule| rule.pattern.matches(key))
    }
}

impl StreamRule {
    /// The rule for a pattern of which nothing else is said.
    #[must_use]
    pub fn new(pattern: Pattern) -> Self {
        let StreamSettings {
            trace,
            deliver,
            sample,
            force,
        } = StreamSettings::default();
        Self {
            pattern,
            trace,
            deliver,
            sample,
            force,
        }
    }
}

impl Choice for Relation {
    const ALL: &[(&str, Self)] = &[("parent", Self::Parent), ("link", Self::Link)];
}

impl Choice for Deliver {
    const ALL: &[(&str, Self)] = &[
        ("keep", Self::Keep),
        ("propagate", Self::Propagate),
        ("strip", Self::Strip),
    ];
}

impl Default for StreamSettings {
    fn default() -> Self {
        Self {
            trace: true,
            deliver: Deliver::Keep,
            sample: None,
            force: false,
        }
    }
}

impl Default for Sampler {
    fn default() -> Self {
        Self {
            ratio: 1.0,
            parent_based: true,
        }
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            sampler: Sampler::default(),
            relation: Relation::Parent,
            process_timeout: Duration::from_secs(300),
            streams: Vec::new(),
            deliver: Vec::new(),
            sample: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn pattern(text: &str) -> Pattern {
        text.parse().unwrap()
    }

    #[test]
    fn the_first_match_counts_and_flags_go_over_single_settings() {
        let rules = Rules {
            streams: vec![
                StreamRule {
                    force: true,
                    sample: Some(1.0),
                    ..StreamRule::new(pattern("hot-reload*"))
                },
                StreamRule {
                    trace: false,
                    ..StreamRule::new(pattern("hot*"))
                },
                StreamRule {
                    deliver: Deliver::Strip,
                    sample: Some(0.5),
                    ..StreamRule::new(pattern("*"))
                },
            ],
            deliver: vec![
                Override {
                    pattern: pattern("*:eu"),
                    value: Deliver::Propagate,
                },
                Override {
                    pattern: pattern("*"),
                    value: Deliver::Keep,
                },
            ],
            sample: vec![Override {
                pattern: pattern("*:us"),
                value: 0.25,
            }],
            ..Rules::default()
        };
        let expected = |trace, deliver, sample, force| StreamSettings {
            trace,
            deliver,
            sample,
            force,
        };
        assert_eq!(
            rules.rule_for(b"hot-reload"),
            expected(true, Deliver::Keep, Some(1.0), true)
        );
        assert_eq!(
            rules.rule_for(b"hot-reload:eu"),
            expected(true, Deliver::Propagate, Some(1.0), true)
        );
        assert_eq!(
            rules.rule_for(b"hot-reload:us"),
            expected(true, Deliver::Keep, Some(0.25), false)
        );
        assert_eq!(
            rules.rule_for(b"hot"),
            expected(false, Deliver::Keep, None, false)
        );
        assert_eq!(
            rules.rule_for(b"\xff"),
            expected(true, Deliver::Keep, Some(0.5), false)
        );
        let without = Rules {
            deliver: Vec::new(),
            ..rules
        };
        assert_eq!(without.rule_for(b"\xff").deliver, Deliver::Strip);
        assert_eq!(
            without
                .matching(b"hotter")
                .map(|rule| rule.pattern.as_str()),
            Some("hot*")
        );
        assert_eq!(Rules::default().rule_for(b"any"), StreamSettings::default());
    }
}
