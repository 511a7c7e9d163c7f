//! What is counted of requests.

use std::time::Duration;

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry,
};

use super::problem::Reason;
use super::route::Route;

/// From what a small policy takes to what nobody waits for.
const SECONDS: [f64; 12] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0,
];
/// Classes of status codes, from 2xx to 5xx.
const CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

/// See the module. Every child is made at the start: what is counted is found without a look-up, and is zero before it happens.
#[derive(Debug)]
pub struct Counters {
    routes: Vec<OfRoute>,
    refused: Vec<IntCounter>,
}

#[derive(Debug)]
struct OfRoute {
    requests: [IntCounter; CLASSES.len()],
    seconds: Histogram,
}

impl Counters {
    /// Counters in this registry.
    ///
    /// # Errors
    /// If it has some of these names.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let requests = IntCounterVec::new(
            Opts::new(
                "tars_agent_http_requests_total",
                "Requests that were answered.",
            ),
            &["route", "status"],
        )?;
        let seconds = HistogramVec::new(
            HistogramOpts::new(
                "tars_agent_http_request_seconds",
                "From a request's headers to its answer.",
            )
            .buckets(SECONDS.to_vec()),
            &["route"],
        )?;
        let refused = IntCounterVec::new(
            Opts::new(
                "tars_agent_http_refused_total",
                "Requests that were not done as asked.",
            ),
            &["reason"],
        )?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        registry.register(Box::new(refused.clone()))?;
        let names = Route::ALL.map(Route::name).into_iter().chain(["none"]);
        Ok(Self {
            routes: names
                .map(|name| OfRoute {
                    requests: CLASSES.map(|class| requests.with_label_values(&[name, class])),
                    seconds: seconds.with_label_values(&[name]),
                })
                .collect(),
            refused: Reason::ALL
                .map(|reason| refused.with_label_values(&[reason.name()]))
                .into(),
        })
    }

    /// Counts an answer.
    pub fn count(
        &self,
        route: Option<Route>,
        status: u16,
        refused: Option<Reason>,
        took: Duration,
    ) {
        let route = route.map_or(Route::ALL.len(), |route| route as usize);
        let class = usize::from(status / 100)
            .saturating_sub(2)
            .min(CLASSES.len() - 1);
        if let Some(counters) = self.routes.get(route) {
            counters.requests[class].inc();
            counters.seconds.observe(took.as_secs_f64());
        }
        if let Some(reason) = refused {
            self.refused[reason as usize].inc();
        }
    }
}
