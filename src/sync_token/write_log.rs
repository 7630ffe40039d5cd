//! The unsafe requests that went through this sidecar: rule 3 of coverage.
//!
//! A write is *open* from before its first byte is sent until its answer has arrived. Closing gives it a position; a snapshot
//! remembers the position reached. A stored response is outdated by every write that can have touched it and that is open or
//! closed after its snapshot. The log is bounded: what was evicted leaves its highest position behind, and everything sent
//! before that counts as touched. An open write is never evicted.

use std::collections::{BTreeMap, VecDeque};

use super::coverage::{Coverage, UncoveredReason};

/// How many closed writes are kept.
pub const MAX_CLOSED: usize = 1024;

/// Names one write while it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WriteId(pub(super) u64);

/// The log. `F` is the profile's footprint: what a write may have changed.
#[derive(Debug)]
pub struct WriteLog<F> {
    pub(super) open: BTreeMap<WriteId, F>,
    pub(super) closed: VecDeque<ClosedWrite<F>>,
    pub(super) opened_count: u64,
    closed_position: u64,
    evicted_position: u64,
}

#[derive(Debug)]
pub(super) struct ClosedWrite<F> {
    pub(super) id: WriteId,
    position: u64,
    pub(super) footprint: F,
}

impl<F> Default for WriteLog<F> {
    fn default() -> Self {
        Self {
            open: BTreeMap::new(),
            closed: VecDeque::new(),
            opened_count: 0,
            closed_position: 0,
            evicted_position: 0,
        }
    }
}

impl<F> WriteLog<F> {
    /// The position of the write that closed last: a snapshot remembers it.
    #[must_use]
    pub const fn closed_position(&self) -> u64 {
        self.closed_position
    }

    /// How many writes are open.
    #[must_use]
    pub fn open_count(&self) -> usize {
        self.open.len()
    }

    /// Opens a write, before its first byte is sent.
    pub fn open(&mut self, footprint: F) -> WriteId {
        self.opened_count += 1;
        let id = WriteId(self.opened_count);
        self.open.insert(id, footprint);
        id
    }

    /// Closes a write that happened, or whose outcome is unknown: from here on it outdates what it touches. `widen` adds
    /// what the answer named (`Location`, `Content-Location`).
    pub fn close(&mut self, id: WriteId, widen: impl FnOnce(F) -> F) {
        let Some(footprint) = self.open.remove(&id) else { return };
        self.closed_position += 1;
        if self.closed.len() >= MAX_CLOSED
            && let Some(evicted) = self.closed.pop_front()
        {
            self.evicted_position = evicted.position;
        }
        self.closed.push_back(ClosedWrite {
            id,
            position: self.closed_position,
            footprint: widen(footprint),
        });
    }

    /// Closes a write that did not happen: it outdates nothing.
    pub fn forget(&mut self, id: WriteId) {
        self.open.remove(&id);
    }

    /// Whether an open write other than `own` satisfies `touches`.
    #[must_use]
    pub fn another_is_open(&self, own: Option<WriteId>, touches: impl Fn(&F) -> bool) -> bool {
        self.open.iter().any(|(other, footprint)| Some(*other) != own && touches(footprint))
    }

    /// Whether a write other than `own` that satisfies `touches` may have closed after this snapshot.
    #[must_use]
    pub fn another_closed_since(&self, own: WriteId, covers: Coverage, touches: impl Fn(&F) -> bool) -> bool {
        covers.closed_position < self.evicted_position
            || self
                .closed
                .iter()
                .rev()
                .take_while(|write| write.position > covers.closed_position)
                .any(|write| write.id != own && touches(&write.footprint))
    }

    /// Why rule 3 fails for what has this coverage, if it does.
    #[must_use]
    pub fn outdates(&self, covers: Coverage, touches: impl Fn(&F) -> bool) -> Option<UncoveredReason> {
        if self.open.values().any(&touches) {
            return Some(UncoveredReason::OpenWrite);
        }
        let later = self.closed.iter().rev().take_while(|write| write.position > covers.closed_position);
        let outdated = covers.closed_position < self.evicted_position
            || later.into_iter().any(|write| touches(&write.footprint));
        outdated.then_some(UncoveredReason::OwnWrite)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken_now(log: &WriteLog<&str>) -> Coverage {
        Coverage { closed_position: log.closed_position(), ..Coverage::default() }
    }

    fn reason(log: &WriteLog<&str>, covers: Coverage, key: &str) -> Option<UncoveredReason> {
        log.outdates(covers, |footprint| *footprint == key)
    }

    #[test]
    fn a_write_outdates_from_its_opening_until_a_snapshot_sees_it_closed() {
        let mut log = WriteLog::default();
        let before = taken_now(&log);
        let write = log.open("k");
        let during = taken_now(&log);
        assert_eq!(reason(&log, before, "k"), Some(UncoveredReason::OpenWrite));
        assert_eq!(reason(&log, during, "k"), Some(UncoveredReason::OpenWrite));
        assert_eq!(reason(&log, before, "other"), None);
        log.close(write, |footprint| footprint);
        let after = taken_now(&log);
        assert_eq!(reason(&log, before, "k"), Some(UncoveredReason::OwnWrite));
        assert_eq!(reason(&log, during, "k"), Some(UncoveredReason::OwnWrite), "opened is not closed");
        assert_eq!(reason(&log, after, "k"), None);
    }

    #[test]
    fn a_write_that_did_not_happen_outdates_nothing() {
        let mut log = WriteLog::default();
        let before = taken_now(&log);
        let write = log.open("k");
        log.forget(write);
        assert_eq!(reason(&log, before, "k"), None);
    }

    #[test]
    fn what_the_answer_names_is_outdated_too() {
        let mut log = WriteLog::default();
        let before = taken_now(&log);
        let write = log.open("k");
        log.close(write, |_| "location");
        assert_eq!(reason(&log, before, "location"), Some(UncoveredReason::OwnWrite));
    }

    #[test]
    fn what_was_sent_before_an_evicted_write_counts_as_touched() {
        let mut log = WriteLog::default();
        let before = taken_now(&log);
        for _ in 0..MAX_CLOSED {
            let write = log.open("k");
            log.close(write, |footprint| footprint);
        }
        assert_eq!(reason(&log, before, "other"), None, "nothing evicted yet");
        let first_closed = Coverage { closed_position: 1, ..before };
        let write = log.open("k");
        log.close(write, |footprint| footprint);
        assert_eq!(reason(&log, before, "other"), Some(UncoveredReason::OwnWrite));
        assert_eq!(reason(&log, first_closed, "other"), None);
    }

    #[test]
    fn what_closed_beside_an_own_write_counts_if_it_touches_the_same() {
        let mut log = WriteLog::default();
        let (own, earlier) = (log.open("k"), log.open("k"));
        log.close(earlier, |footprint| footprint);
        let snapshot = taken_now(&log);
        let other = |log: &WriteLog<&str>, key| {
            log.another_closed_since(own, snapshot, |footprint| *footprint == key)
        };
        let unrelated = log.open("other");
        log.close(unrelated, |footprint| footprint);
        log.close(own, |footprint| footprint);
        assert!(!other(&log, "k"), "its own close and what was closed before do not count");
        assert!(other(&log, "other"));
        let late = log.open("k");
        assert!(!other(&log, "k"));
        log.close(late, |footprint| footprint);
        assert!(other(&log, "k"));
        for _ in 0..MAX_CLOSED {
            let write = log.open("x");
            log.close(write, |footprint| footprint);
        }
        assert!(other(&log, "forgotten"));
    }

    #[test]
    fn an_open_write_is_never_evicted() {
        let mut log = WriteLog::default();
        let slow = log.open("slow");
        for _ in 0..2 * MAX_CLOSED {
            let write = log.open("k");
            log.close(write, |footprint| footprint);
        }
        assert_eq!(reason(&log, taken_now(&log), "slow"), Some(UncoveredReason::OpenWrite));
        assert!(log.another_is_open(None, |footprint| *footprint == "slow"));
        assert!(!log.another_is_open(Some(slow), |footprint| *footprint == "slow"));
    }
}
