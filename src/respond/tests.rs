//! What callers get, field by field.

use std::borrow::Cow;
use std::future::Future as _;
use std::task::{Context, Poll, Waker};

use http_body::Body;
use http_body_util::BodyExt;

use super::*;
use crate::clock::Timestamp;
use crate::error::{RefusalReason, Refused};
use crate::headers::cache_control::RequestDirectives;
use crate::headers::conditional::Preconditions;
use crate::headers::range::RangeField;
use crate::stored_response::{CacheKey, StoredFields, StoredPolicy, StoredRange};

fn fields_of(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (name, value) in lines {
        fields.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    fields
}

fn request(method: Method, lines: &[(&'static str, &'static str)]) -> PresentedRequest {
    let fields = fields_of(lines);
    PresentedRequest {
        key: CacheKey::new("main", "", "/a"),
        post_target: None,
        method,
        directives: RequestDirectives::default(),
        preconditions: Preconditions::from_fields(&fields),
        range: match RangeField::from_fields(&fields) {
            RangeField::Single(range) => Some(range),
            _ => None,
        },
        names_caller: false,
        names_ids: false,
        authorized: false,
        private_partition: false,
        fields,
    }
}

fn get(lines: &[(&'static str, &'static str)]) -> PresentedRequest {
    request(Method::GET, lines)
}

const STORED_LINES: [(&str, &str); 13] = [
    ("etag", "\"v1\""),
    ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
    ("last-modified", "Sun, 06 Nov 1994 08:00:00 GMT"),
    ("cache-control", "max-age=60"),
    ("vary", "accept"),
    ("expires", "Sun, 06 Nov 1994 09:49:37 GMT"),
    ("content-location", "/a.json"),
    ("link", "</a?after=1>; rel=\"next\""),
    ("content-type", "application/json"),
    ("content-length", "10"),
    ("x-strange", "1"),
    ("x-strange", "2"),
    ("via", "1.1 nearer"),
];

fn stored(status: u16, lines: &[(&'static str, &'static str)], body: &'static str) -> StoredResponse {
    StoredResponse {
        status: StatusCode::from_u16(status).expect("a status"),
        fields: StoredFields::pack(&fields_of(lines)),
        body: Bytes::from_static(body.as_bytes()),
        request_time: Timestamp::from_unix_seconds(1_000),
        response_time: Timestamp::from_unix_seconds(1_000),
        policy: StoredPolicy { freshness_lifetime: Duration::from_secs(60), ..StoredPolicy::default() },
        ..StoredResponse::default()
    }
}

fn own() -> OwnFields<'static> {
    OwnFields {
        cache_status: CacheStatus { hit: true, ttl_seconds: Some(27), ..CacheStatus::default() },
        sync_token: Some(HeaderValue::from_static("a=b;sn=1")),
        via: HeaderValue::from_static("1.1 tagalong-1"),
    }
}

fn answer(request: &PresentedRequest, stored: &StoredResponse) -> Response<FlowingBody> {
    from_stored(request, stored, 33, own())
}

fn lines<'a>(response: &'a Response<FlowingBody>, name: &str) -> Vec<Cow<'a, str>> {
    response.headers().get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect()
}

fn names(response: &Response<FlowingBody>) -> String {
    let mut names: Vec<&str> = response.headers().keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    names.join(" ")
}

fn body_of(response: Response<FlowingBody>) -> String {
    let mut body = response.into_body();
    let mut content = Vec::new();
    let mut context = Context::from_waker(Waker::noop());
    let mut body = std::pin::pin!(body.frame());
    // Bodies in memory are ready at once, in one frame.
    if let Poll::Ready(Some(Ok(frame))) = body.as_mut().poll(&mut context)
        && let Ok(data) = frame.into_data()
    {
        content.extend_from_slice(&data);
    }
    String::from_utf8(content).expect("text")
}

#[test]
fn a_stored_response_is_answered_whole() {
    let response = answer(&get(&[]), &stored(200, &STORED_LINES, "0123456789"));
    assert_eq!(response.status(), 200);
    for (name, value) in STORED_LINES.into_iter().filter(|(name, _)| *name != "content-length") {
        assert!(lines(&response, name).contains(&value.into()), "{name}");
    }
    // It goes by the body.
    assert_eq!(response.body().size_hint().exact(), Some(10));
    assert_eq!(lines(&response, "x-strange"), ["1", "2"]);
    assert_eq!(lines(&response, "age"), ["33"]);
    assert_eq!(lines(&response, "cache-status"), ["tagalong; hit; ttl=27"]);
    assert_eq!(lines(&response, "sync-token"), ["a=b;sn=1"]);
    assert_eq!(lines(&response, "via"), ["1.1 nearer", "1.1 tagalong-1"]);
    assert_eq!(body_of(response), "0123456789");
}

#[test]
fn status_and_body_are_those_stored() {
    for status in [200, 203, 301, 404, 410, 501, 299, 599] {
        let response = answer(&get(&[]), &stored(status, &[], "text"));
        assert_eq!(response.status().as_u16(), status);
        assert_eq!(body_of(response), "text");
    }
}

#[test]
fn age_is_what_it_is() {
    for age_seconds in [0, 1, 600, 601, 86_400, u64::MAX] {
        for _ in 0..2 {
            let response = from_stored(&get(&[]), &stored(200, &[], ""), age_seconds, own());
            assert_eq!(lines(&response, "age"), [age_seconds.to_string()]);
        }
    }
}

#[test]
fn without_a_token_there_is_no_sync_token_line() {
    let silent = OwnFields { sync_token: None, ..own() };
    let response = from_stored(&get(&[]), &stored(200, &[], ""), 0, silent);
    assert!(lines(&response, "sync-token").is_empty());
    assert_eq!(lines(&response, "age"), ["0"]);
}

#[test]
fn what_nearer_caches_said_stays_in_front() {
    let response = answer(&get(&[]), &stored(200, &[("cache-status", "Nearer; hit")], ""));
    assert_eq!(lines(&response, "cache-status"), ["Nearer; hit", "tagalong; hit; ttl=27"]);
}

#[test]
fn head_gets_the_head_of_the_stored_get() {
    let response = answer(&request(Method::HEAD, &[]), &stored(200, &STORED_LINES[..8], "0123456789"));
    assert_eq!(response.status(), 200);
    assert_eq!(lines(&response, "content-length"), ["10"]);
    assert_eq!(lines(&response, "etag"), ["\"v1\""]);
    assert!(response.body().is_end_stream());
    let empty = answer(&request(Method::HEAD, &[]), &stored(204, &[], ""));
    assert!(lines(&empty, "content-length").is_empty());
}

#[test]
fn a_304_carries_what_a_200_would_have() {
    let response = answer(&get(&[("if-none-match", "\"v1\"")]), &stored(200, &STORED_LINES, "0123456789"));
    assert_eq!(response.status(), 304);
    assert_eq!(
        names(&response),
        "age cache-control cache-status content-location date etag expires link sync-token vary via"
    );
    assert_eq!(lines(&response, "link"), ["</a?after=1>; rel=\"next\""]);
    assert!(response.body().is_end_stream());
    let head =
        answer(&request(Method::HEAD, &[("if-none-match", "\"v1\"")]), &stored(200, &STORED_LINES, "x"));
    assert_eq!(head.status(), 304);
}

#[test]
fn a_304_without_a_tag_names_the_date_of_last_modification() {
    let since = [("if-modified-since", "Sun, 06 Nov 1994 08:00:00 GMT")];
    let response = answer(&get(&since), &stored(200, &STORED_LINES[1..], "0123456789"));
    assert_eq!(response.status(), 304);
    assert_eq!(lines(&response, "last-modified"), ["Sun, 06 Nov 1994 08:00:00 GMT"]);
}

#[test]
fn conditions_that_do_not_hold_get_the_whole() {
    for condition in [("if-none-match", "\"v2\""), ("if-modified-since", "Sun, 06 Nov 1994 07:59:59 GMT")] {
        let response = answer(&get(&[condition]), &stored(200, &STORED_LINES, "0123456789"));
        assert_eq!(response.status(), 200, "{condition:?}");
        assert_eq!(body_of(response), "0123456789");
    }
}

#[test]
fn a_range_is_cut_from_the_whole() {
    for (range, content_range, content) in [
        ("bytes=0-3", "bytes 0-3/10", "0123"),
        ("bytes=7-", "bytes 7-9/10", "789"),
        ("bytes=-1", "bytes 9-9/10", "9"),
        ("bytes=0-", "bytes 0-9/10", "0123456789"),
    ] {
        let response = answer(&get(&[("range", range)]), &stored(200, &STORED_LINES, "0123456789"));
        assert_eq!(response.status(), 206, "{range}");
        assert_eq!(lines(&response, "content-range"), [content_range]);
        assert!(lines(&response, "content-length").is_empty(), "the stored length is that of the whole");
        assert_eq!(lines(&response, "etag"), ["\"v1\""]);
        assert_eq!(lines(&response, "age"), ["33"]);
        assert_eq!(body_of(response), content);
    }
}

#[test]
fn a_range_is_cut_from_a_part() {
    let part = StoredResponse {
        range: Some(StoredRange { first_byte: 20, complete_length_bytes: 100 }),
        ..stored(206, &[("content-range", "bytes 20-29/100"), ("content-length", "10")], "0123456789")
    };
    let response = answer(&get(&[("range", "bytes=22-24")]), &part);
    assert_eq!(response.status(), 206);
    assert_eq!(lines(&response, "content-range"), ["bytes 22-24/100"]);
    assert_eq!(body_of(response), "234");
    let lacking = answer(&get(&[]), &part);
    assert_eq!(lacking.status(), 500, "a part never passes for the whole");
}

#[test]
fn a_condition_comes_before_a_range() {
    let lines = [("range", "bytes=0-3"), ("if-none-match", "\"v1\"")];
    assert_eq!(answer(&get(&lines), &stored(200, &STORED_LINES, "0123456789")).status(), 304);
    let unsatisfiable = [("range", "bytes=99-"), ("if-none-match", "\"v1\"")];
    assert_eq!(answer(&get(&unsatisfiable), &stored(200, &STORED_LINES, "0123456789")).status(), 304);
}

#[test]
fn an_unsatisfiable_range_is_told_the_length() {
    let response = answer(&get(&[("range", "bytes=10-")]), &stored(200, &STORED_LINES, "0123456789"));
    assert_eq!(response.status(), 416);
    assert_eq!(lines(&response, "content-range"), ["bytes */10"]);
    assert_eq!(lines(&response, "content-type"), ["application/problem+json"]);
    assert_eq!(lines(&response, "sync-token"), ["a=b;sn=1"]);
    assert!(body_of(response).contains("range-not-satisfiable"));
}

#[test]
fn if_range_of_another_version_gets_the_whole() {
    let lines = [("range", "bytes=0-3"), ("if-range", "\"v0\"")];
    let response = answer(&get(&lines), &stored(200, &STORED_LINES, "0123456789"));
    assert_eq!(response.status(), 200);
    assert_eq!(body_of(response), "0123456789");
}

#[test]
fn an_answer_of_the_upstream_is_passed_on() {
    let fields = fields_of(&[
        ("etag", "not well-formed"),
        ("set-cookie", "a=b"),
        ("set-cookie", "c=d"),
        ("age", "5"),
        ("connection", "x-private"),
        ("x-private", "1"),
        ("keep-alive", "timeout=5"),
        ("transfer-encoding", "chunked"),
        ("sync-token", "theirs=1;sn=2"),
        ("sync-token", "other"),
        ("cache-status", "Nearer; fwd=miss"),
        ("content-foo", "kept"),
    ]);
    let response =
        from_upstream(StatusCode::CREATED, fields, FlowingBody::from(Bytes::from_static(b"x")), own());
    assert_eq!(response.status(), 201);
    assert_eq!(names(&response), "age cache-status content-foo etag set-cookie sync-token via");
    assert_eq!(lines(&response, "set-cookie"), ["a=b", "c=d"]);
    assert_eq!(lines(&response, "age"), ["5"]);
    assert_eq!(lines(&response, "sync-token"), ["a=b;sn=1"]);
    assert_eq!(lines(&response, "cache-status"), ["Nearer; fwd=miss", "tagalong; hit; ttl=27"]);
    assert_eq!(body_of(response), "x");
}

#[test]
fn an_error_tells_what_happened_and_what_to_do() {
    let error = ProxyError::Throttled {
        status: StatusCode::TOO_MANY_REQUESTS,
        retry_after: Duration::from_millis(1_500),
    };
    let response = from_error(&error, own());
    assert_eq!(response.status(), 429);
    assert_eq!(lines(&response, "retry-after"), ["2"]);
    assert_eq!(lines(&response, "retry-after-ms"), ["1500"]);
    assert_eq!(lines(&response, "content-type"), ["application/problem+json"]);
    assert_eq!(lines(&response, "cache-control"), ["no-store"]);
    assert_eq!(lines(&response, "sync-token"), ["a=b;sn=1"]);
    assert_eq!(lines(&response, "cache-status").len(), 1);
    assert!(lines(&response, "connection").is_empty());
    let json: serde_json::Value = serde_json::from_str(&body_of(response)).expect("JSON");
    assert_eq!(json["status"], 429);
    assert_eq!(json["detail"], error.to_string());
}

#[test]
fn other_errors_carry_no_hint_to_retry() {
    let error = ProxyError::BrokenAnswer {
        upstream: "origin.test".into(),
        cause: "a 304 without a condition".into(),
    };
    let response = from_error(&error, own());
    assert_eq!(response.status(), 502);
    assert!(lines(&response, "retry-after").is_empty() && lines(&response, "retry-after-ms").is_empty());
}

#[test]
fn doubtful_framing_closes_the_connection() {
    for (reason, closes) in [
        (RefusalReason::TransferCoding, true),
        (RefusalReason::Host, true),
        (RefusalReason::OnlyIfCached, false),
        (RefusalReason::HostNotAllowed, false),
    ] {
        let response = from_error(&Refused::new(reason, "detail").into(), own());
        assert_eq!(response.status(), reason.status());
        assert_eq!(lines(&response, "connection") == ["close"], closes, "{reason:?}");
    }
}
