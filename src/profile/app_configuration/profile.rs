//! What the cache must know about Azure App Configuration beyond HTTP: see [the module above](super).

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_TYPE, Entry, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    IF_UNMODIFIED_SINCE, RANGE, USER_AGENT,
};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::api_version::ApiVersion;
use super::items;
use super::query::Query;
use super::resource::{Resource, canonical_key_value, canonicalize};
use super::snapshots::{READY_LIFETIME, ReadySnapshots};
use super::touches::{Write, WrittenName};
use crate::headers::survey::FieldSet;
use crate::memo::Memo;
use crate::profile::path::is_ambiguous;
use crate::profile::{
    CanonicalTarget, DatedItem, Footprint, ItemState, Profile, UnkeyedReason, index_key_of,
};
use crate::sync_token::clauses::Clauses;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-request-id");
const CORRELATION_REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-correlation-request-id");
const CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-client-request-id");
const RETURN_CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-return-client-request-id");
const ACCEPT_DATETIME: HeaderName = HeaderName::from_static("accept-datetime");

/// The request fields that the API defines. No others are forwarded: they are not part of the key, so they must not
/// steer the origin.
static FORWARDED: [HeaderName; 21] = [
    ACCEPT,
    ACCEPT_DATETIME,
    RANGE,
    CONTENT_TYPE,
    IF_MATCH,
    IF_NONE_MATCH,
    IF_MODIFIED_SINCE,
    IF_UNMODIFIED_SINCE,
    IF_RANGE,
    CACHE_CONTROL,
    USER_AGENT,
    HeaderName::from_static("correlation-context"),
    CLIENT_REQUEST_ID,
    RETURN_CLIENT_REQUEST_ID,
    CORRELATION_REQUEST_ID,
    HeaderName::from_static("x-ms-useragent"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    // Needed only if the caller's own credential goes upstream. Otherwise [`upstream`](crate::upstream) removes them.
    HeaderName::from_static("authorization"),
    HeaderName::from_static("x-ms-date"),
    HeaderName::from_static("x-ms-content-sha256"),
];

/// The profile of Azure App Configuration.
#[derive(Debug)]
pub struct AppConfiguration {
    forwarded_anyway: Vec<HeaderName>,
    clauses: Clauses,
    snapshots: ReadySnapshots,
    known_targets: Memo<Arc<str>>,
}

impl AppConfiguration {
    /// The profile. `forwarded_anyway` lists further request fields that the operator wants to be forwarded.
    #[must_use]
    pub fn new(forwarded_anyway: Vec<HeaderName>) -> Self {
        Self {
            forwarded_anyway,
            clauses: Clauses::ALL,
            snapshots: ReadySnapshots::default(),
            known_targets: Memo::default(),
        }
    }

    /// The same with these clauses of the coverage rule.
    #[must_use]
    pub fn with_clauses(self, clauses: Clauses) -> Self {
        Self { clauses, ..self }
    }
}

impl Profile for AppConfiguration {
    fn name(&self) -> &'static str {
        "app-configuration"
    }

    fn canonical_target<'a>(
        &self,
        _method: &Method,
        target: &'a PathAndQuery,
        fields: FieldSet,
    ) -> Result<CanonicalTarget<'a>, UnkeyedReason> {
        // `Range: items=…` asks for a part of a list: the answer is not the one that the target names.
        if fields.intersects(FieldSet::RANGE) {
            return Err(UnkeyedReason::Range);
        }
        // From here on the result depends only on the bytes of the target.
        if let Some(known) = self.known_targets.of(target.as_str()) {
            return Ok(CanonicalTarget::Remembered(known));
        }
        let Some(canonical) = canonicalize(target.path(), target.query()) else {
            return Err(why_not_canonical(target));
        };
        match canonical.resource {
            // `/operations` changes without any write, and a lock cannot be retrieved.
            Resource::Operations | Resource::Lock { .. } => Err(UnkeyedReason::UncachedPath),
            Resource::Unknown => Err(UnkeyedReason::UnknownPath),
            _ => {
                let text: Arc<str> = canonical.text.into();
                self.known_targets.keep(target.as_str(), Arc::clone(&text));
                Ok(CanonicalTarget::Remembered(text))
            }
        }
    }

    fn forwards(&self, name: &HeaderName) -> bool {
        FORWARDED.contains(name) || self.forwarded_anyway.contains(name)
    }

    /// The media type of the API, whatever the caller names: the service sends the same bytes with another label, and no `Vary`.
    fn accept(&self) -> Option<HeaderValue> {
        Some(HeaderValue::from_static("*/*"))
    }

    /// One stored form for all callers: the service sends no `Vary`, and a compressed body would need another entity
    /// tag.
    fn accept_encoding(&self) -> Option<HeaderValue> {
        Some(HeaderValue::from_static("identity"))
    }

    /// A `DELETE` of what exists is answered 200 with the deleted key-value, any other 204.
    fn found_nothing_to_delete(&self, method: &Method, status: StatusCode) -> bool {
        *method == Method::DELETE && status == StatusCode::NO_CONTENT
    }

    /// The .NET and JavaScript providers poll pages with `HEAD`.
    fn fetches_head_as_get(&self) -> bool {
        true
    }

    /// Gives every answer a request id of its own, and the caller's client id if `x-ms-return-client-request-id` asks
    /// for it.
    fn describe_answer(&self, request: &HeaderMap, answer: &mut HeaderMap) {
        // One look-up serves test and insertion: this is on the path of every hit.
        let Entry::Vacant(request_id) = answer.entry(REQUEST_ID) else { return };
        let id = fresh_request_id();
        let correlation_id = request.get(CORRELATION_REQUEST_ID).unwrap_or(&id).clone();
        request_id.insert(id);
        answer.insert(CORRELATION_REQUEST_ID, correlation_id);
        if request.contains_key(RETURN_CLIENT_REQUEST_ID)
            && let Some(id) = request.get(CLIENT_REQUEST_ID)
        {
            answer.insert(CLIENT_REQUEST_ID, id.clone());
        }
    }

    /// One pass over the few fields costs a third of two look-ups.
    fn describe_again(&self, request: Option<&HeaderMap>, answer: &mut HeaderMap) {
        let (mut request_id, mut correlation_id) = (None, None);
        for (name, value) in answer.iter_mut() {
            if *name == REQUEST_ID {
                request_id = Some(value);
            } else if *name == CORRELATION_REQUEST_ID {
                correlation_id = Some(value);
            }
            if request_id.is_some() && correlation_id.is_some() {
                break;
            }
        }
        let id = fresh_request_id();
        let named = request.and_then(|request| request.get(CORRELATION_REQUEST_ID));
        if let Some(correlation_id) = correlation_id {
            *correlation_id = named.unwrap_or(&id).clone();
        }
        if let Some(request_id) = request_id {
            *request_id = id;
        }
        if let Some(request) = request
            && request.contains_key(RETURN_CLIENT_REQUEST_ID)
            && let Some(id) = request.get(CLIENT_REQUEST_ID)
        {
            answer.insert(CLIENT_REQUEST_ID, id.clone());
        }
    }

    fn absolute_fields(&self) -> &'static [HeaderName] {
        static FIELDS: [HeaderName; 1] = [HeaderName::from_static("operation-location")];
        &FIELDS
    }

    /// Key and label name a key-value. Its api-version and `$select` only select a representation.
    fn resource_name(&self, target: &PathAndQuery) -> Option<String> {
        match Write::of(target.path(), target.query()) {
            Write::KeyValue { key, label } => Some(format!("{key}\0{}", label.unwrap_or_default())),
            Write::Snapshot { name } => Some(format!("\0{name}")),
            Write::Anything => None,
        }
    }

    fn observe_answer(&self, canonical_target: &str, body: &[u8]) {
        if canonical_target.starts_with("/snapshots/")
            && let Some(Resource::Snapshot { name }) = resource(canonical_target)
        {
            self.snapshots.observe(&name, body);
        }
    }

    fn list_items(&self, canonical_target: &str, body: &[u8]) -> Option<Vec<ItemState>> {
        items::of_list(canonical_target, body)
    }

    fn dated_items(&self, canonical_target: &str, body: &[u8]) -> Option<Vec<DatedItem>> {
        items::dated(canonical_target, body)
    }

    fn target_of_name(&self, name: &str) -> Option<String> {
        let (key, label) = name.split_once('\0').filter(|(key, _)| !key.is_empty())?;
        Some(canonical_key_value(key, Some(label), ApiVersion::V1_0.as_str()))
    }

    fn shows_items(&self, canonical_target: &str) -> bool {
        matches!(resource(canonical_target), Some(Resource::KeyValues(_)))
    }

    fn continues(&self, _: &str, body: &[u8]) -> bool {
        items::continues(body)
    }

    fn may_be_on_page(
        &self,
        canonical_target: &str,
        body: &[u8],
        items: &[ItemState],
        resource: &str,
    ) -> bool {
        items::may_be_on_page(canonical_target, body, items, resource)
    }

    fn is_dated(&self, canonical_target: &str) -> bool {
        canonical_target.starts_with("/kv/")
    }

    fn immutable_for(&self, canonical_target: &str) -> Option<Duration> {
        if !canonical_target.contains("snapshot=") {
            return None;
        }
        match resource(canonical_target) {
            Some(Resource::SnapshotKeyValues { snapshot }) => {
                self.snapshots.is_ready(&snapshot).then_some(READY_LIFETIME)
            }
            _ => None,
        }
    }

    fn observe_write(&self, footprint: &Footprint) {
        if let Footprint::Resource { value, .. } = footprint
            && let Some(Write::Snapshot { name }) = value.downcast_ref()
        {
            self.snapshots.forget(name);
        }
    }

    fn footprint(&self, _method: &Method, target: &PathAndQuery) -> Footprint {
        match Write::of(target.path(), target.query()) {
            Write::Anything => Footprint::Everything,
            write => Footprint::Resource {
                index_key: index_key_of(write.name()),
                heap_bytes: size_of::<Write>() + write.text_bytes(),
                value: Arc::new(write),
            },
        }
    }

    fn footprint_of_answer(
        &self,
        footprint: Footprint,
        _status: StatusCode,
        _fields: &HeaderMap,
    ) -> Footprint {
        footprint
    }

    fn lies_within(&self, target: &PathAndQuery, prefix: &str) -> bool {
        let Ok(query) = Query::parse(target.query().unwrap_or_default()) else { return false };
        let Ok(resource) = Resource::parse(target.path(), &query) else { return false };
        !is_ambiguous(target.path()) && resource.lies_within(prefix)
    }

    fn index_key(&self, canonical_target: &str) -> Option<u64> {
        WrittenName::of(&resource(canonical_target)?).map(index_key_of)
    }

    fn touches(&self, write: &Footprint, canonical_target: &str) -> bool {
        let Footprint::Resource { value, .. } = write else { return true };
        let Some(write) = value.downcast_ref::<Write>() else { return true };
        match resource(canonical_target) {
            Some(Resource::KeyValues(_)) if !self.clauses.filters_match_fully() => false,
            Some(resource) => write.touches(&resource),
            None => true,
        }
    }
}

/// The resource that a canonical target names.
pub(super) fn resource(canonical_target: &str) -> Option<Resource> {
    let (path, query) = canonical_target.split_once('?').unwrap_or((canonical_target, ""));
    Query::parse(query).ok().and_then(|query| Resource::parse(path, &query).ok())
}

/// A GUID that names an answer in logs. It proves nothing, so a fast source of randomness suffices.
///
/// Every hit needs one: they are made 64 at a time, in one allocation. The ids of one batch share their random digits except the last two,
/// which count up. To write 32 new digits for each would cost more than all else here.
fn fresh_request_id() -> HeaderValue {
    const LENGTH: usize = uuid::fmt::Hyphenated::LENGTH;
    const AT_A_TIME: usize = 64;
    thread_local! {
        static MADE: RefCell<Bytes> = const { RefCell::new(Bytes::new()) };
    }
    let id = MADE.with_borrow_mut(|made| {
        if made.is_empty() {
            let random = uuid::Builder::from_random_bytes(fastrand::u128(..).to_ne_bytes()).into_uuid();
            let mut text = [0; LENGTH];
            random.hyphenated().encode_lower(&mut text);
            let mut ids = Vec::with_capacity(AT_A_TIME * LENGTH);
            for number in 0..AT_A_TIME {
                ids.extend_from_slice(&text[..LENGTH - 2]);
                ids.extend([number / 16, number % 16].map(|digit| b"0123456789abcdef"[digit]));
            }
            *made = ids.into();
        }
        made.split_to(LENGTH)
    });
    HeaderValue::from_maybe_shared(id).unwrap_or(HeaderValue::from_static("0"))
}

fn why_not_canonical(target: &PathAndQuery) -> UnkeyedReason {
    let known = ["/kv", "/keys", "/labels", "/revisions", "/locks", "/snapshots", "/operations"];
    let path = target.path();
    if !known
        .iter()
        .any(|prefix| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    {
        return UnkeyedReason::UnknownPath;
    }
    let decodes = super::query::percent_decode(path).is_ok()
        && !matches!(
            Query::parse(target.query().unwrap_or_default()),
            Err(super::query::QueryError::InvalidEscape)
        );
    if decodes { UnkeyedReason::AmbiguousParameter } else { UnkeyedReason::InvalidEscape }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::survey::Survey;

    fn canonical(target: &str, fields: &HeaderMap) -> Result<String, UnkeyedReason> {
        let target: PathAndQuery = target.parse().expect("a target");
        AppConfiguration::new(Vec::new())
            .canonical_target(&Method::GET, &target, Survey::of(fields).present)
            .map(CanonicalTarget::into_string)
    }

    #[test]
    fn four_spellings_are_one_key() {
        let none = HeaderMap::new();
        let one =
            canonical("/kv?api-version=1.0&key=app%3A%2A&label=prod%2Cdev&%24select=key%2Cvalue", &none);
        for spelling in [
            "/kv?api-version=1.0&key=app:*&label=prod,dev&$select=key,value",
            "/kv?%24select=key,value&api-version=1.0&key=app%3A*&label=prod%2Cdev",
            "/kv?api-version=1.0&key=app%3A*&label=prod%2cdev&$Select=value,key",
        ] {
            assert_eq!(canonical(spelling, &none), one, "{spelling}");
        }
    }

    #[test]
    fn a_target_that_is_known_means_what_it_meant_the_first_time() {
        let profile = AppConfiguration::new(Vec::new());
        let mut fields = HeaderMap::new();
        let canonical = |target: &'static str, fields: &HeaderMap| {
            let target = PathAndQuery::from_static(target);
            profile
                .canonical_target(&Method::GET, &target, Survey::of(fields).present)
                .map(CanonicalTarget::into_string)
        };
        let targets =
            ["/kv/a%2Fb?label=%00&api-version=1.0", "/kv/a/b?api-version=1.0", "/kv/a?api-version=1.0"];
        let first = targets.map(|target| canonical(target, &fields));
        assert_eq!(first[0], first[1]);
        assert_ne!(first[1], first[2]);
        assert_eq!(targets.map(|target| canonical(target, &fields)), first);
        assert_eq!(
            canonical("/operations?snapshot=s", &fields),
            canonical("/operations?snapshot=s", &fields)
        );
        // A known target does not make a request for a part of it cacheable.
        fields.insert(RANGE, HeaderValue::from_static("items=0-2"));
        assert_eq!(canonical(targets[0], &fields), Err(UnkeyedReason::Range));
    }

    #[test]
    fn what_is_not_the_plain_current_state_bypasses() {
        let none = HeaderMap::new();
        for (target, reason) in [
            ("/operations?snapshot=s", UnkeyedReason::UncachedPath),
            ("/locks/a", UnkeyedReason::UncachedPath),
            ("/feature-flags/a", UnkeyedReason::UnknownPath),
            ("/kvx", UnkeyedReason::UnknownPath),
            ("/kv/a%d*", UnkeyedReason::InvalidEscape),
            ("/kv?key=%zz", UnkeyedReason::InvalidEscape),
            ("/kv?key=a*b", UnkeyedReason::AmbiguousParameter),
        ] {
            assert_eq!(canonical(target, &none), Err(reason), "{target}");
        }
        let mut fields = HeaderMap::new();
        fields.insert(RANGE, HeaderValue::from_static("items=0-2"));
        assert_eq!(canonical("/revisions", &fields), Err(UnkeyedReason::Range));
    }

    #[test]
    fn only_what_the_api_knows_goes_upstream() {
        let profile = AppConfiguration::new(vec![HeaderName::from_static("x-extra")]);
        for name in ["accept", "if-none-match", "correlation-context", "traceparent", "x-extra"] {
            assert!(profile.forwards(&HeaderName::from_static(name)), "{name}");
        }
        for name in [
            "cookie",
            "x-forwarded-for",
            "x-original-url",
            "x-http-method-override",
            "accept-encoding",
            "origin",
        ] {
            assert!(!profile.forwards(&HeaderName::from_static(name)), "{name}");
        }
    }

    #[test]
    fn a_write_touches_by_its_filters() {
        let profile = AppConfiguration::new(Vec::new());
        let write = profile.footprint(&Method::PUT, &"/kv/abc1".parse().expect("a target"));
        assert!(profile.touches(&write, "/kv?key=abc%2A"));
        assert!(!profile.touches(&write, "/kv?key=xyz%2A"));
        assert!(profile.touches(&Footprint::Everything, "/kv?key=xyz%2A"));
    }

    #[test]
    fn no_id_is_given_twice() {
        let ids: Vec<String> =
            (0..1_000).map(|_| fresh_request_id().to_str().expect("text").to_owned()).collect();
        assert_eq!(ids.iter().collect::<std::collections::HashSet<_>>().len(), ids.len());
        for id in &ids {
            let uuid = uuid::Uuid::parse_str(id).expect("a GUID");
            assert_eq!((uuid.get_version_num(), uuid.hyphenated().to_string()), (4, id.clone()));
        }
    }

    #[test]
    fn every_answer_has_ids_of_its_own() {
        let profile = AppConfiguration::new(Vec::new());
        let describe = |request: &HeaderMap| {
            let mut answer = HeaderMap::new();
            profile.describe_answer(request, &mut answer);
            answer
        };
        let mut request = HeaderMap::new();
        let (first, second) = (describe(&request), describe(&request));
        assert_ne!(first[REQUEST_ID], second[REQUEST_ID]);
        assert_eq!(first[REQUEST_ID], first[CORRELATION_REQUEST_ID]);
        assert_eq!(first[REQUEST_ID].len(), 36);
        request.insert(CORRELATION_REQUEST_ID, HeaderValue::from_static("theirs"));
        request.insert(CLIENT_REQUEST_ID, HeaderValue::from_static("client"));
        assert_eq!(describe(&request)[CORRELATION_REQUEST_ID], "theirs");
        assert!(!describe(&request).contains_key(CLIENT_REQUEST_ID), "echoed only when asked");
        request.insert(RETURN_CLIENT_REQUEST_ID, HeaderValue::from_static("true"));
        assert_eq!(describe(&request)[CLIENT_REQUEST_ID], "client");
    }

    #[test]
    fn an_answer_given_again_gets_new_ids_and_keeps_the_callers() {
        let profile = AppConfiguration::new(Vec::new());
        let mut request = HeaderMap::new();
        let mut answer = HeaderMap::new();
        profile.describe_answer(&request, &mut answer);
        let mut again = answer.clone();
        profile.describe_again(None, &mut again);
        assert_ne!(again[REQUEST_ID], answer[REQUEST_ID]);
        assert_eq!(again[CORRELATION_REQUEST_ID], again[REQUEST_ID]);
        request.insert(CORRELATION_REQUEST_ID, HeaderValue::from_static("theirs"));
        request.insert(RETURN_CLIENT_REQUEST_ID, HeaderValue::from_static("true"));
        request.insert(CLIENT_REQUEST_ID, HeaderValue::from_static("client"));
        let mut again = answer.clone();
        profile.describe_again(Some(&request), &mut again);
        assert_ne!(again[REQUEST_ID], answer[REQUEST_ID]);
        assert_eq!(
            (&again[CORRELATION_REQUEST_ID], &again[CLIENT_REQUEST_ID]),
            (&"theirs".parse().unwrap(), &"client".parse().unwrap())
        );
        assert_eq!(again.len(), 3);
    }
}
