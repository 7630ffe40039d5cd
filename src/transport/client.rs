//! One exchange with the upstream: pool, deadlines, and one retry, of which [`decide::retry`](crate::decide::retry) decides.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::header::{HOST, TRANSFER_ENCODING};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, Version};
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::connect_advice::ConnectAdvice;
use super::dial::{ConnectionUse, Dial};
use super::informational::TooManyInformational;
use super::pool::{CheckedOut, ConnectError, Pool, PoolLimits, PooledConnection};
use super::received_body::{HeldConnection, ReceivedBody};
use crate::body::FlowingBody;
use crate::decide::connection_bound::is_connection_bound;
use crate::decide::retry::{AttemptEnd, is_sent_again, may_be_repeated};
use crate::error::ProxyError;
use crate::headers::uri_reference::absolute;

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
    /// How many unused connections are kept.
    pub pool_idle_limit: usize,
    /// How many exchanges may be under way, from before the connection to the end of the answer's body.
    pub exchange_limit: usize,
    /// How long a request waits for a place among them.
    pub exchange_wait: Duration,
    /// Most bytes of an answer's header section.
    pub header_section_limit_bytes: usize,
}

impl ExchangeLimits {
    const fn of_pool(&self) -> PoolLimits {
        PoolLimits {
            connect_deadline: self.connect_deadline,
            idle_time: self.pool_idle_time,
            idle_limit: self.pool_idle_limit,
            header_section_limit_bytes: self.header_section_limit_bytes,
        }
    }

    fn places(&self) -> Arc<Semaphore> {
        Arc::new(Semaphore::new(self.exchange_limit.min(Semaphore::MAX_PERMITS)))
    }
}

/// A request to the upstream. It is built from the parsed request, so that no byte of the caller's framing is passed
/// through. It is passed in a box, because each future on its way reserves room for it twice.
#[derive(Debug)]
pub struct Outgoing {
    /// The method as received.
    pub method: Method,
    /// The target: path and query verbatim.
    pub target: PathAndQuery,
    /// End-to-end fields only: the client writes framing and `Host`.
    pub fields: HeaderMap,
    /// The body.
    pub body: FlowingBody,
    /// How much longer than the header deadline sending the body may take: zero unless it streams.
    pub body_deadline: Duration,
}

impl Outgoing {
    /// The same request, without a body that streams.
    fn to_repeat(&self) -> Self {
        let body = self.body.to_repeat().unwrap_or(FlowingBody::Empty);
        let (method, target, fields) = (self.method.clone(), self.target.clone(), self.fields.clone());
        Self { method, target, fields, body, body_deadline: self.body_deadline }
    }
}

/// The pooled client of one upstream.
#[derive(Clone)]
pub struct PooledClient {
    pool: Pool,
    /// The places for exchanges. Replaced with their number: exchanges under way keep theirs.
    exchanges: Arc<ArcSwap<Semaphore>>,
    scheme: Scheme,
    authority: Authority,
    host: HeaderValue,
    limits: Arc<ArcSwap<ExchangeLimits>>,
}

impl PooledClient {
    /// A client for one scheme and authority. It opens no connection yet, so a sidecar starts without a reachable
    /// origin.
    #[must_use]
    pub fn new(scheme: Scheme, authority: Authority, dial: Arc<dyn Dial>, limits: ExchangeLimits) -> Self {
        let origin = absolute(Some(&scheme), Some(&authority), PathAndQuery::from_static("/"));
        let host = host(&scheme, &authority);
        let (pool, exchanges) = (Pool::new(origin, dial, limits.of_pool()), ArcSwap::from(limits.places()));
        let (exchanges, limits) = (Arc::new(exchanges), Arc::new(ArcSwap::from_pointee(limits)));
        Self { pool, exchanges, scheme, authority, host, limits }
    }

    /// Replaces the limits for the exchanges that begin from now on. Connections stay.
    pub fn set_limits(&self, limits: ExchangeLimits) {
        let before = self.limits.swap(Arc::new(limits));
        self.pool.set_limits(limits.of_pool());
        if before.exchange_limit != limits.exchange_limit {
            self.exchanges.store(limits.places());
        }
    }

    /// The configured limits.
    #[must_use]
    pub fn limits(&self) -> ExchangeLimits {
        **self.limits.load()
    }

    /// The upstream's authority, as it stands in `Host`.
    #[must_use]
    pub const fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Sends a request and waits for the head of its answer. The exchange holds its place until the end of the body.
    ///
    /// # Errors
    /// If no complete head arrived; [`ProxyError::may_have_reached_origin`] says whether the request may have arrived.
    pub async fn exchange(&self, outgoing: Box<Outgoing>) -> Result<Response<ReceivedBody>, ProxyError> {
        let permit = self.permit().await?;
        let has_whole_body = !matches!(outgoing.body, FlowingBody::Streaming(_));
        let again = may_be_repeated(&outgoing.method, has_whole_body).then(|| Box::new(outgoing.to_repeat()));
        let mut outcome = self.attempt(outgoing).await;
        if let (Err(failure), Some(again)) = (&outcome, again)
            && is_sent_again(failure.ended)
        {
            outcome = Box::pin(self.attempt(again)).await;
        }
        let SentExchange { response, connection, pool } = outcome.map_err(|failure| failure.error)?;
        Ok(response.map(|incoming| ReceivedBody::new(incoming, HeldConnection { connection, pool, permit })))
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, ProxyError> {
        let exchanges = self.exchanges.load_full();
        if let Ok(permit) = Arc::clone(&exchanges).try_acquire_owned() {
            return Ok(permit);
        }
        let waiting = tokio::time::timeout(self.limits().exchange_wait, exchanges.acquire_owned());
        match Box::pin(waiting).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(ProxyError::Overloaded { limit: "upstream.exchange_limit" }),
        }
    }

    async fn attempt(&self, outgoing: Box<Outgoing>) -> Result<SentExchange, AttemptFailure> {
        let deadline = self.limits().header_deadline + outgoing.body_deadline;
        let mut is_connected = false;
        let sending = self.send(outgoing, &mut is_connected);
        let outcome = tokio::time::timeout(deadline, sending).await;
        let upstream = || self.authority.to_string();
        let answered = match outcome {
            Ok(outcome) => outcome?,
            Err(_) if is_connected => {
                return Err(AttemptFailure::final_one(ProxyError::AnswerTimeout {
                    upstream: upstream(),
                    deadline,
                }));
            }
            Err(_) => {
                return Err(AttemptFailure::final_one(ProxyError::ConnectTimeout {
                    upstream: upstream(),
                    deadline,
                }));
            }
        };
        let fields = answered.response.headers();
        let limit_bytes = self.limits().header_section_limit_bytes;
        let cause = if answered.response.status().is_informational() {
            "it switches protocols, which the request did not ask for".into()
        } else if !has_plain_body(fields) {
            "its body has a transfer coding other than chunked".into()
        } else if header_section_bytes(fields) > limit_bytes {
            format!("its header section is larger than {limit_bytes} bytes (upstream.header_section_limit)")
                .into()
        } else {
            return Ok(answered);
        };
        Err(AttemptFailure::final_one(ProxyError::BrokenAnswer { upstream: upstream(), cause }))
    }

    /// Sends a request on a connection of the pool. One that closed before a byte of the request was written is replaced.
    async fn send(
        &self,
        outgoing: Box<Outgoing>,
        is_connected: &mut bool,
    ) -> Result<SentExchange, AttemptFailure> {
        let is_bound = is_connection_bound(&outgoing.fields);
        let mut request = Request::new(outgoing.body);
        *request.method_mut() = outgoing.method;
        *request.headers_mut() = outgoing.fields;
        *request.version_mut() = Version::HTTP_11;
        loop {
            let CheckedOut { mut connection, is_reused } = if is_bound {
                self.pool.open().await.map(|connection| CheckedOut { connection, is_reused: false })
            } else {
                self.pool.check_out().await
            }
            .map_err(|error| self.no_connection(error))?;
            *is_connected = true;
            let (outcome, usage) = match &mut connection {
                PooledConnection::Http1(http1) => {
                    *request.uri_mut() = Uri::from(outgoing.target.clone());
                    request.headers_mut().insert(HOST, self.host.clone());
                    (http1.sender.try_send_request(request).await, &http1.usage)
                }
                PooledConnection::Http2(http2) => {
                    *request.uri_mut() =
                        absolute(Some(&self.scheme), Some(&self.authority), outgoing.target.clone());
                    request.headers_mut().remove(HOST);
                    (http2.sender.try_send_request(request).await, &http2.usage)
                }
            };
            match outcome {
                Ok(response) => {
                    let pool = (!is_bound).then(|| self.pool.clone());
                    return Ok(SentExchange { response, connection, pool });
                }
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) if is_reused => {
                        request = unsent;
                        *is_connected = false;
                    }
                    _ => return Err(self.no_answer(&failed.into_error(), usage)),
                },
            }
        }
    }

    fn no_connection(&self, error: ConnectError) -> AttemptFailure {
        let upstream = self.authority.to_string();
        let deadline = self.limits().connect_deadline;
        let (cause, advice) = match &error {
            ConnectError::Io(error) => (RootCause::of(error), ConnectAdvice::on(error)),
            ConnectError::Handshake(error) => (RootCause::of(error), ConnectAdvice::on(error)),
            ConnectError::TimedOut => {
                return AttemptFailure::final_one(ProxyError::ConnectTimeout { upstream, deadline });
            }
        };
        let ended = match cause.kind {
            Some(io::ErrorKind::ConnectionRefused) => AttemptEnd::Refused,
            _ => AttemptEnd::Other,
        };
        let error = if cause.kind == Some(io::ErrorKind::TimedOut) {
            ProxyError::ConnectTimeout { upstream, deadline }
        } else {
            let ConnectAdvice { cause: known, advice } = advice;
            ProxyError::Connect { upstream, cause: known.map_or(cause.message, str::to_owned), advice }
        };
        AttemptFailure { error, ended }
    }

    fn no_answer(&self, error: &hyper::Error, usage: &ConnectionUse) -> AttemptFailure {
        let upstream = self.authority.to_string();
        let cause = RootCause::of(error);
        let ended = if usage.broke_on_reuse_without_answer() {
            AttemptEnd::ReusedConnectionClosed
        } else {
            AttemptEnd::Other
        };
        let error = if cause.broken {
            // What a server says that expects TLS is no HTTP.
            let is_perhaps_tls = cause.is_no_http && self.scheme == Scheme::HTTP;
            let hint =
                if is_perhaps_tls { " (if it speaks TLS there, write https:// in upstream.url)" } else { "" };
            ProxyError::BrokenAnswer { upstream, cause: format!("{}{hint}", cause.message).into() }
        } else {
            ProxyError::NoAnswer { upstream, cause: cause.message }
        };
        AttemptFailure { error, ended }
    }
}

/// The head of an answer, and the connection on which its body arrives.
struct SentExchange {
    response: Response<Incoming>,
    connection: PooledConnection,
    /// `None`: no other request may use the connection.
    pool: Option<Pool>,
}

/// `Host` for an authority: without user information, and without the scheme's own port (RFC 9110 §7.2).
fn host(scheme: &Scheme, authority: &Authority) -> HeaderValue {
    let default_port = if *scheme == Scheme::HTTPS { 443 } else { 80 };
    let host = match authority.port_u16() {
        Some(port) if port != default_port => format!("{}:{port}", authority.host()),
        _ => authority.host().to_owned(),
    };
    // The host of an authority consists of bytes that a field value may hold.
    HeaderValue::from_maybe_shared(bytes::Bytes::from(host)).unwrap_or_else(|_| HeaderValue::from_static(""))
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
    is_no_http: bool,
}

impl RootCause {
    fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut found = Self { message: String::new(), kind: None, broken: false, is_no_http: false };
        let mut cause = Some(error);
        while let Some(source) = cause {
            found.message = source.to_string();
            if let Some(io) = source.downcast_ref::<io::Error>() {
                found.kind = Some(io.kind());
                found.broken |= io.get_ref().is_some_and(|error| error.is::<TooManyInformational>());
            }
            if let Some(hyper) = source.downcast_ref::<hyper::Error>() {
                found.broken |= hyper.is_parse();
                found.is_no_http |= hyper.is_parse();
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

    #[tokio::test(start_paused = true)]
    async fn another_number_of_exchanges_holds_at_once() {
        let limits = |exchange_limit| ExchangeLimits {
            connect_deadline: Duration::from_secs(1),
            header_deadline: Duration::from_secs(1),
            body_stall_deadline: Duration::from_secs(1),
            pool_idle_time: Duration::from_secs(1),
            pool_idle_limit: 1,
            exchange_limit,
            exchange_wait: Duration::from_secs(1),
            header_section_limit_bytes: 8192,
        };
        let unreachable = |_: Uri| -> futures_util::future::BoxFuture<'static, _> {
            Box::pin(std::future::ready(Err(io::ErrorKind::ConnectionRefused.into())))
        };
        let authority = Authority::from_static("origin.test");
        let client = PooledClient::new(Scheme::HTTP, authority, Arc::new(unreachable), limits(1));
        let of_endpoint = client.clone();
        let first = client.permit().await.expect("a place");
        assert!(client.permit().await.is_err());
        of_endpoint.set_limits(limits(2));
        let (second, third) =
            (client.permit().await.expect("a place"), client.permit().await.expect("a place"));
        drop(first);
        assert!(client.permit().await.is_err(), "what is given back of the limit before opens no place");
        client.set_limits(ExchangeLimits { exchange_wait: Duration::from_secs(9), ..limits(2) });
        drop((second, third));
        assert!(client.permit().await.is_ok(), "the same number keeps the places");
        assert_eq!(of_endpoint.limits().exchange_wait, Duration::from_secs(9));
    }
}
