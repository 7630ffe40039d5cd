//! One exchange with the upstream: pool, deadlines, and the one retry that `caching.md` rule 1 permits.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use http::uri::{Authority, Scheme};
use http::{Extensions, HeaderMap, Method, Request, Response, Uri, Version};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::dial::{ConnectionUse, Connector, Dial};
use crate::body::FlowingBody;

/// How long each part of an exchange may take, and how large a head may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpstreamLimits {
    /// To establish a connection, TLS included.
    pub connect_deadline: Duration,
    /// From sending the request to the end of the answer's header section.
    pub header_deadline: Duration,
    /// Between two pieces of the answer's body.
    pub body_stall_deadline: Duration,
    /// How long an unused connection is kept.
    pub pool_idle_time: Duration,
    /// Most bytes of an answer's header section.
    pub header_section_limit_bytes: usize,
}

/// Whether a failed request may have reached the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// No byte of it was sent: it cannot have happened.
    NeverLeft,
    /// It may have arrived: for a write the outcome is unknown.
    MayHaveArrived,
}

/// Why an exchange brought no answer.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// No connection could be established.
    #[error("cannot connect to the upstream: {0}")]
    Connect(String),
    /// No connection, or no complete header section, within the deadline.
    #[error("the upstream did not answer within {seconds} s", seconds = .deadline.as_secs_f32())]
    TimedOut {
        /// The deadline that passed.
        deadline: Duration,
        /// Whether the request may have arrived.
        departure: Departure,
    },
    /// The connection broke, or what came back is no HTTP.
    #[error("the upstream's answer is broken: {reason}")]
    Broken {
        /// What was wrong.
        reason: String,
        /// Whether the request may have arrived.
        departure: Departure,
    },
}

impl ExchangeError {
    /// Whether the request may have reached the origin.
    #[must_use]
    pub const fn departure(&self) -> Departure {
        match self {
            Self::Connect(_) => Departure::NeverLeft,
            Self::TimedOut { departure, .. } | Self::Broken { departure, .. } => *departure,
        }
    }
}

/// A request as it goes upstream: rebuilt from what was understood, never passed through.
#[derive(Debug)]
pub struct Outgoing {
    /// The method as received.
    pub method: Method,
    /// The target: scheme and authority of the upstream, path and query verbatim.
    pub uri: Uri,
    /// End-to-end fields only; framing and `Host` are the client's business.
    pub fields: HeaderMap,
    /// The body.
    pub body: FlowingBody,
}

/// The pooled client of one upstream.
#[derive(Clone)]
pub struct UpstreamClient {
    client: Client<Connector, FlowingBody>,
    scheme: Scheme,
    authority: Authority,
    limits: UpstreamLimits,
}

impl UpstreamClient {
    /// A client for one scheme and authority. Opens nothing yet, so a sidecar starts although its origin is away.
    #[must_use]
    pub fn new(scheme: Scheme, authority: Authority, dial: Arc<dyn Dial>, limits: UpstreamLimits) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(limits.pool_idle_time)
            .pool_timer(TokioTimer::new())
            .http1_max_buf_size(limits.header_section_limit_bytes.max(8192))
            .http2_max_header_list_size(u32::try_from(limits.header_section_limit_bytes).unwrap_or(u32::MAX))
            .build(Connector::new(dial, limits.connect_deadline));
        Self { client, scheme, authority, limits }
    }

    /// The limits that were configured.
    #[must_use]
    pub const fn limits(&self) -> UpstreamLimits {
        self.limits
    }

    /// The upstream's authority, as it stands in `Host`.
    #[must_use]
    pub const fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The absolute URI for a target; its bytes stay as they are.
    #[must_use]
    pub fn uri(&self, target: &http::uri::PathAndQuery) -> Uri {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(target.clone());
        Uri::from_parts(parts).unwrap_or_default()
    }

    /// Sends a request and waits for the head of its answer. A safe one is sent a second time if its connection was refused,
    /// or was reused and closed without a byte of an answer (`caching.md` rule 1); an unsafe one never, because it may have
    /// happened and a second time could undo somebody else's write.
    ///
    /// # Errors
    /// [`ExchangeError`] when no complete head came back.
    pub async fn exchange(&self, outgoing: Outgoing) -> Result<Response<Incoming>, ExchangeError> {
        let repeatable = outgoing.method.is_safe() && !matches!(outgoing.body, FlowingBody::Streaming(_));
        if !repeatable {
            return self.attempt(outgoing).await.map_err(|failure| failure.error);
        }
        let again = Outgoing {
            method: outgoing.method.clone(),
            uri: outgoing.uri.clone(),
            fields: outgoing.fields.clone(),
            body: match &outgoing.body {
                FlowingBody::Full(bytes) => FlowingBody::Full(bytes.clone()),
                FlowingBody::Empty | FlowingBody::Streaming(_) => FlowingBody::Empty,
            },
        };
        match self.attempt(outgoing).await {
            Err(failure) if failure.retry => self.attempt(again).await.map_err(|failure| failure.error),
            outcome => outcome.map_err(|failure| failure.error),
        }
    }

    async fn attempt(&self, outgoing: Outgoing) -> Result<Response<Incoming>, Failure> {
        let mut request = Request::new(outgoing.body);
        *request.method_mut() = outgoing.method;
        *request.uri_mut() = outgoing.uri;
        *request.headers_mut() = outgoing.fields;
        *request.version_mut() = Version::HTTP_11;
        let captured = capture_connection(&mut request);
        let deadline = self.limits.header_deadline;
        let exchanging = self.client.request(request);
        let outcome = tokio::time::timeout(deadline, exchanging).await;
        let usage = || {
            let mut extras = Extensions::new();
            captured.connection_metadata().as_ref().map(|connected| connected.get_extras(&mut extras));
            extras.remove::<ConnectionUse>()
        };
        match outcome {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) if error.is_connect() => {
                let reason = deepest(&error);
                let refused = reason.1 == Some(std::io::ErrorKind::ConnectionRefused);
                let error = if reason.1 == Some(std::io::ErrorKind::TimedOut) {
                    let deadline = self.limits.connect_deadline;
                    ExchangeError::TimedOut { deadline, departure: Departure::NeverLeft }
                } else {
                    ExchangeError::Connect(reason.0)
                };
                Err(Failure { error, retry: refused })
            }
            Ok(Err(error)) => {
                let usage = usage();
                let departure =
                    if usage.is_some() { Departure::MayHaveArrived } else { Departure::NeverLeft };
                let retry = usage.is_some_and(|usage| usage.broke_on_reuse_without_answer());
                let reason = deepest(&error).0;
                Err(Failure { error: ExchangeError::Broken { reason, departure }, retry })
            }
            Err(_) => {
                let departure =
                    if usage().is_some() { Departure::MayHaveArrived } else { Departure::NeverLeft };
                Err(Failure { error: ExchangeError::TimedOut { deadline, departure }, retry: false })
            }
        }
    }
}

struct Failure {
    error: ExchangeError,
    retry: bool,
}

/// The message of the innermost cause, and its kind where it is an I/O error: what an operator needs to know, without the
/// chain of "client error (Connect)" around it.
fn deepest(error: &hyper_util::client::legacy::Error) -> (String, Option<std::io::ErrorKind>) {
    let mut message = error.to_string();
    let mut kind = None;
    let mut cause = error.source();
    while let Some(source) = cause {
        message = source.to_string();
        kind = source.downcast_ref::<std::io::Error>().map(std::io::Error::kind).or(kind);
        cause = source.source();
    }
    (message, kind)
}
