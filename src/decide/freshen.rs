//! What a 304 changes (RFC 9111 §3.2, §4.3.4), and what the answer to a `HEAD` changes (§4.3.5).
//!
//! - Each field of the new answer replaces all stored lines of that name, except `Content-Length`, `Content-Encoding`
//!   and `Content-Range`: they describe the stored bytes. The other stored fields stay. Age and lifetime start anew.
//! - A 304 with an entity tag freshens the response in hand only if the tags match.
//! - A 304 without an entity tag freshens it only if no other version was asked about and `Last-Modified` does not
//!   differ.
//! - A 304 raises the coverage of the response to that of the request. The answer to a `HEAD` does so only with an
//!   equal strong tag.

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, DATE, ETAG, LAST_MODIFIED};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::freshness::{directives_in_force, policy};
use super::storable::{NotStored, storable_representation};
use super::stored_fields::{replace_fields, stored_fields};
use super::{ResponseHead, SentConditions, SentRequest};
use crate::config::caching::CachingRules;
use crate::headers::entity_tag::EntityTag;
use crate::headers::{hop_by_hop, http_date};
use crate::stored_response::{StoredFields, StoredResponse};
use crate::words::words;

/// A stored response that an answer without a body has made current.
#[derive(Clone, Debug)]
pub struct Freshened {
    /// The response: the stored body under the updated fields.
    pub response: StoredResponse,
    /// Whether it may stay in the store: the new fields may forbid it (`no-store`, `private`). Then it answers only the
    /// caller that asked, and the stored one is no longer current.
    pub keep: Result<(), NotStored>,
}

words! {
    /// Why a 304 freshens nothing.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum FreshenRefusal {
        /// It names another version than that of the response in hand.
        OtherVersion = "not-modified-other-version",
        /// It names no version although several were asked about, or it names two.
        NoVersion = "not-modified-no-version",
    }
}

/// What the answer to a `HEAD` means for the stored `GET` response.
#[derive(Clone, Debug)]
pub enum HeadOutcome {
    /// The same version: its fields are updated.
    Freshened(Box<Freshened>),
    /// Another version, or none: the stored response is no longer current.
    Outdated,
    /// It says nothing about the stored response.
    Nothing,
}

/// [`FreshenRefusal`] if the 304 is not proven to be about `stored`.
pub fn freshen(
    asked: &SentRequest<'_>,
    stored: &StoredResponse,
    not_modified: &ResponseHead,
    rules: &CachingRules,
) -> Result<Freshened, FreshenRefusal> {
    names_stored(stored, &not_modified.fields, asked.conditions)?;
    Ok(update(asked, stored, not_modified, true, rules))
}

/// Freshens or outdates `stored` with the final answer to a `HEAD` of the same target.
pub fn freshen_by_head(
    asked: &SentRequest<'_>,
    stored: &StoredResponse,
    head: &ResponseHead,
    rules: &CachingRules,
) -> HeadOutcome {
    if head.status != stored.status {
        // A redirect or an error may be about this request alone. A 404 or 410 is about the target.
        let gone = matches!(head.status, StatusCode::NOT_FOUND | StatusCode::GONE);
        return if gone || head.status == StatusCode::OK {
            HeadOutcome::Outdated
        } else {
            HeadOutcome::Nothing
        };
    }
    let tag = EntityTag::of_message(lines(&head.fields, &ETAG));
    let stored_tag = EntityTag::of_message(stored.fields.get_all(&ETAG));
    let same_tag = tag.zip(stored_tag).is_some_and(|(tag, stored_tag)| {
        if tag.is_weak() { tag.matches_weakly(stored_tag) } else { tag.matches_strongly(stored_tag) }
    });
    let other_tag = head.fields.contains_key(ETAG) && !same_tag;
    let other_date = head
        .fields
        .get(LAST_MODIFIED)
        .is_some_and(|date| stored.fields.get(&LAST_MODIFIED) != Some(date.as_bytes()));
    let stored_length = stored.range.map_or(stored.body.len() as u64, |range| range.complete_length_bytes);
    let other_length = head.fields.get(CONTENT_LENGTH).is_some_and(|length| {
        length.to_str().ok().and_then(|length| length.parse().ok()) != Some(stored_length)
    });
    if other_tag || other_date || other_length {
        return HeadOutcome::Outdated;
    }
    // Equal lengths and dates permit reuse. Only an equal strong tag proves the same state, and raises coverage.
    let proven = same_tag && tag.is_some_and(|tag| !tag.is_weak());
    HeadOutcome::Freshened(Box::new(update(asked, stored, head, proven, rules)))
}

/// Whether a 304 with these fields is about `stored`.
fn names_stored(
    stored: &StoredResponse,
    fields: &HeaderMap,
    conditions: SentConditions,
) -> Result<(), FreshenRefusal> {
    if fields.get_all(ETAG).iter().count() > 1 {
        return Err(FreshenRefusal::NoVersion);
    }
    let stored_tag = EntityTag::of_message(stored.fields.get_all(&ETAG));
    if let Some(tag) = EntityTag::of_message(lines(fields, &ETAG)) {
        let matches = stored_tag.is_some_and(|stored_tag| {
            if tag.is_weak() { tag.matches_weakly(stored_tag) } else { tag.matches_strongly(stored_tag) }
        });
        return if matches { Ok(()) } else { Err(FreshenRefusal::OtherVersion) };
    }
    if conditions.callers || !conditions.own {
        return Err(FreshenRefusal::NoVersion);
    }
    let date = fields.get(LAST_MODIFIED).and_then(|date| http_date::parse(date.as_bytes()));
    let stored_date = stored.fields.get(&LAST_MODIFIED).and_then(http_date::parse);
    match (date, stored_date) {
        (Some(date), Some(stored_date)) if date != stored_date => Err(FreshenRefusal::OtherVersion),
        _ => Ok(()),
    }
}

/// The stored response with the fields of `newer`, its age and lifetime worked out anew.
fn update(
    asked: &SentRequest<'_>,
    stored: &StoredResponse,
    newer: &ResponseHead,
    proven: bool,
    rules: &CachingRules,
) -> Freshened {
    let mut newer_fields = newer.fields.clone();
    hop_by_hop::remove_hop_by_hop(&mut newer_fields);
    if !newer_fields.contains_key(DATE) {
        newer_fields.insert(DATE, http_date::format(newer.response_time));
    }
    let mut fields = stored.fields.to_header_map();
    replace_fields(&mut fields, &newer_fields, describes_stored_bytes);
    let head = ResponseHead {
        status: stored.status,
        fields,
        request_time: newer.request_time,
        response_time: newer.response_time,
    };
    let in_force = directives_in_force(&head, rules);
    let covers = if proven { stored.covers.union(asked.covers) } else { stored.covers };
    let mut response = StoredResponse {
        fields: StoredFields::default(),
        request_time: head.request_time,
        response_time: head.response_time,
        covers,
        policy: policy(&head, &in_force, rules),
        ..stored.clone()
    };
    let keep = match storable_representation(asked.request, &head, &in_force, rules) {
        Ok(storable) => {
            response.fields = storable.fields;
            response.selecting = storable.selecting;
            Ok(())
        }
        Err(reason) => {
            response.fields = StoredFields::pack(&stored_fields(&head, &in_force.directives, rules));
            Err(reason)
        }
    };
    Freshened { response, keep }
}

/// Fields that never replace the stored ones: they describe the stored bytes (RFC 9111 §3.2).
fn describes_stored_bytes(name: &HeaderName) -> bool {
    matches!(*name, CONTENT_LENGTH | CONTENT_ENCODING | CONTENT_RANGE)
}

fn lines<'a>(fields: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    fields.get_all(name).into_iter().map(HeaderValue::as_bytes)
}

#[cfg(test)]
mod tests;
