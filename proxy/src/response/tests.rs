#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::Arc;

use super::*;
use crate::config::{
    Config, Deliver as DeliverRule, InferParent, Limits, Override, Relation, Rules, StreamRule,
};
use crate::testing::{Link, NOW, World, command, line};
use crate::trace::context::parse_traceparent;
use crate::trace::span::{EntryId, LinkKind, Operation, Span};
use crate::worker::Moment;

mod bounds;
mod deliveries;
mod left_out;
mod pipelines;
mod rest;
mod sending;

const CONTEXT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn with_rules(rules: Rules) -> World {
    let config = Config {
        rules: Arc::new(rules),
        ..Config::default()
    };
    World::new(config, InferParent::Off)
}

fn limited(limits: Limits, infer_parent: InferParent) -> World {
    World::new(
        Config {
            limits,
            ..Config::default()
        },
        infer_parent,
    )
}

fn delivering(value: DeliverRule) -> World {
    with_rules(Rules {
        deliver: vec![Override {
            pattern: "*".parse().unwrap(),
            value,
        }],
        ..Rules::default()
    })
}

/// A list of entries with one field each, as a reply shows it.
fn entries(ids: &[&str]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", ids.len()).into_bytes();
    for id in ids {
        out.extend_from_slice(&entry(id, &["f", "v", "traceparent", CONTEXT]));
    }
    out
}

fn entry(id: &str, fields: &[&str]) -> Vec<u8> {
    [&b"*2\r\n"[..], &bulk(id), &command(fields)].concat()
}

fn bulk(text: &str) -> Vec<u8> {
    format!("${}\r\n{text}\r\n", text.len()).into_bytes()
}

/// XREADGROUP's reply: streams with their entries.
fn read(streams: &[(&str, &[&str])]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", streams.len()).into_bytes();
    for (key, ids) in streams {
        out.extend_from_slice(b"*2\r\n");
        out.extend_from_slice(&bulk(key));
        out.extend_from_slice(&entries(ids));
    }
    out
}

/// Sends a command, has it answered, and returns the spans that ended.
fn exchange(world: &World, link: &mut Link, words: &str, reply: impl AsRef<[u8]>) -> Vec<Span> {
    assert!(!link.client(&line(words)).is_empty());
    assert_eq!(link.server(reply.as_ref()), reply.as_ref(), "{words}");
    assert_eq!(link.raw(), None, "{words}");
    world.spans()
}

fn outcomes(spans: &[Span]) -> Vec<(String, Outcome)> {
    spans
        .iter()
        .map(|span| {
            (
                span.message.map(|id| id.to_string()).unwrap_or_default(),
                span.outcome.clone(),
            )
        })
        .collect()
}
