//! What the cache must know about one kind of API beyond HTTP: one [`Profile`] for each kind.
//!
//! # Where a profile is asked
//!
//! ```text
//! request ──canonical_target──► cache key, or UnkeyedReason       two targets with one canonical form get the same answer
//!         ──forwards, accept, accept_encoding,
//!           fetches_head_as_get, sends_canonical_target──►       the request that goes upstream
//!         ──lies_within──►                                        whether a caller's prefix permits it
//!         ──immutable_for──►                                      lifetime of content that cannot change any more
//!
//! answer  ──list_items──► state of each item                      a list validates the responses for its items
//!         ──is_dated──►                                           whether Last-Modified dates the state
//!         ──observe_answer──►                                     what it says about other resources
//!         ──describe_answer, absolute_fields──►                   the answer that the caller gets
//!
//! write   ──footprint, then footprint_of_answer──► Footprint      kept in the write log
//!         ──index_key, touches──►                                 which stored responses it outdates
//!         ──observe_write──►                                      what the profile forgets
//! ```
//!
//! # The rules
//!
//! | file | rule | source |
//! |---|---|---|
//! | [`generic`] | Nothing is assumed beyond HTTP: equivalent paths share a key, and a write touches its target, `Location` and `Content-Location`. | RFC 9110 §4.2.3; RFC 9111 §4.4 |
//! | [`app_configuration`] | Filters, labels and `$select` have one canonical spelling. A write touches each list whose filter it may satisfy. | Azure App Configuration REST API |
//! | [`keyed_fields`] | Request fields whose meaning is not known are part of the key. | |
//! | [`path`] | A path that recipients may read differently (dot segments at any depth of encoding, invalid UTF-8, control characters) lies below no prefix. | RFC 3986 §5.2.4 |
//! | [`recognition`] | An answer with App Configuration's media type or tokens shows that the generic profile is the wrong one. | |
//!
//! # Invariants
//!
//! - If the meaning of a target is uncertain, it has no canonical form: the request bypasses the cache.
//! - If the meaning of a write is uncertain, it touches everything ([`Footprint::Everything`]).
//! - A field that is neither part of the cache key nor named by `Vary` must not steer the origin: the profile does not
//!   forward it.
//! - A profile does no I/O and reads no clock. What it learns is bounded in size, and forgetting it is safe.

pub mod app_configuration;
mod differing_fields;
pub mod generic;
pub mod keyed_fields;
pub mod path;
pub mod recognition;

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use crate::clock::Timestamp;
use crate::headers::survey::FieldSet;
use crate::sync_token::write_log::Indexed;
use keyed_fields::KeyedFields;

/// A canonical target: most often it need not be made.
#[derive(Clone, Debug)]
pub enum CanonicalTarget<'a> {
    /// The target was received in its canonical form.
    AsReceived(&'a str),
    /// It was made for this request.
    Made(String),
    /// It was made for an earlier one.
    Remembered(Arc<str>),
}

impl CanonicalTarget<'_> {
    /// A copy of the text.
    #[must_use]
    pub fn into_string(self) -> String {
        match self {
            Self::Made(text) => text,
            Self::AsReceived(_) | Self::Remembered(_) => self.as_ref().to_owned(),
        }
    }
}

impl<'a> From<Cow<'a, str>> for CanonicalTarget<'a> {
    fn from(text: Cow<'a, str>) -> Self {
        match text {
            Cow::Borrowed(text) => Self::AsReceived(text),
            Cow::Owned(text) => Self::Made(text),
        }
    }
}

impl AsRef<str> for CanonicalTarget<'_> {
    fn as_ref(&self) -> &str {
        match self {
            Self::AsReceived(text) => text,
            Self::Made(text) => text,
            Self::Remembered(text) => text,
        }
    }
}

/// What the cache must know about an API beyond HTTP. The module documentation says where each method is asked.
pub trait Profile: Send + Sync + fmt::Debug {
    /// Its name in the configuration.
    fn name(&self) -> &'static str;

    /// The target as part of the cache key, or why this request bypasses the cache. Two targets may share a canonical
    /// form only if the API answers both alike. `fields` says which of the fields that bear on
    /// it the request has.
    ///
    /// # Errors
    ///
    /// The reason why the store may not answer and the answer may not be stored.
    fn canonical_target<'a>(
        &self,
        method: &Method,
        target: &'a PathAndQuery,
        fields: FieldSet,
    ) -> Result<CanonicalTarget<'a>, UnkeyedReason>;

    /// What of a request's fields is part of the cache key beside what `Vary` of its answer names.
    fn keyed_fields(&self, fields: &HeaderMap) -> KeyedFields {
        let _sends_on_only_what_it_knows = fields;
        KeyedFields::default()
    }

    /// Takes note of the fields of a retrieval that the store did not answer.
    fn observe_fields(&self, fields: &HeaderMap) {
        let _none_is_keyed = fields;
    }

    /// Whether a request field may go upstream. It is asked about end-to-end fields only: framing and `Host` are
    /// rebuilt, and [`decide::validation`](crate::decide::validation) makes the conditions.
    fn forwards(&self, name: &HeaderName) -> bool;

    /// Whether what may be shared is asked for in the canonical spelling of its target, which no caller can choose.
    fn sends_canonical_target(&self) -> bool {
        true
    }

    /// The value of `Accept` for retrievals whose answers may be shared; `None` passes on the caller's.
    fn accept(&self) -> Option<HeaderValue> {
        None
    }

    /// The value of `Accept-Encoding` for every request upstream; `None` passes on the caller's.
    fn accept_encoding(&self) -> Option<HeaderValue> {
        None
    }

    /// Whether the answer to a write says that there was nothing to delete: it shows that another writer deleted it.
    fn found_nothing_to_delete(&self, method: &Method, status: StatusCode) -> bool {
        let _plain_http_does_not_say = (method, status);
        false
    }

    /// Whether a `HEAD` that the store cannot answer is sent as a `GET`, so that the answer can be stored. It pays
    /// where bodies are small and clients poll with `HEAD`.
    fn fetches_head_as_get(&self) -> bool {
        false
    }

    /// Adds the fields that describe this one answer and are never stored: request ids. `request` holds the caller's
    /// fields.
    fn describe_answer(&self, request: &HeaderMap, answer: &mut HeaderMap) {
        let _plain_http_has_none = (request, answer);
    }

    /// Renews those fields on a copy of an answer that [`Profile::describe_answer`] has described before. `request` holds
    /// the fields of the caller if they name ids.
    fn describe_again(&self, request: Option<&HeaderMap>, answer: &mut HeaderMap) {
        let _plain_http_has_none = (request, answer);
    }

    /// Response fields with absolute URLs of the API. They are rewritten to lead callers through the sidecar.
    fn absolute_fields(&self) -> &'static [HeaderName] {
        &[]
    }

    /// The name of the resource that a write to this target changes and a `GET` of it shows, without the parameters
    /// that only select a representation. `None` if the target names no single resource.
    fn resource_name(&self, target: &PathAndQuery) -> Option<String> {
        self.canonical_target(&Method::GET, target, FieldSet::default())
            .ok()
            .map(CanonicalTarget::into_string)
    }

    /// Reads from a successful answer to a retrieval what it says about other resources.
    fn observe_answer(&self, canonical_target: &str, body: &[u8]) {
        let _http_says_nothing = (canonical_target, body);
    }

    /// The state of each item of a list, as a response for that item would show it. `None` if the target is no list, or
    /// if the list does not show the tags of its items.
    fn list_items(&self, canonical_target: &str, body: &[u8]) -> Option<Vec<ItemState>> {
        let _http_knows_no_lists = (canonical_target, body);
        None
    }

    /// The items of a list with their times of change. `None` as of [`Profile::list_items`].
    fn dated_items(&self, canonical_target: &str, body: &[u8]) -> Option<Vec<DatedItem>> {
        let _http_knows_no_lists = (canonical_target, body);
        None
    }

    /// A canonical target of the resource with this name, as [`Profile::resource_name`] gives names.
    fn target_of_name(&self, name: &str) -> Option<String> {
        let _http_has_no_names = name;
        None
    }

    /// Whether the target is a list that shows the current values of resources.
    fn shows_items(&self, canonical_target: &str) -> bool {
        let _http_knows_no_lists = canonical_target;
        false
    }

    /// Whether another page of the list follows this one.
    fn continues(&self, canonical_target: &str, body: &[u8]) -> bool {
        let _http_knows_no_pages = (canonical_target, body);
        false
    }

    /// Whether this page of a list can show the resource with this canonical target: a page has a beginning and an end. `items`
    /// are those of `body`, as far as they are known.
    fn may_be_on_page(
        &self,
        canonical_target: &str,
        body: &[u8],
        items: &[ItemState],
        resource: &str,
    ) -> bool {
        let _http_knows_no_pages = (canonical_target, body, items, resource);
        true
    }

    /// Whether this page of a list shows the resource with this canonical target if it exists.
    fn would_show(&self, canonical_target: &str, body: &[u8], items: &[ItemState], resource: &str) -> bool {
        self.may_be_on_page(canonical_target, body, items, resource)
            && PathAndQuery::try_from(resource).is_ok_and(|resource| {
                self.touches(&self.footprint(&Method::PUT, &resource), canonical_target)
            })
    }

    /// Whether `Last-Modified` of a 200 says when the shown state came to be. It does for one key-value, and never for
    /// a list: no field dates a deletion.
    fn is_dated(&self, canonical_target: &str) -> bool {
        let _http_dates_nothing = canonical_target;
        false
    }

    /// The lifetime of a resource whose content cannot change any more; `None` for others. It is asked before the
    /// request is sent, so the coverage of the answer includes all later changes.
    fn immutable_for(&self, canonical_target: &str) -> Option<Duration> {
        let _http_knows_none = canonical_target;
        None
    }

    /// Takes note of a write that may have happened, before its caller is answered.
    fn observe_write(&self, footprint: &Footprint) {
        let _nothing_was_learned = footprint;
    }

    /// What a write may change: its entry in the write log.
    fn footprint(&self, method: &Method, target: &PathAndQuery) -> Footprint;

    /// The same after the answer has arrived: it may name more resources that have changed.
    fn footprint_of_answer(&self, footprint: Footprint, status: StatusCode, fields: &HeaderMap) -> Footprint;

    /// Whether everything that a request to this target can show or change lies within a prefix. The prefix is one of
    /// the path, by whole segments, unless the API has names of its own. A target that is not understood lies in no
    /// prefix.
    fn lies_within(&self, target: &PathAndQuery, prefix: &str) -> bool {
        path::lies_below(target.path(), prefix)
    }

    /// The index key of a resource that no write touches but those that name it (and those of unknown meaning). `None` where
    /// any write may.
    fn index_key(&self, canonical_target: &str) -> Option<u64>;

    /// The same profile, with all that it has learned, where a write below each of these paths outdates what is at and below others
    /// (`outdates`). `None` where the profile knows by itself what writes touch.
    fn with_operators_outdates(&self, outdates: Vec<(String, Vec<String>)>) -> Option<Arc<dyn Profile>> {
        let _knows_by_itself = outdates;
        None
    }

    /// Whether the write can have touched the stored response with this canonical target.
    fn touches(&self, write: &Footprint, canonical_target: &str) -> bool;
}

/// An item of a list, as it can be compared with what another endpoint shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatedItem {
    /// Its name, as [`Profile::resource_name`] gives it.
    pub name: String,
    /// Its entity tag, with quotes.
    pub entity_tag: String,
    /// When it was changed, if the list shows that.
    pub modified: Option<Timestamp>,
}

/// The state of one item of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemState {
    /// The canonical target of the item.
    pub canonical_target: String,
    /// Its entity tag, as the answer for the item alone would carry it.
    pub entity_tag: String,
}

/// What a write may have changed. Cheap to clone: the write log and the tasks of the writes share it.
#[derive(Clone, Debug)]
pub enum Footprint {
    /// Canonical targets, the target of the write first (RFC 9111 §4.4).
    Targets(Arc<[Box<str>]>),
    /// One resource.
    Resource {
        /// The index key of what it names.
        index_key: u64,
        /// What `value` occupies.
        heap_bytes: usize,
        /// A value that only the profile that made it can read.
        value: Arc<dyn Any + Send + Sync>,
    },
    /// Everything, because the meaning of the write is not known.
    Everything,
}

impl Indexed for Footprint {
    fn index_keys(&self) -> Option<Vec<u64>> {
        match self {
            Self::Targets(targets) => Some(targets.iter().map(|target| index_key_of(&**target)).collect()),
            Self::Resource { index_key, .. } => Some(vec![*index_key]),
            Self::Everything => None,
        }
    }

    fn heap_bytes(&self) -> usize {
        match self {
            Self::Targets(targets) => targets.iter().map(|target| target.len() + size_of::<Box<str>>()).sum(),
            Self::Resource { heap_bytes, .. } => *heap_bytes,
            Self::Everything => 0,
        }
    }
}

/// The index key of a name. It differs from one process to another, so that nobody can choose names that share one.
fn index_key_of(name: impl Hash) -> u64 {
    static HASHER: LazyLock<ahash::RandomState> = LazyLock::new(ahash::RandomState::new);
    HASHER.hash_one(name)
}

/// Why a request has no cache key and bypasses the cache: the word in `Cache-Status; detail=`, logs and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnkeyedReason {
    /// A method that is not answered from the store: `fwd=method`.
    Method,
    /// A path that the profile does not know.
    UnknownPath,
    /// A path whose answers the profile does not allow to be stored.
    UncachedPath,
    /// An invalid percent-encoding.
    InvalidEscape,
    /// A parameter whose meaning is not certain: malformed, or repeated with other values.
    AmbiguousParameter,
    /// `Accept-Datetime`: the answer is about another time (RFC 7089).
    AcceptDatetime,
    /// A `Range` of another unit, or of several ranges.
    Range,
    /// A body on a retrieval: the origin may let it select the answer.
    Body,
}

impl UnkeyedReason {
    /// All of them, as the enums have it that hold this one.
    #[cfg(any(test, feature = "internals"))]
    pub fn all() -> Vec<Self> {
        Self::ALL.to_vec()
    }

    /// Every reason: metrics export each label value from the start.
    pub const ALL: [Self; 8] = [
        Self::Method,
        Self::UnknownPath,
        Self::UncachedPath,
        Self::InvalidEscape,
        Self::AmbiguousParameter,
        Self::AcceptDatetime,
        Self::Range,
        Self::Body,
    ];

    /// The words of all.
    pub fn words() -> Vec<&'static str> {
        Self::ALL.map(Self::as_str).into()
    }

    /// The word for `Cache-Status; detail=`, logs and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::UnknownPath => "unknown-path",
            Self::UncachedPath => "uncached-path",
            Self::InvalidEscape => "invalid-escape",
            Self::AmbiguousParameter => "ambiguous-parameter",
            Self::AcceptDatetime => "accept-datetime",
            Self::Range => "range",
            Self::Body => "body",
        }
    }
}
