//! Refresh ahead, acting: what is in use is validated before it becomes stale. [`decide::refresh_ahead`](crate::decide::refresh_ahead) has
//! the rule.
//!
//! ```text
//! first hit ──▶ watched ── half of its lifetime: uses count from here ──▶ due: used since? ── yes ──▶ its list, or itself, in the background
//!                                                                              └── no, or replaced ──▶ forgotten
//! ```
//!
//! A hit costs the reading of a byte; the first one after a validation an entry of the queue. At most [`MOST_WATCHED`] responses of an
//! upstream are watched; of the others the caller that finds one stale waits, as without refresh ahead.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::Proxy;
use super::destination::Destination;
use super::request_context::RequestContext;
use crate::clock::instant;
use crate::decide::refresh_ahead::{DUE_TOGETHER_FROM, refresh_times};
use crate::decide::{ForwardReason, StaleReason};
use crate::stored_response::StoredResponse;
use crate::sync_token::aggregate::PresentedTokens;

/// How many responses of an upstream are watched: each keeps the fields of a request, about 2 KB.
const MOST_WATCHED: usize = 4_096;

/// The responses of one upstream that may be in use.
#[derive(Default)]
pub struct RefreshQueue {
    watched: Mutex<BTreeMap<(Instant, u64), WatchedUse>>,
    /// Tells apart those of one time.
    pushed: AtomicU64,
    /// The earliest has changed.
    changed: Notify,
}

/// A response that has answered.
struct WatchedUse {
    /// When it is due after that; `None` if that is now.
    due_after: Option<Duration>,
    context: RequestContext,
    stored: Weak<StoredResponse>,
}

impl RefreshQueue {
    fn push(&self, at: Instant, watched: WatchedUse) {
        let is_earliest = {
            let mut queue = self.lock();
            if queue.len() >= MOST_WATCHED {
                return;
            }
            let is_earliest = queue.first_key_value().is_none_or(|((first, _), _)| at < *first);
            queue.insert((at, self.pushed.fetch_add(1, Ordering::Relaxed)), watched);
            is_earliest
        };
        if is_earliest {
            self.changed.notify_one();
        }
    }

    /// The next whose time has come, and when that was.
    async fn next(&self) -> (Instant, WatchedUse) {
        loop {
            let earliest = {
                let mut queue = self.lock();
                match queue.first_entry() {
                    Some(first) if first.key().0 <= instant() => {
                        let ((at, _), watched) = first.remove_entry();
                        return (at, watched);
                    }
                    first => first.map(|first| first.key().0),
                }
            };
            let changed = self.changed.notified();
            match earliest {
                Some(at) => {
                    // An earlier one, or this one: both are looked for again.
                    let _elapsed = tokio::time::timeout_at(at, changed).await;
                }
                None => changed.await,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(Instant, u64), WatchedUse>> {
        // Nothing under this lock can panic half way through a change.
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Proxy {
    /// Validates what is in use before it becomes stale, until the task is dropped.
    pub async fn refresh_ahead(self: Arc<Self>, destination: usize) {
        let Some(to) = self.destinations.get(destination) else { return };
        let Some(queue) = &to.refreshes else { return };
        loop {
            let (at, watched) = queue.next().await;
            let Some(stored) = watched.stored.upgrade() else { continue };
            let is_used = stored.in_use.take();
            match watched.due_after {
                Some(due_after) => {
                    queue.push(at + due_after, WatchedUse { due_after: None, ..watched });
                }
                // Where the budget stretches lifetimes, who finds one over waits: that costs fewer requests.
                None if is_used && to.upstream.stretch(self.clock.now()) <= 1.0 => {
                    // A reload may have changed the rules meanwhile.
                    let rules = Arc::clone(to.rules(watched.context.target.path()));
                    self.refresh(to, &RequestContext { rules, ..watched.context }, &stored);
                }
                None => {}
            }
        }
    }

    /// Notes a use of what answers as a fresh response.
    pub(super) fn note_use(&self, to: &Destination, context: &RequestContext, stored: &Arc<StoredResponse>) {
        if let Some(queue) = &to.refreshes
            && stored.in_use.note()
        {
            self.watch(to, queue, context, stored);
        }
    }

    #[cold]
    fn watch(
        &self,
        to: &Destination,
        queue: &RefreshQueue,
        context: &RequestContext,
        stored: &Arc<StoredResponse>,
    ) {
        if context.request.authorized && to.upstream.credential().forwards_callers() {
            // A credential is used for its caller's own requests, and not kept for later ones.
            return;
        }
        let now = self.clock.now();
        let lifetime = to.upstream.lifetime(stored, now);
        let times = refresh_times(stored, lifetime, &context.rules, now, fastrand::f64());
        let Some(times) = times else { return };
        let watched = WatchedUse {
            due_after: Some(times.due_in.saturating_sub(times.half_in)),
            context: RequestContext {
                request: Arc::new(context.request.to_remember()),
                presented: PresentedTokens::NOTHING,
                ..context.clone()
            },
            stored: Arc::downgrade(stored),
        };
        queue.push(instant() + times.half_in, watched);
    }

    /// Validates a response in the background, or the list that contains it, if it is still the stored one.
    fn refresh(&self, to: &Destination, context: &RequestContext, stored: &Arc<StoredResponse>) {
        let current = to.upstream.stored(&context.request);
        if !current.is_some_and(|current| Arc::ptr_eq(&current, stored)) {
            return;
        }
        let reason = ForwardReason::Stale(StaleReason::Lifetime);
        let list = self.list_to_validate(to, context, stored, reason, DUE_TOGETHER_FROM, &|key| {
            to.upstream.variants(key)
        });
        if self.validate_in_background(to, list.as_ref().unwrap_or(context)) {
            to.refreshed.inc();
        }
    }
}
