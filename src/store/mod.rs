//! Where stored responses live: a map from cache key to the variants of one target, bounded in bytes.
//!
//! The store knows no HTTP: a variant is told from another by its opaque `SelectingKey`, and of the rest of a response
//! the store needs the size and the coverage. What may be stored or reused is decided in `decide`.

#[cfg(test)]
pub(crate) mod conformance;
mod memory;
mod variants;

pub use memory::MemoryStore;
pub use variants::Variants;

use crate::stored_response::{CacheKey, StoredResponse};

/// What shall be stored under a key from now on.
#[derive(Clone, Debug)]
pub enum StoreChange {
    /// What is there stays.
    Keep,
    /// These variants take the place of all that is there.
    Put(Variants),
    /// Nothing is stored any more.
    Remove,
}

/// A map from cache keys to variants, bounded in bytes. Every implementation passes the suite in `store/conformance.rs`.
///
/// Changes of one key are atomic and happen one after the other; what a change has put is visible to every later
/// [`Store::variants`] on any thread (`caching.md` rule 2), unless capacity has evicted it since.
pub trait Store: Send + Sync {
    /// The variants stored under `key`, most recent first. The hot path: responses are shared, not copied; counts as a use of the
    /// key, and the least recently used keys are evicted first.
    fn variants(&self, key: &CacheKey) -> Option<Variants>;

    /// Changes what is stored under `key` atomically: `change` sees what is there now and says what shall be. No other
    /// change of that key happens meanwhile, removal and purging included.
    ///
    /// `change` is called once, must be quick, and must not call the store.
    fn update(&self, key: &CacheKey, change: &mut dyn FnMut(Option<&Variants>) -> StoreChange);

    /// Removes what is stored under `key`; false when there was nothing.
    fn remove(&self, key: &CacheKey) -> bool;

    /// Removes every key that `outgoing` accepts and returns how many those were. Keys stored while this runs may be missed.
    fn remove_where(&self, outgoing: &dyn Fn(&CacheKey) -> bool) -> usize;

    /// Number of keys.
    fn len(&self) -> usize;

    /// What the stored responses really occupy, keys, packed heads and bookkeeping included, in bytes.
    fn weight_bytes(&self) -> u64;

    /// The bound of [`Store::weight_bytes`].
    fn capacity_bytes(&self) -> u64;

    /// How many variants of one key are kept side by side; pass it to [`Variants::with`].
    fn variants_limit(&self) -> usize;

    /// Number of keys that capacity has evicted so far; replaced, removed and purged ones do not count.
    fn evictions(&self) -> u64;

    /// Whether nothing is stored.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Removes everything and returns how many keys that were.
    fn clear(&self) -> usize {
        self.remove_where(&|_| true)
    }

    /// Stores a response beside the other variants of its key, in place of the one with an equal selecting key. False when
    /// that one covers more and therefore stays (design, section 3: what comes back late replaces nothing greater).
    fn put(&self, key: &CacheKey, response: StoredResponse) -> bool {
        let mut incoming = Some(response);
        let mut stored = false;
        self.update(key, &mut |current| {
            let put = incoming.take().and_then(|response| match current {
                None => Some(Variants::of(response)),
                Some(variants) => variants.with(response, self.variants_limit()),
            });
            stored = put.is_some();
            put.map_or(StoreChange::Keep, StoreChange::Put)
        });
        stored
    }
}
