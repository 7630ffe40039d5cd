use crate::sync_token::coverage::Coverage;
use http::header::{AGE, CACHE_CONTROL, CONTENT_TYPE, EXPIRES, SET_COOKIE, VARY};

use super::*;
use crate::config::caching::Sharing;
use crate::decide::tests::{NOW, date, get, head, later, request, stored, stored_part};
use crate::presented_request::PresentedRequest;

const OWN: SentConditions = SentConditions { own: true, callers: false };
const BOTH: SentConditions = SentConditions { own: true, callers: true };
const NEWER: Coverage = Coverage { newest_version: 7, closed_position: 8, sent_order: 9, revelation: 0 };

fn asked<'a>(
    request: &'a PresentedRequest,
    stored: &'a StoredResponse,
    conditions: SentConditions,
) -> SentRequest<'a> {
    SentRequest {
        request,
        method: &request.method,
        in_hand: Some(stored),
        conditions,
        completing: false,
        covers: NEWER,
    }
}

/// The head of an answer that arrives ten minutes after the response was stored.
fn later_head(status: u16, lines: &[(&str, &str)]) -> ResponseHead {
    ResponseHead { request_time: later(600), response_time: later(600), ..head(status, lines) }
}

fn freshened_under(rules: &CachingRules, response: &StoredResponse, lines: &[(&str, &str)]) -> Freshened {
    freshen(&asked(&get(&[]), response, OWN), response, &later_head(304, lines), rules).unwrap()
}

fn freshened(response: &StoredResponse, lines: &[(&str, &str)]) -> StoredResponse {
    freshened_under(&CachingRules::rfc9111(), response, lines).response
}

#[test]
fn a_304_is_about_the_version_that_it_names() {
    use FreshenRefusal::{NoVersion, OtherVersion};
    let strong = &[("etag", "\"a\""), ("last-modified", "@1000")][..];
    let weak = &[("etag", "W/\"a\""), ("last-modified", "@1000")][..];
    let dated = &[("last-modified", "@1000")][..];
    let malformed = &[("etag", "a"), ("last-modified", "@1000")][..];
    for (response, not_modified, conditions, expected) in [
        (strong, &[("etag", "\"a\"")][..], OWN, Ok(())),
        (strong, &[("etag", "\"a\"")], BOTH, Ok(())),
        (strong, &[("etag", "W/\"a\"")], OWN, Ok(())),
        (strong, &[("etag", "\"b\"")], OWN, Err(OtherVersion)),
        (strong, &[("etag", "\"b\"")], BOTH, Err(OtherVersion)),
        (strong, &[("etag", "\"A\"")], OWN, Err(OtherVersion)),
        (strong, &[("etag", "W/\"b\"")], OWN, Err(OtherVersion)),
        (strong, &[("etag", "\"a\""), ("last-modified", "@5")], OWN, Ok(())),
        (strong, &[("etag", "\"b\""), ("last-modified", "@1000")], OWN, Err(OtherVersion)),
        (strong, &[("etag", "\"a\""), ("etag", "\"a\"")], OWN, Err(NoVersion)),
        (strong, &[("etag", "\"b\""), ("etag", "\"a\"")], OWN, Err(NoVersion)),
        (strong, &[], OWN, Ok(())),
        (strong, &[], BOTH, Err(NoVersion)),
        (strong, &[("etag", "a")], OWN, Ok(())),
        (strong, &[("etag", "a")], BOTH, Err(NoVersion)),
        (strong, &[("last-modified", "@1000")], OWN, Ok(())),
        (strong, &[("last-modified", "@1000")], BOTH, Err(NoVersion)),
        (strong, &[("last-modified", "@999")], OWN, Err(OtherVersion)),
        (strong, &[("last-modified", "garbage")], OWN, Ok(())),
        (weak, &[("etag", "W/\"a\"")], OWN, Ok(())),
        (weak, &[("etag", "\"a\"")], OWN, Err(OtherVersion)),
        (weak, &[("etag", "W/\"b\"")], OWN, Err(OtherVersion)),
        (dated, &[("last-modified", "@1000")], OWN, Ok(())),
        (dated, &[("last-modified", "@999")], OWN, Err(OtherVersion)),
        (dated, &[], OWN, Ok(())),
        (dated, &[("etag", "\"a\"")], OWN, Err(OtherVersion)),
        (malformed, &[("etag", "a")], OWN, Ok(())),
        (malformed, &[("etag", "a"), ("last-modified", "@1000")], OWN, Ok(())),
        (malformed, &[("etag", "\"a\"")], OWN, Err(OtherVersion)),
    ] {
        let response = stored(200, response);
        let (request, not_modified) = (get(&[]), later_head(304, not_modified));
        let rules = CachingRules::rfc9111();
        let outcome = freshen(&asked(&request, &response, conditions), &response, &not_modified, &rules);
        assert_eq!(outcome.map(|_| ()), expected, "{:?} {:?}", response.fields, not_modified.fields);
    }
}

#[test]
fn fields_of_the_304_replace_stored_ones_line_by_line() {
    let response = stored(
        200,
        &[
            ("etag", "\"a\""),
            ("cache-control", "max-age=60"),
            ("x-twice", "1"),
            ("x-twice", "2"),
            ("x-once", "1"),
            ("x-kept", "1"),
            ("content-type", "text/plain"),
            ("content-length", "10"),
            ("content-encoding", "gzip"),
        ],
    );
    let updated = freshened(
        &response,
        &[
            ("etag", "\"a\""),
            ("x-twice", "3"),
            ("x-once", "2"),
            ("x-once", "3"),
            ("x-new", "1"),
            ("content-type", "text/html"),
            ("content-length", "0"),
            ("content-encoding", "br"),
            ("content-range", "bytes 0-0/1"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
        ],
    );
    let fields = updated.fields.to_header_map();
    let lines =
        |name: &str| fields.get_all(name).iter().map(|line| line.to_str().unwrap()).collect::<Vec<_>>();
    for (name, expected) in [
        ("x-twice", &["3"][..]),
        ("x-once", &["2", "3"]),
        ("x-kept", &["1"]),
        ("x-new", &["1"]),
        ("content-type", &["text/html"]),
        ("content-length", &["10"]),
        ("content-encoding", &["gzip"]),
        ("content-range", &[]),
        ("connection", &[]),
        ("x-hop", &[]),
        ("keep-alive", &[]),
    ] {
        assert_eq!(lines(name), expected, "{name}");
    }
    assert_eq!(updated.body, response.body);
    assert_eq!(updated.status, response.status);
    assert_eq!(updated.fields.get(&CONTENT_TYPE), Some(&b"text/html"[..]));
}

#[test]
fn freshness_starts_anew() {
    let response =
        stored(200, &[("etag", "\"a\""), ("cache-control", "max-age=60"), ("age", "50"), ("date", "@50")]);
    for (lines, lifetime, initial_age) in [
        (&[][..], 60, 0),
        (&[("date", "@-600")], 60, 0),
        (&[("age", "9")], 60, 9),
        (&[("date", "@-590")], 60, 10),
        (&[("cache-control", "max-age=5")], 5, 0),
        (&[("cache-control", "s-maxage=5")], 5, 0),
        (&[("cache-control", "public"), ("expires", "@-700"), ("date", "@-600")], 100, 0),
    ] {
        let updated = freshened(&response, lines);
        assert_eq!(updated.policy.freshness_lifetime.as_secs(), lifetime, "{lines:?}");
        assert_eq!(updated.policy.initial_age.as_secs(), initial_age, "{lines:?}");
        assert_eq!(updated.response_time, later(600));
        assert_eq!(updated.fields.get(&AGE), None);
    }
    // The stored `Expires` is compared with the new `Date`, so the lifetime is over.
    let response = stored(200, &[("etag", "\"a\""), ("date", "@0"), ("expires", "@-60")]);
    let updated = freshened(&response, &[]);
    assert_eq!(updated.policy.freshness_lifetime.as_secs(), 0);
    assert_eq!(updated.fields.get(&DATE), Some(date(-600).as_bytes()));
    assert_eq!(updated.fields.get(&EXPIRES), response.fields.get(&EXPIRES));
}

#[test]
fn a_304_raises_the_coverage_and_never_lowers_it() {
    let mut response = stored(200, &[("etag", "\"a\"")]);
    assert_eq!(freshened(&response, &[]).covers, NEWER);
    response.covers = Coverage { newest_version: 10, closed_position: 2, sent_order: 1, revelation: 0 };
    let covers = Coverage { newest_version: 10, closed_position: 8, sent_order: 9, revelation: 0 };
    assert_eq!(freshened(&response, &[]).covers, covers);
}

#[test]
fn a_304_may_end_the_storing() {
    let response = stored(200, &[("etag", "\"a\""), ("cache-control", "max-age=60")]);
    let rules = CachingRules::rfc9111();
    for (lines, expected) in [
        (&[("cache-control", "max-age=9")][..], Ok(())),
        (&[("cache-control", "no-store")], Err(NotStored::NoStore)),
        (&[("cache-control", "private")], Err(NotStored::Private)),
        (&[("vary", "*")], Err(NotStored::Vary)),
    ] {
        let freshened = freshened_under(&rules, &response, lines);
        assert_eq!(freshened.keep, expected, "{lines:?}");
        let (name, value) = lines[0];
        assert_eq!(freshened.response.fields.get(&name.parse().unwrap()), Some(value.as_bytes()));
    }
}

#[test]
fn a_304_may_change_the_selecting_fields() {
    let response = stored(200, &[("etag", "\"a\""), ("cache-control", "max-age=60")]);
    let (request, head) = (get(&[("foo", "1")]), later_head(304, &[("vary", "foo")]));
    let rules = CachingRules::rfc9111();
    let updated = freshen(&asked(&request, &response, OWN), &response, &head, &rules).unwrap().response;
    assert_eq!(updated.fields.get(&VARY), Some(&b"foo"[..]));
    assert!(crate::headers::vary::selects(&updated.selecting, &request.fields));
    assert!(!crate::headers::vary::selects(&updated.selecting, &get(&[]).fields));
}

#[test]
fn excluded_fields_do_not_come_in_by_a_304() {
    let guarded = CachingRules { sharing: Sharing::Guarded, ..CachingRules::rfc9111() };
    let response = stored(200, &[("etag", "\"a\""), ("cache-control", "max-age=60, private=\"x-user\"")]);
    let lines = [("set-cookie", "a=b"), ("x-user", "me"), ("x-other", "1")];
    for (rules, cookies) in [(&guarded, 0), (&CachingRules::rfc9111(), 1)] {
        let fields = freshened_under(rules, &response, &lines).response.fields;
        assert_eq!(fields.get_all(&SET_COOKIE).count(), cookies);
        assert!(!fields.contains(&"x-user".parse().unwrap()));
        assert!(fields.contains(&"x-other".parse().unwrap()));
    }
    let rules = CachingRules::app_configuration();
    let fields = freshened_under(&rules, &response, &[("sync-token", "a=b;sn=1"), ("x-ms-request-id", "1")]);
    assert!(!fields.response.fields.contains(&"sync-token".parse().unwrap()));
    assert!(!fields.response.fields.contains(&"x-ms-request-id".parse().unwrap()));
}

#[test]
fn a_stored_part_stays_a_part() {
    let lines = [("etag", "\"a\""), ("content-range", "bytes 20-49/100"), ("cache-control", "max-age=60")];
    let part = stored_part(20, 30, &lines);
    let updated = freshened_under(&CachingRules::rfc9111(), &part, &[("cache-control", "max-age=9")]);
    assert_eq!(updated.keep, Ok(()));
    assert_eq!(updated.response.range, part.range);
    assert_eq!(updated.response.status, StatusCode::PARTIAL_CONTENT);
    assert_eq!(updated.response.fields.get(&CONTENT_RANGE), Some(&b"bytes 20-49/100"[..]));
}

#[derive(Debug, PartialEq)]
enum Outcome {
    Freshened { proven: bool },
    Outdated,
    Nothing,
}

#[test]
fn the_answer_to_head_freshens_or_outdates() {
    use Outcome::{Freshened, Nothing, Outdated};
    let response =
        stored(200, &[("etag", "\"a\""), ("last-modified", "@1000"), ("cache-control", "max-age=60")]);
    for (status, lines, expected) in [
        (200, &[("etag", "\"a\"")][..], Freshened { proven: true }),
        (200, &[("etag", "\"a\""), ("content-length", "10")], Freshened { proven: true }),
        (200, &[("etag", "\"a\""), ("content-length", "11")], Outdated),
        (200, &[("etag", "\"b\"")], Outdated),
        (200, &[("etag", "W/\"a\"")], Freshened { proven: false }),
        (200, &[("etag", "a")], Outdated),
        (200, &[("last-modified", "@1000")], Freshened { proven: false }),
        (200, &[("last-modified", "@999")], Outdated),
        (200, &[("content-length", "10")], Freshened { proven: false }),
        (200, &[("content-length", "9")], Outdated),
        (200, &[("content-length", "x")], Outdated),
        (200, &[], Freshened { proven: false }),
        (404, &[], Outdated),
        (410, &[("etag", "\"a\"")], Outdated),
        (302, &[], Nothing),
        (401, &[], Nothing),
        (403, &[], Nothing),
        (405, &[], Nothing),
        (429, &[], Nothing),
        (500, &[], Nothing),
    ] {
        let (request, rules) = (request("HEAD", &[]), CachingRules::rfc9111());
        let asked = asked(&request, &response, SentConditions::default());
        let outcome = match freshen_by_head(&asked, &response, &later_head(status, lines), &rules) {
            HeadOutcome::Freshened(freshened) => {
                assert_eq!(freshened.keep, Ok(()));
                assert_eq!(freshened.response.response_time, later(600));
                Freshened { proven: freshened.response.covers == NEWER }
            }
            HeadOutcome::Outdated => Outdated,
            HeadOutcome::Nothing => Nothing,
        };
        assert_eq!(outcome, expected, "{status} {lines:?}");
    }
}

#[test]
fn head_updates_the_fields_of_the_stored_get() {
    let response = stored(200, &[("etag", "\"a\""), ("cache-control", "max-age=60"), ("x-old", "1")]);
    assert_eq!(response.response_time, NOW);
    let (request, rules) = (request("HEAD", &[]), CachingRules::rfc9111());
    let asked = asked(&request, &response, SentConditions::default());
    let head = later_head(200, &[("etag", "\"a\""), ("cache-control", "max-age=9"), ("x-new", "1")]);
    let HeadOutcome::Freshened(freshened) = freshen_by_head(&asked, &response, &head, &rules) else {
        panic!("the same version")
    };
    let fields = freshened.response.fields;
    assert_eq!(fields.get(&CACHE_CONTROL), Some(&b"max-age=9"[..]));
    assert!(fields.contains(&"x-old".parse().unwrap()) && fields.contains(&"x-new".parse().unwrap()));
    assert_eq!(freshened.response.body, response.body);
}
