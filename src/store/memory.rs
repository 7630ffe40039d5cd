//! The store in memory. The weigher in this file and the operator's capacity bound the memory.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use moka::notification::RemovalCause;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use super::variants::{Variants, allocation_bytes};
use super::{Store, StoreChange};
use crate::stored_response::CacheKey;

/// The bytes that moka and its queues keep for one key beside key and value; measured by `benches/store.rs`.
const MAP_ENTRY_BYTES: u64 = 300;

/// The number of locks for changes of keys: more than workers, so that two changes seldom wait for each other.
const CHANGE_LOCKS: usize = 64;

type Map = Cache<CacheKey, Variants, ahash::RandomState>;

/// Stored responses in memory, bounded in bytes. The least recently used key is evicted first.
///
/// moka is the map, not the policy. It has no time to live. `get_with` is not used, because its initialiser starts anew
/// if its first caller is cancelled. The policy is LRU, because the default (TinyLFU) rejects new entries once the map
/// is full. Reads take no lock. Changes of a key take one of `CHANGE_LOCKS`, so that no removal falls between the
/// reading and the writing of an update.
pub struct MemoryStore {
    map: Map,
    change_locks: Box<[Mutex<()>]>,
    evictions: Arc<AtomicU64>,
    changes: AtomicU64,
    capacity_bytes: u64,
    variants_limit: usize,
}

impl MemoryStore {
    /// An empty store that holds at most `capacity_bytes` of keys, heads, bodies and bookkeeping, and at most
    /// `variants_limit` variants of one key.
    pub fn new(capacity_bytes: u64, variants_limit: usize) -> Self {
        let evictions = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&evictions);
        let map = Cache::builder()
            .max_capacity(capacity_bytes)
            .eviction_policy(EvictionPolicy::lru())
            .weigher(weight_bytes)
            .eviction_listener(move |_, _, cause| {
                if cause == RemovalCause::Size {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            })
            .build_with_hasher(ahash::RandomState::new());
        let change_locks = std::iter::repeat_with(|| Mutex::new(())).take(CHANGE_LOCKS).collect();
        Self { map, change_locks, evictions, changes: AtomicU64::new(0), capacity_bytes, variants_limit }
    }

    fn lock_changes(&self, key: &CacheKey) -> MutexGuard<'_, ()> {
        let sum = key
            .as_bytes()
            .iter()
            .fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte)));
        // The lock guards no data of its own: a panic under it leaves nothing half done.
        self.change_locks[sum % CHANGE_LOCKS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes moka evict now. By itself it waits for dozens of writes, which for bodies of some MiB is a multiple of the
    /// capacity.
    fn evict_down_to_capacity(&self) {
        loop {
            self.map.run_pending_tasks();
            let before = self.map.entry_count();
            if self.map.weighted_size() <= self.capacity_bytes {
                return;
            }
            self.map.run_pending_tasks();
            if self.map.entry_count() >= before {
                return;
            }
        }
    }
}

impl Store for MemoryStore {
    fn variants(&self, key: &CacheKey) -> Option<Variants> {
        self.map.get(key)
    }

    fn update(&self, key: &CacheKey, change: &mut dyn FnMut(Option<&Variants>) -> StoreChange) {
        {
            let _changing = self.lock_changes(key);
            match change(self.map.get(key).as_ref()) {
                StoreChange::Keep => return,
                StoreChange::Put(variants) => self.map.insert(key.detached(), variants),
                StoreChange::Remove => self.map.invalidate(key),
            }
            self.changes.fetch_add(1, Ordering::Relaxed);
        }
        self.evict_down_to_capacity();
    }

    fn remove(&self, key: &CacheKey) -> bool {
        let _changing = self.lock_changes(key);
        let is_removed = self.map.remove(key).is_some();
        self.changes.fetch_add(u64::from(is_removed), Ordering::Relaxed);
        is_removed
    }

    fn remove_where(&self, matches: &dyn Fn(&CacheKey) -> bool) -> usize {
        let keys: Vec<Arc<CacheKey>> =
            self.map.iter().map(|(key, _)| key).filter(|key| matches(key)).collect();
        let removed = keys.iter().filter(|key| self.remove(key)).count();
        self.map.run_pending_tasks();
        removed
    }

    fn for_each(&self, visit: &mut dyn FnMut(&CacheKey, &Variants)) {
        self.map.iter().for_each(|(key, variants)| visit(&key, &variants));
    }

    fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    fn len(&self) -> usize {
        self.map.run_pending_tasks();
        usize::try_from(self.map.entry_count()).unwrap_or(usize::MAX)
    }

    fn weight_bytes(&self) -> u64 {
        self.map.run_pending_tasks();
        self.map.weighted_size()
    }

    fn capacity_bytes(&self) -> u64 {
        self.capacity_bytes
    }

    fn variants_limit(&self) -> usize {
        self.variants_limit
    }

    fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Relaxed)
    }
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryStore").field("capacity_bytes", &self.capacity_bytes).finish_non_exhaustive()
    }
}

/// The bytes that one key occupies; saturates at 4 GiB, moka's bound for one entry.
fn weight_bytes(key: &CacheKey, variants: &Variants) -> u32 {
    let key_bytes = allocation_bytes(size_of::<CacheKey>()) + allocation_bytes(key.as_bytes().len());
    u32::try_from(MAP_ENTRY_BYTES + key_bytes + variants.occupied_bytes()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::conformance::{conforms, key, response};
    use super::*;

    conforms!(|capacity_bytes| Box::new(MemoryStore::new(capacity_bytes, 32)));

    #[test]
    fn replaced_and_removed_bodies_are_freed_soon() {
        // moka frees memory in epochs. With bodies of some MiB a long queue of removed entries would occupy as much as
        // a second store. Other threads of this process can delay an epoch, hence the rounds.
        let store = MemoryStore::new(1 << 30, 32);
        let mut seen = Vec::new();
        let mut alive = usize::MAX;
        for n in 0..20_000 {
            let key = key(&format!("/{}", n % 7));
            store.put(&key, response("", b"x"));
            let variants = store.variants(&key).expect("stored");
            seen.push(Arc::downgrade(&variants.as_slice()[0]));
            drop(variants);
            seen.retain(|weak| weak.strong_count() > 0);
            alive = seen.len();
            if n > 200 && alive <= 7 + 1 {
                break;
            }
            std::thread::yield_now();
        }
        assert!(alive <= 7 + 1, "{alive} responses are in memory, 7 are stored");
    }
}
