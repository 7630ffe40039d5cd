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

/// The directives that decide about a response, and where they stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DirectivesInForce {
    /// What they say.
    pub directives: ResponseDirectives,
    /// They come from `CDN-Cache-Control`: `Cache-Control` and `Expires` are as if absent (RFC 9213 §2.2).
    pub targeted: bool,
}

/// Reads the directives that decide: a valid `CDN-Cache-Control` alone where the rules know it, else `Cache-Control`.
#[must_use]
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
    /// The operator's, because the origin said nothing.
    Configured,
    /// A fraction of the time since `Last-Modified`.
    Heuristic,
    /// Nobody named one: it is zero.
    Nothing,
}

impl LifetimeSource {
    /// Whether the response itself names its lifetime.
    #[must_use]
    pub const fn is_explicit(self) -> bool {
        matches!(self, Self::SMaxage | Self::MaxAge | Self::Expires)
    }
}

/// The freshness lifetime of a response in a shared cache, and where it comes from.
#[must_use]
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
        // An invalid date, `0` above all, lies in the past (RFC 9111 §5.3).
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
        return (date_value(head).since(last_modified) / HEURISTIC_DIVISOR, LifetimeSource::Heuristic);
    }
    (Duration::ZERO, LifetimeSource::Nothing)
}

/// What the operator configured for a status whose response names no lifetime (design, section 4).
fn configured_lifetime(status: StatusCode, rules: &CachingRules) -> Option<Duration> {
    match status {
        StatusCode::OK | StatusCode::NON_AUTHORITATIVE_INFORMATION | StatusCode::PARTIAL_CONTENT => {
            rules.freshness
        }
        StatusCode::NOT_FOUND => rules.freshness_not_found,
        _ => None,
    }
}

/// Whether a response of this status may be stored, and its lifetime guessed, although it names none (RFC 9110 §15.1). A 206
/// is left out: the parts of a representation whose lifetime is a guess are not worth keeping.
#[must_use]
pub fn is_heuristically_cacheable(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// Works out once what the hot path compares.
#[must_use]
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
    }
}
