use std::time::Duration;

use http::Method;
use http::header::{AGE, CONTENT_LENGTH, ETAG};

use super::*;
use crate::config::caching::{CachingRules, Sharing};
use crate::identify::{CachingScope, Identified, identify};
use crate::profile::app_configuration::AppConfiguration;
use crate::profile::generic::Generic;
use crate::profile::keyed_fields::FieldRules;
use crate::store::conformance::response;
use crate::stored_response::StoredFields;

fn stored(body: &'static [u8]) -> Arc<StoredResponse> {
    let fields: HeaderMap = [(ETAG, HeaderValue::from_static("\"a\""))].into_iter().collect();
    let mut stored = StoredResponse { fields: StoredFields::pack(&fields), ..response("", body) };
    stored.policy.freshness_lifetime = Duration::from_secs(60);
    Arc::new(stored)
}

fn request(method: Method, lines: &[(&'static str, &'static str)]) -> Arc<PresentedRequest> {
    let fields: HeaderMap = lines
        .iter()
        .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect();
    let survey = crate::headers::survey::Survey::of(&fields);
    let origin = http::Uri::from_static("http://origin.test");
    let to = CachingScope {
        upstream: "main",
        origin: &origin,
        partition: "p",
        private_partition: false,
        profile: &generic(),
        rules: &CachingRules::rfc9111(),
    };
    match identify(&method, &"/a".parse().unwrap(), fields, &survey, false, to).unwrap() {
        Identified::Cacheable(request) => request,
        Identified::Bypass(bypassed) => panic!("{bypassed:?}"),
    }
}

fn generic() -> Generic {
    Generic::new(&http::Uri::from_static("http://origin.test"), Sharing::Guarded, FieldRules::default())
}

fn hit(ttl_seconds: i64) -> CacheStatus<'static> {
    CacheStatus { hit: true, ttl_seconds: Some(ttl_seconds), ..CacheStatus::default() }
}

fn own(ttl_seconds: i64, sync_token: &'static str, via: &'static str) -> OwnFields<'static> {
    OwnFields {
        cache_status: hit(ttl_seconds),
        sync_token: Some(HeaderValue::from_static(sync_token)),
        via: HeaderValue::from_static(via),
    }
}

/// Compares with the answer that is made anew, whatever was kept before.
fn assert_as_made_anew(
    cache: &HeadCache,
    request: &PresentedRequest,
    stored: &Arc<StoredResponse>,
    age_seconds: u64,
    own: &OwnFields<'static>,
) {
    let expected = from_stored(request, stored, age_seconds, own.clone());
    for _ in 0..3 {
        let answer = cache.answer(request, stored, age_seconds, own, &generic());
        assert_eq!(answer.status(), expected.status());
        assert_eq!(answer.headers(), expected.headers());
        match (answer.body(), expected.body()) {
            (FlowingBody::Empty, FlowingBody::Empty) => {}
            (FlowingBody::Full(ours), FlowingBody::Full(theirs)) => assert_eq!(ours, theirs),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn whatever_a_head_follows_from_makes_another_head() {
    let cache = HeadCache::default();
    let (first, second) = (stored(b"0123456789"), stored(b"another"));
    let plain = request(Method::GET, &[]);
    for stored in [&first, &second, &first] {
        assert_as_made_anew(&cache, &plain, stored, 1, &own(9, "t=1;sn=1", "1.1 s"));
        assert_as_made_anew(&cache, &plain, stored, 2, &own(9, "t=1;sn=1", "1.1 s"));
        assert_as_made_anew(&cache, &plain, stored, 2, &own(8, "t=1;sn=1", "1.1 s"));
        assert_as_made_anew(&cache, &plain, stored, 2, &own(8, "t=2;sn=2", "1.1 s"));
        assert_as_made_anew(&cache, &plain, stored, 2, &own(8, "t=2;sn=2", "1.0 s"));
        for request in [
            request(Method::GET, &[("if-none-match", "\"a\"")]),
            request(Method::GET, &[("if-none-match", "\"b\"")]),
            request(Method::HEAD, &[]),
            request(Method::GET, &[("range", "bytes=1-2")]),
            request(Method::GET, &[("range", "bytes=900-")]),
        ] {
            assert_as_made_anew(&cache, &request, stored, 2, &own(8, "t=2;sn=2", "1.0 s"));
        }
        let stale = OwnFields {
            cache_status: CacheStatus { detail: Some("max-stale"), ..hit(-3) },
            ..own(-3, "t=2;sn=2", "1.0 s")
        };
        assert_as_made_anew(&cache, &plain, stored, 2, &stale);
    }
}

#[test]
fn each_copy_has_ids_of_its_own_and_those_that_its_request_names() {
    const ID: &str = "x-ms-request-id";
    const CORRELATION_ID: &str = "x-ms-correlation-request-id";
    const CLIENT_ID: &str = "x-ms-client-request-id";
    let (cache, stored) = (HeadCache::default(), stored(b"x"));
    let profile = AppConfiguration::new(Vec::new());
    let ids_of = |lines: &[(&'static str, &'static str)]| {
        let request = request(Method::GET, lines);
        let answer = cache.answer(&request, &stored, 1, &own(9, "t=1;sn=1", "1.1 s"), &profile);
        let value = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(answer.headers().get_all(ID).iter().count(), 1);
        (value(ID).unwrap(), value(CORRELATION_ID).unwrap(), value(CLIENT_ID))
    };
    let mut seen = Vec::new();
    for _ in 0..3 {
        let (id, correlation_id, client_id) = ids_of(&[(CLIENT_ID, "mine")]);
        assert_eq!((&id, client_id), (&correlation_id, None));
        assert!(!seen.contains(&id), "{id}");
        seen.push(id);
        let named = [(CORRELATION_ID, "c"), ("x-ms-return-client-request-id", "true"), (CLIENT_ID, "mine")];
        let (id, correlation_id, client_id) = ids_of(&named);
        assert_eq!((correlation_id.as_str(), client_id.as_deref()), ("c", Some("mine")));
        assert!(!seen.contains(&id), "{id}");
        seen.push(id);
    }
}

#[test]
fn a_kept_head_keeps_no_body_alive_and_a_long_one_is_not_kept() {
    let cache = HeadCache::default();
    let plain = request(Method::GET, &[]);
    let kept = stored(b"0123456789");
    let body = Arc::downgrade(&kept);
    let _answer = cache.answer(&plain, &kept, 1, &own(9, "t=1;sn=1", "1.1 s"), &generic());
    let slots_in_use = || cache.slots.iter().filter(|slot| slot.load().is_some()).count();
    assert_eq!(slots_in_use(), 1);
    drop((kept, _answer));
    assert_eq!(body.strong_count(), 0);
    let long: HeaderMap =
        [(ETAG, HeaderValue::try_from("x".repeat(MAX_HEAD_BYTES)).unwrap())].into_iter().collect();
    let long = Arc::new(StoredResponse { fields: StoredFields::pack(&long), ..response("", b"x") });
    assert_as_made_anew(&cache, &plain, &long, 1, &own(9, "t=1;sn=1", "1.1 s"));
    assert_eq!(slots_in_use(), 1);
}

#[test]
fn a_head_request_gets_the_length_of_what_it_does_not_get() {
    let (cache, stored) = (HeadCache::default(), stored(b"0123456789"));
    let head = request(Method::HEAD, &[]);
    for _ in 0..2 {
        let answer = cache.answer(&head, &stored, 3, &own(9, "t=1;sn=1", "1.1 s"), &generic());
        assert_eq!(
            (&answer.headers()[CONTENT_LENGTH], &answer.headers()[AGE]),
            (&"10".parse().unwrap(), &"3".parse().unwrap())
        );
    }
}
