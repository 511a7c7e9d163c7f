//! `/v1/agents/{name}/checkpoints`: those that there are, and one now.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::Response;
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::timeout;

use super::body::parse;
use super::problem::{Problem, Reason};
use super::{Asked, Http, json_of};
use crate::checkpoint::{BEST, Manifest};
use crate::service::agent::Agent;
use crate::service::spec::is_name;

/// An update that runs is waited for, and a disk that is slow.
const PATIENCE: Duration = Duration::from_secs(30);
/// Names by which checkpoints are kept: each may hold one that would be removed.
const MOST_PINS: usize = 16;

/// A checkpoint, listed.
#[derive(Serialize)]
struct Listed {
    name: String,
    policy_version: Option<u64>,
    steps: u64,
    updates: u64,
    mean_return: Option<f64>,
    bytes: usize,
    pins: Vec<String>,
}

/// What may be asked with one.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object, with a pin if wanted")]
struct Wanted {
    /// Keep it by this name, whatever comes after it.
    #[serde(default)]
    pin: Option<String>,
}

pub(super) async fn list(http: &Http, name: &str) -> Result<Response, Problem> {
    let agent = http.agent(name)?;
    let all = http.aside(move || {
        let pins = pins(&agent);
        let all = agent.store().checkpoints();
        // One that is removed meanwhile is not there any more.
        let all = all.iter().filter_map(|path| listed(path, &pins));
        all.collect::<Vec<_>>()
    });
    Ok(json_of(json!({"checkpoints": all.await?}).to_string()))
}

pub(super) async fn write(
    http: &Http,
    name: &str,
    asked: &Asked<'_>,
    body: Incoming,
) -> Result<Response, Problem> {
    let agent = http.agent(name)?;
    let held = http.bodies.json(asked.headers, body).await?;
    let (Wanted { pin }, _held) = http.bodies.work(held, parse).await?;
    if let Some(pin) = &pin {
        if !is_name(pin) || pin == BEST {
            return Err(Problem::invalid(format!(
                "pin: expected 1 to 63 letters, digits, '-', '_' and '.', beginning with a letter or a digit, and not {BEST:?}"
            )));
        }
        let pins = pins(&agent);
        if pins.len() >= MOST_PINS && !pins.contains_key(pin) {
            return Err(Problem::new(
                Reason::Exists,
                format!(
                    "pin: expected one of the {MOST_PINS} names that there are, as there can be no more"
                ),
            ));
        }
    }
    let shared = agent.shared();
    let written = async {
        let mut durable = shared.durable.notified();
        agent.want_checkpoint();
        loop {
            durable.await;
            durable = shared.durable.notified();
            // Else it was one that had begun before.
            if !shared.lock().checkpoint_wanted {
                return;
            }
        }
    };
    if timeout(PATIENCE, written).await.is_err() {
        let why = agent.report().state.checkpoint_error;
        let why = why.unwrap_or_else(|| "an update takes longer".to_owned());
        return Err(Problem::new(
            Reason::Disk,
            format!(
                "no checkpoint was written within {} seconds: {why}",
                PATIENCE.as_secs()
            ),
        ));
    }
    let done = http.aside(move || {
        let path = agent.report().state.checkpoint.unwrap_or_default();
        if let Some(pin) = pin {
            let pinned = agent.store().pin(&pin, &path);
            pinned.map_err(|error| Problem::new(Reason::Disk, error.to_string()))?;
        }
        listed(&path, &pins(&agent))
            .ok_or_else(|| Problem::new(Reason::Disk, "the checkpoint cannot be read"))
    });
    let listed = done.await??;
    let mut response = json_of(json!(listed).to_string());
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

/// Which checkpoint is kept by which names.
fn pins(agent: &Agent) -> BTreeMap<String, PathBuf> {
    let store = agent.store();
    let pins = store.pins();
    pins.filter_map(|pin| store.pinned(&pin).map(|path| (pin, path)))
        .collect()
}

fn listed(path: &Path, pins: &BTreeMap<String, PathBuf>) -> Option<Listed> {
    let manifest = Manifest::read(path).ok()?;
    let pins = pins.iter().filter(|(_, of)| *of == path);
    Some(Listed {
        name: path.file_name()?.to_string_lossy().into_owned(),
        policy_version: manifest.service.as_ref().map(|service| service.version),
        steps: manifest.steps,
        updates: manifest.updates,
        mean_return: manifest.mean_return,
        bytes: manifest.files.values().map(|file| file.bytes).sum(),
        pins: pins.map(|(name, _)| name.clone()).collect(),
    })
}
