//! How many HTTP/2 requests may be under way. HTTP/1 has one a connection, so that the limit of connections suffices; one HTTP/2
//! connection has as many as it likes, up to [`STREAMS`].

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Request, Response, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::Service;
use pin_project_lite::pin_project;

use super::{CallerService, LiveAcceptLimits};

/// Most requests of one connection at once (`SETTINGS_MAX_CONCURRENT_STREAMS`): the fewest that RFC 9113, section 6.5.2 recommends.
pub(super) const STREAMS: u32 = 100;

/// The answer to a request over the limit.
const ANSWER: &str = "{\"title\":\"Too many requests at once\",\"status\":503,\
    \"detail\":\"limits.http2_requests are under way. Try again shortly, or raise that limit.\"}";

/// The HTTP/2 requests under way on all connections, and their limit.
#[derive(Debug)]
pub(super) struct Http2Requests {
    limits: LiveAcceptLimits,
    under_way: Arc<AtomicUsize>,
}

/// Held from the end of a request's header section until its answer has been handed over to the last byte.
#[derive(Debug)]
struct StreamPermit(Arc<AtomicUsize>);

impl Drop for StreamPermit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Http2Requests {
    /// `under_way` is shared by all that the limit holds for together.
    pub(super) const fn new(limits: LiveAcceptLimits, under_way: Arc<AtomicUsize>) -> Self {
        Self { limits, under_way }
    }

    fn permit(&self) -> Option<StreamPermit> {
        // The permit is made first: dropping it decrements the count.
        let permit = StreamPermit(Arc::clone(&self.under_way));
        let limit = self.limits.current().http2_requests;
        (self.under_way.fetch_add(1, Ordering::Relaxed) < limit).then_some(permit)
    }
}

/// A service that gets no more HTTP/2 requests than the limit allows.
pub(super) struct Limited<S> {
    pub(super) service: S,
    pub(super) requests: Http2Requests,
}

impl<S: CallerService> Service<Request<Incoming>> for Limited<S> {
    type Response = Response<LimitedBody<S::Answer>>;
    type Error = S::Error;
    type Future = LimitedAnswer<S::Future>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        if request.version() != Version::HTTP_2 {
            return LimitedAnswer::Served { answer: self.service.call(request), permit: None };
        }
        match self.requests.permit() {
            Some(permit) => {
                LimitedAnswer::Served { answer: self.service.call(request), permit: Some(permit) }
            }
            None => LimitedAnswer::Refused,
        }
    }
}

pin_project! {
    #[project = LimitedAnswerProjection]
    pub(super) enum LimitedAnswer<F> {
        Served {
            #[pin]
            answer: F,
            permit: Option<StreamPermit>,
        },
        Refused,
    }
}

impl<F, B, E> Future for LimitedAnswer<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<LimitedBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            LimitedAnswerProjection::Served { answer, permit } => answer.poll(context).map_ok(|response| {
                let permit = permit.take();
                response.map(|body| LimitedBody::Served { body, _permit: permit })
            }),
            LimitedAnswerProjection::Refused => Poll::Ready(Ok(refusal())),
        }
    }
}

fn refusal<B>() -> Response<LimitedBody<B>> {
    let mut response =
        Response::new(LimitedBody::Refused { text: Some(Bytes::from_static(ANSWER.as_bytes())) });
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    let headers = response.headers_mut();
    headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response
}

pin_project! {
    /// A body whose end, or that its caller disconnects, releases the permit of its request.
    #[project = LimitedBodyProjection]
    pub(super) enum LimitedBody<B> {
        Served {
            #[pin]
            body: B,
            _permit: Option<StreamPermit>,
        },
        Refused {
            text: Option<Bytes>,
        },
    }
}

impl<B: Body<Data = Bytes>> Body for LimitedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project() {
            LimitedBodyProjection::Served { body, .. } => body.poll_frame(context),
            LimitedBodyProjection::Refused { text } => {
                Poll::Ready(text.take().map(|text| Ok(Frame::data(text))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Served { body, .. } => body.is_end_stream(),
            Self::Refused { text } => text.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Served { body, .. } => body.size_hint(),
            Self::Refused { text } => SizeHint::with_exact(text.as_ref().map_or(0, Bytes::len) as u64),
        }
    }
}
