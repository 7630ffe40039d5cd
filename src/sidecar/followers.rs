//! Tasks that belong to one configuration: a reload ends them and starts those of the next.

use std::sync::Arc;

use tokio_util::task::AbortOnDropHandle;

use crate::credentials::Credential;
use crate::proxy::Proxy;
use crate::readiness::{Readiness, UnreadyReason};

/// See the module. They end when this is dropped.
pub(super) struct Followers {
    proxy: Arc<Proxy>,
    credentials: [AbortOnDropHandle<()>; 2],
    _validating: Vec<AbortOnDropHandle<()>>,
}

impl Followers {
    /// Starts the tasks of a proxy.
    pub(super) fn start(proxy: Arc<Proxy>, readiness: &Readiness) -> Self {
        let credentials = follow_credentials(&proxy, readiness);
        Self { credentials, _validating: validate(&proxy), proxy }
    }

    /// The tasks of the proxy that follows.
    pub(super) fn replaced_by(self, proxy: Arc<Proxy>, readiness: &Readiness) -> Self {
        let own = |proxy: &Arc<Proxy>| -> Vec<Arc<dyn Credential>> {
            proxy.destinations().iter().map(|it| Arc::clone(&it.upstream.settings().credential)).collect()
        };
        let (before, now) = (own(&self.proxy), own(&proxy));
        let are_the_same = before.iter().zip(&now).all(|(before, now)| Arc::ptr_eq(before, now));
        let credentials = if are_the_same {
            self.credentials
        } else {
            drop(self.credentials);
            // Nothing is known of the new ones yet.
            readiness.clear(UnreadyReason::CredentialRefused);
            readiness.clear(UnreadyReason::NoCredential);
            follow_credentials(&proxy, readiness)
        };
        Self { credentials, _validating: validate(&proxy), proxy }
    }
}

/// Keeps the reasons of readiness that credentials give.
fn follow_credentials(proxy: &Proxy, readiness: &Readiness) -> [AbortOnDropHandle<()>; 2] {
    let credentials = || proxy.destinations().iter().map(|it| it.upstream.credential());
    let available: Vec<_> = credentials().filter_map(Credential::availability).collect();
    if !available.iter().all(|available| *available.borrow()) {
        readiness.add(UnreadyReason::NoCredential);
    }
    let accepted = credentials().filter_map(Credential::acceptance).collect();
    [
        tokio::spawn(readiness.clone().follow(UnreadyReason::NoCredential, available)),
        tokio::spawn(readiness.clone().follow(UnreadyReason::CredentialRefused, accepted)),
    ]
    .map(AbortOnDropHandle::new)
}

fn validate(proxy: &Arc<Proxy>) -> Vec<AbortOnDropHandle<()>> {
    let destinations = 0..proxy.destinations().len();
    let tasks = destinations.flat_map(|destination| {
        [
            tokio::spawn(Arc::clone(proxy).prefetch(destination)),
            tokio::spawn(Arc::clone(proxy).refresh_ahead(destination)),
        ]
    });
    tasks.map(AbortOnDropHandle::new).collect()
}
