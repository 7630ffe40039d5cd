//! A bounded cache of canonical forms. Clients ask for the same few targets again and again, and canonicalizing one
//! costs more than the rest of a hit.
//!
//! A fixed table of slots, each of which holds one target. A new target replaces the one in its slot, so the table
//! needs no other bound. Readers and writers take no lock.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;

/// The slots that one target can be in.
const WAYS: usize = 2;
const SLOTS: usize = 2_048;
/// Longer targets are canonicalized each time. A table full of the longest ones stays below 5 MiB: a canonical form is
/// at most three times as long as its target, a few separators aside.
const MAX_TARGET_BYTES: usize = 512;

/// A target as on the request line, and its canonical form.
#[derive(Debug)]
struct Entry {
    target: Box<str>,
    canonical: Arc<str>,
}

/// The canonical forms of recently used targets.
pub(super) struct CanonicalMemo {
    slots: Box<[ArcSwapOption<Entry>]>,
    // Random for each process, so that a caller cannot choose targets that share one slot.
    hasher: ahash::RandomState,
}

impl Default for CanonicalMemo {
    fn default() -> Self {
        Self {
            slots: (0..SLOTS).map(|_| ArcSwapOption::empty()).collect(),
            hasher: ahash::RandomState::new(),
        }
    }
}

impl fmt::Debug for CanonicalMemo {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("CanonicalMemo").finish_non_exhaustive()
    }
}

impl CanonicalMemo {
    /// The canonical form of a target with exactly these bytes, if it is known.
    pub(super) fn of(&self, target: &str) -> Option<Arc<str>> {
        self.slots(target).find_map(|slot| {
            let known = slot.load();
            let known = known.as_ref()?;
            (*known.target == *target).then(|| Arc::clone(&known.canonical))
        })
    }

    /// Keeps a canonical form in a free slot, else in the place of another.
    pub(super) fn keep(&self, target: &str, canonical: &str) {
        if target.len() > MAX_TARGET_BYTES {
            return;
        }
        let known = Entry { target: target.into(), canonical: canonical.into() };
        let free = self.slots(target).find(|slot| slot.load().is_none());
        if let Some(slot) = free.or_else(|| self.slots(target).nth(fastrand::usize(..WAYS))) {
            slot.store(Some(Arc::new(known)));
        }
    }

    /// The slots that a target may be in.
    fn slots(&self, target: &str) -> impl Iterator<Item = &ArcSwapOption<Entry>> {
        let hash = self.hasher.hash_one(target);
        #[expect(clippy::cast_possible_truncation, reason = "a part of the hash is as good as all of it")]
        let set = hash as usize % (SLOTS / WAYS);
        self.slots.iter().skip(set * WAYS).take(WAYS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_is_found_and_nothing_else() {
        let memo = CanonicalMemo::default();
        assert_eq!(memo.of("/kv/a"), None);
        memo.keep("/kv/a", "/kv/A");
        assert_eq!(memo.of("/kv/a").as_deref(), Some("/kv/A"));
        for other in ["/kv/A", "/kv/a?", "/kv/a?x", "/kv/", ""] {
            assert_eq!(memo.of(other), None, "{other}");
        }
    }

    #[test]
    fn however_many_targets_there_are_it_stays_bounded_and_right() {
        let memo = CanonicalMemo::default();
        let target = |number: usize| format!("/kv/{number}");
        for number in 0..4 * SLOTS {
            memo.keep(&target(number), &format!("canonical {number}"));
            assert_eq!(
                memo.of(&target(number)).as_deref(),
                Some(&*format!("canonical {number}")),
                "the latest is there"
            );
        }
        let found: Vec<_> =
            (0..4 * SLOTS).filter_map(|number| Some((number, memo.of(&target(number))?))).collect();
        assert!(found.len() <= SLOTS && found.len() > SLOTS / 2, "{}", found.len());
        assert!(found.iter().all(|(number, canonical)| **canonical == format!("canonical {number}")));
    }

    #[test]
    fn a_few_targets_never_drive_each_other_out_of_a_free_slot() {
        let memo = CanonicalMemo::default();
        memo.keep("/a", "a");
        let same_set = |target: &str| {
            let first = |target: &str| memo.slots(target).next().map(std::ptr::from_ref);
            first(target) == first("/a")
        };
        let other = (0..).map(|number| format!("/{number}")).find(|target| same_set(target)).unwrap();
        memo.keep(&other, "other");
        assert_eq!((memo.of("/a").as_deref(), memo.of(&other).as_deref()), (Some("a"), Some("other")));
    }

    #[test]
    fn long_targets_are_not_kept() {
        let memo = CanonicalMemo::default();
        let long = "x".repeat(MAX_TARGET_BYTES + 1);
        memo.keep(&long, "canonical");
        assert_eq!(memo.of(&long), None);
    }
}
