//! An update of a pod that has its sidecar: whoever applies its manifest a second time means no change, but sends the variables as
//! they were, and a pod's variables cannot be changed. They stay what they are; so does everything else that was injected. Nothing is
//! decided anew: a pod that runs is left alone.

use serde_json::Value;

use crate::names::{DEFAULT_CONTAINER, STATUS};
use crate::pod;
use crate::status::{Changed, Status, Was};

/// The new pod with what was injected into the old one.
#[must_use]
pub fn keep(old: &Value, new: &Value) -> Value {
    let mut kept = new.clone();
    let Ok(Some(status)) = Status::read(old) else {
        return kept;
    };
    let mut original = old.clone();
    status.undo(&mut original);
    for key in status.containers.keys() {
        let (list, name) = key.split_once('/').unwrap_or(("", key));
        restore(old, &mut kept, list, name);
    }
    for (list, names) in [
        ("volumes", &status.volumes),
        ("imagePullSecrets", &status.pull_secrets),
    ] {
        for name in names {
            restore(old, &mut kept, list, name);
        }
    }
    for changed in &status.variables {
        variable(old, &original, &mut kept, changed);
    }
    for name in [STATUS, DEFAULT_CONTAINER] {
        let before = pod::meta(old, "annotations", name);
        let annotations = before.and_then(|_| pod::annotations_mut(&mut kept));
        if let (Some(before), Some(annotations)) = (before, annotations) {
            annotations.entry(name).or_insert_with(|| before.into());
        }
    }
    kept
}

/// Puts an element of a list back to where it was, if it is missing.
fn restore(old: &Value, new: &mut Value, list: &str, name: &str) {
    let before = pod::list(old, list);
    let at = before
        .iter()
        .position(|element| pod::text(element, "name") == name);
    let (Some(at), None) = (at, pod::named(pod::list(new, list), name)) else {
        return;
    };
    if let (Some(element), Some(all)) = (before.get(at), pod::list_mut(new, list)) {
        all.insert(at.min(all.len()), element.clone());
    }
}

/// A variable that is sent as it was is what it is. One that somebody wants to be something else is theirs.
fn variable(old: &Value, original: &Value, new: &mut Value, changed: &Changed) -> Option<()> {
    let now = entry(old, changed)?;
    let was = entry(original, changed);
    let list = pod::LISTS.into_iter().find(|list| *list == changed.list)?;
    let container = pod::list_mut(new, list)?
        .iter_mut()
        .find(|one| pod::text(one, "name") == changed.container)?;
    let env = container.get_mut("env")?.as_array_mut()?;
    let sent = env
        .iter_mut()
        .rfind(|entry| pod::text(entry, "name") == changed.name);
    match (sent, was) {
        (Some(sent), Some(was)) => {
            let same = |field: &str| sent.get(field) == was.get(field);
            // kubectl merges what it sends with what is there: then both are set.
            let merged = sent.get("value") == now.get("value") && was.get("value").is_none();
            if same("valueFrom") && (same("value") || merged) {
                sent.clone_from(now);
            }
        }
        (None, None) if changed.was == Was::Absent => env.push(now.clone()),
        _ => {}
    }
    Some(())
}

fn entry<'a>(pod: &'a Value, changed: &Changed) -> Option<&'a Value> {
    let container = pod::named(pod::list(pod, &changed.list), &changed.container)?;
    let env = container.get("env")?.as_array()?;
    env.iter()
        .rfind(|entry| pod::text(entry, "name") == changed.name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use serde_json::json;

    use super::*;
    use crate::inject::{Namespace, inject};
    use crate::settings::{Settings, Version};

    fn manifest() -> Value {
        json!({"metadata": {"name": "p", "annotations": {"tars.dev/env": "REDIS_URL,SECRET,HOST+PORT"}}, "spec": {"containers": [
            {"name": "app", "env": [
                {"name": "REDIS_URL", "value": "redis://:pw@redis:6379/1"},
                {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                {"name": "HOST", "value": "cache"}]}]}})
    }

    fn injected(minor: u32) -> Value {
        let settings = Settings {
            kubernetes_version: Some(Version { minor }),
            pull_secrets: vec!["registry".to_owned()],
            ..Settings::default()
        };
        inject(&manifest(), "p", &Namespace::default(), &settings).pod
    }

    #[test]
    fn a_manifest_that_is_sent_again_changes_nothing() {
        for minor in [28, 34] {
            let old = injected(minor);
            // kubectl replace.
            assert_eq!(keep(&old, &manifest()), old);
            // kubectl apply: merged with what is there.
            let mut merged = old.clone();
            let env = &mut merged["spec"]["containers"]
                .as_array_mut()
                .unwrap()
                .iter_mut()
                .find(|one| one["name"] == "app")
                .unwrap()["env"];
            env[0]["value"] = json!("redis://:pw@redis:6379/1");
            env[1]["valueFrom"] = json!({"secretKeyRef": {"name": "s", "key": "k"}});
            env[2]["value"] = json!("cache");
            assert_eq!(keep(&old, &merged), old);
        }
    }

    #[test]
    fn what_somebody_wants_changed_is_theirs() {
        let old = injected(34);
        let mut new = old.clone();
        new["spec"]["containers"][0]["env"][0]["value"] = json!("redis://other");
        new["metadata"]["labels"] = json!({"a": "b"});
        assert_eq!(keep(&old, &new), new);
        // A pod without sidecar stays one, and odd ones do no harm.
        assert_eq!(keep(&manifest(), &new), new);
        for odd in [
            json!(null),
            json!({"spec": 1}),
            json!({"metadata": {"annotations": {"tars.dev/status": "?"}}}),
        ] {
            assert_eq!(keep(&odd, &new), new);
            let _ = keep(&old, &odd);
        }
    }
}
