//! Refresh ahead: when a response that is in use is validated before it becomes stale, so that no caller waits for the origin.
//!
//! ```text
//! validated           half of the lifetime          91 to 98 %   end of the lifetime
//!    │  a hit: it may be in use  │  another hit: it is in use │        │
//!    ├───────────────────────────┴────────────────────────────┼────────┤
//!                                                     validated ahead
//! ```
//!
//! A response is *in use* if it has answered twice since its last validation, the second time in the second half of its lifetime. What is
//! asked for less often is cheaper to validate when it is asked for. What is not asked for costs nothing.
//!
//! The price: a response in use is asked for once in about 94.5 % of its lifetime, in place of once in a lifetime and the time until the
//! next request.

use std::time::Duration;

use super::age::current_age;
use crate::clock::Timestamp;
use crate::config::caching::{CachingRules, Consistency};
use crate::stored_response::StoredResponse;

/// From which part of its lifetime on a response in use is due, and over which part that is spread. The origin answers in what is left.
const DUE_FROM: f64 = 0.91;
const DUE_SPREAD: f64 = 0.07;

/// From which part of its lifetime on what is validated together with a due response counts as due.
pub const DUE_TOGETHER_FROM: f64 = 0.88;

/// In shorter lifetimes the origin's answer would come too late.
const SHORTEST_LIFETIME: Duration = Duration::from_millis(500);

/// When a response may turn out to be in use, and when it is due if it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefreshTimes {
    /// The second half of its lifetime begins in this time; zero if it has begun.
    pub half_in: Duration,
    /// It is due in this time; zero if it is.
    pub due_in: Duration,
}

/// When a stored response of this lifetime is validated ahead if it is in use. `jitter` is a random number from 0 to 1. `None` for one that is validated on
/// each use anyway, or polled by a mirror.
pub fn refresh_times(
    stored: &StoredResponse,
    lifetime: Duration,
    rules: &CachingRules,
    now: Timestamp,
    jitter: f64,
) -> Option<RefreshTimes> {
    let is_reusable = !stored.policy.no_cache && rules.consistency != Consistency::Strong;
    if !is_reusable || stored.is_mirrored || lifetime < SHORTEST_LIFETIME {
        return None;
    }
    let age = current_age(stored, now);
    let left_until = |part: f64| lifetime.mul_f64(part).saturating_sub(age);
    Some(RefreshTimes { half_in: left_until(0.5), due_in: left_until(DUE_FROM + DUE_SPREAD * jitter) })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{NOW, stored};
    use super::*;

    #[test]
    fn it_is_due_shortly_before_the_end_of_its_lifetime() {
        let rules = CachingRules::rfc9111();
        let response = stored(200, &[("cache-control", "max-age=100")]);
        let times = |seconds, jitter| {
            let times = refresh_times(
                &response,
                Duration::from_secs(100),
                &rules,
                NOW.plus(Duration::from_secs(seconds)),
                jitter,
            )?;
            Some((times.half_in.as_secs(), times.due_in.as_secs()))
        };
        assert_eq!(times(0, 0.0), Some((50, 91)));
        assert_eq!(times(0, 1.0), Some((50, 98)));
        assert_eq!(times(60, 0.0), Some((0, 31)));
        assert_eq!(times(99, 1.0), Some((0, 0)));
    }

    #[test]
    fn what_is_validated_anyway_is_not_refreshed() {
        let rules = CachingRules::rfc9111();
        let strong = CachingRules { consistency: Consistency::Strong, ..CachingRules::rfc9111() };
        let times = |lines: &[(&str, &str)], rules| {
            let response = stored(200, lines);
            refresh_times(&response, response.policy.freshness_lifetime, rules, NOW, 0.5)
        };
        assert!(times(&[("cache-control", "max-age=100")], &strong).is_none());
        assert!(times(&[("cache-control", "max-age=100, no-cache")], &rules).is_none());
        assert!(times(&[("cache-control", "max-age=0")], &rules).is_none());
        let mirrored =
            StoredResponse { is_mirrored: true, ..stored(200, &[("cache-control", "max-age=100")]) };
        assert!(refresh_times(&mirrored, Duration::from_secs(100), &rules, NOW, 0.5).is_none());
    }
}
