//! What the injector writes into pods, as its golden files hold it, against the programs that get it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use clap::{CommandFactory as _, Parser as _};
use serde_json::Value;
use tars_proxy::cli::Cli;
use tars_tests::built::built;
use tars_tests::process::Process;
use tars_tests::proxy::run_to_end_with;
use tars_tests::wait::PATIENCE;

/// What a Secret holds in these pods.
const URL: &str = "redis://shop:s3cret@redis.shop:6379/2";

fn golden() -> Vec<(String, Value)> {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/injector/tests/manifests/golden");
    let files = fs::read_dir(folder).unwrap();
    let mut all = Vec::new();
    for path in files.map(|entry| entry.unwrap().path()) {
        let text = fs::read_to_string(&path).unwrap();
        let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
        let name = PathBuf::from(path.file_name().unwrap())
            .display()
            .to_string();
        all.extend(
            documents
                .into_iter()
                .map(|document| (name.clone(), document)),
        );
    }
    assert!(all.len() >= 24, "the golden files are gone");
    all
}

/// Every container of a document that runs `program`, and the file that it is in.
fn containers(program: &str) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for (name, document) in golden() {
        let pod = ["/spec/jobTemplate/spec/template", "/spec/template", ""]
            .iter()
            .find_map(|place| document.pointer(place)?.get("spec"))
            .unwrap();
        for list in ["initContainers", "containers"] {
            let all = pod.get(list).and_then(Value::as_array);
            let of = |c: &&Value| c["command"][0] == program;
            found.extend(
                all.into_iter()
                    .flatten()
                    .filter(of)
                    .map(|c| (name.clone(), c.clone())),
            );
        }
    }
    found
}

fn words(command: &Value) -> Vec<String> {
    let words = command.as_array().unwrap().iter();
    words
        .map(|word| word.as_str().unwrap().to_owned())
        .collect()
}

/// The variables as the kubelet sets them: references followed, Secrets looked up.
fn variables(container: &Value) -> Vec<(String, String)> {
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    for entry in container["env"].as_array().unwrap() {
        let name = entry["name"].as_str().unwrap().to_owned();
        let value = match entry.get("valueFrom") {
            Some(_) if name.ends_with("_URL") => URL.to_owned(),
            Some(_) if name.starts_with("UPSTREAM_VALUE_") => "6379".to_owned(),
            Some(_) => "10.0.0.1".to_owned(),
            None => {
                let mut value = entry["value"].as_str().unwrap().to_owned();
                for (name, text) in &known {
                    value = value.replace(&format!("$({name})"), text);
                }
                // Variables of Services, which the kubelet makes.
                value
                    .replace("$(REDIS_SERVICE_HOST)", "10.0.0.2")
                    .replace("$(REDIS_SERVICE_PORT)", "6379")
            }
        };
        known.insert(name, value);
    }
    known.into_iter().collect()
}

#[test]
fn the_proxy_understands_every_command_line() {
    let mut kinds = BTreeMap::new();
    let can_intercept = Cli::command().find_subcommand("intercept").is_some();
    for (name, container) in containers("/tars-proxy") {
        let places = [
            "/command",
            "/startupProbe/exec/command",
            "/lifecycle/postStart/exec/command",
            "/lifecycle/preStop/exec/command",
        ];
        for command in places.iter().filter_map(|place| container.pointer(place)) {
            let words = words(command);
            *kinds.entry(words[1].clone()).or_insert(0) += 1;
            if words[1] == "intercept" && !can_intercept {
                continue;
            }
            if let Err(error) = Cli::try_parse_from(&words) {
                panic!("{name}: {words:?}: {error}");
            }
        }
    }
    let kinds: Vec<&str> = kinds.keys().map(String::as_str).collect();
    assert_eq!(kinds, ["await-clients", "check-live", "intercept", "run"]);
}

#[test]
fn the_proxy_can_use_every_configuration() {
    let mut seen = String::new();
    for (name, container) in containers("/tars-proxy") {
        if container["command"][1] != "run" {
            continue;
        }
        let variables = variables(&container);
        let unknown: Vec<_> = variables
            .iter()
            .filter(|(_, value)| value.contains("$("))
            .collect();
        assert!(unknown.is_empty(), "{name}: {unknown:?}");
        let (status, out, err) = run_to_end_with(&["check-config"], &variables);
        assert!(status.success(), "{name}: {err}\n{variables:?}");
        // A variable that the proxy does not know would be a warning.
        assert_eq!(err, "", "{name}");
        assert!(out.contains("listen 127.0.0.1:163"), "{name}: {out}");
        assert!(!out.contains("s3cret"), "{name}: {out}");
        seen += &out;
    }
    for wanted in [
        "redis.shop:6379 (user, password and database of UPSTREAM_0_URL)",
        "rediss://",
        "original",
    ] {
        assert!(seen.contains(wanted), "no pod has {wanted}: {seen}");
    }
}

#[test]
fn the_learner_knows_every_variable() {
    let mut help = Process::start(&built("tars-agent"), |command| {
        command.args(["serve", "--help"]);
    });
    assert!(help.wait_exit(PATIENCE).success());
    // Lines are broken anywhere.
    let help = help.stdout();
    let help: Vec<&str> = help.split_whitespace().collect();
    let help = help.join(" ");
    let containers = containers("/tars-agent");
    assert!(!containers.is_empty());
    for (name, container) in containers {
        assert_eq!(
            words(&container["command"]),
            ["/tars-agent", "serve"],
            "{name}"
        );
        for (variable, _) in variables(&container) {
            assert!(
                help.contains(&format!("[env: {variable}="))
                    || help.contains(&format!("[env: {variable}]")),
                "{name}: tars-agent serve does not know {variable}"
            );
        }
    }
}
