//! Whether this process is ready for callers, and the reasons if it is not.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::select_all;
use tokio::sync::watch;

use crate::words::words;

words! {
    /// A reason for not being ready, as `/readyz` reports it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum UnreadyReason {
        /// Its listeners are not open yet.
        Starting = "starting",
        /// It was told to stop: it finishes open requests and accepts no new ones.
        Draining = "draining",
        /// It has no credential yet, and its upstream needs one.
        NoCredential = "no-credential",
        /// Its upstream refuses its credential: the last answer was a 401.
        CredentialRefused = "credential-refused",
    }
}

/// The reasons for not being ready. Clones share the reasons.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<Mutex<BTreeSet<UnreadyReason>>>);

impl Readiness {
    /// A process that is starting.
    pub fn starting() -> Self {
        Self(Arc::new(Mutex::new(BTreeSet::from([UnreadyReason::Starting]))))
    }

    /// Adds a reason. A second call with the same reason has no effect.
    pub fn add(&self, reason: UnreadyReason) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(reason);
    }

    /// Removes a reason. [`UnreadyReason::Draining`] cannot be removed.
    pub fn clear(&self, reason: UnreadyReason) {
        if reason != UnreadyReason::Draining {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&reason);
        }
    }

    /// Follows conditions: the reason is set while any of them is false. Ends when every sender is dropped.
    pub async fn follow(self, reason: UnreadyReason, mut are_so: Vec<watch::Receiver<bool>>) {
        while !are_so.is_empty() {
            if are_so.iter_mut().all(|it| *it.borrow_and_update()) {
                self.clear(reason);
            } else {
                self.add(reason);
            }
            let (changed, index, others) =
                select_all(are_so.iter_mut().map(|it| Box::pin(it.changed()))).await;
            drop(others);
            if changed.is_err() {
                are_so.swap_remove(index);
            }
        }
    }

    /// All reasons. The process is ready if there is none.
    pub fn reasons(&self) -> Vec<UnreadyReason> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_without_reasons_is_ready() {
        let readiness = Readiness::starting();
        let seen_elsewhere = readiness.clone();
        readiness.add(UnreadyReason::NoCredential);
        readiness.clear(UnreadyReason::Starting);
        assert_eq!(seen_elsewhere.reasons(), [UnreadyReason::NoCredential]);
        readiness.clear(UnreadyReason::NoCredential);
        assert!(seen_elsewhere.reasons().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_reason_stays_until_every_condition_holds() {
        let readiness = Readiness::starting();
        readiness.clear(UnreadyReason::Starting);
        let (first, second) = (watch::Sender::new(false), watch::Sender::new(true));
        let following = readiness.clone();
        let following =
            following.follow(UnreadyReason::NoCredential, vec![first.subscribe(), second.subscribe()]);
        let following = tokio::spawn(following);
        // Paused time advances only when every task waits.
        let settled = || tokio::time::sleep(std::time::Duration::from_millis(1));
        settled().await;
        assert_eq!(readiness.reasons(), [UnreadyReason::NoCredential]);
        first.send_replace(true);
        settled().await;
        assert!(readiness.reasons().is_empty());
        second.send_replace(false);
        settled().await;
        assert_eq!(readiness.reasons(), [UnreadyReason::NoCredential]);
        second.send_replace(true);
        settled().await;
        drop((first, second));
        following.await.unwrap();
        assert!(readiness.reasons().is_empty());
    }

    #[test]
    fn draining_cannot_be_cleared() {
        let readiness = Readiness::starting();
        readiness.clear(UnreadyReason::Starting);
        readiness.add(UnreadyReason::Draining);
        readiness.clear(UnreadyReason::Draining);
        assert_eq!(readiness.reasons(), [UnreadyReason::Draining]);
    }
}
