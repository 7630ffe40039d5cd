//! The body of a caller's request. A small one is read and checked whole before the request goes upstream, so that a
//! malformed body can never become a complete, shorter one at the origin. A larger one streams, and its upstream
//! request is aborted if it breaks off.

use std::fmt::Display;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::time::Sleep;

use super::answer_body::Chained;
use crate::body::budget::BufferBudget;
use crate::body::buffer::BodyBuffer;
use crate::body::{BodyError, FlowingBody};
use crate::error::ProxyError;

/// The limits of a caller's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallerBodyLimits {
    /// Most bytes of a body (413).
    pub limit_bytes: u64,
    /// Up to this many bytes a body is read whole before the upstream request starts.
    pub read_whole_bytes: u64,
    /// Whether a body that is not read whole is refused, because its content is signed (503).
    pub must_be_whole: bool,
    /// How long the whole body may take (408).
    pub deadline: Duration,
}

impl CallerBodyLimits {
    /// The same for a body whose content is signed: no byte of it goes upstream before the last has arrived.
    #[must_use]
    pub const fn signed(self) -> Self {
        Self { read_whole_bytes: self.limit_bytes, must_be_whole: true, ..self }
    }
}

/// A body under way, and the failure that stopped it.
#[derive(Debug)]
pub struct CallerBody {
    /// The body for the upstream request.
    pub body: FlowingBody,
    /// Why the upstream request was aborted, if the body was the reason.
    pub failure: Arc<OnceLock<ProxyError>>,
}

impl CallerBody {
    /// No body at all.
    #[must_use]
    pub fn empty() -> Self {
        Self { body: FlowingBody::Empty, failure: Arc::default() }
    }
}

/// Reads a caller's body, or prepares it to stream.
///
/// # Errors
/// [`ProxyError::BodyTooLarge`] and [`ProxyError::BodyBroken`] if the failure is known before the upstream request
/// starts; [`ProxyError::Overloaded`] if a body that must be whole finds no room in the budget.
pub async fn read_or_stream<B>(
    body: B,
    limits: CallerBodyLimits,
    budget: &Arc<BufferBudget>,
) -> Result<CallerBody, ProxyError>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Display,
{
    let failure = Arc::new(OnceLock::new());
    if body.is_end_stream() {
        return Ok(CallerBody { body: FlowingBody::Empty, failure });
    }
    let too_large = ProxyError::BodyTooLarge { limit_bytes: limits.limit_bytes };
    if body.size_hint().lower() > limits.limit_bytes {
        return Err(too_large);
    }
    let mut body = Measured {
        body,
        passed_bytes: 0,
        limits,
        too_slow: Box::pin(tokio::time::sleep(limits.deadline)),
        failure: Arc::clone(&failure),
    };
    let exact = body.size_hint().exact();
    let mut read = BodyBuffer::new(budget, exact);
    let mut next = Bytes::new();
    // A body with an announced length over the limit streams from the first byte.
    while exact.is_none_or(|length_bytes| length_bytes <= limits.read_whole_bytes) {
        match body.frame().await {
            None => return Ok(CallerBody { body: read.freeze().into(), failure }),
            Some(Err(_)) => return Err(failure.get().cloned().unwrap_or(too_large)),
            Some(Ok(frame)) => {
                let Ok(data) = frame.into_data() else { continue };
                let is_too_large = read.len_bytes() + data.len() as u64 > limits.read_whole_bytes;
                if is_too_large || !read.push(&data) {
                    next = data;
                    break;
                }
            }
        }
    }
    if limits.must_be_whole {
        return Err(ProxyError::Overloaded { limit: "limits.buffered_bodies" });
    }
    let rest = Chained::of(next, FlowingBody::Streaming(body.boxed_unsync()));
    Ok(CallerBody { body: Chained::of(read.freeze(), rest), failure })
}

/// A body that fails if it is too large, too slow or malformed, and records why for the exchange.
struct Measured<B> {
    body: B,
    passed_bytes: u64,
    limits: CallerBodyLimits,
    too_slow: Pin<Box<Sleep>>,
    failure: Arc<OnceLock<ProxyError>>,
}

impl<B> Measured<B> {
    fn fail(&self, failure: ProxyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let reason = failure.to_string();
        let _first = self.failure.set(failure);
        Poll::Ready(Some(Err(BodyError::Caller(reason))))
    }
}

impl<B> Body for Measured<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Display,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(None) => Poll::Ready(None),
            // Trailers of a request are not forwarded: RFC 9110 §6.5.1 permits it, and no origin is known to need them.
            Poll::Ready(Some(Ok(frame))) if frame.is_trailers() => Poll::Ready(None),
            Poll::Ready(Some(Ok(frame))) => {
                self.passed_bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                if self.passed_bytes > self.limits.limit_bytes {
                    return self.fail(ProxyError::BodyTooLarge { limit_bytes: self.limits.limit_bytes });
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                self.fail(ProxyError::BodyBroken { cause: error.to_string(), too_slow: false })
            }
            Poll::Pending => {
                if self.too_slow.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                let cause = format!("it took longer than {} s", self.limits.deadline.as_secs());
                self.fail(ProxyError::BodyBroken { cause, too_slow: true })
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::channel::Channel;

    const LIMITS: CallerBodyLimits = CallerBodyLimits {
        limit_bytes: 10,
        read_whole_bytes: 4,
        must_be_whole: false,
        deadline: Duration::from_secs(60),
    };

    type Sender = http_body_util::channel::Sender<Bytes, std::io::Error>;

    fn channel() -> (Sender, Channel<Bytes, std::io::Error>) {
        Channel::new(8)
    }

    async fn send(sender: &mut Sender, bytes: &'static [u8]) {
        sender.send_data(Bytes::from_static(bytes)).await.expect("room in the channel");
    }

    #[tokio::test]
    async fn a_small_body_is_read_whole_and_its_length_known() {
        let (mut sender, body) = channel();
        send(&mut sender, b"ab").await;
        send(&mut sender, b"cd").await;
        drop(sender);
        let taken =
            read_or_stream(body, LIMITS, &BufferBudget::new(100)).await.expect("a body within the limits");
        assert!(matches!(taken.body, FlowingBody::Full(bytes) if bytes == "abcd"));
    }

    #[tokio::test]
    async fn a_small_body_that_breaks_never_leaves() {
        let (mut sender, body) = channel();
        send(&mut sender, b"ab").await;
        sender.abort(std::io::Error::other("chunk without end"));
        let error = read_or_stream(body, LIMITS, &BufferBudget::new(100)).await.expect_err("a broken body");
        assert!(matches!(error, ProxyError::BodyBroken { too_slow: false, .. }), "{error:?}");
    }

    #[tokio::test]
    async fn a_larger_body_streams_and_tells_why_it_stopped() {
        let (mut sender, body) = channel();
        send(&mut sender, b"abc").await;
        send(&mut sender, b"def").await;
        let taken = read_or_stream(body, LIMITS, &BufferBudget::new(100)).await.expect("it starts well");
        assert!(matches!(taken.body, FlowingBody::Streaming(_)));
        send(&mut sender, b"ghijk").await;
        drop(sender);
        assert!(taken.body.collect().await.is_err(), "eleven bytes are one too many");
        assert_eq!(taken.failure.get(), Some(&ProxyError::BodyTooLarge { limit_bytes: 10 }));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_body_is_given_up_in_all() {
        let (mut sender, body) = channel();
        let slow = tokio::spawn(async move { read_or_stream(body, LIMITS, &BufferBudget::new(100)).await });
        tokio::time::advance(Duration::from_secs(59)).await;
        send(&mut sender, b"a").await;
        tokio::time::advance(Duration::from_secs(2)).await;
        let error = slow.await.expect("no panic").expect_err("one byte in 59 s does not buy more time");
        assert_eq!(error.status(), http::StatusCode::REQUEST_TIMEOUT);
    }

    #[tokio::test]
    async fn without_budget_a_body_streams_and_one_that_must_be_whole_is_refused() {
        let budget = BufferBudget::new(3);
        let (mut sender, body) = channel();
        send(&mut sender, b"abcd").await;
        drop(sender);
        let taken = read_or_stream(body, LIMITS, &budget).await.expect("it streams");
        assert!(matches!(taken.body, FlowingBody::Streaming(_)));
        assert_eq!(taken.body.collect().await.expect("all of it").to_bytes(), "abcd");
        let (mut sender, body) = channel();
        send(&mut sender, b"abcd").await;
        drop(sender);
        let refused = read_or_stream(body, LIMITS.signed(), &budget).await.expect_err("no room");
        assert_eq!(refused, ProxyError::Overloaded { limit: "limits.buffered_bodies" });
        assert_eq!(budget.used_bytes(), 0);
    }
}
