//! Completing a stored part (RFC 9111 §3.3, §3.4): the first bytes are stored, one `bytes=N-` request brings the rest.

use http::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG};
use http::{HeaderValue, StatusCode};

use super::freshness::directives_in_force;
use super::storable::{NotStored, Storable, storable_representation};
use super::stored_fields::replace_fields;
use super::{Asked, ResponseHead};
use crate::config::caching::CachingRules;
use crate::headers::entity_tag::EntityTag;
use crate::headers::range::ContentRange;
use crate::stored_response::StoredResponse;

/// A complete response made of a stored part and the 206 that brings the rest.
#[derive(Clone, Debug)]
pub struct Completion {
    /// The head of the complete response: a 200.
    pub head: ResponseHead,
    /// Whether the whole may be stored.
    pub storable: Result<Storable, NotStored>,
    /// How many bytes the 206 must bring; they follow those that are stored.
    pub missing_bytes: u64,
}

/// The position from which a stored part is to be completed, and its validator for `If-Range`: `None` when it does not begin
/// at the first byte or has no strong entity tag, since then the parts cannot be joined.
#[must_use]
pub fn completable_from(stored: &StoredResponse) -> Option<(u64, EntityTag<'_>)> {
    let range = stored.range.filter(|range| range.first_byte == 0)?;
    let tag = EntityTag::of_message(stored.fields.get_all(&ETAG)).filter(|tag| !tag.is_weak())?;
    let next_byte = stored.body.len() as u64;
    (0 < next_byte && next_byte < range.complete_length_bytes).then_some((next_byte, tag))
}

/// Joins the stored part in hand with the 206 that answers the request for the rest. `None` when they do not fit together:
/// another version, other bytes.
#[must_use]
pub fn complete(asked: &Asked<'_>, head: &ResponseHead, rules: &CachingRules) -> Option<Completion> {
    let stored = asked.in_hand?;
    let (next_byte, stored_tag) = completable_from(stored)?;
    let complete_length_bytes = stored.range?.complete_length_bytes;
    let mut ranges = head.fields.get_all(CONTENT_RANGE).iter();
    let range = ContentRange::parse(ranges.next()?.as_bytes())?;
    let rest = ContentRange::Part {
        first: next_byte,
        last: complete_length_bytes - 1,
        complete_length_bytes: Some(complete_length_bytes),
    };
    let tag = EntityTag::of_message(head.fields.get_all(ETAG).iter().map(HeaderValue::as_bytes))?;
    if head.status != StatusCode::PARTIAL_CONTENT
        || ranges.next().is_some()
        || range != rest
        || !tag.matches_strongly(stored_tag)
    {
        return None;
    }
    let mut fields = stored.fields.to_header_map();
    replace_fields(&mut fields, &head.fields, |name| *name == CONTENT_RANGE);
    fields.remove(CONTENT_RANGE);
    fields.insert(CONTENT_LENGTH, HeaderValue::from(complete_length_bytes));
    let whole = ResponseHead {
        status: StatusCode::OK,
        fields,
        request_time: head.request_time,
        response_time: head.response_time,
    };
    let in_force = directives_in_force(&whole, rules);
    let storable = storable_representation(asked.request, &whole, &in_force, rules);
    Some(Completion { head: whole, storable, missing_bytes: complete_length_bytes - next_byte })
}
