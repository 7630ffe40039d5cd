//! Connections to the upstream: how they are opened, and what is known about one when it fails.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use http::Uri;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::informational::InformationalCount;
use super::joined_write::poll_write_joined;

/// A byte stream to an upstream.
pub trait UpstreamIo: AsyncRead + AsyncWrite + Send + Unpin {
    /// Whether both ends agreed on HTTP/2 (by ALPN).
    fn is_http2(&self) -> bool {
        false
    }
}

impl UpstreamIo for tokio::io::DuplexStream {}

/// How connections are opened: over the network, or in memory for tests and simulations.
pub trait Dial: Send + Sync {
    /// Opens a connection to the authority of `uri`.
    fn dial(&self, uri: Uri) -> BoxFuture<'static, io::Result<Box<dyn UpstreamIo>>>;
}

impl<F> Dial for F
where
    F: Fn(Uri) -> BoxFuture<'static, io::Result<Box<dyn UpstreamIo>>> + Send + Sync,
{
    fn dial(&self, uri: Uri) -> BoxFuture<'static, io::Result<Box<dyn UpstreamIo>>> {
        self(uri)
    }
}

/// What happened on one connection: it decides whether a failed request may be sent again (see
/// [`client`](super::client)).
#[derive(Clone, Debug, Default)]
pub struct ConnectionUse {
    shared: Arc<UseCounts>,
}

#[derive(Debug, Default)]
struct UseCounts {
    requests: AtomicU64,
    answer_bytes: AtomicU64,
    reading: AtomicBool,
}

impl ConnectionUse {
    /// Whether the connection was reused and failed before the first byte of the answer to its last request.
    #[must_use]
    pub fn broke_on_reuse_without_answer(&self) -> bool {
        self.shared.requests.load(Ordering::Relaxed) > 1
            && self.shared.answer_bytes.load(Ordering::Relaxed) == 0
    }

    /// Whether a request begins with this write.
    fn wrote(&self) -> bool {
        // The first write after a read begins a new request (HTTP/1.1 without pipelining, which hyper never does).
        let begins =
            self.shared.reading.load(Ordering::Relaxed) || self.shared.requests.load(Ordering::Relaxed) == 0;
        if begins {
            self.shared.reading.store(false, Ordering::Relaxed);
            self.shared.requests.fetch_add(1, Ordering::Relaxed);
            self.shared.answer_bytes.store(0, Ordering::Relaxed);
        }
        begins
    }

    fn read(&self, bytes: u64) {
        if bytes > 0 {
            self.shared.reading.store(true, Ordering::Relaxed);
            self.shared.answer_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}

/// A connection with its [`ConnectionUse`].
pub struct UpstreamConnection {
    io: Box<dyn UpstreamIo>,
    usage: ConnectionUse,
    /// `None`: HTTP/2.
    informational: Option<InformationalCount>,
}

impl UpstreamConnection {
    /// Counts in `usage` what happens on `io`.
    #[must_use]
    pub fn new(io: Box<dyn UpstreamIo>, usage: ConnectionUse) -> Self {
        let informational = (!io.is_http2()).then(InformationalCount::default);
        Self { io, usage, informational }
    }

    fn wrote(&mut self) {
        if self.usage.wrote()
            && let Some(informational) = &mut self.informational
        {
            *informational = InformationalCount::default();
        }
    }
}

impl AsyncRead for UpstreamConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(context, buffer);
        let received = buffer.filled().get(before..).unwrap_or_default();
        self.usage.read(received.len() as u64);
        if let Some(informational) = &mut self.informational {
            informational.read(received)?;
        }
        polled
    }
}

impl AsyncWrite for UpstreamConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.wrote();
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.wrote();
        poll_write_joined(Pin::new(&mut *self.io), context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reused_connection_that_gave_no_byte_is_told_from_a_fresh_one() {
        let usage = ConnectionUse::default();
        usage.wrote();
        usage.wrote();
        assert!(!usage.broke_on_reuse_without_answer(), "one request, written in two pieces");
        usage.read(120);
        usage.wrote();
        assert!(usage.broke_on_reuse_without_answer());
        usage.read(1);
        assert!(!usage.broke_on_reuse_without_answer(), "one byte of the answer arrived");
    }
}
