//! What may answer while the origin cannot (RFC 9111 §4.2.4; RFC 5861 §4; design, section 3).

use std::time::Duration;

use super::age::current_age;
use super::reuse::{describe, has_what_is_asked, is_shareable_with};
use super::{Reuse, Staleness, Unreachable};
use crate::clock::Timestamp;
use crate::config::caching::{CachingRules, Consistency, WhenDisconnected};
use crate::headers::cache_control::RequestDirectives;
use crate::presented_request::PresentedRequest;
use crate::stored_response::StoredResponse;
use crate::sync_token::coverage::{CoverageVerdict, UncoveredReason};

/// Why nothing stored may answer although the origin does not: the reason in the 504 or 502.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DisconnectedRefusal {
    /// The method is not answered from the store.
    Method,
    /// Nothing fitting is stored.
    NothingStored,
    /// Only a part is stored, and not the one that is asked for.
    Partial,
    /// The caller's directives or conditions rule it out.
    Request,
    /// The request carries `Cookie` and the stored response does not say `public` (`Sharing::Guarded`).
    Cookie,
    /// The origin demands validation on each use (`no-cache`).
    NoCache,
    /// It is stale and the origin forbids that (`must-revalidate`, `proxy-revalidate`, `s-maxage`).
    MustRevalidate,
    /// It has been stale for longer than the origin (`stale-if-error`) or the operator allows.
    TooStale,
    /// The operator demands `strong` consistency.
    Strong,
    /// It is not known to include what it must.
    Uncovered(UncoveredReason),
}

impl DisconnectedRefusal {
    /// The word for the problem document, `Cache-Status; detail=`, logs and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::NothingStored => "nothing-stored",
            Self::Partial => "partial",
            Self::Request => "request",
            Self::Cookie => "cookie",
            Self::NoCache => "no-cache",
            Self::MustRevalidate => "must-revalidate",
            Self::TooStale => "too-stale",
            Self::Strong => "strong",
            Self::Uncovered(reason) => reason.as_str(),
        }
    }
}

/// Whether `stored` may answer now that the origin has failed as `why` says. `coverage` is the verdict on `stored`.
///
/// # Errors
/// The first reason that forbids it. A caller who demands validation or youth (`no-cache`, `max-age`, `min-fresh`) is told
/// that it cannot be had, rather than given what it refused.
pub fn disconnected(
    request: &PresentedRequest,
    stored: Option<&StoredResponse>,
    coverage: CoverageVerdict,
    why: Unreachable,
    rules: &CachingRules,
    now: Timestamp,
) -> Result<Reuse, DisconnectedRefusal> {
    if !request.is_retrieval() {
        return Err(DisconnectedRefusal::Method);
    }
    let stored = stored.ok_or(DisconnectedRefusal::NothingStored)?;
    if !is_shareable_with(request, Some(stored), rules) {
        return Err(DisconnectedRefusal::Cookie);
    }
    if !has_what_is_asked(request, stored) {
        return Err(DisconnectedRefusal::Partial);
    }
    if request.directives.no_cache || request.directives.no_store || request.preconditions.is_for_origin() {
        return Err(DisconnectedRefusal::Request);
    }
    if stored.policy.no_cache {
        return Err(DisconnectedRefusal::NoCache);
    }
    judge_coverage(coverage, rules)?;
    let age = current_age(stored, now);
    judge_age(&request.directives, stored, age, rules)?;
    Ok(describe(age, stored.policy.freshness_lifetime, Staleness::Disconnected(why)))
}

fn judge_coverage(coverage: CoverageVerdict, rules: &CachingRules) -> Result<(), DisconnectedRefusal> {
    if rules.when_disconnected == WhenDisconnected::Available {
        return Ok(());
    }
    // Whoever chose `strong` cannot bear any staleness, and what is not validated may be stale.
    if rules.consistency == Consistency::Strong {
        return Err(DisconnectedRefusal::Strong);
    }
    match coverage {
        CoverageVerdict::Covered => Ok(()),
        CoverageVerdict::Unverified(_) if rules.when_disconnected == WhenDisconnected::UnlessOutdated => {
            Ok(())
        }
        CoverageVerdict::Unverified(reason) | CoverageVerdict::Outdated(reason) => {
            Err(DisconnectedRefusal::Uncovered(reason))
        }
    }
}

fn judge_age(
    directives: &RequestDirectives,
    stored: &StoredResponse,
    age: Duration,
    rules: &CachingRules,
) -> Result<(), DisconnectedRefusal> {
    let policy = &stored.policy;
    if directives.max_age.is_some_and(|max_age| age > max_age || max_age.is_zero()) {
        return Err(DisconnectedRefusal::Request);
    }
    let Some(stale_for) = age.checked_sub(policy.freshness_lifetime) else {
        let remaining = policy.freshness_lifetime - age;
        let too_short = directives.min_fresh.is_some_and(|min_fresh| remaining < min_fresh);
        return if too_short { Err(DisconnectedRefusal::Request) } else { Ok(()) };
    };
    if policy.must_revalidate {
        return Err(DisconnectedRefusal::MustRevalidate);
    }
    let unwanted = match directives.max_stale {
        Some(max_stale) => stale_for > max_stale || directives.min_fresh.is_some(),
        None => directives.max_age.is_some() || directives.min_fresh.is_some(),
    };
    if unwanted {
        return Err(DisconnectedRefusal::Request);
    }
    let limit = policy.stale_if_error.map_or(rules.stale_limit, |window| window.min(rules.stale_limit));
    if stale_for > limit { Err(DisconnectedRefusal::TooStale) } else { Ok(()) }
}
