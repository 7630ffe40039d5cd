//! The counts of requests over the last minutes: the counters of `/metrics`, read at regular intervals. Requests pay nothing for it.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::{Metrics, RequestCounters};
use crate::clock::instant;

/// How often the counters are read.
pub const HISTORY_STEP: Duration = Duration::from_secs(5);

/// How many steps are kept: five minutes.
const STEPS: usize = 60;

/// How many requests there were, and how many of them were hits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestCounts {
    /// Answered from the store.
    pub hits: u64,
    /// All of them.
    pub requests: u64,
}

impl RequestCounts {
    /// The counts of one upstream now.
    pub fn of(counters: &RequestCounters) -> Self {
        let hits = counters.hit.get();
        Self { hits, requests: hits + counters.forwarded.iter().map(|it| it.get()).sum::<u64>() }
    }

    /// Those since an earlier moment.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self {
            hits: self.hits.saturating_sub(earlier.hits),
            requests: self.requests.saturating_sub(earlier.requests),
        }
    }

    /// The part that hits are of the requests; `None` without requests.
    #[must_use]
    pub fn hit_ratio(self) -> Option<f64> {
        (self.requests > 0).then(|| self.hits as f64 / self.requests as f64)
    }
}

/// The counts of all upstreams, as they were at the ends of the last steps.
#[derive(Debug)]
pub struct RequestHistory(Mutex<VecDeque<HistoryStep>>);

#[derive(Debug)]
struct HistoryStep {
    ended: Instant,
    /// In the order of the upstreams.
    counts: Box<[RequestCounts]>,
}

/// What one upstream was asked over the last minutes.
#[derive(Clone, Debug, PartialEq)]
pub struct RecentRequests {
    /// How long ago the first of the steps began.
    pub covers: Duration,
    /// All of them together.
    pub total: RequestCounts,
    /// Those of each step, the oldest first. The last step is under way.
    pub steps: Vec<RequestCounts>,
}

impl RequestHistory {
    /// A history that begins now.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        let history = Self(Mutex::default());
        history.end_step(metrics);
        history
    }

    /// Ends a step. To be called after each [`HISTORY_STEP`].
    pub fn end_step(&self, metrics: &Metrics) {
        let counts = metrics.families.upstreams.iter().map(|it| RequestCounts::of(&it.requests)).collect();
        let mut steps = self.lock();
        if steps.len() > STEPS {
            steps.pop_front();
        }
        steps.push_back(HistoryStep { ended: instant(), counts });
    }

    /// The last minutes of the upstream with this index, whose counts are `now`.
    pub fn recent(&self, upstream: usize, now: RequestCounts) -> RecentRequests {
        let ends = self.lock();
        let counts: Vec<RequestCounts> =
            ends.iter().filter_map(|step| step.counts.get(upstream).copied()).chain([now]).collect();
        let steps = counts.windows(2).map(|pair| pair[1].since(pair[0])).collect();
        let covers = ends.front().map(|first| instant() - first.ended).unwrap_or_default();
        let total = counts.first().map(|first| now.since(*first)).unwrap_or_default();
        RecentRequests { covers, total, steps }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<HistoryStep>> {
        // Nothing under this lock can panic half way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_last_minutes_are_kept_step_by_step() {
        let metrics = Metrics::new(["main", "other"]);
        let main = &metrics.upstream(0).requests;
        main.hit.inc();
        let history = RequestHistory::new(&metrics);
        let recent = || history.recent(0, RequestCounts::of(main));
        assert_eq!(recent().total, RequestCounts::default(), "what was before counts as before");
        main.hit.inc_by(3);
        main.forwarded("stale");
        tokio::time::advance(HISTORY_STEP).await;
        history.end_step(&metrics);
        main.forwarded("uri-miss");
        let counts = |hits, requests| RequestCounts { hits, requests };
        assert_eq!(recent().steps, [counts(3, 4), counts(0, 1)]);
        assert_eq!((recent().total, recent().covers), (counts(3, 5), HISTORY_STEP));
        assert_eq!(recent().total.hit_ratio(), Some(0.6));
        assert_eq!(history.recent(1, counts(0, 0)).total.hit_ratio(), None);
        for _ in 0..2 * STEPS {
            tokio::time::advance(HISTORY_STEP).await;
            main.hit.inc();
            history.end_step(&metrics);
        }
        assert_eq!(recent().steps.len(), STEPS + 1);
        assert_eq!(recent().covers, HISTORY_STEP * u32::try_from(STEPS).unwrap());
        assert_eq!(recent().total, counts(60, 60));
    }
}
