//! What a session does when a clause is taken away: the mistake that the clause forbids. In test builds alone.
//!
//! Most functions take what is right and return what the mistake makes of it; with the clause on that is the same.

use super::{Session, SessionState};
use crate::clock::Timestamp;
use crate::sync_token::coverage::{Coverage, UncoveredReason};
use crate::sync_token::token::{PresentedToken, SyncToken};

impl<F> Session<F> {
    /// `required_apart_from_newest`: all that any answer brings is required of everything that is stored.
    pub(super) fn mistaken_requirement(
        &self,
        state: &SessionState<F>,
        required: u64,
        latest: u64,
    ) -> (u64, u64) {
        if self.clauses.required_apart_from_newest() || state.aggregate.overflowed() {
            return (required, latest);
        }
        (state.aggregate.version(), u64::MAX)
    }

    /// `latest_revelation_by_counter`: the latest revelation is known by the token of its answer.
    pub(super) fn mistaken_number_of_latest(&self, state: &SessionState<F>) -> Option<u64> {
        (!self.clauses.latest_revelation_by_counter()).then(|| state.aggregate.required_version())
    }

    /// `unanswered_id_stays_unknown`: a value whose id the origin does not answer with demands nothing.
    pub(super) fn take_unanswered_for_nothing(
        &self,
        state: &mut SessionState<F>,
        presented: &[PresentedToken],
        received: &[SyncToken],
    ) {
        if self.clauses.unanswered_id_stays_unknown() {
            return;
        }
        for value in presented {
            if received.iter().all(|token| token.id() != value.id()) {
                state.aggregate.known.remember(value, 0);
            }
        }
    }

    /// `callers_never_merged`: what a caller presents enters `newest`.
    pub(super) fn merge_callers_tokens(&self, presented: &[PresentedToken]) {
        if self.clauses.callers_never_merged() {
            return;
        }
        let forged: Vec<_> = presented
            .iter()
            .filter_map(|token| SyncToken::new(token.id(), token.value(), u64::MAX >> 12).ok())
            .collect();
        let mut state = self.lock();
        if state.aggregate.observe(&forged, Timestamp::default()) {
            self.publish(&state);
        }
    }

    /// `snapshot_counts_closed`: a snapshot remembers how many writes have opened.
    pub(super) fn mistaken_position(&self, state: &SessionState<F>, closed_position: u64) -> u64 {
        if self.clauses.snapshot_counts_closed() { closed_position } else { state.writes.opened_count }
    }

    /// `snapshot_counts_closed`: all writes that had opened before the snapshot count as included.
    pub(super) fn mistaken_outdates(
        &self,
        state: &SessionState<F>,
        outdates: Option<UncoveredReason>,
        covers: Coverage,
        touches: impl Fn(&F) -> bool,
    ) -> Option<UncoveredReason> {
        if self.clauses.snapshot_counts_closed() {
            return outdates;
        }
        let closed = state.writes.closed.iter().map(|write| (write.id, &write.footprint));
        let open = state.writes.open.iter().map(|(id, footprint)| (*id, footprint));
        let outdated = closed.chain(open).any(|(id, write)| id.0 > covers.closed_position && touches(write));
        outdated.then_some(UncoveredReason::OwnWrite)
    }

    /// `sent_not_received`: what was received counts as covered.
    pub fn covers_as_received(&self, covers: Coverage) -> Coverage {
        if self.clauses.sent_not_received() {
            return covers;
        }
        Coverage { newest_version: self.lock().aggregate.version(), ..covers }
    }
}
