//! Spans of requests, sent to a collector by OTLP over HTTP. Only builds with the cargo feature `otlp` send any, and only where
//! `tracing.endpoint` names a collector.
//!
//! | request | span | its parent |
//! |---|---|---|
//! | of a caller, with a sampled `traceparent` | server | the caller's span |
//! | to the origin: a validation, a miss, a poll, a write | client | the span of the caller that caused it; without one `tracing.sample_ratio` decides |
//!
//! A caller's request without a sampled `traceparent` has no span, so a hit costs nothing. Without the feature the types here are empty, and the
//! compiler removes their calls.

#[cfg(feature = "otlp")]
mod export;

#[cfg(feature = "otlp")]
use http::HeaderName;
use http::{HeaderMap, Method, StatusCode};

#[cfg(feature = "otlp")]
pub use export::Exporting;

/// The field of W3C Trace Context.
#[cfg(feature = "otlp")]
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Makes spans. Without a collector it makes none.
#[derive(Clone, Debug, Default)]
pub struct Tracer {
    #[cfg(feature = "otlp")]
    exporting: Option<std::sync::Arc<Exporting>>,
}

/// A request whose span is open. It ends when this is dropped, at the latest.
#[derive(Debug, Default)]
pub struct RequestSpan {
    #[cfg(feature = "otlp")]
    open: Option<Box<opentelemetry_sdk::trace::Span>>,
}

/// What a span says of a request. Queries and fields are left out: they can name what an application looks for.
#[derive(Clone, Copy, Debug)]
pub struct TracedRequest<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path of the target, without its query.
    pub path: &'a str,
    /// The host that is asked; `None`: this one.
    pub server: Option<&'a str>,
    /// The name of the upstream.
    pub upstream: &'a str,
}

#[cfg(feature = "otlp")]
impl Tracer {
    /// Makes spans and sends them.
    #[must_use]
    pub fn new(exporting: Exporting) -> Self {
        Self { exporting: Some(std::sync::Arc::new(exporting)) }
    }

    /// The span of a caller's request, if its `traceparent` is sampled. Then the field names the new span, so that what the request causes is
    /// a part of it.
    #[must_use]
    pub fn of_caller(&self, request: TracedRequest<'_>, fields: &mut HeaderMap) -> RequestSpan {
        match &self.exporting {
            Some(exporting) if is_sampled(fields) => exporting.begin(request, fields),
            _ => RequestSpan::default(),
        }
    }

    /// The span of a request to the origin, unless its `traceparent` is not sampled.
    #[must_use]
    pub fn of_origin_request(&self, request: TracedRequest<'_>, fields: &mut HeaderMap) -> RequestSpan {
        match &self.exporting {
            Some(exporting) if is_sampled(fields) || !fields.contains_key(TRACEPARENT) => {
                exporting.begin(request, fields)
            }
            _ => RequestSpan::default(),
        }
    }

    /// Sends the spans that have ended, and no more after that.
    pub async fn stop(&self) {
        if let Some(exporting) = self.exporting.clone() {
            // Sending waits for its own thread.
            let _stopped = tokio::task::spawn_blocking(move || exporting.stop()).await;
        }
    }
}

#[cfg(not(feature = "otlp"))]
#[expect(
    clippy::unused_self,
    clippy::unused_async,
    reason = "the same calls as with the feature, which do nothing"
)]
impl Tracer {
    /// No span.
    #[must_use]
    pub const fn of_caller(&self, _request: TracedRequest<'_>, _fields: &mut HeaderMap) -> RequestSpan {
        RequestSpan {}
    }

    /// No span.
    #[must_use]
    pub const fn of_origin_request(
        &self,
        _request: TracedRequest<'_>,
        _fields: &mut HeaderMap,
    ) -> RequestSpan {
        RequestSpan {}
    }

    /// Nothing is sent.
    pub async fn stop(&self) {}
}

impl RequestSpan {
    /// The answer: its status, or `None` where there is none, and what happened in a word of `Cache-Status`, of the metrics or of an error.
    #[cfg(feature = "otlp")]
    pub fn end(self, status: Option<StatusCode>, outcome: &'static str) {
        if let Some(span) = self.open {
            export::end(*span, status, outcome);
        }
    }

    /// Nothing was open.
    #[cfg(not(feature = "otlp"))]
    pub const fn end(self, _status: Option<StatusCode>, _outcome: &'static str) {}
}

/// Whether the `traceparent` says that its trace is recorded: the last bit of its flags.
#[cfg(feature = "otlp")]
fn is_sampled(fields: &HeaderMap) -> bool {
    let flags = fields.get(TRACEPARENT).and_then(|value| value.as_bytes().get(54));
    flags.and_then(|digit| char::from(*digit).to_digit(16)).is_some_and(|digit| digit % 2 == 1)
}
