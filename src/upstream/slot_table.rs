//! A table of fixed size for what is worth remembering but never needed: a lost entry costs work, not correctness.

use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

const SLOTS: usize = 4_096;

/// Remembers a value for each of some keys. Only a fingerprint of the key is kept, in the slot that its hash names; two keys of one
/// slot push each other out.
#[derive(Debug)]
pub struct SlotTable<V = u64> {
    /// Fingerprint of the key, zero where there is none, and the value.
    slots: Mutex<Box<[(u64, V)]>>,
    hasher: ahash::RandomState,
}

impl<V: Copy + Default> Default for SlotTable<V> {
    fn default() -> Self {
        Self { slots: Mutex::new(vec![(0, V::default()); SLOTS].into()), hasher: ahash::RandomState::new() }
    }
}

impl<V: Copy + Default> SlotTable<V> {
    /// Remembers `value` for `key`, and returns the one that was remembered before.
    pub fn insert(&self, key: impl Hash, value: V) -> Option<V> {
        let (slot, fingerprint) = self.slot_of(key);
        let (before, old) = std::mem::replace(&mut self.lock()[slot], (fingerprint, value));
        (before == fingerprint).then_some(old)
    }

    /// The value that is remembered for `key`.
    #[must_use]
    pub fn get(&self, key: impl Hash) -> Option<V> {
        let (slot, fingerprint) = self.slot_of(key);
        let (found, value) = self.lock()[slot];
        (found == fingerprint).then_some(value)
    }

    /// Forgets `key`. Another key in its slot stays.
    pub fn remove(&self, key: impl Hash) {
        let (slot, fingerprint) = self.slot_of(key);
        let found = &mut self.lock()[slot];
        if found.0 == fingerprint {
            *found = (0, V::default());
        }
    }

    /// Forgets `key` unless what is remembered for it satisfies `keeps`.
    pub fn remove_unless(&self, key: impl Hash, keeps: impl FnOnce(&V) -> bool) {
        let (slot, fingerprint) = self.slot_of(key);
        let found = &mut self.lock()[slot];
        if found.0 == fingerprint && !keeps(&found.1) {
            *found = (0, V::default());
        }
    }

    /// The hash of a value, by the table's own keys: it differs from one process to another.
    #[must_use]
    pub fn hash_of(&self, value: impl Hash) -> u64 {
        self.hasher.hash_one(value)
    }

    fn slot_of(&self, key: impl Hash) -> (usize, u64) {
        // Zero stands for no key.
        let fingerprint = self.hash_of(key) | 1;
        (usize::try_from(fingerprint >> 1).unwrap_or_default() % SLOTS, fingerprint)
    }

    fn lock(&self) -> MutexGuard<'_, Box<[(u64, V)]>> {
        // Nothing under this lock can panic half way through a change.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_its_own_value_until_it_is_removed() {
        let table = SlotTable::default();
        assert_eq!(table.insert("a", 1), None);
        assert_eq!(table.insert("a", 2), Some(1));
        assert_eq!((table.get("a"), table.get("b")), (Some(2), None));
        table.remove("b");
        assert!(table.get("a").is_some());
        table.remove_unless("a", |number| *number == 2);
        table.remove_unless("b", |number| *number == 1);
        assert!(table.get("a").is_some());
        table.remove_unless("a", |number| *number == 1);
        assert!(table.get("a").is_none());
        table.insert("a", 3);
        table.remove("a");
        assert!(table.get("a").is_none());
    }

    #[test]
    fn its_size_stays() {
        let table = SlotTable::default();
        for number in 0..100_000_u64 {
            table.insert(number, number);
        }
        let left = (0..100_000_u64).filter(|number| table.get(number).is_some()).count();
        assert!(left <= SLOTS && left > SLOTS / 2, "{left}");
    }
}
