//! Reading and changing a pod as JSON, so that fields which nobody here knows stay what they are.
//!
//! Nothing of its shape is taken for granted: what is not there, or is of another type, reads as empty.

use serde_json::{Map, Value};

/// The lists of containers, in the order in which they start.
pub const LISTS: [&str; 2] = ["initContainers", "containers"];

/// A list of the pod's spec; empty if there is none.
pub fn list<'a>(pod: &'a Value, list: &str) -> &'a [Value] {
    let found = pod.get("spec").and_then(|spec| spec.get(list));
    found.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The same to change, made if there is none.
pub fn list_mut<'a>(pod: &'a mut Value, list: &str) -> Option<&'a mut Vec<Value>> {
    let spec = pod.get_mut("spec")?.as_object_mut()?;
    let found = spec.entry(list).or_insert(Value::Null);
    if found.is_null() {
        *found = Value::Array(Vec::new());
    }
    found.as_array_mut()
}

/// Takes away a list that became empty and was not there before.
pub fn drop_empty(pod: &mut Value, list: &str) {
    let spec = pod.get_mut("spec").and_then(Value::as_object_mut);
    if let Some(spec) = spec
        && spec
            .get(list)
            .and_then(Value::as_array)
            .is_some_and(Vec::is_empty)
    {
        spec.remove(list);
    }
}

/// All containers with the list that each is in.
pub fn containers(pod: &Value) -> impl Iterator<Item = (&'static str, &Value)> {
    LISTS
        .into_iter()
        .flat_map(move |name| list(pod, name).iter().map(move |one| (name, one)))
}

/// The element of that name.
pub fn named<'a>(elements: &'a [Value], name: &str) -> Option<&'a Value> {
    elements
        .iter()
        .find(|element| text(element, "name") == name)
}

/// Whether a container bears that name, in whatever list.
pub fn has_container(pod: &Value, name: &str) -> bool {
    containers(pod).any(|(_, container)| text(container, "name") == name)
}

/// A field that is text; empty if it is not.
pub fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object.get(field).and_then(Value::as_str).unwrap_or("")
}

/// An annotation or a label: `of` is `annotations` or `labels`.
pub fn meta<'a>(pod: &'a Value, of: &str, name: &str) -> Option<&'a str> {
    pod.get("metadata")?.get(of)?.get(name)?.as_str()
}

/// Annotations to change, made if there are none.
pub fn annotations_mut(pod: &mut Value) -> Option<&mut Map<String, Value>> {
    let metadata = object_mut(pod.as_object_mut()?, "metadata")?;
    object_mut(metadata, "annotations")
}

fn object_mut<'a>(
    of: &'a mut Map<String, Value>,
    field: &str,
) -> Option<&'a mut Map<String, Value>> {
    let found = of.entry(field).or_insert(Value::Null);
    if found.is_null() {
        *found = Value::Object(Map::new());
    }
    found.as_object_mut()
}

/// Whether what is to be changed can be: what is there, is of the type that it should be. An API server sends nothing else.
pub fn is_whole(pod: &Value) -> bool {
    let fits = |at: &str, is: fn(&Value) -> bool| {
        pod.pointer(at)
            .is_none_or(|found| found.is_null() || is(found))
    };
    let lists = [
        "/spec/initContainers",
        "/spec/containers",
        "/spec/volumes",
        "/spec/imagePullSecrets",
    ];
    pod.get("spec").is_some_and(Value::is_object)
        && ["/metadata", "/metadata/annotations"]
            .iter()
            .all(|at| fits(at, Value::is_object))
        && lists.iter().all(|at| fits(at, Value::is_array))
}

/// The owner that controls the pod.
pub fn controller(pod: &Value) -> Option<&Value> {
    let owners = pod.get("metadata")?.get("ownerReferences")?.as_array()?;
    let controls = |owner: &&Value| owner.get("controller").and_then(Value::as_bool) == Some(true);
    owners.iter().find(controls)
}

/// The workload that a person knows: the Deployment of a ReplicaSet, the CronJob of a Job, the owner, or the pod itself.
pub fn workload(pod: &Value) -> String {
    let Some(owner) = controller(pod) else {
        let metadata = pod.get("metadata");
        let of = |field| metadata.map_or("", |metadata| text(metadata, field));
        let name = match of("name") {
            "" => of("generateName").trim_end_matches('-'),
            name => name,
        };
        return name.to_owned();
    };
    let name = text(owner, "name");
    let without = |is_suffix: &dyn Fn(&str) -> bool| {
        name.rsplit_once('-')
            .filter(|(front, suffix)| !front.is_empty() && is_suffix(suffix))
            .map(|(front, _)| front)
    };
    let known = match text(owner, "kind") {
        "ReplicaSet" => match meta(pod, "labels", "pod-template-hash") {
            Some(hash) => without(&|suffix| suffix == hash),
            None => without(&|_| true),
        },
        // A CronJob's Job bears the scheduled time, in minutes.
        "Job" => without(&|suffix| suffix.len() >= 8 && suffix.bytes().all(|b| b.is_ascii_digit())),
        _ => None,
    };
    known.unwrap_or(name).to_owned()
}

/// Every port that a container says it listens on.
pub fn ports(pod: &Value) -> impl Iterator<Item = u64> {
    containers(pod)
        .filter_map(|(_, container)| container.get("ports")?.as_array())
        .flatten()
        .filter_map(|port| port.get("containerPort")?.as_u64())
}

/// Whether the pod's quality of service is Guaranteed: every container has limits of both, and requests no less.
pub fn is_guaranteed(pod: &Value) -> bool {
    let mut all = containers(pod).peekable();
    all.peek().is_some()
        && all.all(|(_, container)| {
            ["cpu", "memory"].iter().all(|resource| {
                let of = |kind| container.get("resources")?.get(kind)?.get(resource);
                let limit = of("limits");
                limit.is_some() && of("requests").is_none_or(|request| Some(request) == limit)
            })
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn workloads() {
        let owned = |kind: &str, name: &str, labels: Value| {
            json!({"metadata": {"labels": labels, "ownerReferences": [
            {"kind": "Other", "name": "no"}, {"kind": kind, "name": name, "controller": true}]}})
        };
        for (pod, expected) in [
            (
                owned(
                    "ReplicaSet",
                    "web-shop-6d4cf56db6",
                    json!({"pod-template-hash": "6d4cf56db6"}),
                ),
                "web-shop",
            ),
            (owned("ReplicaSet", "web-shop-abc", json!({})), "web-shop"),
            (
                owned(
                    "ReplicaSet",
                    "own-set",
                    json!({"pod-template-hash": "other"}),
                ),
                "own-set",
            ),
            (owned("StatefulSet", "db-1", json!({})), "db-1"),
            (owned("Job", "report-29384756", json!({})), "report"),
            (owned("Job", "migrate-2", json!({})), "migrate-2"),
            (json!({"metadata": {"generateName": "worker-"}}), "worker"),
            (
                json!({"metadata": {"name": "one", "ownerReferences": "no list"}}),
                "one",
            ),
            (json!({}), ""),
        ] {
            assert_eq!(workload(&pod), expected, "{pod}");
        }
    }

    #[test]
    fn guaranteed() {
        let pod = |resources: Value| json!({"spec": {"containers": [{"resources": resources}]}});
        let both = json!({"cpu": "1", "memory": "1Gi"});
        for (resources, expected) in [
            (json!({"limits": both, "requests": both}), true),
            (json!({"limits": both}), true),
            (json!({"limits": both, "requests": {"cpu": "500m"}}), false),
            (json!({"limits": {"cpu": "1"}}), false),
            (json!(null), false),
        ] {
            assert_eq!(
                is_guaranteed(&pod(resources.clone())),
                expected,
                "{resources}"
            );
        }
        assert!(!is_guaranteed(&json!({})));
    }
}
