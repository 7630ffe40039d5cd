//! One connection: hyper's HTTP/1 (or HTTP/2 where asked), watched, told to drain or cut from outside.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http::{Request, Response, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use pin_project_lite::pin_project;

use super::activity::{Activity, CutReason, InService, Order};
use super::counts::ConnectionCounts;
use super::http2_requests::{Limited, STREAMS};
use super::listener::Stream;
use super::stream::{PIECE_BYTES, StreamExecutor, StreamProgress, next_piece};
use super::watched::Watched;
use super::{AcceptLimits, CallerService, LiveAcceptLimits};
use crate::body::unread::UnreadBody;

/// How a connection came to its end: the word in logs and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnectionEnd {
    /// Closed by either side between requests, or after an answer that said so.
    Closed,
    /// The caller disconnected in the middle of a request or of its answer.
    CallerLeft,
    /// Not HTTP: hyper answered 400 by itself and closed.
    Malformed,
    /// The header section, its number of fields, or the target exceeds the limits: hyper answered 431 or 414 and closed.
    HeaderTooLarge,
    /// An answer broke off. The connection is closed, so that the caller detects the incomplete answer.
    AnswerBrokeOff,
    /// The TLS handshake failed.
    TlsHandshake,
    /// Cut by the sweeper.
    Cut(CutReason),
}

impl ConnectionEnd {
    /// The word for logs and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::CallerLeft => "caller-left",
            Self::Malformed => "malformed",
            Self::HeaderTooLarge => "header-too-large",
            Self::AnswerBrokeOff => "answer-broke-off",
            Self::TlsHandshake => "tls-handshake",
            Self::Cut(CutReason::SlowHeader) => "slow-header",
            Self::Cut(CutReason::Idle) => "idle",
            Self::Cut(CutReason::SlowReader) => "slow-reader",
            Self::Cut(CutReason::Drained) => "drained",
        }
    }

    /// The words of the ends that are counted: those that are not by agreement.
    pub(super) const ERRORS: [&'static str; 8] = [
        Self::CallerLeft.as_str(),
        Self::Malformed.as_str(),
        Self::HeaderTooLarge.as_str(),
        Self::AnswerBrokeOff.as_str(),
        Self::TlsHandshake.as_str(),
        Self::Cut(CutReason::SlowHeader).as_str(),
        Self::Cut(CutReason::SlowReader).as_str(),
        Self::Cut(CutReason::Drained).as_str(),
    ];

    /// Whether nothing went wrong: closed between requests, by either side.
    #[must_use]
    pub const fn is_by_agreement(self) -> bool {
        matches!(self, Self::Closed | Self::Cut(CutReason::Idle))
    }

    /// Reads hyper's error. What hyper answered by itself (400, 414, 431) the service never saw.
    fn of(error: &(dyn Error + 'static)) -> Self {
        let Some(error) = error.downcast_ref::<hyper::Error>() else { return Self::CallerLeft };
        if error.is_parse_too_large() {
            Self::HeaderTooLarge
        } else if error.is_parse() {
            Self::Malformed
        } else if error.is_user() || error.is_body_write_aborted() {
            Self::AnswerBrokeOff
        } else {
            Self::CallerLeft
        }
    }
}

/// Serves one connection to its end.
pub(super) async fn serve<S: CallerService>(
    stream: Stream,
    http2: bool,
    service: S,
    live: &LiveAcceptLimits,
    counts: &ConnectionCounts,
    activity: Arc<Activity>,
) -> ConnectionEnd {
    let (limits, unread) = (live.current(), UnreadBody::default());
    let transport = Watched::new(stream, http2, Arc::clone(&activity), unread.clone());
    let detects_disconnect = transport.detects_disconnect();
    let io = TokioIo::new(transport);
    if http2 {
        let executor = StreamExecutor::new(limits.write_stall);
        let mut builder = http1_or_http2(&limits, executor.clone());
        let service = Limited { service, requests: counts.http2_requests(live.clone()) };
        let service = Watching { service, activity: Arc::clone(&activity), unread, streams: Some(executor) };
        builder.http1().half_close(detects_disconnect);
        Driven { connection: builder.serve_connection(io, service).into_owned(), activity, told: false }.await
    } else {
        let mut builder = http1_only(&limits);
        let service = Watching { service, activity: Arc::clone(&activity), unread, streams: None };
        builder.half_close(detects_disconnect);
        let connection = builder.serve_connection(io, service);
        Driven { connection, activity, told: false }.await
    }
}

/// hyper counts what it has buffered, which may be a read more than the header section.
const READ_AHEAD_BYTES: usize = 8 * 1024;

/// hyper's default number of field lines. Setting another costs an allocation a request.
const HYPER_HEADER_FIELDS: usize = 100;

fn http1_only(limits: &AcceptLimits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .header_read_timeout(None)
        .max_header_size(limits.header_section_bytes)
        .max_buf_size(limits.header_section_bytes.saturating_add(READ_AHEAD_BYTES));
    if limits.header_fields != HYPER_HEADER_FIELDS {
        builder.max_headers(limits.header_fields);
    }
    builder
}

/// How many bytes of request bodies a caller may send ahead of what is read of them (RFC 9113 §6.9): on one stream, and on a connection.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 256 * 1024;

fn http1_or_http2(limits: &AcceptLimits, executor: StreamExecutor) -> auto::Builder<StreamExecutor> {
    let mut builder = auto::Builder::new(executor);
    let mut http1 = builder.http1();
    http1.header_read_timeout(None).max_buf_size(limits.header_section_bytes.max(READ_AHEAD_BYTES));
    if limits.header_fields != HYPER_HEADER_FIELDS {
        http1.max_headers(limits.header_fields);
    }
    builder
        .http2()
        .max_header_list_size(u32::try_from(limits.header_section_bytes).unwrap_or(u32::MAX))
        .max_send_buf_size(PIECE_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(Some(STREAMS));
    builder
}

/// A connection that can be asked to finish what it is doing and then close.
trait Drainable: Future<Output = Result<(), Self::Failure>> {
    type Failure;

    fn drain(self: Pin<&mut Self>);

    fn end_of(failure: &Self::Failure) -> ConnectionEnd;
}

impl<I, B, S> Drainable for http1::Connection<I, S>
where
    S: hyper::service::HttpService<Incoming, ResBody = B>,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    B: Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Failure = hyper::Error;

    fn drain(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }

    fn end_of(failure: &hyper::Error) -> ConnectionEnd {
        ConnectionEnd::of(failure)
    }
}

impl<I, B, S> Drainable for auto::Connection<'static, I, S, StreamExecutor>
where
    S: Service<Request<Incoming>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Failure = Box<dyn Error + Send + Sync>;

    fn drain(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }

    fn end_of(failure: &Self::Failure) -> ConnectionEnd {
        ConnectionEnd::of(&**failure)
    }
}

pin_project! {
    /// A connection that obeys orders from outside.
    struct Driven<C> {
        #[pin]
        connection: C,
        activity: Arc<Activity>,
        told: bool,
    }
}

impl<C: Drainable> Future for Driven<C> {
    type Output = ConnectionEnd;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<ConnectionEnd> {
        let mut this = self.project();
        // Before the order is read: an order that is given afterwards then finds the waker.
        this.activity.served_by(context);
        match this.activity.order() {
            Order::Serve => {}
            Order::Drain => {
                if !std::mem::replace(this.told, true) {
                    this.connection.as_mut().drain();
                }
            }
            Order::Cut(reason) => return Poll::Ready(ConnectionEnd::Cut(reason)),
        }
        this.connection.poll(context).map(|served| match served {
            Ok(()) => ConnectionEnd::Closed,
            Err(failure) => C::end_of(&failure),
        })
    }
}

/// The service of one connection, watched: the sweeper must know whether a request is in service.
struct Watching<S> {
    service: S,
    activity: Arc<Activity>,
    unread: UnreadBody,
    /// Where HTTP/2 is spoken.
    streams: Option<StreamExecutor>,
}

impl<S, B> Service<Request<Incoming>> for Watching<S>
where
    S: Service<Request<Incoming>, Response = Response<B>>,
    B: Body,
{
    type Response = Response<WatchedBody<B>>;
    type Error = S::Error;
    type Future = Answering<S::Future>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let version = request.version();
        // An HTTP/2 stream ends without its connection (RFC 9113 §8.1).
        if version != Version::HTTP_2 && !request.body().is_end_stream() {
            request.extensions_mut().insert(self.unread.clone());
        }
        let in_service = InService::begin(&self.activity, version);
        let streams = self.streams.as_ref().filter(|_| version == Version::HTTP_2);
        let progress = streams.map(StreamExecutor::begin);
        Answering { answer: self.service.call(request), in_service: Some(in_service), progress }
    }
}

pin_project! {
    struct Answering<F> {
        #[pin]
        answer: F,
        in_service: Option<InService>,
        progress: Option<Arc<StreamProgress>>,
    }
}

impl<F, B, E> Future for Answering<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<WatchedBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        this.answer.poll(context).map_ok(|response| {
            let (in_service, progress) = (this.in_service.take(), this.progress.take());
            response.map(|body| WatchedBody {
                body,
                rest: Bytes::new(),
                is_split: false,
                progress,
                _in_service: in_service,
            })
        })
    }
}

pin_project! {
    /// A body. Its end, or that its caller disconnects, ends the service of its request. On an HTTP/2 stream it goes in pieces.
    struct WatchedBody<B> {
        #[pin]
        body: B,
        // What is left of a frame of which the first pieces are gone.
        rest: Bytes,
        is_split: bool,
        progress: Option<Arc<StreamProgress>>,
        _in_service: Option<InService>,
    }
}

impl<B: Body> Body for WatchedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        let next = || {
            // Bytes are not copied by this.
            let in_bytes = |mut data: B::Data| data.copy_to_bytes(data.remaining());
            this.body.poll_frame(context).map_ok(|frame| frame.map_data(in_bytes))
        };
        let Some(progress) = this.progress else { return next() };
        if this.rest.is_empty() {
            let polled = next();
            progress.asked(polled.is_ready());
            match ready!(polled) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => *this.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end_or_error => return Poll::Ready(end_or_error),
            }
        } else {
            progress.asked(true);
        }
        Poll::Ready(Some(Ok(Frame::data(next_piece(this.rest, this.is_split)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // Asked for before the first piece.
        self.body.size_hint()
    }
}
