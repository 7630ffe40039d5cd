//! The connections of one runtime, and the one task that sweeps them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::LiveAcceptLimits;
use super::activity::{Activity, CutReason, Order, Ticks};

/// The open connections of one runtime.
#[derive(Debug, Default)]
pub(super) struct Registry {
    ticks: Arc<Ticks>,
    state: Mutex<Connections>,
    /// A connection was entered, or the last one was removed.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Connections {
    connections: HashMap<u64, Arc<Activity>, ahash::RandomState>,
    draining: bool,
}

impl Registry {
    /// Enters a connection; it is removed when the guard is dropped.
    pub(super) fn enter(self: &Arc<Self>, id: u64) -> Entered {
        let activity = Arc::new(Activity::new(Arc::clone(&self.ticks)));
        {
            let mut state = self.lock();
            if state.draining {
                activity.tell(Order::Drain);
            }
            state.connections.insert(id, Arc::clone(&activity));
        }
        self.changed.notify_waiters();
        self.changed.notify_one();
        Entered { registry: Arc::clone(self), id, activity }
    }

    /// Number of open connections.
    pub(super) fn len(&self) -> usize {
        self.lock().connections.len()
    }

    /// Asks every connection to finish its request; those that have sent no byte are cut.
    pub(super) fn drain(&self) {
        let mut state = self.lock();
        state.draining = true;
        for activity in state.connections.values() {
            activity.tell(if activity.heard() { Order::Drain } else { Order::Cut(CutReason::Drained) });
        }
    }

    /// Cuts every connection.
    pub(super) fn cut_all(&self) {
        for activity in self.lock().connections.values() {
            activity.tell(Order::Cut(CutReason::Drained));
        }
    }

    /// Cuts the connection that has been idle the longest, to make room for a new one; false if none is idle. The connection counts
    /// until its task has ended: for that moment there is one more than the limit.
    pub(super) fn cut_longest_idle(&self) -> bool {
        let state = self.lock();
        let idle = state
            .connections
            .iter()
            .filter_map(|(id, activity)| Some((activity.idle_ticks()?, std::cmp::Reverse(*id), activity)));
        let longest = idle.max_by_key(|(ticks, id, _)| (*ticks, *id));
        longest.is_some_and(|(.., activity)| {
            activity.tell(Order::Cut(CutReason::Idle));
            true
        })
    }

    /// Returns when no connection is open.
    pub(super) async fn emptied(&self) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.len() == 0 {
                return;
            }
            changed.await;
        }
    }

    /// Checks every connection once a tick, and sleeps while there is none. Never returns.
    ///
    /// A tick may become shorter while it runs, and never longer: what was counted in short ticks would then count as more time.
    pub(super) async fn sweep(&self, live: &LiveAcceptLimits) {
        let mut tick = Duration::MAX;
        loop {
            if self.len() == 0 {
                self.changed.notified().await;
                continue;
            }
            tick = tick.min(live.current().tick());
            tokio::time::sleep(tick).await;
            self.ticks.advance();
            let limits = live.current().in_ticks(tick);
            for activity in self.lock().connections.values() {
                if let Some(reason) = activity.overdue(&limits) {
                    activity.tell(Order::Cut(reason));
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Connections> {
        // A panic under the lock leaves the map whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's entry in the registry.
#[derive(Debug)]
pub(super) struct Entered {
    registry: Arc<Registry>,
    id: u64,
    pub(super) activity: Arc<Activity>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let emptied = {
            let mut state = self.registry.lock();
            state.connections.remove(&self.id);
            state.connections.is_empty()
        };
        if emptied {
            self.registry.changed.notify_waiters();
        }
    }
}
