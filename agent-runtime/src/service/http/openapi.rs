//! `GET /openapi.json`: all of this, for programs.

use axum::response::Response;

use super::json_of;

/// Held to the routes and to what is really answered by tests.
pub(super) const DOCUMENT: &str = include_str!("openapi.json");

pub(super) fn document() -> Response {
    json_of(DOCUMENT)
}
