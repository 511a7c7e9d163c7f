//! The OpenAPI document is what the service does.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tars_tests::agent::{Agent, batch, cart, fragment};

#[test]
fn every_operation_is_documented_and_answers_its_example_as_documented() {
    let service = Agent::start();
    let document = service.get("/openapi.json").expect(200);
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().unwrap();
    assert_eq!(paths.len(), 11, "as many as the service has routes");
    // The one that makes the agent first, the one that removes it last.
    let mut operations: Vec<(&str, &str, &Value)> = Vec::new();
    for (path, item) in paths {
        let all = item.as_object().unwrap().iter();
        let documented: Vec<&str> = all
            .filter(|(method, _)| *method != "parameters")
            .map(|(method, operation)| {
                operations.push((path, method, operation));
                method.as_str()
            })
            .collect();
        let answer = service.ask("PATCH", &path.replace("{name}", "example"), &[], b"");
        let allowed = answer
            .header("allow")
            .unwrap_or_default()
            .to_ascii_lowercase();
        let allowed: Vec<&str> = allowed
            .split(", ")
            .filter(|method| *method != "head")
            .collect();
        assert_eq!(
            allowed,
            {
                let mut documented = documented;
                documented.sort_by_key(|method| {
                    ["get", "post", "delete"].iter().position(|m| m == method)
                });
                documented
            },
            "{path}"
        );
    }
    operations.sort_by_key(
        |(_, _, operation)| match operation["operationId"].as_str().unwrap() {
            "createAgent" => 0,
            "deleteAgent" => 2,
            _ => 1,
        },
    );
    // So that there is an update to tell of.
    service.create(&cart("taught", 16));
    let taught = batch("p", 0, fragment(0, 0, 0, 16));
    let _ = service
        .post("/v1/agents/taught/experience", &taught)
        .expect(200);
    service.wait_status("taught", "an update", |status| {
        status["policy_version"] == 1
    });
    let mut seen = BTreeSet::new();
    let answer = service.get("/v1/agents/taught/metrics").expect(200);
    let schema = json!({"$ref": "#/components/schemas/History"});
    conforms(&document, &schema, &answer, "history", &mut seen);
    for (path, method, operation) in operations {
        let example = &operation["requestBody"]["content"]["application/json"]["example"];
        let body = if example.is_null() {
            Vec::new()
        } else {
            example.to_string().into_bytes()
        };
        let method = method.to_ascii_uppercase();
        let answer = service.ask(&method, &path.replace("{name}", "example"), &[], &body);
        let id = operation["operationId"].as_str().unwrap();
        let documented = &operation["responses"][answer.status.to_string()];
        assert!(
            answer.status < 300 && documented.is_object(),
            "{id}: {} {}",
            answer.status,
            String::from_utf8_lossy(&answer.body)
        );
        if let Some(schema) = documented["content"]["application/json"]["schema"].as_object() {
            conforms(&document, &json!(schema), &answer.json(), id, &mut seen);
        }
    }
    // What is documented of an answer has been in one, and what has been in one is documented (`conforms`).
    for name in [
        "Agent",
        "Agents",
        "Status",
        "Answer",
        "Accepted",
        "Checkpoint",
        "History",
    ] {
        documented(&document["components"]["schemas"][name], name, &seen);
    }
}

/// Every property of an answer, by the type that has it, has been seen.
#[track_caller]
fn documented(schema: &Value, at: &str, seen: &BTreeSet<String>) {
    for (name, part) in schema["properties"].as_object().into_iter().flatten() {
        let at = format!("{at}.{name}");
        assert!(seen.contains(&at), "no answer has {at}: {seen:#?}");
        if part["$ref"].is_null() {
            documented(part, &at, seen);
        }
    }
    if schema["items"]["$ref"].is_null() && schema["items"].is_object() {
        documented(&schema["items"], at, seen);
    }
}

#[test]
fn what_a_request_may_have_is_what_the_service_reads() {
    let service = Agent::start();
    let document = service.get("/openapi.json").expect(200);
    let with = |name: &str, masked: bool| {
        let mut spec = cart(name, 64);
        spec["masked"] = json!(masked);
        spec
    };
    service.create(&with("a", false));
    let fragment = fragment(0, 0, 0, 1);
    let mut whole = with("b", false);
    for (name, part) in [
        ("buffer", json!({})),
        ("streams", json!({"experience": "e"})),
    ] {
        whole[name] = part;
    }
    for (path, schema, body) in [
        ("/v1/agents", "AgentSpec", whole),
        (
            "/v1/agents/a/act",
            "Act",
            json!({"observations": [0, 0, 0, 0]}),
        ),
        ("/v1/agents/a/experience", "Batch", batch("p", 0, fragment)),
        ("/v1/agents/a/checkpoints", "WantedCheckpoint", json!({})),
    ] {
        let schema = &document["components"]["schemas"][schema];
        reads(&service, &document, schema, path, &body, "");
    }
}

/// The same names are documented and read, in the object at `pointer` of `body` and in all that lie in it.
#[track_caller]
fn reads(
    service: &Agent,
    document: &Value,
    schema: &Value,
    path: &str,
    body: &Value,
    pointer: &str,
) {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = document.pointer(reference.trim_start_matches('#')).unwrap();
        return reads(service, document, target, path, body, pointer);
    }
    for variant in schema["oneOf"].as_array().into_iter().flatten() {
        // Spaces are told apart by their type.
        let kind = &variant["properties"]["type"]["const"];
        if kind.is_string() {
            let mut body = body.clone();
            *body.pointer_mut(pointer).unwrap() = json!({"type": kind});
            reads(service, document, variant, path, &body, pointer);
        }
    }
    if let Some(properties) = schema["properties"].as_object() {
        // What derives its reading takes an array of an object's values for it.
        let mut wrong = body.clone();
        *wrong.pointer_mut(pointer).unwrap() = json!([]);
        let sentence = service.post(path, &wrong).problem(422, "invalid");
        let says = ["invalid type: sequence, expected ", "an object"];
        assert!(
            says.iter().all(|part| sentence.contains(part)),
            "{path} {pointer}: {sentence}"
        );
        let mut wrong = body.clone();
        wrong.pointer_mut(pointer).unwrap()["zzz"] = json!(0);
        let sentence = service.post(path, &wrong).problem(422, "invalid");
        let (_, expected) = sentence
            .split_once("unknown field `zzz`, expected")
            .unwrap_or_else(|| panic!("{path} {pointer}: {sentence}"));
        let mut names: BTreeSet<&str> = expected.split('`').skip(1).step_by(2).collect();
        // What tells spaces apart is read before.
        if properties.contains_key("type") {
            names.insert("type");
        }
        let documented: BTreeSet<&str> = properties.keys().map(String::as_str).collect();
        assert_eq!(documented, names, "{path} {pointer}");
        for (name, part) in properties {
            if body.pointer(&format!("{pointer}/{name}")).is_some() {
                reads(
                    service,
                    document,
                    part,
                    path,
                    body,
                    &format!("{pointer}/{name}"),
                );
            }
        }
    }
    if schema["items"].is_object() && body.pointer(&format!("{pointer}/0")).is_some() {
        let items = &schema["items"];
        reads(
            service,
            document,
            items,
            path,
            body,
            &format!("{pointer}/0"),
        );
    }
}

/// As much of JSON Schema as the document's answers use. What is met is noted in `seen`, by the schema that has it.
fn conforms(
    document: &Value,
    schema: &Value,
    value: &Value,
    at: &str,
    seen: &mut BTreeSet<String>,
) {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = document.pointer(reference.trim_start_matches('#')).unwrap();
        let name = reference.rsplit('/').next().unwrap();
        return conforms(document, target, value, name, seen);
    }
    seen.insert(at.to_owned());
    for name in schema["required"].as_array().into_iter().flatten() {
        assert!(
            value.get(name.as_str().unwrap()).is_some(),
            "{at}: {name} in {value}"
        );
    }
    if let (Some(properties), Some(object)) = (schema["properties"].as_object(), value.as_object())
    {
        for (name, part) in object {
            let at = format!("{at}.{name}");
            let schema = properties.get(name);
            let schema = schema.unwrap_or_else(|| panic!("{at} is not documented"));
            seen.insert(at.clone());
            conforms(document, schema, part, &at, seen);
        }
    }
    for item in value.as_array().into_iter().flatten() {
        conforms(document, &schema["items"], item, at, seen);
    }
    let is = |kind: &str| match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        other => panic!("{other}"),
    };
    let fits = match &schema["type"] {
        Value::String(kind) => is(kind),
        Value::Array(kinds) => kinds.iter().any(|kind| is(kind.as_str().unwrap())),
        _ => true,
    };
    assert!(fits, "{at}: {value} is not {}", schema["type"]);
}
