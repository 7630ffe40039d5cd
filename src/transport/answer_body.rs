//! The body of an upstream answer: read whole if it is to be stored, else streamed. Both have a deadline.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use prometheus::IntCounter;
use tokio::time::Sleep;

use super::received_body::ReceivedBody;
use crate::body::budget::BufferBudget;
use crate::body::buffer::BodyBuffer;
use crate::body::{BodyError, FlowingBody};

/// An upstream body that fails if no piece of it arrives within the deadline. Trailers are dropped: an answer from the
/// store could not repeat them, and RFC 9110 §6.5.1 permits it.
#[derive(Debug)]
pub struct AnswerBody {
    incoming: ReceivedBody,
    stall_deadline: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
    received_bytes: IntCounter,
    /// The pieces that [`AnswerBody::read_ahead`] has read, a failure included.
    ahead: VecDeque<Result<Bytes, BodyError>>,
}

impl AnswerBody {
    /// Guards a body and counts its bytes.
    #[must_use]
    pub fn new(incoming: ReceivedBody, stall_deadline: Duration, received_bytes: IntCounter) -> Self {
        Self { incoming, stall_deadline, stalled: None, received_bytes, ahead: VecDeque::new() }
    }

    /// The whole content, if it is not longer than `limit_bytes`. The body still yields every byte afterwards. The
    /// future may be dropped at any time.
    pub async fn read_ahead(&mut self, limit_bytes: usize) -> Option<Vec<u8>> {
        if self.size_hint().lower() > limit_bytes as u64 {
            return None;
        }
        let mut content = Vec::new();
        while let Some(frame) = poll_fn(|context| self.poll_incoming(context)).await {
            let data = frame.map(|frame| frame.into_data().unwrap_or_default());
            if let Ok(data) = &data {
                content.extend_from_slice(data);
            }
            let goes_on = data.is_ok() && content.len() <= limit_bytes;
            self.ahead.push_back(data);
            if !goes_on {
                return None;
            }
        }
        Some(content)
    }

    fn poll_incoming(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.incoming).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) if frame.is_trailers() => Poll::Ready(None),
            Poll::Ready(Some(Ok(frame))) => {
                self.stalled = None;
                self.received_bytes.inc_by(frame.data_ref().map_or(0, |data| data.len() as u64));
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(BodyError::Upstream(error)))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                let stall_deadline = self.stall_deadline;
                let stalled =
                    self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(stall_deadline)));
                if stalled.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                Poll::Ready(Some(Err(BodyError::UpstreamStalled { seconds: stall_deadline.as_secs() })))
            }
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.ahead.pop_front() {
            Some(read) => Poll::Ready(Some(read.map(Frame::data))),
            None => self.poll_incoming(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ahead.is_empty() && self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let ahead_bytes = self.ahead.iter().flatten().map(|data| data.len() as u64).sum();
        behind(ahead_bytes, &self.incoming.size_hint())
    }
}

/// The body as a stream for the caller.
#[must_use]
pub fn streaming(body: AnswerBody) -> FlowingBody {
    if body.is_end_stream() { FlowingBody::Empty } else { FlowingBody::Streaming(body.boxed_unsync()) }
}

/// The result of reading a body whole.
#[derive(Debug)]
pub enum WholeBody {
    /// All of it.
    Complete(Bytes),
    /// Not all of it: the part that was read, and the rest as a stream.
    Partly {
        /// What was read.
        read: Bytes,
        /// What comes after it.
        rest: FlowingBody,
        /// Why no more was read.
        why: NotReadWhole,
    },
    /// It broke off: no part of it may be stored (RFC 9111 §3.3).
    Broken(BodyError),
    /// No request waits for it any more.
    Abandoned,
}

/// Why a body is not read whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotReadWhole {
    /// It is longer than the limit.
    TooLarge,
    /// It takes longer than the limit.
    TooSlow,
    /// The budget of buffered bodies is used up.
    NoBudget,
}

/// Reads a body up to a limit of bytes and of time, within the budget. A slow body becomes a stream, so that its reader gets each
/// piece at once and no request waits for the end. `given_up` resolves if no request waits any more.
pub async fn read_whole(
    mut body: FlowingBody,
    limit_bytes: u64,
    patience: Duration,
    budget: &Arc<BufferBudget>,
    given_up: impl Future<Output = ()>,
) -> WholeBody {
    // An announced length over the limit is streamed from the first byte.
    if body.size_hint().lower() > limit_bytes {
        return WholeBody::Partly { read: Bytes::new(), rest: body, why: NotReadWhole::TooLarge };
    }
    let mut given_up = std::pin::pin!(given_up);
    let mut too_slow = std::pin::pin!(tokio::time::sleep(patience));
    let mut read = BodyBuffer::new(budget, body.size_hint().exact());
    loop {
        let frame = tokio::select! {
            biased;
            frame = body.frame() => frame,
            () = &mut given_up => return WholeBody::Abandoned,
            () = &mut too_slow => {
                return WholeBody::Partly { read: read.freeze(), rest: body, why: NotReadWhole::TooSlow };
            }
        };
        match frame {
            None => return WholeBody::Complete(read.freeze()),
            Some(Err(error)) => return WholeBody::Broken(error),
            Some(Ok(frame)) => {
                let Ok(data) = frame.into_data() else { continue };
                let is_too_large = read.len_bytes() + data.len() as u64 > limit_bytes;
                if is_too_large || !read.push(&data) {
                    let why = if is_too_large { NotReadWhole::TooLarge } else { NotReadWhole::NoBudget };
                    let rest = Chained::of(data, body);
                    return WholeBody::Partly { read: read.freeze(), rest, why };
                }
            }
        }
    }
}

/// Bytes in memory, and the body that follows them.
#[derive(Debug)]
pub struct Chained {
    first: Option<Bytes>,
    rest: FlowingBody,
}

impl Chained {
    /// Makes one body of both.
    #[must_use]
    pub fn of(first: Bytes, rest: FlowingBody) -> FlowingBody {
        if first.is_empty() {
            return rest;
        }
        FlowingBody::Streaming(Self { first: Some(first), rest }.boxed_unsync())
    }
}

impl Body for Chained {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.first.take() {
            Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            None => Pin::new(&mut self.rest).poll_frame(context),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let held_bytes = self.first.as_ref().map_or(0, |bytes| bytes.len() as u64);
        behind(held_bytes, &self.rest.size_hint())
    }
}

/// The size of the bytes in memory and of the body that follows them.
fn behind(held_bytes: u64, rest: &SizeHint) -> SizeHint {
    let mut hint = SizeHint::new();
    hint.set_lower(rest.lower() + held_bytes);
    if let Some(upper) = rest.upper() {
        hint.set_upper(upper + held_bytes);
    }
    hint
}
