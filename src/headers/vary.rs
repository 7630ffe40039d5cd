//! `Vary` (RFC 9110 §12.5.5) and the matching of selecting header fields (RFC 9111 §4.1).
//!
//! A `*` in any member of any line selects no request. An absent field differs from a present one, and an empty one
//! equals an empty one. White space and the division into lines separate no variants. For `Accept-Language` and similar
//! fields neither do the order and case of members.
//!
//! A selecting key is a sequence of records, one for each field that `Vary` names, in the order of their names: length
//! and bytes of the name, whether the request had the field, and if so length and bytes of its normalised value.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE, VARY};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::list;

/// The selecting header fields of a stored response (RFC 9111 §4.1): names and normalised values in one byte string.
/// Empty if the response had no `Vary`. Only this module makes and reads it; the store compares it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SelectingKey(pub Bytes);

/// The selecting header fields of `request` under the `Vary` of `response`. Empty if there is no `Vary`. `None` if a
/// member is `*` or not a field name: then it is not known which requests the response may answer.
pub fn selecting_key(response: &HeaderMap, request: &HeaderMap) -> Option<SelectingKey> {
    if !response.contains_key(VARY) {
        return Some(SelectingKey::default());
    }
    let mut names = Vec::new();
    for line in response.get_all(VARY) {
        for member in list::members(line.as_bytes()) {
            if member == b"*" {
                return None;
            }
            names.push(HeaderName::from_bytes(member).ok()?);
        }
    }
    names.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
    names.dedup();
    let mut key = Vec::new();
    for name in &names {
        push_with_length(&mut key, name.as_str().as_bytes());
        match normalised(name, request) {
            None => key.push(0),
            Some(value) => {
                key.push(1);
                push_with_length(&mut key, &value);
            }
        }
    }
    Some(SelectingKey(key.into()))
}

/// Whether `Vary` lets a stored response with this selecting key answer a request with these fields.
pub fn selects(key: &SelectingKey, request: &HeaderMap) -> bool {
    let mut rest: &[u8] = &key.0;
    while !rest.is_empty() {
        if take_record(&mut rest, request) != Some(true) {
            return false;
        }
    }
    true
}

/// The selecting key of a request for a response that names the same fields as `key` does; `None` if `key` names none.
pub fn same_fields(key: &SelectingKey, request: &HeaderMap) -> Option<SelectingKey> {
    let mut response = HeaderMap::new();
    for name in selecting_names(key) {
        response.append(VARY, HeaderValue::from_bytes(name).ok()?);
    }
    if response.is_empty() { None } else { selecting_key(&response, request) }
}

/// The names of the selecting header fields, in the order of the key.
pub fn selecting_names(key: &SelectingKey) -> impl Iterator<Item = &[u8]> {
    let mut rest: &[u8] = &key.0;
    std::iter::from_fn(move || {
        let name = take_with_length(&mut rest)?;
        if take_byte(&mut rest)? == 1 {
            take_with_length(&mut rest)?;
        }
        Some(name)
    })
}

/// Reads one record of a key and says whether the request matches it; `None` if the key is malformed.
fn take_record(rest: &mut &[u8], request: &HeaderMap) -> Option<bool> {
    let name = HeaderName::from_lowercase(take_with_length(rest)?).ok()?;
    if take_byte(rest)? == 0 {
        return Some(!request.contains_key(&name));
    }
    let stored_value = take_with_length(rest)?;
    Some(normalised(&name, request).is_some_and(|value| value == stored_value))
}

/// How the value of a field is normalised: what carries no meaning in it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// Members are trimmed and lines are joined. All other bytes count.
    List,
    /// As `List`, without the white space around parameters (`;q=1` and `; q=1`) and with weights in one form (RFC 9110
    /// §12.4.2).
    Weighted,
    /// As `Weighted`, in lower case.
    CaselessWeighted,
    /// As `CaselessWeighted`, with sorted members: their weights give the preference.
    Unordered,
}

fn meaning_of(name: &HeaderName) -> Meaning {
    match *name {
        ACCEPT => Meaning::Weighted,
        ACCEPT_ENCODING | ACCEPT_CHARSET => Meaning::CaselessWeighted,
        ACCEPT_LANGUAGE => Meaning::Unordered,
        _ => Meaning::List,
    }
}

/// The normalised value of one request field: without white space around members, empty members and the division into
/// lines, and as [`Meaning`] says for fields with a known syntax. `None` if it is absent.
fn normalised<'a>(name: &HeaderName, request: &'a HeaderMap) -> Option<Cow<'a, [u8]>> {
    let mut lines = request.get_all(name).iter();
    let first_line = lines.next()?.as_bytes();
    let meaning = meaning_of(name);
    if lines.next().is_none() && is_normal(first_line, meaning) {
        return Some(Cow::Borrowed(first_line));
    }
    let lines = request.get_all(name).iter();
    let mut members: Vec<Cow<'_, [u8]>> = lines
        .flat_map(|line| list::members(line.as_bytes()))
        .map(|member| normalised_member(member, meaning))
        .collect();
    if meaning == Meaning::Unordered {
        members.sort_unstable();
        members.dedup();
    }
    Some(Cow::Owned(members.join(&b',')))
}

/// Whether a single line is certainly its own normalised value: the common case, decided without allocating.
fn is_normal(line: &[u8], meaning: Meaning) -> bool {
    let plain = |byte: &u8| match byte {
        b',' | b' ' | b'\t' | b'"' => false,
        // A weight may follow.
        b';' => meaning == Meaning::List,
        _ => true,
    };
    let lower =
        matches!(meaning, Meaning::List | Meaning::Weighted) || !line.iter().any(u8::is_ascii_uppercase);
    lower && line.iter().all(plain)
}

fn normalised_member(member: &[u8], meaning: Meaning) -> Cow<'_, [u8]> {
    if meaning == Meaning::List || member.contains(&b'"') {
        return Cow::Borrowed(member);
    }
    let mut parameters: Vec<&[u8]> = member.split(|byte| *byte == b';').map(<[u8]>::trim_ascii).collect();
    // The weight is the last one; a member without it weighs 1.
    if parameters.len() > 1
        && let Some(weight) = parameters.pop()
    {
        parameters.extend(shortest_weight(weight));
    }
    let mut value = parameters.join(&b';');
    if meaning != Meaning::Weighted {
        value.make_ascii_lowercase();
    }
    Cow::Owned(value)
}

/// A weight in its shortest form; `None` for 1, the default (RFC 9110 §12.4.2). A parameter that is not a weight stays
/// as it is.
fn shortest_weight(parameter: &[u8]) -> Option<&[u8]> {
    let [b'q' | b'Q', b'=', digits @ ..] = parameter else { return Some(parameter) };
    let (whole, decimals) = match digits {
        [whole @ (b'0' | b'1')] => (whole, &[][..]),
        [whole @ (b'0' | b'1'), b'.', decimals @ ..] if decimals.len() <= 3 => (whole, decimals),
        _ => return Some(parameter),
    };
    let nonzero = decimals.iter().rposition(|digit| *digit != b'0').map_or(0, |last| last + 1);
    match (*whole, nonzero) {
        (b'1', 0) => None,
        (b'0', 0) => Some(b"q=0"),
        (b'0', _) if decimals.iter().all(u8::is_ascii_digit) => {
            Some(&parameter[..parameter.len() - decimals.len() + nonzero])
        }
        _ => Some(parameter),
    }
}

fn push_with_length(key: &mut Vec<u8>, bytes: &[u8]) {
    // A header section is bounded far below 4 GiB.
    key.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    key.extend_from_slice(bytes);
}

fn take_with_length<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let (bytes, after) = after.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    *rest = after;
    Some(bytes)
}

fn take_byte(rest: &mut &[u8]) -> Option<u8> {
    let (byte, after) = rest.split_first()?;
    *rest = after;
    Some(*byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fields(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    fn same_variant(vary: &str, one: &[(&'static str, &str)], other: &[(&'static str, &str)]) -> bool {
        let vary = fields(&[("vary", vary)]);
        let key = selecting_key(&vary, &fields(one)).unwrap();
        let other_key = selecting_key(&vary, &fields(other)).unwrap();
        let selected = selects(&key, &fields(other));
        assert_eq!(selected, selects(&other_key, &fields(one)), "matching is symmetric");
        assert_eq!(selected, key == other_key, "and the same as equality of keys");
        selected
    }

    #[test]
    fn without_vary_everything_is_selected() {
        let key = selecting_key(&fields(&[]), &fields(&[("foo", "1")])).unwrap();
        assert_eq!(key, SelectingKey::default());
        assert!(selects(&key, &fields(&[("foo", "2")])));
    }

    #[test]
    fn an_asterisk_anywhere_selects_nothing() {
        for vary in [
            &["*"][..],
            &["foo, *"],
            &["*, foo"],
            &["foo", "*"],
            &["*", "foo"],
            &[" , * ,"],
            &["a b"],
            &["foo;x"],
        ] {
            let mut response = HeaderMap::new();
            for line in vary {
                response.append(VARY, line.parse().unwrap());
            }
            assert_eq!(selecting_key(&response, &HeaderMap::new()), None, "{vary:?}");
        }
    }

    #[test]
    fn what_separates_variants() {
        for (vary, one, other) in [
            ("foo", &[("foo", "1")][..], &[("foo", "2")][..]),
            ("foo", &[("foo", "1")], &[]),
            ("foo", &[("foo", "")], &[]),
            ("foo", &[("foo", "")], &[("foo", "1")]),
            ("foo", &[("foo", "a")], &[("foo", "A")]),
            ("foo", &[("foo", "1, 2")], &[("foo", "2, 1")]),
            ("foo", &[("foo", "1 2")], &[("foo", "12")]),
            ("foo", &[("foo", "\"a, b\"")], &[("foo", "\"a,b\"")]),
            ("foo, bar", &[("foo", "1"), ("bar", "2")], &[("foo", "1"), ("bar", "3")]),
            ("foo, bar", &[("foo", "1")], &[("bar", "1")]),
            ("foo, bar", &[("foo", "1,2")], &[("foo", "1"), ("bar", "2")]),
            ("accept", &[("accept", "text/html;x=A")], &[("accept", "text/html;x=a")]),
            ("accept-language", &[("accept-language", "en")], &[("accept-language", "de")]),
            ("accept-language", &[("accept-language", "en, de")], &[("accept-language", "en")]),
            ("accept-language", &[("accept-language", "en;q=0.1")], &[("accept-language", "en;q=0.2")]),
            ("accept-language", &[("accept-language", "en;q=0.01")], &[("accept-language", "en;q=0.1")]),
            ("accept-language", &[("accept-language", "en;q=0")], &[("accept-language", "en")]),
            ("accept-language", &[("accept-language", "en;q=0")], &[("accept-language", "")]),
            (
                "accept-language",
                &[("accept-language", "en;q=0.5, de")],
                &[("accept-language", "en, de;q=0.5")],
            ),
            ("accept-language", &[("accept-language", "e n")], &[("accept-language", "en")]),
            // A malformed weight is compared byte by byte: each origin may read it differently.
            ("accept-language", &[("accept-language", "en;q=1.1")], &[("accept-language", "en")]),
            ("accept-language", &[("accept-language", "en;q=1.0000")], &[("accept-language", "en")]),
            ("accept-language", &[("accept-language", "en;q=0.8x")], &[("accept-language", "en;q=0.8")]),
            ("accept-language", &[("accept-language", "en;q=.8")], &[("accept-language", "en;q=0.8")]),
            ("accept-language", &[("accept-language", "en;q=0.x0")], &[("accept-language", "en;q=0.x")]),
            ("accept-language", &[("accept-language", "en;q=")], &[("accept-language", "en")]),
            ("accept-language", &[("accept-language", "en;")], &[("accept-language", "en")]),
            ("accept", &[("accept", "text/html;q=1;x=1")], &[("accept", "text/html;x=1")]),
            ("foo", &[("foo", "a;q=1")], &[("foo", "a")]),
        ] {
            assert!(!same_variant(vary, one, other), "{vary}: {one:?} {other:?}");
        }
    }

    #[test]
    fn what_does_not_separate_variants() {
        for (vary, one, other) in [
            ("foo", &[("foo", "1")][..], &[("foo", "1"), ("bar", "2")][..]),
            ("Foo", &[("foo", "1")], &[("foo", "1")]),
            ("foo", &[], &[("bar", "2")]),
            ("foo", &[("foo", "")], &[("foo", "")]),
            ("foo", &[("foo", "")], &[("foo", " ,")]),
            ("foo", &[("foo", "1,2")], &[("foo", " 1 , 2 ")]),
            ("foo", &[("foo", "1, 2")], &[("foo", "1"), ("foo", "2")]),
            ("foo", &[("foo", "1,,2")], &[("foo", "1,2")]),
            ("foo, foo", &[("foo", "1")], &[("foo", "1")]),
            ("accept", &[("accept", "text/html;q=1")], &[("accept", "text/html ; q=1")]),
            ("accept-encoding", &[("accept-encoding", "GZIP, br")], &[("accept-encoding", "gzip,br")]),
            ("accept-language", &[("accept-language", "en, de")], &[("accept-language", "de,EN")]),
            (
                "accept-language",
                &[("accept-language", "en;q=0.5, de")],
                &[("accept-language", "de, en; q=0.5")],
            ),
            ("accept-language", &[("accept-language", "en;q=1")], &[("accept-language", "en")]),
            ("accept-language", &[("accept-language", "en;q=1.000")], &[("accept-language", "EN;Q=1.")]),
            ("accept-language", &[("accept-language", "en;q=0.80")], &[("accept-language", "en;q=0.8")]),
            ("accept-language", &[("accept-language", "en;q=0.800")], &[("accept-language", "en ; q=0.8")]),
            ("accept-language", &[("accept-language", "en;q=0.")], &[("accept-language", "en;q=0.000")]),
            (
                "accept-language",
                &[("accept-language", "de;q=0.50, en-GB;q=1.0,*;q=0.1")],
                &[("accept-language", "EN-gb"), ("accept-language", "*; q=0.100, de;q=0.5")],
            ),
            ("accept-encoding", &[("accept-encoding", "gzip;q=1.0")], &[("accept-encoding", "GZIP")]),
            ("accept", &[("accept", "text/html;level=1;q=0.80")], &[("accept", "text/html; level=1; q=0.8")]),
        ] {
            assert!(same_variant(vary, one, other), "{vary}: {one:?} {other:?}");
        }
    }

    #[test]
    fn the_order_of_vary_means_nothing() {
        let request = fields(&[("foo", "1"), ("bar", "2")]);
        let one = selecting_key(&fields(&[("vary", "foo, bar")]), &request);
        let other = selecting_key(&fields(&[("vary", "bar"), ("vary", "FOO")]), &request);
        assert_eq!(one, other);
        let names: Vec<_> = one.iter().flat_map(selecting_names).collect();
        assert_eq!(names, [b"bar", b"foo"]);
    }

    #[test]
    fn a_foreign_key_selects_nothing() {
        for key in
            [&b"\0"[..], b"\0\0\0\x09foo", b"\0\0\0\x03foo", b"\0\0\0\x03FOO\x00", b"\xff\xff\xff\xff\x01"]
        {
            assert!(!selects(&SelectingKey(bytes::Bytes::from_static(key)), &HeaderMap::new()), "{key:?}");
        }
    }

    proptest! {
        #[test]
        fn a_request_selects_what_it_fetched(
            values in prop::collection::vec("[ -~]{0,20}", 0..4),
            vary in prop::sample::select(vec!["foo", "foo, bar", "accept-language, foo", "accept, accept-encoding"]),
        ) {
            let mut request = HeaderMap::new();
            for (value, name) in values.iter().zip(["foo", "accept-language", "foo", "accept-encoding"]) {
                request.append(name, value.parse().unwrap());
            }
            let key = selecting_key(&fields(&[("vary", vary)]), &request).unwrap();
            prop_assert!(selects(&key, &request));
        }

        #[test]
        fn any_key_is_read_without_panic(key in prop::collection::vec(any::<u8>(), 0..60)) {
            let key = SelectingKey(key.into());
            _ = selects(&key, &HeaderMap::new());
            prop_assert!(selecting_names(&key).count() <= 60);
        }
    }
}
