//! A bounded memory of what follows from a text alone: the canonical form of a target, the treatment of a field name. Clients send the
//! same few again and again, and each costs more to find out than the rest of a hit.
//!
//! A fixed table of slots, each of which holds one text. A new text replaces the one in its slot, so the table
//! needs no other bound. Readers and writers take no lock.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;

/// The slots that one text can be in.
const WAYS: usize = 2;
const SLOTS: usize = 2_048;
/// Longer texts are not kept. A table full of the longest targets stays below 5 MiB: a canonical form is
/// at most three times as long as its target, a few separators aside.
const MAX_TEXT_BYTES: usize = 512;

/// A text, and what follows from it.
#[derive(Debug)]
struct Entry<V> {
    text: Box<str>,
    value: V,
}

/// What follows from recently used texts.
pub struct Memo<V> {
    slots: Box<[ArcSwapOption<Entry<V>>]>,
    // Random for each process, so that a caller cannot choose texts that share one slot.
    hasher: ahash::RandomState,
}

impl<V> Default for Memo<V> {
    fn default() -> Self {
        Self {
            slots: (0..SLOTS).map(|_| ArcSwapOption::empty()).collect(),
            hasher: ahash::RandomState::new(),
        }
    }
}

impl<V> fmt::Debug for Memo<V> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Memo").finish_non_exhaustive()
    }
}

impl<V: Clone> Memo<V> {
    /// What was kept for exactly this text.
    pub fn of(&self, text: &str) -> Option<V> {
        self.slots(text).find_map(|slot| {
            let known = slot.load();
            let known = known.as_ref()?;
            (*known.text == *text).then(|| known.value.clone())
        })
    }

    /// Keeps what follows from a text in a free slot, else in the place of another.
    pub fn keep(&self, text: &str, value: V) {
        if text.len() > MAX_TEXT_BYTES {
            return;
        }
        let known = Entry { text: text.into(), value };
        let free = self.slots(text).find(|slot| slot.load().is_none());
        if let Some(slot) = free.or_else(|| self.slots(text).nth(fastrand::usize(..WAYS))) {
            slot.store(Some(Arc::new(known)));
        }
    }

    /// The slots that a text may be in.
    fn slots(&self, text: &str) -> impl Iterator<Item = &ArcSwapOption<Entry<V>>> {
        let hash = self.hasher.hash_one(text);
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
        let memo = Memo::<Arc<str>>::default();
        assert_eq!(memo.of("/kv/a"), None);
        memo.keep("/kv/a", "/kv/A".into());
        assert_eq!(memo.of("/kv/a").as_deref(), Some("/kv/A"));
        for other in ["/kv/A", "/kv/a?", "/kv/a?x", "/kv/", ""] {
            assert_eq!(memo.of(other), None, "{other}");
        }
    }

    #[test]
    fn however_many_texts_there_are_it_stays_bounded_and_right() {
        let memo = Memo::<Arc<str>>::default();
        let target = |number: usize| format!("/kv/{number}");
        for number in 0..4 * SLOTS {
            memo.keep(&target(number), format!("canonical {number}").into());
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
    fn a_few_texts_never_drive_each_other_out_of_a_free_slot() {
        let memo = Memo::<Arc<str>>::default();
        memo.keep("/a", "a".into());
        let same_set = |target: &str| {
            let first = |target: &str| memo.slots(target).next().map(std::ptr::from_ref);
            first(target) == first("/a")
        };
        let other = (0..).map(|number| format!("/{number}")).find(|target| same_set(target)).unwrap();
        memo.keep(&other, "other".into());
        assert_eq!((memo.of("/a").as_deref(), memo.of(&other).as_deref()), (Some("a"), Some("other")));
    }

    #[test]
    fn long_texts_are_not_kept() {
        let memo = Memo::<Arc<str>>::default();
        let long = "x".repeat(MAX_TEXT_BYTES + 1);
        memo.keep(&long, "canonical".into());
        assert_eq!(memo.of(&long), None);
    }
}
