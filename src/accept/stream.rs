//! One HTTP/2 stream, cut when its caller takes nothing of its response.
//!
//! The windows of HTTP/2 are the caller's: a stream whose window stays closed waits without a byte on the wire, so that the deadline of
//! the connection does not see it. Each response is handed over in pieces of one frame. The stream's task is ended when none is taken
//! within the deadline, which resets the stream.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::rt::Executor;
use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tracing::info;

/// The length of a piece: that of a frame, unless the caller asks for larger ones (RFC 9113 §4.2).
pub(super) const PIECE_BYTES: usize = 16 * 1024;

/// What the caller of one stream has taken of its response.
#[derive(Debug, Default)]
pub(super) struct StreamProgress {
    /// The pieces that were asked for: HTTP/2 asks for the next when the window has room for the one before.
    pieces: AtomicU32,
    /// Whether a piece was given at the last time, and not the source of the body waited for.
    waits_for_caller: AtomicBool,
}

impl StreamProgress {
    /// The next piece was asked for; `is_given` says whether there was one.
    pub(super) fn asked(&self, is_given: bool) {
        self.pieces.fetch_add(1, Ordering::Relaxed);
        self.waits_for_caller.store(is_given, Ordering::Relaxed);
    }
}

/// Takes the next piece. The last one of several is copied: what HTTP/2 still holds of it then does not keep the whole body in
/// memory after the stream's task has ended.
pub(super) fn next_piece(rest: &mut Bytes, is_split: &mut bool) -> Bytes {
    if rest.len() > PIECE_BYTES {
        *is_split = true;
        return rest.split_to(PIECE_BYTES);
    }
    let last = std::mem::take(rest);
    if std::mem::take(is_split) { Bytes::copy_from_slice(&last) } else { last }
}

/// Runs the streams of one HTTP/2 connection, each in a task of its own.
#[derive(Clone, Debug)]
pub(super) struct StreamExecutor {
    stall_limit: Duration,
    /// The stream that the service was called for last: hyper hands over its future next.
    called: Arc<Mutex<Option<Arc<StreamProgress>>>>,
}

impl StreamExecutor {
    pub(super) fn new(stall_limit: Duration) -> Self {
        Self { stall_limit, called: Arc::default() }
    }

    /// The progress of the stream for which the service is called.
    pub(super) fn begin(&self) -> Arc<StreamProgress> {
        let progress = Arc::new(StreamProgress::default());
        *self.called.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&progress));
        progress
    }
}

impl<F> Executor<F> for StreamExecutor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        let called = self.called.lock().unwrap_or_else(PoisonError::into_inner).take();
        match called {
            Some(progress) => {
                let stall_limit = self.stall_limit;
                tokio::spawn(StreamTask { future, progress, seen_pieces: 0, stall_limit, stalled: None });
            }
            None => {
                tokio::spawn(future);
            }
        }
    }
}

pin_project! {
    /// The task of one stream.
    struct StreamTask<F> {
        #[pin]
        future: F,
        progress: Arc<StreamProgress>,
        seen_pieces: u32,
        stall_limit: Duration,
        // Made when the caller keeps the stream waiting: most responses are taken at once.
        stalled: Option<Pin<Box<Sleep>>>,
    }
}

impl<F: Future<Output = ()>> Future for StreamTask<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.future.poll(context).is_ready() {
            return Poll::Ready(());
        }
        if !this.progress.waits_for_caller.load(Ordering::Relaxed) {
            *this.stalled = None;
            return Poll::Pending;
        }
        let pieces = this.progress.pieces.load(Ordering::Relaxed);
        let has_taken = pieces != std::mem::replace(this.seen_pieces, pieces);
        let deadline = || Box::pin(tokio::time::sleep(*this.stall_limit));
        let stalled = match this.stalled {
            Some(stalled) if !has_taken => stalled,
            stalled => stalled.insert(deadline()),
        };
        ready!(stalled.as_mut().poll(context));
        info!(
            seconds = this.stall_limit.as_secs(),
            "a stream was cut: its caller took nothing of the response"
        );
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_those_of_a_frame_and_the_last_holds_only_itself() {
        let body = Bytes::from(vec![b'x'; 2 * PIECE_BYTES + 10]);
        let (mut rest, mut is_split) = (body.clone(), false);
        for _ in 0..2 {
            let piece = next_piece(&mut rest, &mut is_split);
            assert_eq!(piece.len(), PIECE_BYTES);
            assert!(body.as_ptr_range().contains(&piece.as_ptr()), "not copied");
        }
        let last = next_piece(&mut rest, &mut is_split);
        assert_eq!(last, body[2 * PIECE_BYTES..]);
        assert!(!body.as_ptr_range().contains(&last.as_ptr()), "copied");
        assert!(rest.is_empty());
        let (mut whole, mut is_split) = (body.slice(..10), false);
        let piece = next_piece(&mut whole, &mut is_split);
        assert!(body.as_ptr_range().contains(&piece.as_ptr()), "a body of one piece is not copied");
    }
}
