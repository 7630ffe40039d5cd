//! Snapshots that are known to be ready: their content never changes again.
//!
//! Only the snapshot resource tells whether it is ready; it is read when it passes through. Before that `/kv?snapshot=`
//! may show an empty list that looks like valid content. A name can be used again after its snapshot has expired. So a
//! write to a name forgets its readiness, and content that is stored as immutable has a bounded lifetime.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;

/// The freshness lifetime of the content of a ready snapshot.
pub(super) const READY_LIFETIME: Duration = Duration::from_secs(60 * 60);

/// How many names are kept. Forgetting one is safe: its content gets the usual lifetime.
const MAX_READY: usize = 1024;

/// A snapshot with a longer name is never known to be ready. The service allows 256 characters.
const MAX_NAME_BYTES: usize = 1024;

/// The names of snapshots that were seen ready.
#[derive(Debug, Default)]
pub(super) struct ReadySnapshots(Mutex<Names>);

#[derive(Debug, Default)]
struct Names {
    ready: HashSet<String>,
    order: VecDeque<String>,
}

#[derive(Deserialize)]
struct StatusOnly<'a> {
    #[serde(borrow)]
    status: Option<&'a str>,
}

impl ReadySnapshots {
    /// Reads the status in a snapshot resource that the origin has sent.
    pub(super) fn observe(&self, name: &str, body: &[u8]) {
        let status = serde_json::from_slice::<StatusOnly<'_>>(body).ok().and_then(|resource| resource.status);
        let mut names = self.lock();
        if !matches!(status, Some("ready" | "archived")) || name.len() > MAX_NAME_BYTES {
            names.ready.remove(name);
            return;
        }
        if names.ready.insert(name.to_owned()) {
            names.order.push_back(name.to_owned());
        }
        while names.order.len() > MAX_READY {
            if let Some(oldest) = names.order.pop_front() {
                names.ready.remove(&oldest);
            }
        }
    }

    /// Forgets a name because of a write to it.
    pub(super) fn forget(&self, name: &str) {
        let mut names = self.lock();
        names.ready.remove(name);
        names.order.retain(|each| each != name);
    }

    /// Whether the content of this snapshot can no longer change.
    #[must_use]
    pub(super) fn is_ready(&self, name: &str) -> bool {
        self.lock().ready.contains(name)
    }

    fn lock(&self) -> MutexGuard<'_, Names> {
        // No change under this lock can panic half way, so a poisoned lock holds valid data.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_is_learned_and_forgotten() {
        let snapshots = ReadySnapshots::default();
        snapshots.observe("s", br#"{"name":"s","status":"provisioning"}"#);
        assert!(!snapshots.is_ready("s"));
        snapshots.observe("s", br#"{"name":"s","status":"ready"}"#);
        assert!(snapshots.is_ready("s"));
        snapshots.observe("s", br#"{"name":"s","status":"archived"}"#);
        assert!(snapshots.is_ready("s"), "archived content stays what it was");
        snapshots.forget("s");
        assert!(!snapshots.is_ready("s"));
        for odd in ["", "{", "[]", r#"{"status":1}"#, r#"{"name":"s"}"#] {
            snapshots.observe("s", odd.as_bytes());
            assert!(!snapshots.is_ready("s"), "{odd}");
        }
    }

    #[test]
    fn names_are_bounded() {
        let snapshots = ReadySnapshots::default();
        for number in 0..=MAX_READY {
            snapshots.observe(&format!("s{number}"), br#"{"status":"ready"}"#);
        }
        assert!(!snapshots.is_ready("s0"));
        assert!(snapshots.is_ready("s1"));
        assert_eq!(snapshots.lock().ready.len(), MAX_READY);
        let long = "s".repeat(MAX_NAME_BYTES + 1);
        snapshots.observe(&long, br#"{"status":"ready"}"#);
        assert!(!snapshots.is_ready(&long), "bytes are bounded as well");
    }
}
