//! A body that arrives once and that several readers take as it arrives, each at its own pace.
//!
//! What not all have taken is kept, up to a window for which there is a permit of the budget. When the window is full, the source waits
//! for the slowest reader.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::sync::Notify;

use super::answer_body::Chained;
use crate::body::budget::{BufferBudget, BufferPermit};
use crate::body::{BodyError, FlowingBody};

/// One reader of a body that several read. A clone is another reader, and begins where this one is.
#[derive(Debug)]
pub struct SharedBody {
    arriving: Arc<Arriving>,
    number: u64,
    /// What this reader has not taken yet, if the length of the body is known.
    left_bytes: Option<u64>,
}

#[derive(Debug)]
struct Arriving {
    state: Mutex<State>,
    /// A reader has taken a piece, or is gone.
    changed: Notify,
    window_bytes: u64,
    _permit: BufferPermit,
}

#[derive(Debug, Default)]
struct State {
    /// What has arrived and not all readers have taken.
    pieces: VecDeque<Bytes>,
    kept_bytes: u64,
    /// How many pieces all readers have taken.
    taken_pieces: usize,
    /// Set when no more will arrive; an error says why not.
    end: Option<Result<(), String>>,
    readers: HashMap<u64, Position, ahash::RandomState>,
    next_number: u64,
}

#[derive(Debug, Default)]
struct Position {
    /// How many pieces this reader has taken.
    taken_pieces: usize,
    waiting: Option<Waker>,
}

impl SharedBody {
    /// Shares a body of which a part was read. It is read on in a task of its own, for as long as there is a reader. At most
    /// `limit_bytes` are kept beside what was read.
    ///
    /// # Errors
    /// The body itself, unshared, if the budget does not permit it.
    pub fn new(
        read: Bytes,
        rest: FlowingBody,
        limit_bytes: u64,
        budget: &Arc<BufferBudget>,
    ) -> Result<Self, FlowingBody> {
        let permitted_bytes = rest.size_hint().exact().map_or(limit_bytes, |length| length.min(limit_bytes));
        let window_bytes = read.len() as u64 + permitted_bytes;
        let mut permit = budget.permit();
        let body = Chained::of(read, rest);
        if !permit.grow(permitted_bytes) {
            return Err(body);
        }
        let left_bytes = body.size_hint().exact();
        let (state, changed) = (Mutex::default(), Notify::new());
        let arriving = Arc::new(Arriving { state, changed, window_bytes, _permit: permit });
        let reader = Arriving::reader(&arriving, 0, left_bytes);
        tokio::spawn(arriving.read(body));
        Ok(reader)
    }
}

impl Arriving {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock can panic half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reader(arriving: &Arc<Self>, taken_pieces: usize, left_bytes: Option<u64>) -> SharedBody {
        let mut state = arriving.lock();
        let number = state.next_number;
        state.next_number += 1;
        state.readers.insert(number, Position { taken_pieces, waiting: None });
        drop(state);
        SharedBody { arriving: Arc::clone(arriving), number, left_bytes }
    }

    /// Reads the body to its end, or until no reader is left.
    async fn read(self: Arc<Self>, mut body: FlowingBody) {
        loop {
            let frame = tokio::select! {
                biased;
                () = self.until(|state| state.readers.is_empty()) => return,
                frame = self.next(&mut body) => frame,
            };
            let (piece, end) = match frame {
                Some(Ok(frame)) => (frame.into_data().ok(), None),
                Some(Err(error)) => (None, Some(Err(error.to_string()))),
                None => (None, Some(Ok(()))),
            };
            let has_ended = end.is_some();
            let waiting: Vec<Waker> = {
                let mut state = self.lock();
                if let Some(piece) = piece {
                    state.kept_bytes += piece.len() as u64;
                    state.pieces.push_back(piece);
                }
                state.end = end;
                state.readers.values_mut().filter_map(|position| position.waiting.take()).collect()
            };
            waiting.into_iter().for_each(Waker::wake);
            if has_ended {
                return;
            }
        }
    }

    /// The next piece, when there is room for it.
    async fn next(&self, body: &mut FlowingBody) -> Option<Result<Frame<Bytes>, BodyError>> {
        self.until(|state| state.kept_bytes < self.window_bytes.max(1)).await;
        body.frame().await
    }

    async fn until(&self, condition: impl Fn(&State) -> bool) {
        loop {
            // Registered before looking, so that no change in between is missed.
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if condition(&self.lock()) {
                return;
            }
            changed.await;
        }
    }
}

impl State {
    /// Drops what all readers have taken.
    fn drop_taken(&mut self) {
        let slowest = self.readers.values().map(|position| position.taken_pieces).min();
        while slowest.is_some_and(|slowest| self.taken_pieces < slowest)
            && let Some(piece) = self.pieces.pop_front()
        {
            self.kept_bytes -= piece.len() as u64;
            self.taken_pieces += 1;
        }
    }
}

impl Body for SharedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let arriving = Arc::clone(&self.arriving);
        let mut guard = arriving.lock();
        let state = &mut *guard;
        let Some(position) = state.readers.get_mut(&self.number) else { return Poll::Ready(None) };
        let Some(piece) = state.pieces.get(position.taken_pieces - state.taken_pieces).cloned() else {
            return match &state.end {
                Some(Ok(())) => Poll::Ready(None),
                Some(Err(cause)) => Poll::Ready(Some(Err(BodyError::Received(cause.clone())))),
                None => {
                    position.waiting = Some(context.waker().clone());
                    Poll::Pending
                }
            };
        };
        position.taken_pieces += 1;
        state.drop_taken();
        drop(guard);
        arriving.changed.notify_waiters();
        self.left_bytes = self.left_bytes.map(|left_bytes| left_bytes.saturating_sub(piece.len() as u64));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn size_hint(&self) -> SizeHint {
        self.left_bytes.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Clone for SharedBody {
    fn clone(&self) -> Self {
        let taken_pieces =
            self.arriving.lock().readers.get(&self.number).map_or(0, |position| position.taken_pieces);
        Arriving::reader(&self.arriving, taken_pieces, self.left_bytes)
    }
}

impl Drop for SharedBody {
    fn drop(&mut self) {
        {
            let mut state = self.arriving.lock();
            state.readers.remove(&self.number);
            state.drop_taken();
        }
        self.arriving.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::channel::{Channel, Sender};

    use super::*;

    fn source() -> (Sender<Bytes, BodyError>, FlowingBody) {
        let (sender, body) = Channel::new(1);
        (sender, FlowingBody::Streaming(body.boxed_unsync()))
    }

    async fn next(reader: &mut SharedBody) -> Option<Bytes> {
        let frame = reader.frame().await?;
        Some(frame.expect("no failure").into_data().expect("data"))
    }

    #[tokio::test]
    async fn every_reader_gets_all_of_it_as_it_arrives_from_one_buffer() {
        let budget = BufferBudget::new(100);
        let (mut sender, rest) = source();
        let mut first = SharedBody::new(Bytes::from_static(b"read "), rest, 10, &budget).expect("permitted");
        assert_eq!(budget.used_bytes(), 10);
        let mut second = first.clone();
        assert_eq!(next(&mut first).await.expect("a piece"), "read ");
        sender.send_data(Bytes::from_static(b"more")).await.expect("read");
        let piece = next(&mut first).await.expect("a piece");
        assert_eq!(next(&mut second).await.expect("a piece"), "read ");
        assert_eq!(next(&mut second).await.expect("a piece").as_ptr(), piece.as_ptr());
        drop(sender);
        assert_eq!((next(&mut first).await, next(&mut second).await), (None, None));
        drop((first, second));
        assert_eq!(budget.used_bytes(), 0);
    }

    #[tokio::test]
    async fn the_source_waits_for_the_slowest_reader_at_the_window() {
        let budget = BufferBudget::new(100);
        let (mut sender, rest) = source();
        let mut fast = SharedBody::new(Bytes::new(), rest, 4, &budget).expect("permitted");
        let mut slow = fast.clone();
        let sending = tokio::spawn(async move {
            for piece in [b"aaaa", b"bbbb", b"cccc"] {
                sender.send_data(Bytes::from_static(piece)).await.expect("read");
            }
        });
        assert_eq!(next(&mut fast).await.expect("a piece"), "aaaa");
        assert!(futures_util::poll!(std::pin::pin!(fast.frame())).is_pending());
        tokio::task::yield_now().await;
        assert!(
            futures_util::poll!(std::pin::pin!(fast.frame())).is_pending(),
            "the slow one has taken nothing"
        );
        assert_eq!(next(&mut slow).await.expect("a piece"), "aaaa");
        assert_eq!(next(&mut fast).await.expect("a piece"), "bbbb");
        drop(slow);
        assert_eq!(next(&mut fast).await.expect("a piece"), "cccc");
        assert_eq!(next(&mut fast).await, None);
        sending.await.expect("all sent");
    }

    #[tokio::test]
    async fn without_readers_the_source_is_dropped() {
        let budget = BufferBudget::new(100);
        let (mut sender, rest) = source();
        let reader = SharedBody::new(Bytes::new(), rest, 4, &budget).expect("permitted");
        let other = reader.clone();
        drop(reader);
        sender.send_data(Bytes::from_static(b"a")).await.expect("one is left");
        drop(other);
        while sender.send_data(Bytes::from_static(b"a")).await.is_ok() {
            tokio::task::yield_now().await;
        }
        while budget.used_bytes() > 0 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_failure_reaches_all_readers_behind_what_arrived() {
        let budget = BufferBudget::new(100);
        let (mut sender, rest) = source();
        let mut first = SharedBody::new(Bytes::new(), rest, 10, &budget).expect("permitted");
        let mut second = first.clone();
        sender.send_data(Bytes::from_static(b"part")).await.expect("read");
        sender.abort(BodyError::Received("it broke off".into()));
        for reader in [&mut first, &mut second] {
            assert_eq!(next(reader).await.expect("a piece"), "part");
            let failure = reader.frame().await.expect("more").expect_err("a failure");
            assert_eq!(failure.to_string(), "it broke off");
        }
    }

    #[tokio::test]
    async fn without_a_permit_the_body_stays_with_its_first_reader() {
        let budget = BufferBudget::new(3);
        let (_sender, rest) = source();
        assert!(SharedBody::new(Bytes::new(), rest, 4, &budget).is_err());
        assert_eq!(budget.used_bytes(), 0);
    }
}
