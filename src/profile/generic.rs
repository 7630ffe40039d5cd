//! Any HTTP API: nothing is assumed beyond RFC 9110 and RFC 9111.
//!
//! - Targets whose paths are equivalent by RFC 9110 §4.2.3 share a canonical target. Different queries never do.
//! - A write touches its own target, and `Location` and `Content-Location` of its answer at the same origin (RFC 9111
//!   §4.4), beside what the operator configures (`outdates`).
//! - Under `sharing = "guarded"` request fields that steer an origin are not forwarded, and others are part of the key.
//!   An origin that obeys one and forgets `Vary` would otherwise let one caller choose what others are answered (cache
//!   poisoning).

use std::sync::Arc;

use http::header::{CONTENT_LOCATION, LOCATION};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, Method, StatusCode, Uri};

use crate::config::caching::Sharing;
use crate::headers::request_fields::{Treatment, treatment};
use crate::headers::survey::FieldSet;
use crate::headers::uri_reference::{canonical, target_at_origin};
use crate::profile::differing_fields::DifferingFields;
use crate::profile::keyed_fields::{FieldRules, KeyedFields};
use crate::profile::{CanonicalTarget, Footprint, Profile, UnkeyedReason, index_key_of};

/// The profile of any HTTP API.
#[derive(Clone, Debug)]
pub struct Generic {
    scheme: Scheme,
    authority: Option<Authority>,
    sharing: Sharing,
    fields: FieldRules,
    /// Learned, so it is the same after a reload.
    differing: Arc<DifferingFields>,
    outdates: Vec<(String, Vec<String>)>,
}

impl Generic {
    /// The profile for one upstream. `fields` is what the operator said about request fields.
    #[must_use]
    pub fn new(upstream: &Uri, sharing: Sharing, fields: FieldRules) -> Self {
        Self {
            scheme: upstream.scheme().cloned().unwrap_or(Scheme::HTTP),
            authority: upstream.authority().cloned(),
            sharing,
            fields,
            differing: Arc::default(),
            outdates: Vec::new(),
        }
    }

    /// Adds a dependency that only the operator knows: a write to a path that begins with `written` outdates everything
    /// at and below the paths in `outdated` (configuration: `outdates`).
    #[must_use]
    pub fn with_outdates(mut self, written: String, outdated: Vec<String>) -> Self {
        self.outdates.push((written, outdated));
        self
    }

    fn operator_says_touched(&self, written: &str, canonical_target: &str) -> bool {
        self.outdates.iter().any(|(prefix, outdated)| {
            (written.starts_with(prefix) || is_at_or_below(written, prefix))
                && outdated.iter().any(|path| is_at_or_below(canonical_target, path))
        })
    }
}

impl Profile for Generic {
    fn name(&self) -> &'static str {
        "generic"
    }

    fn canonical_target<'a>(
        &self,
        _method: &Method,
        target: &'a PathAndQuery,
        _fields: FieldSet,
    ) -> Result<CanonicalTarget<'a>, UnkeyedReason> {
        Ok(canonical(target.as_str()).into())
    }

    fn forwards(&self, name: &HeaderName) -> bool {
        let steers = || matches!(treatment(name), Treatment::Steering | Treatment::Forwarding);
        self.sharing == Sharing::Rfc9111 || !steers() || self.fields.forwarded.contains(name)
    }

    /// RFC 9111 alone leaves the target as it is.
    fn sends_canonical_target(&self) -> bool {
        self.sharing == Sharing::Guarded
    }

    fn keyed_fields(&self, fields: &HeaderMap) -> KeyedFields {
        if self.sharing == Sharing::Rfc9111 { KeyedFields::default() } else { self.fields.keyed(fields) }
    }

    fn observe_fields(&self, fields: &HeaderMap) {
        if self.sharing == Sharing::Rfc9111 {
            return;
        }
        for (name, value) in self.fields.keyed_names(fields) {
            if self.differing.note(name, value) {
                tracing::warn!(
                    field = %name,
                    "each request has another value in this field, so no stored response is used again; if the field never \
                     changes an answer, add it to upstream.ignored_fields"
                );
            }
        }
    }

    fn footprint(&self, _method: &Method, target: &PathAndQuery) -> Footprint {
        Footprint::Targets(Arc::new([canonical(target.as_str()).into()]))
    }

    /// Adds `Location` and `Content-Location` if they are at this origin (RFC 9111 §4.4). An origin must not invalidate
    /// the resources of another one.
    fn footprint_of_answer(
        &self,
        footprint: Footprint,
        _status: StatusCode,
        fields: &HeaderMap,
    ) -> Footprint {
        let Footprint::Targets(targets) = &footprint else { return footprint };
        let Some(base) = targets.first() else { return footprint };
        let also: Vec<Box<str>> = [LOCATION, CONTENT_LOCATION]
            .iter()
            .flat_map(|name| fields.get_all(name))
            .filter_map(|value| {
                let reference = std::str::from_utf8(value.as_bytes()).ok()?;
                target_at_origin(&self.scheme, self.authority.as_ref()?, base, reference)
            })
            .map(String::into_boxed_str)
            .filter(|target| !targets.contains(target))
            .collect();
        if also.is_empty() {
            return footprint;
        }
        Footprint::Targets(targets.iter().cloned().chain(also).collect())
    }

    fn with_operators_outdates(&self, outdates: Vec<(String, Vec<String>)>) -> Option<Arc<dyn Profile>> {
        Some(Arc::new(Self { outdates, ..self.clone() }))
    }

    fn index_key(&self, canonical_target: &str) -> Option<u64> {
        // What the operator says may follow from any target.
        self.outdates.is_empty().then(|| index_key_of(canonical_target))
    }

    fn touches(&self, write: &Footprint, canonical_target: &str) -> bool {
        match write {
            Footprint::Targets(targets) => {
                targets.iter().any(|target| **target == *canonical_target)
                    || targets
                        .first()
                        .is_some_and(|written| self.operator_says_touched(written, canonical_target))
            }
            Footprint::Resource { .. } | Footprint::Everything => true,
        }
    }
}

/// Whether the path of a target is `path` or lies below it.
fn is_at_or_below(target: &str, path: &str) -> bool {
    let path = path.trim_end_matches('/');
    target.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn profile() -> Generic {
        Generic::new(&Uri::from_static("http://Origin.test:8080"), Sharing::Guarded, FieldRules::default())
    }

    fn canonical_of(target: &str) -> String {
        let target: PathAndQuery = target.parse().expect("a target");
        profile()
            .canonical_target(&Method::GET, &target, FieldSet::default())
            .expect("cacheable")
            .into_string()
    }

    #[test]
    fn equivalent_paths_share_a_canonical_target() {
        for (target, expected) in [
            ("/", "/"),
            ("/a", "/a"),
            ("/%7Esmith/home.html", "/~smith/home.html"),
            ("/%7esmith/home.html", "/~smith/home.html"),
            ("/%41%2d%2E%5f", "/A-._"),
            ("/a%2fb", "/a%2Fb"),
            ("/a%2Fb", "/a%2Fb"),
            ("/%c3%a9", "/%C3%A9"),
            ("/%25", "/%25"),
            ("/%2541", "/%2541"),
            ("/100%", "/100%"),
            ("/%zz%41", "/%zz%41"),
            ("/%41%zz", "/%41%zz"),
            ("/%%411", "/%%411"),
            ("/%4", "/%4"),
            ("/%+1", "/%+1"),
            ("/%-1", "/%-1"),
            ("/%%41", "/%%41"),
            ("/a/../b/./c", "/a/../b/./c"),
            ("//evil.example/a", "//evil.example/a"),
            ("/a?x=%41&y=%2f", "/a?x=%41&y=%2f"),
            ("/%41?x=%41", "/A?x=%41"),
            ("/a?", "/a?"),
        ] {
            assert_eq!(canonical_of(target), expected, "{target}");
        }
    }

    #[test]
    fn what_may_differ_stays_apart() {
        for (one, other) in [
            ("/a%2Fb", "/a/b"),
            ("/a?b", "/a%3Fb"),
            ("/a", "/a?"),
            ("/a", "/A"),
            ("/a", "/a/"),
            ("/a?x=1&y=2", "/a?y=2&x=1"),
            ("/a?x=%41", "/a?x=A"),
            ("/%2541", "/%41"),
            ("/%%411", "/%A1"),
            ("/%2541", "/A"),
            ("/a//b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a;x", "/a"),
        ] {
            assert_ne!(canonical_of(one), canonical_of(other), "{one} {other}");
        }
    }

    #[test]
    fn a_plain_target_is_not_copied() {
        let target = PathAndQuery::from_static("/kv/a?label=b%20c");
        let canonical = profile().canonical_target(&Method::GET, &target, FieldSet::default());
        assert!(matches!(canonical, Ok(CanonicalTarget::AsReceived(_))));
    }

    #[test]
    fn steering_fields_stay_here_unless_listed() {
        let rfc9111 =
            Generic::new(&Uri::from_static("http://o.test"), Sharing::Rfc9111, FieldRules::default());
        let listed = HeaderName::from_static("x-forwarded-host");
        let listing = FieldRules { forwarded: vec![listed.clone()], ..FieldRules::default() };
        let listing = Generic::new(&Uri::from_static("http://o.test"), Sharing::Guarded, listing);
        for name in [
            "forwarded",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-proto",
            "x-forwarded-port",
            "x-forwarded-anything",
            "x-host",
            "x-original-url",
            "x-rewrite-url",
            "x-http-method",
            "x-http-method-override",
            "x-method-override",
            "x-real-ip",
            "true-client-ip",
        ] {
            let name = HeaderName::from_static(name);
            assert!(!profile().forwards(&name), "{name}");
            assert!(rfc9111.forwards(&name), "{name}");
            assert_eq!(listing.forwards(&name), name == listed, "{name}");
        }
        for name in
            ["accept", "cookie", "x-hosts", "x-request-id", "traceparent", "from", "x", "content-type"]
        {
            assert!(profile().forwards(&HeaderName::from_static(name)), "{name}");
        }
    }

    fn touched_by(location: &[(&HeaderName, &'static str)]) -> Vec<String> {
        let target = PathAndQuery::from_static("/things/%31?v=1");
        let profile = profile();
        let mut fields = HeaderMap::new();
        for (name, value) in location {
            fields.append(*name, HeaderValue::from_static(value));
        }
        let footprint = profile.footprint(&Method::POST, &target);
        match profile.footprint_of_answer(footprint, StatusCode::CREATED, &fields) {
            Footprint::Targets(targets) => targets.iter().map(ToString::to_string).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_write_touches_its_target() {
        assert_eq!(touched_by(&[]), ["/things/1?v=1"]);
        let footprint = profile().footprint(&Method::PUT, &PathAndQuery::from_static("/a"));
        assert!(profile().touches(&footprint, "/a"));
        assert!(!profile().touches(&footprint, "/a/"));
        assert!(!profile().touches(&footprint, "/a?"));
        assert!(profile().touches(&Footprint::Everything, "/b"));
    }

    #[test]
    fn the_operator_may_say_what_else_a_write_outdates() {
        let profile =
            profile().with_outdates("/orders/".into(), vec!["/reports".into(), "/stock/all".into()]);
        let profile = profile.with_outdates("/inv".into(), vec!["/ledger".into()]);
        for (written, target, expected) in [
            ("/orders/1", "/orders/1", true),
            ("/orders/1", "/orders/2", false),
            ("/orders/1", "/reports", true),
            ("/orders/1", "/reports?day=1", true),
            ("/orders/1", "/reports/2026", true),
            ("/orders/1", "/reportsx", false),
            ("/orders?x", "/stock/all", true),
            ("/orders/1", "/stock", false),
            ("/ordersx", "/reports", false),
            ("/inv-1", "/ledger", true),
            ("/other", "/reports", false),
        ] {
            let footprint = profile.footprint(&Method::PUT, &written.parse().expect("a target"));
            assert_eq!(profile.touches(&footprint, target), expected, "{written} {target}");
        }
    }

    #[test]
    fn references_to_this_origin_are_touched_too() {
        for (reference, expected) in [
            ("/other", Some("/other")),
            ("/other?x=1", Some("/other?x=1")),
            ("/other#part", Some("/other")),
            ("/%6fther", Some("/other")),
            ("/a/../other", Some("/other")),
            ("2", Some("/things/2")),
            ("./2", Some("/things/2")),
            ("../2", Some("/2")),
            ("../../../2", Some("/2")),
            ("..", Some("/")),
            (".", Some("/things/")),
            ("?v=2", Some("/things/1?v=2")),
            ("a:b", None),
            ("./a:b", Some("/things/a:b")),
            ("http://origin.test:8080/other", Some("/other")),
            ("HTTP://ORIGIN.TEST:8080/other", Some("/other")),
            ("http://origin.test:8080", Some("/")),
            ("http://origin.test:8080?x", Some("/?x")),
            ("//origin.test:8080/other", Some("/other")),
            ("http://origin.test/other", None),
            ("https://origin.test:8080/other", None),
            ("http://evil.test:8080/other", None),
            ("http://origin.test:8080@evil.test/other", None),
            ("//evil.test/other", None),
            ("mailto:someone", None),
            ("", None),
            ("#part", None),
        ] {
            let touched = touched_by(&[(&LOCATION, reference)]);
            assert_eq!(touched.get(1).map(String::as_str), expected, "{reference}");
            assert_eq!(touched_by(&[(&CONTENT_LOCATION, reference)]), touched, "{reference}");
        }
        assert_eq!(
            touched_by(&[(&LOCATION, "/b"), (&CONTENT_LOCATION, "/c")]),
            ["/things/1?v=1", "/b", "/c"]
        );
    }
}
