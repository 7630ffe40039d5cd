//! Which bytes of a stored response answer a request with `Range` (RFC 9110 §14.2).
//!
//! A single byte range is cut from a complete stored response, or from a stored part that contains it. `If-Range` that
//! does not hold makes the range ignored (RFC 9110 §13.1.5). [`complete`](super::complete) completes a stored part.

use http::header::{DATE, ETAG, LAST_MODIFIED};
use http::{Method, StatusCode};

use super::precondition::date_in;
use crate::headers::conditional::IfRange;
use crate::headers::entity_tag::EntityTag;
use crate::presented_request::PresentedRequest;
use crate::stored_response::StoredResponse;

/// Which bytes of the representation the caller gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selected {
    /// All of it, with the stored status.
    Whole,
    /// 206: the bytes from `first` to `last`, both inclusive.
    Part {
        /// Position of the first byte in the representation.
        first: u64,
        /// Position of the last byte in the representation.
        last: u64,
        /// Length of the representation.
        complete_length_bytes: u64,
    },
    /// 416: no byte of the range exists.
    Unsatisfiable {
        /// Length of the representation.
        complete_length_bytes: u64,
    },
}

/// Which bytes a request gets of a stored response; `None` if bytes that it asks for are not stored. Conditions come
/// first: see [`precondition`](super::precondition).
pub fn select(request: &PresentedRequest, stored: &StoredResponse) -> Option<Selected> {
    let held_bytes = stored.body.len() as u64;
    let (first_held, complete_length_bytes) = match stored.range {
        Some(range) => (range.first_byte, range.complete_length_bytes),
        None => (0, held_bytes),
    };
    let holds_all = stored.range.is_none();
    let can_be_cut = request.method == Method::GET && (stored.status == StatusCode::OK || !holds_all);
    let range = request.range.filter(|_| can_be_cut && if_range_holds(request, stored));
    let Some(range) = range else { return holds_all.then_some(Selected::Whole) };
    let Some((first, last)) = range.positions(complete_length_bytes) else {
        // The length is known: either the whole is stored, or the origin stated it in `Content-Range`.
        return Some(Selected::Unsatisfiable { complete_length_bytes });
    };
    let is_held = first_held <= first && last - first_held < held_bytes;
    is_held.then_some(Selected::Part { first, last, complete_length_bytes })
}

/// Whether `If-Range` names this version (RFC 9110 §13.1.5). If not, the range is ignored.
fn if_range_holds(request: &PresentedRequest, stored: &StoredResponse) -> bool {
    match &request.preconditions.if_range {
        None => true,
        Some(IfRange::Tag(tag)) => {
            let current = EntityTag::of_message(stored.fields.get_all(&ETAG));
            EntityTag::parse(tag.as_bytes())
                .zip(current)
                .is_some_and(|(tag, current)| tag.matches_strongly(current))
        }
        Some(IfRange::Date(date)) => {
            // RFC 9110 §8.8.2.2: a date is a strong validator only if the response was sent at least a second after it.
            let last_modified = date_in(stored, &LAST_MODIFIED);
            let sent = date_in(stored, &DATE);
            last_modified == Some(*date) && sent.is_some_and(|sent| sent > *date)
        }
        Some(IfRange::Invalid) => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{date, get, request, stored, stored_part};
    use super::*;

    /// The whole has ten bytes.
    fn selected(stored_lines: &[(&str, &str)], request_lines: &[(&str, &str)]) -> Option<Selected> {
        select(&get(request_lines), &stored(200, stored_lines))
    }

    const fn part_of(first: u64, last: u64, complete_length_bytes: u64) -> Option<Selected> {
        Some(Selected::Part { first, last, complete_length_bytes })
    }

    const fn unsatisfiable(complete_length_bytes: u64) -> Option<Selected> {
        Some(Selected::Unsatisfiable { complete_length_bytes })
    }

    #[test]
    fn a_whole_is_cut() {
        for (range, expected) in [
            ("bytes=0-4", part_of(0, 4, 10)),
            ("bytes=5-", part_of(5, 9, 10)),
            ("bytes=-3", part_of(7, 9, 10)),
            ("bytes=0-", part_of(0, 9, 10)),
            ("bytes=9-99", part_of(9, 9, 10)),
            ("bytes=-99", part_of(0, 9, 10)),
            ("bytes=10-", unsatisfiable(10)),
            ("bytes=-0", unsatisfiable(10)),
            ("bytes=18446744073709551610-18446744073709551620", unsatisfiable(10)),
            ("bytes=0-1,3-4", Some(Selected::Whole)),
            ("items=0-1", Some(Selected::Whole)),
            ("bytes=", Some(Selected::Whole)),
        ] {
            assert_eq!(selected(&[], &[("range", range)]), expected, "{range}");
        }
        assert_eq!(selected(&[], &[]), Some(Selected::Whole));
    }

    #[test]
    fn only_get_of_a_200_is_cut() {
        let range = [("range", "bytes=0-4")];
        assert_eq!(select(&request("HEAD", &range), &stored(200, &[])), Some(Selected::Whole));
        for status in [203, 301, 404, 500] {
            assert_eq!(select(&get(&range), &stored(status, &[])), Some(Selected::Whole), "{status}");
        }
    }

    #[test]
    fn if_range_by_tag_is_strong() {
        for (tag, if_range, cut) in [
            (r#""a""#, r#""a""#, true),
            (r#""a""#, r#""b""#, false),
            (r#"W/"a""#, r#"W/"a""#, false),
            (r#"W/"a""#, r#""a""#, false),
            (r#""a""#, r#"W/"a""#, false),
            (r#""a""#, "a", false),
            (r#""a""#, "*", false),
        ] {
            let found = selected(&[("etag", tag)], &[("range", "bytes=0-4"), ("if-range", if_range)]);
            let expected = if cut { part_of(0, 4, 10) } else { Some(Selected::Whole) };
            assert_eq!(found, expected, "{tag} against {if_range}");
        }
        let no_tag = selected(&[], &[("range", "bytes=0-4"), ("if-range", "\"a\"")]);
        assert_eq!(no_tag, Some(Selected::Whole));
        let unsatisfiable_but_changed =
            selected(&[("etag", "\"b\"")], &[("range", "bytes=99-"), ("if-range", "\"a\"")]);
        assert_eq!(unsatisfiable_but_changed, Some(Selected::Whole));
    }

    #[test]
    fn if_range_by_date_is_exact_and_strong() {
        for (last_modified, sent, if_range, cut) in [
            (100, 50, 100, true),
            (100, 99, 100, true),
            (100, 100, 100, false),
            (100, 101, 100, false),
            (100, 50, 99, false),
            (100, 50, 101, false),
        ] {
            let (last_modified, sent) = (date(last_modified), date(sent));
            let stored_lines = [("last-modified", last_modified.as_str()), ("date", &sent)];
            let found = selected(&stored_lines, &[("range", "bytes=0-4"), ("if-range", &date(if_range))]);
            assert_eq!(found == part_of(0, 4, 10), cut, "{last_modified} {sent} {if_range}");
        }
    }

    #[test]
    fn a_part_answers_for_the_bytes_it_holds() {
        let part = stored_part(20, 30, &[("etag", "\"a\"")]);
        for (range, expected) in [
            ("bytes=20-49", part_of(20, 49, 100)),
            ("bytes=20-20", part_of(20, 20, 100)),
            ("bytes=49-49", part_of(49, 49, 100)),
            ("bytes=30-40", part_of(30, 40, 100)),
            ("bytes=19-20", None),
            ("bytes=49-50", None),
            ("bytes=20-", None),
            ("bytes=-1", None),
            ("bytes=0-0", None),
            ("bytes=100-", unsatisfiable(100)),
        ] {
            assert_eq!(select(&get(&[("range", range)]), &part), expected, "{range}");
        }
        assert_eq!(select(&get(&[]), &part), None);
        assert_eq!(select(&request("HEAD", &[("range", "bytes=20-21")]), &part), None);
        assert_eq!(select(&get(&[("range", "bytes=20-21"), ("if-range", "\"b\"")]), &part), None);
        let end = stored_part(90, 10, &[]);
        assert_eq!(select(&get(&[("range", "bytes=-10")]), &end), part_of(90, 99, 100));
        assert_eq!(select(&get(&[("range", "bytes=95-")]), &end), part_of(95, 99, 100));
        assert_eq!(select(&get(&[("range", "bytes=-11")]), &end), None);
    }

    proptest! {
        #[test]
        fn selected_bytes_are_held(first in 0_u64..120, length in 1_usize..60, from in 0_u64..120, to in 0_u64..140) {
            prop_assume!(first + length as u64 <= 100);
            let part = stored_part(first, length, &[]);
            let range = format!("bytes={from}-{to}");
            if let Some(Selected::Part { first: one, last, .. }) = select(&get(&[("range", &range)]), &part) {
                prop_assert!(first <= one && one <= last && last < first + length as u64);
            }
        }
    }
}
