//! The store of responses: a map from cache key to the variants of one target, bounded in bytes.
//!
//! The store knows no HTTP. It tells variants apart by their opaque `SelectingKey`, and reads only the size and the
//! coverage of a response. [`decide`](crate::decide) says what may be stored and reused.

#[cfg(test)]
pub(crate) mod conformance;
mod memory;
mod variants;

pub use memory::MemoryStore;
pub use variants::Variants;

use crate::stored_response::{CacheKey, StoredResponse};

/// What an update does to the variants of a key.
#[derive(Clone, Debug)]
pub enum StoreChange {
    /// Keep the stored variants.
    Keep,
    /// Replace all stored variants with these.
    Put(Variants),
    /// Remove all of them.
    Remove,
}

/// A map from cache keys to variants, bounded in bytes. Every implementation passes the suite in
/// `store/conformance.rs`.
///
/// Changes of one key are atomic and happen one after the other. A response is visible to [`Store::variants`] on any
/// thread as soon as the change that put it has returned, unless capacity has evicted it since. A response is put
/// before its caller gets the last byte of its body, so that a request sent after that finds it.
pub trait Store: Send + Sync {
    /// The variants stored under `key`, most recent first. This is the hot path: responses are shared, not copied. It
    /// counts as a use of the key; the least recently used keys are evicted first.
    fn variants(&self, key: &CacheKey) -> Option<Variants>;

    /// Changes the variants of `key` atomically: `change` gets the stored variants and returns the change. No other
    /// change of the key, removal and purge included, happens meanwhile.
    ///
    /// `change` is called once, must be quick, and must not call the store.
    fn update(&self, key: &CacheKey, change: &mut dyn FnMut(Option<&Variants>) -> StoreChange);

    /// Removes what is stored under `key`; false when there was nothing.
    fn remove(&self, key: &CacheKey) -> bool;

    /// Removes every key that `matches` accepts and returns their number. Keys that are stored while this runs may be
    /// missed.
    fn remove_where(&self, matches: &dyn Fn(&CacheKey) -> bool) -> usize;

    /// Calls `visit` with every key and its variants, in no order. Keys that are stored or removed while this runs may be missed.
    /// It counts as no use.
    fn for_each(&self, visit: &mut dyn FnMut(&CacheKey, &Variants));

    /// How many changes there have been, removals included.
    fn changes(&self) -> u64;

    /// Number of keys.
    fn len(&self) -> usize;

    /// The bytes that the stored responses occupy, with keys, packed heads and bookkeeping.
    fn weight_bytes(&self) -> u64;

    /// The bound of [`Store::weight_bytes`].
    fn capacity_bytes(&self) -> u64;

    /// The most variants of one key; pass it to [`Variants::with`].
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
    /// that one is the newer ([`crate::decide::newer`]) and so stays.
    fn put(&self, key: &CacheKey, response: StoredResponse) -> bool {
        let mut incoming = Some(response);
        let mut stored = false;
        self.update(key, &mut |current| {
            let put = incoming.take().and_then(|response| match current {
                None => Some(Variants::of(response)),
                Some(variants) => variants.with_newer(response, self.variants_limit()),
            });
            stored = put.is_some();
            put.map_or(StoreChange::Keep, StoreChange::Put)
        });
        stored
    }
}
