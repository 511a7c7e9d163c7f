//! The service over HTTP.
//!
//! In the order of a request's way:
//!
//! - [`serve`]: connections, their [`places`], [`tls`]; [`threads`]: where they are answered; [`route`]: what is asked for; [`guard`]: by whom; [`body`]: what with.
//! - `act`, `experience`: what is asked all the time. `agents`, `policy`, `checkpoints`, `history`: the rest, a file a resource.
//! - `page`, `openapi`: what a person sees of it.
//! - [`problem`]: what is answered when something is wrong; [`counters`]: what is counted of it; `trace`: its spans.

mod act;
mod agents;
pub mod body;
mod checkpoints;
pub mod counters;
mod experience;
pub mod guard;
mod history;
mod openapi;
mod page;
pub mod places;
mod policy;
pub mod problem;
pub mod route;
pub mod serve;
pub mod threads;
pub mod tls;
mod trace;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

use arc_swap::ArcSwap;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, Method, Request};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::agent::Agent;
use super::agents::Agents;
use body::Bodies;
use counters::Counters;
use guard::Guard;
use problem::{Problem, Reason};
use route::Route;

pub use act::MOST_ROWS;

/// What answers.
#[derive(Debug)]
pub struct Http {
    agents: Arc<Agents>,
    bodies: Bodies,
    guard: ArcSwap<Guard>,
    counters: Counters,
    /// What waits for the disk or for other threads does so here, away from those that answer.
    aside: Handle,
    /// One agent is made or removed at a time. Others wait here, where that takes no thread.
    changing: Arc<Semaphore>,
    /// What is on the disk was started: before that nobody can tell what there is.
    started: AtomicBool,
}

impl Http {
    /// Answers for these agents, with bodies of at most `most` bytes; what waits does so on threads of `aside`.
    #[must_use]
    pub fn new(
        agents: Arc<Agents>,
        guard: Guard,
        most: usize,
        counters: Counters,
        aside: Handle,
    ) -> Self {
        Self {
            agents,
            bodies: Bodies::new(most, aside.clone()),
            aside,
            guard: ArcSwap::from_pointee(guard),
            counters,
            changing: Arc::new(Semaphore::new(1)),
            started: AtomicBool::new(false),
        }
    }

    /// From now on agents are answered for.
    pub fn started(&self) {
        self.started.store(true, Relaxed);
    }

    /// Other rules from now on.
    pub fn set_guard(&self, guard: Guard) {
        self.guard.store(Arc::new(guard));
    }

    /// What large bodies hold, in bytes.
    #[must_use]
    pub fn held(&self) -> usize {
        self.bodies.held()
    }

    /// Answers a request. `certified` says that its client has shown a certificate that is trusted.
    pub async fn answer(&self, request: Request<Incoming>, certified: bool) -> Response {
        let begin = Instant::now();
        let (parts, body) = request.into_parts();
        let found = Route::of(parts.uri.path());
        let (route, name) = found.unzip();
        let remote = trace::remote(&parts.headers);
        let mut span = match (route, name) {
            (Some(route @ (Route::Act | Route::Experience)), Some(name)) => {
                trace::Span::begin(remote.as_ref(), route, name)
            }
            _ => None,
        };
        let asked = Asked {
            method: &parts.method,
            headers: &parts.headers,
            query: parts.uri.query().unwrap_or_default(),
            remote: span.as_ref().map(trace::Span::context).or(remote),
        };
        let answered = match found {
            Some((route, name)) => {
                self.dispatch(route, name, &asked, body, certified, span.as_mut())
                    .await
            }
            None => Err(Problem::new(
                Reason::NotFound,
                "there is nothing at this path: GET /openapi.json lists what there is; a name has 1 to 63 letters, digits, '-', '_' and '.', and begins with a letter or a digit",
            )),
        };
        let refused = answered.as_ref().err().map(|problem| problem.reason);
        let response = answered.unwrap_or_else(Problem::into_response);
        let status = response.status().as_u16();
        if let Some(span) = span {
            span.end(status, refused.map(Reason::name));
        }
        self.counters.count(route, status, refused, begin.elapsed());
        response
    }

    async fn dispatch(
        &self,
        route: Route,
        name: &str,
        asked: &Asked<'_>,
        body: Incoming,
        certified: bool,
        span: Option<&mut trace::Span>,
    ) -> Result<Response, Problem> {
        let get = *asked.method == Method::GET || *asked.method == Method::HEAD;
        let post = *asked.method == Method::POST;
        let delete = *asked.method == Method::DELETE;
        let guard = self.guard.load();
        if !route
            .methods()
            .split(", ")
            .any(|method| method == asked.method.as_str())
        {
            return Err(Problem {
                allow: Some(route.methods()),
                ..Problem::new(Reason::Method, format!("expected {}", route.methods()))
            });
        }
        guard.judge(route, asked.method, asked.headers, certified)?;
        drop(guard);
        if route.tells() && !self.started.load(Relaxed) {
            return Err(Problem::new(Reason::Starting, "agents are being started"));
        }
        match route {
            Route::Act => act::act(self, name, asked, body, span).await,
            Route::Experience => experience::experience(self, name, asked, body, span).await,
            Route::Page => Ok(page::page()),
            Route::OpenApi => Ok(openapi::document()),
            Route::Agents if post => agents::create(self, asked, body).await,
            Route::Agents => Ok(agents::list(self)),
            Route::Agent if delete => agents::delete(self, name).await,
            Route::Agent => agents::inspect(self, name),
            Route::Policy => policy::policy(self, name, asked).await,
            Route::Checkpoints if get => checkpoints::list(self, name).await,
            Route::Checkpoints => checkpoints::write(self, name, asked, body).await,
            Route::Pause => agents::pause(self, name),
            Route::Resume => agents::resume(self, name),
            Route::Metrics => history::history(self, name, asked),
        }
    }

    /// Makes or removes an agent, once nobody else does.
    async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Agents) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let agents = self.agents.clone();
        // Never closed.
        let turn = self.changing.clone().acquire_owned().await;
        self.aside(move || {
            let changed = change(&agents);
            drop(turn);
            changed
        })
        .await
    }

    /// Does what waits for the disk or for other threads, away from those that answer.
    async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        self.aside
            .spawn_blocking(work)
            .await
            .map_err(|error| Problem::new(Reason::Internal, error.to_string()))
    }

    /// The agent of this name.
    fn agent(&self, name: &str) -> Result<Arc<Agent>, Problem> {
        Ok(self.agents.get(name)?)
    }
}

/// What a request says of itself, its body apart.
#[derive(Debug)]
struct Asked<'a> {
    method: &'a Method,
    headers: &'a axum::http::HeaderMap,
    query: &'a str,
    /// What it belongs to: its own span if it has one, else whatever its client says.
    remote: Option<opentelemetry::trace::SpanContext>,
}

/// An answer of JSON.
fn json_of(json: impl IntoResponse) -> Response {
    let mut response = json.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
