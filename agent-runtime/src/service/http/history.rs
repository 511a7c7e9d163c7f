//! `GET /v1/agents/{name}/metrics`: how learning went, for the page and for programs.

use std::collections::BTreeMap;

use axum::response::Response;
use serde_json::json;

use super::problem::Problem;
use super::{Asked, Http, agents, json_of};
use crate::service::history::Point;

pub(super) fn history(http: &Http, name: &str, asked: &Asked<'_>) -> Result<Response, Problem> {
    let agent = http.agent(name)?;
    let since = asked
        .query
        .split('&')
        .find_map(|pair| pair.strip_prefix("since="));
    let since = since.map_or(Ok(0), str::parse::<u64>).map_err(|_| {
        Problem::invalid("since: expected the number of an update, as `updates` has it")
    })?;
    let points: Vec<Point> = agent.history().since(since).copied().collect();
    let memory: BTreeMap<_, _> = agent
        .budget()
        .by_component()
        .map(|(component, bytes)| (component.name(), bytes))
        .collect();
    let answer = json!({
        "status": agents::status(&agent),
        "memory": memory,
        "points": points,
    });
    Ok(json_of(answer.to_string()))
}
