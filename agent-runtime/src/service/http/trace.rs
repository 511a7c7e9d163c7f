//! The spans of requests that belong to a trace. Others make none: acting happens thousands of times a second.

use axum::http::HeaderMap;
use opentelemetry::global::{self, BoxedSpan};
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{
    Span as _, SpanContext, SpanKind, Status, TraceContextExt as _, Tracer as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::propagation::TraceContextPropagator;

use super::route::Route;

/// What a traceparent has, in bytes, and room for what later versions may add.
const MOST_TRACEPARENT: usize = 256;

/// A request that is sampled.
#[derive(Debug)]
pub(super) struct Span(BoxedSpan);

/// The context that a request brings, if it brings one.
pub(super) fn remote(headers: &HeaderMap) -> Option<SpanContext> {
    let parent = headers.get("traceparent")?;
    if parent.len() > MOST_TRACEPARENT {
        return None;
    }
    let context =
        TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(headers));
    let context = context.span().span_context().clone();
    context.is_valid().then_some(context)
}

impl Span {
    /// Begins the span of a request, if it is sampled.
    pub(super) fn begin(remote: Option<&SpanContext>, route: Route, agent: &str) -> Option<Self> {
        let remote = remote.filter(|remote| remote.is_sampled())?;
        let parent = Context::new().with_remote_span_context(remote.clone());
        let tracer = global::tracer("tars-agent");
        let builder = tracer
            .span_builder(format!("{} {agent}", route.name()))
            .with_kind(SpanKind::Server)
            .with_attributes([
                KeyValue::new("http.request.method", "POST"),
                KeyValue::new("http.route", route.path()),
                KeyValue::new("url.path", route.path().replace("{name}", agent)),
                KeyValue::new("url.scheme", "http"),
                KeyValue::new("tars.agent.name", agent.to_owned()),
            ]);
        Some(Self(builder.start_with_context(&tracer, &parent)))
    }

    /// What is to be the parent of what comes of it.
    pub(super) fn context(&self) -> SpanContext {
        self.0.span_context().clone()
    }

    /// The version that it was answered by.
    pub(super) fn version(&mut self, version: u64) {
        self.0
            .set_attribute(KeyValue::new("tars.policy.version", version as i64));
    }

    /// Ends it. By the conventions, what a client does wrong is no error of the server's span.
    pub(super) fn end(mut self, status: u16, refused: Option<&'static str>) {
        self.0.set_attribute(KeyValue::new(
            "http.response.status_code",
            i64::from(status),
        ));
        if let Some(reason) = refused {
            self.0.set_attribute(KeyValue::new("error.type", reason));
        }
        if status >= 500 {
            self.0
                .set_status(Status::error(refused.unwrap_or_default()));
        }
        self.0.end();
    }
}

/// The length of a `traceparent` of version 00 (W3C Trace Context, section 3.2).
const VERSION_00: usize = 55;

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        let mut values = self.0.get_all(key).iter();
        let value = values.next()?.to_str().ok()?;
        if key != "traceparent" {
            // tracestate may come in several lines.
            return Some(value);
        }
        // Two parents are none. Nor is one of version 00 that goes on after its flags, which the propagator does not mind.
        let whole = !value.starts_with("00-") || value.len() == VERSION_00;
        (whole && values.next().is_none()).then_some(value)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(axum::http::HeaderName::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn of(parent: &'static str) -> Option<SpanContext> {
        let mut headers = HeaderMap::new();
        headers.append("traceparent", HeaderValue::from_static(parent));
        remote(&headers)
    }

    #[test]
    fn a_context_is_read_and_whatever_is_none_is_ignored() {
        let found = of("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        assert!(found.is_some_and(|found| found.is_sampled() && found.is_remote()));
        for text in [
            "",
            "-",
            "00-",
            "00-0af7651916cd43dd8448eb211c80319c-000b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
    }
}
