//! What is answered over HTTP: `POST /inject`. Whatever comes, the answer is a sentence or a review, and nothing else happens.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::post;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::annotations::is_transparent;
use crate::inject::{Decision, Namespace, Outcome, Reason, inject};
use crate::kubernetes::Cluster;
use crate::metrics::{Failure, Metrics};
use crate::patch::diff;
use crate::pod;
use crate::review::{PodEvent, Request};
use crate::settings::Settings;
use crate::update::keep;

/// The API server takes objects of at most 3 MiB; a review wraps one.
pub const MAX_BODY: usize = 4 << 20;
/// Bodies that are read at once, in KiB: what a flood of reviews may hold, beside what is made of them.
const BODIES_KIB: usize = 12 << 10;
/// For the whole of a body; the API server itself waits for 10 s, unless it is told otherwise.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// What decides about pods.
#[derive(Debug)]
pub struct Webhook {
    settings: Settings,
    metrics: Arc<Metrics>,
    /// None offline.
    cluster: Option<Arc<Cluster>>,
    bodies: Semaphore,
    body_timeout: Duration,
}

type Refusal = (StatusCode, String);

impl Webhook {
    /// With or without an API server to ask about namespaces.
    #[must_use]
    pub fn new(settings: Settings, metrics: Arc<Metrics>, cluster: Option<Arc<Cluster>>) -> Self {
        Self {
            settings,
            metrics,
            cluster,
            bodies: Semaphore::new(BODIES_KIB),
            body_timeout: BODY_TIMEOUT,
        }
    }

    /// With another time for a body.
    #[must_use]
    pub fn with_body_timeout(mut self, body_timeout: Duration) -> Self {
        self.body_timeout = body_timeout;
        self
    }

    /// The routes.
    pub fn routes(self: Arc<Self>) -> Router {
        Router::new()
            .route("/inject", post(answer))
            .with_state(self)
    }

    async fn body(&self, headers: &HeaderMap, body: Body) -> Result<Vec<u8>, Refusal> {
        let refuse = |status, failure, why: String| {
            self.metrics.failed(failure);
            Err((status, why))
        };
        let too_large = || format!("a review has at most {MAX_BODY} bytes\n");
        let json = headers
            .get(CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok());
        if !json.is_some_and(|kind| kind.starts_with("application/json")) {
            let why = "a review is application/json\n".to_owned();
            return refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, Failure::Malformed, why);
        }
        let length = headers
            .get(CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse().ok());
        let length = length.unwrap_or(MAX_BODY);
        if length > MAX_BODY {
            return refuse(
                StatusCode::PAYLOAD_TOO_LARGE,
                Failure::Oversized,
                too_large(),
            );
        }
        let room = u32::try_from(length >> 10).unwrap_or(u32::MAX) + 1;
        let read = async {
            // Held while the body is read: what is decided then takes no time.
            let _room = self.bodies.acquire_many(room).await;
            to_bytes(body, MAX_BODY).await
        };
        match timeout(self.body_timeout, read).await {
            Ok(Ok(bytes)) => Ok(bytes.into()),
            // A client that went away does not read the answer.
            Ok(Err(_)) => refuse(
                StatusCode::PAYLOAD_TOO_LARGE,
                Failure::Oversized,
                too_large(),
            ),
            Err(_) => {
                let why = format!("the review did not come within {:?}\n", self.body_timeout);
                refuse(StatusCode::REQUEST_TIMEOUT, Failure::Slow, why)
            }
        }
    }

    async fn decide(&self, request: &Request) -> Outcome {
        let pod = &request.object;
        let labels = match &self.cluster {
            // Only there it matters: the webhook's selector has seen to the label that switches injection on.
            Some(cluster) if is_transparent(pod) => cluster.labels(&request.namespace).await,
            _ => None,
        };
        let namespace = Namespace {
            name: request.namespace.clone(),
            labels,
        };
        let outcome = inject(pod, &pod::workload(pod), &namespace, &self.settings);
        self.metrics.decided(&outcome);
        let workload = pod::workload(pod);
        match &outcome.decision {
            Decision::Injected => {
                tracing::debug!(namespace = namespace.name, workload, "injected");
            }
            Decision::Skipped(reason) => {
                tracing::debug!(
                    namespace = namespace.name,
                    workload,
                    reason = reason.label(),
                    "not injected"
                );
            }
            Decision::Refused(why) => {
                tracing::info!(namespace = namespace.name, workload, why, "refused");
            }
        }
        self.tell(request, &outcome);
        outcome
    }

    /// An event for what somebody has to put right; in a dry run nothing is written.
    fn tell(&self, request: &Request, outcome: &Outcome) {
        let message = match &outcome.decision {
            Decision::Refused(why) => Some(why),
            Decision::Skipped(Reason::BadAnnotation | Reason::PodSecurity) => {
                outcome.warnings.first()
            }
            _ => None,
        };
        if let (Some(cluster), Some(message), false) =
            (&self.cluster, message, request.dry_run == Some(true))
        {
            cluster.event(&request.namespace, &request.object, message);
        }
    }
}

async fn answer(State(webhook): State<Arc<Webhook>>, headers: HeaderMap, body: Body) -> Response {
    let timer = webhook.metrics.seconds.start_timer();
    let answered = match webhook.body(&headers, body).await {
        Ok(body) => review(&webhook, &body).await,
        Err(refusal) => Err(refusal),
    };
    match answered {
        Ok(answer) => {
            timer.observe_duration();
            Json(answer).into_response()
        }
        Err(refusal) => {
            timer.stop_and_discard();
            refusal.into_response()
        }
    }
}

async fn review(webhook: &Webhook, body: &[u8]) -> Result<serde_json::Value, Refusal> {
    let request = Request::read(body).map_err(|malformed| {
        webhook.metrics.failed(Failure::Malformed);
        tracing::debug!(%malformed, "no review");
        (StatusCode::BAD_REQUEST, format!("{malformed}\n"))
    })?;
    let internal =
        |error: serde_json::Error| (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n"));
    match request.event() {
        Some(PodEvent::Created) => {
            let outcome = webhook.decide(&request).await;
            request.answered(&outcome).map_err(internal)
        }
        Some(PodEvent::Updated) => {
            webhook.metrics.updated();
            let kept = keep(&request.old_object, &request.object);
            request
                .patched(&diff(&request.object, &kept))
                .map_err(internal)
        }
        None => {
            webhook.metrics.unknown();
            Ok(request.allow_unknown())
        }
    }
}
