//! `/traces`, the page, and `/traces.json`, what it shows.

use std::num::NonZeroUsize;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{self, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY,
    RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::json::Detail;
use super::{IdPrefix, Query, Recent};

/// Traces of an answer, where nothing else was asked for, and at most.
const LIMIT: NonZeroUsize = NonZeroUsize::new(50).unwrap();
const MAX_LIMIT: NonZeroUsize = NonZeroUsize::new(1000).unwrap();

/// Answers under way at once: each holds megabytes until its reader has taken them.
const MAX_ANSWERS: usize = 8;

/// The whole page: style and script are in it.
const PAGE: &str = include_str!("page.html");

/// What stands in the page where each answer has a number of its own.
const NONCE: &str = "{nonce}";

/// The page of recent traces and its data.
pub fn routes(recent: Arc<Recent>) -> Router {
    Router::new()
        .route("/traces", get(page))
        .route("/traces.json", get(traces))
        .with_state((recent, Arc::new(Semaphore::new(MAX_ANSWERS))))
}

/// An answer under way: what is left of it, and its place among them.
struct UnderWay {
    json: Vec<u8>,
    _place: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for UnderWay {
    fn as_ref(&self) -> &[u8] {
        &self.json
    }
}

/// Names of streams come from whoever may write to Redis, so the browser is told to run only what is in the page, and to
/// ask nobody but us.
async fn page() -> Response {
    let nonce = format!("{:016x}", fastrand::u64(..));
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

/// What may stand after the question mark.
#[derive(Debug, Default, PartialEq, Eq)]
struct Parameters {
    /// Part of a stream's name.
    stream: Option<String>,
    /// A trace id, or its first digits.
    trace: Option<String>,
    /// Part of the name of a stream, a group, a consumer or a service, or the beginning of a trace's or a message's id.
    q: Option<String>,
    /// `1`: only traces with an error.
    errors: Option<String>,
    /// Traces at most.
    limit: Option<String>,
    /// `0`: summaries without spans.
    spans: Option<String>,
    /// `1`: spans with their attributes.
    attributes: Option<String>,
}

/// Their names, in that order.
const NAMES: [&str; 7] = [
    "stream",
    "trace",
    "q",
    "errors",
    "limit",
    "spans",
    "attributes",
];

/// Less alike than this, a name is no misspelling of another.
const ALIKE: f64 = 0.5;

impl Parameters {
    fn read(pairs: Vec<(String, String)>) -> Result<Self, String> {
        let mut parameters = Self::default();
        for (name, value) in pairs {
            let place = match name.as_str() {
                "stream" => &mut parameters.stream,
                "trace" => &mut parameters.trace,
                "q" => &mut parameters.q,
                "errors" => &mut parameters.errors,
                "limit" => &mut parameters.limit,
                "spans" => &mut parameters.spans,
                "attributes" => &mut parameters.attributes,
                _ => return Err(unknown(&name)),
            };
            if place.replace(value).is_some() {
                return Err(format!("{name} is given twice, but must be given once"));
            }
        }
        Ok(parameters)
    }

    fn query(self) -> Result<(Query, Detail), String> {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let trace = given(self.trace).map(|text| {
            IdPrefix::parse(&text)
                .ok_or_else(|| format!("trace is `{text}`, but must be 1 to 32 hexadecimal digits"))
        });
        let limit = given(self.limit).map(|text| {
            let number = text.parse::<NonZeroUsize>().ok();
            number.ok_or_else(|| {
                format!("limit is `{text}`, but must be a number from 1 to {MAX_LIMIT}")
            })
        });
        let limit = limit.transpose()?.unwrap_or(LIMIT).min(MAX_LIMIT);
        let query = Query {
            stream: given(self.stream),
            trace: trace.transpose()?,
            text: given(self.q),
            errors: flag("errors", self.errors.as_deref())?.unwrap_or(false),
            limit,
        };
        let spans = flag("spans", self.spans.as_deref())?.unwrap_or(true);
        let attributes = flag("attributes", self.attributes.as_deref())?.unwrap_or(false);
        let detail = match (spans, attributes) {
            (false, _) => Detail::Summary,
            (true, false) => Detail::Spans,
            (true, true) => Detail::Attributes,
        };
        Ok((query, detail))
    }
}

/// Says which name was probably meant, or which there are.
fn unknown(name: &str) -> String {
    let alike = |known: &str| strsim::normalized_damerau_levenshtein(name, known);
    let nearest = NAMES
        .into_iter()
        .max_by(|a, b| alike(a).total_cmp(&alike(b)));
    let nearest = nearest.filter(|known| alike(known) >= ALIKE);
    let name = name.escape_debug();
    match nearest {
        Some(known) => format!("{name}: unknown parameter; the nearest known one is `{known}`"),
        None => {
            let known = NAMES.map(|known| format!("`{known}`")).join(", ");
            format!("{name}: unknown parameter; the known ones are {known}")
        }
    }
}

fn flag(name: &str, value: Option<&str>) -> Result<Option<bool>, String> {
    match value {
        None | Some("") => Ok(None),
        Some("0" | "false") => Ok(Some(false)),
        Some("1" | "true") => Ok(Some(true)),
        Some(other) => Err(format!("{name} is `{other}`, but must be 0 or 1")),
    }
}

async fn traces(
    State((recent, answers)): State<(Arc<Recent>, Arc<Semaphore>)>,
    pairs: Result<extract::Query<Vec<(String, String)>>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    let asked = match pairs {
        Ok(extract::Query(pairs)) => Parameters::read(pairs).and_then(Parameters::query),
        Err(_) => {
            Err("what follows the `?` cannot be read: it must be name=value&name=value".into())
        }
    };
    let (query, detail) = match asked {
        Ok(asked) => asked,
        Err(error) => return (StatusCode::BAD_REQUEST, error + "\n").into_response(),
    };
    let etag = recent.etag();
    let headers_out = [(CACHE_CONTROL, "no-cache"), (ETAG, &etag)];
    if headers
        .get(IF_NONE_MATCH)
        .is_some_and(|known| known == etag.as_str())
    {
        return (StatusCode::NOT_MODIFIED, headers_out).into_response();
    }
    let Ok(_place) = answers.try_acquire_owned() else {
        let text = format!("{MAX_ANSWERS} answers are under way already; ask again in a second.\n");
        return (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")], text).into_response();
    };
    match recent.answer(&query, detail) {
        Ok(json) => {
            // Given back when the last byte has been written, or the connection ends.
            let json = Bytes::from_owner(UnderWay { json, _place });
            let kind = [
                (CONTENT_TYPE, "application/json"),
                (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            ];
            (headers_out, kind, json).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests;
