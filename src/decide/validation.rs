//! What is sent to validate a stored response, or to complete a stored part (RFC 9111 §4.3.1, §3.4).
//!
//! The stored entity tag is sent exactly as it was received, weak or strong, if it is well-formed. `Last-Modified` is
//! sent if it is a valid date. The caller's own entity tags are sent along if they differ from the stored one.

use bytes::Bytes;
use http::header::{
    ETAG, HeaderMap, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, RANGE,
};

use super::SentConditions;
use super::complete::completable_from;
use crate::headers::conditional::EntityTagCondition;
use crate::headers::entity_tag::EntityTag;
use crate::headers::http_date;
use crate::presented_request::PresentedRequest;
use crate::stored_response::StoredResponse;

/// The conditions of one request upstream. They replace the caller's conditions.
#[derive(Clone, Debug, Default)]
pub struct ConditionalFields {
    /// `If-None-Match`, `If-Modified-Since`, `If-Range`, `Range`.
    pub fields: HeaderMap,
    /// Which conditions those are: they decide what a 304 means.
    pub conditions: SentConditions,
    /// It asks only for the bytes that the stored part lacks.
    pub completing: bool,
}

/// What to send upstream for `request`, to validate or complete `in_hand`.
///
/// Without a stored response no condition is sent: the full answer can be stored, and the caller's own condition is
/// evaluated here. With one, its tag is sent first and the caller's differing tags after it: if the origin has the
/// caller's version, it sends no body.
pub fn validation(request: &PresentedRequest, in_hand: Option<&StoredResponse>) -> ConditionalFields {
    let Some(stored) = in_hand else { return ConditionalFields::default() };
    if stored.range.is_some() {
        return completion(stored);
    }
    let mut sent = ConditionalFields::default();
    if let Some(tag) = EntityTag::of_message(stored.fields.get_all(&ETAG)) {
        let mut line = tag.as_bytes().to_vec();
        sent.conditions.own = true;
        // An origin answers `*` with 304 for any version, which proves nothing.
        if let Some(condition @ EntityTagCondition::Listed(_)) = &request.preconditions.if_none_match {
            for callers_tag in condition.tags().filter(|callers_tag| !callers_tag.matches_weakly(tag)) {
                sent.conditions.callers = true;
                // One line, the stored tag first: some origins read only the first tag of a list.
                line.extend_from_slice(b", ");
                line.extend_from_slice(callers_tag.as_bytes());
            }
        }
        if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(line)) {
            sent.fields.insert(IF_NONE_MATCH, value);
        }
    }
    // RFC 9111 §4.3.1. Beside `If-None-Match` the date has no effect at the origin (RFC 9110 §13.1.3).
    if let Some(date) = stored.fields.get(&LAST_MODIFIED)
        && http_date::parse(date).is_some()
        && let Ok(value) = HeaderValue::from_bytes(date)
    {
        sent.conditions.own = true;
        sent.fields.insert(IF_MODIFIED_SINCE, value);
    }
    sent
}

/// The caller's own condition, for a request whose answer is not expected to be storable and for which nothing is
/// stored. It saves the body, and no other caller loses a storable answer (RFC 9111 §4.3.2: a cache without a stored
/// response forwards the request with its conditions).
pub fn callers_own(request: &PresentedRequest) -> ConditionalFields {
    let mut sent = ConditionalFields::default();
    let conditions = &request.preconditions;
    // RFC 9110 §13.1.3: `If-None-Match` wins. A malformed date is no condition.
    let named = match (&conditions.if_none_match, conditions.if_modified_since) {
        (Some(_), _) => IF_NONE_MATCH,
        (None, Some(_)) => IF_MODIFIED_SINCE,
        (None, None) => return sent,
    };
    for line in request.fields.get_all(&named) {
        sent.fields.append(named.clone(), line.clone());
    }
    sent.conditions.callers = true;
    sent
}

fn completion(stored: &StoredResponse) -> ConditionalFields {
    let mut sent = ConditionalFields::default();
    if let Some((next_byte, tag)) = completable_from(stored)
        && let Ok(range) = HeaderValue::from_maybe_shared(format!("bytes={next_byte}-"))
        && let Ok(tag) = HeaderValue::from_bytes(tag.as_bytes())
    {
        sent.fields.insert(RANGE, range);
        sent.fields.insert(IF_RANGE, tag);
        sent.completing = true;
    }
    sent
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::tests::{get, stored};

    fn line(sent: &ConditionalFields, name: http::HeaderName) -> Option<&str> {
        sent.fields.get(name).map(|value| value.to_str().expect("visible characters"))
    }

    #[test]
    fn without_a_stored_response_nothing_is_conditional() {
        let sent = validation(&get(&[("if-none-match", "\"a\""), ("if-modified-since", "x")]), None);
        assert!(sent.fields.is_empty());
        assert_eq!(sent.conditions, SentConditions::default());
    }

    #[test]
    fn the_callers_condition_goes_alone_where_nothing_will_be_stored() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let sent = callers_own(&get(&[("if-none-match", "\"a\""), ("if-modified-since", date)]));
        assert_eq!((line(&sent, IF_NONE_MATCH), line(&sent, IF_MODIFIED_SINCE)), (Some("\"a\""), None));
        assert_eq!(sent.conditions, SentConditions { own: false, callers: true });
        let sent = callers_own(&get(&[("if-modified-since", date)]));
        assert_eq!(line(&sent, IF_MODIFIED_SINCE), Some(date));
        for lines in [&[("if-modified-since", "yesterday")][..], &[("if-match", "\"a\"")], &[]] {
            let sent = callers_own(&get(lines));
            assert!(sent.fields.is_empty() && !sent.conditions.callers, "{lines:?}");
        }
    }

    #[test]
    fn the_stored_tag_goes_exactly_as_received_and_a_malformed_one_not_at_all() {
        for (etag, expected) in [
            ("\"a\"", Some("\"a\"")),
            ("W/\"a\"", Some("W/\"a\"")),
            ("a", None),
            ("w/\"a\"", None),
            ("\"a", None),
        ] {
            let sent = validation(&get(&[]), Some(&stored(200, &[("etag", etag)])));
            assert_eq!(line(&sent, IF_NONE_MATCH), expected, "{etag}");
            assert_eq!(sent.conditions.own, expected.is_some(), "{etag}");
        }
    }

    #[test]
    fn the_callers_tags_go_along_where_they_differ() {
        let stored = stored(200, &[("etag", "\"a\"")]);
        for (callers, expected, callers_sent) in [
            ("\"a\"", "\"a\"", false),
            ("W/\"a\"", "\"a\"", false),
            ("\"b\"", "\"a\", \"b\"", true),
            ("\"a\", W/\"b\", \"c\"", "\"a\", W/\"b\", \"c\"", true),
            ("*", "\"a\"", false),
            ("junk", "\"a\"", false),
        ] {
            let sent = validation(&get(&[("if-none-match", callers)]), Some(&stored));
            assert_eq!(line(&sent, IF_NONE_MATCH), Some(expected), "{callers}");
            assert_eq!(sent.conditions.callers, callers_sent, "{callers}");
        }
    }

    #[test]
    fn a_valid_date_is_sent_back_as_received() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let sent = validation(&get(&[]), Some(&stored(200, &[("last-modified", date)])));
        assert_eq!(line(&sent, IF_MODIFIED_SINCE), Some(date));
        assert!(sent.conditions.own);
        let sent = validation(&get(&[]), Some(&stored(200, &[("last-modified", "yesterday")])));
        assert!(sent.fields.is_empty());
    }
}
