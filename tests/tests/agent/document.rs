//! The OpenAPI document is what the service does.

use serde_json::{Value, json};
use tars_tests::agent::Agent;

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
            conforms(&document, &json!(schema), &answer.json(), id);
        }
    }
}

/// As much of JSON Schema as the document's answers use.
fn conforms(document: &Value, schema: &Value, value: &Value, at: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = document.pointer(reference.trim_start_matches('#')).unwrap();
        return conforms(document, target, value, at);
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        assert!(
            value.get(name.as_str().unwrap()).is_some(),
            "{at}: {name} in {value}"
        );
    }
    if let (Some(properties), Some(object)) = (schema["properties"].as_object(), value.as_object())
    {
        for (name, part) in object {
            if let Some(schema) = properties.get(name) {
                conforms(document, schema, part, &format!("{at}.{name}"));
            }
        }
    }
    for item in value.as_array().into_iter().flatten() {
        conforms(document, &schema["items"], item, at);
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
