//! What one kind of API knows about itself.

pub mod app_configuration;
pub mod generic;
pub mod path;
pub mod recognition;

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use crate::headers::survey::FieldSet;

/// What the cache must know about an API beyond HTTP: which targets are one, what goes upstream, what a write touches.
pub trait Profile: Send + Sync + fmt::Debug {
    /// Its name in the configuration.
    fn name(&self) -> &'static str;

    /// The target as it stands in the cache key, or why this request bypasses the cache. Two targets may share a canonical
    /// form only if the API answers both alike. `fields` says which of the fields that bear on it the request has.
    ///
    /// # Errors
    ///
    /// The reason for which neither the store may answer nor the answer may be stored.
    fn canonical_target<'a>(
        &self,
        method: &Method,
        target: &'a PathAndQuery,
        fields: FieldSet,
    ) -> Result<Cow<'a, str>, BypassReason>;

    /// Whether a request field may go upstream. Asked about end-to-end fields only; framing and `Host` are rebuilt and
    /// conditions belong to `decide::validation`.
    fn forwards(&self, name: &HeaderName) -> bool;

    /// What `Accept-Encoding` says upstream whatever the caller sent; `None` passes on what it sent.
    fn accept_encoding(&self) -> Option<HeaderValue> {
        None
    }

    /// Whether a `HEAD` that the store cannot answer is fetched as a `GET`, so that the answer can be stored: right where
    /// bodies are small and clients poll with `HEAD`.
    fn fetches_head_as_get(&self) -> bool {
        false
    }

    /// Puts in what describes this one answer and is not stored: request ids. `request` holds the caller's fields.
    fn describe_answer(&self, request: &HeaderMap, answer: &mut HeaderMap) {
        let _plain_http_has_none = (request, answer);
    }

    /// Renews it on a copy of an answer that was described before, for a request without fields.
    fn describe_again(&self, request: Option<&HeaderMap>, answer: &mut HeaderMap) {
        let _plain_http_has_none = (request, answer);
    }

    /// Response fields with absolute URLs of the API itself, which are to lead callers through the sidecar.
    fn absolute_fields(&self) -> &'static [HeaderName] {
        &[]
    }

    /// A name for the resource that a write to this target writes and a `GET` of it shows, whatever else the target says;
    /// `None` when the target names no single one.
    fn resource_name(&self, target: &PathAndQuery) -> Option<String> {
        self.canonical_target(&Method::GET, target, FieldSet::default()).ok().map(Cow::into_owned)
    }

    /// Looks at a successful answer to a retrieval, for what it says of other resources.
    fn learn(&self, canonical_target: &str, body: &[u8]) {
        let _http_says_nothing = (canonical_target, body);
    }

    /// What a list consists of: the state of each item as a response of its own would show it. `None` where the target is no
    /// list, or does not show the tags of its items.
    fn list_items(&self, canonical_target: &str, body: &[u8]) -> Option<Vec<ItemState>> {
        let _http_knows_no_lists = (canonical_target, body);
        None
    }

    /// Whether `Last-Modified` of a 200 says when the state that it shows came to be: true of one key-value, never of a list,
    /// since nothing dates a deletion.
    fn is_dated(&self, canonical_target: &str) -> bool {
        let _http_dates_nothing = canonical_target;
        false
    }

    /// How long a resource is fresh whose content cannot change any more; `None` for all others. Asked before the request is
    /// sent: what is fixed then covers everything that can come.
    fn immutable_for(&self, canonical_target: &str) -> Option<Duration> {
        let _http_knows_none = canonical_target;
        None
    }

    /// Hears of every write that may have happened, before its caller does.
    fn wrote(&self, footprint: &Footprint) {
        let _nothing_was_learned = footprint;
    }

    /// What a write may change, as kept in the write log.
    fn footprint(&self, method: &Method, target: &PathAndQuery) -> Footprint;

    /// The same, once the answer is there: an answer may name more of what has changed.
    fn footprint_of_answer(&self, footprint: Footprint, status: StatusCode, fields: &HeaderMap) -> Footprint;

    /// Whether all that a request to this target can show or change lies within a prefix: of the path, segment by segment, unless
    /// the API has names of its own. What is not understood lies nowhere.
    fn lies_within(&self, target: &PathAndQuery, prefix: &str) -> bool {
        path::lies_below(target.path(), prefix)
    }

    /// Whether that write can have touched the stored response with this canonical target.
    fn touches(&self, write: &Footprint, canonical_target: &str) -> bool;
}

/// The state of one item of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemState {
    /// The canonical target of the item by itself.
    pub canonical_target: String,
    /// Its entity tag, as its own answer would carry it.
    pub entity_tag: String,
}

/// What a write may have changed. Cheap to clone: the write log and the tasks that watch it share it.
#[derive(Clone, Debug)]
pub enum Footprint {
    /// Canonical targets, the target of the write first (RFC 9111 §4.4).
    Targets(Arc<[Box<str>]>),
    /// What only the profile that made it can read.
    Resource(Arc<dyn Any + Send + Sync>),
    /// Everything: the write is not understood.
    Everything,
}

/// Why a request bypasses the cache: the word in `Cache-Status; detail=`, logs and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BypassReason {
    /// A method that the cache does not answer: `fwd=method`.
    Method,
    /// A path that the profile does not know.
    UnknownPath,
    /// A path of which the profile knows that answers must not be stored.
    UncachedPath,
    /// A percent sequence that has no meaning.
    InvalidEscape,
    /// A parameter that occurs in a way of which the meaning is not known.
    AmbiguousParameter,
    /// `Accept-Datetime`: an answer about another time.
    AcceptDatetime,
    /// A `Range` of another unit, or of several ranges.
    Range,
    /// A body on a retrieval: it may change what is asked for.
    Body,
    /// The operator switched caching off for it.
    Configured,
}

impl BypassReason {
    /// Every reason, for metrics that want each label value from the start.
    pub const ALL: [Self; 9] = [
        Self::Method,
        Self::UnknownPath,
        Self::UncachedPath,
        Self::InvalidEscape,
        Self::AmbiguousParameter,
        Self::AcceptDatetime,
        Self::Range,
        Self::Body,
        Self::Configured,
    ];

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
            Self::Configured => "configured",
        }
    }
}
