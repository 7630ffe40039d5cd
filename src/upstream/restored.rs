//! What a snapshot restored of an upstream, and what the origin's first answers say about it.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

use super::Upstream;
use crate::credentials::refusal::CredentialRefusal;
use crate::store::{StoreChange, Variants};

/// See the module.
#[derive(Debug)]
pub(super) struct RestoredState {
    /// Restored responses that a refusal of the credential takes out.
    is_forgotten_when_forbidden: AtomicBool,
    /// Whether the origin has answered since the start.
    answered: watch::Sender<bool>,
    /// Whether its last answer was a 401 or 403 to the sidecar's own credential.
    forbidden: watch::Sender<bool>,
}

impl Default for RestoredState {
    fn default() -> Self {
        Self {
            is_forgotten_when_forbidden: AtomicBool::new(false),
            answered: watch::Sender::new(false),
            forbidden: watch::Sender::new(false),
        }
    }
}

impl Upstream {
    /// Says, before the first request, whether a 401 or 403 to the sidecar's own credential takes out what was restored.
    pub fn forget_restored_when_forbidden(&self, is_forgotten: bool) {
        self.state.restored.is_forgotten_when_forbidden.store(is_forgotten, Ordering::SeqCst);
    }

    /// Whether the origin has answered since the start.
    #[must_use]
    pub fn answered(&self) -> watch::Receiver<bool> {
        self.state.restored.answered.subscribe()
    }

    /// Whether the origin's last answer was a 401 or 403 to the sidecar's own credential.
    #[must_use]
    pub fn forbidden(&self) -> watch::Receiver<bool> {
        self.state.restored.forbidden.subscribe()
    }

    /// Takes note of an answer, before it is passed on. `refusal` says why it refuses the sidecar's own credential, if it does; a wrong
    /// clock says nothing about what the sidecar may read.
    pub(super) fn note_answer(&self, refusal: Option<CredentialRefusal>) {
        let restored = &self.state.restored;
        let is_forbidden =
            matches!(refusal, Some(CredentialRefusal::Credential | CredentialRefusal::Forbidden));
        if is_forbidden && restored.is_forgotten_when_forbidden.swap(false, Ordering::SeqCst) {
            self.forget_restored();
        }
        // Compared first: only a change may wake the tasks that wait for one.
        for (is_so, known) in [(true, &restored.answered), (is_forbidden, &restored.forbidden)] {
            if *known.borrow() != is_so {
                known.send_replace(is_so);
            }
        }
    }

    fn forget_restored(&self) {
        let mut keys = Vec::new();
        self.state.store.for_each(&mut |key, variants| {
            let is_own = key.upstream() == self.settings.name.as_bytes();
            if is_own && variants.as_slice().iter().any(|response| response.is_restored()) {
                keys.push(key.clone());
            }
        });
        for key in keys {
            self.state.store.update(&key, &mut |current| {
                current.map_or(StoreChange::Keep, |variants| {
                    without_restored(variants).map_or(StoreChange::Remove, StoreChange::Put)
                })
            });
        }
    }
}

fn without_restored(variants: &Variants) -> Option<Variants> {
    let restored = variants.as_slice().iter().filter(|response| response.is_restored());
    restored.map(|response| &response.selecting).try_fold(variants.clone(), |left, out| left.without(out))
}
