//! Any text as a file, as variables and as flags: never a panic; an error says where and what, without control characters;
//! and what is accepted describes itself so that it is accepted again, as the same.
//!
//! The input: the file, then the variables and then the flags, one a line, with a NUL between the three.
#![no_main]

use clap::Parser as _;
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};
use tars_proxy::cli::Cli;
use tars_proxy::config::{Config, ConfigError, Environment, Flags, Origin, load_text};

fn variables(lines: &str) -> Vec<(&str, &str)> {
    let pairs = lines.lines().filter_map(|line| line.split_once('='));
    pairs.filter(|(name, _)| !name.is_empty()).collect()
}

fn refused(error: &ConfigError, text: &str, variables: &[(&str, &str)]) {
    assert!(!error.problems().is_empty());
    let lines = text.matches('\n').count() + 1;
    for problem in error.problems() {
        let said = problem.to_string();
        assert!(!said.contains(char::is_control), "{said:?}");
        assert!(!problem.message.is_empty() && said.len() < 2000, "{said:?}");
        match &problem.origin {
            Origin::Flag(name) => assert!(name.starts_with("--"), "{said}"),
            Origin::Variable(name) => {
                assert!(variables.iter().any(|(given, _)| given == name), "{said}");
            }
            Origin::File { line, .. } => {
                assert!(
                    line.is_none_or(|line| (1..=lines).contains(&line)),
                    "{said}"
                );
            }
            Origin::Default(_) => {}
        }
    }
}

/// What a configuration says of itself, as a file, variables and flags.
fn described(config: &Config) -> (String, Vec<(&'static str, String)>, Flags) {
    let Value::Object(mut all) = config.describe() else {
        panic!("a table");
    };
    let mut flags = Flags::default();
    for (name, list) in [
        ("deliver", &mut flags.deliver),
        ("sample", &mut flags.sample),
    ] {
        for over in all
            .remove(name)
            .iter()
            .flat_map(|overs| overs.as_array().unwrap())
        {
            let value = match &over["value"] {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            list.push(format!("{}={value}", over["pattern"].as_str().unwrap()));
        }
    }
    let sampler = all.remove("sampler").unwrap();
    let kind = match sampler["parent_based"].as_bool() {
        Some(true) => "parentbased_traceidratio",
        _ => "traceidratio",
    };
    let name = all.remove("service_name").unwrap();
    let variables = vec![
        ("OTEL_TRACES_SAMPLER", kind.to_owned()),
        ("OTEL_TRACES_SAMPLER_ARG", sampler["ratio"].to_string()),
        ("OTEL_SERVICE_NAME", name.as_str().unwrap().to_owned()),
    ];
    all.remove("config");
    let file = toml::to_string(&without_nulls(all)).unwrap();
    (file, variables, flags)
}

/// TOML has no null: what is not set is not written.
fn without_nulls(table: Map<String, Value>) -> Map<String, Value> {
    let clean = |value| match value {
        Value::Object(table) => Value::Object(without_nulls(table)),
        Value::Array(list) => list
            .into_iter()
            .map(|item| match item {
                Value::Object(table) => Value::Object(without_nulls(table)),
                item => item,
            })
            .collect(),
        value => value,
    };
    table
        .into_iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(key, value)| (key, clean(value)))
        .collect()
}

fuzz_target!(|input: &str| {
    let mut parts = input.splitn(3, '\0');
    let text = parts.next().unwrap_or_default();
    let variables = variables(parts.next().unwrap_or_default());
    let arguments = ["tars-proxy"]
        .into_iter()
        .chain(parts.next().unwrap_or_default().lines());
    let Ok(Cli { flags, .. }) = Cli::try_parse_from(arguments) else {
        return;
    };
    let env: Environment = variables.iter().copied().collect();
    let config = match load_text(&flags, &env, text) {
        Ok((config, _)) => config,
        Err(error) => return refused(&error, text, &variables),
    };
    assert!(!config.listeners.is_empty() && config.workers > 0);
    assert!(!config.summary().is_empty());
    let _ = config.rules.rule_for(text.as_bytes());

    let (file, described, flags) = described(&config);
    // Of a variable that holds a URL, the description has the name alone.
    let named = |name: &str| {
        let mut named = config
            .listeners
            .iter()
            .filter_map(|l| l.upstream_env.as_deref());
        named.any(|named| named == name)
    };
    let urls = variables.iter().filter(|(name, _)| named(name));
    let env: Environment = described
        .iter()
        .map(|(name, text)| (*name, text.as_str()))
        .chain(urls.copied())
        .collect();
    match load_text(&flags, &env, &file) {
        Ok((again, _)) => assert_eq!(again, config, "{file}"),
        Err(error) => panic!("{error}\n{file}\n{flags:?}"),
    }
});
