//! What is sent to validate a stored response, or to complete a stored part (RFC 9111 §4.3.1, §3.4; `caching.md` rule 14).

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

/// The conditions of one request upstream; they take the place of the caller's.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    /// `If-None-Match`, `If-Modified-Since`, `If-Range`, `Range`.
    pub fields: HeaderMap,
    /// Which conditions those are, so that a 304 can be understood.
    pub conditions: SentConditions,
    /// It asks for the bytes that the stored part lacks, and for nothing else.
    pub completing: bool,
}

/// What to send upstream for `request` with `in_hand` to be validated or completed.
///
/// Without a stored response nothing is conditional: the whole answer is fetched, so that it can be stored and a caller's own
/// condition be judged here. With one, its tag goes exactly as it was received, followed by the caller's own where they
/// differ: if the origin has what the caller has, no body is transferred at all.
#[must_use]
pub fn validation(request: &PresentedRequest, in_hand: Option<&StoredResponse>) -> Sent {
    let Some(stored) = in_hand else { return Sent::default() };
    if stored.range.is_some() {
        return completion(stored);
    }
    let mut sent = Sent::default();
    if let Some(tag) = EntityTag::of_message(stored.fields.get_all(&ETAG)) {
        let mut line = tag.as_bytes().to_vec();
        sent.conditions.own = true;
        // `*` would be answered 304 for whatever there is, and prove nothing.
        if let Some(condition @ EntityTagCondition::Listed(_)) = &request.preconditions.if_none_match {
            for callers_tag in condition.tags().filter(|callers_tag| !callers_tag.matches_weakly(tag)) {
                sent.conditions.callers = true;
                // One line, ours first: there are origins that read only the first tag of a list.
                line.extend_from_slice(b", ");
                line.extend_from_slice(callers_tag.as_bytes());
            }
        }
        if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(line)) {
            sent.fields.insert(IF_NONE_MATCH, value);
        }
    }
    // RFC 9111 §4.3.1: only a valid date may be sent back; a caller's tags would be overruled by nothing it says.
    if let Some(date) = stored.fields.get(&LAST_MODIFIED)
        && http_date::parse(date).is_some()
        && let Ok(value) = HeaderValue::from_bytes(date)
    {
        sent.conditions.own = true;
        sent.fields.insert(IF_MODIFIED_SINCE, value);
    }
    sent
}

/// What to send for a request whose answer is not expected to be storable, where nothing is stored: the caller's own condition.
/// It costs nobody anything then, and spares the body, or what the origin counts (RFC 9111 §4.3.2: a cache without a stored
/// response forwards the request with its conditions).
#[must_use]
pub fn callers_own(request: &PresentedRequest) -> Sent {
    let mut sent = Sent::default();
    let conditions = &request.preconditions;
    // `If-None-Match` beats `If-Modified-Since`; a malformed date is no condition.
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

fn completion(stored: &StoredResponse) -> Sent {
    let mut sent = Sent::default();
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

    fn line(sent: &Sent, name: http::HeaderName) -> Option<&str> {
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
