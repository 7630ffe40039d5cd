//! Requests that the sidecar answered with an error of its own, in the log: the first of each kind whole, and then how many more there
//! were. One line for each would fill the log while an origin is away, and say no more.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::{Clock, Timestamp};
use crate::error::ProxyError;

/// How often it is told how many failures of one kind there were.
const INTERVAL: Duration = Duration::from_secs(60);

static FAILURES: LazyLock<Failures> = LazyLock::new(Failures::default);

/// Logs that a request to an upstream failed: at info for the first of its kind in a while, else at debug. One kind is what
/// has one reason at one upstream.
pub fn log_failure(upstream: &str, error: &ProxyError) {
    let reason = error.reason();
    if FAILURES.is_first(upstream, reason, Clock::System.now()) {
        tracing::info!(upstream, reason, %error, "a request failed; more of this kind are counted, and logged at debug");
    } else {
        tracing::debug!(upstream, reason, %error, "a request failed");
    }
}

/// Logs how many failures of each kind were not logged at info in the last interval. To be called every few seconds.
pub(super) fn tell_failures() {
    for (upstream, reason, requests) in FAILURES.take(Clock::System.now()) {
        tracing::info!(%upstream, reason, requests, "more requests failed in the same way in the last minute");
    }
}

/// What was counted of each kind. There are as many kinds as upstreams and reasons: few.
#[derive(Debug, Default)]
struct Failures(Mutex<HashMap<(Box<str>, &'static str), Counted>>);

#[derive(Debug)]
struct Counted {
    since: Timestamp,
    requests: u64,
}

impl Failures {
    /// Whether this one is to be logged whole; else it is counted.
    fn is_first(&self, upstream: &str, reason: &'static str, now: Timestamp) -> bool {
        // Nothing under this lock can panic half way through a change.
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match counted.get_mut(&(upstream.into(), reason)) {
            Some(counted) => {
                counted.requests += 1;
                false
            }
            None => {
                counted.insert((upstream.into(), reason), Counted { since: now, requests: 0 });
                true
            }
        }
    }

    /// The kinds that were counted for an interval. One of which there were no more is forgotten: its next one is a first again.
    fn take(&self, now: Timestamp) -> Vec<(Box<str>, &'static str, u64)> {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut told = Vec::new();
        counted.retain(|(upstream, reason), counted| {
            // A clock that was set back must not keep anything from being told.
            if now >= counted.since && now.since(counted.since) < INTERVAL {
                return true;
            }
            let requests = std::mem::take(&mut counted.requests);
            counted.since = now;
            if requests > 0 {
                told.push((upstream.clone(), *reason, requests));
            }
            requests > 0
        });
        told.sort();
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_each_kind_is_logged_and_the_others_are_counted() {
        let failures = Failures::default();
        let at = |seconds: i64| Timestamp::from_unix_seconds(1_000 + seconds);
        assert!(failures.is_first("main", "connect", at(0)));
        for second in 1..50_i64 {
            assert!(!failures.is_first("main", "connect", at(second)));
        }
        assert!(failures.is_first("main", "host", at(50)), "of another kind");
        assert!(failures.is_first("other", "connect", at(50)), "at another upstream");
        assert_eq!(failures.take(at(59)), [], "the interval goes on");
        assert_eq!(failures.take(at(60)), [("main".into(), "connect", 49)]);
        assert!(!failures.is_first("main", "connect", at(61)), "it goes on failing");
        assert_eq!(failures.take(at(120)), [("main".into(), "connect", 1)]);
        assert_eq!(failures.take(at(180)), [], "there were no more");
        assert!(failures.is_first("main", "connect", at(181)), "so this is a first again");
        assert_eq!(failures.take(at(0)), [], "a clock that was set back");
    }
}
