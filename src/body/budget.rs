//! The budget of the bodies that are in memory and not stored: one for the whole process.
//!
//! A body that is read whole holds a permit for its bytes until its last clone is gone, so that a caller who does not read its
//! answer pays for it. While the body is stored, the limit of the store counts it, and the budget does not ([`StoredShare`]).
//! A body that does not get a permit streams.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Up to this size a body may take the last quarter of the budget. So a few large answers that nobody reads do not keep the small ones
/// of others from being stored and shared.
const SMALL_BODY_BYTES: u64 = 64 * 1024;

/// Most bytes of bodies in memory outside the store, and how many there are.
#[derive(Debug)]
pub struct BufferBudget {
    limit_bytes: AtomicI64,
    /// Above the limit only while callers still read bodies that were evicted from the store.
    used_bytes: AtomicI64,
}

impl BufferBudget {
    /// A budget of which nothing is used.
    #[must_use]
    pub fn new(limit_bytes: u64) -> Arc<Self> {
        Arc::new(Self { limit_bytes: AtomicI64::new(signed(limit_bytes)), used_bytes: AtomicI64::new(0) })
    }

    /// Replaces the limit. What is in use stays.
    pub fn set_limit(&self, limit_bytes: u64) {
        self.limit_bytes.store(signed(limit_bytes), Ordering::Relaxed);
    }

    /// The bytes in use.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        u64::try_from(self.used_bytes.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// A permit for no bytes yet.
    #[must_use]
    pub fn permit(self: &Arc<Self>) -> BufferPermit {
        BufferPermit { budget: Arc::clone(self), bytes: 0 }
    }

    fn take(&self, bytes: u64, limit_bytes: i64) -> bool {
        let taken = self.used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used_bytes| {
            used_bytes.checked_add(signed(bytes)).filter(|used_bytes| *used_bytes <= limit_bytes)
        });
        taken.is_ok()
    }

    fn give_back(&self, bytes: u64) {
        self.used_bytes.fetch_sub(signed(bytes), Ordering::Relaxed);
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// The permit for the bytes of one body; released when dropped.
#[derive(Debug)]
pub struct BufferPermit {
    budget: Arc<BufferBudget>,
    bytes: u64,
}

impl BufferPermit {
    /// Whether so many bytes more are permitted. If not, the permit stays as it is.
    #[must_use]
    pub fn grow(&mut self, more_bytes: u64) -> bool {
        let limit_bytes = self.budget.limit_bytes.load(Ordering::Relaxed);
        let is_small = self.bytes.saturating_add(more_bytes) <= SMALL_BODY_BYTES;
        let granted =
            self.budget.take(more_bytes, if is_small { limit_bytes } else { limit_bytes - limit_bytes / 4 });
        if granted {
            self.bytes += more_bytes;
        }
        granted
    }

    /// Gives back what is above so many bytes.
    pub fn shrink_to(&mut self, bytes: u64) {
        let back_bytes = self.bytes.saturating_sub(bytes);
        self.budget.give_back(back_bytes);
        self.bytes -= back_bytes;
    }

    /// Whose permit it is.
    #[must_use]
    pub const fn budget(&self) -> &Arc<BufferBudget> {
        &self.budget
    }
}

impl Drop for BufferPermit {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

/// How the body of a response counts that may be stored: in the limit of the store while it is there, in the budget before and
/// after that. Its bytes hold a permit of the budget at all times; what the store counts is taken off meanwhile.
///
/// A clone is that of a response that is not stored yet. A body that two stored responses share is taken off twice, as the store
/// counts it twice.
#[derive(Debug, Default)]
pub struct StoredShare {
    budget: Option<Arc<BufferBudget>>,
    stored_bytes: u64,
}

impl StoredShare {
    /// For a body that holds a permit of this budget, in an allocation of its own.
    #[must_use]
    pub const fn of(budget: Arc<BufferBudget>) -> Self {
        Self { budget: Some(budget), stored_bytes: 0 }
    }

    /// From now until this is dropped the store counts the body. False if the body holds no permit: it may be a part of a larger
    /// allocation.
    #[must_use]
    pub fn enter_store(&mut self, body_bytes: u64) -> bool {
        let Some(budget) = &self.budget else { return false };
        budget.give_back(body_bytes - self.stored_bytes);
        self.stored_bytes = body_bytes;
        true
    }
}

impl Clone for StoredShare {
    fn clone(&self) -> Self {
        Self { budget: self.budget.clone(), stored_bytes: 0 }
    }
}

impl Drop for StoredShare {
    fn drop(&mut self) {
        if let Some(budget) = &self.budget {
            // Readers of the evicted body cannot be refused any more, so this may exceed the limit.
            budget.used_bytes.fetch_add(signed(self.stored_bytes), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_end_at_the_limit_and_are_given_back() {
        let budget = BufferBudget::new(10);
        let (mut first, mut second) = (budget.permit(), budget.permit());
        assert!(first.grow(6));
        assert!(!second.grow(5), "over the limit");
        assert!(second.grow(4));
        assert_eq!(budget.used_bytes(), 10);
        first.shrink_to(2);
        assert_eq!(budget.used_bytes(), 6);
        assert!(!second.grow(u64::MAX));
        drop((first, second));
        assert_eq!(budget.used_bytes(), 0);
    }

    #[test]
    fn the_last_quarter_is_for_small_bodies() {
        let budget = BufferBudget::new(1 << 20);
        let mut large = budget.permit();
        assert!(large.grow(3 << 18));
        assert!(!budget.permit().grow(SMALL_BODY_BYTES + 1));
        let mut small: Vec<_> = (0..4).map(|_| budget.permit()).collect();
        assert!(small.iter_mut().all(|permit| permit.grow(SMALL_BODY_BYTES)));
        assert!(!small[0].grow(1), "not one that becomes large");
        assert!(!budget.permit().grow(1));
    }

    #[test]
    fn what_the_store_counts_the_budget_does_not() {
        let budget = BufferBudget::new(10);
        let mut permit = budget.permit();
        assert!(permit.grow(8));
        let fetched = StoredShare::of(Arc::clone(&budget));
        let mut stored = fetched.clone();
        assert!(stored.enter_store(8));
        assert_eq!(budget.used_bytes(), 0);
        let mut freshened = stored.clone();
        assert!(freshened.enter_store(8));
        drop(stored);
        assert_eq!(budget.used_bytes(), 0, "the freshened response has taken its place");
        drop((freshened, fetched));
        assert_eq!(budget.used_bytes(), 8, "evicted, and still read");
        drop(permit);
        assert_eq!(budget.used_bytes(), 0);
        assert!(!StoredShare::default().enter_store(8));
    }
}
