//! Hit-for-miss: keys whose last answer could not be stored. A request for such a key does not wait for the fetch of another
//! request, because it could not use the answer, and sends its caller's own condition.

use super::slot_table::SlotTable;
use crate::stored_response::CacheKey;

/// The keys whose last answer was for its caller alone.
#[derive(Debug, Default)]
pub struct HitForMiss(SlotTable);

impl HitForMiss {
    /// Whether the last answer for this key was for its caller alone.
    #[must_use]
    pub fn contains(&self, key: &CacheKey) -> bool {
        self.0.contains(key)
    }

    /// Remembers that the last answer for this key was for its caller alone.
    pub fn insert(&self, key: &CacheKey) {
        self.0.insert(key, 0);
    }

    /// Forgets a key: its last answer was stored.
    pub fn remove(&self, key: &CacheKey) {
        self.0.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_remembered_until_its_answer_is_stored() {
        let table = HitForMiss::default();
        let (key, other) = (CacheKey::new("main", "", "/a"), CacheKey::new("main", "", "/b"));
        table.insert(&key);
        assert!(table.contains(&key) && !table.contains(&other));
        table.remove(&other);
        assert!(table.contains(&key));
        table.remove(&key);
        assert!(!table.contains(&key));
    }
}
