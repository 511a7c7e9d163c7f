//! `/v1/agents` and `/v1/agents/{name}`: what there is, what is made and what is removed; `pause` and `resume`.

use std::path::Path;
use std::sync::Arc;

use axum::http::header::LOCATION;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::body::parse;
use super::problem::Problem;
use super::{Asked, Http, json_of};
use crate::service::agent::Agent;
use crate::service::spec::AgentSpec;

pub(super) async fn create(
    http: &Http,
    asked: &Asked<'_>,
    body: Incoming,
) -> Result<Response, Problem> {
    let held = http.bodies.json(asked.headers, body).await?;
    let (spec, _held) = http.bodies.work(held, parse::<AgentSpec>).await?;
    let (agent, new) = http.change(move |agents| agents.create(spec)).await??;
    let mut response = json_of(describe(&agent).to_string());
    if new {
        created(agent.spec());
        *response.status_mut() = StatusCode::CREATED;
    }
    if let Ok(location) = HeaderValue::from_str(&format!("/v1/agents/{}", agent.spec().name)) {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

fn created(spec: &AgentSpec) {
    tracing::info!(agent = spec.name, "created");
    if let Some(schedule) = spec.hyperparameters.never_falls() {
        tracing::warn!(
            agent = spec.name,
            schedule,
            "it does not fall, as there are no n_timesteps over which it would"
        );
    }
}

pub(super) fn list(http: &Http) -> Response {
    let (limit, reserved) = http.agents.memory();
    let agents: Vec<Value> = http
        .agents
        .all()
        .iter()
        .map(|agent| json!({"name": agent.spec().name, "status": status(agent)}))
        .collect();
    let answer = json!({
        "agents": agents,
        "failed": http.agents.failed(),
        "memory": {"limit_bytes": limit, "reserved_bytes": reserved},
    });
    json_of(answer.to_string())
}

pub(super) fn inspect(http: &Http, name: &str) -> Result<Response, Problem> {
    Ok(json_of(describe(&*http.agent(name)?).to_string()))
}

pub(super) async fn delete(http: &Http, name: &str) -> Result<Response, Problem> {
    let removed = name.to_owned();
    http.change(move |agents| agents.remove(&removed)).await??;
    tracing::info!(agent = name, "deleted");
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) fn pause(http: &Http, name: &str) -> Result<Response, Problem> {
    let agent: Arc<Agent> = http.agent(name)?;
    agent.pause();
    tracing::info!(agent = name, "paused");
    Ok(json_of(describe(&agent).to_string()))
}

pub(super) fn resume(http: &Http, name: &str) -> Result<Response, Problem> {
    let agent = http.agent(name)?;
    agent.resume();
    tracing::info!(agent = name, "resumed");
    Ok(json_of(describe(&agent).to_string()))
}

fn describe(agent: &Agent) -> Value {
    json!({"spec": agent.spec(), "status": status(agent)})
}

/// How it is doing. Where it is on the disk is nobody's business.
pub(super) fn status(agent: &Agent) -> Value {
    let report = agent.report();
    let checkpoint = report.state.checkpoint.clone();
    let mut status = json!(report);
    if let Some(place) = status.get_mut("checkpoint") {
        let name = checkpoint.as_deref().and_then(Path::file_name);
        *place = json!(name.map(|name| name.to_string_lossy()));
    }
    status
}
