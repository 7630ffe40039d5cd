//! Sequence numbers that rise without a write.
//!
//! The real service counts the changes of a partition that many stores share, so the `sn` of its tokens rises without a
//! write to the store: recordings show up to 1.25 a second. The rise is computed from the time; no task runs in the
//! background.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::Timestamp;

/// The fastest rise of `sn` in a second that recordings of a real store show.
pub const DEFAULT_RATE_PER_SECOND: f64 = 1.25;
/// The fastest drift; numbers must stay below 2⁵³ for clients that hold them as doubles.
pub const MAXIMUM_RATE_PER_SECOND: f64 = 1_000.0;

/// Computes the newest sequence number at a given time.
#[derive(Debug)]
pub struct Drift {
    rate_per_second: f64,
    since: Timestamp,
    /// The number at the start of this process, plus one for each change since.
    counted: u64,
    /// The most that time has added so far. The number does not go down when the clock is set back.
    added: AtomicU64,
}

impl Drift {
    /// Numbers that begin at 0 now and rise by this rate a second without a write. An invalid rate (negative, NaN)
    /// counts as 0.
    pub fn new(rate_per_second: f64, now: Timestamp) -> Self {
        let rate_per_second =
            if rate_per_second.is_nan() { 0.0 } else { rate_per_second.clamp(0.0, MAXIMUM_RATE_PER_SECOND) };
        Self { rate_per_second, since: now, counted: 0, added: AtomicU64::new(0) }
    }

    /// Whether numbers rise without a write.
    pub fn is_on(&self) -> bool {
        self.rate_per_second > 0.0
    }

    /// The newest number. It never goes down.
    pub fn newest(&self, now: Timestamp) -> u64 {
        let risen = now.since(self.since).mul_f64(self.rate_per_second).as_secs();
        self.counted + self.added.fetch_max(risen, Ordering::Relaxed).max(risen)
    }

    /// The number of the next change. [`Drift::count`] makes it the newest.
    pub fn next(&self, now: Timestamp) -> u64 {
        self.newest(now) + 1
    }

    /// Counts a change that has taken effect.
    pub fn count(&mut self) {
        self.counted += 1;
    }

    /// Continues after a restart from the last change that was kept. Numbers that were sent after that change are not
    /// kept, so the time since then counts in full, at the default rate or a higher configured one: the earlier process
    /// may have drifted although this one does not.
    pub fn resume(&mut self, last: u64, made_at: Timestamp, now: Timestamp) {
        let rate_per_second = self.rate_per_second.max(DEFAULT_RATE_PER_SECOND);
        let risen = now.since(made_at).mul_f64(rate_per_second);
        let partly = u64::from(risen.subsec_nanos() > 0);
        self.counted = last + risen.as_secs() + partly;
        self.since = now;
        self.added = AtomicU64::new(0);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const START: Timestamp = Timestamp::from_unix_seconds(1_000);

    fn after(milliseconds: u64) -> Timestamp {
        START.plus(Duration::from_millis(milliseconds))
    }

    #[test]
    fn numbers_rise_with_time_and_with_changes() {
        let mut drift = Drift::new(1.25, START);
        assert_eq!(drift.newest(after(799)), 0);
        assert_eq!(drift.newest(after(800)), 1);
        assert_eq!(drift.next(after(800)), 2);
        drift.count();
        assert_eq!(drift.newest(after(800)), 2);
        assert_eq!(drift.newest(after(80_000)), 101);
    }

    #[test]
    fn frequent_writes_do_not_slow_the_drift() {
        let mut drift = Drift::new(1.25, START);
        for step in 0..800 {
            let next = drift.next(after(step * 100));
            drift.count();
            assert_eq!(drift.newest(after(step * 100)), next);
        }
        assert_eq!(drift.newest(after(80_000)), 900);
    }

    #[test]
    fn a_rate_of_zero_does_not_drift() {
        for rate in [0.0, -1.0, f64::NAN] {
            let drift = Drift::new(rate, START);
            assert_eq!((drift.newest(after(1_000_000)), drift.is_on()), (0, false));
        }
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_lower_the_number() {
        let drift = Drift::new(1.0, START);
        assert_eq!(drift.newest(after(5_000)), 5);
        assert_eq!(drift.newest(START.minus(Duration::from_secs(60))), 5);
    }

    #[test]
    fn a_restart_never_goes_below_a_number_that_was_sent() {
        for rate in [0.0, 0.3, 1.25, 7.7] {
            for (written, restarted) in [(0, 0), (700, 900), (1_300, 99_999), (12_345, 12_345)] {
                let mut drift = Drift::new(rate, START);
                let last = drift.next(after(written));
                drift.count();
                let handed_out = drift.newest(after(restarted));
                for next_rate in [0.0, rate] {
                    let mut again = Drift::new(next_rate.max(if rate > 1.25 { rate } else { 0.0 }), START);
                    again.resume(last, after(written), after(restarted));
                    assert!(again.newest(after(restarted)) >= handed_out, "{rate} {written} {restarted}");
                }
            }
        }
    }
}
