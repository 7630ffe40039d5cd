//! A request head becomes a presented request (RFC 9111 §4), or bypasses the cache for a reason.

use http::header::{AUTHORIZATION, CONTENT_LENGTH, EXPECT, HOST, RANGE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, Method};

use crate::config::caching::{CachingRules, Sharing};
use crate::error::{RefusalReason, Refused};
use crate::headers::cache_control::RequestDirectives;
use crate::headers::conditional::{CONDITIONAL_FIELDS, Preconditions};
use crate::headers::hop_by_hop::remove_hop_by_hop;
use crate::headers::range::RangeField;
use crate::headers::survey::{FieldSet, Survey};
use crate::presented_request::PresentedRequest;
use crate::profile::{BypassReason, Profile};
use crate::stored_response::CacheKey;
use crate::sync_token::session::SYNC_TOKEN;

/// What identifying a request depends on beside the request: where it goes and in whose name.
#[derive(Clone, Copy, Debug)]
pub struct Destination<'a> {
    /// The upstream's name in the configuration: first part of the cache key.
    pub upstream: &'a str,
    /// The identity under which responses are obtained: second part of the cache key (design, section 4).
    pub partition: &'a str,
    /// What is known about the API.
    pub profile: &'a dyn Profile,
    /// What the operator decided about caching.
    pub rules: &'a CachingRules,
}

/// A request, as the cache sees it. Its fields are the end-to-end ones.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "moved a few times a request, which costs less than an allocation"
)]
pub enum Identified {
    /// The store may answer it, or learn from its answer.
    Cacheable(PresentedRequest),
    /// Neither; it is passed on as it is.
    Bypass(Bypassed),
}

/// A request that bypasses the cache.
#[derive(Clone, Debug)]
pub struct Bypassed {
    /// Why.
    pub reason: BypassReason,
    /// The method as received.
    pub method: Method,
    /// All end-to-end request fields.
    pub fields: HeaderMap,
}

/// Makes out what a request asks for. The guard has let it pass; `survey` is that of its header section, and `has_body` says
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
    to: Destination<'_>,
) -> Result<Identified, Refused> {
    let is_retrieval = method == Method::GET || method == Method::HEAD;
    if is_retrieval && has_body && to.rules.sharing == Sharing::Guarded {
        return Err(Refused::new(
            RefusalReason::BodyOnRetrieval,
            format!("{method} must not carry a body. Leave it out, or use the method that the API documents"),
        ));
    }
    if survey.has(FieldSet::CONNECTION.union(FieldSet::HOP_BY_HOP).union(FieldSet::TRANSFER_ENCODING)) {
        remove_hop_by_hop(&mut fields);
    }
    if survey.has(FieldSet::EXPECT) {
        // Met here: the body is read before, or while, it is passed on.
        fields.remove(EXPECT);
    }
    let range =
        if survey.has(FieldSet::RANGE) { presented_range(method, &mut fields) } else { RangeField::Absent };
    let bypass = |reason, fields| Ok(Identified::Bypass(Bypassed { reason, method: method.clone(), fields }));

    // POST is here because its answer may feed later retrievals (`caching.md` rule 20).
    if !is_retrieval && method != Method::POST {
        return bypass(BypassReason::Method, fields);
    }
    if is_retrieval && has_body {
        return bypass(BypassReason::Body, fields);
    }
    let range = match range {
        RangeField::Single(range) => Some(range),
        RangeField::Absent | RangeField::Malformed => None,
        RangeField::Unsupported => return bypass(BypassReason::Range, fields),
    };
    let key = match to.profile.canonical_target(method, target, &fields) {
        Ok(canonical_target) => CacheKey::new(to.upstream, to.partition, &canonical_target),
        Err(reason) => return bypass(reason, fields),
    };
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
    Ok(Identified::Cacheable(PresentedRequest {
        key,
        method: method.clone(),
        fields,
        directives,
        preconditions,
        range,
        authorized: !to.rules.owns_credential && survey.has(FieldSet::AUTHORIZATION),
    }))
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

/// What becomes of the caller's conditions and range on the way upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallersConditions {
    /// They go along: the request bypasses the cache, or is for the origin to judge.
    Kept,
    /// They stay here: the cache asks with its own (`decide::validation`) and answers the caller from what comes back.
    LeftOut,
}

/// The request fields that go upstream. Not among them, because others write them: `Host` and framing, the aggregate of sync
/// tokens, `Via`, and `Authorization` unless it is the caller's own that counts.
#[must_use]
pub fn forwarded_fields(fields: &HeaderMap, conditions: CallersConditions, to: Destination<'_>) -> HeaderMap {
    let mut forwarded = HeaderMap::with_capacity(fields.len());
    for (name, value) in fields {
        if is_forwarded(name, conditions, to) {
            forwarded.append(name, value.clone());
        }
    }
    forwarded
}

fn is_forwarded(name: &HeaderName, conditions: CallersConditions, to: Destination<'_>) -> bool {
    if name == HOST || name == CONTENT_LENGTH || name == SYNC_TOKEN {
        return false;
    }
    if name == AUTHORIZATION && to.rules.owns_credential {
        return false;
    }
    if conditions == CallersConditions::LeftOut && (name == RANGE || CONDITIONAL_FIELDS.contains(name)) {
        return false;
    }
    to.profile.forwards(name)
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Uri};

    use super::*;
    use crate::headers::range::RangeRequest;
    use crate::profile::generic::Generic;

    fn profile(sharing: Sharing) -> Generic {
        Generic::new(&Uri::from_static("http://origin.test"), sharing, Vec::new())
    }

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
        let profile = profile(rules.sharing);
        let to = Destination { upstream: "main", partition: "p", profile: &profile, rules };
        let method = method.parse().expect("a method");
        identify(&method, &target.parse().expect("a target"), fields, &survey, has_body, to)
    }

    fn identified(method: &str, target: &str, lines: &[(&'static str, &'static str)]) -> Identified {
        identified_by(&CachingRules::rfc9111(), method, target, lines, false).expect("not refused")
    }

    fn presented(method: &str, target: &str, lines: &[(&'static str, &'static str)]) -> PresentedRequest {
        match identified(method, target, lines) {
            Identified::Cacheable(request) => request,
            Identified::Bypass(bypassed) => panic!("bypass: {:?}", bypassed.reason),
        }
    }

    fn bypass_reason(
        method: &str,
        target: &str,
        lines: &[(&'static str, &'static str)],
    ) -> Option<BypassReason> {
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
    fn methods_are_case_sensitive() {
        for method in ["PUT", "DELETE", "PATCH", "OPTIONS", "M-SEARCH", "get", "Get", "PURGE"] {
            assert_eq!(bypass_reason(method, "/", &[]), Some(BypassReason::Method), "{method}");
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
            assert!(matches!(passed, Identified::Bypass(Bypassed { reason: BypassReason::Body, .. })));
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
            assert_eq!(bypass_reason("GET", "/", &[("range", value)]), Some(BypassReason::Range), "{value}");
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

    #[test]
    fn what_goes_upstream_is_rebuilt() {
        let fields = fields_of(&[
            ("host", "127.0.0.1:8484"),
            ("content-length", "5"),
            ("authorization", "Bearer x"),
            ("sync-token", "a=b"),
            ("x-forwarded-host", "evil.example"),
            ("x-original-url", "/evil"),
            ("x-http-method-override", "DELETE"),
            ("accept", "a"),
            ("accept", "b"),
            ("cookie", "c=d"),
            ("if-none-match", "\"1\""),
            ("if-range", "\"1\""),
            ("range", "bytes=0-1"),
        ]);
        let names = |sharing, owns_credential, conditions| {
            let rules = CachingRules { sharing, owns_credential, ..CachingRules::rfc9111() };
            let profile = profile(sharing);
            let to = Destination { upstream: "main", partition: "p", profile: &profile, rules: &rules };
            let forwarded = forwarded_fields(&fields, conditions, to);
            let mut names: Vec<String> = forwarded.iter().map(|(name, _)| name.to_string()).collect();
            names.sort();
            names.join(" ")
        };
        assert_eq!(names(Sharing::Guarded, true, CallersConditions::LeftOut), "accept accept cookie");
        assert_eq!(
            names(Sharing::Guarded, false, CallersConditions::Kept),
            "accept accept authorization cookie if-none-match if-range range"
        );
        assert_eq!(
            names(Sharing::Rfc9111, true, CallersConditions::LeftOut),
            "accept accept cookie x-forwarded-host x-http-method-override x-original-url"
        );
    }
}
