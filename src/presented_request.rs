//! The request as the cache sees it (RFC 9111 §4 "presented request"): parsed once by `identify`, read by every decision.

use http::header::{CACHE_CONTROL, RANGE};
use http::{HeaderMap, HeaderName, Method, Uri};

use crate::headers::cache_control::RequestDirectives;
use crate::headers::conditional::{CONDITIONAL_FIELDS, Preconditions};
use crate::headers::range::RangeRequest;
use crate::stored_response::CacheKey;
use crate::sync_token::session::SYNC_TOKEN;

/// Fields that name one request, or say what its caller has seen.
static OF_ONE_REQUEST: [HeaderName; 6] = [
    SYNC_TOKEN,
    RANGE,
    CACHE_CONTROL,
    HeaderName::from_static("x-ms-client-request-id"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
];

/// A request that the cache may answer or learn from.
#[derive(Clone, Debug)]
pub struct PresentedRequest {
    /// What it asks for.
    pub key: CacheKey,
    /// The target URI in absolute form, with the authority of the upstream: what `Location` and `Content-Location` of the
    /// answer are relative to.
    pub target: Uri,
    /// The method as received; `GET` and `HEAD` may be answered from the store.
    pub method: Method,
    /// All end-to-end request fields as received (hop-by-hop ones removed): selecting header fields are found here.
    pub fields: HeaderMap,
    /// The caller's `Cache-Control`, or `Pragma` in its absence. Default when the operator does not honour them.
    pub directives: RequestDirectives,
    /// The caller's conditions (RFC 9110 §13.1).
    pub preconditions: Preconditions,
    /// The caller's `Range`, if it is one that a cache may act on.
    pub range: Option<RangeRequest>,
    /// The request carries `Cookie`: found out once, since every lookup asks under `Sharing::Guarded`.
    pub carries_cookie: bool,
    /// The request names ids that its answer is to repeat.
    pub names_ids: bool,
    /// The request carried `Authorization` that goes upstream (RFC 9111 §3.5).
    pub authorized: bool,
    /// What is stored for this request is shown only to who sends the same secret: a private cache (RFC 9111 §3.5, §5.2.2.7).
    pub private_partition: bool,
}

impl PresentedRequest {
    /// The same question, asked to validate what is stored for it: without what one caller wanted of his answer.
    #[must_use]
    pub fn as_validation(&self) -> Self {
        let mut fields = self.fields.clone();
        for name in CONDITIONAL_FIELDS.iter().chain(&OF_ONE_REQUEST) {
            fields.remove(name);
        }
        Self {
            fields,
            method: Method::GET,
            directives: RequestDirectives::default(),
            preconditions: Preconditions::default(),
            range: None,
            ..self.clone()
        }
    }

    /// Its fields, if they name ids that its answer is to repeat.
    #[must_use]
    pub fn named_ids(&self) -> Option<&HeaderMap> {
        self.names_ids.then_some(&self.fields)
    }

    /// Whether the store may answer this method: `GET` or `HEAD`.
    #[must_use]
    pub fn is_retrieval(&self) -> bool {
        self.method == Method::GET || self.method == Method::HEAD
    }
}
