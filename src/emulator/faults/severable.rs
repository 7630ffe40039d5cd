//! A connection that can be cut after a given number of bytes. hyper offers no other way to end it within an answer's
//! head.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Cuts one connection. Every request of the connection has a clone of it in its extensions.
#[derive(Debug, Clone)]
pub struct Severance(Arc<AtomicU64>);

/// No cut is planned.
const WHOLE: u64 = u64::MAX;

impl Severance {
    /// Ends the connection after this many more bytes.
    pub fn cut_after(&self, bytes: u64) {
        self.0.store(bytes.min(WHOLE - 1), Ordering::SeqCst);
    }

    fn left(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// A transport that its [`Severance`] can cut.
#[derive(Debug)]
pub struct SeverableIo<T> {
    transport: T,
    severance: Severance,
}

impl<T> SeverableIo<T> {
    /// Wraps a transport.
    pub fn new(transport: T) -> Self {
        Self { transport, severance: Severance(Arc::new(AtomicU64::new(WHOLE))) }
    }

    /// The handle that cuts it.
    pub fn severance(&self) -> Severance {
        self.severance.clone()
    }

    /// How many bytes of a write of `length` bytes may pass.
    fn allowed(&self, length: usize) -> io::Result<usize> {
        match self.severance.left() {
            WHOLE => Ok(length),
            0 => Err(io::Error::new(io::ErrorKind::BrokenPipe, super::body::Severed)),
            left => Ok(usize::try_from(left).unwrap_or(usize::MAX).min(length)),
        }
    }

    fn passed(&self, written: usize) {
        let left = self.severance.left();
        if left != WHOLE {
            self.severance.0.store(left.saturating_sub(written as u64), Ordering::SeqCst);
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for SeverableIo<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for SeverableIo<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let allowed = self.allowed(data.len())?;
        let written = std::task::ready!(Pin::new(&mut self.transport).poll_write(context, &data[..allowed]))?;
        self.passed(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.severance.left() == WHOLE {
            return Pin::new(&mut self.transport).poll_write_vectored(context, slices);
        }
        let first = slices.iter().find(|slice| !slice.is_empty()).map_or(&[][..], |slice| slice);
        self.poll_write(context, first)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn a_cut_lets_exactly_the_given_bytes_pass() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut io = SeverableIo::new(near);
        let severance = io.severance();
        io.write_all(b"whole ").await.unwrap();
        severance.cut_after(3);
        let error = io.write_all(b"broken").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        drop(io);
        let mut received = String::new();
        far.read_to_string(&mut received).await.unwrap();
        assert_eq!(received, "whole bro");
    }

    #[tokio::test]
    async fn vectored_writes_are_cut_too() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut io = SeverableIo::new(near);
        io.severance().cut_after(4);
        let slices = [io::IoSlice::new(b""), io::IoSlice::new(b"abc"), io::IoSlice::new(b"def")];
        let mut written = 0;
        while let Ok(count) = io.write_vectored(&slices).await {
            written += count;
        }
        assert_eq!(written, 4);
        drop(io);
        let mut received = Vec::new();
        far.read_to_end(&mut received).await.unwrap();
        assert_eq!(received.len(), 4);
    }
}
