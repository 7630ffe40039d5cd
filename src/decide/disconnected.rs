//! Which stored response may answer while the origin cannot (RFC 9111 §4.2.4; RFC 5861 §4).
//!
//! The operator's `when_disconnected` says how much coverage it needs (the rules of coverage are in
//! [`sync_token`](crate::sync_token)):
//!
//! | `when_disconnected` | the stored response answers if |
//! |---|---|
//! | `consistent` | rules 1 to 3 hold |
//! | `unless-outdated` | rule 3 holds: no write that may have touched it came after it |
//! | `available` | always |
//!
//! Under `strong` consistency only `available` lets a stored response answer: the other two refuse.
//!
//! A list answers for its items as well: where the operator gives some of them a shorter limit of staleness, a list that shows one past
//! it is refused. It is never shortened, since its caller would take what is left out for deleted.
//!
//! In every case `no-cache`, `must-revalidate`, `proxy-revalidate`, `s-maxage`, the caller's directives,
//! `stale-if-error` and the operator's stale limit forbid what they forbid.

use std::time::Duration;

use super::age::current_age;
use super::reuse::{describe, holds_requested_bytes, is_shareable_with};
use super::{Reuse, Staleness, Unreachable};
use crate::clock::Timestamp;
use crate::config::caching::{CachingRules, Consistency, WhenDisconnected};
use crate::headers::cache_control::RequestDirectives;
use crate::presented_request::PresentedRequest;
use crate::stored_response::StoredResponse;
use crate::sync_token::coverage::{CoverageVerdict, UncoveredReason};
use crate::words::words;

words! {
    /// Why no stored response may answer in the place of the origin: the reason in the 504 or 502.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum DisconnectedRefusal {
        /// The method is not answered from the store.
        Method = "method",
        /// No response is stored for this request.
        NothingStored = "nothing-stored",
        /// Only a part is stored, and it lacks bytes that the caller asks for.
        Partial = "partial",
        /// The caller's directives or conditions forbid it.
        Request = "request",
        /// The request carries `Cookie` and the stored response does not say `public` (`Sharing::Guarded`).
        Cookie = "cookie",
        /// The origin demands validation on each use (`no-cache`).
        NoCache = "no-cache",
        /// It is stale, and the origin forbids stale reuse (`must-revalidate`, `proxy-revalidate`, `s-maxage`).
        MustRevalidate = "must-revalidate",
        /// It has been stale for longer than the origin (`stale-if-error`) or the operator allows.
        TooStale = "too-stale",
        /// It is a list, and shows an item that has been stale for longer than the operator allows for that item.
        ItemTooStale = "item-too-stale",
        /// It is a list, and does not tell whether it shows such an item.
        ItemsUnknown = "items-unknown",
        /// The operator demands `strong` consistency.
        Strong = "strong",
        /// It does not satisfy the rules of coverage that `when_disconnected` demands.
        Uncovered(UncoveredReason),
    }
}

/// Whether `stored` may answer after the origin has failed with `why`. `coverage` is the verdict on `stored`.
///
/// # Errors
/// The first reason that forbids it. A caller that demands validation or a bounded age (`no-cache`, `max-age`,
/// `min-fresh`) gets an error, not a response that it refused.
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
    if !holds_requested_bytes(request, stored) {
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
    // `strong` permits no staleness, and a response that is not validated may be stale.
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

/// Whether a list that has been stale for so long may answer for what it shows. `items`: each with its limit of staleness; `None`
/// where the list does not name them, so that the strictest limit of any counts.
///
/// # Errors
/// The refusal, with the first item past its limit if it has a name.
pub fn items_within_limits<'a>(
    stale_for: Duration,
    items: Option<impl Iterator<Item = (&'a str, Duration)>>,
    strictest: Duration,
) -> Result<(), (DisconnectedRefusal, Option<&'a str>)> {
    if stale_for <= strictest {
        return Ok(());
    }
    let mut items = items.ok_or((DisconnectedRefusal::ItemsUnknown, None))?;
    match items.find(|(_, limit)| stale_for > *limit) {
        Some((item, _)) => Err((DisconnectedRefusal::ItemTooStale, Some(item))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::caching::Sharing;
    use crate::decide::tests::{get, later, request, stored, stored_part};

    const COVERED: CoverageVerdict = CoverageVerdict::Covered;

    /// The remaining lifetime of the response that answers this many seconds after it was stored, or the refusal.
    fn judge(
        demands: &[(&str, &str)],
        directives: &str,
        seconds: u64,
        rules: &CachingRules,
    ) -> Result<i64, DisconnectedRefusal> {
        let response = stored(200, &[("cache-control", directives), ("etag", "\"a\"")]);
        disconnected(&get(demands), Some(&response), COVERED, Unreachable::Connect, rules, later(seconds))
            .map(|reuse| reuse.ttl_seconds)
    }

    #[test]
    fn stale_responses_answer_within_the_limit_unless_forbidden() {
        use DisconnectedRefusal::{MustRevalidate, NoCache, TooStale};
        for (directives, seconds, expected) in [
            ("max-age=60", 0, Ok(60)),
            ("max-age=60", 61, Ok(-1)),
            ("max-age=60", 160, Ok(-100)),
            ("max-age=60", 161, Err(TooStale)),
            ("max-age=0", 100, Ok(-100)),
            ("public", 100, Ok(-100)),
            ("max-age=60, must-revalidate", 59, Ok(1)),
            ("max-age=60, must-revalidate", 60, Err(MustRevalidate)),
            ("max-age=60, proxy-revalidate", 60, Err(MustRevalidate)),
            ("s-maxage=60", 59, Ok(1)),
            ("s-maxage=60", 60, Err(MustRevalidate)),
            ("max-age=60, no-cache", 0, Err(NoCache)),
            ("max-age=60, no-cache=\"x\"", 61, Ok(-1)),
            ("max-age=60, stale-if-error=20", 80, Ok(-20)),
            ("max-age=60, stale-if-error=20", 81, Err(TooStale)),
            ("max-age=60, stale-if-error=0", 59, Ok(1)),
            ("max-age=60, stale-if-error=0", 61, Err(TooStale)),
            ("max-age=60, stale-if-error=900", 160, Ok(-100)),
            ("max-age=60, stale-if-error=900", 161, Err(TooStale)),
            ("max-age=60, stale-if-error=20, must-revalidate", 61, Err(MustRevalidate)),
            ("s-maxage=60, stale-if-error=20", 61, Err(MustRevalidate)),
        ] {
            let rules = CachingRules { stale_limit: Duration::from_secs(100), ..CachingRules::rfc9111() };
            assert_eq!(judge(&[], directives, seconds, &rules), expected, "{directives} after {seconds} s");
        }
    }

    #[test]
    fn a_list_is_refused_for_an_item_past_its_limit() {
        let seconds = Duration::from_secs;
        let items = [("/kv/a", seconds(100)), ("/kv/kill", seconds(30))];
        let judge = |stale_for, items: Option<&[(&'static str, Duration)]>| {
            items_within_limits(seconds(stale_for), items.map(|items| items.iter().copied()), seconds(30))
        };
        assert_eq!(judge(30, Some(&items)), Ok(()));
        assert_eq!(judge(31, Some(&items)), Err((DisconnectedRefusal::ItemTooStale, Some("/kv/kill"))));
        assert_eq!(judge(31, Some(&items[..1])), Ok(()));
        assert_eq!(judge(30, None), Ok(()));
        assert_eq!(judge(31, None), Err((DisconnectedRefusal::ItemsUnknown, None)));
    }

    #[test]
    fn a_caller_never_gets_a_response_that_it_refused() {
        let refused = Err(DisconnectedRefusal::Request);
        for (demand, seconds, expected) in [
            ("no-cache", 0, refused),
            ("no-store", 0, refused),
            ("max-age=0", 0, refused),
            ("max-age=10", 10, Ok(50)),
            ("max-age=10", 11, refused),
            ("max-age=100", 61, refused),
            ("max-age=100, max-stale", 61, Ok(-1)),
            ("min-fresh=10", 50, Ok(10)),
            ("min-fresh=10", 51, refused),
            ("min-fresh=10", 61, refused),
            ("max-stale", 161, Ok(-101)),
            ("max-stale=10", 70, Ok(-10)),
            ("max-stale=10", 71, refused),
            ("max-stale=10, min-fresh=0", 61, refused),
            ("only-if-cached", 61, Ok(-1)),
        ] {
            let demands = [("cache-control", demand)];
            let judged = judge(&demands, "max-age=60", seconds, &CachingRules::rfc9111());
            assert_eq!(judged, expected, "{demand} after {seconds} s");
        }
        let rules = CachingRules::rfc9111();
        assert_eq!(judge(&[("pragma", "no-cache")], "max-age=60", 0, &rules), refused);
        assert_eq!(judge(&[("if-match", "\"a\"")], "max-age=60", 0, &rules), refused);
        assert_eq!(judge(&[("if-none-match", "\"a\"")], "max-age=60", 61, &rules), Ok(-1));
    }

    #[test]
    fn what_the_operator_lets_answer_uncovered() {
        use Consistency::{BoundedStaleness, Session, Strong};
        use CoverageVerdict::{Covered, Outdated, Unverified};
        use DisconnectedRefusal as Refusal;
        use UncoveredReason::{OpenWrite, OwnWrite, SyncToken, UnknownSyncToken};
        use WhenDisconnected::{Available, Consistent, UnlessOutdated};
        let uncovered = |reason| Err(Refusal::Uncovered(reason));
        for (level, when, coverage, expected) in [
            (Session, Consistent, Covered, Ok(())),
            (Session, Consistent, Unverified(SyncToken), uncovered(SyncToken)),
            (Session, Consistent, Unverified(UnknownSyncToken), uncovered(UnknownSyncToken)),
            (Session, Consistent, Outdated(OwnWrite), uncovered(OwnWrite)),
            (Session, UnlessOutdated, Covered, Ok(())),
            (Session, UnlessOutdated, Unverified(SyncToken), Ok(())),
            (Session, UnlessOutdated, Unverified(UnknownSyncToken), Ok(())),
            (Session, UnlessOutdated, Outdated(OwnWrite), uncovered(OwnWrite)),
            (Session, UnlessOutdated, Outdated(OpenWrite), uncovered(OpenWrite)),
            (Session, Available, Outdated(OpenWrite), Ok(())),
            (BoundedStaleness, Consistent, Unverified(SyncToken), uncovered(SyncToken)),
            (BoundedStaleness, UnlessOutdated, Outdated(OpenWrite), uncovered(OpenWrite)),
            (Strong, Consistent, Covered, Err(Refusal::Strong)),
            (Strong, UnlessOutdated, Covered, Err(Refusal::Strong)),
            (Strong, Available, Outdated(OwnWrite), Ok(())),
        ] {
            let rules =
                CachingRules { consistency: level, when_disconnected: when, ..CachingRules::rfc9111() };
            let response = stored(200, &[("cache-control", "max-age=60")]);
            for seconds in [0, 61] {
                let judged = disconnected(
                    &get(&[]),
                    Some(&response),
                    coverage,
                    Unreachable::TimedOut,
                    &rules,
                    later(seconds),
                );
                assert_eq!(judged.map(|_| ()), expected, "{level:?} {when:?} {coverage:?} after {seconds} s");
            }
        }
    }

    #[test]
    fn available_does_not_overrule_the_origin() {
        let rules =
            CachingRules { when_disconnected: WhenDisconnected::Available, ..CachingRules::rfc9111() };
        let judged = judge(&[], "max-age=60, must-revalidate", 61, &rules);
        assert_eq!(judged, Err(DisconnectedRefusal::MustRevalidate));
        assert_eq!(judge(&[], "no-cache", 0, &rules), Err(DisconnectedRefusal::NoCache));
    }

    #[test]
    fn there_must_be_something_fitting() {
        let rules = CachingRules { sharing: Sharing::Guarded, ..CachingRules::rfc9111() };
        let lines = [("cache-control", "max-age=60"), ("etag", "\"a\"")];
        let (whole, part) = (stored(200, &lines), stored_part(0, 10, &lines));
        let judge = |request: &PresentedRequest, stored| {
            disconnected(request, stored, COVERED, Unreachable::Broken, &rules, later(61)).err()
        };
        assert_eq!(judge(&get(&[]), None), Some(DisconnectedRefusal::NothingStored));
        assert_eq!(judge(&request("PUT", &[]), Some(&whole)), Some(DisconnectedRefusal::Method));
        assert_eq!(judge(&get(&[]), Some(&part)), Some(DisconnectedRefusal::Partial));
        assert_eq!(judge(&get(&[("range", "bytes=0-9")]), Some(&part)), None);
        assert_eq!(judge(&get(&[("cookie", "a=b")]), Some(&whole)), Some(DisconnectedRefusal::Cookie));
        assert_eq!(judge(&request("HEAD", &[]), Some(&whole)), None);
    }

    #[test]
    fn the_answer_says_why() {
        let response = stored(200, &[("cache-control", "max-age=60")]);
        for (why, word) in [
            (Unreachable::Connect, "disconnected"),
            (Unreachable::TimedOut, "timed-out"),
            (Unreachable::Broken, "broken-answer"),
            (Unreachable::Throttled, "throttled"),
            (Unreachable::ServerError, "server-error"),
            (Unreachable::Overloaded, "overloaded"),
        ] {
            let rules = CachingRules::rfc9111();
            let reuse = disconnected(&get(&[]), Some(&response), COVERED, why, &rules, later(90)).unwrap();
            assert_eq!(
                (reuse.age_seconds, reuse.ttl_seconds, reuse.staleness.detail()),
                (90, -30, Some(word))
            );
        }
    }
}
