//! A request head becomes a presented request (RFC 9111 §4), or bypasses the cache for a reason.

use std::sync::Arc;

use http::header::{EXPECT, RANGE};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Uri};

use crate::config::caching::{CachingRules, Sharing};
use crate::error::{RefusalReason, Refused};
use crate::headers::cache_control::RequestDirectives;
use crate::headers::conditional::Preconditions;
use crate::headers::hop_by_hop::remove_hop_by_hop;
use crate::headers::range::RangeField;
use crate::headers::survey::{FieldSet, Survey};
use crate::headers::uri_reference::absolute;
use crate::presented_request::PresentedRequest;
use crate::profile::{Profile, UnkeyedReason};

/// What identifying a request depends on beside the request: where it goes and in whose name.
#[derive(Clone, Copy, Debug)]
pub struct CachingScope<'a> {
    /// The upstream's name in the configuration: first part of the cache key.
    pub upstream: &'a str,
    /// Scheme and authority of the upstream.
    pub origin: &'a Uri,
    /// The identity under which responses are obtained: second part of the cache key, so that no response crosses
    /// identities.
    pub partition: &'a str,
    /// Whether only one proven identity reaches that partition.
    pub private_partition: bool,
    /// What is known about the API.
    pub profile: &'a dyn Profile,
    /// What the operator decided about caching.
    pub rules: &'a CachingRules,
}

/// A request, as the cache sees it. Its fields are the end-to-end ones, and perhaps a `Connection` that names none: no request goes
/// upstream with it ([`crate::upstream::outgoing`]), and to remove it costs every hit.
#[derive(Clone, Debug)]
pub enum Identified {
    /// The store may answer it, or learn from its answer. Shared from here on, so that no stage moves it.
    Cacheable(Arc<PresentedRequest>),
    /// Neither; it is passed on as it is.
    Bypass(Bypassed),
}

/// A request that bypasses the cache.
#[derive(Clone, Debug)]
pub struct Bypassed {
    /// Why.
    pub reason: UnkeyedReason,
    /// The method as received.
    pub method: Method,
    /// All end-to-end request fields.
    pub fields: HeaderMap,
}

/// Identifies what a request asks for. The guard has admitted it; `survey` is that of its header section, and `has_body` says
/// whether any content follows.
///
/// # Errors
///
/// A body on `GET` or `HEAD` under `sharing = "guarded"`: an origin might let it change the answer, and the key would not
/// show it.
pub fn identify(
    method: &Method,
    target: &PathAndQuery,
    mut fields: HeaderMap,
    survey: &Survey,
    has_body: bool,
    to: CachingScope<'_>,
) -> Result<Identified, Refused> {
    let is_retrieval = method == Method::GET || method == Method::HEAD;
    if is_retrieval && has_body && to.rules.sharing == Sharing::Guarded {
        return Err(Refused::new(
            RefusalReason::BodyOnRetrieval,
            format!("{method} must not carry a body. Leave it out, or use the method that the API documents"),
        ));
    }
    if survey.has(FieldSet::HOP_BY_HOP.union(FieldSet::TRANSFER_ENCODING)) {
        remove_hop_by_hop(&mut fields);
    }
    if survey.has(FieldSet::EXPECT) {
        // The sidecar itself meets the expectation: it reads the body before, or while, it is passed on.
        fields.remove(EXPECT);
    }
    let range =
        if survey.has(FieldSet::RANGE) { presented_range(method, &mut fields) } else { RangeField::Absent };
    let present =
        if range == RangeField::Absent { survey.present.difference(FieldSet::RANGE) } else { survey.present };
    let bypass = |reason, fields| Ok(Identified::Bypass(Bypassed { reason, method: method.clone(), fields }));

    // POST is here because its answer may be stored for later retrievals (RFC 9110 §9.3.3).
    if !is_retrieval && method != Method::POST {
        return bypass(UnkeyedReason::Method, fields);
    }
    // Another instant: whatever the profile knows of the target, the answer is not the state that a plain request is shown, and
    // an origin may forget to say so in `Vary`.
    if survey.has(FieldSet::ACCEPT_DATETIME) {
        return bypass(UnkeyedReason::AcceptDatetime, fields);
    }
    if is_retrieval && has_body {
        return bypass(UnkeyedReason::Body, fields);
    }
    let range = match range {
        RangeField::Single(range) => Some(range),
        RangeField::Absent | RangeField::Malformed => None,
        RangeField::Unsupported => return bypass(UnkeyedReason::Range, fields),
    };
    let canonical_target = match to.profile.canonical_target(method, target, present) {
        Ok(canonical_target) => canonical_target,
        Err(reason) => return bypass(reason, fields),
    };
    let authorized = !to.rules.owns_credential && survey.has(FieldSet::AUTHORIZATION);
    let mut keyed = to.profile.keyed_fields(&fields);
    if authorized
        && !to.private_partition
        && to.profile.sends_canonical_target()
        && canonical_target.as_ref() != target.as_str()
    {
        // See `PresentedRequest::binds_target`: these bytes go upstream.
        keyed = keyed.with_target(target.as_str());
    }
    let key = keyed.key(to.upstream, to.partition, canonical_target.as_ref());
    let directives = if to.rules.honour_request_directives && survey.has(FieldSet::CACHE_DIRECTIVES) {
        RequestDirectives::from_fields(&fields)
    } else {
        RequestDirectives::default()
    };
    let preconditions = if survey.has(FieldSet::CONDITIONAL) {
        Preconditions::from_fields(&fields)
    } else {
        Preconditions::default()
    };
    Ok(Identified::Cacheable(Arc::new(PresentedRequest {
        key,
        post_target: (!is_retrieval)
            .then(|| Box::new(absolute(to.origin.scheme(), to.origin.authority(), target.clone()))),
        method: method.clone(),
        fields,
        directives,
        preconditions,
        range,
        names_caller: keyed.names_caller || survey.has(FieldSet::COOKIE),
        names_ids: survey.has(FieldSet::REQUEST_IDS),
        authorized,
        private_partition: to.private_partition,
    })))
}

/// The `Range` that counts: only `GET` has one (RFC 9110 §14.2), and what is malformed is ignored, by the origin too.
fn presented_range(method: &Method, fields: &mut HeaderMap) -> RangeField {
    let range = if method == Method::GET { RangeField::from_fields(fields) } else { RangeField::Malformed };
    if range == RangeField::Malformed {
        fields.remove(RANGE);
        return RangeField::Absent;
    }
    range
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::headers::range::RangeRequest;
    use crate::profile::generic::Generic;
    use crate::profile::keyed_fields::FieldRules;
    use crate::stored_response::CacheKey;

    fn fields_of(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            fields.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        fields
    }

    fn identified_by(
        rules: &CachingRules,
        method: &str,
        target: &str,
        lines: &[(&'static str, &'static str)],
        has_body: bool,
    ) -> Result<Identified, Refused> {
        let fields = fields_of(lines);
        let survey = Survey::of(&fields);
        let origin = Uri::from_static("http://origin.test:81");
        let profile = Generic::new(&origin, rules.sharing, FieldRules::default());
        let to = CachingScope {
            upstream: "main",
            origin: &origin,
            partition: "p",
            private_partition: false,
            profile: &profile,
            rules,
        };
        let method = method.parse().expect("a method");
        identify(&method, &target.parse().expect("a target"), fields, &survey, has_body, to)
    }

    fn identified(method: &str, target: &str, lines: &[(&'static str, &'static str)]) -> Identified {
        identified_by(&CachingRules::rfc9111(), method, target, lines, false).expect("not refused")
    }

    fn presented(
        method: &str,
        target: &str,
        lines: &[(&'static str, &'static str)],
    ) -> Arc<PresentedRequest> {
        match identified(method, target, lines) {
            Identified::Cacheable(request) => request,
            Identified::Bypass(bypassed) => panic!("bypass: {:?}", bypassed.reason),
        }
    }

    fn bypass_reason(
        method: &str,
        target: &str,
        lines: &[(&'static str, &'static str)],
    ) -> Option<UnkeyedReason> {
        match identified(method, target, lines) {
            Identified::Cacheable(_) => None,
            Identified::Bypass(bypassed) => Some(bypassed.reason),
        }
    }

    #[test]
    fn the_key_holds_upstream_partition_and_canonical_target() {
        let request = presented("GET", "/%7ea?x=%41", &[]);
        assert_eq!(request.key, CacheKey::new("main", "p", "/~a?x=%41"));
        assert_eq!(presented("HEAD", "/%7ea?x=%41", &[]).key, request.key);
        assert_eq!(presented("POST", "/%7ea?x=%41", &[]).key, request.key);
    }

    #[test]
    fn a_target_that_a_signature_binds_is_part_of_the_key() {
        let guarded = CachingRules { sharing: Sharing::Guarded, ..CachingRules::rfc9111() };
        let key =
            |rules: &CachingRules, target: &str, lines: &[(&'static str, &'static str)]| match identified_by(
                rules, "GET", target, lines, false,
            ) {
                Ok(Identified::Cacheable(request)) => request.key.clone(),
                other => panic!("{other:?}"),
            };
        let signed = [("authorization", "HMAC-SHA256 Signature=x")];
        assert_eq!(key(&guarded, "/%61", &[]), key(&guarded, "/a", &[]));
        assert_eq!(key(&guarded, "/a", &signed), key(&guarded, "/a", &[]));
        assert_ne!(key(&guarded, "/%61", &signed), key(&guarded, "/a", &signed));
        assert_ne!(key(&guarded, "/%61b", &signed), key(&guarded, "/a%62", &signed));
        let bound = key(&guarded, "/%61", &signed);
        assert_eq!(bound.canonical_target(), "/a", "a write to the resource touches it");
        let own = CachingRules { owns_credential: true, ..guarded };
        assert_eq!(key(&own, "/%61", &signed), key(&own, "/a", &signed), "it does not go upstream");
    }

    #[test]
    fn the_target_uri_is_the_upstreams_and_keeps_its_bytes() {
        let target_of =
            |target| presented("POST", target, &[]).post_target.as_deref().map(ToString::to_string);
        for target in ["/%7ea?x=%41", "//evil.example/a"] {
            assert_eq!(target_of(target), Some(format!("http://origin.test:81{target}")));
        }
        assert_eq!(presented("GET", "/a", &[]).post_target, None);
    }

    #[test]
    fn cookies_are_noticed() {
        assert!(presented("GET", "/", &[("cookie", "a=b")]).names_caller);
        assert!(!presented("GET", "/", &[]).names_caller);
    }

    #[test]
    fn methods_are_case_sensitive() {
        for method in ["PUT", "DELETE", "PATCH", "OPTIONS", "M-SEARCH", "get", "Get", "PURGE"] {
            assert_eq!(bypass_reason(method, "/", &[]), Some(UnkeyedReason::Method), "{method}");
        }
        for method in ["GET", "HEAD", "POST"] {
            assert_eq!(bypass_reason(method, "/", &[]), None, "{method}");
        }
    }

    #[test]
    fn a_body_on_a_retrieval_is_refused_or_bypasses() {
        let guarded = CachingRules { sharing: Sharing::Guarded, ..CachingRules::rfc9111() };
        for method in ["GET", "HEAD"] {
            let refused = identified_by(&guarded, method, "/", &[], true).expect_err("refused");
            assert_eq!(refused.reason, RefusalReason::BodyOnRetrieval);
            let passed = identified_by(&CachingRules::rfc9111(), method, "/", &[], true).expect("passed");
            assert!(matches!(passed, Identified::Bypass(Bypassed { reason: UnkeyedReason::Body, .. })));
            // An asynchronous Python client announces an empty body.
            let empty = identified_by(&guarded, method, "/", &[("content-length", "0")], false);
            assert!(matches!(empty, Ok(Identified::Cacheable(_))));
        }
        assert!(identified_by(&guarded, "POST", "/", &[], true).is_ok());
    }

    #[test]
    fn hop_by_hop_fields_end_here() {
        let request = presented(
            "GET",
            "/",
            &[
                ("connection", "keep-alive, x-private"),
                ("keep-alive", "timeout=99"),
                ("te", "trailers"),
                ("upgrade", "websocket"),
                ("x-private", "1"),
                ("expect", "100-continue"),
                ("accept", "*/*"),
            ],
        );
        assert_eq!(request.fields, fields_of(&[("accept", "*/*")]));
        let only_connection = presented("GET", "/", &[("connection", "x-a"), ("x-a", "1")]);
        assert!(only_connection.fields.is_empty());
    }

    #[test]
    fn connection_cannot_strip_a_condition() {
        let request = presented("GET", "/", &[("connection", "if-none-match"), ("if-none-match", "\"x\"")]);
        assert!(request.preconditions.if_none_match.is_some());
    }

    #[test]
    fn directives_are_read_if_the_operator_wants_it() {
        assert!(presented("GET", "/", &[("cache-control", "no-cache")]).directives.no_cache);
        assert!(presented("GET", "/", &[("pragma", "no-cache")]).directives.no_cache);
        assert_eq!(presented("GET", "/", &[]).directives, RequestDirectives::default());
        let deaf = CachingRules { honour_request_directives: false, ..CachingRules::rfc9111() };
        match identified_by(&deaf, "GET", "/", &[("cache-control", "no-cache")], false) {
            Ok(Identified::Cacheable(request)) => {
                assert_eq!(request.directives, RequestDirectives::default())
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn ranges_count_for_get_only() {
        let range = |method, value| presented(method, "/", &[("range", value)]);
        let single = range("GET", "bytes=0-4");
        assert_eq!(single.range, Some(RangeRequest::From { first: 0, last: Some(4) }));
        assert!(single.fields.contains_key(RANGE));
        for (method, value) in
            [("HEAD", "bytes=0-4"), ("GET", "bytes="), ("GET", "bytes=9-1"), ("POST", "items=0-1")]
        {
            let request = range(method, value);
            assert_eq!(request.range, None, "{method} {value}");
            assert!(!request.fields.contains_key(RANGE), "{method} {value}");
        }
        for value in ["items=0-2", "bytes=0-1,4-5"] {
            assert_eq!(bypass_reason("GET", "/", &[("range", value)]), Some(UnkeyedReason::Range), "{value}");
        }
    }

    #[test]
    fn another_instant_bypasses_first_of_all() {
        let date = "Sun, 22 Nov 2026 00:00:00 GMT";
        for name in ["accept-datetime", "x-accept-datetime"] {
            for method in ["GET", "HEAD", "POST"] {
                let lines = [(name, date), ("range", "items=0-2")];
                assert_eq!(
                    bypass_reason(method, "/", &lines),
                    Some(UnkeyedReason::AcceptDatetime),
                    "{method} {name}"
                );
            }
            let with_body = identified_by(&CachingRules::rfc9111(), "GET", "/", &[(name, date)], true);
            assert!(
                matches!(
                    with_body,
                    Ok(Identified::Bypass(Bypassed { reason: UnkeyedReason::AcceptDatetime, .. }))
                ),
                "{name}"
            );
            assert_eq!(bypass_reason("PUT", "/", &[(name, date)]), Some(UnkeyedReason::Method), "{name}");
        }
    }

    #[test]
    fn authorization_counts_only_if_it_goes_upstream() {
        let lines = [("authorization", "Bearer x")];
        assert!(presented("GET", "/", &lines).authorized);
        assert!(!presented("GET", "/", &[]).authorized);
        let own = CachingRules { owns_credential: true, ..CachingRules::rfc9111() };
        match identified_by(&own, "GET", "/", &lines, false) {
            Ok(Identified::Cacheable(request)) => assert!(!request.authorized),
            other => panic!("{other:?}"),
        }
    }
}
