//! Throttling: when the origin says "later", everyone waits (design, promise 4).
//!
//! A 429 or 503 with a hint is obeyed for all callers of that upstream: reads are answered from the store where allowed,
//! writes are passed on. The hint is capped, so that a mistaken header cannot silence an upstream for a day.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use http::{HeaderMap, HeaderName, StatusCode, header};

use crate::clock::Timestamp;
use crate::headers::http_date;

const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
const X_MS_RETRY_AFTER_MS: HeaderName = HeaderName::from_static("x-ms-retry-after-ms");

/// How long a 429 or 503 asks everyone to stay away; `None` for other answers and for those without a readable hint.
///
/// `retry-after-ms` wins over `x-ms-retry-after-ms`, both over `Retry-After` (seconds or date, RFC 9110 §10.2.3): the order
/// of the SDKs (fact sheet, section 11).
#[must_use]
pub fn retry_after(status: StatusCode, fields: &HeaderMap, now: Timestamp) -> Option<Duration> {
    if status != StatusCode::TOO_MANY_REQUESTS && status != StatusCode::SERVICE_UNAVAILABLE {
        return None;
    }
    let milliseconds = [RETRY_AFTER_MS, X_MS_RETRY_AFTER_MS].iter().find_map(|name| digits(fields, name));
    if let Some(milliseconds) = milliseconds {
        return Some(Duration::from_millis(milliseconds));
    }
    digits(fields, &header::RETRY_AFTER).map(Duration::from_secs).or_else(|| {
        let date = http_date::parse(fields.get(header::RETRY_AFTER)?.as_bytes())?;
        Some(date.since(now))
    })
}

fn digits(fields: &HeaderMap, name: &HeaderName) -> Option<u64> {
    let text = fields.get(name)?.to_str().ok()?.trim();
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| text.parse().unwrap_or(u64::MAX))
}

/// Until when one upstream is left alone.
#[derive(Debug)]
pub struct Throttle {
    /// Microseconds of Unix time, and in the lowest bit which of the two statuses asked for it: both change as one.
    until_and_status: AtomicI64,
    limit: Duration,
}

/// What is left of a pause that an upstream asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    /// The status with which it asked: 429 or 503.
    pub status: StatusCode,
    /// How much longer it is left alone.
    pub remaining: Duration,
}

impl Throttle {
    /// Nothing is throttled. `limit` caps every hint.
    #[must_use]
    pub const fn new(limit: Duration) -> Self {
        Self { until_and_status: AtomicI64::new(0), limit }
    }

    /// Obeys the hint of an answer with this status, as [`retry_after`] found it; a shorter hint never shortens a longer one.
    pub fn obey(&self, status: StatusCode, hint: Duration, now: Timestamp) {
        let until = now.plus(hint.min(self.limit)).as_unix_micros();
        let bit = i64::from(status == StatusCode::SERVICE_UNAVAILABLE);
        self.until_and_status.fetch_max(until << 1 | bit, Ordering::Relaxed);
    }

    /// What is left of the pause; `None` when the upstream may be asked.
    #[must_use]
    pub fn pause(&self, now: Timestamp) -> Option<Pause> {
        let until_and_status = self.until_and_status.load(Ordering::Relaxed);
        let until = Timestamp::from_unix_micros(until_and_status >> 1);
        // A clock that was set back must not extend the wait beyond the cap.
        let remaining = until.since(now).min(self.limit);
        let status = if until_and_status & 1 == 0 {
            StatusCode::TOO_MANY_REQUESTS
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        (!remaining.is_zero()).then_some(Pause { status, remaining })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_seconds(784_111_777);

    fn hint(status: u16, fields: &[(&str, &str)]) -> Option<Duration> {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(
                HeaderName::from_bytes(name.as_bytes()).expect("a name"),
                value.parse().expect("a field value"),
            );
        }
        retry_after(StatusCode::from_u16(status).expect("a status"), &map, NOW)
    }

    #[test]
    fn hints_are_read_in_the_order_of_the_sdks() {
        let all = [("retry-after", "9"), ("x-ms-retry-after-ms", "60"), ("retry-after-ms", "50")];
        assert_eq!(hint(429, &all), Some(Duration::from_millis(50)));
        assert_eq!(hint(503, &all[..2]), Some(Duration::from_millis(60)));
        assert_eq!(hint(429, &all[..1]), Some(Duration::from_secs(9)));
        assert_eq!(
            hint(429, &[("retry-after", "Sun, 06 Nov 1994 08:49:47 GMT")]),
            Some(Duration::from_secs(10))
        );
        assert_eq!(hint(429, &[("retry-after", "Sun, 06 Nov 1994 08:49:27 GMT")]), Some(Duration::ZERO));
        for bad in ["soon", "-1", "1.5", ""] {
            assert_eq!(hint(429, &[("retry-after", bad)]), None, "{bad:?}");
        }
        assert_eq!(hint(429, &[]), None);
        assert_eq!(hint(500, &all), None, "only 429 and 503 throttle");
        assert_eq!(
            hint(429, &[("retry-after", "99999999999999999999")]),
            Some(Duration::from_secs(u64::MAX))
        );
    }

    #[test]
    fn the_longest_hint_counts_up_to_the_cap() {
        let throttle = Throttle::new(Duration::from_secs(60));
        let remaining =
            |after| throttle.pause(NOW.plus(Duration::from_secs(after))).map(|left| left.remaining);
        assert_eq!(remaining(0), None);
        throttle.obey(StatusCode::TOO_MANY_REQUESTS, Duration::from_secs(10), NOW);
        throttle.obey(StatusCode::TOO_MANY_REQUESTS, Duration::from_secs(2), NOW);
        assert_eq!(remaining(4), Some(Duration::from_secs(6)));
        assert_eq!(remaining(10), None);
        throttle.obey(StatusCode::TOO_MANY_REQUESTS, Duration::MAX, NOW);
        assert_eq!(remaining(0), Some(Duration::from_secs(60)));
    }

    #[test]
    fn a_pause_has_the_status_of_the_hint_that_counts() {
        let throttle = Throttle::new(Duration::from_secs(60));
        let status = || throttle.pause(NOW).map(|pause| pause.status.as_u16());
        throttle.obey(StatusCode::SERVICE_UNAVAILABLE, Duration::from_secs(5), NOW);
        assert_eq!(status(), Some(503));
        throttle.obey(StatusCode::TOO_MANY_REQUESTS, Duration::from_secs(2), NOW);
        assert_eq!(status(), Some(503), "the longer one still");
        throttle.obey(StatusCode::TOO_MANY_REQUESTS, Duration::from_secs(9), NOW);
        assert_eq!(status(), Some(429));
    }
}
