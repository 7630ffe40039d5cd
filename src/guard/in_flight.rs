//! Limits of the requests in flight, in total and for each caller. A request over a limit is refused at once and never
//! waits.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::Limits;
use crate::error::ProxyError;

/// Counts requests from the end of their header section to the head of their answer.
#[derive(Debug)]
pub struct InFlight {
    /// Zero: no limit beside that of connections.
    limit: AtomicUsize,
    /// Zero: no limit for each caller.
    limit_per_caller: AtomicUsize,
    all: AtomicUsize,
    by_caller: Mutex<HashMap<Arc<str>, usize, ahash::RandomState>>,
}

/// The permit of one request; released when dropped.
#[derive(Debug)]
pub struct RequestPermit {
    counts: Arc<InFlight>,
    caller: Option<Arc<str>>,
}

impl InFlight {
    /// A counter with the limits of the configuration.
    #[must_use]
    pub fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            limit: AtomicUsize::new(limits.requests),
            limit_per_caller: AtomicUsize::new(limits.requests_per_caller),
            all: AtomicUsize::new(0),
            by_caller: Mutex::default(),
        })
    }

    /// Replaces the limits. Requests in flight stay counted, those of each caller as far as there was a limit for it.
    pub fn set_limits(&self, limits: &Limits) {
        self.limit.store(limits.requests, Ordering::Relaxed);
        self.limit_per_caller.store(limits.requests_per_caller, Ordering::Relaxed);
    }

    /// A permit for one more request of any caller.
    ///
    /// # Errors
    /// [`ProxyError::Overloaded`] at the limit.
    pub fn enter(self: &Arc<Self>) -> Result<RequestPermit, ProxyError> {
        // The permit is made first: dropping it decrements the count.
        let place = RequestPermit { counts: Arc::clone(self), caller: None };
        let before = self.all.fetch_add(1, Ordering::Relaxed);
        self.has_place_after(before)?;
        Ok(place)
    }

    /// Whether one more request of this caller would get a permit now. Takes none.
    ///
    /// # Errors
    /// [`ProxyError::Overloaded`] at the limit.
    pub fn check(&self, caller: &Arc<str>) -> Result<(), ProxyError> {
        self.has_place_after(self.all.load(Ordering::Relaxed))?;
        if self.limit_per_caller.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        let count = self.callers().get(caller).copied().unwrap_or_default();
        self.has_place_for_caller_after(count)
    }

    fn has_place_after(&self, requests: usize) -> Result<(), ProxyError> {
        let limit = self.limit.load(Ordering::Relaxed);
        if limit > 0 && requests >= limit {
            return Err(ProxyError::Overloaded { limit: "limits.requests" });
        }
        Ok(())
    }

    fn has_place_for_caller_after(&self, requests: usize) -> Result<(), ProxyError> {
        let limit = self.limit_per_caller.load(Ordering::Relaxed);
        if limit > 0 && requests >= limit {
            return Err(ProxyError::Overloaded { limit: "limits.requests_per_caller" });
        }
        Ok(())
    }

    fn callers(&self) -> MutexGuard<'_, HashMap<Arc<str>, usize, ahash::RandomState>> {
        // No panic under the lock leaves the map half changed.
        self.by_caller.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RequestPermit {
    /// Counts the permit for this caller as well.
    ///
    /// # Errors
    /// [`ProxyError::Overloaded`] if the caller is at its limit.
    pub fn of(mut self, caller: &Arc<str>) -> Result<Self, ProxyError> {
        if self.counts.limit_per_caller.load(Ordering::Relaxed) == 0 {
            return Ok(self);
        }
        {
            let mut callers = self.counts.callers();
            let count = callers.entry(Arc::clone(caller)).or_default();
            self.counts.has_place_for_caller_after(*count)?;
            *count += 1;
        }
        self.caller = Some(Arc::clone(caller));
        Ok(self)
    }
}

impl Drop for RequestPermit {
    fn drop(&mut self) {
        self.counts.all.fetch_sub(1, Ordering::Relaxed);
        if let Some(caller) = &self.caller {
            let mut callers = self.counts.callers();
            if let Some(count) = callers.get_mut(caller) {
                *count -= 1;
                if *count == 0 {
                    // The map holds only callers with requests in flight, so that it stays bounded.
                    callers.remove(caller);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(limit: usize, limit_per_caller: usize) -> Arc<InFlight> {
        let (limit, limit_per_caller) = (AtomicUsize::new(limit), AtomicUsize::new(limit_per_caller));
        Arc::new(InFlight { limit, limit_per_caller, all: AtomicUsize::new(0), by_caller: Mutex::default() })
    }

    #[test]
    fn places_are_limited_and_given_back() {
        let counts = counts(2, 0);
        let first = counts.enter().unwrap();
        let second = counts.enter().unwrap().of(&"a".into()).unwrap();
        assert!(counts.check(&"a".into()).is_err());
        let refused = counts.enter().unwrap_err();
        assert_eq!(refused, ProxyError::Overloaded { limit: "limits.requests" });
        assert!(counts.enter().is_err(), "a refusal takes no place");
        drop((first, second));
        assert_eq!(counts.all.load(Ordering::Relaxed), 0);
        assert!(counts.enter().is_ok());
    }

    #[test]
    fn without_a_limit_there_is_always_a_place() {
        let counts = counts(0, 0);
        let places: Vec<_> = (0..2_000).map(|_| counts.enter().unwrap()).collect();
        drop(places);
        assert_eq!(counts.all.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn one_caller_does_not_take_the_places_of_others() {
        let counts = counts(10, 1);
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let held = counts.enter().unwrap().of(&a).unwrap();
        assert!(counts.check(&a).is_err() && counts.check(&b).is_ok());
        let refused = counts.enter().unwrap().of(&a).unwrap_err();
        assert_eq!(refused, ProxyError::Overloaded { limit: "limits.requests_per_caller" });
        assert!(counts.enter().unwrap().of(&b).is_ok());
        drop(held);
        assert!(counts.enter().unwrap().of(&a).is_ok());
        assert!(counts.callers().is_empty(), "callers without requests are forgotten");
        assert_eq!(counts.all.load(Ordering::Relaxed), 0);
    }
}
