//! The transport of a connection, watched: bytes that arrive, bytes that cannot be written, a caller that disconnects while its
//! request is in service, and a `#` in a request target.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use memchr::{memchr, memchr_iter, memchr2};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::activity::Activity;
use super::frames::Protocol;
use super::listener::Stream;

/// A transport that writes down when bytes arrive and when none can be written.
#[derive(Debug)]
pub(super) struct Watched {
    transport: Stream,
    activity: Arc<Activity>,
    protocol: Protocol,
    in_request_line: bool,
    /// hyper itself has read the end of what the caller sends.
    ended: bool,
}

impl Watched {
    /// `http2` says whether a caller may speak HTTP/2.
    pub(super) fn new(transport: Stream, http2: bool, activity: Arc<Activity>) -> Self {
        let protocol = Protocol::of_listener(http2);
        Self { transport, activity, protocol, in_request_line: false, ended: false }
    }

    /// Whether this transport itself detects that a caller disconnects while its request is in service.
    ///
    /// Otherwise hyper must detect it, which it does by reading ahead. The request's head is still in its read buffer then, so each
    /// request costs another buffer of 8 KiB, even if no byte follows.
    pub(super) const fn detects_disconnect(&self) -> bool {
        matches!(self.transport, Stream::Tcp(_))
    }

    /// An error when the caller has closed its sending side while its request is in service: that counts as disconnected, as it does
    /// for hyper. hyper flushes whenever it is polled, so also after the wake-up of a closed connection.
    ///
    /// Behind unread bytes (a pipelined request, the rest of a body) the end cannot be detected, neither here nor by hyper. An end
    /// that hyper has read is left to hyper: the reader of a body that broke off gets the error.
    fn check_disconnect(&self, context: &mut Context<'_>) -> io::Result<()> {
        let Stream::Tcp(stream) = &self.transport else { return Ok(()) };
        if self.ended || !self.activity.is_in_http1_service() {
            return Ok(());
        }
        match stream.poll_peek(context, &mut ReadBuf::new(&mut [0])) {
            Poll::Ready(Ok(0)) => Err(io::ErrorKind::ConnectionAborted.into()),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(_)) | Poll::Pending => Ok(()),
        }
    }
}

/// A byte that a target must not contain: hyper refuses it (400).
const REFUSED: u8 = b'<';

/// Refuses a `#` in the request line that `received` begins in, and in those of pipelined requests behind it: `http::Uri` would
/// cut the target there without an error, and another resource would answer. Returns whether the line has ended.
fn refuse_fragment(received: &mut [u8]) -> bool {
    // On the path of every request: one search suffices for nearly all of them.
    if memchr(b'#', received).is_none() {
        return received.ends_with(b"\n") || memchr(b'\n', received).is_some();
    }
    let has_ended = memchr(b'\n', received).is_some();
    let mut request = received;
    while let Some(at) = memchr2(b'\n', b'#', request) {
        if request[at] == b'#' {
            request[at] = REFUSED;
            break;
        }
        let Some(next) = next_request(&request[at..]) else { break };
        request = &mut request[at + next..];
    }
    has_ended
}

/// Where the next request begins, if the head tells the length of the body. `received` begins with the end of a request line.
fn next_request(received: &[u8]) -> Option<usize> {
    let head_length = head_length(received)?;
    let next = head_length.checked_add(body_length(&received[..head_length])?)?;
    (next <= received.len()).then_some(next)
}

/// The length of a head with its empty line. Line feeds without carriage returns count, as they do for hyper.
fn head_length(received: &[u8]) -> Option<usize> {
    memchr_iter(b'\n', received).find_map(|line_end| match &received[line_end + 1..] {
        [b'\r', b'\n', ..] => Some(line_end + 3),
        [b'\n', ..] => Some(line_end + 2),
        _ => None,
    })
}

/// The length of a body by `Content-Length`; `None` if the head does not tell it.
fn body_length(head: &[u8]) -> Option<usize> {
    let mut length = 0;
    for line in head.split(|byte| *byte == b'\n') {
        let Some(colon) = memchr(b':', line) else { continue };
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            return None;
        }
        if name.eq_ignore_ascii_case(b"content-length") {
            length = std::str::from_utf8(value.trim_ascii()).ok()?.parse().ok()?;
        }
    }
    Some(length)
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
            let received = &mut buffer.filled_mut()[before..];
            let is_http1 = self.protocol.received(received).map_err(io::Error::other)?;
            if is_http1 && self.in_request_line {
                self.in_request_line = !refuse_fragment(received);
            }
        } else if polled.is_ready() {
            self.ended = true;
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
            self.check_disconnect(context)?;
        }
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(context)
    }
}
