//! Completing a stored part (RFC 9111 §3.3, §3.4). If the first bytes are stored, one `bytes=N-` request brings the
//! rest.

use http::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG};
use http::{HeaderValue, StatusCode};

use super::freshness::directives_in_force;
use super::storable::{NotStored, Storable, storable_representation};
use super::stored_fields::replace_fields;
use super::{ResponseHead, SentRequest};
use crate::config::caching::CachingRules;
use crate::headers::entity_tag::EntityTag;
use crate::headers::range::ContentRange;
use crate::stored_response::StoredResponse;

/// A complete response: a stored part and the 206 that brings the rest.
#[derive(Clone, Debug)]
pub struct Completion {
    /// The head of the complete response: a 200.
    pub head: ResponseHead,
    /// Whether the whole may be stored.
    pub storable: Result<Storable, NotStored>,
}

/// The position of the first missing byte of a stored part, and the strong entity tag for `If-Range`. `None` if the
/// part does not begin at the first byte or has no strong entity tag: such parts cannot be joined (RFC 9111 §3.4).
pub fn completable_from(stored: &StoredResponse) -> Option<(u64, EntityTag<'_>)> {
    let range = stored.range.filter(|range| range.first_byte == 0)?;
    let tag = EntityTag::of_message(stored.fields.get_all(&ETAG)).filter(|tag| !tag.is_weak())?;
    let next_byte = stored.body.len() as u64;
    (0 < next_byte && next_byte < range.complete_length_bytes).then_some((next_byte, tag))
}

/// Joins the stored part in hand with the 206 that brings the rest. `None` if the version or the positions differ.
pub fn complete(asked: &SentRequest<'_>, head: &ResponseHead, rules: &CachingRules) -> Option<Completion> {
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
    Some(Completion { head: whole, storable })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::SentConditions;
    use crate::decide::tests::{get, head, stored, stored_part};
    use crate::sync_token::coverage::Coverage;

    const PART: [(&str, &str); 4] = [
        ("etag", "\"a\""),
        ("cache-control", "max-age=60"),
        ("content-range", "bytes 0-29/100"),
        ("content-length", "30"),
    ];

    fn completed(stored: &StoredResponse, status: u16, lines: &[(&str, &str)]) -> Option<Completion> {
        let request = get(&[]);
        let asked = SentRequest {
            request: &request,
            method: &request.method,
            in_hand: Some(stored),
            conditions: SentConditions::default(),
            completing: true,
            covers: Coverage::default(),
        };
        complete(&asked, &head(status, lines), &CachingRules::rfc9111())
    }

    #[test]
    fn only_a_beginning_with_a_strong_tag_can_be_completed() {
        let weak = [("etag", "W/\"a\""), PART[1]];
        for (response, expected) in [
            (stored_part(0, 30, &PART), Some(30)),
            (stored_part(0, 99, &PART), Some(99)),
            (stored_part(0, 0, &PART), None),
            (stored_part(0, 100, &PART), None),
            (stored_part(1, 30, &PART), None),
            (stored_part(0, 30, &weak), None),
            (stored_part(0, 30, &[PART[1], ("last-modified", "@1000")]), None),
            (stored(200, &PART), None),
        ] {
            assert_eq!(completable_from(&response).map(|(next_byte, _)| next_byte), expected);
        }
    }

    #[test]
    fn the_rest_must_fit() {
        let part = stored_part(0, 30, &PART);
        let rest = ("content-range", "bytes 30-99/100");
        let tag = ("etag", "\"a\"");
        for (status, lines, fits) in [
            (206, &[rest, tag][..], true),
            (200, &[rest, tag], false),
            (206, &[rest], false),
            (206, &[tag], false),
            (206, &[rest, ("etag", "\"b\"")], false),
            (206, &[rest, ("etag", "W/\"a\"")], false),
            (206, &[tag, ("content-range", "bytes 31-99/100")], false),
            (206, &[tag, ("content-range", "bytes 29-99/100")], false),
            (206, &[tag, ("content-range", "bytes 30-98/100")], false),
            (206, &[tag, ("content-range", "bytes 30-99/101")], false),
            (206, &[tag, ("content-range", "bytes 30-99/*")], false),
            (206, &[tag, ("content-range", "bytes */100")], false),
            (206, &[tag, rest, rest], false),
            (416, &[tag, ("content-range", "bytes */20")], false),
        ] {
            assert_eq!(completed(&part, status, lines).is_some(), fits, "{status} {lines:?}");
        }
    }

    #[test]
    fn the_whole_is_a_200_with_the_newest_fields() {
        let part = stored_part(0, 30, &PART);
        let lines = [
            ("etag", "\"a\""),
            ("content-range", "bytes 30-99/100"),
            ("content-length", "70"),
            ("x-new", "1"),
        ];
        let completion = completed(&part, 206, &lines).unwrap();
        assert_eq!(completion.head.status, StatusCode::OK);
        assert_eq!(completion.head.fields.get(CONTENT_RANGE), None);
        assert_eq!(completion.head.fields[CONTENT_LENGTH], "100");
        assert_eq!(completion.head.fields["x-new"], "1");
        let storable = completion.storable.unwrap();
        assert_eq!((storable.range, storable.body_length_bytes), (None, Some(100)));
        let forbidden = [lines[0], lines[1], ("cache-control", "no-store")];
        assert_eq!(completed(&part, 206, &forbidden).unwrap().storable.err(), Some(NotStored::NoStore));
    }
}
