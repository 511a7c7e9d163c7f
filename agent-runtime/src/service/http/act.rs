//! `POST /v1/agents/{name}/act`: observations in, actions out.

use std::io::Write as _;

use axum::response::Response;
use hyper::body::Incoming;
use serde::Deserialize;

use super::body::parse;
use super::problem::Problem;
use super::trace::Span;
use super::{Asked, Http, json_of};
use crate::distribution::Distribution;
use crate::env::Space;
use crate::service::agent::Agent;
use crate::service::experience::mask_rows;
use crate::service::numbers;
use crate::service::policy::{Answer, Question};
use crate::service::space::{check, shift};

/// Rows of a request.
pub const MOST_ROWS: usize = 4_096;
/// Numbers of all its actions.
const MOST_NUMBERS: usize = 1 << 20;

/// What is asked.
#[derive(Debug, Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "an object with observations, and masks and deterministic if wanted"
)]
struct Act {
    observations: numbers::Rows,
    #[serde(default)]
    masks: Option<numbers::Rows>,
    #[serde(default)]
    deterministic: bool,
}

/// The same, checked.
#[derive(Debug)]
struct Rows {
    observations: Vec<f32>,
    masks: Vec<bool>,
    deterministic: bool,
}

pub(super) async fn act(
    http: &Http,
    name: &str,
    asked: &Asked<'_>,
    body: Incoming,
    span: Option<&mut Span>,
) -> Result<Response, Problem> {
    let agent = http.agent(name)?;
    let _turn = agent.turns().act()?;
    let held = http.bodies.json(asked.headers, body).await?;
    let reader = agent.clone();
    let work = move |json: &[u8]| read(&reader, json);
    let (rows, _held) = http.bodies.work(held, work).await?;
    let answer = agent
        .act(Question {
            observations: &rows.observations,
            masks: &rows.masks,
            deterministic: rows.deterministic,
        })
        .await;
    if let Some(span) = span {
        span.version(answer.version);
    }
    Ok(json_of(write(&agent, &answer)))
}

fn read(agent: &Agent, json: &[u8]) -> Result<Rows, Problem> {
    let Act {
        observations: numbers::Rows(mut observations),
        masks,
        deterministic,
    } = parse(json)?;
    let acting = agent.acting();
    let (spaces, spec) = (acting.spaces(), agent.spec());
    let width = spaces.observation.width();
    let rows = observations.0.len() / width;
    let most = MOST_ROWS
        .min(MOST_NUMBERS / acting.distribution().action_width())
        .max(1);
    if rows == 0 || rows > most {
        return Err(Problem::invalid(format!(
            "observations: expected 1 to {most} of {width} numbers each, found {} numbers",
            observations.0.len()
        )));
    }
    shift(&spec.observation_space, &mut observations);
    check(
        &spaces.observation,
        spec.observation_space.start(),
        |row| format!("observations[{row}]"),
        rows,
        &observations.0,
    )
    .map_err(Problem::invalid)?;
    let masks = match (masks, acting.distribution()) {
        (Some(masks), Distribution::Categorical(sizes)) if spec.masked => {
            let name = |row| format!("masks[{row}]");
            mask_rows(sizes, name, rows, &masks.0.0).map_err(Problem::invalid)?
        }
        (Some(_), _) => {
            return Err(Problem::invalid(
                "masks: expected none, as this agent is not masked",
            ));
        }
        (None, _) if spec.masked => {
            return Err(Problem::invalid(
                "masks: expected one for each observation, as this agent is masked",
            ));
        }
        (None, _) => Vec::new(),
    };
    Ok(Rows {
        observations: observations.0,
        masks,
        deterministic,
    })
}

/// The answer in JSON: written by hand, since it is what a client waits for at each of its steps.
fn write(agent: &Agent, answer: &Answer) -> Vec<u8> {
    let acting = agent.acting();
    let start = agent.spec().action_space.start();
    let width = acting.distribution().action_width();
    let numbers = answer.actions.len() * 2 + answer.values.len() * 2;
    let mut json = Vec::with_capacity(128 + numbers * 12);
    let action = &acting.spaces().action;
    // Writing to a vector cannot fail.
    json.extend_from_slice(b"{\"actions\":");
    rows(&mut json, action, width, &answer.actions, |json, _, x| {
        number(json, action, x);
    });
    json.extend_from_slice(b",\"env_actions\":");
    rows(
        &mut json,
        action,
        width,
        &answer.actions,
        |json, at, x| match action {
            // In 64 bits: it may begin anywhere.
            Space::Discrete(_) => {
                let _ = write!(json, "{}", start.saturating_add(x as i64));
            }
            _ => number(json, action, acting.env_action(at, x)),
        },
    );
    json.extend_from_slice(b",\"log_probs\":");
    list(&mut json, &answer.log_probs);
    json.extend_from_slice(b",\"values\":");
    list(&mut json, &answer.values);
    let _ = write!(json, ",\"policy_version\":{}}}", answer.version);
    json
}

/// A number a row where an action is one index, an array a row else.
fn rows(
    json: &mut Vec<u8>,
    action: &Space,
    width: usize,
    actions: &[f32],
    write: impl Fn(&mut Vec<u8>, usize, f32),
) {
    let bare = matches!(action, Space::Discrete(_));
    json.push(b'[');
    for (row, numbers) in actions.chunks_exact(width).enumerate() {
        if row > 0 {
            json.push(b',');
        }
        if !bare {
            json.push(b'[');
        }
        for (at, &x) in numbers.iter().enumerate() {
            if at > 0 {
                json.push(b',');
            }
            write(json, at, x);
        }
        if !bare {
            json.push(b']');
        }
    }
    json.push(b']');
}

fn number(json: &mut Vec<u8>, action: &Space, x: f32) {
    match action {
        Space::Box { .. } => real(json, x),
        _ => {
            let _ = write!(json, "{}", x as i64);
        }
    }
}

fn real(json: &mut Vec<u8>, x: f32) {
    // The shortest digits that are read as the same number; a number that is not finite is null.
    let _ = serde_json::to_writer(json, &x);
}

fn list(json: &mut Vec<u8>, numbers: &[f32]) {
    json.push(b'[');
    for (at, &x) in numbers.iter().enumerate() {
        if at > 0 {
            json.push(b',');
        }
        real(json, x);
    }
    json.push(b']');
}
