//! Concurrency control for applications that know nothing of it: what becomes of a write without a condition, per route.

use http::header::{ETAG, IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use moka::sync::Cache;

use crate::config::WriteStrategy;
use crate::error::{RefusalReason, Refused};

/// How many entity tags are remembered. Forgetting one costs its caller a 428 and a new read, never an update.
const MAX_KNOWN_TAGS: u64 = 65_536;

/// Whether a method writes the resource that its target names. A `POST` does not: it asks the target to process something.
#[must_use]
pub(super) fn writes_target(method: &Method) -> bool {
    *method == Method::PUT || *method == Method::PATCH || *method == Method::DELETE
}

/// The `If-Match` to add to a write, if any. `known_tag` is the tag that this caller was last given for the resource.
///
/// A write that names its own strategy, by `If-Match` or `If-None-Match`, passes as it is under each of them.
///
/// # Errors
/// 400 under `require-if-match`; 428 under `optimistic` when the caller has not read what it is about to overwrite.
pub(super) fn condition(
    strategy: WriteStrategy,
    method: &Method,
    fields: &HeaderMap,
    known_tag: impl FnOnce() -> Option<HeaderValue>,
) -> Result<Option<HeaderValue>, Refused> {
    if strategy == WriteStrategy::Pass || !writes_target(method) {
        return Ok(None);
    }
    if fields.contains_key(IF_MATCH) || fields.contains_key(IF_NONE_MATCH) {
        return Ok(None);
    }
    match strategy {
        WriteStrategy::Pass => Ok(None),
        WriteStrategy::LastWriterWins => Ok(Some(HeaderValue::from_static("*"))),
        WriteStrategy::RequireIfMatch => Err(Refused::new(
            RefusalReason::ConditionMissing,
            "Every write here must name its concurrency strategy. Send If-Match with the entity tag that you last read to \
             overwrite only that version, If-Match: * to overwrite any version (last writer wins), or If-None-Match: * to \
             create only",
        )),
        WriteStrategy::Optimistic => known_tag().map(Some).ok_or_else(|| {
            Refused::new(
                RefusalReason::EntityTagUnknown,
                "You have not read what this would overwrite. GET it first, or send If-Match yourself",
            )
        }),
    }
}

/// The entity tags that callers were last given, for `optimistic`.
#[derive(Debug)]
pub(super) struct KnownTags {
    tags: Cache<CallersResource, HeaderValue, ahash::RandomState>,
}

/// One caller's view of one resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct CallersResource {
    /// The connection, or the value of the configured field.
    pub(super) caller: Box<str>,
    /// The upstream and what a write to it names.
    pub(super) resource: Box<str>,
}

impl Default for KnownTags {
    fn default() -> Self {
        Self {
            tags: Cache::builder().max_capacity(MAX_KNOWN_TAGS).build_with_hasher(ahash::RandomState::new()),
        }
    }
}

impl KnownTags {
    /// The tag that this caller was last given.
    pub(super) fn of(&self, key: &CallersResource) -> Option<HeaderValue> {
        self.tags.get(key)
    }

    /// Takes note of what an answer shows a caller. An answer without a tag says nothing; that a resource is gone makes the old tag
    /// worthless.
    pub(super) fn note(&self, key: CallersResource, method: &Method, status: StatusCode, fields: &HeaderMap) {
        let gone = status == StatusCode::NOT_FOUND || (*method == Method::DELETE && status.is_success());
        if gone {
            self.tags.invalidate(&key);
        } else if (status.is_success() || status == StatusCode::NOT_MODIFIED)
            && let Some(tag) = fields.get(ETAG)
        {
            self.tags.insert(key, tag.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(name: Option<http::HeaderName>, value: &'static str) -> HeaderMap {
        name.map(|name| (name, HeaderValue::from_static(value))).into_iter().collect()
    }

    fn added(
        strategy: WriteStrategy,
        method: Method,
        fields: &HeaderMap,
        known: Option<&'static str>,
    ) -> Result<Option<String>, u16> {
        condition(strategy, &method, fields, || known.map(HeaderValue::from_static))
            .map(|value| value.map(|value| value.to_str().expect("text").to_owned()))
            .map_err(|refused| refused.status.as_u16())
    }

    #[test]
    fn each_strategy_treats_a_write_without_condition_in_its_way() {
        let none = HeaderMap::new();
        for method in [Method::PUT, Method::PATCH, Method::DELETE] {
            let of = |strategy, known| added(strategy, method.clone(), &none, known);
            assert_eq!(of(WriteStrategy::Pass, None), Ok(None));
            assert_eq!(of(WriteStrategy::RequireIfMatch, None), Err(400));
            assert_eq!(of(WriteStrategy::LastWriterWins, None), Ok(Some("*".to_owned())));
            assert_eq!(of(WriteStrategy::Optimistic, None), Err(428));
            assert_eq!(of(WriteStrategy::Optimistic, Some("\"a\"")), Ok(Some("\"a\"".to_owned())));
        }
    }

    #[test]
    fn a_write_that_names_its_strategy_and_what_is_no_write_pass() {
        for strategy in
            [WriteStrategy::RequireIfMatch, WriteStrategy::LastWriterWins, WriteStrategy::Optimistic]
        {
            assert_eq!(added(strategy, Method::PUT, &fields(Some(IF_MATCH), "\"b\""), None), Ok(None));
            assert_eq!(added(strategy, Method::PUT, &fields(Some(IF_NONE_MATCH), "*"), None), Ok(None));
            assert_eq!(added(strategy, Method::GET, &HeaderMap::new(), None), Ok(None));
            assert_eq!(added(strategy, Method::POST, &HeaderMap::new(), None), Ok(None));
        }
    }

    #[test]
    fn what_a_caller_was_given_is_remembered_for_it_alone() {
        let known = KnownTags::default();
        let key = |caller: &str| CallersResource { caller: caller.into(), resource: "main /a".into() };
        known.note(key("1"), &Method::GET, StatusCode::OK, &fields(Some(ETAG), "\"a\""));
        assert_eq!(known.of(&key("1")), Some(HeaderValue::from_static("\"a\"")));
        assert_eq!(known.of(&key("2")), None);
        known.note(key("1"), &Method::PUT, StatusCode::PRECONDITION_FAILED, &fields(Some(ETAG), "\"x\""));
        assert_eq!(known.of(&key("1")), Some(HeaderValue::from_static("\"a\"")), "a refusal gives nothing");
        known.note(key("1"), &Method::PUT, StatusCode::OK, &fields(Some(ETAG), "\"b\""));
        assert_eq!(known.of(&key("1")), Some(HeaderValue::from_static("\"b\"")));
        known.note(key("1"), &Method::DELETE, StatusCode::OK, &fields(Some(ETAG), "\"b\""));
        assert_eq!(known.of(&key("1")), None);
    }
}
