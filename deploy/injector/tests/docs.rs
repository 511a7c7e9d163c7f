//! `docs/injection.md` says what the program does: annotations, flags, reasons and metrics are compared with it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use tars_injector::cli::Cli;
use tars_injector::inject::Reason;
use tars_injector::metrics::Metrics;
use tars_injector::names::{ANNOTATIONS, PREFIX};
use tars_injector::render::read;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn document() -> String {
    fs::read_to_string(root().join("docs/injection.md")).unwrap()
}

/// The rows of the table under a heading, each by its cells.
fn table(heading: &str) -> Vec<Vec<String>> {
    let document = document();
    let section = document
        .split(&format!("\n## {heading}\n"))
        .nth(1)
        .unwrap_or_else(|| panic!("no heading {heading}"));
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with('|')).skip(2);
    rows.map(|row| {
        row.trim_matches('|')
            .split(" | ")
            .map(|cell| cell.trim().to_owned())
            .collect()
    })
    .collect()
}

fn bare(cell: &str) -> &str {
    cell.trim_matches('`')
}

#[test]
fn every_annotation_is_documented_with_its_default() {
    let documented: Vec<_> = table("Annotations")
        .into_iter()
        .map(|row| (row[0].clone(), row[1].clone()))
        .collect();
    let known: Vec<_> = ANNOTATIONS
        .iter()
        .map(|annotation| {
            let described = annotation.default.contains(' ')
                || ["none", "the injector's"].contains(&annotation.default);
            let default = if described {
                annotation.default.to_owned()
            } else {
                format!("`{}`", annotation.default)
            };
            (format!("`{PREFIX}{}`", annotation.name), default)
        })
        .collect();
    assert_eq!(documented, known);
}

#[test]
fn every_flag_is_documented_with_its_variable_and_its_default() {
    let documented: BTreeMap<_, _> = table("The injector's settings")
        .into_iter()
        .map(|row| {
            (
                bare(&row[0]).to_owned(),
                (bare(&row[1]).to_owned(), bare(&row[2]).to_owned()),
            )
        })
        .collect();
    let mut command = Cli::command();
    command.build();
    let command = command;
    let serve = command.find_subcommand("serve").unwrap();
    let flags: BTreeMap<_, _> = serve
        .get_arguments()
        .filter(|argument| {
            argument
                .get_long()
                .is_some_and(|long| !["help", "version"].contains(&long))
        })
        .map(|argument| {
            let default = argument
                .get_default_values()
                .first()
                .map(|value| value.to_str().unwrap().to_owned());
            let long = argument.get_long().unwrap();
            let default = match long {
                "kubernetes-version" => "the API server's".to_owned(),
                _ => default.unwrap_or("none".to_owned()),
            };
            (
                format!("--{long}"),
                (
                    argument.get_env().unwrap().to_str().unwrap().to_owned(),
                    default,
                ),
            )
        })
        .collect();
    assert_eq!(documented, flags);
}

#[test]
fn every_reason_is_documented() {
    let documented: Vec<_> = table("Who gets nothing")
        .into_iter()
        .map(|row| bare(&row[0]).to_owned())
        .collect();
    assert_eq!(
        documented,
        Reason::ALL.map(|reason| reason.label().to_owned())
    );
}

#[test]
fn every_metric_is_documented_with_its_labels() {
    let rows = table("Metrics");
    let documented: BTreeSet<_> = rows
        .iter()
        .map(|row| (bare(&row[0]).to_owned(), row[1].clone()))
        .collect();
    let registered = Metrics::new().unwrap().registry().gather();
    let known: BTreeSet<_> = registered
        .iter()
        .map(|family| {
            (
                family.name().to_owned(),
                format!("{:?}", family.get_field_type()).to_lowercase(),
            )
        })
        .collect();
    assert_eq!(documented, known);
    for family in &registered {
        for label in family
            .get_metric()
            .iter()
            .flat_map(|metric| metric.get_label())
        {
            let row = rows
                .iter()
                .find(|row| bare(&row[0]) == family.name())
                .unwrap();
            let said = row[2].contains(&format!("`{}`", label.value()))
                || label.name() == "reason" && row[2].contains("#who-gets-nothing");
            assert!(
                row[2].contains(&format!("`{}`", label.name())) && said,
                "{} {label:?}",
                family.name()
            );
        }
    }
}

/// What is installed calls what there is, and may do what it does.
#[test]
fn what_is_installed_fits_the_program() {
    let text = fs::read_to_string(root().join("deploy/injector/install.yaml")).unwrap();
    let documents = read("install.yaml", &text).unwrap();
    let find = |kind: &str| {
        documents
            .iter()
            .find(|document| document["kind"] == kind)
            .unwrap()
    };
    // Each replica has a Service of its own, and an entry that calls it; otherwise the entries are the same.
    let replicas = find("StatefulSet");
    let entries = find("MutatingWebhookConfiguration")["webhooks"]
        .as_array()
        .unwrap();
    assert_eq!(
        replicas["spec"]["replicas"],
        serde_json::json!(entries.len())
    );
    for (number, entry) in entries.iter().enumerate() {
        let name = format!(
            "{}-{number}",
            replicas["metadata"]["name"].as_str().unwrap()
        );
        assert_eq!(entry["clientConfig"]["service"]["name"], name);
        let service = documents
            .iter()
            .find(|document| document["kind"] == "Service" && document["metadata"]["name"] == name)
            .unwrap();
        let selector = &service["spec"]["selector"];
        assert_eq!(selector["statefulset.kubernetes.io/pod-name"], name);
        let mut alike = entry.clone();
        alike["name"].clone_from(&entries[0]["name"]);
        alike["clientConfig"]["service"]["name"] =
            entries[0]["clientConfig"]["service"]["name"].clone();
        assert_eq!(alike, entries[0]);
    }
    let webhook = &entries[0];
    assert_eq!(webhook["clientConfig"]["service"]["path"], "/inject");
    let names = [
        ("secret", &find("Role")["rules"][1]["resourceNames"][0]),
        ("secret", &find("Role")["rules"][3]["resourceNames"][0]),
        (
            "webhook",
            &find("MutatingWebhookConfiguration")["metadata"]["name"],
        ),
    ];
    let command = Cli::command();
    let serve = command.find_subcommand("serve").unwrap();
    for (flag, name) in names {
        let argument = serve
            .get_arguments()
            .find(|argument| argument.get_long() == Some(flag))
            .unwrap();
        assert_eq!(
            argument.get_default_values()[0].to_str(),
            name.as_str(),
            "--{flag}"
        );
    }
    let container = &replicas["spec"]["template"]["spec"]["containers"][0];
    let arguments: Vec<_> = container["command"]
        .as_array()
        .unwrap()
        .iter()
        .map(|word| word.as_str().unwrap())
        .collect();
    Cli::command().try_get_matches_from(arguments).unwrap();
    for entry in container["env"].as_array().unwrap() {
        let name = entry["name"].as_str().unwrap();
        let known = serve
            .get_arguments()
            .chain(command.get_arguments())
            .any(|argument| argument.get_env().is_some_and(|env| env == name));
        assert!(known, "{name}");
    }
}

/// The policy is about the pods that the webhook is asked about, and what it has people set is a variable of the program's.
#[test]
fn what_is_required_is_what_is_done() {
    let read = |name: &str| {
        let text = fs::read_to_string(root().join("deploy/injector").join(name)).unwrap();
        (read(name, &text).unwrap(), text)
    };
    let ((installed, _), (required, text)) = (read("install.yaml"), read("required.yaml"));
    let webhooks = installed
        .iter()
        .find_map(|document| document.get("webhooks"));
    let entry = &webhooks.unwrap()[0];
    let policy = &required[0]["spec"]["matchConstraints"];
    for selector in ["namespaceSelector", "objectSelector"] {
        assert_eq!(policy[selector], entry[selector]);
    }
    assert_eq!(
        required[1]["spec"]["policyName"],
        required[0]["metadata"]["name"]
    );
    let command = Cli::command();
    let flag = command
        .get_arguments()
        .find(|argument| argument.get_long() == Some("record-skipped"));
    let variable = flag.unwrap().get_env().unwrap().to_str().unwrap();
    assert!(
        text.contains(&format!("{variable}=true"))
            && document().contains(&format!("{variable}=true"))
    );
}
