//! How many connections there are and how they ended: what the metrics show.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::connection::ConnectionEnd;
use crate::metrics::ConnectionCounters;

/// Counts of connections, over all listeners and workers that share them.
#[derive(Debug, Default)]
pub struct ConnectionCounts {
    open: AtomicUsize,
    accepted: AtomicU64,
    refused: AtomicU64,
    accept_errors: AtomicU64,
    ends: [AtomicU64; ConnectionEnd::ALL.len()],
    metrics: Option<ConnectionCounters>,
}

impl ConnectionCounts {
    /// Counts that the metrics show as well.
    #[must_use]
    pub fn reporting_to(metrics: ConnectionCounters) -> Self {
        Self { metrics: Some(metrics), ..Self::default() }
    }

    /// Connections open now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Connections accepted so far, refused ones not included.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Connections refused so far because too many were open (503).
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Times that the system could not accept a connection.
    #[must_use]
    pub fn accept_errors(&self) -> u64 {
        self.accept_errors.load(Ordering::Relaxed)
    }

    /// How many connections have ended in that way.
    #[must_use]
    pub fn ended(&self, end: ConnectionEnd) -> u64 {
        let counts = ConnectionEnd::ALL.iter().zip(&self.ends);
        counts.filter(|(each, _)| **each == end).map(|(_, count)| count.load(Ordering::Relaxed)).sum()
    }

    pub(super) fn count_end(&self, end: ConnectionEnd) {
        if let Some((_, count)) = ConnectionEnd::ALL.iter().zip(&self.ends).find(|(each, _)| **each == end) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if !end.is_by_agreement() {
            self.report(|metrics| metrics.error(end.as_str()));
        }
    }

    fn report(&self, count: impl FnOnce(&ConnectionCounters)) {
        if let Some(metrics) = &self.metrics {
            count(metrics);
        }
    }

    pub(super) fn count_accept_error(&self) {
        self.accept_errors.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes the place of one more connection; `None`, and one more refused, when `limit` are open.
    pub(super) fn take_place(self: &Arc<Self>, limit: usize) -> Option<Place> {
        if self.open.fetch_add(1, Ordering::Relaxed) >= limit {
            self.open.fetch_sub(1, Ordering::Relaxed);
            self.refused.fetch_add(1, Ordering::Relaxed);
            self.report(|metrics| metrics.refused.inc());
            return None;
        }
        self.accepted.fetch_add(1, Ordering::Relaxed);
        self.report(|metrics| {
            metrics.open.inc();
            metrics.total.inc();
        });
        Some(Place(Arc::clone(self)))
    }
}

/// The place of one open connection.
#[derive(Debug)]
pub(super) struct Place(Arc<ConnectionCounts>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
        self.0.report(|metrics| metrics.open.dec());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_and_given_back() {
        let counts = Arc::new(ConnectionCounts::default());
        let first = counts.take_place(2).expect("a place");
        let _second = counts.take_place(2).expect("a place");
        assert!(counts.take_place(2).is_none());
        assert_eq!((counts.open(), counts.accepted(), counts.refused()), (2, 2, 1));
        drop(first);
        assert!(counts.take_place(2).is_some());
    }

    #[test]
    fn the_metrics_show_the_same() {
        let metrics = crate::metrics::Metrics::new(["main"]);
        let counts = Arc::new(ConnectionCounts::reporting_to(metrics.connections().clone()));
        let place = counts.take_place(1);
        assert!(counts.take_place(1).is_none());
        let shown = metrics.connections();
        assert_eq!((shown.open.get(), shown.total.get(), shown.refused.get()), (1, 1, 1));
        drop(place);
        assert_eq!((shown.open.get(), shown.total.get()), (0, 1));
    }

    #[test]
    fn every_end_is_counted_for_itself() {
        let counts = ConnectionCounts::default();
        for (times, end) in ConnectionEnd::ALL.into_iter().enumerate() {
            (0..times).for_each(|_| counts.count_end(end));
        }
        for (times, end) in ConnectionEnd::ALL.into_iter().enumerate() {
            assert_eq!(counts.ended(end), times as u64, "{}", end.as_str());
        }
    }
}
