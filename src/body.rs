//! Bodies of messages: towards callers, and upstream; and the memory that they may take.

pub mod budget;
pub mod buffer;
pub mod unread;

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;

/// Why a body under way stopped. The connection on which it was passed on is closed before the end of the body, so that
/// the receiver sees that it is incomplete (RFC 9112 §8).
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The upstream's answer broke off: shorter than its `Content-Length`, an unterminated chunk, a closed connection.
    #[error("the upstream's body broke off: {0}")]
    Upstream(hyper::Error),
    /// The upstream sent nothing for too long.
    #[error(
        "the upstream sent no more of its body within {seconds} s; raise body_stall_deadline if it is that slow"
    )]
    UpstreamStalled {
        /// The deadline that passed.
        seconds: u64,
    },
    /// The caller's request body broke off, is malformed, too large or too slow.
    #[error("the caller's body stopped: {0}")]
    Caller(String),
    /// The received bytes are not a complete body: it broke off, or its framing is malformed.
    #[error("{0}")]
    Received(String),
}

/// A body that streams through without being buffered.
pub type StreamingBody = UnsyncBoxBody<Bytes, BodyError>;

/// A body in memory, or one that streams through.
#[derive(Debug, Default)]
pub enum FlowingBody {
    /// No body at all.
    #[default]
    Empty,
    /// The whole body, in memory.
    Full(Bytes),
    /// A body that arrives piece by piece.
    Streaming(StreamingBody),
}

impl FlowingBody {
    /// The same body once more; `None` if it streams.
    pub fn to_repeat(&self) -> Option<Self> {
        match self {
            Self::Empty => Some(Self::Empty),
            Self::Full(bytes) => Some(Self::Full(bytes.clone())),
            Self::Streaming(_) => None,
        }
    }
}

impl From<Bytes> for FlowingBody {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() { Self::Empty } else { Self::Full(bytes) }
    }
}

impl Body for FlowingBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Self::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Self::Streaming(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(_) => false,
            Self::Streaming(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Streaming(body) => body.size_hint(),
        }
    }
}
