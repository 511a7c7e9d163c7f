//! What the injector changed, recorded in an annotation of the pod itself, so that every further call can take it back and
//! decide anew: whatever was there when it was called first, the outcome is the same.
//!
//! No password gets into it: of a URL only the server is recorded.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::address::Written;
use crate::names::{DEFAULT_CONTAINER, STATUS};
use crate::pod;

/// The format of the annotation.
const FORMAT: u32 = 1;

/// What was changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    format: u32,
    /// Variables that lead to the proxy now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variables: Vec<Changed>,
    /// Containers, as `initContainers/tars-proxy`, with a digest of each field as it was written. Others may have changed them since
    /// (defaults, another registry): that stays.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub containers: BTreeMap<String, Digests>,
    /// Volumes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<String>,
    /// imagePullSecrets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pull_secrets: Vec<String>,
    /// Why there is no sidecar, where that is recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
    /// The container that kubectl takes for the pod's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_container: Option<String>,
}

/// The fields of a container, and a digest of each.
pub type Digests = BTreeMap<String, String>;

/// A variable that was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// `containers` or `initContainers`
    pub list: String,
    /// Name of the container.
    pub container: String,
    /// Name of the variable.
    pub name: String,
    /// What it was.
    pub was: Was,
    /// What it is; of a URL the scheme and the server.
    pub now: String,
}

/// What a variable was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Was {
    /// Of a value that holds more: scheme and server.
    Server(String),
    /// The whole value.
    Value(String),
    /// A reference.
    ValueFrom(Value),
    /// Not there.
    Absent,
}

impl Status {
    /// Nothing was changed yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            format: FORMAT,
            ..Self::default()
        }
    }

    /// Reads a pod's; none if it has none.
    ///
    /// # Errors
    /// If the annotation holds something else: then nobody knows what was changed.
    pub fn read(pod: &Value) -> Result<Option<Self>, serde_json::Error> {
        let written = pod::meta(pod, "annotations", STATUS);
        let status: Option<Self> = written.map(serde_json::from_str).transpose()?;
        match status {
            Some(status) if status.format != FORMAT => Err(serde::de::Error::custom(format!(
                "its format is {}, and this injector knows {FORMAT}",
                status.format
            ))),
            status => Ok(status),
        }
    }

    /// Records it.
    pub fn write(&self, pod: &mut Value) {
        if let (Ok(text), Some(annotations)) =
            (serde_json::to_string(self), pod::annotations_mut(pod))
        {
            annotations.insert(STATUS.to_owned(), text.into());
        }
    }

    /// Takes back what was changed, and gives the containers that were injected as they are by now.
    pub fn undo(&self, pod: &mut Value) -> BTreeMap<String, Value> {
        let mut taken = BTreeMap::new();
        for key in self.containers.keys() {
            let (list, name) = key.split_once('/').unwrap_or(("", key));
            let Some(list) = pod::LISTS.into_iter().find(|known| *known == list) else {
                continue;
            };
            if let Some(container) = take(pod, list, name) {
                taken.insert(key.clone(), container);
            }
        }
        for changed in &self.variables {
            changed.undo(pod);
        }
        for volume in &self.volumes {
            take(pod, "volumes", volume);
        }
        for secret in &self.pull_secrets {
            take(pod, "imagePullSecrets", secret);
        }
        if let Some(annotations) = pod::annotations_mut(pod) {
            annotations.remove(STATUS);
            let default = annotations.get(DEFAULT_CONTAINER).and_then(Value::as_str);
            if self.default_container.is_some() && default == self.default_container.as_deref() {
                annotations.remove(DEFAULT_CONTAINER);
            }
            if annotations.is_empty() {
                let metadata = pod.get_mut("metadata").and_then(Value::as_object_mut);
                metadata.map(|metadata| metadata.remove("annotations"));
            }
        }
        taken
    }
}

/// Takes the element of that name out of a list of the spec, and the list when it was the last.
fn take(pod: &mut Value, list: &str, name: &str) -> Option<Value> {
    let at = pod::list(pod, list)
        .iter()
        .position(|element| pod::text(element, "name") == name)?;
    let taken = pod::list_mut(pod, list)?.remove(at);
    pod::drop_empty(pod, list);
    Some(taken)
}

impl Changed {
    /// Somebody may have changed the variable since: what they wrote stays, and is the original from now on.
    fn undo(&self, pod: &mut Value) -> Option<()> {
        let known = pod::LISTS.into_iter().find(|known| *known == self.list)?;
        let containers = pod::list_mut(pod, known)?;
        let container = containers
            .iter_mut()
            .find(|one| pod::text(one, "name") == self.container)?;
        let env = container.get_mut("env")?.as_array_mut()?;
        let at = env
            .iter()
            .rposition(|entry| pod::text(entry, "name") == self.name)?;
        let entry = env.get_mut(at)?.as_object_mut()?;
        let value = entry.get("value")?.as_str()?;
        match &self.was {
            Was::Server(server) => {
                let (now, was) = (Written::read(value).ok()?, Written::read(server).ok()?);
                if format!("{}{}", now.scheme, now.authority) != self.now {
                    return None;
                }
                let restored = now.with(was.scheme, was.authority);
                entry.insert("value".to_owned(), restored.into());
            }
            _ if value != self.now => return None,
            Was::Value(was) => {
                entry.insert("value".to_owned(), was.clone().into());
            }
            Was::ValueFrom(reference) => {
                entry.remove("value");
                entry.insert("valueFrom".to_owned(), reference.clone());
            }
            Was::Absent => {
                env.remove(at);
            }
        }
        Some(())
    }
}

/// A digest of each field of a container.
#[must_use]
pub fn digests(container: &Value) -> Digests {
    let fields = container.as_object().into_iter().flatten();
    fields
        .map(|(field, value)| (field.clone(), digest(value)))
        .collect()
}

/// FNV-1a over the JSON, whose keys are sorted: no secret, and nobody gains by a collision but that a field of a sidecar stays as it is.
fn digest(value: &Value) -> String {
    let bytes = value.to_string();
    let hash = bytes.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

/// The container as it should be: fields that would be written as they were before stay as they are by now. What others added
/// to the variables stays too.
#[must_use]
pub fn merge(ours: &Value, now: Option<&Value>, before: Option<&Digests>) -> Value {
    let (Some(fields), Some(now), Some(before)) =
        (ours.as_object(), now.and_then(Value::as_object), before)
    else {
        return ours.clone();
    };
    let mut merged: Map<String, Value> = now.clone();
    merged.retain(|field, _| fields.contains_key(field) || !before.contains_key(field));
    for (field, value) in fields {
        let same = before.get(field) == Some(&digest(value)) && now.contains_key(field);
        if same {
            continue;
        }
        let value = match (
            field.as_str(),
            now.get(field).and_then(Value::as_array),
            value.as_array(),
        ) {
            ("env", Some(now), Some(ours)) => {
                let added = now
                    .iter()
                    .filter(|entry| !is_ours(pod::text(entry, "name")));
                let added =
                    added.filter(|entry| pod::named(ours, pod::text(entry, "name")).is_none());
                Value::Array(ours.iter().chain(added).cloned().collect())
            }
            _ => value.clone(),
        };
        merged.insert(field.clone(), value);
    }
    Value::Object(merged)
}

/// Variables that the injector may have written before and does not write now.
fn is_ours(name: &str) -> bool {
    ["TARS_", "OTEL_", "UPSTREAM_", "K8S_"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}
