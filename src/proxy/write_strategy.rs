//! Concurrency control for applications that know nothing of it: what becomes of a write without a condition, per route.

use std::hash::Hash;

use http::header::{ETAG, IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use moka::sync::Cache;

use crate::config::WriteStrategy;
use crate::error::{RefusalReason, Refused};

/// What the remembered entity tags may occupy together. Forgetting one costs its caller a 428 and a new read, never an update.
const KNOWN_TAGS_LIMIT_BYTES: u64 = 16 * 1024 * 1024;

/// What the map needs for an entry beside the bytes of the tag.
const ENTRY_BYTES: usize = 256;

/// Whether a method writes the resource that its target names. A `POST` does not: it asks the target to process something.
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
    /// Each with bytes of its own: a field of an answer keeps the whole head alive.
    tags: Cache<CallersResource, HeaderValue, ahash::RandomState>,
    hashers: [ahash::RandomState; 2],
}

/// One caller's view of one resource: a hash of 128 bits of both. They may be long, and callers choose them. Should two be the
/// same after all, then a write carries the tag of another resource and is answered 412.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct CallersResource([u64; 2]);

impl Default for KnownTags {
    fn default() -> Self {
        let weigh = |_: &CallersResource, tag: &HeaderValue| {
            u32::try_from(ENTRY_BYTES + tag.len()).unwrap_or(u32::MAX)
        };
        Self {
            tags: Cache::builder()
                .max_capacity(KNOWN_TAGS_LIMIT_BYTES)
                .weigher(weigh)
                .build_with_hasher(ahash::RandomState::new()),
            hashers: [ahash::RandomState::new(), ahash::RandomState::new()],
        }
    }
}

impl KnownTags {
    /// What the caller (its connection, or the value of the configured field) sees of a resource: the upstream and what a write
    /// to it names.
    pub(super) fn key(&self, caller: impl Hash, resource: impl Hash) -> CallersResource {
        CallersResource(self.hashers.each_ref().map(|hasher| hasher.hash_one((&caller, &resource))))
    }

    /// The tag that this caller was last given.
    pub(super) fn of(&self, key: &CallersResource) -> Option<HeaderValue> {
        self.tags.get(key)
    }

    /// The same, which counts as no use.
    pub(super) fn peek(&self, key: &CallersResource) -> Option<HeaderValue> {
        self.tags.iter().find(|(known, _)| **known == *key).map(|(_, tag)| tag)
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
            // A copy with its own bytes.
            if let Ok(tag) = HeaderValue::from_bytes(tag.as_bytes()) {
                self.tags.insert(key, tag);
            }
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
        let key = |caller: &str| known.key(caller, "main /a");
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

    #[test]
    fn tags_are_bounded_in_bytes_and_keep_no_answer_alive() {
        let known = KnownTags::default();
        // A tag as it comes from a connection: a piece of a large buffer.
        let tag = format!("\"{}\"", "t".repeat(8 * 1024));
        let head = bytes::Bytes::from(format!("{tag}{}", "h".repeat(64 * 1024)));
        let mut fields = HeaderMap::new();
        let value = HeaderValue::from_maybe_shared(head.slice(..tag.len())).expect("a field value");
        fields.insert(ETAG, value);
        assert!(!head.is_unique());
        for caller in 0..10_000 {
            let key = known.key(format!("{caller}{}", "c".repeat(8 * 1024)), "/a");
            known.note(key, &Method::GET, StatusCode::OK, &fields);
        }
        drop(fields);
        assert!(head.is_unique(), "what is remembered has bytes of its own");
        known.tags.run_pending_tasks();
        assert!(known.tags.weighted_size() <= KNOWN_TAGS_LIMIT_BYTES);
        assert!(known.tags.entry_count() > 0, "the latest are remembered");
        assert!(size_of::<CallersResource>() + size_of::<HeaderValue>() < ENTRY_BYTES);
    }
}
