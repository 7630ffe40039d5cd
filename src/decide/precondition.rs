//! Evaluating the caller's conditions against a stored response (RFC 9110 §13.2; RFC 9111 §4.3.2).
//!
//! `If-None-Match` compares weakly over the whole list, `*` included, and wins over `If-Modified-Since`.
//!
//! `If-Match` is not applicable to a cache, which does not know the current state. A mirror does: what it makes is the state of the
//! origin as far as coverage goes, for a 412 as for a 200.

use http::header::{DATE, ETAG, HeaderName, LAST_MODIFIED};
use http::{HeaderValue, StatusCode};

use super::ResponseHead;
use crate::clock::Timestamp;
use crate::headers::conditional::{EntityTagCondition, Preconditions};
use crate::headers::entity_tag::EntityTag;
use crate::headers::http_date;
use crate::presented_request::PresentedRequest;
use crate::stored_response::StoredResponse;

/// What the caller gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evaluation {
    /// The full response.
    Full,
    /// 304: the caller has it already.
    NotModified,
    /// 412: the caller asked for another version.
    Failed,
}

/// Whether a stored response tells the result of a condition that otherwise only the origin can evaluate: it is of a mirror, and
/// `If-Match` is the only condition, in a form that the origin reads alike. App Configuration answers 404 before it looks at conditions.
pub fn tells_if_match(request: &PresentedRequest, stored: &StoredResponse) -> bool {
    let Preconditions { if_match, if_none_match, if_modified_since, if_unmodified_since, if_range: _ } =
        &request.preconditions;
    stored.is_mirrored
        && (if_none_match.is_none() && if_modified_since.is_none() && if_unmodified_since.is_none())
        && if_match.as_ref().is_some_and(EntityTagCondition::is_unambiguous)
        && (stored.status != StatusCode::OK || stored.fields.contains(&ETAG))
}

/// Evaluates the conditions of a caller that is to be answered with this stored response.
///
/// `If-Unmodified-Since` plays no part, and neither does `If-Match` unless [`tells_if_match`]: only the origin knows the current
/// state, so [`reuse`](super::reuse) forwards requests that carry them.
pub fn evaluate(request: &PresentedRequest, stored: &StoredResponse) -> Evaluation {
    let conditions = &request.preconditions;
    let tag = || EntityTag::of_message(stored.fields.get_all(&ETAG));
    if let Some(if_match) = &conditions.if_match
        && stored.status == StatusCode::OK
        && tells_if_match(request, stored)
        && !if_match.matches_strongly(tag())
    {
        return Evaluation::Failed;
    }
    let applies = request.is_retrieval()
        && conditions.is_validating()
        && matches!(stored.status, StatusCode::OK | StatusCode::PARTIAL_CONTENT);
    if !applies {
        return Evaluation::Full;
    }
    compare(conditions, tag, || Some(last_change(stored)))
}

/// The same for an answer that is passed on without being stored. The caller's conditions were not sent upstream,
/// because a 304 could not have been stored for other callers. So they are evaluated here. An answer without a
/// validator is sent in full.
pub fn evaluate_unstored(request: &PresentedRequest, head: &ResponseHead) -> Evaluation {
    let conditions = &request.preconditions;
    if !request.is_retrieval() || !conditions.is_validating() || head.status != StatusCode::OK {
        return Evaluation::Full;
    }
    let tag = || EntityTag::of_message(head.fields.get_all(ETAG).iter().map(HeaderValue::as_bytes));
    compare(conditions, tag, || http_date::parse(head.fields.get(LAST_MODIFIED)?.as_bytes()))
}

/// Compares a caller's conditions with the validators of a response.
fn compare<'a>(
    conditions: &Preconditions,
    tag: impl FnOnce() -> Option<EntityTag<'a>>,
    last_change: impl FnOnce() -> Option<Timestamp>,
) -> Evaluation {
    let is_unchanged = match (&conditions.if_none_match, conditions.if_modified_since) {
        // RFC 9110 §13.2.2: `If-None-Match` wins, even if none of its tags is well-formed.
        (Some(listed), _) => listed.matches_weakly(tag()),
        (None, Some(since)) => last_change().is_some_and(|changed| changed <= since),
        (None, None) => false,
    };
    if is_unchanged { Evaluation::NotModified } else { Evaluation::Full }
}

/// `Last-Modified`, or `Date`, or the time of receipt (RFC 9111 §4.3.2).
fn last_change(stored: &StoredResponse) -> Timestamp {
    date_in(stored, &LAST_MODIFIED).or_else(|| date_in(stored, &DATE)).unwrap_or(stored.response_time)
}

/// The date of a field that has exactly one line: two lines contradict each other.
pub(super) fn date_in(stored: &StoredResponse, name: &HeaderName) -> Option<Timestamp> {
    let mut lines = stored.fields.get_all(name);
    let only_line = lines.next()?;
    if lines.next().is_some() { None } else { http_date::parse(only_line) }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{date, get, request, stored, stored_part};
    use super::*;

    fn is_not_modified(stored_lines: &[(&str, &str)], request_lines: &[(&str, &str)]) -> bool {
        evaluate(&get(request_lines), &stored(200, stored_lines)) == Evaluation::NotModified
    }

    #[test]
    fn without_conditions_the_response_is_full() {
        assert!(!is_not_modified(&[("etag", "\"a\"")], &[]));
        assert!(!is_not_modified(&[("etag", "\"a\"")], &[("if-range", "\"a\"")]));
    }

    #[test]
    fn if_none_match() {
        for (tag, listed, expected) in [
            (r#""a""#, r#""a""#, true),
            (r#""a""#, r#"W/"a""#, true),
            (r#"W/"a""#, r#""a""#, true),
            (r#"W/"a""#, r#"W/"a""#, true),
            (r#""a""#, r#""b""#, false),
            (r#""a""#, r#""b", "c", "a""#, true),
            (r#""a""#, r#""b" ,"a","c""#, true),
            (r#""a""#, "*", true),
            (r#""a""#, "a", false),
            ("a", "a", false),
            ("a", "\"a\"", false),
            (r#""a""#, "", false),
            (r#""A""#, r#""a""#, false),
        ] {
            let found = is_not_modified(&[("etag", tag)], &[("if-none-match", listed)]);
            assert_eq!(found, expected, "{tag} against {listed}");
        }
        assert!(is_not_modified(&[], &[("if-none-match", "*")]));
        assert!(!is_not_modified(&[], &[("if-none-match", "\"a\"")]));
        assert!(is_not_modified(
            &[("etag", "\"b\"")],
            &[("if-none-match", "\"a\""), ("if-none-match", "\"b\"")]
        ));
        assert!(!is_not_modified(&[("etag", "\"a\""), ("etag", "\"b\"")], &[("if-none-match", "\"a\"")]));
    }

    #[test]
    fn if_match_is_told_by_what_a_mirror_made() {
        let made =
            |status, lines: &[(&str, &str)]| StoredResponse { is_mirrored: true, ..stored(status, lines) };
        let tagged = made(200, &[("etag", "\"a\"")]);
        for (lines, expected) in [
            (&[("if-match", "\"a\"")][..], Some(Evaluation::Full)),
            (&[("if-match", "\"b\"")], Some(Evaluation::Failed)),
            (&[("if-match", "*")], Some(Evaluation::Full)),
            (&[("if-match", "W/\"a\"")], None),
            (&[("if-match", "\"*\"")], None),
            (&[("if-match", "\"a\", \"b\"")], None),
            (&[("if-match", "\"b\""), ("if-match", "\"a\"")], None),
            (&[("if-match", "a")], None),
            (&[("if-match", "\"b\""), ("if-none-match", "\"a\"")], None),
            (&[("if-match", "\"b\""), ("if-unmodified-since", &date(1))], None),
        ] {
            let request = get(lines);
            let told = tells_if_match(&request, &tagged).then(|| evaluate(&request, &tagged));
            assert_eq!(told, expected, "{lines:?}");
        }
        let other = get(&[("if-match", "\"b\"")]);
        assert!(!tells_if_match(&other, &stored(200, &[("etag", "\"a\"")])), "not of a mirror");
        assert!(!tells_if_match(&other, &made(200, &[])), "without a tag");
        assert!(tells_if_match(&other, &made(404, &[])));
        assert_eq!(evaluate(&other, &made(404, &[])), Evaluation::Full);
    }

    #[test]
    fn if_modified_since() {
        for (last_modified, since, expected) in
            [(100, 100, true), (100, 50, true), (100, 101, false), (100, 9_999, false)]
        {
            let found = is_not_modified(
                &[("last-modified", &date(last_modified))],
                &[("if-modified-since", &date(since))],
            );
            assert_eq!(found, expected, "modified {last_modified} s ago, asked since {since} s ago");
        }
    }

    #[test]
    fn without_last_modified_the_date_counts_then_the_receipt() {
        assert!(is_not_modified(&[("date", &date(100))], &[("if-modified-since", &date(100))]));
        assert!(!is_not_modified(&[("date", &date(100))], &[("if-modified-since", &date(101))]));
        assert!(is_not_modified(&[], &[("if-modified-since", &date(0))]));
        assert!(!is_not_modified(&[], &[("if-modified-since", &date(1))]));
        let twice = date(100);
        let lines = [("last-modified", twice.as_str()), ("last-modified", &twice), ("date", &twice)];
        assert!(is_not_modified(&lines, &[("if-modified-since", &twice)]));
    }

    #[test]
    fn all_three_date_forms_are_understood() {
        let stored_lines = [("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT")];
        for since in
            ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
        {
            assert!(is_not_modified(&stored_lines, &[("if-modified-since", since)]), "{since}");
        }
        assert!(!is_not_modified(&stored_lines, &[("if-modified-since", "Sun, 6 Nov 1994 08:49:37 GMT")]));
    }

    #[test]
    fn if_none_match_beats_if_modified_since() {
        let stored_lines = [("etag", "\"a\""), ("last-modified", &*date(100))];
        let both = |listed, since: i64| {
            is_not_modified(&stored_lines, &[("if-none-match", listed), ("if-modified-since", &date(since))])
        };
        assert!(both("\"a\"", 200));
        assert!(!both("\"b\"", 50));
        assert!(!both("garbage", 50));
    }

    #[test]
    fn only_200_and_206_can_be_unchanged() {
        for (status, expected) in
            [(200, true), (203, false), (301, false), (404, false), (410, false), (500, false)]
        {
            let found = evaluate(&get(&[("if-none-match", "*")]), &stored(status, &[("etag", "\"a\"")]));
            assert_eq!(found == Evaluation::NotModified, expected, "{status}");
        }
        let part = stored_part(0, 10, &[("etag", "\"a\"")]);
        assert_eq!(evaluate(&get(&[("if-none-match", "\"a\"")]), &part), Evaluation::NotModified);
    }

    #[test]
    fn only_retrievals_can_be_unchanged() {
        let stored = stored(200, &[("etag", "\"a\"")]);
        let lines = [("if-none-match", "\"a\"")];
        assert_eq!(evaluate(&request("HEAD", &lines), &stored), Evaluation::NotModified);
        assert_eq!(evaluate(&request("POST", &lines), &stored), Evaluation::Full);
    }
}
