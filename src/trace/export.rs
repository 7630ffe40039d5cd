//! The way of a span to the collector: batches in a thread of the SDK, sent by the sidecar's own client.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{
    Span as _, SpanKind, Status, TraceContextExt as _, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{HeaderExtractor, HeaderInjector, HttpClient, HttpError};
use opentelemetry_otlp::{
    ExporterBuildError, Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{ParentBasedSampler, Sampler, SdkTracer, SdkTracerProvider, Span};
use tokio::runtime::Handle;

use super::{RequestSpan, TracedRequest};
use crate::body::FlowingBody;
use crate::headers::uri_reference::absolute;
use crate::transport::client::{ExchangeLimits, Outgoing, PooledClient};
use crate::transport::dial::Dial;

/// How long the collector may take for a batch, and how long the end of the process waits for the last one.
const EXPORT_DEADLINE: Duration = Duration::from_secs(5);

/// Most bytes of the collector's answer.
const ANSWER_LIMIT_BYTES: usize = 64 * 1024;

/// One connection: batches follow one another.
const COLLECTOR_LIMITS: ExchangeLimits = ExchangeLimits {
    connect_deadline: EXPORT_DEADLINE,
    header_deadline: EXPORT_DEADLINE,
    body_stall_deadline: EXPORT_DEADLINE,
    pool_idle_time: Duration::from_secs(60),
    pool_idle_limit: 1,
    exchange_limit: 1,
    exchange_wait: EXPORT_DEADLINE,
    header_section_limit_bytes: 32 * 1024,
};

/// Spans on their way to a collector.
#[derive(Debug)]
pub struct Exporting {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    propagator: TraceContextPropagator,
}

impl Exporting {
    /// Sends to the collector at an address, from the runtime that this is called in. Of traces that begin here, `sample_ratio` of all are
    /// recorded.
    ///
    /// # Errors
    /// [`ExporterBuildError`] if the address is none.
    pub fn new(
        scheme: Scheme,
        authority: Authority,
        dial: Arc<dyn Dial>,
        sample_ratio: f64,
    ) -> Result<Self, ExporterBuildError> {
        let endpoint = absolute(Some(&scheme), Some(&authority), PathAndQuery::from_static("/v1/traces"));
        let client = PooledClient::new(scheme, authority, dial, COLLECTOR_LIMITS);
        let client = CollectorClient { client, runtime: Handle::current() };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_endpoint(endpoint.to_string())
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(EXPORT_DEADLINE)
            .build()?;
        let sampler = ParentBasedSampler::new(Sampler::TraceIdRatioBased(sample_ratio));
        let resource = Resource::builder().with_service_name(env!("CARGO_PKG_NAME"));
        let resource = resource.with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(sampler)
            .with_resource(resource.build())
            .build();
        let tracer = provider.tracer(env!("CARGO_PKG_NAME"));
        Ok(Self { provider, tracer, propagator: TraceContextPropagator::new() })
    }

    /// Opens the span of a request whose fields name its parent. They name the new span from then on.
    pub(super) fn begin(&self, request: TracedRequest<'_>, fields: &mut HeaderMap) -> RequestSpan {
        let parent = self.propagator.extract_with_context(&Context::new(), &HeaderExtractor(fields));
        let mut attributes = vec![
            KeyValue::new("http.request.method", request.method.to_string()),
            KeyValue::new("url.path", request.path.to_owned()),
            KeyValue::new("tagalong.upstream", request.upstream.to_owned()),
        ];
        attributes.extend(request.server.map(|server| KeyValue::new("server.address", server.to_owned())));
        let kind = if request.server.is_some() { SpanKind::Client } else { SpanKind::Server };
        let builder =
            self.tracer.span_builder(request.method.to_string()).with_kind(kind).with_attributes(attributes);
        let span = self.tracer.build_with_context(builder, &parent);
        let own = Context::new().with_remote_span_context(span.span_context().clone());
        self.propagator.inject_context(&own, &mut HeaderInjector(fields));
        if fields.get("tracestate").is_some_and(http::HeaderValue::is_empty) {
            fields.remove("tracestate");
        }
        RequestSpan { open: Some(Box::new(span)) }
    }

    /// Sends what is left, and ends the thread.
    pub(super) fn stop(&self) {
        if let Err(error) = self.provider.shutdown_with_timeout(EXPORT_DEADLINE) {
            tracing::warn!(%error, "the last spans were not sent; see whether the collector answers at tracing.endpoint");
        }
    }
}

/// Ends the span of a request.
pub(super) fn end(mut span: Span, status: Option<StatusCode>, outcome: &'static str) {
    span.set_attribute(KeyValue::new("tagalong.outcome", outcome));
    if let Some(status) = status {
        span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status.as_u16())));
    }
    if status.is_none_or(|status| status.is_server_error()) {
        span.set_status(Status::error(outcome));
    }
    span.end();
}

/// Sends batches to the collector. The SDK's thread has no runtime, so the request runs on the sidecar's.
struct CollectorClient {
    client: PooledClient,
    runtime: Handle,
}

impl std::fmt::Debug for CollectorClient {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("CollectorClient").field(self.client.authority()).finish()
    }
}

impl HttpClient for CollectorClient {
    fn send_bytes<'a, 'sent>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'sent>>
    where
        'a: 'sent,
        Self: 'sent,
    {
        let client = self.client.clone();
        let sending = self.runtime.spawn(async move {
            let answer = send(&client, request).await;
            match &answer {
                Ok(answer) if answer.status().is_success() => {}
                Ok(answer) => tracing::warn!(
                    status = answer.status().as_u16(),
                    "the collector refused spans; see whether tracing.endpoint is its address for traces"
                ),
                Err(error) => {
                    tracing::warn!(%error, "spans were not sent; see whether the collector runs at tracing.endpoint");
                }
            }
            answer
        });
        Box::pin(async move { sending.await? })
    }
}

async fn send(client: &PooledClient, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
    let (head, body) = request.into_parts();
    let outgoing = Box::new(Outgoing {
        method: head.method,
        target: head.uri.into_parts().path_and_query.ok_or("the collector's URL has no path")?,
        fields: head.headers,
        body: FlowingBody::Full(body),
        body_deadline: Duration::ZERO,
    });
    let (head, body) = client.exchange(outgoing).await?.into_parts();
    let body = Limited::new(body, ANSWER_LIMIT_BYTES).collect().await?.to_bytes();
    Ok(Response::from_parts(head, body))
}
