//! Storing responses (RFC 9111 §3): why a response was, or was not, stored.
//!
//! Each refusal is a [`NotStored`]. With an explicit lifetime any final status is storable, unknown ones included.
//! Without one, only the heuristically cacheable statuses of RFC 9110 §15.1, or any status marked `public`, are. A
//! response without lifetime and without validator could never be reused, and is not stored. A `POST` feeds later
//! `GET`s if its answer has explicit freshness and names its own target in `Content-Location` (RFC 9110 §9.3.3).

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_RANGE, ETAG, LAST_MODIFIED};
use http::{HeaderMap, Method, StatusCode, Uri};

use super::ResponseHead;
use super::freshness::{
    DirectivesInForce, directives_in_force, freshness_lifetime, is_heuristically_cacheable, policy,
};
use super::stored_fields::stored_fields;
use crate::body::budget::StoredShare;
use crate::config::caching::{CachingRules, Sharing};
use crate::headers::entity_tag::EntityTag;
use crate::headers::range::ContentRange;
use crate::headers::uri_reference::{canonical, target_at_origin};
use crate::headers::{http_date, vary};
use crate::presented_request::PresentedRequest;
use crate::stored_response::{
    SelectingKey, StoredFields, StoredPolicy, StoredRange, StoredResponse, UseMark,
};
use crate::sync_token::coverage::Coverage;
use crate::words::words;

/// A response that may be stored, as far as its head says.
#[derive(Clone, Debug)]
pub struct Storable {
    /// The fields to store.
    pub fields: StoredFields,
    /// What they say about lifetime and reuse.
    pub policy: StoredPolicy,
    /// The selecting header fields of the request that fetched it.
    pub selecting: SelectingKey,
    /// Which bytes a 206 holds.
    pub range: Option<StoredRange>,
    /// The length that the body must have to be complete, if the head states it.
    pub body_length_bytes: Option<u64>,
}

impl Storable {
    /// The stored response with its body.
    ///
    /// # Errors
    /// [`NotStored::BodyBroken`] if the body has another length than the head announced (RFC 9111 §3.3), and
    /// [`NotStored::BodyTooLarge`] if it is over the limit.
    pub fn with_body(
        self,
        head: &ResponseHead,
        body: Bytes,
        covers: Coverage,
        rules: &CachingRules,
    ) -> Result<StoredResponse, NotStored> {
        let length_bytes = body.len() as u64;
        if length_bytes > rules.max_stored_body_bytes {
            return Err(NotStored::BodyTooLarge);
        }
        if self.body_length_bytes.is_some_and(|expected| expected != length_bytes) {
            return Err(NotStored::BodyBroken);
        }
        Ok(StoredResponse {
            status: head.status,
            fields: self.fields,
            body,
            share: StoredShare::default(),
            selecting: self.selecting,
            request_time: head.request_time,
            response_time: head.response_time,
            covers,
            policy: self.policy,
            range: self.range,
            is_mirrored: false,
            in_use: UseMark::default(),
        })
    }
}

words! {
    /// Why a response is not stored.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum NotStored {
        /// The answer to this method is not reusable (RFC 9111 §3; a `HEAD` has no body, a `POST` needs more).
        Method = "method",
        /// The status is not final, or is about this one request (304, 412, 416).
        Status = "status",
        /// A response of this status needs a lifetime of its own, or `public`, to be cacheable.
        StatusNotCacheable = "status-not-cacheable",
        /// The caller said `no-store`.
        RequestNoStore = "request-no-store",
        /// The request carried `Cookie` and the response does not say `public` (`Sharing::Guarded`).
        Cookie = "cookie",
        /// The response said `no-store`.
        NoStore = "no-store",
        /// The response said `must-understand`, and the status is not one whose requirements this cache knows.
        NotUnderstood = "not-understood",
        /// The response said `private`.
        Private = "private",
        /// The request carried `Authorization`, and no directive of the response allows sharing (RFC 9111 §3.5).
        Authorization = "authorization",
        /// `Vary` says `*`, or cannot be read.
        Vary = "vary",
        /// A partial response that does not say which bytes it holds, the complete length, or its version.
        PartialContent = "partial-content",
        /// It could never be reused: it has no lifetime, or `no-cache`, and no validator.
        NoLifetimeNoValidator = "no-lifetime-no-validator",
        /// Its body is larger than the operator's limit.
        BodyTooLarge = "body-too-large",
        /// Its body takes longer to arrive than a body may that is stored.
        BodyTooSlow = "body-too-slow",
        /// The memory for bodies that are being received is used up (`limits.buffered_bodies`).
        BuffersFull = "buffers-full",
        /// Its body is shorter or longer than its head announced.
        BodyBroken = "body-broken",
        /// The request carried a sync token whose sequence number is unknown.
        UnknownSyncToken = "unknown-sync-token",
    }
}

impl NotStored {
    /// Whether the next answer for the same key is likely to be refused as well: the response itself, or a credential
    /// that is part of the key, forbids storing. A failure that will pass does not count.
    pub const fn is_lasting(self) -> bool {
        matches!(
            self,
            Self::NoStore
                | Self::Private
                | Self::Authorization
                | Self::Vary
                | Self::NoLifetimeNoValidator
                | Self::BodyTooLarge
        )
    }
}

/// Whether the answer to `request` may be stored, and which fields of it.
pub fn storable(
    request: &PresentedRequest,
    head: &ResponseHead,
    rules: &CachingRules,
) -> Result<Storable, NotStored> {
    storable_answer_to(&request.method, request, head, rules)
}

/// The same if the method `sent` differs from the caller's.
pub(super) fn storable_answer_to(
    sent: &Method,
    request: &PresentedRequest,
    head: &ResponseHead,
    rules: &CachingRules,
) -> Result<Storable, NotStored> {
    let in_force = directives_in_force(head, rules);
    if *sent == Method::POST {
        // RFC 9110 §9.3.3: with explicit freshness and its own target in `Content-Location` it is what a `GET` would
        // bring.
        let explicit = freshness_lifetime(head, &in_force, rules).1.is_explicit();
        if !explicit
            || !head.status.is_success()
            || !is_located_at(&head.fields, request.post_target.as_deref())
        {
            return Err(NotStored::Method);
        }
    } else if *sent != Method::GET {
        return Err(NotStored::Method);
    }
    storable_representation(request, head, &in_force, rules)
}

/// The same for a response that is known to be what a `GET` would bring, with any method: a freshened or completed one.
pub(super) fn storable_representation(
    request: &PresentedRequest,
    head: &ResponseHead,
    in_force: &DirectivesInForce,
    rules: &CachingRules,
) -> Result<Storable, NotStored> {
    let directives = &in_force.directives;
    if head.status.is_informational() || is_about_one_request(head.status, request) {
        return Err(NotStored::Status);
    }
    if request.directives.no_store {
        return Err(NotStored::RequestNoStore);
    }
    if rules.sharing == Sharing::Guarded && !directives.public && request.names_caller {
        return Err(NotStored::Cookie);
    }
    if directives.must_understand && !is_understood(head.status) {
        return Err(NotStored::NotUnderstood);
    }
    if directives.no_store && !directives.must_understand {
        return Err(NotStored::NoStore);
    }
    // The partition of one authenticated identity is a private cache: `private` and `Authorization` do not apply (RFC
    // 9111 §3.5, §5.2.2.7).
    if directives.private && !request.private_partition {
        return Err(NotStored::Private);
    }
    let shareable = directives.public || directives.must_revalidate || directives.s_maxage.is_some();
    if request.authorized && !rules.owns_credential && !shareable && !request.private_partition {
        return Err(NotStored::Authorization);
    }
    let selecting = vary::selecting_key(&head.fields, &request.fields).ok_or(NotStored::Vary)?;
    let part = part_held(head)?;
    let (_, source) = freshness_lifetime(head, in_force, rules);
    let has_lifetime = source.is_explicit() || source == super::freshness::LifetimeSource::Configured;
    if !has_lifetime && !directives.public && !is_cacheable_by_default(head.status) {
        return Err(NotStored::StatusNotCacheable);
    }
    let policy = policy(head, in_force, rules);
    if !is_ever_reusable(&policy, has_lifetime, &head.fields) {
        return Err(NotStored::NoLifetimeNoValidator);
    }
    let body_length_bytes =
        part.map(|(_, length_bytes)| length_bytes).or_else(|| content_length(&head.fields));
    if body_length_bytes.is_some_and(|length_bytes| length_bytes > rules.max_stored_body_bytes) {
        return Err(NotStored::BodyTooLarge);
    }
    let fields = StoredFields::pack(&stored_fields(head, directives, rules));
    Ok(Storable { fields, policy, selecting, range: part.map(|(range, _)| range), body_length_bytes })
}

/// Whether a response of this status is about the conditions or the range of the request, not about the target.
fn is_about_one_request(status: StatusCode, request: &PresentedRequest) -> bool {
    match status {
        StatusCode::NOT_MODIFIED | StatusCode::RANGE_NOT_SATISFIABLE => true,
        StatusCode::PRECONDITION_FAILED => !request.preconditions.is_unconditional(),
        _ => false,
    }
}

/// Statuses whose requirements this cache implements, for `must-understand` (RFC 9111 §5.2.2.3): those of RFC 9110 §15.
fn is_understood(status: StatusCode) -> bool {
    matches!(status.as_u16(),
        200..=206 | 300..=303 | 305 | 307 | 308 | 400..=411 | 413..=415 | 417 | 421 | 422 | 426 | 500..=505)
}

/// Statuses that may be stored without a lifetime: the heuristically cacheable ones of RFC 9110 §15.1, 206 included. A
/// 206 is validated on each use unless a lifetime is configured.
fn is_cacheable_by_default(status: StatusCode) -> bool {
    is_heuristically_cacheable(status) || status == StatusCode::PARTIAL_CONTENT
}

/// Whether a request can exist that the response answers. A response that names a lifetime is stored even if that is
/// over or zero, because it may answer while the origin is unreachable. If it may never answer stale, it needs a
/// validator.
fn is_ever_reusable(policy: &StoredPolicy, has_lifetime: bool, fields: &HeaderMap) -> bool {
    let ever_fresh = !policy.no_cache && policy.freshness_lifetime > policy.initial_age;
    let ever_stale = !policy.must_revalidate && has_lifetime;
    ever_fresh || ever_stale || has_validator(fields)
}

/// Whether a response can be validated: it has one well-formed entity tag, or a valid `Last-Modified`.
fn has_validator(fields: &HeaderMap) -> bool {
    EntityTag::of_message(fields.get_all(ETAG).iter().map(http::HeaderValue::as_bytes)).is_some()
        || fields.get(LAST_MODIFIED).is_some_and(|line| http_date::parse(line.as_bytes()).is_some())
}

/// The range that a 206 holds and its length in bytes; `None` for other statuses.
fn part_held(head: &ResponseHead) -> Result<Option<(StoredRange, u64)>, NotStored> {
    if head.status != StatusCode::PARTIAL_CONTENT {
        return Ok(None);
    }
    let mut lines = head.fields.get_all(CONTENT_RANGE).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return Err(NotStored::PartialContent) };
    let Some(ContentRange::Part { first, last, complete_length_bytes: Some(complete_length_bytes) }) =
        ContentRange::parse(line.as_bytes())
    else {
        return Err(NotStored::PartialContent);
    };
    // Without a validator no other part can be joined to it, and `If-Range` cannot be evaluated.
    if !has_validator(&head.fields) {
        return Err(NotStored::PartialContent);
    }
    Ok(Some((StoredRange { first_byte: first, complete_length_bytes }, last - first + 1)))
}

/// The length that `Content-Length` announces. The HTTP parser has refused contradicting lines before.
fn content_length(fields: &HeaderMap) -> Option<u64> {
    fields.get(CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

/// Whether `Content-Location` names the target itself, in any form of a reference (RFC 3986 §4.2). An empty reference
/// does not count, although it resolves to the base. A target with dot segments is named by its own bytes only: it is
/// sent upstream with them and has a cache key of its own.
fn is_located_at(fields: &HeaderMap, target: Option<&Uri>) -> bool {
    let Some(target) = target else { return false };
    let mut lines = fields.get_all(CONTENT_LOCATION).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return false };
    let Some(reference) = line.to_str().ok().map(str::trim).filter(|reference| !reference.is_empty()) else {
        return false;
    };
    let own = target.path_and_query().map_or("/", |target| target.as_str());
    if reference.split('#').next() == Some(own) {
        return true;
    }
    let (Some(scheme), Some(authority)) = (target.scheme(), target.authority()) else { return false };
    target_at_origin(scheme, authority, own, reference).is_some_and(|located| located == canonical(own))
}

#[cfg(test)]
mod tests;
