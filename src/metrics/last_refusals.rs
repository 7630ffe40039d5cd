//! The last requests that the sidecar answered with an error of its own: when, and for which reason. Nothing that a caller sent.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use http::StatusCode;

use crate::clock::Timestamp;

/// So many are remembered.
pub const MAX_LAST_REFUSALS: usize = 32;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastRefusal {
    /// When it was answered.
    pub at: Timestamp,
    /// The index of the upstream in the configuration.
    pub upstream: usize,
    /// The status of the answer.
    pub status: StatusCode,
    /// The word of the counter.
    pub reason: &'static str,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct LastRefusals(Mutex<VecDeque<LastRefusal>>);

impl LastRefusals {
    pub(super) fn note(&self, refusal: LastRefusal) {
        let mut last = self.lock();
        if last.len() >= MAX_LAST_REFUSALS {
            last.pop_back();
        }
        last.push_front(refusal);
    }

    /// The latest first.
    pub(super) fn all(&self) -> Vec<LastRefusal> {
        self.lock().iter().copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<LastRefusal>> {
        // Nothing under this lock can panic half way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_kept() {
        let last = LastRefusals::default();
        for second in 0..100 {
            let at = Timestamp::from_unix_seconds(second);
            last.note(LastRefusal { at, upstream: 0, status: StatusCode::FORBIDDEN, reason: "host" });
        }
        let all = last.all();
        assert_eq!((all.len(), all[0].at.as_unix_seconds()), (MAX_LAST_REFUSALS, 99));
    }
}
