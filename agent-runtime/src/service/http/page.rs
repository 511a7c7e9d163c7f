//! `GET /`: the page. It holds nothing itself, and asks for what it shows.

use std::hash::{BuildHasher as _, RandomState};

use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{IntoResponse, Response};

/// The whole page: style and script are in it.
const PAGE: &str = include_str!("page.html");
/// What stands in the page where each answer has a number of its own.
const NONCE: &str = "{nonce}";

/// The browser is told to run only what is in the page, and to ask nobody but us.
pub(super) fn page() -> Response {
    let nonce = format!("{:016x}", RandomState::new().hash_one(0));
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; \
         connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    );
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, &policy),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-store"),
    ];
    (headers, PAGE.replace(NONCE, &nonce)).into_response()
}
