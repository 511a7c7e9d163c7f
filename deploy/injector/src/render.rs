//! `tars-injector render`: what the webhook would make of manifests, without a cluster.
//!
//! Pods and everything with a pod template: Deployment, StatefulSet, DaemonSet, ReplicaSet, Job, CronJob, and others that keep it
//! at the same place. Other documents pass. Keys come out sorted, as kubectl prints them; comments do not survive.

use std::fmt;

use serde_json::{Value, json};

use crate::inject::{Decision, Namespace, inject};
use crate::patch::Operation;
use crate::pod;
use crate::settings::Settings;

/// Where a pod template is.
const TEMPLATES: [&str; 2] = ["/spec/template", "/spec/jobTemplate/spec/template"];
/// Lists within lists.
const MAX_LISTS: usize = 4;

/// How the result is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// The documents, changed.
    #[default]
    Yaml,
    /// The same as JSON; several as a list.
    Json,
    /// The JSON Patch of each pod or template.
    Patch,
}

/// What became of manifests.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rendered {
    /// All documents, in order.
    pub documents: Vec<Value>,
    /// The patch of each pod or template.
    pub patches: Vec<Vec<Operation>>,
    /// What to tell: decisions and warnings.
    pub notes: Vec<String>,
    /// Whether a pod was refused, by policy.
    pub refused: bool,
}

/// A manifest that is no YAML.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {error}")]
pub struct Unreadable {
    name: String,
    error: Box<serde_saphyr::Error>,
}

/// Reads the documents of a manifest, YAML or JSON, as kubectl does: YAML 1.1's booleans and octal numbers.
///
/// # Errors
/// If it is neither.
pub fn read(name: &str, text: &str) -> Result<Vec<Value>, Unreadable> {
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    serde_saphyr::from_multiple_with_options(text, options).map_err(|error| Unreadable {
        name: name.to_owned(),
        error: Box::new(error),
    })
}

/// Renders documents. `namespace` is that of objects that name none.
#[must_use]
pub fn render(documents: Vec<Value>, namespace: &Namespace, settings: &Settings) -> Rendered {
    let mut rendered = Rendered::default();
    for mut document in documents {
        rendered.document(&mut document, namespace, settings, 0);
        rendered.documents.push(document);
    }
    rendered
}

/// What YAML takes for a boolean or a number and API servers want as a string: `y`, `1`. They refuse the manifest; here it means nothing.
fn no_strings(pod: &Value) -> impl Iterator<Item = String> {
    let meta = |of: &'static str| {
        let entries = pod.get("metadata").and_then(|metadata| metadata.get(of));
        let entries = entries.and_then(Value::as_object).into_iter().flatten();
        entries.map(move |(name, value)| (format!("{of}: {name}"), value))
    };
    let env = pod::containers(pod).flat_map(|(_, container)| {
        let of = pod::text(container, "name");
        let env = container.get("env").and_then(Value::as_array);
        let entries = env.into_iter().flatten().filter_map(move |entry| {
            let name = pod::text(entry, "name");
            Some((format!("container {of}: {name}"), entry.get("value")?))
        });
        entries.collect::<Vec<_>>()
    });
    let all: Vec<_> = meta("labels")
        .chain(meta("annotations"))
        .chain(env)
        .collect();
    all.into_iter().filter_map(|(what, value)| {
        let kind = match value {
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::Array(_) => "a list",
            Value::Object(_) => "a map",
            Value::String(_) | Value::Null => return None,
        };
        Some(format!(
            "{what} is {kind}, and API servers want a string: write it in quotes"
        ))
    })
}

impl Rendered {
    fn document(
        &mut self,
        document: &mut Value,
        namespace: &Namespace,
        settings: &Settings,
        depth: usize,
    ) {
        if pod::text(document, "kind").ends_with("List") && depth < MAX_LISTS {
            let items = document.get_mut("items").and_then(Value::as_array_mut);
            for item in items.into_iter().flatten() {
                self.document(item, namespace, settings, depth + 1);
            }
            return;
        }
        let kind = pod::text(document, "kind").to_owned();
        let name = document
            .pointer("/metadata/name")
            .and_then(Value::as_str)
            .unwrap_or("")
            .to_owned();
        let namespace = match document
            .pointer("/metadata/namespace")
            .and_then(Value::as_str)
        {
            Some(named) => &Namespace {
                name: named.to_owned(),
                labels: namespace.labels.clone(),
            },
            None => namespace,
        };
        let place = match kind.as_str() {
            "Pod" => Some(""),
            _ => TEMPLATES.into_iter().find(|place| {
                document
                    .pointer(place)
                    .and_then(|template| template.pointer("/spec/containers"))
                    .is_some()
            }),
        };
        let Some(before) = place.and_then(|place| document.pointer_mut(place)) else {
            return;
        };
        let workload = match kind.as_str() {
            "Pod" => pod::workload(before),
            _ => name.clone(),
        };
        let wrong = no_strings(before);
        self.notes
            .extend(wrong.map(|wrong| format!("{kind}/{name}: warning: {wrong}")));
        let outcome = inject(before, &workload, namespace, settings);
        let said = match &outcome.decision {
            Decision::Injected => "injected".to_owned(),
            Decision::Skipped(reason) => format!("not injected ({})", reason.label()),
            Decision::Refused(why) => {
                self.refused = true;
                format!("refused: {why}")
            }
        };
        self.notes.push(format!("{kind}/{name}: {said}"));
        self.notes.extend(
            outcome
                .warnings
                .iter()
                .map(|warning| format!("{kind}/{name}: warning: {warning}")),
        );
        self.patches.push(outcome.patch);
        *before = outcome.pod;
    }

    /// The result as text.
    ///
    /// # Errors
    /// If something cannot be written so.
    pub fn text(&self, output: Output) -> Result<String, Box<dyn std::error::Error>> {
        let pretty = |value: &Value| serde_json::to_string_pretty(value).map(|text| text + "\n");
        match (output, self.documents.as_slice(), self.patches.as_slice()) {
            (Output::Yaml, documents, _) => {
                let texts: Result<Vec<_>, _> =
                    documents.iter().map(serde_saphyr::to_string).collect();
                Ok(texts?.join("---\n"))
            }
            (Output::Json, [one], _) => Ok(pretty(one)?),
            (Output::Json, several, _) => Ok(pretty(
                &json!({"apiVersion": "v1", "kind": "List", "items": several}),
            )?),
            (Output::Patch, _, [one]) => Ok(pretty(&json!(one))?),
            (Output::Patch, _, several) => Ok(pretty(&json!(several))?),
        }
    }
}

impl fmt::Display for Rendered {
    /// The notes, a line each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.notes.iter().try_for_each(|note| writeln!(f, "{note}"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// What `kubectl create --dry-run=client --validate=false -o json` made of each.
    #[test]
    fn yaml_is_read_as_kubectl_reads_it() {
        for (written, read_as) in [
            ("y", json!(true)),
            ("Y", json!(true)),
            ("n", json!(false)),
            ("yes", json!(true)),
            ("on", json!(true)),
            ("off", json!(false)),
            ("!!str y", json!("y")),
            ("0777", json!(511)),
            ("0o777", json!(511)),
            ("0x1F", json!(31)),
            ("0b11", json!(3)),
            ("1_000", json!(1000)),
            ("1:30", json!("1:30")),
            ("2001-01-01", json!("2001-01-01")),
            ("~", json!(null)),
            ("=", json!("=")),
        ] {
            let documents = read("manifest", &format!("a: {written}")).unwrap();
            assert_eq!(documents, [json!({"a": read_as})], "{written}");
        }
    }
}
