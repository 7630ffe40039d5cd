//! Constructing responses from the store (RFC 9111 §4): why a request was answered from the store, or went upstream.
//!
//! The checks, in order; the first that fails decides:
//!
//! 1. The method is a retrieval. The caller sent neither `no-store` nor a condition that only the origin can evaluate
//!    ([`tells_if_match`] aside).
//! 2. The stored response may be shown to this caller (`Cookie` under [`Sharing::Guarded`]).
//! 3. A response is stored, and it holds the bytes that the caller asks for (§3.3).
//! 4. The caller did not send `no-cache`, and the origin does not demand validation on each use.
//! 5. Coverage holds as far as the consistency level demands it (see [`sync_token`](crate::sync_token)). `strong`
//!    always validates. `session` demands rules 1 to 3. `bounded-staleness` demands rule 3, and rule 2 for unknown
//!    tokens only.
//! 6. The response is fresh and satisfies `max-age` and `min-fresh`, or is stale within `stale-while-revalidate` or
//!    `max-stale`.
//!
//! With `only-if-cached` a retrieval that fails a check is refused (504, RFC 9111 §5.2.1.7).
//!
//! This is the hot path. It compares values that were computed when the response was stored and when the request was
//! parsed. It neither parses text nor allocates.

use std::time::Duration;

use super::age::current_age;
use super::precondition::tells_if_match;
use super::{BypassReason, Decision, ForwardReason, RequestReason, Reuse, StaleReason, Staleness, range};
use crate::clock::Timestamp;
use crate::config::caching::{CachingRules, Consistency, Sharing};
use crate::headers::cache_control::RequestDirectives;
use crate::presented_request::PresentedRequest;
use crate::stored_response::StoredResponse;
use crate::sync_token::coverage::{CoverageVerdict, UncoveredReason};

const FOR_ORIGIN: Decision = Decision::Forward(ForwardReason::Bypass(BypassReason::Precondition));

/// What to do about a request. `stored` is the response that the request's selecting header fields select.
/// `other_variants` says whether other responses are stored for the same key. `coverage` is the verdict on `stored`.
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
        // With its caller's condition it can neither be stored nor shared.
        _ if request.preconditions.is_for_origin() && !request.directives.no_store => FOR_ORIGIN,
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
    if request.preconditions.is_for_origin() && !stored.is_some_and(|stored| tells_if_match(request, stored))
    {
        return FOR_ORIGIN;
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
    if !holds_requested_bytes(request, stored) {
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

/// Whether a stored response may be shown to this caller. Under [`Sharing::Guarded`] a caller that sends `Cookie` gets
/// only a response that says `public`. If nothing is stored, such a request does not wait for the exchange of another
/// caller.
pub(super) fn is_shareable_with(
    request: &PresentedRequest,
    stored: Option<&StoredResponse>,
    rules: &CachingRules,
) -> bool {
    rules.sharing == Sharing::Rfc9111
        || stored.is_some_and(|stored| stored.policy.public)
        || !request.names_caller
}

/// Whether the stored bytes suffice (RFC 9111 §3.3): they are complete, or contain the range that the caller asks for.
pub fn holds_requested_bytes(request: &PresentedRequest, stored: &StoredResponse) -> bool {
    stored.range.is_none() || range::select(request, stored).is_some()
}

/// Why a stored response must be validated at any age.
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

/// Freshness (RFC 9111 §4.2), the caller's demands on it (§5.2.1), and the permissions for staleness (§4.2.4; RFC 5861
/// §3).
fn judge_age(directives: &RequestDirectives, stored: &StoredResponse, now: Timestamp) -> Decision {
    let age = current_age(stored, now);
    let lifetime = stored.policy.freshness_lifetime;
    if let Some(max_age) = directives.max_age
        // `max-age=0` is a reload: it demands validation even within the second in which the response arrived.
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
    // The origin's permission comes first: it starts a validation in the background.
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
    // RFC 9111 §5.2.1.1, §5.2.1.3: a caller that sends `max-age` or `min-fresh` does not accept a stale response.
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

/// Age and remaining lifetime in whole seconds. Their sum is the lifetime. A stale response has a negative remainder
/// from its first instant on, so that `ttl` alone tells stale from fresh.
pub(super) fn describe(age: Duration, lifetime: Duration, staleness: Staleness) -> Reuse {
    let whole = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
    let remaining = whole(lifetime.as_secs()) - whole(age.as_secs());
    let ttl_seconds = if age < lifetime { remaining } else { remaining.min(-1) };
    Reuse { ttl_seconds, age_seconds: age.as_secs(), staleness }
}

#[cfg(test)]
mod tests;
