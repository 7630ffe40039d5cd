//! The one file that reads clocks.
//!
//! Every decision takes `now` as a parameter. The acting code asks the [`Clock`] that it was given. Tests pass
//! [`Clock::manual`] or [`Clock::tokio`] (which follows tokio's paused time), so no test waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A point in time: microseconds since the Unix epoch.
///
/// Microseconds, because `Age` is summed before it is truncated to whole seconds (RFC 9111 §4.2.3), and because the
/// same type measures the origin's latency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The given number of whole seconds since the Unix epoch.
    pub const fn from_unix_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000))
    }

    /// The given number of microseconds since the Unix epoch.
    pub const fn from_unix_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Whole seconds since the Unix epoch, rounded down.
    pub const fn as_unix_seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Microseconds since the Unix epoch.
    pub const fn as_unix_micros(self) -> i64 {
        self.0
    }

    /// Time passed since `earlier`; zero when `earlier` lies in the future (a clock was set back).
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// This time plus a duration, saturating.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// This time minus a duration, saturating.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// When the window of the clock began that this time lies in. Windows begin at multiples of their length since the Unix epoch:
    /// hours on the hour, days at midnight UTC.
    #[must_use]
    pub fn window_start(self, length: Duration) -> Self {
        let length = i64::try_from(length.as_micros()).unwrap_or(i64::MAX).max(1);
        Self(self.0 - self.0.rem_euclid(length))
    }

    /// The same time as the standard library writes it; times before 1970 become 1970.
    pub fn to_system_time(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_micros(u64::try_from(self.0).unwrap_or(0))
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Self::default().plus(after),
            Err(before) => Self::default().minus(before.duration()),
        }
    }
}

/// Now, for intervals within this process: it never goes back. It follows tokio's (possibly paused) time.
#[expect(clippy::disallowed_methods, reason = "this is the one file that reads clocks")]
pub fn instant() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

/// A source of time. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The machine's wall clock.
    #[default]
    System,
    /// tokio's clock, counted from a given start: follows `tokio::time::pause` and `advance`.
    Tokio {
        /// The time that `origin` corresponds to.
        start: Timestamp,
        /// The tokio instant at which the clock was made.
        origin: tokio::time::Instant,
    },
    /// Stands still until a test moves it: microseconds since the Unix epoch.
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// A clock that stands at `start` until [`Clock::advance`] is called.
    pub fn manual(start: Timestamp) -> Self {
        Self::Manual(Arc::new(AtomicI64::new(start.0)))
    }

    /// A clock that shows `start` now and then follows tokio's (possibly paused) time.
    #[expect(clippy::disallowed_methods, reason = "this is the one file that reads clocks")]
    pub fn tokio(start: Timestamp) -> Self {
        Self::Tokio { start, origin: tokio::time::Instant::now() }
    }

    /// The current time.
    #[expect(clippy::disallowed_methods, reason = "this is the one file that reads clocks")]
    pub fn now(&self) -> Timestamp {
        match self {
            Self::System => Timestamp::from(SystemTime::now()),
            Self::Tokio { start, origin } => start.plus(tokio::time::Instant::now() - *origin),
            Self::Manual(micros) => Timestamp(micros.load(Ordering::SeqCst)),
        }
    }

    /// Moves a manual clock forward; the other kinds move by themselves and ignore the call.
    pub fn advance(&self, duration: Duration) {
        if let Self::Manual(micros) = self {
            micros.fetch_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX), Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let clock = Clock::manual(Timestamp::from_unix_seconds(100));
        let before = clock.now();
        assert_eq!(clock.now().since(before), Duration::ZERO);
        clock.advance(Duration::from_millis(2_500));
        assert_eq!(clock.now().since(before), Duration::from_millis(2_500));
        assert_eq!(clock.now().as_unix_seconds(), 102);
    }

    #[test]
    fn a_clock_set_back_yields_no_negative_duration() {
        let late = Timestamp::from_unix_seconds(10);
        let early = Timestamp::from_unix_seconds(4);
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(late.since(early), Duration::from_secs(6));
    }

    #[test]
    fn arithmetic_saturates_instead_of_wrapping() {
        let end = Timestamp::from_unix_micros(i64::MAX);
        assert_eq!(end.plus(Duration::from_secs(1)), end);
        assert_eq!(Timestamp::from_unix_seconds(i64::MAX).as_unix_micros(), i64::MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn the_tokio_clock_follows_paused_time() {
        let clock = Clock::tokio(Timestamp::from_unix_seconds(1_000));
        tokio::time::advance(Duration::from_secs(7)).await;
        assert_eq!(clock.now().as_unix_seconds(), 1_007);
    }
}
