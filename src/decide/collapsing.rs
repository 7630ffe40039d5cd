//! Which requests share one exchange with the origin (RFC 9111 §4, collapsed requests): which may lead or follow, which
//! exchange a request may follow, and whether it may have the result.
//!
//! - Only retrievals of the whole representation collapse.
//! - A request may follow an exchange that has started if the exchange's snapshot covers what the request demanded when
//!   it asked. The result is then its answer: no second decision is made.
//! - Under `strong`, and with `no-cache` or `max-age=0`, a request follows only an exchange that starts after it asked.

use http::Method;

use crate::config::caching::{CachingRules, Consistency};
use crate::headers::vary;
use crate::presented_request::PresentedRequest;
use crate::stored_response::StoredResponse;
use crate::sync_token::coverage::{CoverageVerdict, UncoveredReason};

/// Whether a request may lead or follow an exchange. It must be a `GET` of the whole representation, or a `HEAD` that
/// is sent as `GET`: no follower could use another answer.
pub fn may_collapse(request: &PresentedRequest, heads_fetch_as_get: bool) -> bool {
    // An answer to the caller's own credential may be shared only within the partition of that credential, which is
    // part of the cache key.
    let shares_answers = !request.authorized || request.private_partition;
    let method = request.method == Method::GET || (request.method == Method::HEAD && heads_fetch_as_get);
    method && request.range.is_none() && !request.directives.no_store && shares_answers
}

/// Whether a request may follow an exchange that has started. `verdict` is the verdict of coverage on the exchange's
/// snapshot. `strong`, `no-cache` and `max-age=0` follow only an exchange that starts after the request, so never this
/// one.
pub fn may_follow(request: &PresentedRequest, verdict: CoverageVerdict, rules: &CachingRules) -> bool {
    let wants_validation =
        request.directives.no_cache || request.directives.max_age.is_some_and(|limit| limit.is_zero());
    if wants_validation {
        return false;
    }
    match rules.consistency {
        Consistency::Strong => false,
        Consistency::Session => verdict == CoverageVerdict::Covered,
        Consistency::BoundedStaleness => {
            matches!(
                verdict,
                CoverageVerdict::Covered | CoverageVerdict::Unverified(UncoveredReason::SyncToken)
            )
        }
    }
}

/// Whether a follower may have the result of an exchange. If the exchange `started_later` than the follower asked, the
/// result is as good as one of the follower's own exchange. Otherwise a response that may not be reused without
/// validation is not for a follower: it asked after the exchange was sent.
pub fn may_share_result(request: &PresentedRequest, response: &StoredResponse, started_later: bool) -> bool {
    let reusable = !response.policy.no_cache && !response.policy.freshness_lifetime.is_zero();
    (started_later || reusable) && vary::selects(&response.selecting, &request.fields)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tests::{get, request, stored};
    use super::*;

    const SYNC_TOKEN: CoverageVerdict = CoverageVerdict::Unverified(UncoveredReason::SyncToken);
    const UNKNOWN: CoverageVerdict = CoverageVerdict::Unverified(UncoveredReason::UnknownSyncToken);
    const OWN_WRITE: CoverageVerdict = CoverageVerdict::Outdated(UncoveredReason::OwnWrite);

    #[test]
    fn only_whole_retrievals_collapse() {
        assert!(may_collapse(&get(&[]), false));
        assert!(!may_collapse(&request("HEAD", &[]), false));
        assert!(may_collapse(&request("HEAD", &[]), true));
        assert!(!may_collapse(&request("POST", &[]), true));
        assert!(!may_collapse(&get(&[("range", "bytes=0-1")]), true));
        assert!(!may_collapse(&get(&[("cache-control", "no-store")]), true));
        let authorized = get(&[("authorization", "Bearer x")]);
        assert!(!may_collapse(&authorized, true));
        assert!(may_collapse(&PresentedRequest { private_partition: true, ..authorized }, true));
    }

    #[test]
    fn levels_join_by_what_they_promise() {
        let rules = |consistency| CachingRules { consistency, ..CachingRules::rfc9111() };
        for (verdict, session, bounded) in [
            (CoverageVerdict::Covered, true, true),
            (SYNC_TOKEN, false, true),
            (UNKNOWN, false, false),
            (OWN_WRITE, false, false),
        ] {
            assert!(!may_follow(&get(&[]), verdict, &rules(Consistency::Strong)), "{verdict:?}");
            assert_eq!(may_follow(&get(&[]), verdict, &rules(Consistency::Session)), session, "{verdict:?}");
            assert_eq!(
                may_follow(&get(&[]), verdict, &rules(Consistency::BoundedStaleness)),
                bounded,
                "{verdict:?}"
            );
        }
        let rules = rules(Consistency::Session);
        for directive in ["no-cache", "max-age=0"] {
            let request = get(&[("cache-control", directive)]);
            assert!(!may_follow(&request, CoverageVerdict::Covered, &rules), "{directive}");
        }
    }

    #[test]
    fn what_must_be_validated_on_each_use_is_handed_only_to_those_who_asked_before() {
        let mut response = stored(200, &[]);
        response.policy.freshness_lifetime = Duration::from_secs(60);
        assert!(may_share_result(&get(&[]), &response, false));
        response.policy.no_cache = true;
        assert!(!may_share_result(&get(&[]), &response, false));
        assert!(may_share_result(&get(&[]), &response, true));
        response.policy.no_cache = false;
        response.policy.freshness_lifetime = Duration::ZERO;
        assert!(!may_share_result(&get(&[]), &response, false));
    }

    #[test]
    fn another_variant_is_not_shared() {
        let response = stored(200, &[("vary", "accept-language")]);
        assert!(!may_share_result(&get(&[("accept-language", "de")]), &response, true));
    }
}
