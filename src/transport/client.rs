//! One exchange with the upstream: pool, deadlines, and one retry, of which [`decide::retry`](crate::decide::retry) decides.

use std::error::Error as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::header::TRANSFER_ENCODING;
use http::uri::{Authority, Scheme};
use http::{Extensions, HeaderMap, Method, Request, Response, Uri, Version};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::dial::{ConnectionUse, Connector, Dial};
use crate::body::FlowingBody;
use crate::decide::retry::{AttemptEnd, is_sent_again, may_be_repeated};
use crate::error::ProxyError;

/// How long each part of an exchange may take, and how large a head may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExchangeLimits {
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

/// A request to the upstream. It is built from the parsed request, so that no byte of the caller's framing is passed
/// through.
#[derive(Debug)]
pub struct Outgoing {
    /// The method as received.
    pub method: Method,
    /// The target: scheme and authority of the upstream, path and query verbatim.
    pub uri: Uri,
    /// End-to-end fields only: the client writes framing and `Host`.
    pub fields: HeaderMap,
    /// The body.
    pub body: FlowingBody,
    /// How much longer than the header deadline sending the body may take: zero unless it streams.
    pub body_deadline: Duration,
}

/// The pooled client of one upstream.
#[derive(Clone)]
pub struct PooledClient {
    client: Client<Connector, FlowingBody>,
    scheme: Scheme,
    authority: Authority,
    limits: ExchangeLimits,
}

impl PooledClient {
    /// A client for one scheme and authority. It opens no connection yet, so a sidecar starts without a reachable
    /// origin.
    #[must_use]
    pub fn new(scheme: Scheme, authority: Authority, dial: Arc<dyn Dial>, limits: ExchangeLimits) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(limits.pool_idle_time)
            .pool_timer(TokioTimer::new())
            .http1_max_buf_size(limits.header_section_limit_bytes.max(8192))
            .http2_max_header_list_size(u32::try_from(limits.header_section_limit_bytes).unwrap_or(u32::MAX))
            .build(Connector::new(dial, limits.connect_deadline));
        Self { client, scheme, authority, limits }
    }

    /// The configured limits.
    #[must_use]
    pub const fn limits(&self) -> ExchangeLimits {
        self.limits
    }

    /// The upstream's authority, as it stands in `Host`.
    #[must_use]
    pub const fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The absolute URI of a target. The bytes of the target stay unchanged.
    #[must_use]
    pub fn uri(&self, target: &http::uri::PathAndQuery) -> Uri {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(target.clone());
        Uri::from_parts(parts).unwrap_or_default()
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// # Errors
    /// If no complete head arrived; [`ProxyError::may_have_reached_origin`] says whether the request may have arrived.
    pub async fn exchange(&self, outgoing: Outgoing) -> Result<Response<Incoming>, ProxyError> {
        let has_whole_body = !matches!(outgoing.body, FlowingBody::Streaming(_));
        let again = may_be_repeated(&outgoing.method, has_whole_body).then(|| Outgoing {
            method: outgoing.method.clone(),
            uri: outgoing.uri.clone(),
            fields: outgoing.fields.clone(),
            body_deadline: outgoing.body_deadline,
            body: match &outgoing.body {
                FlowingBody::Full(bytes) => FlowingBody::Full(bytes.clone()),
                FlowingBody::Empty | FlowingBody::Streaming(_) => FlowingBody::Empty,
            },
        });
        let outcome = match (self.attempt(outgoing).await, again) {
            (Err(failure), Some(again)) if is_sent_again(failure.ended) => {
                Box::pin(self.attempt(again)).await
            }
            (outcome, _) => outcome,
        };
        outcome.map_err(|failure| failure.error)
    }

    async fn attempt(&self, outgoing: Outgoing) -> Result<Response<Incoming>, AttemptFailure> {
        let mut request = Request::new(outgoing.body);
        *request.method_mut() = outgoing.method;
        *request.uri_mut() = outgoing.uri;
        *request.headers_mut() = outgoing.fields;
        *request.version_mut() = Version::HTTP_11;
        let deadline = self.limits.header_deadline + outgoing.body_deadline;
        // Where the deadline to connect passes first, the other one passes on a connection. Otherwise it must be seen.
        let captured = (self.limits.connect_deadline >= deadline).then(|| capture_connection(&mut request));
        let exchanging = self.client.request(request);
        let outcome = tokio::time::timeout(deadline, exchanging).await;
        let upstream = || self.authority.to_string();
        match outcome {
            Ok(Ok(response)) if response.status().is_informational() => {
                let cause = "it switches protocols, which the request did not ask for".into();
                Err(AttemptFailure::final_one(ProxyError::BrokenAnswer { upstream: upstream(), cause }))
            }
            Ok(Ok(response)) if !has_plain_body(response.headers()) => {
                let cause = "its body has a transfer coding other than chunked".into();
                Err(AttemptFailure::final_one(ProxyError::BrokenAnswer { upstream: upstream(), cause }))
            }
            Ok(Ok(response))
                if header_section_bytes(response.headers()) > self.limits.header_section_limit_bytes =>
            {
                let cause = format!(
                    "its header section is larger than {} bytes (upstream.header_section_limit)",
                    self.limits.header_section_limit_bytes
                );
                Err(AttemptFailure::final_one(ProxyError::BrokenAnswer {
                    upstream: upstream(),
                    cause: cause.into(),
                }))
            }
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => {
                let cause = RootCause::of(&error);
                let usage = connection_use(&error);
                if error.is_connect() || usage.is_none() {
                    let connect_deadline = self.limits.connect_deadline;
                    let error = if cause.kind == Some(io::ErrorKind::TimedOut) {
                        ProxyError::ConnectTimeout { upstream: upstream(), deadline: connect_deadline }
                    } else {
                        ProxyError::Connect { upstream: upstream(), cause: cause.message }
                    };
                    let ended = match cause.kind {
                        Some(io::ErrorKind::ConnectionRefused) => AttemptEnd::Refused,
                        _ => AttemptEnd::Other,
                    };
                    return Err(AttemptFailure { error, ended });
                }
                let ended = match usage {
                    Some(usage) if usage.broke_on_reuse_without_answer() => {
                        AttemptEnd::ReusedConnectionClosed
                    }
                    _ => AttemptEnd::Other,
                };
                let error = if cause.broken {
                    ProxyError::BrokenAnswer { upstream: upstream(), cause: cause.message.into() }
                } else {
                    ProxyError::NoAnswer { upstream: upstream(), cause: cause.message }
                };
                Err(AttemptFailure { error, ended })
            }
            Err(_) if captured.is_none_or(|captured| captured.connection_metadata().is_some()) => {
                Err(AttemptFailure::final_one(ProxyError::AnswerTimeout { upstream: upstream(), deadline }))
            }
            Err(_) => {
                Err(AttemptFailure::final_one(ProxyError::ConnectTimeout { upstream: upstream(), deadline }))
            }
        }
    }
}

/// What had happened on the connection where an exchange failed; `None` if it had none.
fn connection_use(error: &hyper_util::client::legacy::Error) -> Option<ConnectionUse> {
    let mut extras = Extensions::new();
    error.connect_info()?.get_extras(&mut extras);
    extras.remove()
}

/// Whether the body without `chunked`, which hyper removes, is the content. Another transfer coding would remain on it
/// while the field that names it is removed (RFC 9112 §6.1). No request asks for one.
fn has_plain_body(fields: &HeaderMap) -> bool {
    let mut codings = fields.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => coding.as_bytes().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    }
}

/// The bytes of a header section on the wire, without its first line. The reader's own bound is that of its buffer,
/// which lets through more.
fn header_section_bytes(fields: &HeaderMap) -> usize {
    fields.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len()).sum()
}

struct AttemptFailure {
    error: ProxyError,
    ended: AttemptEnd,
}

impl AttemptFailure {
    const fn final_one(error: ProxyError) -> Self {
        Self { error, ended: AttemptEnd::Other }
    }
}

/// The innermost cause of an error, without the chain of "client error (Connect)" around it.
struct RootCause {
    message: String,
    kind: Option<io::ErrorKind>,
    broken: bool,
}

impl RootCause {
    fn of(error: &hyper_util::client::legacy::Error) -> Self {
        let mut found = Self { message: error.to_string(), kind: None, broken: false };
        let mut cause = error.source();
        while let Some(source) = cause {
            found.message = source.to_string();
            if let Some(io) = source.downcast_ref::<io::Error>() {
                found.kind = Some(io.kind());
            }
            if let Some(hyper) = source.downcast_ref::<hyper::Error>() {
                found.broken |= hyper.is_parse();
            }
            cause = source.source();
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunked_alone_is_taken_off() {
        for (lines, plain) in [
            (&[][..], true),
            (&["chunked"], true),
            (&["Chunked"], true),
            (&["xfoo"], false),
            (&["gzip, chunked"], false),
            (&["chunked, chunked"], false),
            (&["gzip", "chunked"], false),
            (&[""], false),
        ] {
            let line = |line: &&'static str| (TRANSFER_ENCODING, http::HeaderValue::from_static(line));
            let mut fields = HeaderMap::new();
            for (name, value) in lines.iter().map(line) {
                fields.append(name, value);
            }
            assert_eq!(has_plain_body(&fields), plain, "{lines:?}");
        }
    }
}
