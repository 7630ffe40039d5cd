//! The presented request of RFC 9111 §4. `identify` parses it once, and every decision reads it.

use std::borrow::Cow;

use http::header::{CACHE_CONTROL, RANGE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use crate::headers::cache_control::RequestDirectives;
use crate::headers::conditional::{CONDITIONAL_FIELDS, Preconditions};
use crate::headers::range::RangeRequest;
use crate::stored_response::CacheKey;
use crate::sync_token::session::SYNC_TOKEN;

/// Fields that identify one request or state what its caller has seen.
static OF_ONE_REQUEST: [HeaderName; 6] = [
    SYNC_TOKEN,
    RANGE,
    CACHE_CONTROL,
    HeaderName::from_static("x-ms-client-request-id"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
];

/// A request that the cache may answer, or whose response it may store.
#[derive(Clone, Debug)]
pub struct PresentedRequest {
    /// The cache key of its target.
    pub key: CacheKey,
    /// Of a `POST`, the target URI in absolute form, with the authority of the upstream: its answer is stored if its
    /// `Content-Location` names this (RFC 9110 §9.3.3). `None` of other requests: no hit pays for it.
    pub post_target: Option<Box<Uri>>,
    /// The method as received; `GET` and `HEAD` may be answered from the store.
    pub method: Method,
    /// All end-to-end request fields as received, among them the selecting header fields. Of the hop-by-hop fields only a
    /// `Connection` that names no field may be among them.
    pub fields: HeaderMap,
    /// The caller's `Cache-Control`, or `Pragma` without it. The default if the configuration ignores them.
    pub directives: RequestDirectives,
    /// The caller's conditions (RFC 9110 §13.1).
    pub preconditions: Preconditions,
    /// The caller's `Range`, if a cache may use it.
    pub range: Option<RangeRequest>,
    /// Whether the request carries `Cookie`, or another field that names who asks. Computed once, because every lookup needs it under `Sharing::Guarded`.
    pub names_caller: bool,
    /// Whether the request names ids that its answer repeats.
    pub names_ids: bool,
    /// Whether the request carried an `Authorization` that goes upstream (RFC 9111 §3.5).
    pub authorized: bool,
    /// Whether a response to this request is stored for requests with the same secret only, as in a private cache (RFC
    /// 9111 §3.5, §5.2.2.7).
    pub private_partition: bool,
}

impl PresentedRequest {
    /// The request that validates the stored response: a GET of the same target, without the conditions, range and
    /// directives of this caller.
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
            post_target: None,
            ..self.clone()
        }
    }

    /// [`Self::as_validation`] with bytes of its own: what comes from a connection keeps the buffer alive that it was read into.
    pub fn to_remember(&self) -> Self {
        let mut request = self.as_validation();
        for value in request.fields.values_mut() {
            if let Ok(copy) = HeaderValue::from_bytes(value.as_bytes()) {
                *value = copy;
            }
        }
        request
    }

    /// The key of the memory of unshareable answers. If callers with and without credentials share a cache key,
    /// requests with `Authorization` get a separate entry, because their answers say nothing about the others (RFC 9111
    /// §3.5).
    pub fn sharing_key(&self) -> Cow<'_, CacheKey> {
        if !self.authorized || self.private_partition {
            return Cow::Borrowed(&self.key);
        }
        Cow::Owned(self.key.of_target(&format!("{}\0authorized", self.key.canonical_target())))
    }

    /// Whether the bytes of the target go upstream as the caller spelled them: its `Authorization` may be a signature of them. One that
    /// is a secret by itself signs nothing.
    #[must_use]
    pub const fn binds_target(&self) -> bool {
        self.authorized && !self.private_partition
    }

    /// The fields, if they name ids that the answer repeats.
    pub fn named_ids(&self) -> Option<&HeaderMap> {
        self.names_ids.then_some(&self.fields)
    }

    /// Whether the store may answer this method: `GET` or `HEAD`.
    pub fn is_retrieval(&self) -> bool {
        self.method == Method::GET || self.method == Method::HEAD
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::decide::tests::request;

    #[test]
    fn what_is_remembered_keeps_no_connection_alive() {
        let head = Bytes::from(format!("*/*{}", "h".repeat(64 * 1024)));
        let mut received = request("GET", &[]);
        let value = HeaderValue::from_maybe_shared(head.slice(..3)).expect("a field value");
        received.fields.insert(http::header::ACCEPT, value);
        let remembered = received.to_remember();
        assert_eq!(remembered.fields, received.fields);
        drop(received);
        assert!(head.is_unique());
    }
}
