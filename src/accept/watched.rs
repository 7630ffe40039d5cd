//! The transport of a connection, watched: bytes that arrive, bytes that cannot be written, a caller that leaves while its
//! request is in service, and a `#` where no target may have one.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use memchr::memchr2;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::activity::Activity;
use super::listener::Stream;

/// A transport that writes down when bytes arrive and when none can be written.
#[derive(Debug)]
pub(super) struct Watched {
    transport: Stream,
    activity: Arc<Activity>,
    in_request_line: bool,
}

impl Watched {
    pub(super) fn new(transport: Stream, activity: Arc<Activity>) -> Self {
        Self { transport, activity, in_request_line: false }
    }

    /// Whether this transport itself sees a caller leave while its request is in service.
    ///
    /// Otherwise hyper has to look, which it does by reading ahead: the request's head still lies in its read buffer then, so that
    /// every request costs another buffer of 8 KiB, whether anybody waits for it or not.
    pub(super) const fn sees_departure(&self) -> bool {
        matches!(self.transport, Stream::Tcp(_))
    }

    /// An error when the caller has closed its side while its request is in service. hyper flushes whenever it is polled: that is
    /// also after the wake-up that a closed connection brings.
    fn check_departure(&self, context: &mut Context<'_>) -> io::Result<()> {
        let Stream::Tcp(stream) = &self.transport else { return Ok(()) };
        if !self.activity.is_in_service() {
            return Ok(());
        }
        match stream.poll_peek(context, &mut ReadBuf::new(&mut [0])) {
            Poll::Ready(Ok(0)) => Err(io::ErrorKind::ConnectionAborted.into()),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(_)) | Poll::Pending => Ok(()),
        }
    }
}

/// Makes a `#` in a request line a byte that no target may hold, so that hyper refuses the request (400): `http::Uri` would cut
/// target and query there without a word, and another resource than the one that was named would answer. Says whether the line
/// has ended.
fn refuse_fragment(received: &mut [u8]) -> bool {
    // Asked about every request: one look for either byte is all that most of them cost.
    match memchr2(b'\n', b'#', received) {
        Some(at) if received[at] == b'#' => {
            received[at] = b'<';
            received[at..].contains(&b'\n')
        }
        line_end => line_end.is_some(),
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.transport).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.in_request_line |= self.activity.received();
            if self.in_request_line {
                self.in_request_line = !refuse_fragment(&mut buffer.filled_mut()[before..]);
            }
        }
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.transport).poll_write(context, bytes);
        self.activity.wrote(polled.is_ready());
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.transport).poll_write_vectored(context, slices);
        self.activity.wrote(polled.is_ready());
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // TLS holds what it could not write back until the flush: a flush that waits is a write that waits.
        let polled = Pin::new(&mut self.transport).poll_flush(context);
        if polled.is_pending() {
            self.activity.wrote(false);
        } else {
            self.check_departure(context)?;
        }
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(context)
    }
}
