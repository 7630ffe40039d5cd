//! Freshness lifetime (RFC 9111 §4.2.1, §4.2.2; RFC 9213 §2.2): what the response says about how long it may be reused.

use std::time::Duration;

use http::StatusCode;
use http::header::{EXPIRES, LAST_MODIFIED};

use super::ResponseHead;
use super::age::{corrected_initial_age, date_value};
use crate::config::caching::CachingRules;
use crate::headers::cache_control::ResponseDirectives;
use crate::headers::{http_date, targeted_cache_control};
use crate::stored_response::StoredPolicy;

/// A heuristic lifetime is this fraction of the time since the last modification (RFC 9111 §4.2.2).
const HEURISTIC_DIVISOR: u32 = 10;

/// The directives that apply to a response, and which field they come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DirectivesInForce {
    /// The directives.
    pub directives: ResponseDirectives,
    /// They come from `CDN-Cache-Control`: then `Cache-Control` and `Expires` are ignored (RFC 9213 §2.2).
    pub targeted: bool,
}

/// Reads the directives that apply: a valid `CDN-Cache-Control` alone if the rules allow it, else `Cache-Control`.
pub fn directives_in_force(head: &ResponseHead, rules: &CachingRules) -> DirectivesInForce {
    let targeted =
        rules.targeted_cache_control.then(|| targeted_cache_control::from_fields(&head.fields)).flatten();
    match targeted {
        Some(directives) => DirectivesInForce { directives, targeted: true },
        None => {
            DirectivesInForce { directives: ResponseDirectives::from_fields(&head.fields), targeted: false }
        }
    }
}

/// Where a freshness lifetime comes from, in the order of precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifetimeSource {
    /// `s-maxage`.
    SMaxage,
    /// `max-age`.
    MaxAge,
    /// `Expires` minus `Date`.
    Expires,
    /// The operator's setting, because the response names none.
    Configured,
    /// A fraction of the time since `Last-Modified`.
    Heuristic,
    /// None of these: the lifetime is zero.
    Nothing,
}

impl LifetimeSource {
    /// Whether the response itself names its lifetime.
    pub const fn is_explicit(self) -> bool {
        matches!(self, Self::SMaxage | Self::MaxAge | Self::Expires)
    }
}

/// The freshness lifetime of a response in a shared cache, and where it comes from.
pub fn freshness_lifetime(
    head: &ResponseHead,
    in_force: &DirectivesInForce,
    rules: &CachingRules,
) -> (Duration, LifetimeSource) {
    if let Some(lifetime) = in_force.directives.s_maxage {
        return (lifetime, LifetimeSource::SMaxage);
    }
    if let Some(lifetime) = in_force.directives.max_age {
        return (lifetime, LifetimeSource::MaxAge);
    }
    if !in_force.targeted
        && let Some(expires) = head.fields.get(EXPIRES)
    {
        // An invalid date, `0` in particular, lies in the past (RFC 9111 §5.3).
        let expires = http_date::parse(expires.as_bytes());
        let lifetime = expires.map_or(Duration::ZERO, |expires| expires.since(date_value(head)));
        return (lifetime, LifetimeSource::Expires);
    }
    if let Some(lifetime) = configured_lifetime(head.status, rules) {
        return (lifetime, LifetimeSource::Configured);
    }
    if rules.heuristics
        && rules.freshness.is_none()
        && (is_heuristically_cacheable(head.status) || in_force.directives.public)
        && let Some(last_modified) = head.fields.get(LAST_MODIFIED)
        && let Some(last_modified) = http_date::parse(last_modified.as_bytes())
    {
        let guess = date_value(head).since(last_modified) / HEURISTIC_DIVISOR;
        return (guess.min(rules.heuristic_limit), LifetimeSource::Heuristic);
    }
    (Duration::ZERO, LifetimeSource::Nothing)
}

/// The operator's lifetime for a status whose response names none. Statuses other than 200, 203, 206 and 404 have no
/// such setting.
fn configured_lifetime(status: StatusCode, rules: &CachingRules) -> Option<Duration> {
    match status {
        StatusCode::OK | StatusCode::NON_AUTHORITATIVE_INFORMATION | StatusCode::PARTIAL_CONTENT => {
            rules.freshness
        }
        StatusCode::NOT_FOUND => rules.freshness_not_found,
        _ => None,
    }
}

/// Whether a response of this status may be stored with a heuristic lifetime (RFC 9110 §15.1). A 206 is left out: parts
/// with a guessed lifetime are not worth storing.
pub fn is_heuristically_cacheable(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// Computes at the time of storing what each reuse compares.
pub fn policy(head: &ResponseHead, in_force: &DirectivesInForce, rules: &CachingRules) -> StoredPolicy {
    let directives = &in_force.directives;
    let (freshness_lifetime, source) = freshness_lifetime(head, in_force, rules);
    let must_revalidate = directives.forbids_stale();
    let stale_while_revalidate = directives.stale_while_revalidate.filter(|_| !must_revalidate);
    StoredPolicy {
        freshness_lifetime,
        initial_age: corrected_initial_age(head),
        no_cache: directives.no_cache,
        must_revalidate,
        public: directives.public,
        stale_while_revalidate: stale_while_revalidate.unwrap_or_default(),
        stale_if_error: directives.stale_if_error,
        heuristic: source == LifetimeSource::Heuristic,
        configured: source == LifetimeSource::Configured,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::tests::{date, head};
    use proptest::prelude::*;

    fn lifetime_under(rules: &CachingRules, status: u16, lines: &[(&str, &str)]) -> (u64, LifetimeSource) {
        let head = head(status, lines);
        let in_force = directives_in_force(&head, rules);
        let (lifetime, source) = freshness_lifetime(&head, &in_force, rules);
        (lifetime.as_secs(), source)
    }

    fn lifetime(status: u16, lines: &[(&str, &str)]) -> (u64, LifetimeSource) {
        lifetime_under(&CachingRules::rfc9111(), status, lines)
    }

    #[test]
    fn explicit_lifetimes_by_precedence() {
        use LifetimeSource::{Expires, MaxAge, Nothing, SMaxage};
        for (lines, expected) in [
            (&[][..], (0, Nothing)),
            (&[("cache-control", "max-age=60")], (60, MaxAge)),
            (&[("cache-control", "max-age=0")], (0, MaxAge)),
            (&[("cache-control", "max-age=-1")], (0, MaxAge)),
            (&[("cache-control", "max-age=60"), ("expires", "@-600")], (60, MaxAge)),
            (&[("cache-control", "max-age=60"), ("expires", "@600")], (60, MaxAge)),
            (&[("cache-control", "max-age=60"), ("expires", "0")], (60, MaxAge)),
            (&[("cache-control", "max-age=60, s-maxage=5")], (5, SMaxage)),
            (&[("cache-control", "s-maxage=5, max-age=60")], (5, SMaxage)),
            (&[("cache-control", "max-age=60"), ("cache-control", "s-maxage=5")], (5, SMaxage)),
            (&[("cache-control", "s-maxage=5"), ("cache-control", "max-age=60")], (5, SMaxage)),
            (&[("cache-control", "s-maxage=x, max-age=60")], (0, SMaxage)),
            (&[("cache-control", "s-maxage=5"), ("expires", "@-600")], (5, SMaxage)),
            (&[("cache-control", "x=\"max-age=60\"")], (0, Nothing)),
            (&[("date", "@0"), ("expires", "@-600")], (600, Expires)),
            (&[("date", "@0"), ("expires", "@0")], (0, Expires)),
            (&[("date", "@0"), ("expires", "@1")], (0, Expires)),
            (&[("date", "@0"), ("expires", "0")], (0, Expires)),
            (&[("date", "@0"), ("expires", "-1")], (0, Expires)),
            (&[("date", "@0"), ("expires", "tomorrow")], (0, Expires)),
            (&[("date", "@0"), ("expires", "")], (0, Expires)),
            (&[("date", "@0"), ("expires", "Thu, 1 Jan 2099 00:00:00 GMT")], (0, Expires)),
            (&[("date", "@0"), ("expires", "Thu, 01 Jan 2099 00:00:00 UTC")], (0, Expires)),
            (&[("date", "@0"), ("expires", "Thu 01 Jan 2099 00:00:00 GMT")], (0, Expires)),
            // `Expires` counts from the `Date` of the same response, however wrong the origin's clock is.
            (&[("date", "@6000"), ("expires", "@5940")], (60, Expires)),
            (&[("date", "@-6000"), ("expires", "@-6060")], (60, Expires)),
            (&[("date", "garbage"), ("expires", "@-60")], (60, Expires)),
            (&[("expires", "@-60")], (60, Expires)),
            (&[("date", "@0"), ("expires", "@-60"), ("expires", "@-600")], (60, Expires)),
            (&[("date", "@0"), ("expires", "@60"), ("expires", "@-600")], (0, Expires)),
            (&[("date", "@0"), ("expires", "Sunday, 06-Nov-94 08:49:37 GMT")], (0, Expires)),
        ] {
            assert_eq!(lifetime(200, lines), expected, "{lines:?}");
        }
        for far in ["Thu, 01 Jan 2099 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT"] {
            assert!(lifetime(200, &[("date", "@0"), ("expires", far)]).0 > 60 * 365 * 86_400, "{far}");
        }
    }

    #[test]
    fn a_heuristic_lifetime_is_a_tenth_of_the_age_of_the_representation() {
        use LifetimeSource::{Expires, Heuristic, MaxAge, Nothing};
        for (lines, expected) in [
            (&[("date", "@0"), ("last-modified", "@1000")][..], (100, Heuristic)),
            (&[("date", "@500"), ("last-modified", "@1000")], (50, Heuristic)),
            (&[("last-modified", "@1000")], (100, Heuristic)),
            (&[("date", "@0"), ("last-modified", "@0")], (0, Heuristic)),
            (&[("date", "@0"), ("last-modified", "@-1000")], (0, Heuristic)),
            (&[("date", "@0"), ("last-modified", "garbage")], (0, Nothing)),
            (&[("last-modified", "@1000"), ("cache-control", "max-age=5")], (5, MaxAge)),
            (&[("last-modified", "@1000"), ("cache-control", "max-age=x")], (0, MaxAge)),
            (&[("last-modified", "@1000"), ("expires", "0")], (0, Expires)),
        ] {
            assert_eq!(lifetime(200, lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn a_heuristic_lifetime_is_bounded_and_no_other_is() {
        let two_years = ("last-modified", "@63072000");
        assert_eq!(lifetime(200, &[two_years]), (3_600, LifetimeSource::Heuristic));
        assert_eq!(lifetime(200, &[("last-modified", "@35990")]), (3_599, LifetimeSource::Heuristic));
        for (limit, expected) in [(0, 0), (60, 60), (100_000_000, 6_307_200)] {
            let rules =
                CachingRules { heuristic_limit: Duration::from_secs(limit), ..CachingRules::rfc9111() };
            let found = lifetime_under(&rules, 200, &[two_years]);
            assert_eq!(found, (expected, LifetimeSource::Heuristic), "{limit}");
            let named = [two_years, ("cache-control", "max-age=86400")];
            assert_eq!(lifetime_under(&rules, 200, &named), (86_400, LifetimeSource::MaxAge), "{limit}");
        }
    }

    #[test]
    fn heuristics_are_for_statuses_that_are_cacheable_by_default_or_public() {
        let modified = ("last-modified", "@1000");
        for status in [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501] {
            assert_eq!(lifetime(status, &[modified]), (100, LifetimeSource::Heuristic), "{status}");
        }
        for status in [201, 202, 206, 299, 302, 303, 307, 400, 403, 418, 429, 499, 500, 502, 503, 504, 599] {
            assert_eq!(lifetime(status, &[modified]), (0, LifetimeSource::Nothing), "{status}");
            let public = [modified, ("cache-control", "public")];
            assert_eq!(lifetime(status, &public), (100, LifetimeSource::Heuristic), "{status} public");
        }
    }

    #[test]
    fn app_configuration_has_configured_lifetimes_and_no_heuristics() {
        let rules = CachingRules::app_configuration();
        for (status, expected) in [
            (200, (30, LifetimeSource::Configured)),
            (206, (30, LifetimeSource::Configured)),
            (404, (5, LifetimeSource::Configured)),
            (204, (0, LifetimeSource::Nothing)),
            (301, (0, LifetimeSource::Nothing)),
            (403, (0, LifetimeSource::Nothing)),
            (410, (0, LifetimeSource::Nothing)),
            (500, (0, LifetimeSource::Nothing)),
        ] {
            assert_eq!(lifetime_under(&rules, status, &[("last-modified", "@1000")]), expected, "{status}");
        }
        let explicit = lifetime_under(&rules, 200, &[("cache-control", "max-age=7")]);
        assert_eq!(explicit, (7, LifetimeSource::MaxAge));
        let expired = lifetime_under(&rules, 200, &[("expires", "0")]);
        assert_eq!(expired, (0, LifetimeSource::Expires));
    }

    #[test]
    fn a_configured_lifetime_ends_all_guessing() {
        let rules = CachingRules { freshness: Some(Duration::from_secs(9)), ..CachingRules::rfc9111() };
        let modified = [("last-modified", "@1000")];
        assert_eq!(lifetime_under(&rules, 200, &modified), (9, LifetimeSource::Configured));
        assert_eq!(lifetime_under(&rules, 301, &modified), (0, LifetimeSource::Nothing));
    }

    #[test]
    fn a_targeted_field_alone_decides() {
        use LifetimeSource::{Heuristic, MaxAge, Nothing};
        for (lines, expected) in [
            (
                &[("cdn-cache-control", "max-age=9"), ("cache-control", "max-age=60, s-maxage=5")][..],
                (9, MaxAge),
            ),
            (&[("cdn-cache-control", "max-age=9"), ("expires", "@-600")], (9, MaxAge)),
            (&[("cdn-cache-control", "x"), ("expires", "@-600")], (0, Nothing)),
            (&[("cdn-cache-control", "x"), ("last-modified", "@1000")], (100, Heuristic)),
            (&[("cdn-cache-control", "max-age=9,"), ("cache-control", "max-age=60")], (60, MaxAge)),
            (&[("cdn-cache-control", ""), ("cache-control", "max-age=60")], (60, MaxAge)),
            (&[("cdn-cache-control", "max-age=-5"), ("cache-control", "max-age=60")], (0, MaxAge)),
        ] {
            assert_eq!(lifetime(200, lines), expected, "{lines:?}");
        }
        let blind = CachingRules { targeted_cache_control: false, ..CachingRules::rfc9111() };
        let lines = [("cdn-cache-control", "max-age=9"), ("cache-control", "max-age=60")];
        assert_eq!(lifetime_under(&blind, 200, &lines), (60, MaxAge));
    }

    #[test]
    fn what_must_be_revalidated_has_no_window_for_staleness() {
        let rules = CachingRules::rfc9111();
        for (directives, window) in [
            ("max-age=1, stale-while-revalidate=9", 9),
            ("max-age=1, stale-while-revalidate=9, must-revalidate", 0),
            ("max-age=1, stale-while-revalidate=9, proxy-revalidate", 0),
            ("s-maxage=1, stale-while-revalidate=9", 0),
            ("max-age=1, stale-while-revalidate=9, no-cache", 0),
            ("max-age=1, stale-while-revalidate=9, no-cache=\"x\"", 9),
        ] {
            let head = head(200, &[("cache-control", directives)]);
            let policy = policy(&head, &directives_in_force(&head, &rules), &rules);
            assert_eq!(policy.stale_while_revalidate.as_secs(), window, "{directives}");
            assert_eq!(policy.must_revalidate, window == 0, "{directives}");
        }
    }

    proptest! {
        #[test]
        fn no_fields_make_it_panic_or_overflow(
            max_age in "[0-9]{0,30}", expires in "[ -~]{0,40}", age in "[0-9]{0,30}", modified in -400_000_000_i64..400_000_000,
        ) {
            let (cache_control, modified) = (format!("max-age={max_age}"), date(modified));
            let lines = [
                ("cache-control", cache_control.as_str()),
                ("expires", expires.trim_start_matches('@')),
                ("age", &age),
                ("last-modified", &modified),
            ];
            let rules = CachingRules::rfc9111();
            let head = head(200, &lines);
            let policy = policy(&head, &directives_in_force(&head, &rules), &rules);
            prop_assert!(policy.freshness_lifetime <= Duration::from_secs(1 << 31));
            prop_assert!(policy.initial_age <= Duration::from_secs(1 << 31));
        }
    }
}
