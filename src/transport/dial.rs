//! Connections to the upstream: how they are opened, and what is known about one when it fails.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A byte stream to an upstream.
pub trait UpstreamIo: AsyncRead + AsyncWrite + Send + Unpin {
    /// What the connector knows about the connection (HTTP/2 by ALPN, through a proxy).
    fn connected(&self) -> Connected {
        Connected::new()
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

    fn wrote(&self) {
        // The first write after a read begins a new request (HTTP/1.1 without pipelining, which hyper never does).
        if self.shared.reading.swap(false, Ordering::Relaxed)
            || self.shared.requests.load(Ordering::Relaxed) == 0
        {
            self.shared.requests.fetch_add(1, Ordering::Relaxed);
            self.shared.answer_bytes.store(0, Ordering::Relaxed);
        }
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
}

impl AsyncRead for UpstreamConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(context, buffer);
        self.usage.read((buffer.filled().len() - before) as u64);
        polled
    }
}

impl AsyncWrite for UpstreamConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.usage.wrote();
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.usage.wrote();
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
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

/// The connection as hyper takes it.
pub struct HyperConnection(TokioIo<UpstreamConnection>);

impl Connection for HyperConnection {
    fn connected(&self) -> Connected {
        let connection = self.0.inner();
        connection.io.connected().extra(connection.usage.clone())
    }
}

impl hyper::rt::Read for HyperConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl hyper::rt::Write for HyperConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(context, slices)
    }
}

/// hyper's connector: any [`Dial`] under one deadline.
#[derive(Clone)]
pub struct Connector {
    dial: Arc<dyn Dial>,
    deadline: Duration,
}

impl Connector {
    /// A connector that gives up after `deadline`, TLS handshake included.
    #[must_use]
    pub fn new(dial: Arc<dyn Dial>, deadline: Duration) -> Self {
        Self { dial, deadline }
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = HyperConnection;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<HyperConnection>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (dialling, deadline) = (self.dial.dial(uri), self.deadline);
        Box::pin(async move {
            let io = tokio::time::timeout(deadline, dialling).await.map_err(|_| {
                io::Error::new(io::ErrorKind::TimedOut, "no connection within the connect deadline")
            })??;
            Ok(HyperConnection(TokioIo::new(UpstreamConnection { io, usage: ConnectionUse::default() })))
        })
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
