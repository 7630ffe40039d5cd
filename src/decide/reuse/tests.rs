use super::*;
use crate::decide::tests::{get, later, request, stored, stored_part};
use proptest::prelude::*;

const COVERED: CoverageVerdict = CoverageVerdict::Covered;

fn judge_under(
    rules: &CachingRules,
    demands: &[(&str, &str)],
    response: &[(&str, &str)],
    seconds: u64,
) -> Decision {
    reuse(&get(demands), Some(&stored(200, response)), false, COVERED, rules, later(seconds))
}

/// The decision about a `GET` that arrives this many seconds after the response was stored.
fn judge(demands: &[(&str, &str)], directives: &str, seconds: u64) -> Decision {
    judge_under(&CachingRules::rfc9111(), demands, &[("cache-control", directives)], seconds)
}

fn fresh(age_seconds: u64, ttl_seconds: i64) -> Decision {
    Decision::Reuse(Reuse { ttl_seconds, age_seconds, staleness: Staleness::Fresh })
}

fn stale(age_seconds: u64, ttl_seconds: i64, staleness: Staleness) -> Decision {
    Decision::Reuse(Reuse { ttl_seconds, age_seconds, staleness })
}

const EXPIRED: Decision = Decision::Validate(ForwardReason::Stale(StaleReason::Lifetime));

fn asked_for(reason: RequestReason) -> Decision {
    Decision::Validate(ForwardReason::Request(reason))
}

#[test]
fn a_response_is_fresh_until_its_lifetime_is_over() {
    for (directives, seconds, expected) in [
        ("max-age=60", 0, fresh(0, 60)),
        ("max-age=60", 1, fresh(1, 59)),
        ("max-age=60", 59, fresh(59, 1)),
        ("max-age=60", 60, EXPIRED),
        ("max-age=60", 61, EXPIRED),
        ("max-age=0", 0, EXPIRED),
        ("max-age=-1", 0, EXPIRED),
        ("max-age=60, s-maxage=5", 4, fresh(4, 1)),
        ("max-age=60, s-maxage=5", 5, EXPIRED),
        ("max-age=60, must-revalidate", 59, fresh(59, 1)),
        ("max-age=99999999999999999999", 1_000_000, fresh(1_000_000, (1 << 31) - 1_000_000)),
        ("max-age=60, no-cache", 0, Decision::Validate(ForwardReason::Stale(StaleReason::NoCache))),
        ("max-age=60, no-cache=\"x\"", 0, fresh(0, 60)),
        ("public", 0, EXPIRED),
    ] {
        assert_eq!(judge(&[], directives, seconds), expected, "{directives} after {seconds} s");
    }
}

#[test]
fn the_age_at_receipt_counts() {
    for (age, seconds, expected) in [
        ("10", 0, fresh(10, 50)),
        ("10", 49, fresh(59, 1)),
        ("10", 50, EXPIRED),
        ("60", 0, EXPIRED),
        ("x", 0, fresh(0, 60)),
        ("99999999999999999999", 0, EXPIRED),
    ] {
        let lines = [("cache-control", "max-age=60"), ("age", age)];
        assert_eq!(judge_under(&CachingRules::rfc9111(), &[], &lines, seconds), expected, "{age} {seconds}");
    }
    let overflowing = [("cache-control", "max-age=99999999999999999999"), ("age", "99999999999999999999")];
    assert_eq!(judge_under(&CachingRules::rfc9111(), &[], &overflowing, 0), EXPIRED);
    let dated = [("date", "@20"), ("expires", "@-40")];
    assert_eq!(judge_under(&CachingRules::rfc9111(), &[], &dated, 5), fresh(25, 35));
    let heuristic = [("date", "@0"), ("last-modified", "@1000")];
    assert_eq!(judge_under(&CachingRules::rfc9111(), &[], &heuristic, 99), fresh(99, 1));
    assert_eq!(judge_under(&CachingRules::rfc9111(), &[], &heuristic, 100), EXPIRED);
}

#[test]
fn demands_of_the_caller() {
    use RequestReason::{MaxAge, MinFresh, NoCache, NoStore};
    let origin = "max-age=60";
    for (demand, seconds, expected) in [
        ("no-cache", 0, asked_for(NoCache)),
        ("no-store", 0, Decision::Forward(ForwardReason::Request(NoStore))),
        ("max-age=0", 0, asked_for(MaxAge)),
        ("max-age=10", 10, fresh(10, 50)),
        ("max-age=10", 11, asked_for(MaxAge)),
        ("max-age=x", 0, asked_for(MaxAge)),
        ("max-age=600", 60, EXPIRED),
        ("min-fresh=10", 50, fresh(50, 10)),
        ("min-fresh=10", 51, asked_for(MinFresh)),
        ("min-fresh=60", 0, fresh(0, 60)),
        ("min-fresh=61", 0, asked_for(MinFresh)),
        ("min-fresh=10", 61, EXPIRED),
        ("max-stale", 60, stale(60, -1, Staleness::MaxStale)),
        ("max-stale", 61, stale(61, -1, Staleness::MaxStale)),
        ("max-stale", 160, stale(160, -100, Staleness::MaxStale)),
        ("max-stale=10", 70, stale(70, -10, Staleness::MaxStale)),
        ("max-stale=10", 71, EXPIRED),
        ("max-stale=10", 59, fresh(59, 1)),
        ("max-stale=x", 61, EXPIRED),
        ("max-stale, min-fresh=1", 61, EXPIRED),
        ("max-stale, max-age=100", 90, stale(90, -30, Staleness::MaxStale)),
        ("max-stale, max-age=100", 101, asked_for(MaxAge)),
        ("only-if-cached", 0, fresh(0, 60)),
        ("only-if-cached", 60, Decision::Refuse),
        ("only-if-cached, max-stale", 61, stale(61, -1, Staleness::MaxStale)),
        ("only-if-cached, no-cache", 0, Decision::Refuse),
        ("only-if-cached, no-store", 0, Decision::Refuse),
        ("only-if-cached, max-age=5", 6, Decision::Refuse),
        ("x=\"no-cache\"", 0, fresh(0, 60)),
    ] {
        assert_eq!(
            judge(&[("cache-control", demand)], origin, seconds),
            expected,
            "{demand} after {seconds} s"
        );
    }
    assert_eq!(judge(&[("pragma", "no-cache")], origin, 0), asked_for(NoCache));
    assert_eq!(judge(&[("pragma", "no-cache"), ("cache-control", "max-age=9")], origin, 0), fresh(0, 60));
}

#[test]
fn the_caller_cannot_overrule_must_revalidate() {
    for directives in
        ["max-age=1, must-revalidate", "max-age=1, proxy-revalidate", "s-maxage=1", "max-age=1, no-cache"]
    {
        let decision = judge(&[("cache-control", "max-stale")], directives, 5);
        assert!(matches!(decision, Decision::Validate(ForwardReason::Stale(_))), "{directives}");
    }
}

#[test]
fn stale_while_revalidate_answers_within_its_window() {
    let origin = "max-age=60, stale-while-revalidate=30";
    for (demand, seconds, expected) in [
        ("x", 59, fresh(59, 1)),
        ("x", 60, stale(60, -1, Staleness::WhileRevalidate)),
        ("x", 89, stale(89, -29, Staleness::WhileRevalidate)),
        ("x", 90, EXPIRED),
        ("max-stale", 89, stale(89, -29, Staleness::WhileRevalidate)),
        ("max-stale", 90, stale(90, -30, Staleness::MaxStale)),
        ("max-age=600", 61, EXPIRED),
        ("min-fresh=0", 61, EXPIRED),
        ("no-cache", 61, asked_for(RequestReason::NoCache)),
        ("only-if-cached", 61, stale(61, -1, Staleness::WhileRevalidate)),
    ] {
        assert_eq!(
            judge(&[("cache-control", demand)], origin, seconds),
            expected,
            "{demand} after {seconds} s"
        );
    }
    for kin in ["must-revalidate", "proxy-revalidate", "s-maxage=60"] {
        assert_eq!(judge(&[], &format!("{origin}, {kin}"), 61), EXPIRED, "{kin}");
    }
}

#[test]
fn misses_are_told_apart() {
    let rules = CachingRules::rfc9111();
    for (demand, other_variants, expected) in [
        ("x", false, Decision::Fetch(ForwardReason::UriMiss)),
        ("x", true, Decision::Fetch(ForwardReason::VaryMiss)),
        ("no-cache", false, Decision::Fetch(ForwardReason::UriMiss)),
        ("only-if-cached", false, Decision::Refuse),
        ("only-if-cached", true, Decision::Refuse),
        ("no-store", false, Decision::Forward(ForwardReason::Request(RequestReason::NoStore))),
    ] {
        let request = get(&[("cache-control", demand)]);
        assert_eq!(reuse(&request, None, other_variants, COVERED, &rules, later(0)), expected, "{demand}");
    }
}

#[test]
fn only_get_and_head_are_answered_from_the_store() {
    let rules = CachingRules::rfc9111();
    let response = stored(200, &[("cache-control", "max-age=60")]);
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "M-SEARCH", "get", "QUERY"] {
        let decision = reuse(&request(method, &[]), Some(&response), false, COVERED, &rules, later(0));
        assert_eq!(decision, Decision::Forward(ForwardReason::Method), "{method}");
    }
    assert_eq!(reuse(&request("HEAD", &[]), Some(&response), false, COVERED, &rules, later(0)), fresh(0, 60));
}

#[test]
fn conditions_for_the_origin_go_to_the_origin() {
    let bypass = Decision::Forward(ForwardReason::Bypass(BypassReason::Precondition));
    assert_eq!(judge(&[("if-match", "\"a\"")], "max-age=60", 0), bypass);
    assert_eq!(judge(&[("if-unmodified-since", "@0")], "max-age=60", 0), bypass);
    assert_eq!(judge(&[("if-none-match", "\"a\"")], "max-age=60", 0), fresh(0, 60));
    assert_eq!(judge(&[("if-modified-since", "@0")], "max-age=60", 0), fresh(0, 60));
}

#[test]
fn guarded_sharing_shows_cookies_only_what_is_public() {
    let guarded = CachingRules { sharing: Sharing::Guarded, ..CachingRules::rfc9111() };
    let bypass = Decision::Forward(ForwardReason::Bypass(BypassReason::Cookie));
    let cookie = [("cookie", "a=b")];
    let lines = [("cache-control", "max-age=60")];
    let public = [("cache-control", "max-age=60, public")];
    assert_eq!(judge_under(&guarded, &cookie, &lines, 0), bypass);
    assert_eq!(judge_under(&guarded, &cookie, &public, 0), fresh(0, 60));
    assert_eq!(judge_under(&guarded, &[], &lines, 0), fresh(0, 60));
    assert_eq!(judge_under(&CachingRules::rfc9111(), &cookie, &lines, 0), fresh(0, 60));
    assert_eq!(reuse(&get(&cookie), None, false, COVERED, &guarded, later(0)), bypass);
}

#[test]
fn levels_of_consistency() {
    use Consistency::{BoundedStaleness, Session, Strong};
    use CoverageVerdict::{Covered, Outdated, Unverified};
    use UncoveredReason::{OpenWrite, OwnWrite, SyncToken, UnknownSyncToken};
    let uncovered = |reason| Decision::Validate(ForwardReason::Stale(StaleReason::Uncovered(reason)));
    let strong = Decision::Validate(ForwardReason::Stale(StaleReason::Strong));
    let response = stored(200, &[("cache-control", "max-age=60, stale-while-revalidate=60")]);
    for (level, coverage, expected) in [
        (Session, Covered, Ok(())),
        (Session, Unverified(SyncToken), Err(uncovered(SyncToken))),
        (Session, Unverified(UnknownSyncToken), Err(uncovered(UnknownSyncToken))),
        (Session, Outdated(OwnWrite), Err(uncovered(OwnWrite))),
        (Session, Outdated(OpenWrite), Err(uncovered(OpenWrite))),
        (BoundedStaleness, Covered, Ok(())),
        (BoundedStaleness, Unverified(SyncToken), Ok(())),
        (BoundedStaleness, Unverified(UnknownSyncToken), Err(uncovered(UnknownSyncToken))),
        (BoundedStaleness, Outdated(OwnWrite), Err(uncovered(OwnWrite))),
        (BoundedStaleness, Outdated(OpenWrite), Err(uncovered(OpenWrite))),
        (Strong, Covered, Err(strong)),
        (Strong, Unverified(SyncToken), Err(strong)),
        (Strong, Outdated(OwnWrite), Err(uncovered(OwnWrite))),
    ] {
        let rules = CachingRules { consistency: level, ..CachingRules::rfc9111() };
        let judge = |demand, seconds| {
            let request = get(&[("cache-control", demand)]);
            reuse(&request, Some(&response), false, coverage, &rules, later(seconds))
        };
        let revalidating = stale(61, -1, Staleness::WhileRevalidate);
        let tolerant = stale(200, -140, Staleness::MaxStale);
        assert_eq!(
            judge("x", 0),
            expected.map_or_else(|other| other, |()| fresh(0, 60)),
            "{level:?} {coverage:?}"
        );
        assert_eq!(
            judge("x", 61),
            expected.map_or_else(|other| other, |()| revalidating),
            "{level:?} {coverage:?}"
        );
        assert_eq!(
            judge("max-stale", 200),
            expected.map_or_else(|other| other, |()| tolerant),
            "{level:?} {coverage:?}"
        );
        let refused = expected.map_or_else(|_| Decision::Refuse, |()| fresh(0, 60));
        assert_eq!(judge("only-if-cached", 0), refused, "{level:?} {coverage:?}");
    }
}

#[test]
fn a_stored_part_answers_ranges_inside_it() {
    let rules = CachingRules::rfc9111();
    let lines = [("cache-control", "max-age=60"), ("etag", "\"a\""), ("last-modified", "@1000")];
    let part = stored_part(20, 30, &lines);
    let partial = Decision::Validate(ForwardReason::Partial);
    for (demands, expected) in [
        (&[("range", "bytes=20-49")][..], fresh(0, 60)),
        (&[("range", "bytes=25-30")], fresh(0, 60)),
        (&[("range", "bytes=49-49")], fresh(0, 60)),
        (&[("range", "bytes=19-30")], partial),
        (&[("range", "bytes=20-50")], partial),
        (&[("range", "bytes=20-")], partial),
        (&[("range", "bytes=-10")], partial),
        (&[("range", "bytes=200-300")], fresh(0, 60)),
        (&[("range", "bytes=20-21,30-31")], partial),
        (&[("range", "lines=20-49")], partial),
        (&[], partial),
        (&[("range", "bytes=20-49"), ("if-range", "\"a\"")], fresh(0, 60)),
        (&[("range", "bytes=20-49"), ("if-range", "\"b\"")], partial),
        (&[("range", "bytes=20-49"), ("if-range", "W/\"a\"")], partial),
        (&[("range", "bytes=20-49"), ("if-range", "@1000")], fresh(0, 60)),
        (&[("range", "bytes=20-49"), ("if-range", "@999")], partial),
        (&[("range", "bytes=20-49"), ("if-range", "garbage")], partial),
    ] {
        assert_eq!(
            reuse(&get(demands), Some(&part), false, COVERED, &rules, later(0)),
            expected,
            "{demands:?}"
        );
    }
    let tail = stored_part(90, 10, &lines);
    for (range, expected) in
        [("bytes=-10", fresh(0, 60)), ("bytes=95-", fresh(0, 60)), ("bytes=-11", partial)]
    {
        let request = get(&[("range", range)]);
        assert_eq!(reuse(&request, Some(&tail), false, COVERED, &rules, later(0)), expected, "{range}");
    }
    let head = request("HEAD", &[("range", "bytes=20-49")]);
    assert_eq!(reuse(&head, Some(&part), false, COVERED, &rules, later(0)), partial);
    let whole = stored(200, &lines);
    let range = get(&[("range", "bytes=2-3")]);
    assert_eq!(reuse(&range, Some(&whole), false, COVERED, &rules, later(0)), fresh(0, 60));
}

proptest! {
    #[test]
    fn fresh_means_younger_than_the_lifetime(lifetime in 0_u64..100, seconds in 0_u64..200, micros in 0_u64..1_000_000) {
        let response = stored(200, &[("cache-control", &format!("max-age={lifetime}"))]);
        let now = later(seconds).plus(Duration::from_micros(micros));
        let decision = reuse(&get(&[]), Some(&response), false, COVERED, &CachingRules::rfc9111(), now);
        if seconds < lifetime {
            let ttl_seconds = i64::try_from(lifetime - seconds).unwrap();
            prop_assert_eq!(decision, fresh(seconds, ttl_seconds));
        } else {
            prop_assert_eq!(decision, EXPIRED);
        }
    }

    #[test]
    fn ttl_is_negative_exactly_when_stale(age in any::<Duration>(), lifetime in any::<Duration>()) {
        let reuse = describe(age, lifetime, Staleness::MaxStale);
        prop_assert_eq!(reuse.ttl_seconds < 0, age >= lifetime);
        prop_assert_eq!(reuse.age_seconds, age.as_secs());
    }

    #[test]
    fn a_demand_never_makes_something_reusable_that_was_not(
        seconds in 0_u64..200, demand in "(max-age|min-fresh)=[0-9]{1,3}(, (max-age|min-fresh)=[0-9]{1,3})?",
    ) {
        let plain = judge(&[], "max-age=60, stale-while-revalidate=30", seconds);
        let demanding = judge(&[("cache-control", &demand)], "max-age=60, stale-while-revalidate=30", seconds);
        prop_assert!(demanding == plain || !matches!(demanding, Decision::Reuse(_)));
    }
}
