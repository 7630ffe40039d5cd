//! Whether this process wants to be sent callers, and if not, why.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// Why a process is not ready, as `/readyz` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UnreadyReason {
    /// Its listeners are not open yet.
    Starting,
    /// It was told to stop: it finishes what it has and takes nothing new.
    Draining,
    /// It has no credential yet, and its upstream wants one.
    NoCredential,
}

impl UnreadyReason {
    /// The word in the answer of `/readyz`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Draining => "draining",
            Self::NoCredential => "no-credential",
        }
    }
}

/// What stands between this process and being ready. All clones are one.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<Mutex<BTreeSet<UnreadyReason>>>);

impl Readiness {
    /// A process that is starting.
    #[must_use]
    pub fn starting() -> Self {
        Self(Arc::new(Mutex::new(BTreeSet::from([UnreadyReason::Starting]))))
    }

    /// Adds a reason; adding it twice is adding it once.
    pub fn add(&self, reason: UnreadyReason) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(reason);
    }

    /// Takes a reason away. Draining never ends.
    pub fn clear(&self, reason: UnreadyReason) {
        if reason != UnreadyReason::Draining {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&reason);
        }
    }

    /// All reasons; ready when there is none.
    #[must_use]
    pub fn reasons(&self) -> Vec<UnreadyReason> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_to_have_no_reason_left() {
        let readiness = Readiness::starting();
        let seen_elsewhere = readiness.clone();
        readiness.add(UnreadyReason::NoCredential);
        readiness.clear(UnreadyReason::Starting);
        assert_eq!(seen_elsewhere.reasons(), [UnreadyReason::NoCredential]);
        readiness.clear(UnreadyReason::NoCredential);
        assert!(seen_elsewhere.reasons().is_empty());
    }

    #[test]
    fn draining_never_ends() {
        let readiness = Readiness::starting();
        readiness.clear(UnreadyReason::Starting);
        readiness.add(UnreadyReason::Draining);
        readiness.clear(UnreadyReason::Draining);
        assert_eq!(readiness.reasons(), [UnreadyReason::Draining]);
    }
}
