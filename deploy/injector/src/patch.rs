//! The difference of two pods as a JSON Patch (RFC 6902), small and readable: elements of a list that have names (containers,
//! variables, volumes) are known by them, and what did not change is not mentioned.

use std::collections::{HashMap, HashSet};

use serde::Serialize;
use serde_json::Value;

/// What an element that was there weighs against an injected one: more than all that are ever injected.
const HEAVY: usize = 16;

/// One step of a patch.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Operation {
    /// Puts something where nothing was; into a list before the element of that number.
    Add {
        /// Where.
        path: String,
        /// What.
        value: Value,
    },
    /// Takes something away.
    Remove {
        /// Where.
        path: String,
    },
    /// Puts something else there.
    Replace {
        /// Where.
        path: String,
        /// What.
        value: Value,
    },
}

/// The steps that make `after` of `before`.
#[must_use]
pub fn diff(before: &Value, after: &Value) -> Vec<Operation> {
    let mut steps = Vec::new();
    compare(before, after, "", &mut steps);
    steps
}

fn compare(before: &Value, after: &Value, path: &str, steps: &mut Vec<Operation>) {
    match (before, after) {
        _ if before == after => {}
        (Value::Object(old), Value::Object(new)) => {
            for (key, value) in new {
                let path = below(path, key);
                match old.get(key) {
                    Some(old) => compare(old, value, &path, steps),
                    None => steps.push(Operation::Add {
                        path,
                        value: value.clone(),
                    }),
                }
            }
            let gone = old.keys().filter(|key| !new.contains_key(*key));
            steps.extend(gone.map(|key| Operation::Remove {
                path: below(path, key),
            }));
        }
        (Value::Array(old), Value::Array(new)) if names(old).is_some() && names(new).is_some() => {
            lists(old, new, path, steps);
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            for (at, (old, new)) in old.iter().zip(new).enumerate() {
                compare(old, new, &format!("{path}/{at}"), steps);
            }
        }
        _ => steps.push(Operation::Replace {
            path: path.to_owned(),
            value: after.clone(),
        }),
    }
}

fn below(path: &str, key: &str) -> String {
    format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"))
}

/// The names of all elements, if each has one of its own.
fn names(list: &[Value]) -> Option<Vec<&str>> {
    let names: Option<Vec<_>> = list
        .iter()
        .map(|element| element.get("name")?.as_str())
        .collect();
    let names = names?;
    let different: HashSet<_> = names.iter().collect();
    (different.len() == names.len()).then_some(names)
}

/// Takes away what is gone or stands elsewhere now, from behind so that numbers stay right; then puts in what is missing, from the front.
fn lists(old: &[Value], new: &[Value], path: &str, steps: &mut Vec<Operation>) {
    let (Some(old_names), Some(new_names)) = (names(old), names(new)) else {
        return;
    };
    let kept = in_both(&old_names, &new_names);
    for (at, name) in old_names.iter().enumerate().rev() {
        if !kept.contains(name) {
            steps.push(Operation::Remove {
                path: format!("{path}/{at}"),
            });
        }
    }
    for (at, (name, value)) in new_names.iter().zip(new).enumerate() {
        let path = format!("{path}/{at}");
        let before = old
            .iter()
            .find(|element| element.get("name").and_then(Value::as_str) == Some(name));
        match before.filter(|_| kept.contains(name)) {
            Some(before) => compare(before, value, &path, steps),
            None => steps.push(Operation::Add {
                path,
                value: value.clone(),
            }),
        }
    }
}

/// The names that stay where they are: the heaviest sequence that is in the same order on both sides. What is injected weighs
/// little, so that it is what moves.
fn in_both<'a>(old: &[&'a str], new: &[&'a str]) -> HashSet<&'a str> {
    let places: HashMap<_, _> = new
        .iter()
        .enumerate()
        .map(|(at, name)| (*name, at))
        .collect();
    let places: Vec<_> = old
        .iter()
        .filter_map(|name| Some((*name, *places.get(name)?)))
        .collect();
    if places.is_sorted_by_key(|(_, place)| *place) {
        return places.into_iter().map(|(name, _)| name).collect();
    }
    // For each element the weight of the best sequence that ends with it, and the element before it there.
    let mut best: Vec<(usize, Option<usize>)> = Vec::with_capacity(places.len());
    for (name, place) in &places {
        let weight = if name.starts_with("tars-") { 1 } else { HEAVY };
        let before = places
            .iter()
            .zip(&best)
            .enumerate()
            .filter(|(_, ((_, earlier), _))| earlier < place)
            .max_by_key(|(_, (_, (weight, _)))| *weight);
        best.push(match before {
            Some((at, (_, (front, _)))) => (front + weight, Some(at)),
            None => (weight, None),
        });
    }
    let mut at = (0..best.len()).max_by_key(|at| best.get(*at).map(|(weight, _)| *weight));
    let mut kept = HashSet::new();
    while let Some((name, (_, before))) = at.and_then(|at| Some((places.get(at)?.0, best.get(at)?)))
    {
        kept.insert(name);
        at = *before;
    }
    kept
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn applied(before: &Value, steps: &[Operation]) -> Value {
        let patch: json_patch::Patch = serde_json::from_value(json!(steps)).unwrap();
        let mut result = before.clone();
        json_patch::patch(&mut result, &patch).unwrap();
        result
    }

    #[test]
    fn says_only_what_changed() {
        let before = json!({"a": [{"name": "x", "v": 1}, {"name": "y"}], "k/~": {}, "gone": 1});
        let after = json!({"a": [{"name": "tars-proxy"}, {"name": "x", "v": 2}, {"name": "y"}], "k/~": {"z": 0}});
        let steps = diff(&before, &after);
        let expected = json!([
            {"op": "add", "path": "/a/0", "value": {"name": "tars-proxy"}},
            {"op": "replace", "path": "/a/1/v", "value": 2},
            {"op": "add", "path": "/k~1~0/z", "value": 0},
            {"op": "remove", "path": "/gone"},
        ]);
        assert_eq!(json!(steps), expected);
        assert_eq!(applied(&before, &steps), after);
        assert_eq!(diff(&after, &after), []);
    }

    #[test]
    fn what_is_injected_moves_and_nothing_else() {
        let list = |names: &[&str]| {
            json!(
                names
                    .iter()
                    .map(|name| json!({"name": name}))
                    .collect::<Vec<_>>()
            )
        };
        for (before, after) in [
            (["app", "tars-proxy"], ["tars-proxy", "app"]),
            (["tars-proxy", "app"], ["app", "tars-proxy"]),
        ] {
            let steps = json!(diff(&list(&before), &list(&after))).to_string();
            assert!(
                steps.contains("tars-proxy") && !steps.contains("app"),
                "{steps}"
            );
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(json!(null)),
            (0..3i32).prop_map(|n| json!(n)),
            Just(json!("s"))
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            let named = prop::collection::vec(("[a-d]|tars-[ab]", inner.clone()), 0..5).prop_map(
                |elements| {
                    elements
                        .into_iter()
                        .map(|(name, v)| json!({"name": name, "v": v}))
                        .collect::<Vec<_>>()
                },
            );
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::hash_map("[ab/~]{1,2}", inner, 0..4).prop_map(|map| json!(map)),
                named.prop_map(Value::from),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_steps_make_the_one_of_the_other(before in value(), after in value()) {
            prop_assert_eq!(applied(&before, &diff(&before, &after)), after);
        }
    }
}
