//! Which requests share one exchange with the origin (RFC 9111 §4; design, section 3): who may lead or join a fetch, which fetch
//! a request may join, and to whom its answer may be handed.

use http::Method;

use crate::config::caching::{CachingRules, Consistency};
use crate::headers::vary;
use crate::presented_request::PresentedRequest;
use crate::stored_response::StoredResponse;
use crate::sync_token::coverage::{CoverageVerdict, UncoveredReason};

/// Whether a request may lead or join collapsing at all. `GET` of the whole representation only, or `HEAD` where it is fetched as
/// `GET`: nobody else could use what comes back.
#[must_use]
pub fn may_collapse(request: &PresentedRequest, heads_fetch_as_get: bool) -> bool {
    // Under the caller's own credential the answer is for others only if they send the same one, and so wait for the same key.
    let shares_answers = !request.authorized || request.private_partition;
    let method = request.method == Method::GET || (request.method == Method::HEAD && heads_fetch_as_get);
    method && request.range.is_none() && !request.directives.no_store && shares_answers
}

/// Whether a request may join a fetch that has started, given what the rules of coverage say about the fetch's snapshot.
/// `strong` and `no-cache` join only fetches that start after they asked, so never one of these.
#[must_use]
pub fn may_join(request: &PresentedRequest, verdict: CoverageVerdict, rules: &CachingRules) -> bool {
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

/// Whether the answer of a fetch may be handed to a request that joined it. `started_later`: the fetch started after the
/// request had asked, so that its answer is as good as one of the request's own. Otherwise a response that its origin wants
/// validated on each use is not for those who came late.
#[must_use]
pub fn may_be_handed(request: &PresentedRequest, response: &StoredResponse, started_later: bool) -> bool {
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
            assert!(!may_join(&get(&[]), verdict, &rules(Consistency::Strong)), "{verdict:?}");
            assert_eq!(may_join(&get(&[]), verdict, &rules(Consistency::Session)), session, "{verdict:?}");
            assert_eq!(
                may_join(&get(&[]), verdict, &rules(Consistency::BoundedStaleness)),
                bounded,
                "{verdict:?}"
            );
        }
        let rules = rules(Consistency::Session);
        for directive in ["no-cache", "max-age=0"] {
            let request = get(&[("cache-control", directive)]);
            assert!(!may_join(&request, CoverageVerdict::Covered, &rules), "{directive}");
        }
    }

    #[test]
    fn what_must_be_validated_on_each_use_is_handed_only_to_those_who_asked_before() {
        let mut response = stored(200, &[]);
        response.policy.freshness_lifetime = Duration::from_secs(60);
        assert!(may_be_handed(&get(&[]), &response, false));
        response.policy.no_cache = true;
        assert!(!may_be_handed(&get(&[]), &response, false));
        assert!(may_be_handed(&get(&[]), &response, true));
        response.policy.no_cache = false;
        response.policy.freshness_lifetime = Duration::ZERO;
        assert!(!may_be_handed(&get(&[]), &response, false));
    }

    #[test]
    fn another_variant_is_handed_to_nobody() {
        let response = stored(200, &[("vary", "accept-language")]);
        assert!(!may_be_handed(&get(&[("accept-language", "de")]), &response, true));
    }
}
