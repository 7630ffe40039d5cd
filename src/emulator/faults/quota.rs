//! Quotas as App Configuration counts them: a number of requests in each hour (or other window) of the clock.

use std::time::Duration;

use crate::clock::Timestamp;

/// A limit on the requests within each window of the clock.
#[derive(Debug, Clone)]
pub struct Quota {
    limit: u64,
    window: Duration,
    started: Timestamp,
    used: u64,
}

impl Quota {
    /// An unused quota of `limit` requests in each `window`. Windows begin at multiples of their length since
    /// the Unix epoch: hours on the hour, days at midnight UTC.
    pub fn new(limit: u64, window: Duration) -> Self {
        Self { limit, window, started: Timestamp::default(), used: 0 }
    }

    /// The time for which the quota stays exhausted; `None` if it is not exhausted.
    pub fn exhausted_for(&mut self, now: Timestamp) -> Option<Duration> {
        let started = now.window_start(self.window);
        if started != self.started {
            self.started = started;
            self.used = 0;
        }
        (self.used >= self.limit).then(|| started.plus(self.window).since(now))
    }

    /// Uses one request of the window of the last [`Quota::exhausted_for`].
    pub fn take(&mut self) {
        self.used += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_ends_on_the_clock_and_begins_anew() {
        let mut quota = Quota::new(2, Duration::from_secs(3600));
        let half_past = Timestamp::from_unix_seconds(7200 + 1800);
        for _ in 0..2 {
            assert_eq!(quota.exhausted_for(half_past), None);
            quota.take();
        }
        assert_eq!(quota.exhausted_for(half_past), Some(Duration::from_secs(1800)));
        assert_eq!(
            quota.exhausted_for(Timestamp::from_unix_seconds(7200 + 3599)),
            Some(Duration::from_secs(1))
        );
        assert_eq!(quota.exhausted_for(Timestamp::from_unix_seconds(10_800)), None);
    }

    #[test]
    fn a_quota_of_zero_is_always_exhausted() {
        let mut quota = Quota::new(0, Duration::from_secs(60));
        assert_eq!(quota.exhausted_for(Timestamp::from_unix_seconds(90)), Some(Duration::from_secs(30)));
    }
}
