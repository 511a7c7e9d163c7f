//! docs/agent-service.md says what the service does: flags, metrics, reasons, and examples that run.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use tars_tests::agent::{Agent, batch, cart, fragment, run_to_end};
use tars_tests::http;

/// What is said of the service.
fn handbook() -> String {
    read("agent-service.md")
}

/// What is said of its streams, in words of their own.
fn of_streams(what: &str) -> bool {
    read("agent-streams.md").contains(&format!("`{what}`"))
}

fn read(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    fs::read_to_string(folder.join(name)).unwrap_or_default()
}

/// The cells of each row of its tables.
fn rows(document: &str) -> Vec<Vec<&str>> {
    let lines = document
        .lines()
        .filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'));
    lines
        .map(|cells| cells.split('|').map(str::trim).collect())
        .collect()
}

#[test]
fn every_flag_is_documented_with_its_variable_and_default() {
    let (_, help, _) = run_to_end(&["serve", "--help"]);
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let document = handbook();
    let documented: Vec<_> = rows(&document)
        .into_iter()
        .filter(|row| row[0].starts_with("`--"))
        .collect();
    let mut flags = 0;
    for part in help.split(" --").skip(1) {
        let flag = part.split(' ').next().unwrap();
        let Some(variable) = part
            .split("[env: ")
            .nth(1)
            .and_then(|rest| rest.split(['=', ']']).next())
        else {
            continue;
        };
        let row = documented
            .iter()
            .find(|row| row[0] == format!("`--{flag}`"));
        if row.is_none() && of_streams(&format!("--{flag}")) && of_streams(variable) {
            continue;
        }
        let row = row.unwrap_or_else(|| panic!("--{flag} is not documented"));
        assert_eq!(row[1], format!("`{variable}`"));
        let default = part
            .rsplit_once("[default: ")
            .filter(|(before, _)| before.contains("[env: "));
        if let Some(default) = default.and_then(|(_, rest)| rest.split(']').next()) {
            assert_eq!(row[2], format!("`{default}`"), "--{flag}");
        }
        flags += 1;
    }
    assert!(flags >= 18);
    assert_eq!(flags, documented.len(), "what is documented is there");
}

#[test]
fn every_key_of_a_specification_is_documented_with_its_default() {
    let service = Agent::start();
    let schema =
        service.get("/openapi.json").expect(200)["components"]["schemas"]["AgentSpec"].clone();
    let space = json!({"type": "Discrete", "n": 2});
    service.create(&json!({"name": "a", "observation_space": space, "action_space": space}));
    let spec = service.get("/v1/agents/a").expect(200)["spec"].clone();

    let mut keys = BTreeSet::new();
    for (key, value) in schema["properties"].as_object().unwrap() {
        // Of what may be given or not, what it is if it is given.
        let parts = value["properties"]
            .as_object()
            .or_else(|| value["oneOf"][1]["properties"].as_object());
        match parts {
            Some(parts) => keys.extend(parts.keys().map(|part| format!("{key}.{part}"))),
            None => drop(keys.insert(key.clone())),
        }
    }
    let document = handbook();
    let section = document.split("## What an agent is told").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let section = section.split("\n### ").next().unwrap();
    let mut documented = BTreeSet::new();
    for row in rows(section).iter().filter(|row| row[0].starts_with('`')) {
        for key in row[0].split(", ").map(|key| key.trim_matches('`')) {
            let required = schema["required"].as_array().unwrap();
            assert_eq!(
                row[1] == "required",
                required.contains(&json!(key)),
                "{key}"
            );
            if let Some(default) = row[1].strip_prefix('`') {
                let value = &spec
                    .pointer(&format!("/{}", key.replace('.', "/")))
                    .unwrap();
                assert_eq!(default.trim_end_matches('`'), value.to_string(), "{key}");
            }
            documented.insert(key.to_owned());
        }
    }
    assert_eq!(documented, keys);
}

#[test]
fn every_metric_and_reason_is_documented() {
    let service = Agent::start();
    service.create(&cart("a", 64));
    let _ = service
        .post(
            "/v1/agents/a/experience",
            &batch("p", 0, fragment(0, 0, 0, 64)),
        )
        .expect(200);
    service.wait_status("a", "an update", |status| status["policy_version"] == 1);
    let text = http::get(&service.admin(), "/metrics").unwrap().body;
    let document = handbook();
    let all = rows(&document);
    let mut found = BTreeSet::new();
    for line in text
        .lines()
        .filter_map(|line| line.strip_prefix("# HELP tars_agent_"))
    {
        let (name, help) = line.split_once(' ').unwrap();
        let name = format!("tars_agent_{name}");
        let row = all.iter().find(|row| row[0] == format!("`{name}`"));
        if row.is_none() && of_streams(&name) {
            continue;
        }
        let row = row.unwrap_or_else(|| panic!("{name} is not documented"));
        assert_eq!(
            row.last().unwrap().replace('"', "\\\""),
            help.replace('"', "\\\"").replace("\\\\", "\\"),
            "{name}"
        );
        assert!(
            text.contains(&format!("# TYPE {name} {}", row[1])),
            "{name}"
        );
        found.insert(name);
    }
    assert!(found.len() > 20, "{found:?}");
    let reasons = text.lines().filter_map(|line| {
        line.strip_prefix("tars_agent_http_refused_total{reason=\"")?
            .split('"')
            .next()
    });
    for reason in reasons {
        assert!(document.contains(&format!("`{reason}`")), "{reason}");
    }
}

#[test]
fn the_examples_run() {
    let service = Agent::start();
    let folder = tempfile::tempdir().unwrap();
    let document = handbook();
    let examples = document
        .split("```sh\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next());
    let mut count = 0;
    for example in examples {
        let script = format!(
            "set -e\n{}",
            example.replace("127.0.0.1:7205", &service.address())
        );
        let done = Command::new("bash")
            .args(["-c", &script])
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(
            done.status.success(),
            "{script}\n{}",
            String::from_utf8_lossy(&done.stdout)
        );
        count += 1;
    }
    assert!(count >= 4);
    assert!(folder.path().join("policy.safetensors").exists());
    assert_eq!(
        service.get("/v1/agents").expect(200)["agents"],
        json!([]),
        "the last one removes it"
    );
}
