use super::*;
use crate::config::caching::{Sharing, WhenDisconnected};
use crate::decide::SentConditions;
use crate::decide::tests::{get, head, later, request, stored, stored_part};
use crate::presented_request::PresentedRequest;
use crate::sync_token::coverage::{Coverage, UncoveredReason};

const COVERED: CoverageVerdict = CoverageVerdict::Covered;
const NONE: SentConditions = SentConditions { own: false, callers: false };
const OWN: SentConditions = SentConditions { own: true, callers: false };
const CALLERS: SentConditions = SentConditions { own: false, callers: true };
const BOTH: SentConditions = SentConditions { own: true, callers: true };

/// A [`Change`] as one word, with its reason if it has one.
fn word(change: &Change) -> String {
    match change {
        Change::Store(_) => "store".to_owned(),
        Change::Freshened(_) => "freshened".to_owned(),
        Change::AnswerOnly(_, reason) => format!("answer-only {}", reason.as_str()),
        Change::Complete(_) => "complete".to_owned(),
        Change::AskAgain(reason) => format!("ask-again {}", reason.as_str()),
        Change::NotModifiedForCaller => "not-modified-for-caller".to_owned(),
        Change::ServeStale(why) => format!("serve-stale {}", why.as_str()),
        Change::Keep(reason) => format!("keep {}", reason.as_str()),
        Change::Outdate(reason) => format!("outdate {}", reason.as_str()),
        Change::Reject(reason) => format!("reject {}", reason.as_str()),
    }
}

fn judge_under(
    rules: &CachingRules,
    request: &PresentedRequest,
    in_hand: Option<&StoredResponse>,
    conditions: SentConditions,
    head: &ResponseHead,
) -> String {
    let asked = SentRequest {
        request,
        method: &request.method,
        in_hand,
        conditions,
        completing: false,
        covers: Coverage::default(),
    };
    word(&absorb(&asked, head, COVERED, rules, later(90)))
}

fn judge(
    request: &PresentedRequest,
    in_hand: Option<&StoredResponse>,
    conditions: SentConditions,
    head: &ResponseHead,
) -> String {
    judge_under(&CachingRules::rfc9111(), request, in_hand, conditions, head)
}

/// A stale response with a strong tag.
fn in_hand() -> StoredResponse {
    stored(200, &[("cache-control", "max-age=60"), ("etag", "\"a\"")])
}

#[test]
fn a_304_by_what_was_asked() {
    let stored = in_hand();
    let asks_for_b = get(&[("if-none-match", "\"b\"")]);
    let plain = get(&[]);
    for (request, in_hand, conditions, lines, expected) in [
        (&plain, None, NONE, &[][..], "reject unasked-not-modified"),
        (&plain, Some(&stored), NONE, &[("etag", "\"a\"")], "reject unasked-not-modified"),
        (&asks_for_b, None, CALLERS, &[("etag", "\"b\"")], "keep status"),
        (&asks_for_b, Some(&stored), CALLERS, &[("etag", "\"b\"")], "keep status"),
        (&plain, Some(&stored), OWN, &[("etag", "\"a\"")], "freshened"),
        (&plain, Some(&stored), OWN, &[], "freshened"),
        (&plain, Some(&stored), OWN, &[("etag", "\"x\"")], "ask-again not-modified-other-version"),
        (
            &plain,
            Some(&stored),
            OWN,
            &[("etag", "\"a\""), ("etag", "\"b\"")],
            "ask-again not-modified-no-version",
        ),
        (&plain, Some(&stored), OWN, &[("cache-control", "no-store")], "answer-only no-store"),
        (&plain, Some(&stored), OWN, &[("cache-control", "private")], "answer-only private"),
        (&asks_for_b, Some(&stored), BOTH, &[("etag", "\"a\"")], "freshened"),
        (&asks_for_b, Some(&stored), BOTH, &[("etag", "\"b\"")], "not-modified-for-caller"),
        (&asks_for_b, Some(&stored), BOTH, &[("etag", "W/\"b\"")], "not-modified-for-caller"),
        (&asks_for_b, Some(&stored), BOTH, &[("etag", "\"x\"")], "ask-again not-modified-other-version"),
        (&asks_for_b, Some(&stored), BOTH, &[], "ask-again not-modified-no-version"),
        // The caller's tags were not sent, so the 304 cannot be about them.
        (&asks_for_b, Some(&stored), OWN, &[("etag", "\"b\"")], "ask-again not-modified-other-version"),
        (&asks_for_b, Some(&stored), OWN, &[], "freshened"),
    ] {
        assert_eq!(
            judge(request, in_hand, conditions, &head(304, lines)),
            expected,
            "{conditions:?} {lines:?}"
        );
    }
}

#[test]
fn a_304_to_a_part_helps_only_who_asks_for_that_part() {
    let part = stored_part(0, 30, &[("etag", "\"a\""), ("content-range", "bytes 0-29/100")]);
    let not_modified = head(304, &[("etag", "\"a\"")]);
    assert_eq!(judge(&get(&[]), Some(&part), OWN, &not_modified), "ask-again not-modified-partial");
    assert_eq!(judge(&get(&[("range", "bytes=0-9")]), Some(&part), OWN, &not_modified), "freshened");
}

#[test]
fn an_answer_is_stored_where_it_may_be() {
    let stored = in_hand();
    for in_hand in [None, Some(&stored)] {
        for (status, lines) in [
            (200, &[("etag", "\"b\"")][..]),
            (200, &[("cache-control", "max-age=60")]),
            (404, &[("cache-control", "max-age=60")]),
            (410, &[("last-modified", "@9")]),
            (299, &[("expires", "@-60")]),
            (503, &[("cache-control", "max-age=60")]),
        ] {
            assert_eq!(judge(&get(&[]), in_hand, OWN, &head(status, lines)), "store", "{status} {lines:?}");
        }
    }
}

#[test]
fn an_answer_that_is_not_stored_may_outdate_what_is() {
    let stored = in_hand();
    for (status, lines, expected) in [
        // What the origin keeps out of this cache says nothing about what it let in, unless it names another version.
        (200, &[("cache-control", "no-store")][..], "keep no-store"),
        (200, &[("cache-control", "no-store"), ("etag", "\"a\"")], "keep no-store"),
        (200, &[("cache-control", "no-store"), ("etag", "\"b\"")], "outdate no-store"),
        (200, &[("cache-control", "private")], "keep private"),
        (499, &[("cache-control", "must-understand")], "keep not-understood"),
        (200, &[], "outdate no-lifetime-no-validator"),
        (200, &[("etag", "\"b\""), ("vary", "*")], "outdate vary"),
        (200, &[("etag", "\"a\""), ("vary", "*")], "keep vary"),
        (200, &[("etag", "\"b\""), ("content-length", "99999999")], "outdate body-too-large"),
        (200, &[("etag", "\"a\""), ("content-length", "99999999")], "keep body-too-large"),
        (404, &[], "outdate no-lifetime-no-validator"),
        (410, &[], "outdate no-lifetime-no-validator"),
        (302, &[], "outdate status-not-cacheable"),
        (400, &[], "keep status-not-cacheable"),
        (401, &[], "keep status-not-cacheable"),
        (403, &[("etag", "\"b\"")], "keep status-not-cacheable"),
        (412, &[], "keep status-not-cacheable"),
        (416, &[], "keep status"),
    ] {
        assert_eq!(
            judge(&get(&[]), Some(&stored), OWN, &head(status, lines)),
            expected,
            "{status} {lines:?}"
        );
        let alone = judge(&get(&[]), None, NONE, &head(status, lines));
        assert_eq!(alone, expected.replace("outdate", "keep"), "{status} {lines:?} with nothing in hand");
    }
    let dated =
        crate::decide::tests::stored(200, &[("cache-control", "max-age=60"), ("last-modified", "@1000")]);
    for (lines, expected) in [
        (&[("last-modified", "@1000"), ("vary", "*")], "keep vary"),
        (&[("last-modified", "@9"), ("vary", "*")], "outdate vary"),
    ] {
        assert_eq!(judge(&get(&[]), Some(&dated), OWN, &head(200, lines)), expected, "{lines:?}");
    }
    let reload = get(&[("cache-control", "no-store")]);
    assert_eq!(
        judge(&reload, Some(&stored), NONE, &head(200, &[("etag", "\"b\"")])),
        "outdate request-no-store"
    );
    assert_eq!(
        judge(&reload, Some(&stored), NONE, &head(200, &[("etag", "\"a\"")])),
        "keep request-no-store"
    );
}

#[test]
fn a_failing_origin_is_as_good_as_away() {
    let stored = in_hand();
    for (status, lines, expected) in [
        (500, &[][..], "serve-stale server-error"),
        (502, &[], "serve-stale server-error"),
        (503, &[], "serve-stale server-error"),
        (504, &[], "serve-stale server-error"),
        (599, &[], "serve-stale server-error"),
        (503, &[("retry-after", "5")], "serve-stale server-error"),
        (503, &[("cache-control", "no-store")], "serve-stale server-error"),
        (503, &[("cache-control", "max-age=0")], "serve-stale server-error"),
        (503, &[("cache-control", "max-age=9")], "store"),
        (429, &[], "serve-stale throttled"),
        (429, &[("retry-after", "5")], "serve-stale throttled"),
        (501, &[], "keep no-lifetime-no-validator"),
        (505, &[], "keep status-not-cacheable"),
        (403, &[], "keep status-not-cacheable"),
    ] {
        assert_eq!(
            judge(&get(&[]), Some(&stored), OWN, &head(status, lines)),
            expected,
            "{status} {lines:?}"
        );
    }
    assert_eq!(judge(&get(&[]), None, NONE, &head(503, &[])), "keep status-not-cacheable");
    assert_eq!(judge(&request("HEAD", &[]), Some(&stored), OWN, &head(503, &[])), "serve-stale server-error");
    assert_eq!(judge(&request("PUT", &[]), Some(&stored), NONE, &head(503, &[])), "keep method");
    let reload = get(&[("cache-control", "no-cache")]);
    assert_eq!(judge(&reload, Some(&stored), OWN, &head(503, &[])), "keep status-not-cacheable");
}

#[test]
fn staleness_on_errors_has_its_limits() {
    for (directives, lines, expected) in [
        ("max-age=60, stale-if-error=30", &[][..], "serve-stale server-error"),
        ("max-age=60, stale-if-error=29", &[], "keep status-not-cacheable"),
        ("max-age=60, stale-if-error=30", &[("cache-control", "max-age=9")], "serve-stale server-error"),
        ("max-age=60, must-revalidate", &[], "keep status-not-cacheable"),
        ("max-age=60, proxy-revalidate", &[], "keep status-not-cacheable"),
        ("s-maxage=60", &[], "keep status-not-cacheable"),
        ("s-maxage=60, stale-if-error=30", &[], "keep status-not-cacheable"),
        ("no-cache", &[], "keep status-not-cacheable"),
    ] {
        let stored = stored(200, &[("cache-control", directives), ("etag", "\"a\"")]);
        assert_eq!(
            judge(&get(&[]), Some(&stored), OWN, &head(503, lines)),
            expected,
            "{directives} {lines:?}"
        );
    }
    let failure = stored(503, &[("cache-control", "max-age=60")]);
    assert_eq!(judge(&get(&[]), Some(&failure), NONE, &head(503, &[])), "keep status-not-cacheable");
}

#[test]
fn a_failing_origin_does_not_bring_outdated_responses_back() {
    let (request, stored) = (get(&[]), in_hand());
    let asked = SentRequest {
        request: &request,
        method: &request.method,
        in_hand: Some(&stored),
        conditions: OWN,
        completing: false,
        covers: Coverage::default(),
    };
    let outdated = CoverageVerdict::Outdated(UncoveredReason::OwnWrite);
    let rules = CachingRules::rfc9111();
    let judge = |rules| word(&absorb(&asked, &head(503, &[]), outdated, rules, later(90)));
    assert_eq!(judge(&rules), "keep status-not-cacheable");
    let available = CachingRules { when_disconnected: WhenDisconnected::Available, ..rules };
    assert_eq!(judge(&available), "serve-stale server-error");
}

#[test]
fn parts_of_representations() {
    let tag = ("etag", "\"a\"");
    let other = ("etag", "\"b\"");
    let part = ("content-range", "bytes 0-4/10");
    let whole = in_hand();
    let stored_part = stored_part(0, 30, &[tag]);
    let (plain, ranged) = (get(&[]), get(&[("range", "bytes=0-4")]));
    for (request, in_hand, lines, expected) in [
        (&plain, None, &[tag, part][..], "reject unasked-partial"),
        (&plain, Some(&whole), &[tag, part], "reject unasked-partial"),
        (&ranged, None, &[tag, part], "store"),
        (&ranged, None, &[tag], "keep partial-content"),
        (&ranged, None, &[part], "keep partial-content"),
        (&ranged, Some(&whole), &[tag, part], "keep partial-content"),
        (&ranged, Some(&whole), &[other, part], "store"),
        (&ranged, Some(&whole), &[other], "outdate partial-content"),
        (&ranged, Some(&stored_part), &[tag, part], "store"),
    ] {
        assert_eq!(judge(request, in_hand, NONE, &head(206, lines)), expected, "{lines:?}");
    }
    let unsatisfied = head(416, &[("content-range", "bytes */10"), ("cache-control", "max-age=60")]);
    assert_eq!(judge(&ranged, None, NONE, &unsatisfied), "keep status");
}

#[test]
fn the_rest_of_a_part_completes_it_or_everything_is_fetched() {
    let part = stored_part(0, 30, &[("etag", "\"a\""), ("cache-control", "max-age=60")]);
    let request = get(&[]);
    let asked = SentRequest {
        request: &request,
        method: &request.method,
        in_hand: Some(&part),
        conditions: NONE,
        completing: true,
        covers: Coverage::default(),
    };
    let rest = ("content-range", "bytes 30-99/100");
    for (status, lines, expected) in [
        (206, &[rest, ("etag", "\"a\"")][..], "complete"),
        (206, &[rest, ("etag", "\"b\"")], "ask-again incomplete"),
        (206, &[("etag", "\"a\"")], "ask-again incomplete"),
        (416, &[("content-range", "bytes */5")], "ask-again incomplete"),
        (200, &[("etag", "\"b\"")], "store"),
        (404, &[], "outdate no-lifetime-no-validator"),
        (503, &[], "keep status-not-cacheable"),
    ] {
        let change = absorb(&asked, &head(status, lines), COVERED, &CachingRules::rfc9111(), later(90));
        assert_eq!(word(&change), expected, "{status} {lines:?}");
    }
}

#[test]
fn answers_to_head_freshen_and_outdate() {
    let (head_request, stored) = (request("HEAD", &[]), in_hand());
    for (status, lines, expected) in [
        (200, &[("etag", "\"a\"")][..], "freshened"),
        (200, &[("etag", "\"b\"")], "outdate method"),
        (200, &[("etag", "\"a\""), ("cache-control", "no-store")], "answer-only no-store"),
        (304, &[("etag", "\"a\"")], "freshened"),
        (404, &[], "outdate method"),
        (403, &[], "keep method"),
    ] {
        assert_eq!(
            judge(&head_request, Some(&stored), OWN, &head(status, lines)),
            expected,
            "{status} {lines:?}"
        );
        if status != 304 {
            assert_eq!(judge(&head_request, None, NONE, &head(status, lines)), "keep method");
        }
    }
}

#[test]
fn a_head_fetched_as_get_is_stored() {
    let (request, stored, rules) = (request("HEAD", &[]), in_hand(), CachingRules::rfc9111());
    for in_hand in [None, Some(&stored)] {
        let asked = SentRequest {
            request: &request,
            method: &Method::GET,
            in_hand,
            conditions: NONE,
            completing: false,
            covers: Coverage::default(),
        };
        let answer = head(200, &[("cache-control", "max-age=60"), ("etag", "\"b\"")]);
        assert_eq!(word(&absorb(&asked, &answer, COVERED, &rules, later(90))), "store");
    }
}

#[test]
fn answers_to_other_methods_change_nothing_here() {
    let stored = in_hand();
    for method in ["PUT", "DELETE", "PATCH", "OPTIONS", "M-SEARCH"] {
        for status in [200, 201, 204, 303, 400, 404, 409, 412, 500] {
            let answer = head(status, &[("cache-control", "max-age=60"), ("etag", "\"b\"")]);
            assert_eq!(judge(&request(method, &[]), Some(&stored), NONE, &answer), "keep method", "{method}");
        }
    }
    let post = request("POST", &[]);
    let answer = head(200, &[("cache-control", "max-age=60"), ("content-location", "/a?b=c")]);
    assert_eq!(judge(&post, None, NONE, &answer), "store");
}

#[test]
fn answers_for_one_caller_leave_the_store_alone() {
    let stored = in_hand();
    let fresh = head(200, &[("cache-control", "max-age=60"), ("etag", "\"b\"")]);
    let guarded = CachingRules { sharing: Sharing::Guarded, ..CachingRules::rfc9111() };
    let with_cookie = get(&[("cookie", "a=b")]);
    assert_eq!(judge_under(&guarded, &with_cookie, Some(&stored), NONE, &fresh), "outdate cookie");
    let authorized = get(&[("authorization", "Bearer x")]);
    assert_eq!(judge(&authorized, Some(&stored), NONE, &fresh), "outdate authorization");
}

#[test]
fn interim_answers_are_no_answers() {
    for status in [100, 101, 102, 103, 199] {
        assert_eq!(judge(&get(&[]), None, NONE, &head(status, &[])), "reject not-final", "{status}");
    }
}
