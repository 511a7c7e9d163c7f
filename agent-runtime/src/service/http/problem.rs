//! What is answered when something is wrong: RFC 9457, with a sentence that says what was expected and where.

use axum::http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::super::agent::CannotStart;
use super::super::agents::AgentsError;
use super::super::ingest::NotAccepted;
use super::super::turns::Busy;
use crate::memory::NoRoom;

/// Why a request was refused, as metrics count it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There is nothing at this path.
    NotFound,
    /// The path does not do this.
    Method,
    /// No token, a wrong one, or no certificate.
    Unauthorized,
    /// A page of somebody else's.
    Forbidden,
    /// Not JSON by its header.
    MediaType,
    /// More than a request may have.
    TooLarge,
    /// It did not come in time.
    Slow,
    /// Not JSON at all.
    Json,
    /// JSON, and not what was expected.
    Invalid,
    /// There is no such agent.
    UnknownAgent,
    /// There is another agent of this name.
    Exists,
    /// A fragment that leaves a gap, or comes too late.
    OutOfOrder,
    /// There is no memory for it.
    OverBudget,
    /// There is no room for experience now.
    Full,
    /// As much as may be is under way already.
    Busy,
    /// The disk refuses.
    Disk,
    /// An agent that could not be started.
    Failed,
    /// The process starts.
    Starting,
    /// The process or the agent ends.
    Ending,
    /// A defect of ours.
    Internal,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 20] = [
        Self::NotFound,
        Self::Method,
        Self::Unauthorized,
        Self::Forbidden,
        Self::MediaType,
        Self::TooLarge,
        Self::Slow,
        Self::Json,
        Self::Invalid,
        Self::UnknownAgent,
        Self::Exists,
        Self::OutOfOrder,
        Self::OverBudget,
        Self::Full,
        Self::Busy,
        Self::Disk,
        Self::Failed,
        Self::Starting,
        Self::Ending,
        Self::Internal,
    ];

    /// Its name: a metric's label, and part of the answer.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Method => "method",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::MediaType => "media_type",
            Self::TooLarge => "too_large",
            Self::Slow => "slow",
            Self::Json => "json",
            Self::Invalid => "invalid",
            Self::UnknownAgent => "unknown_agent",
            Self::Exists => "exists",
            Self::OutOfOrder => "out_of_order",
            Self::OverBudget => "over_budget",
            Self::Full => "full",
            Self::Busy => "busy",
            Self::Disk => "disk",
            Self::Failed => "failed",
            Self::Starting => "starting",
            Self::Ending => "ending",
            Self::Internal => "internal",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::NotFound | Self::UnknownAgent => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::Json => StatusCode::BAD_REQUEST,
            Self::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Exists | Self::OutOfOrder | Self::OverBudget => StatusCode::CONFLICT,
            Self::Full | Self::Busy => StatusCode::TOO_MANY_REQUESTS,
            Self::Disk | Self::Failed | Self::Starting | Self::Ending => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// After how many seconds it may be worth another try, if ever.
    fn retry_after(self) -> Option<&'static str> {
        match self {
            Self::Full | Self::Busy | Self::Starting => Some("1"),
            Self::Disk | Self::Ending | Self::Failed => Some("5"),
            _ => None,
        }
    }
}

/// See the module.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{detail}")]
pub struct Problem {
    /// Why.
    pub reason: Reason,
    /// The sentence.
    pub detail: String,
    /// What the path does, if it does not do what was asked for.
    pub allow: Option<&'static str>,
}

impl Problem {
    /// A problem in a sentence.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: detail.into(),
            allow: None,
        }
    }

    /// What was sent is JSON, and not what was expected.
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::new(Reason::Invalid, detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.reason.status();
        let body = json!({
            "type": "about:blank",
            "title": status.canonical_reason(),
            "status": status.as_u16(),
            "detail": self.detail,
            "reason": self.reason.name(),
        });
        let mut response = (status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.reason.retry_after() {
            headers.insert(RETRY_AFTER, HeaderValue::from_static(seconds));
        }
        if let Some(methods) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(methods));
        }
        match self.reason {
            // What is left of the body is not read.
            Reason::Slow | Reason::TooLarge => {
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Reason::Unauthorized => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        response
    }
}

impl From<AgentsError> for Problem {
    fn from(error: AgentsError) -> Self {
        let reason = match &error {
            AgentsError::Unknown(_) => Reason::UnknownAgent,
            AgentsError::Exists { .. } => Reason::Exists,
            AgentsError::Failed(_) => Reason::Failed,
            AgentsError::TooMany => Reason::OverBudget,
            AgentsError::CannotStart(CannotStart::Spec(_)) => Reason::Invalid,
            AgentsError::CannotStart(
                CannotStart::TooMuch(_) | CannotStart::Room(NoRoom::Memory(_)),
            ) => Reason::OverBudget,
            AgentsError::CannotStart(_) | AgentsError::Disk { .. } => Reason::Disk,
        };
        Self::new(reason, error.to_string())
    }
}

impl From<NotAccepted> for Problem {
    fn from(refused: NotAccepted) -> Self {
        let reason = match &refused {
            NotAccepted::Full(_) => Reason::Full,
            NotAccepted::OutOfOrder(_) => Reason::OutOfOrder,
            NotAccepted::Invalid(_) => Reason::Invalid,
            NotAccepted::Disk(_) => Reason::Disk,
            NotAccepted::Ending => Reason::Ending,
        };
        Self::new(reason, refused.to_string())
    }
}

impl From<Busy> for Problem {
    fn from(busy: Busy) -> Self {
        Self::new(Reason::Busy, busy.to_string())
    }
}
