//! Closing a connection whose caller may still be sending (RFC 9112 §9.6). If it were closed with unread bytes, the system would reset
//! it, and the reset takes the answer away that the caller has not read yet: a caller that sends a body over the limit would see a
//! broken pipe, not the 413. So only the sending side is closed, and what arrives is read and thrown away until the caller closes, within
//! bounds.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Sleep;

/// How long a caller may go on sending, or keep the connection, after its answer.
const LINGER: Duration = Duration::from_secs(5);

/// How much it may go on sending.
const LINGER_BYTES: usize = 64 << 20;

/// How much is read at once.
const PIECE_BYTES: usize = 16 * 1024;

/// The end of one connection, after its sending side was closed.
#[derive(Debug)]
pub(super) struct Linger {
    deadline: Pin<Box<Sleep>>,
    bytes_left: usize,
}

impl Linger {
    pub(super) fn begin() -> Self {
        Self { deadline: Box::pin(tokio::time::sleep(LINGER)), bytes_left: LINGER_BYTES }
    }

    /// Reads one piece and throws it away. `Ok(0)`: it is over, because the caller has closed or a bound is reached.
    pub(super) fn poll_discard(
        &mut self,
        transport: Pin<&mut impl AsyncRead>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.bytes_left == 0 || self.deadline.as_mut().poll(context).is_ready() {
            return Poll::Ready(Ok(0));
        }
        let mut piece = [std::mem::MaybeUninit::uninit(); PIECE_BYTES];
        let mut piece = ReadBuf::uninit(&mut piece);
        ready!(transport.poll_read(context, &mut piece))?;
        let read_bytes = piece.filled().len();
        self.bytes_left = self.bytes_left.saturating_sub(read_bytes);
        Poll::Ready(Ok(read_bytes))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    async fn discarded(linger: &mut Linger, transport: &mut tokio::io::DuplexStream) -> usize {
        let mut bytes = 0;
        loop {
            let poll = |context: &mut Context<'_>| linger.poll_discard(Pin::new(&mut *transport), context);
            match std::future::poll_fn(poll).await.expect("memory does not fail") {
                0 => return bytes,
                more => bytes += more,
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_with_the_caller_and_at_both_bounds() {
        let started = crate::clock::instant();
        let (mut caller, mut transport) = tokio::io::duplex(1 << 20);
        caller.write_all(&[0; 100]).await.expect("room");
        drop(caller);
        assert_eq!(discarded(&mut Linger::begin(), &mut transport).await, 100, "the caller closed");
        assert!(started.elapsed().is_zero());

        let (mut caller, mut transport) = tokio::io::duplex(1 << 20);
        let mut linger = Linger { bytes_left: 1_000, ..Linger::begin() };
        caller.write_all(&[0; 5_000]).await.expect("room");
        assert!(discarded(&mut linger, &mut transport).await >= 1_000, "it sent as much as it may");
        assert!(started.elapsed().is_zero());

        let (_silent, mut transport) = tokio::io::duplex(1 << 20);
        assert_eq!(discarded(&mut Linger::begin(), &mut transport).await, 0);
        assert_eq!(started.elapsed(), LINGER, "it kept the connection as long as it may");
    }
}
