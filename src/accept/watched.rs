//! The transport of a connection, watched: bytes that arrive, bytes that cannot be written, a caller that disconnects while its
//! request is in service, and a `#` in a request target.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use memchr::{memchr, memchr_iter, memchr2};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::activity::Activity;
use super::frames::Protocol;
use super::linger::Linger;
use super::listener::Stream;
use crate::body::unread::UnreadBody;
use crate::transport::joined_write::poll_write_joined;

/// A transport that writes down when bytes arrive and when none can be written.
#[derive(Debug)]
pub(super) struct Watched {
    transport: Stream,
    activity: Arc<Activity>,
    protocol: Protocol,
    in_request_line: bool,
    /// The turn of the connection's task, and how many bytes were read and written in it.
    turn: u32,
    turn_bytes: usize,
    /// hyper itself has read the end of what the caller sends.
    ended: bool,
    unread: UnreadBody,
    /// Set when the sending side is closed and the caller may still be sending.
    linger: Option<Linger>,
}

impl Watched {
    /// `http2` says whether a caller may speak HTTP/2; `unread` will say whether a request's body was left unread.
    pub(super) fn new(transport: Stream, http2: bool, activity: Arc<Activity>, unread: UnreadBody) -> Self {
        Self {
            transport,
            activity,
            protocol: Protocol::of_listener(http2),
            in_request_line: false,
            turn: 0,
            turn_bytes: 0,
            ended: false,
            unread,
            linger: None,
        }
    }

    /// Whether this transport itself detects that a caller disconnects while its request is in service.
    ///
    /// Otherwise hyper must detect it, which it does by reading ahead. The request's head is still in its read buffer then, so each
    /// request costs another buffer of 8 KiB, even if no byte follows.
    pub(super) const fn detects_disconnect(&self) -> bool {
        matches!(self.transport, Stream::Tcp(_))
    }

    /// Whether the task has moved its share of bytes in this turn. It then runs again after all others that are ready: one that
    /// moves a large body as fast as it can would keep them waiting for all of it.
    fn gives_turn(&mut self, context: &Context<'_>) -> bool {
        let turn = self.activity.turn();
        if turn != self.turn {
            (self.turn, self.turn_bytes) = (turn, 0);
        }
        let gives = self.turn_bytes >= TURN_BYTES;
        if gives {
            context.waker().wake_by_ref();
        }
        gives
    }

    fn wrote(&mut self, polled: &Poll<io::Result<usize>>) {
        self.activity.wrote(polled.is_ready());
        if let Poll::Ready(Ok(written_bytes)) = polled {
            self.turn_bytes += written_bytes;
        }
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

/// How many bytes a connection may read and write before the tasks of others have their turn.
const TURN_BYTES: usize = 128 * 1024;

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
        if self.gives_turn(context) {
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.transport).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.in_request_line |= self.activity.received();
            let received = &mut buffer.filled_mut()[before..];
            self.turn_bytes += received.len();
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
        if self.gives_turn(context) {
            return Poll::Pending;
        }
        let polled = Pin::new(&mut self.transport).poll_write(context, bytes);
        self.wrote(&polled);
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.gives_turn(context) {
            return Poll::Pending;
        }
        let polled = poll_write_joined(Pin::new(&mut self.transport), context, slices);
        self.wrote(&polled);
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
        let this = &mut *self;
        if this.linger.is_none() {
            ready!(Pin::new(&mut this.transport).poll_shutdown(context))?;
            if !this.unread.is_left() {
                return Poll::Ready(Ok(()));
            }
        }
        loop {
            if this.gives_turn(context) {
                return Poll::Pending;
            }
            let linger = this.linger.get_or_insert_with(Linger::begin);
            // A failure says that the caller is gone.
            match ready!(linger.poll_discard(Pin::new(&mut this.transport), context)) {
                Ok(0) | Err(_) => return Poll::Ready(Ok(())),
                Ok(read_bytes) => this.turn_bytes += read_bytes,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};

    use tokio::io::AsyncWriteExt as _;

    use super::*;
    use crate::accept::activity::Ticks;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn a_large_body_is_read_in_turns() {
        let (mut caller, transport) = tokio::io::duplex(4 * TURN_BYTES);
        caller.write_all(&vec![b'x'; 3 * TURN_BYTES]).await.expect("room");
        let activity = Arc::new(Activity::new(Arc::new(Ticks::default())));
        let mut watched =
            Watched::new(Stream::Memory(transport), false, Arc::clone(&activity), UnreadBody::default());
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let mut context = Context::from_waker(&waker);
        let mut memory = vec![0; 16 * 1024];
        for turn in 1..=3 {
            activity.served_by(&context);
            let mut turn_bytes = 0;
            loop {
                let mut buffer = ReadBuf::new(&mut memory);
                match Pin::new(&mut watched).poll_read(&mut context, &mut buffer) {
                    Poll::Ready(read) => read.expect("no failure"),
                    Poll::Pending => break,
                }
                turn_bytes += buffer.filled().len();
            }
            assert_eq!(turn_bytes, TURN_BYTES);
            assert_eq!(wakes.0.load(Ordering::Relaxed), turn, "the task runs again");
        }
    }
}
