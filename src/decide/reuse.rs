//! Constructing responses from the store (RFC 9111 §4): why a request was answered from the store, or went upstream.
//!
//! This is the hot path: comparisons of what was worked out when the response was stored and when the request was parsed, no
//! text and no allocation.

use std::time::Duration;

use super::age::current_age;
use super::{BypassReason, Decision, ForwardReason, RequestReason, Reuse, StaleReason, Staleness, range};
use crate::clock::Timestamp;
use crate::config::caching::{CachingRules, Consistency, Sharing};
use crate::headers::cache_control::RequestDirectives;
use crate::presented_request::PresentedRequest;
use crate::stored_response::StoredResponse;
use crate::sync_token::coverage::{CoverageVerdict, UncoveredReason};

/// What to do about a request: `stored` is the response that its selecting header fields select, `other_variants` says
/// whether there are responses for the same key that they do not, and `coverage` is the verdict on `stored`.
#[must_use]
pub fn reuse(
    request: &PresentedRequest,
    stored: Option<&StoredResponse>,
    other_variants: bool,
    coverage: CoverageVerdict,
    rules: &CachingRules,
    now: Timestamp,
) -> Decision {
    if !request.is_retrieval() {
        return Decision::Forward(ForwardReason::Method);
    }
    let decision = decide(request, stored, other_variants, coverage, rules, now);
    match decision {
        Decision::Reuse(_) => decision,
        _ if request.directives.only_if_cached => Decision::Refuse,
        _ => decision,
    }
}

fn decide(
    request: &PresentedRequest,
    stored: Option<&StoredResponse>,
    other_variants: bool,
    coverage: CoverageVerdict,
    rules: &CachingRules,
    now: Timestamp,
) -> Decision {
    if request.directives.no_store {
        return Decision::Forward(ForwardReason::Request(RequestReason::NoStore));
    }
    if request.preconditions.is_for_origin() {
        return Decision::Forward(ForwardReason::Bypass(BypassReason::Precondition));
    }
    if !is_shareable_with(request, stored, rules) {
        return Decision::Forward(ForwardReason::Bypass(BypassReason::Cookie));
    }
    let Some(stored) = stored else {
        return Decision::Fetch(if other_variants {
            ForwardReason::VaryMiss
        } else {
            ForwardReason::UriMiss
        });
    };
    if !has_what_is_asked(request, stored) {
        return Decision::Validate(ForwardReason::Partial);
    }
    if request.directives.no_cache {
        return Decision::Validate(ForwardReason::Request(RequestReason::NoCache));
    }
    if let Some(reason) = demand_for_validation(stored, coverage, rules) {
        return Decision::Validate(ForwardReason::Stale(reason));
    }
    judge_age(&request.directives, stored, now)
}

/// Whether a stored response may be shown to this caller at all: under `Sharing::Guarded` one who sends `Cookie` gets only
/// what the origin calls `public`. Nothing stored may turn out to be public, but nobody else's fetch may be waited for.
pub(super) fn is_shareable_with(
    request: &PresentedRequest,
    stored: Option<&StoredResponse>,
    rules: &CachingRules,
) -> bool {
    rules.sharing == Sharing::Rfc9111
        || stored.is_some_and(|stored| stored.policy.public)
        || !request.carries_cookie
}

/// Whether the stored bytes suffice (RFC 9111 §3.3): all of them, or those of the one range that the caller asks for.
#[must_use]
pub fn has_what_is_asked(request: &PresentedRequest, stored: &StoredResponse) -> bool {
    stored.range.is_none() || range::select(request, stored).is_some()
}

/// Why a stored response must be validated whatever its age.
fn demand_for_validation(
    stored: &StoredResponse,
    coverage: CoverageVerdict,
    rules: &CachingRules,
) -> Option<StaleReason> {
    if stored.policy.no_cache {
        return Some(StaleReason::NoCache);
    }
    match (rules.consistency, coverage) {
        (_, CoverageVerdict::Outdated(reason)) => Some(StaleReason::Uncovered(reason)),
        (Consistency::Strong, _) => Some(StaleReason::Strong),
        (_, CoverageVerdict::Covered)
        | (Consistency::BoundedStaleness, CoverageVerdict::Unverified(UncoveredReason::SyncToken)) => None,
        (_, CoverageVerdict::Unverified(reason)) => Some(StaleReason::Uncovered(reason)),
    }
}

/// Freshness (RFC 9111 §4.2), what the caller demands of it (§5.2.1), and who allows staleness (§4.2.4; RFC 5861 §3).
fn judge_age(directives: &RequestDirectives, stored: &StoredResponse, now: Timestamp) -> Decision {
    let age = current_age(stored, now);
    let lifetime = stored.policy.freshness_lifetime;
    if let Some(max_age) = directives.max_age
        // `max-age=0` is how a reload says `no-cache`, also within the second in which the response came.
        && (age > max_age || max_age.is_zero())
    {
        return Decision::Validate(ForwardReason::Request(RequestReason::MaxAge));
    }
    if age < lifetime {
        return match directives.min_fresh {
            Some(min_fresh) if lifetime - age < min_fresh => {
                Decision::Validate(ForwardReason::Request(RequestReason::MinFresh))
            }
            _ => Decision::Reuse(describe(age, lifetime, Staleness::Fresh)),
        };
    }
    let stale_for = age - lifetime;
    // The origin's permission first: it brings a validation with it.
    let allowed = allowed_by_origin(directives, stored, stale_for)
        .or_else(|| allowed_by_caller(directives, stored, stale_for));
    match allowed {
        Some(staleness) => Decision::Reuse(describe(age, lifetime, staleness)),
        None => Decision::Validate(ForwardReason::Stale(StaleReason::Lifetime)),
    }
}

fn allowed_by_origin(
    directives: &RequestDirectives,
    stored: &StoredResponse,
    stale_for: Duration,
) -> Option<Staleness> {
    // RFC 9111 §5.2.1.1, §5.2.1.3: a caller who names a `max-age` or `min-fresh` does not want a stale response.
    let unwanted = directives.max_age.is_some() || directives.min_fresh.is_some();
    (!unwanted && stale_for < stored.policy.stale_while_revalidate).then_some(Staleness::WhileRevalidate)
}

fn allowed_by_caller(
    directives: &RequestDirectives,
    stored: &StoredResponse,
    stale_for: Duration,
) -> Option<Staleness> {
    let max_stale = directives.max_stale?;
    let allowed = !stored.policy.must_revalidate && directives.min_fresh.is_none() && stale_for <= max_stale;
    allowed.then_some(Staleness::MaxStale)
}

/// Age and remaining lifetime in whole seconds. The two add up to the lifetime; only a stale response has a negative remainder
/// from its first instant on, so that `ttl` alone tells stale from fresh.
pub(super) fn describe(age: Duration, lifetime: Duration, staleness: Staleness) -> Reuse {
    let whole = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
    let remaining = whole(lifetime.as_secs()) - whole(age.as_secs());
    let ttl_seconds = if age < lifetime { remaining } else { remaining.min(-1) };
    Reuse { ttl_seconds, age_seconds: age.as_secs(), staleness }
}

#[cfg(test)]
mod tests;
