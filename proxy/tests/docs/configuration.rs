//! `docs/configuration.md` against the command line.

use std::collections::BTreeMap;
use std::fs;

use clap::CommandFactory as _;
use tars_proxy::cli::Cli;
use tars_proxy::config::{self, Environment, Flags};

use crate::{quoted, read, rows};

const DOCUMENT: &str = "docs/configuration.md";

#[test]
fn every_setting_is_documented_with_its_three_names_and_its_default() {
    let document = read(DOCUMENT);
    let mut documented: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for row in rows(&document).filter(|row| row.len() > 3) {
        if let Some(flag) = row
            .first()
            .and_then(|cell| quoted(cell).next())
            .and_then(|flag| flag.strip_prefix("--"))
        {
            assert!(
                documented.insert(flag, row.clone()).is_none(),
                "{DOCUMENT} has --{flag} twice"
            );
        }
    }
    let command = Cli::command();
    let settings = command
        .get_arguments()
        .filter(|arg| arg.get_help_heading().is_some());
    for setting in settings {
        let flag = setting.get_long().unwrap();
        let row = documented
            .remove(flag)
            .unwrap_or_else(|| panic!("{DOCUMENT} lacks --{flag}"));
        let key = flag.replace('-', "_");
        let [_, variable, in_file, default, _] = *row else {
            panic!("--{flag} has {} cells, not 5", row.len())
        };
        assert_eq!(
            variable,
            format!("`TARS_{}`", key.to_ascii_uppercase()),
            "--{flag}"
        );
        assert!(
            in_file.contains(&format!("`{key}`")) || in_file == "none",
            "--{flag}: {in_file}"
        );
        let help = setting.get_help().unwrap().to_string();
        if let Some((_, of_program)) = help.split_once("[default: ") {
            assert_eq!(
                Some(default),
                of_program
                    .strip_suffix(']')
                    .map(|d| format!("`{d}`"))
                    .as_deref(),
                "--{flag}"
            );
        }
    }
    assert!(
        documented.is_empty(),
        "{DOCUMENT} has what the program does not know: {documented:?}"
    );
}

/// The section of a subcommand, whose table has a row for each of its own flags.
fn flags_are_documented(subcommand: &str, title: &str) -> String {
    let document = read(DOCUMENT);
    let (_, section) = document.split_once(&format!("\n## {title}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let documented: BTreeMap<String, &str> = rows(section)
        .filter_map(|row| match row[..] {
            [flag, default, _] => Some((quoted(flag).next()?.to_owned(), default)),
            _ => None,
        })
        .collect();
    let command = Cli::command();
    let mut flags = 0;
    for arg in command.find_subcommand(subcommand).unwrap().get_arguments() {
        let flag = match arg.get_long() {
            Some(flag) => format!("--{flag}"),
            None => "FILE".to_owned(),
        };
        let default = documented
            .get(&flag)
            .unwrap_or_else(|| panic!("{DOCUMENT} lacks {flag} of {subcommand}"));
        let of_program = arg.get_default_values().first().and_then(|d| d.to_str());
        if let Some(of_program) = of_program.filter(|_| arg.get_action().takes_values()) {
            assert_eq!(*default, format!("`{of_program}`"), "{flag}");
        }
        flags += 1;
    }
    // And the heading of the table.
    assert_eq!(documented.len(), flags + 1, "{documented:?}");
    section.to_owned()
}

#[test]
fn every_flag_of_the_redirection_is_documented() {
    flags_are_documented("intercept", "Redirection");
}

#[test]
fn every_flag_of_the_dry_run_is_documented() {
    let section = flags_are_documented("explain", "The dry run");
    let command = Cli::command();
    let explain = command.find_subcommand("explain").unwrap();
    assert!(section.contains("`REDISCLI_AUTH`"));
    let help = explain.clone().render_long_help().to_string();
    assert!(help.contains("REDISCLI_AUTH"), "{help}");
}

#[test]
fn every_flag_of_the_probes_is_documented() {
    let document = read(DOCUMENT);
    let (_, section) = document.split_once("\n## Probes and hooks\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let command = Cli::command();
    for name in ["check-live", "await-clients"] {
        let probe = command.find_subcommand(name).unwrap();
        for arg in probe.get_arguments() {
            let written = format!("{name} --{} ", arg.get_long().unwrap());
            assert!(section.contains(&written), "{DOCUMENT} lacks {written}");
        }
    }
}

#[test]
fn every_example_of_a_file_can_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let mut examples = 0;
    for name in [
        DOCUMENT,
        "docs/semantics.md",
        "docs/operations.md",
        "docs/limits.md",
        "README.md",
    ] {
        let document = read(name);
        for example in document
            .split("```toml\n")
            .skip(1)
            .filter_map(|rest| rest.split("```").next())
        {
            let path = folder.path().join("tars.toml");
            fs::write(&path, example).unwrap();
            let flags = Flags {
                config: Some(path),
                ..Flags::default()
            };
            let env: Environment = [("SHOP_REDIS_URL", "redis://redis.internal")]
                .into_iter()
                .collect();
            let (_, warnings) =
                config::load(&flags, &env).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(warnings.is_empty(), "{name}: {warnings:?}");
            examples += 1;
        }
    }
    assert!(examples > 0, "there is no example of a file");
}

/// The full example shows every key that a file may have.
#[test]
fn the_full_example_has_every_key() {
    let document = read(DOCUMENT);
    let example = document
        .split("```toml\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .unwrap();
    let keys: Vec<_> = example
        .lines()
        .filter_map(|line| line.split_once(" = "))
        .map(|(key, _)| key)
        .collect();
    let shown = config::Config::default().describe();
    let limits = shown
        .get("limits")
        .and_then(|limits| limits.as_object())
        .unwrap()
        .keys();
    let listener = shown
        .pointer("/listener/0")
        .and_then(|listener| listener.as_object())
        .unwrap()
        .keys();
    let top = [
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
    let stream = ["pattern", "trace", "deliver", "sample", "force"];
    for key in limits
        .chain(listener)
        .map(String::as_str)
        .chain(top)
        .chain(stream)
    {
        assert!(keys.contains(&key), "the full example lacks {key}");
    }
}
