//! Resources that answers have shown to exist. A later answer for a list that lacks such a resource shows its deletion, even if the
//! list still has the entity tag of the stored response.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many are remembered. What was shown before a forgotten one counts as changed.
const MAX_REMEMBERED: usize = 4_096;

/// How many bytes their targets may have together.
const MAX_REMEMBERED_BYTES: usize = 1024 * 1024;

/// The resources that answers have shown to exist, and not as they were shown before.
#[derive(Debug, Default)]
pub struct Appearances(Mutex<Log>);

#[derive(Debug, Default)]
struct Log {
    /// The canonical target of each, with the position that the order of sending had reached; oldest first.
    recent: VecDeque<(u64, Box<str>)>,
    forgotten_order: u64,
    /// The position at which a mirror loaded a page: it showed more than is remembered one by one.
    load_order: u64,
    target_bytes: usize,
}

impl Appearances {
    /// Notes that an answer shows this resource to exist.
    pub(super) fn note(&self, sent_order: u64, canonical_target: &str) {
        let mut log = self.lock();
        log.target_bytes += canonical_target.len();
        log.recent.push_back((sent_order, canonical_target.into()));
        while log.recent.len() > MAX_REMEMBERED || log.target_bytes > MAX_REMEMBERED_BYTES {
            let Some((forgotten, target)) = log.recent.pop_front() else { break };
            log.target_bytes -= target.len();
            log.forgotten_order = forgotten;
        }
    }

    /// Notes that a mirror loaded a page.
    pub(super) fn note_load(&self, sent_order: u64) {
        self.lock().load_order = sent_order;
    }

    /// Those that were shown since something was sent at this position; `None` if some are forgotten.
    pub(super) fn since(&self, sent_order: u64) -> Option<Vec<Box<str>>> {
        let load_order = self.lock().load_order;
        let is_before_load = load_order > 0 && load_order >= sent_order;
        self.since_load(sent_order).filter(|_| !is_before_load)
    }

    /// The same for the mirror itself: what its load showed, its pages show.
    pub(super) fn since_load(&self, sent_order: u64) -> Option<Vec<Box<str>>> {
        let log = self.lock();
        let later = log.recent.iter().rev().take_while(|(order, _)| *order >= sent_order);
        // What a snapshot restored has position 0: everything was shown since.
        let is_known = log.forgotten_order == 0 || log.forgotten_order < sent_order;
        is_known.then(|| later.map(|(_, target)| target.clone()).collect())
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        // Nothing under this lock can panic half way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_shown_since_is_known_until_it_is_forgotten() {
        let appearances = Appearances::default();
        assert_eq!(appearances.since(1), Some(vec![]));
        assert_eq!(appearances.since(0), Some(vec![]));
        appearances.note(5, "/kv/a");
        appearances.note(6, "/kv/b");
        assert_eq!(appearances.since(7), Some(vec![]));
        assert_eq!(appearances.since(6), Some(vec!["/kv/b".into()]));
        assert_eq!(appearances.since(5).map(|shown| shown.len()), Some(2));
        assert_eq!(appearances.since(0).map(|shown| shown.len()), Some(2));
        for _ in 0..MAX_REMEMBERED - 1 {
            appearances.note(9, "/kv/c");
        }
        assert_eq!(appearances.since(5), None);
        assert_eq!(appearances.since(0), None);
        assert!(appearances.since(6).is_some());
    }

    #[test]
    fn targets_are_bounded_in_bytes() {
        let appearances = Appearances::default();
        let long = format!("/kv/{}", "k".repeat(MAX_REMEMBERED_BYTES / 4 - 4));
        for sent_order in 1..=6 {
            appearances.note(sent_order, &long);
        }
        assert_eq!(appearances.lock().target_bytes, MAX_REMEMBERED_BYTES);
        assert_eq!(appearances.since(2), None);
        assert_eq!(appearances.since(3).map(|shown| shown.len()), Some(4));
    }
}
