//! How many connections there are and how they ended: what the metrics show.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::LiveAcceptLimits;
use super::connection::ConnectionEnd;
use super::http2_requests::Http2Requests;
use super::listener::Address;
use crate::metrics::ConnectionCounters;

/// Counts of connections, over all listeners and workers that share them.
#[derive(Debug, Default)]
pub struct ConnectionCounts {
    open: AtomicUsize,
    http2_requests: Arc<AtomicUsize>,
    /// Empty unless callers are told apart.
    by_caller: Mutex<HashMap<String, usize>>,
    metrics: Option<ConnectionCounters>,
    /// Also those that the metrics do not count.
    #[cfg(test)]
    ends: Mutex<Vec<ConnectionEnd>>,
}

impl ConnectionCounts {
    /// Counts that the metrics show as well.
    #[must_use]
    pub fn reporting_to(metrics: ConnectionCounters) -> Self {
        metrics.count_from_zero(&ConnectionEnd::ERRORS);
        Self { metrics: Some(metrics), ..Self::default() }
    }

    /// The HTTP/2 requests under way, as many as the limits allow.
    pub(super) fn http2_requests(&self, limits: LiveAcceptLimits) -> Http2Requests {
        Http2Requests::new(limits, Arc::clone(&self.http2_requests))
    }

    /// Connections open now.
    #[cfg(test)]
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// How many connections have ended in that way.
    #[cfg(test)]
    pub(super) fn ended(&self, end: ConnectionEnd) -> usize {
        let ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        ends.iter().filter(|each| **each == end).count()
    }

    pub(super) fn count_end(&self, end: ConnectionEnd) {
        #[cfg(test)]
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).push(end);
        if !end.is_by_agreement() {
            self.report(|metrics| metrics.error(end.as_str()));
        }
    }

    fn report(&self, count: impl FnOnce(&ConnectionCounters)) {
        if let Some(metrics) = &self.metrics {
            count(metrics);
        }
    }

    /// A permit for one more connection of that peer. `None`, and counted as refused, when as many are open as the limits allow:
    /// in all, unless `gives_way` says that another one closes for it, and of one caller (0: not counted).
    pub(super) fn permit(
        self: &Arc<Self>,
        peer: &Address,
        (limit, limit_per_caller): (usize, usize),
        gives_way: impl FnOnce() -> bool,
    ) -> Option<ConnectionPermit> {
        // The permit is made first: dropping it decrements the count.
        let mut permit = ConnectionPermit { counts: Arc::clone(self), caller: None, is_shown: false };
        let is_within = self.open.fetch_add(1, Ordering::Relaxed) < limit;
        let mut has_room = true;
        if limit_per_caller > 0 {
            let caller = peer.without_port();
            let mut callers = self.callers();
            let count = callers.entry(caller.clone()).or_default();
            has_room = *count < limit_per_caller;
            if has_room {
                *count += 1;
                drop(callers);
                permit.caller = Some(caller);
            }
        }
        if !has_room || !(is_within || gives_way()) {
            self.report(|metrics| metrics.refused.inc());
            return None;
        }
        self.report(|metrics| {
            metrics.open.inc();
            metrics.total.inc();
        });
        permit.is_shown = true;
        Some(permit)
    }

    fn callers(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        // A panic under the lock leaves the map whole.
        self.by_caller.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The permit of one open connection; released when dropped.
#[derive(Debug)]
pub(super) struct ConnectionPermit {
    counts: Arc<ConnectionCounts>,
    caller: Option<String>,
    /// Whether the metrics count it.
    is_shown: bool,
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.counts.open.fetch_sub(1, Ordering::Relaxed);
        if let Some(caller) = &self.caller {
            let mut callers = self.counts.callers();
            if let Some(count) = callers.get_mut(caller) {
                *count -= 1;
                if *count == 0 {
                    callers.remove(caller);
                }
            }
        }
        if self.is_shown {
            self.counts.report(|metrics| metrics.open.dec());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_are_limited_and_released() {
        let counts = Arc::new(ConnectionCounts::default());
        let first = counts.permit(&Address::Memory, (2, 0), || false).expect("a permit");
        let _second = counts.permit(&Address::Memory, (2, 0), || false).expect("a permit");
        assert!(counts.permit(&Address::Memory, (2, 0), || false).is_none());
        assert_eq!(counts.open(), 2, "a refused connection is not counted");
        drop(first);
        assert!(counts.permit(&Address::Memory, (2, 0), || false).is_some());
    }

    #[test]
    fn one_caller_does_not_take_the_permits_of_others() {
        let counts = Arc::new(ConnectionCounts::default());
        let at = |text: &str| Address::Tcp(text.parse().expect("an address"));
        let held = counts.permit(&at("10.0.0.1:1"), (9, 1), || false).expect("a permit");
        assert!(
            counts.permit(&at("10.0.0.1:2"), (9, 1), || false).is_none(),
            "callers are not told apart by their port"
        );
        assert!(counts.permit(&at("[::ffff:10.0.0.1]:3"), (9, 1), || false).is_none(), "nor the notation");
        assert!(counts.permit(&at("10.0.0.2:1"), (9, 1), || false).is_some());
        assert_eq!(counts.open(), 1);
        drop(held);
        assert!(counts.permit(&at("10.0.0.1:2"), (9, 1), || false).is_some());
        assert!(counts.callers().is_empty(), "no caller is remembered");
    }

    #[test]
    fn the_metrics_show_the_same() {
        let metrics = crate::metrics::Metrics::new(["main"]);
        let counts = Arc::new(ConnectionCounts::reporting_to(metrics.connections().clone()));
        let permit = counts.permit(&Address::Memory, (1, 0), || false);
        assert!(counts.permit(&Address::Memory, (1, 0), || false).is_none());
        let shown = metrics.connections();
        assert_eq!((shown.open.get(), shown.total.get(), shown.refused.get()), (1, 1, 1));
        drop(permit);
        assert_eq!((shown.open.get(), shown.total.get()), (0, 1));
    }
}
