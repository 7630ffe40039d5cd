//! Which stored responses answer most: hits by key, for the operator who allows that names of keys are shown (`admin.show_keys`).
//!
//! One hit in [`ONE_IN`] is counted, chosen at random, so that the others pay for a random number alone. Of those the keys that occur
//! most are kept, by the algorithm "Space-Saving" (Metwally, Agrawal, El Abbadi 2005): a key that is new takes the place, and the count,
//! of the one with the least. A count is too high by at most a [`MAX_KEYS`]th of all. All counts are halved each minute, so that what was
//! read long ago gives way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::stored_response::CacheKey;

/// One hit in so many is counted.
pub const ONE_IN: u8 = 16;

/// So many keys have a count.
pub const MAX_KEYS: usize = 128;

/// See the module.
#[derive(Debug, Default)]
pub struct HotKeys(Mutex<HashMap<CacheKey, u64, ahash::RandomState>>);

impl HotKeys {
    /// Notes a hit.
    pub fn note(&self, key: &CacheKey) {
        if fastrand::u8(..).is_multiple_of(ONE_IN) {
            self.count(key);
        }
    }

    fn count(&self, key: &CacheKey) {
        let mut counts = self.lock();
        if let Some(count) = counts.get_mut(key) {
            *count += 1;
            return;
        }
        let mut replaced = 0;
        if counts.len() >= MAX_KEYS {
            let least = counts.iter().min_by_key(|(_, count)| **count);
            if let Some((least, count)) = least.map(|(key, count)| (key.clone(), *count)) {
                counts.remove(&least);
                replaced = count;
            }
        }
        // The key of a request shares the memory of its target.
        counts.insert(key.detached(), replaced + 1);
    }

    /// Halves all counts: what came a minute ago counts half.
    pub fn halve(&self) {
        let mut counts = self.lock();
        counts.retain(|_, count| {
            *count /= 2;
            *count > 0
        });
    }

    /// All keys that have a count, with it. The sum of the counts is that of the hits that were counted.
    pub fn counts(&self) -> Vec<(CacheKey, u64)> {
        self.lock().iter().map(|(key, count)| (key.clone(), *count)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CacheKey, u64, ahash::RandomState>> {
        // Nothing under this lock can panic half way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is done with the key of a stored response that answers, beside answering. Most destinations have none: then a hit pays nothing
/// for it.
#[derive(Debug)]
pub struct KeyUse {
    /// It stands in `Cache-Status`.
    pub is_in_cache_status: bool,
    /// Hits are counted by it.
    pub counts: Option<Arc<HotKeys>>,
}

impl KeyUse {
    /// Notes an answer from the store or to it. Returns the key if it is to stand in `Cache-Status`.
    #[cold]
    pub(super) fn note(&self, key: &CacheKey, is_hit: bool) -> Option<CacheKey> {
        if let Some(counts) = self.counts.as_ref().filter(|_| is_hit) {
            counts.note(key);
        }
        self.is_in_cache_status.then(|| key.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> CacheKey {
        CacheKey::new("main", "", &format!("/{number}"))
    }

    fn count_of(hot: &HotKeys, number: u64) -> u64 {
        hot.counts().iter().find(|(found, _)| *found == key(number)).map_or(0, |(_, count)| *count)
    }

    #[test]
    fn a_key_in_heavy_use_is_found_among_any_number() {
        let hot = HotKeys::default();
        for number in 0..10_000 {
            hot.count(&key(number));
            if number % 10 == 0 {
                hot.count(&key(3));
            }
        }
        let counts = hot.counts();
        let total: u64 = counts.iter().map(|(_, count)| count).sum();
        assert_eq!((counts.len(), total), (MAX_KEYS, 11_000));
        assert!((1_001..=1_001 + total / 128).contains(&count_of(&hot, 3)), "{}", count_of(&hot, 3));
    }

    #[test]
    fn counts_fade() {
        let hot = HotKeys::default();
        (0..9).for_each(|_| hot.count(&key(1)));
        hot.count(&key(2));
        hot.halve();
        assert_eq!((count_of(&hot, 1), hot.counts().len()), (4, 1));
    }

    #[test]
    fn one_hit_in_sixteen_is_counted() {
        fastrand::seed(1);
        let hot = HotKeys::default();
        (0..16_000).for_each(|_| hot.note(&key(1)));
        assert!((900..1_100).contains(&count_of(&hot, 1)), "{}", count_of(&hot, 1));
    }
}
