//! Whether this process is ready for callers, and the reasons if it is not.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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

words! {
    /// What is also true of a process, as `/readyz` tells it. It makes no process unready.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum ReadinessNote {
        /// A mirror is being loaded, or what was restored of it is being validated. Until then keys and lists are cached one by one.
        Loading = "loading",
        /// A snapshot was restored, and the origin has not answered since: answers are of before the start. A credential that is
        /// missing is a note as well, since answers come without it.
        Snapshot = "snapshot",
        /// There is a snapshot, and it is older than `snapshot.max_age`. The origin has not answered since the start.
        SnapshotTooOld = "snapshot-too-old",
        /// It has no credential yet, and answers from a snapshot.
        NoCredential = "no-credential",
        /// The fleet's engine gives no answer: it keeps the promises that it makes alone.
        FleetLost = "fleet-lost",
    }
}

/// The reasons for not being ready, and notes. Clones share them.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<Mutex<ReadinessState>>);

#[derive(Debug)]
struct ReadinessState {
    reasons: BTreeSet<UnreadyReason>,
    notes: BTreeSet<ReadinessNote>,
}

impl ReadinessState {
    /// Whether the credential is missing, and a snapshot answers all the same: then that is a note, and no reason.
    fn answers_without_credential(&self) -> bool {
        self.reasons.contains(&UnreadyReason::NoCredential) && self.notes.contains(&ReadinessNote::Snapshot)
    }
}

impl Readiness {
    /// A process that is starting.
    pub fn starting() -> Self {
        let reasons = BTreeSet::from([UnreadyReason::Starting]);
        Self(Arc::new(Mutex::new(ReadinessState { reasons, notes: BTreeSet::new() })))
    }

    /// Adds a reason. A second call with the same reason has no effect.
    pub fn add(&self, reason: UnreadyReason) {
        self.lock().reasons.insert(reason);
    }

    /// Removes a reason. [`UnreadyReason::Draining`] cannot be removed.
    pub fn clear(&self, reason: UnreadyReason) {
        if reason != UnreadyReason::Draining {
            self.lock().reasons.remove(&reason);
        }
    }

    /// Follows conditions: the reason is set while any of them is false. Ends when every sender is dropped.
    pub async fn follow(self, reason: UnreadyReason, are_so: Vec<watch::Receiver<bool>>) {
        let set = |holds| if holds { self.clear(reason) } else { self.add(reason) };
        follow_all(are_so, set).await;
    }

    /// The same for a note.
    pub async fn follow_note(self, note: ReadinessNote, are_so: Vec<watch::Receiver<bool>>) {
        let set = |holds| {
            let notes = &mut self.lock().notes;
            if holds {
                notes.remove(&note)
            } else {
                notes.insert(note)
            };
        };
        follow_all(are_so, set).await;
    }

    /// Adds a note, which the future takes away again when all conditions are true.
    pub fn note_until(
        self,
        note: ReadinessNote,
        are_so: Vec<watch::Receiver<bool>>,
    ) -> impl Future<Output = ()> {
        self.lock().notes.insert(note);
        async move {
            for mut is_so in are_so {
                // A sender that is gone says nothing any more.
                let _is_so = is_so.wait_for(|is_so| *is_so).await;
            }
            self.lock().notes.remove(&note);
        }
    }

    /// All reasons. The process is ready if there is none.
    pub fn reasons(&self) -> Vec<UnreadyReason> {
        let state = self.lock();
        let is_noted = state.answers_without_credential();
        let reasons = state.reasons.iter().copied();
        reasons.filter(|reason| !(is_noted && *reason == UnreadyReason::NoCredential)).collect()
    }

    /// All notes.
    pub fn notes(&self) -> Vec<ReadinessNote> {
        let state = self.lock();
        let credential = state.answers_without_credential().then_some(ReadinessNote::NoCredential);
        state.notes.iter().copied().chain(credential).collect()
    }

    fn lock(&self) -> MutexGuard<'_, ReadinessState> {
        // Nothing under this lock can panic half way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells `set` whether all of them are true, at first and after each change.
async fn follow_all(mut are_so: Vec<watch::Receiver<bool>>, set: impl Fn(bool)) {
    while !are_so.is_empty() {
        set(are_so.iter_mut().all(|it| *it.borrow_and_update()));
        let (changed, index, others) = select_all(are_so.iter_mut().map(|it| Box::pin(it.changed()))).await;
        drop(others);
        if changed.is_err() {
            are_so.swap_remove(index);
        }
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

    #[tokio::test(start_paused = true)]
    async fn a_note_that_is_followed_makes_nothing_unready() {
        let readiness = Readiness::starting();
        readiness.clear(UnreadyReason::Starting);
        let is_live = watch::Sender::new(true);
        let following = readiness.clone().follow_note(ReadinessNote::FleetLost, vec![is_live.subscribe()]);
        let following = tokio::spawn(following);
        let settled = || tokio::time::sleep(std::time::Duration::from_millis(1));
        for now in [true, false, true, false] {
            is_live.send_replace(now);
            settled().await;
            assert_eq!(readiness.notes().contains(&ReadinessNote::FleetLost), !now);
            assert!(readiness.reasons().is_empty());
        }
        drop(is_live);
        following.await.unwrap();
    }

    #[tokio::test]
    async fn a_missing_credential_is_a_note_while_a_snapshot_answers() {
        let readiness = Readiness::starting();
        readiness.clear(UnreadyReason::Starting);
        readiness.add(UnreadyReason::NoCredential);
        let answered = watch::Sender::new(false);
        let noted = readiness.clone().note_until(ReadinessNote::Snapshot, vec![answered.subscribe()]);
        let noted = tokio::spawn(noted);
        tokio::task::yield_now().await;
        assert!(readiness.reasons().is_empty());
        assert_eq!(readiness.notes(), [ReadinessNote::Snapshot, ReadinessNote::NoCredential]);
        answered.send_replace(true);
        noted.await.unwrap();
        assert_eq!(readiness.reasons(), [UnreadyReason::NoCredential]);
        assert!(readiness.notes().is_empty());
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
