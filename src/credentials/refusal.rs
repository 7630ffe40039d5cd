//! Refusals of the sidecar's own credential: how they are recognized, counted and logged.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use http::header::{AGE, DATE, WWW_AUTHENTICATE};
use http::{HeaderMap, StatusCode};
use tokio::sync::watch;

use crate::clock::Timestamp;
use crate::headers::request_date::parse_signing_date;
use crate::metrics::OriginCounters;
use crate::words::words;

/// How often a lasting refusal is logged. The metric counts each one.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

words! {
    /// Why the upstream refuses the credential: the word in logs and metrics.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum CredentialRefusal {
        /// The clocks are too far apart: the signed date is not accepted.
        Clock = "clock",
        /// The id or the token is unknown or no longer valid, or the signature is wrong.
        Credential = "credential",
        /// The credential is known but lacks the permission.
        Forbidden = "forbidden",
    }
}

impl CredentialRefusal {
    /// What the operator can do about it.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Clock => {
                "the upstream refuses the date of signed requests: set this machine's clock right (15 minutes are allowed)"
            }
            Self::Credential => {
                "the upstream refuses the sidecar's credential: check its id, secret, audience and expiry"
            }
            Self::Forbidden => {
                "the upstream knows the sidecar's credential and forbids what was asked: check its roles"
            }
        }
    }
}

/// Why an answer refuses the credential; `None` if it does not. A 401 whose challenge names the date, or "The access
/// token has expired" for a signature, is about the clock: the service accepts signed dates within 15 minutes.
pub fn refusal(status: StatusCode, fields: &HeaderMap) -> Option<CredentialRefusal> {
    match status {
        StatusCode::UNAUTHORIZED => {
            let names_clock = fields.get_all(WWW_AUTHENTICATE).iter().any(|challenge| {
                let challenge = String::from_utf8_lossy(challenge.as_bytes());
                challenge.starts_with("HMAC-SHA256")
                    && (challenge.contains("The access token has expired")
                        || challenge.contains("Invalid access token date"))
            });
            Some(if names_clock { CredentialRefusal::Clock } else { CredentialRefusal::Credential })
        }
        StatusCode::FORBIDDEN => Some(CredentialRefusal::Forbidden),
        _ => None,
    }
}

/// How far the sidecar's clock is ahead of the origin's (negative: behind) in whole seconds. It is computed from `Date`
/// of an answer without `Age`: a cache would have kept an old `Date`.
pub fn clock_skew_seconds(fields: &HeaderMap, now: Timestamp) -> Option<i64> {
    if fields.contains_key(AGE) {
        return None;
    }
    let date = parse_signing_date(fields.get(DATE)?.to_str().ok()?)?;
    Some(now.as_unix_seconds().saturating_sub(date.as_unix_seconds()))
}

/// Counts the refusals of one upstream and logs them, once a minute at most.
#[derive(Debug)]
pub struct Refusals {
    upstream: String,
    metrics: OriginCounters,
    logged_at_micros: AtomicI64,
    accepted: watch::Sender<bool>,
}

impl Refusals {
    /// A counter for the upstream with this name.
    pub fn new(upstream: String, metrics: OriginCounters) -> Self {
        let logged_at_micros = AtomicI64::new(i64::MIN);
        Self { upstream, metrics, logged_at_micros, accepted: watch::Sender::new(true) }
    }

    /// Whether the last answer was anything but a 401. True before the first answer.
    #[must_use]
    pub fn acceptance(&self) -> watch::Receiver<bool> {
        self.accepted.subscribe()
    }

    /// Takes note of an answer. Returns why it refuses the credential, if it does.
    pub fn observe_answer(
        &self,
        status: StatusCode,
        fields: &HeaderMap,
        now: Timestamp,
    ) -> Option<CredentialRefusal> {
        let skew_seconds = clock_skew_seconds(fields, now);
        if let Some(skew_seconds) = skew_seconds {
            self.metrics.clock_skew_seconds.set(skew_seconds);
        }
        let is_accepted = status != StatusCode::UNAUTHORIZED;
        // Compared first: only a change may wake the tasks that wait for one.
        if *self.accepted.borrow() != is_accepted {
            self.accepted.send_replace(is_accepted);
        }
        let refusal = refusal(status, fields)?;
        self.metrics.credential_refused(refusal.as_str());
        let logged_at = self.logged_at_micros.load(Ordering::Relaxed);
        let is_due = now < Timestamp::from_unix_micros(logged_at)
            || now.since(Timestamp::from_unix_micros(logged_at)) >= LOG_INTERVAL;
        if is_due
            && self
                .logged_at_micros
                .compare_exchange(logged_at, now.as_unix_micros(), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            tracing::warn!(
                upstream = %self.upstream,
                reason = refusal.as_str(),
                clock_ahead_seconds = skew_seconds,
                "{}",
                refusal.advice()
            );
        }
        Some(refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    fn answer(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            fields.append(*name, http::HeaderValue::from_static(value));
        }
        fields
    }

    const EXPIRED: (&str, &str) = (
        "www-authenticate",
        "HMAC-SHA256 error=\"invalid_token\", error_description=\"The access token has expired\"",
    );

    #[test]
    fn refusals_are_told_apart() {
        let unauthorized = StatusCode::UNAUTHORIZED;
        let bearer = (
            "www-authenticate",
            "Bearer error=\"invalid_token\", error_description=\"The access token has expired\"",
        );
        let date = (
            "www-authenticate",
            "HMAC-SHA256 error=\"invalid_token\", error_description=\"Invalid access token date\"",
        );
        for (status, fields, expected) in [
            (unauthorized, answer(&[EXPIRED]), Some(CredentialRefusal::Clock)),
            (unauthorized, answer(&[("www-authenticate", "Bearer"), date]), Some(CredentialRefusal::Clock)),
            (unauthorized, answer(&[bearer]), Some(CredentialRefusal::Credential)),
            (unauthorized, answer(&[]), Some(CredentialRefusal::Credential)),
            (StatusCode::FORBIDDEN, answer(&[]), Some(CredentialRefusal::Forbidden)),
            (StatusCode::OK, answer(&[EXPIRED]), None),
        ] {
            assert_eq!(refusal(status, &fields), expected, "{status} {fields:?}");
        }
    }

    #[test]
    fn a_credential_is_accepted_until_a_401_and_again_after_any_other_answer() {
        let metrics = Metrics::new(["main"]);
        let refusals = Refusals::new("main".to_owned(), metrics.upstream(0).origin.clone());
        let acceptance = refusals.acceptance();
        assert!(*acceptance.borrow());
        for (status, accepted) in
            [(403, true), (401, false), (401, false), (503, true), (401, false), (200, true)]
        {
            let status = StatusCode::from_u16(status).unwrap();
            refusals.observe_answer(status, &answer(&[]), Timestamp::from_unix_seconds(1));
            assert_eq!(*acceptance.borrow(), accepted, "{status}");
        }
    }

    #[test]
    fn skew_is_measured_against_the_origins_date_and_counted() {
        let metrics = Metrics::new(["main"]);
        let refusals = Refusals::new("main".to_owned(), metrics.upstream(0).origin.clone());
        let now = parse_signing_date("Fri, 21 Nov 2025 10:30:00 GMT").unwrap();
        let fields = answer(&[EXPIRED, ("date", "Fri, 21 Nov 2025 10:00:00 GMT")]);
        assert_eq!(
            refusals.observe_answer(StatusCode::UNAUTHORIZED, &fields, now),
            Some(CredentialRefusal::Clock)
        );
        let text = String::from_utf8(metrics.text().unwrap()).unwrap();
        assert!(text.contains("tagalong_origin_clock_skew_seconds{upstream=\"main\"} 1800"), "{text}");
        assert!(
            text.contains("tagalong_credential_refusals_total{reason=\"clock\",upstream=\"main\"} 1"),
            "{text}"
        );
        let behind = now.minus(Duration::from_secs(3_600));
        assert_eq!(clock_skew_seconds(&fields, behind), Some(-1_800));
        let kept = answer(&[("age", "1"), ("date", "Fri, 21 Nov 2025 10:00:00 GMT")]);
        assert_eq!(clock_skew_seconds(&kept, now), None);
    }
}
