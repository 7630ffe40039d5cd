//! Hit-for-miss: keys whose last answer could not be stored. A request for such a key does not wait for the fetch of another
//! request, because it could not use the answer, and sends its caller's own condition.

use super::slot_table::SlotTable;
use crate::decide::storable::NotStored;
use crate::stored_response::CacheKey;

/// The keys whose last answer was for its caller alone.
#[derive(Debug, Default)]
pub struct HitForMiss(SlotTable<Option<NotStored>>);

impl HitForMiss {
    /// Why the last answer for this key could not be stored; `None` if it could.
    #[must_use]
    pub fn reason(&self, key: &CacheKey) -> Option<NotStored> {
        self.0.get(key).flatten()
    }

    /// Remembers that the last answer for this key was for its caller alone.
    pub fn insert(&self, key: &CacheKey, reason: NotStored) {
        self.0.insert(key, Some(reason));
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
        table.insert(&key, NotStored::Private);
        assert_eq!((table.reason(&key), table.reason(&other)), (Some(NotStored::Private), None));
        table.remove(&other);
        assert_eq!(table.reason(&key), Some(NotStored::Private));
        table.remove(&key);
        assert_eq!(table.reason(&key), None);
    }
}
