//! `GET /v1/agents/{name}/policy`: what acts, as safetensors.

use std::path::PathBuf;

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use tokio_util::io::ReaderStream;

use super::problem::{Problem, Reason};
use super::{Asked, Http};
use crate::checkpoint::{Manifest, POLICY};
use crate::service::agent::Agent;

pub(super) async fn policy(
    http: &Http,
    name: &str,
    asked: &Asked<'_>,
) -> Result<Response, Problem> {
    let agent = http.agent(name)?;
    let Some((version, crc, file)) = http.aside(move || served(&agent)).await? else {
        return Err(Problem::new(
            Reason::Disk,
            "the checkpoint of the version that acts cannot be read",
        ));
    };
    let tag = format!("\"{version}-{crc}\"");
    let known = matches(asked.headers, &tag);
    let mut response = if known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let length = file.metadata().map(|metadata| metadata.len());
        let stream = ReaderStream::with_capacity(tokio::fs::File::from_std(file), 64 << 10);
        let mut response = Body::from_stream(stream).into_response();
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/octet-stream"),
        );
        if let Ok(length) = length {
            headers.insert(CONTENT_LENGTH, length.into());
        }
        response
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("tars-policy-version", version.into());
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(ETAG, tag);
    }
    Ok(response)
}

/// The version that acts, and its file. Once it is open it stays whole, even if its checkpoint is removed meanwhile.
fn served(agent: &Agent) -> Option<(u64, String, std::fs::File)> {
    // One that is published meanwhile is found at the second look.
    (0..3).find_map(|_| {
        let version = agent.acting().current().number();
        let of = |path: &PathBuf| {
            let manifest = Manifest::read(path).ok()?;
            let acts = manifest.service.as_ref()?.version == version;
            let crc = manifest.files.get(POLICY)?.crc32.clone();
            let file = acts.then(|| std::fs::File::open(path.join(POLICY)).ok())??;
            Some((version, crc, file))
        };
        agent.store().checkpoints().iter().find_map(of)
    })
}

/// Whether the client has it already (RFC 9110, 13.1.2).
fn matches(headers: &HeaderMap, tag: &str) -> bool {
    let known = headers.get_all(IF_NONE_MATCH).iter();
    known
        .filter_map(|known| known.to_str().ok())
        .flat_map(|known| known.split(','))
        .map(|known| known.trim().trim_start_matches("W/"))
        .any(|known| known == tag || known == "*")
}
