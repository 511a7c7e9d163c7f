#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;

fn read(annotations: &[(&str, &str)]) -> Result<Wishes, Bad> {
    let annotations: serde_json::Map<_, _> = annotations
        .iter()
        .map(|(name, value)| (format!("{PREFIX}{name}"), json!(value)))
        .collect();
    Wishes::read(&json!({"metadata": {"annotations": annotations}}))
}

#[test]
fn defaults_are_those_that_the_table_says() {
    let none = read(&[]).unwrap();
    assert_eq!(Wishes::read(&json!({})).unwrap(), none);
    for known in ANNOTATIONS {
        assert_eq!(
            read(&[(known.name, " ")]).unwrap(),
            none,
            "an empty {} is none",
            known.name
        );
        // What is a value, and no description of one.
        if [
            "env",
            "mode",
            "ports",
            "agent-memory",
            "proxy-cpu",
            "proxy-memory",
        ]
        .contains(&known.name)
        {
            let mut said = read(&[(known.name, known.default)]).unwrap();
            said.warnings.clear();
            assert_eq!(said, none, "{}", known.name);
        }
    }
}

#[test]
fn all_of_them() {
    let wishes = read(&[
        ("env", "REDIS_URL, CACHE_HOST+CACHE_PORT,"),
        ("upstream", "rediss://redis.db:6380/"),
        ("mode", "explicit"),
        ("sample", "0.5, orders=*=1"),
        ("service-name", "shop"),
        ("otlp-endpoint", "http://$(K8S_NODE_IP):4318"),
        ("infer-parent", "connection"),
        ("agent", "claim:policies"),
        ("agent-memory", "512Mi"),
        ("log-level", "info,tars_proxy=debug"),
        ("proxy-cpu", "50m/500m"),
        ("proxy-memory", "64Mi"),
        ("inject", "enabled"),
        ("status", "{}"),
    ])
    .unwrap();
    let pair = Variable::Pair("CACHE_HOST".to_owned(), "CACHE_PORT".to_owned());
    assert_eq!(
        wishes.variables,
        [Variable::Whole("REDIS_URL".to_owned()), pair]
    );
    assert_eq!(wishes.upstream.as_deref(), Some("rediss://redis.db:6380"));
    assert_eq!(wishes.sample.as_deref(), Some("*=0.5,orders=*=1"));
    assert_eq!(
        wishes.agent,
        Some(AgentVolume::Claim("policies".to_owned()))
    );
    assert!(wishes.warnings.is_empty());

    let transparent = read(&[
        ("mode", "transparent"),
        ("ports", "6379,7000,6379"),
        ("env", "X"),
    ])
    .unwrap();
    assert_eq!(
        (transparent.mode, transparent.ports),
        (Mode::Transparent, vec![6379, 7000])
    );
    assert_eq!(
        transparent.warnings,
        ["tars.dev/env means nothing in transparent mode"]
    );
}

#[test]
fn what_cannot_be_understood_says_what_would_be_right() {
    for (name, value, says) in [
        ("upsteam", "x", "tars.dev/upstream was meant?"),
        ("zzz", "x", "no annotation of that name is known"),
        ("mode", "magic", "explicit or transparent"),
        ("env", "1A", "no name of a variable"),
        ("env", "A+B+C", "no name of a variable"),
        ("env", "A,A+B", "A is named twice"),
        ("env", ",", "the list is empty"),
        ("upstream", "redis://u:p@h:1", "without user"),
        ("upstream", "redis://h:1/3", "database"),
        ("upstream", "h", "host:port"),
        ("upstream", "http://h:1", "redis://host:port"),
        ("ports", "0", "no port"),
        ("ports", "6379;6380", "no port"),
        ("sample", "2", "no share"),
        ("sample", "orders=x", "no share"),
        ("sample", "=0.5", "no share"),
        ("sample", "NaN", "no share"),
        ("otlp-endpoint", "collector:4317", "http://host:port"),
        ("infer-parent", "yes", "off, connection or process"),
        ("agent", "yes", "enabled, disabled or claim:"),
        ("agent", "claim:A_b", "claim:NAME"),
        ("agent-memory", "lots", "no amount of memory"),
        ("log-level", "info; rm", "debug or trace"),
        ("proxy-cpu", "1/0.5", "no amount of processor time"),
        ("proxy-memory", "1Ki", "from 16Mi to 1Pi"),
        ("service-name", "a$(B)", "no $( )"),
    ] {
        let error = read(&[(name, value)]).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("tars.dev/{name}: ")) && error.contains(says),
            "{error}"
        );
    }
}
