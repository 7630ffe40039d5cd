//! Whether a stored response is in use: what refresh ahead needs to know, kept where a hit can note it without a lock.

use std::sync::atomic::{AtomicU8, Ordering};

/// It has answered, and will be looked at again.
const WATCHED: u8 = 1;
/// It has answered since it was looked at last.
const USED: u8 = 2;

/// See the module. A clone is that of another response, which has not been used.
#[derive(Debug, Default)]
pub struct UseMark {
    state: AtomicU8,
    /// In how many of its own lifetimes since the last validation it has answered.
    lifetimes: AtomicU8,
}

impl UseMark {
    /// Notes a use. Returns true for the first one: then it is to be watched. The uses that change nothing, which are nearly all, read a
    /// byte.
    #[inline]
    pub fn note(&self) -> bool {
        self.state.load(Ordering::Relaxed) != WATCHED | USED && self.note_first()
    }

    #[cold]
    fn note_first(&self) -> bool {
        if self.state.compare_exchange(0, WATCHED, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            return true;
        }
        self.state.fetch_or(USED, Ordering::Relaxed);
        false
    }

    /// Notes a use when so many of its own lifetimes have passed. Returns true for the first one in each.
    pub fn enter_lifetime(&self, passed: u8) -> bool {
        self.lifetimes.fetch_max(passed, Ordering::Relaxed) < passed
    }

    /// Whether it was used after it was first watched or asked last. Asking begins anew.
    pub fn take(&self) -> bool {
        self.state.fetch_and(!USED, Ordering::Relaxed) & USED != 0
    }
}

impl Clone for UseMark {
    fn clone(&self) -> Self {
        Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_use_is_told_and_later_ones_are_noted() {
        let mark = UseMark::default();
        assert!(!mark.take());
        assert!(mark.note(), "the first");
        assert!(!mark.take(), "one use is not yet in use");
        assert!(!mark.note() && !mark.note());
        assert!(mark.take());
        assert!(!mark.take(), "not used since");
        assert!(!mark.note(), "it is watched already");
        assert!(mark.take());
        assert!(mark.clone().note(), "a clone has not been used");
        assert!(mark.enter_lifetime(1) && !mark.enter_lifetime(1) && mark.enter_lifetime(3));
    }
}
