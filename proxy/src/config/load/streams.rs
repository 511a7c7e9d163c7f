//! Rules by stream: the file's, and what flags and variables say over them.

use super::{Loader, parsed, strongest};
use crate::config::error::{Problem, Warning};
use crate::config::rules::{Deliver, Override, Rules, StreamRule};
use crate::config::source::{Given, Table};
use crate::config::value::{self, Parsed};
use crate::config::{Environment, Pattern};

impl Loader {
    pub(super) fn rules(&mut self, env: &Environment) -> Rules {
        let default = Rules::default();
        Rules {
            sampler: env.sampler(&mut self.problems),
            relation: self
                .setting("relation", value::choice)
                .unwrap_or(default.relation),
            process_timeout: self
                .setting("process_timeout", value::duration)
                .unwrap_or(default.process_timeout),
            streams: self.streams(),
            deliver: self.deliver(),
            sample: self.sample(),
        }
    }

    fn deliver(&mut self) -> Vec<Override<Deliver>> {
        let given = self.flags.deliver.iter().chain(&self.env.deliver);
        overrides(
            &mut self.problems,
            given,
            ("MODE", "orders*=strip"),
            value::choice,
        )
    }

    fn sample(&mut self) -> Vec<Override<f64>> {
        let given = self.flags.sample.iter().chain(&self.env.sample);
        overrides(
            &mut self.problems,
            given,
            ("RATIO", "orders*=0.1"),
            value::ratio,
        )
    }

    fn streams(&mut self) -> Vec<StreamRule> {
        let mut rules: Vec<StreamRule> = Vec::new();
        for table in std::mem::take(&mut self.file.streams) {
            let Some(rule) = self.stream(&table) else {
                continue;
            };
            let earlier = rules
                .iter()
                .find(|earlier| earlier.pattern.covers(&rule.pattern));
            if let (Some(earlier), Some(origin)) = (earlier, &table.origin) {
                self.warnings.push(Warning(format!(
                    "{origin}: the rule for `{}` is never used: the one for `{}` before it matches the same streams",
                    rule.pattern, earlier.pattern
                )));
            }
            rules.push(rule);
        }
        rules
    }

    /// One `[[stream]]`; none if its pattern is no good, after all its values have been looked at.
    fn stream(&mut self, table: &Table) -> Option<StreamRule> {
        let problems = &mut self.problems;
        let pattern = strongest(problems, [table.get("pattern")], parsed::<Pattern>);
        let trace = strongest(problems, [table.get("trace")], value::boolean);
        let deliver = strongest(problems, [table.get("deliver")], value::choice);
        let sample = strongest(problems, [table.get("sample")], value::ratio);
        let force = strongest(problems, [table.get("force")], value::boolean);
        if let (None, Some(origin)) = (table.get("pattern"), &table.origin) {
            let message = "this rule has no pattern; write pattern = \"orders*\"".to_owned();
            problems.push(Problem {
                origin: origin.clone(),
                message,
            });
        }
        if let (Some(true), Some(given), Some(ratio)) = (force, table.get("sample"), sample)
            && ratio < 1.0
        {
            problems.push(given.problem(
                "force = true samples every message; leave sample out, or force".to_owned(),
            ));
        }
        if trace == Some(false) {
            let forced = table.get("force").filter(|_| force == Some(true));
            for (key, given) in [("force", forced), ("sample", table.get("sample"))] {
                problems.extend(given.map(|given| {
                    given.problem(format!(
                        "with trace = false there is nothing to sample; leave {key} out, or trace"
                    ))
                }));
            }
        }
        let mut rule = StreamRule::new(pattern?);
        rule.trace = trace.unwrap_or(rule.trace);
        rule.deliver = deliver.unwrap_or(rule.deliver);
        rule.sample = sample;
        rule.force = force.unwrap_or(rule.force);
        Some(rule)
    }
}

/// `PATTERN=VALUE`, each.
fn overrides<'a, T>(
    problems: &mut Vec<Problem>,
    given: impl IntoIterator<Item = &'a Given>,
    (name, example): (&str, &str),
    parse: impl Fn(&str) -> Parsed<T>,
) -> Vec<Override<T>> {
    let mut out = Vec::new();
    for given in given {
        let read = value::pair(&given.text, name, example).and_then(|(pattern, value)| {
            Ok(Override {
                pattern: parsed(pattern)?,
                value: parse(value)?,
            })
        });
        match read {
            Ok(over) => out.push(over),
            Err(message) => problems.push(given.problem(message)),
        }
    }
    out
}
