//! The writes of one session: opened before their first byte, closed before their answer is passed on.

use std::sync::atomic::Ordering;

use super::{Session, SessionState};
use crate::clock::instant;
use crate::sync_token::coverage::Coverage;
use crate::sync_token::write_log::{Indexed, WriteId};

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    /// The origin said so, or said something from which it follows (2xx, 3xx; 409 and 412 for App Configuration).
    Happened,
    /// The origin refused it, or it never left.
    DidNotHappen,
    /// It is not known: no answer, 5xx, 408.
    Unknown,
}

/// Whether a write has closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteClosed {
    /// It has, and the log reached this position.
    Closed {
        /// The position of the last closed write, this one if it happened.
        position: u64,
    },
    /// Its outcome is unknown and no tokens would tell that it took effect late: call [`Session::settle_write`] after the settle time.
    StaysOpen,
}

impl<F: Indexed> Session<F> {
    /// Opens a write, before its first byte is sent.
    pub fn open_write(&self, footprint: F) -> WriteId {
        let mut state = self.lock();
        let id = state.writes.open(footprint);
        self.mirror_writes(&state);
        id
    }

    /// Closes a write; says whether it stays open for the settle time instead: without tokens, or with a constant one, an unknown
    /// write may take effect late and nothing would tell. Then the caller of this function closes it again, as happened, when that time
    /// has passed.
    pub fn close_write(&self, id: WriteId, outcome: WriteOutcome, widen: impl FnOnce(F) -> F) -> WriteClosed {
        let mut state = self.lock();
        match outcome {
            WriteOutcome::Unknown if !self.clauses.unknown_counts_as_happened() => state.writes.forget(id),
            WriteOutcome::Unknown if self.clauses.unknown_stays_open() && !state.aggregate.moved() => {
                return WriteClosed::StaysOpen;
            }
            WriteOutcome::Happened | WriteOutcome::Unknown => {
                state.writes.close(id, widen);
                let position = state.writes.closed_position();
                state.fleet.own_closed(id.0, position, instant());
            }
            WriteOutcome::DidNotHappen => state.writes.forget(id),
        }
        self.mirror_writes(&state);
        let position = state.writes.closed_position();
        drop(state);
        self.write_closed.notify_waiters();
        WriteClosed::Closed { position }
    }

    /// Whether a write other than `own` that satisfies `touches` may have closed after this snapshot: asked once `own` is closed.
    pub fn another_closed_since(&self, own: WriteId, covers: Coverage, touches: impl Fn(&F) -> bool) -> bool {
        self.lock().writes.another_closed_since(own, covers, touches)
    }

    /// Closes a write that stayed open for the settle time.
    pub fn settle_write(&self, id: WriteId) {
        let mut state = self.lock();
        state.writes.close(id, |footprint| footprint);
        let position = state.writes.closed_position();
        state.fleet.own_closed(id.settled().0, position, instant());
        self.mirror_writes(&state);
        drop(state);
        self.write_closed.notify_waiters();
    }

    /// How many open writes satisfy `touches`.
    pub fn open_writes(&self, touches: impl Fn(&F) -> bool) -> usize {
        self.lock().writes.open.values().filter(|footprint| touches(footprint)).count()
    }

    /// Waits until no open write other than `own` satisfies `touches`. The caller bounds the wait.
    pub async fn others_closed(&self, own: Option<WriteId>, touches: impl Fn(&F) -> bool) {
        loop {
            // Registered before looking, so that a close in between is not missed.
            let mut closed = std::pin::pin!(self.write_closed.notified());
            closed.as_mut().enable();
            if !self.lock().writes.another_is_open(own, &touches) {
                return;
            }
            closed.await;
        }
    }

    pub(super) fn mirror_writes(&self, state: &SessionState<F>) {
        self.closed_position.store(state.writes.closed_position(), Ordering::SeqCst);
        self.open_writes.store(state.writes.open_count() as u64, Ordering::SeqCst);
    }
}
