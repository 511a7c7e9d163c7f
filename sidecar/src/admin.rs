//! The admin server: probes, metrics, drain and log level, and what a binary adds to them.
//!
//! | path | |
//! | --- | --- |
//! | `GET /` | what there is |
//! | `GET /live` | 200 while the process answers at all |
//! | `GET /ready` | 200, or 503 and a JSON list of what is missing |
//! | `GET /metrics` | Prometheus text |
//! | `GET`, `PUT /log-level` | the log's filter |
//! | `POST /drain` | begins the end of the process |
//!
//! What changes the process is answered on the loopback interface and the unix socket only, see [`local_only`].

mod local;
mod serve;
mod stall;
#[cfg(test)]
mod tests;

use std::fmt::Write;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::from_fn;
use axum::response::{Html, IntoResponse, Json, Response};
use axum::routing::{get, post, put};
use axum::{Router, body};
use prometheus::{Encoder, Registry, TextEncoder};
use serde_json::json;

use crate::address::Address;
use crate::drain::Drain;
use crate::listen::{BindError, Listener};
use crate::logging::LogLevel;
use crate::readiness::{Missing, Readiness};

pub use local::local_only;
pub use serve::{Bound, Peer};
pub use stall::Stall;

/// Longest log filter: a line of directives.
const MAX_FILTER: usize = 4096;

/// What the admin server shows and moves.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Of the program, for the root page.
    pub name: &'static str,
    /// Of the program, for the root page.
    pub version: &'static str,
    /// Begun by `POST /drain`; during it the process is not ready. The server itself answers until it has finished.
    pub drain: Drain,
    /// Behind `/ready`.
    pub readiness: Readiness,
    /// Behind `/metrics`.
    pub registry: Registry,
    /// Behind `/log-level`.
    pub log_level: LogLevel,
}

/// An admin server that is being put together.
#[derive(Debug)]
pub struct Admin {
    parts: Parts,
    routes: Router,
    entries: Vec<Entry>,
}

/// A line of the root page.
#[derive(Debug)]
struct Entry {
    path: &'static str,
    about: &'static str,
}

impl Admin {
    /// With the routes that every TARS sidecar has.
    pub fn new(parts: Parts) -> Self {
        let local = from_fn(local_only);
        let drain = post(begin_drain).layer(local.clone());
        let level = put(set_level)
            .layer(DefaultBodyLimit::max(MAX_FILTER))
            .layer(local);
        let routes = Router::new()
            .route("/live", get("live\n"))
            .route("/ready", get(ready))
            .route("/metrics", get(metrics))
            .route("/drain", drain)
            .route("/log-level", get(level_now).merge(level))
            .with_state(parts.clone());
        let entries = [
            ("/live", "whether the process answers"),
            (
                "/ready",
                "whether it takes traffic, and what is missing if not",
            ),
            ("/metrics", "Prometheus metrics"),
            (
                "/log-level",
                "the log's filter; PUT another one here (local only)",
            ),
        ];
        let entries = entries.map(|(path, about)| Entry { path, about }).into();
        Self {
            parts,
            routes,
            entries,
        }
    }

    /// Adds the program's own routes. Those that change something belong under [`local_only`].
    ///
    /// # Panics
    /// When a path is there already.
    #[must_use]
    pub fn merge(mut self, routes: Router) -> Self {
        self.routes = self.routes.merge(routes);
        self
    }

    /// Lists a path that was added on the root page.
    #[must_use]
    pub fn list(mut self, path: &'static str, about: &'static str) -> Self {
        self.entries.push(Entry { path, about });
        self
    }

    /// Everything under one router.
    pub fn into_router(self) -> Router {
        let page = root_page(self.parts.name, self.parts.version, &self.entries);
        self.routes.route("/", get(async || Html(page)))
    }

    /// Listens, so that a taken port is known before anything else begins; [`Bound::serve`] answers.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub fn bind(self, address: &Address) -> Result<Bound, BindError> {
        Listener::bind(address).map(|listener| self.on(listener))
    }

    /// On a socket that listens already; [`Bound::serve`] answers.
    #[must_use]
    pub fn on(self, listener: Listener) -> Bound {
        let drain = self.parts.drain.clone();
        Bound::new(listener, self.into_router(), drain)
    }
}

async fn ready(State(parts): State<Parts>) -> Response {
    let mut missing = parts.readiness.missing();
    if parts.drain.is_draining() {
        missing.push(Missing {
            name: "draining".into(),
            reason: "the process is ending".to_owned(),
        });
    }
    if missing.is_empty() {
        return "ready\n".into_response();
    }
    let missing: Vec<_> = missing
        .iter()
        .map(|missing| json!({"name": missing.name, "reason": missing.reason}))
        .collect();
    (
        StatusCode::SERVICE_UNAVAILABLE,
        Json(json!({"ready": false, "missing": missing})),
    )
        .into_response()
}

async fn metrics(State(parts): State<Parts>) -> Response {
    let encoder = TextEncoder::new();
    let mut text = Vec::new();
    match encoder.encode(&parts.registry.gather(), &mut text) {
        Ok(()) => ([(CONTENT_TYPE, encoder.format_type().to_owned())], text).into_response(),
        Err(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the metrics cannot be written: {error}\n"),
        )
            .into_response(),
    }
}

async fn begin_drain(State(parts): State<Parts>) -> (StatusCode, &'static str) {
    if parts.drain.start() {
        tracing::info!("drain asked for over the admin server");
        (StatusCode::ACCEPTED, "draining\n")
    } else {
        (StatusCode::ACCEPTED, "draining already\n")
    }
}

async fn level_now(State(parts): State<Parts>) -> Response {
    match parts.log_level.get() {
        Ok(filter) => format!("{filter}\n").into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn set_level(State(parts): State<Parts>, filter: String) -> Response {
    match parts.log_level.set(&filter) {
        Ok(()) => {
            tracing::info!(
                filter = filter.trim(),
                "log level changed over the admin server"
            );
            level_now(State(parts)).await
        }
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    }
}

fn root_page(name: &str, version: &str, entries: &[Entry]) -> body::Bytes {
    let mut list = String::new();
    for Entry { path, about } in entries {
        // Writing to a string cannot fail.
        let _ = writeln!(
            list,
            "<dt><a href=\"{path}\">{path}</a></dt><dd>{about}</dd>"
        );
    }
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{name}</title>\n\
         <style>:root {{ color-scheme: light dark }} body {{ font: 16px/1.5 system-ui, sans-serif; margin: 3em auto; \
         max-width: 40em; padding: 0 1em }} dd {{ margin: 0 0 .75em }}</style>\n\
         <h1>{name} <small>{version}</small></h1>\n<dl>\n{list}</dl>\n\
         <p><code>POST /drain</code> ends the process in an orderly way (local only).</p>\n</html>\n"
    )
    .into()
}
