//! Real manifests, and what becomes of them: golden files beside them, for Kubernetes 1.34 and for 1.28, which has no native
//! sidecars. `UPDATE_GOLDEN=1 cargo test -p tars-injector --test manifests` writes them anew; then read the difference.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tars_injector::inject::Namespace;
use tars_injector::render::{Output, Rendered, read, render};
use tars_injector::settings::{Settings, Version};
use tars_injector::status::Status;

/// Of Kubernetes: with native sidecars and without.
const CURRENT: u32 = 34;
const CLASSIC: u32 = 28;
/// The versions whose schemas golden files must pass: with native sidecars, and the last without.
const SCHEMAS: [&str; 3] = ["1.29", "1.34", "1.37"];
const CLASSIC_SCHEMAS: [&str; 3] = ["1.26", "1.27", "1.28"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/manifests")
}

fn settings(minor: u32) -> Settings {
    Settings {
        kubernetes_version: Some(Version { minor }),
        proxy_image: "tars-proxy:test".to_owned(),
        agent_image: "tars-agent:test".to_owned(),
        otlp_endpoint: Some("http://collector.tars:4318".to_owned()),
        pull_secrets: vec!["registry".to_owned()],
        ..Settings::default()
    }
}

fn namespace() -> Namespace {
    let labels = BTreeMap::from([("tars.dev/inject".to_owned(), "enabled".to_owned())]);
    Namespace {
        name: "default".to_owned(),
        labels: Some(labels),
    }
}

/// Every manifest: its name and its documents.
fn manifests() -> Vec<(String, Vec<Value>)> {
    let mut found: Vec<_> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let documents = read(&name, &fs::read_to_string(path).unwrap()).unwrap();
            (name, documents)
        })
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(found.len() >= 12, "the manifests are gone");
    found
}

fn rendered(documents: &[Value], minor: u32) -> Rendered {
    render(documents.to_vec(), &namespace(), &settings(minor))
}

/// The pod of a document, or its template.
fn pod_of(document: &Value) -> &Value {
    ["/spec/jobTemplate/spec/template", "/spec/template", ""]
        .iter()
        .find_map(|place| document.pointer(place))
        .unwrap()
}

fn pod_of_mut(document: &mut Value) -> &mut Value {
    let places = ["/spec/jobTemplate/spec/template", "/spec/template", ""];
    let place = places
        .iter()
        .find(|place| document.pointer(place).is_some());
    document.pointer_mut(place.unwrap()).unwrap()
}

#[test]
fn manifests_become_what_the_golden_files_say() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    let mut expected = BTreeSet::new();
    for (name, documents) in manifests() {
        for (minor, suffix) in [(CURRENT, ""), (CLASSIC, "-classic")] {
            let rendered = rendered(&documents, minor);
            let notes: String = rendered
                .notes
                .iter()
                .map(|note| format!("# {note}\n"))
                .collect();
            let text = notes + &rendered.text(Output::Yaml).unwrap();
            let file = folder().join("golden").join(format!("{name}{suffix}.yaml"));
            if update {
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(&file, &text).unwrap();
            }
            if fs::read_to_string(&file).ok().as_deref() != Some(&text) {
                wrong.push(file.display().to_string());
            }
            expected.insert(file);
        }
    }
    let found: BTreeSet<_> = fs::read_dir(folder().join("golden"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(
        found, expected,
        "golden files without manifest, or the other way round"
    );
    assert!(wrong.is_empty(), "UPDATE_GOLDEN=1 would change {wrong:#?}");
}

#[test]
fn what_is_written_is_what_was_meant() {
    for (name, documents) in manifests() {
        let rendered = rendered(&documents, CURRENT);
        let text = rendered.text(Output::Yaml).unwrap();
        assert_eq!(read(&name, &text).unwrap(), rendered.documents, "{name}");
        let json = rendered.text(Output::Json).unwrap();
        let json = read(&name, &json).unwrap();
        assert!(
            json == rendered.documents
                || json.first().unwrap()["items"] == json!(rendered.documents),
            "{name}"
        );
    }
}

#[test]
fn injecting_twice_changes_nothing() {
    for (name, documents) in manifests() {
        for minor in [CURRENT, CLASSIC] {
            let once = rendered(&documents, minor);
            let twice = rendered(&once.documents, minor);
            assert_eq!(twice.documents, once.documents, "{name}");
            assert!(
                twice.patches.iter().all(Vec::is_empty),
                "{name}: {:#?}",
                twice.patches
            );
        }
    }
}

#[test]
fn an_upgrade_of_the_cluster_moves_the_sidecar() {
    for (name, documents) in manifests() {
        let classic = rendered(&documents, CLASSIC);
        assert_eq!(
            rendered(&classic.documents, CURRENT).documents,
            rendered(&documents, CURRENT).documents,
            "{name}"
        );
    }
}

#[test]
fn what_was_changed_can_be_taken_back_to_the_byte() {
    for (name, documents) in manifests() {
        for minor in [CURRENT, CLASSIC] {
            let mut after = rendered(&documents, minor).documents;
            for document in &mut after {
                if let Some(status) = Status::read(pod_of(document)).unwrap() {
                    status.undo(pod_of_mut(document));
                }
            }
            assert_eq!(after, documents, "{name}");
        }
    }
}

/// With `--record-skipped` every pod says that it was decided about, but for the kubelet's own, and that can be taken back, too.
#[test]
fn a_pod_that_gets_nothing_can_be_told_why() {
    for (name, documents) in manifests() {
        let recording = Settings {
            record_skipped: true,
            ..settings(CURRENT)
        };
        let once = render(documents.clone(), &namespace(), &recording);
        for (before, after) in documents.iter().zip(&once.documents) {
            let status = Status::read(pod_of(after)).unwrap();
            let mirror = before.pointer("/metadata/annotations/kubernetes.io~1config.mirror");
            let is_pod = pod_of(before).pointer("/spec/containers").is_some();
            assert_eq!(status.is_some(), is_pod && mirror.is_none(), "{after}");
            let injected = after.to_string().contains("initContainers/tars-");
            assert!(status.is_none_or(|status| status.skipped.is_none() == injected));
        }
        let twice = render(once.documents.clone(), &namespace(), &recording);
        assert_eq!(twice.documents, once.documents, "{name}");
        assert!(twice.patches.iter().all(Vec::is_empty), "{name}");
        assert_eq!(
            rendered(&once.documents, CURRENT).documents,
            rendered(&documents, CURRENT).documents,
            "{name}"
        );
    }
}

/// What the patch may touch, whatever the pod: the record, what is injected, and values of variables.
#[test]
fn nothing_else_is_touched() {
    for (name, documents) in manifests() {
        for minor in [CURRENT, CLASSIC] {
            for step in rendered(&documents, minor).patches.iter().flatten() {
                let step = json!(step);
                let path = step["path"].as_str().unwrap();
                let steps: Vec<_> = path.trim_start_matches('/').split('/').collect();
                let fine = match steps.as_slice() {
                    ["metadata", "annotations"] => step["op"] == "add",
                    ["metadata", "annotations", key] => [
                        "tars.dev~1status",
                        "kubectl.kubernetes.io~1default-container",
                    ]
                    .contains(key),
                    ["spec", "containers" | "initContainers" | "volumes", _] => {
                        step["op"] == "add"
                            && step["value"]["name"].as_str().unwrap().starts_with("tars-")
                    }
                    ["spec", "imagePullSecrets", _] => step["op"] == "add",
                    ["spec", "initContainers" | "volumes" | "imagePullSecrets"] => {
                        step["op"] == "add"
                    }
                    ["spec", "containers" | "initContainers", _, "env", _] => step["op"] == "add",
                    [
                        "spec",
                        "containers" | "initContainers",
                        _,
                        "env",
                        _,
                        "value" | "valueFrom",
                    ] => true,
                    _ => false,
                };
                assert!(fine, "{name}: {step}");
            }
        }
    }
}

/// No password gets into the record, which more people may read than a pod's variables.
#[test]
fn the_record_holds_no_password() {
    let pod = json!({"kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "env": [
        {"name": "REDIS_URL", "value": "redis://user:hidden@redis:6379/0?password=hidden"}]}]}});
    let after = rendered(&[pod], CURRENT).documents.remove(0);
    let status = after["metadata"]["annotations"]["tars.dev/status"]
        .as_str()
        .unwrap();
    assert!(!status.contains("hidden"), "{status}");
    let proxy = after["spec"]["initContainers"].to_string();
    assert!(!proxy.contains("hidden"), "{proxy}");
}

#[test]
fn the_results_pass_the_schemas_of_three_versions() {
    for (minor, versions) in [(CURRENT, SCHEMAS), (CLASSIC, CLASSIC_SCHEMAS)] {
        let mut all: Vec<_> = manifests()
            .into_iter()
            .flat_map(|(_, documents)| rendered(&documents, minor).documents)
            .collect();
        // The schemas know of no native sidecars before 1.28, and istio's and linkerd's pods above are not ours to change.
        all.retain(|document| {
            minor == CURRENT || !document.to_string().contains(r#""restartPolicy":"Always""#)
        });
        assert!(all.len() > 10);
        if let Err(errors) = valid(&all, &versions) {
            panic!("{errors}");
        }
    }
    let install = Path::new(env!("CARGO_MANIFEST_DIR")).join("install.yaml");
    let install = read("install", &fs::read_to_string(install).unwrap()).unwrap();
    if let Err(errors) = valid(&install, &SCHEMAS) {
        panic!("{errors}");
    }
    // The check itself can fail.
    let misspelt = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "imagee": "b"}]}});
    assert!(valid(&[misspelt], &SCHEMAS).unwrap_err().contains("imagee"));
}

fn valid(documents: &[Value], versions: &[&str]) -> Result<(), String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache =
        cache.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache"));
    let pinned = Command::new("sha256sum")
        .arg(root.join("tests/schemas/requirements.txt"))
        .output()
        .unwrap();
    let pinned = String::from_utf8(pinned.stdout).unwrap();
    let python = cache.join(format!(
        "tars/kubernetes-validate-{}/bin/python",
        pinned.get(..12).unwrap()
    ));
    assert!(
        python.exists(),
        "{} is missing: run scripts/setup kubernetes-validate",
        python.display()
    );
    let mut child = Command::new(python)
        .arg(root.join("tests/schemas/validate.py"))
        .args(versions)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let input = serde_json::to_vec(documents).unwrap();
    child.stdin.take().unwrap().write_all(&input).unwrap();
    let output = child.wait_with_output().unwrap();
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr)),
    }
}
