//! The packed head of a stored response: every field line in one allocation.
//!
//! A `HeaderMap` costs about 1,900 bytes for each stored response. Packed, a typical head costs its values and two
//! bytes for each field. Unpacking shares the values, so a hit copies no byte of them.

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::well_known;

/// Replaces the code of a name that is spelled out.
pub(super) const LITERAL_NAME: u8 = 0xff;

/// The header fields of a stored response, packed into one allocation instead of a `HeaderMap`.
///
/// A sequence of records. Each record has the code of a well-known name, or `LITERAL_NAME` with the length and the
/// bytes of the name; then the length and the bytes of the value. Lengths are in LEB128. Lines of one name keep their
/// order. Values may contain any byte that RFC 9110 §5.5 allows, obs-text included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredFields {
    packed: Bytes,
}

impl StoredFields {
    /// Packs every line of `fields`.
    pub fn pack(fields: &HeaderMap) -> Self {
        let mut packed =
            Vec::with_capacity(fields.iter().map(|(name, value)| record_bytes(name, value)).sum());
        for (name, value) in fields {
            if let Some(code) = well_known::code_of(name) {
                packed.push(code);
            } else {
                packed.push(LITERAL_NAME);
                push_with_length(&mut packed, name.as_str().as_bytes());
            }
            push_with_length(&mut packed, value.as_bytes());
        }
        Self { packed: packed.into() }
    }

    /// The value of the first line of that name.
    pub fn get(&self, name: &HeaderName) -> Option<&[u8]> {
        self.records().find(|record| record.name.is(name)).map(|record| record.value)
    }

    /// The values of all lines of that name, in order.
    pub fn get_all<'a>(&'a self, name: &'a HeaderName) -> impl Iterator<Item = &'a [u8]> {
        self.records().filter(move |record| record.name.is(name)).map(|record| record.value)
    }

    /// Whether there is a line of that name.
    pub fn contains(&self, name: &HeaderName) -> bool {
        self.get(name).is_some()
    }

    /// All lines, grouped by name in the order of the packed `HeaderMap`.
    pub fn iter(&self) -> impl Iterator<Item = (HeaderName, &[u8])> {
        self.records().filter_map(|record| Some((record.name.to_header_name()?, record.value)))
    }

    /// Appends every line to `fields`; the values are slices of the packed head, not copies.
    pub fn write_into(&self, fields: &mut HeaderMap) {
        self.write_those_into(fields, |_| true);
    }

    /// Appends to `fields` the lines whose name `wanted` accepts; the values are slices of the packed head, not copies.
    pub fn write_those_into(&self, fields: &mut HeaderMap, mut wanted: impl FnMut(&HeaderName) -> bool) {
        for record in self.records() {
            // Both conversions succeed, because every packed line comes from a `HeaderMap`.
            if let Some(name) = record.name.to_header_name()
                && wanted(&name)
                && let Ok(value) = HeaderValue::from_maybe_shared(self.packed.slice_ref(record.value))
                && fields.try_append(name, value).is_err()
            {
                return;
            }
        }
    }

    /// All lines as a `HeaderMap`, for rules that change them. Pack the result again.
    pub fn to_header_map(&self) -> HeaderMap {
        let mut fields = HeaderMap::with_capacity(self.len());
        self.write_into(&mut fields);
        fields
    }

    /// Number of field lines.
    pub fn len(&self) -> usize {
        self.records().count()
    }

    /// Whether there is no line.
    pub fn is_empty(&self) -> bool {
        self.packed.is_empty()
    }

    /// Size of the packed head in bytes.
    pub fn len_bytes(&self) -> usize {
        self.packed.len()
    }

    /// The packed bytes, for a caller that moves them to another allocation.
    pub(crate) const fn as_packed(&self) -> &Bytes {
        &self.packed
    }

    /// A head from the bytes of [`Self::as_packed`].
    pub(crate) const fn from_packed(packed: Bytes) -> Self {
        Self { packed }
    }

    fn records(&self) -> Records<'_> {
        Records { rest: &self.packed }
    }
}

impl From<&HeaderMap> for StoredFields {
    fn from(fields: &HeaderMap) -> Self {
        Self::pack(fields)
    }
}

/// The field name of a record.
#[derive(Clone, Copy)]
enum PackedName<'a> {
    WellKnown(&'static HeaderName),
    Literal(&'a [u8]),
}

impl PackedName<'_> {
    fn is(self, name: &HeaderName) -> bool {
        match self {
            Self::WellKnown(known) => known == name,
            Self::Literal(bytes) => bytes == name.as_str().as_bytes(),
        }
    }

    fn to_header_name(self) -> Option<HeaderName> {
        match self {
            Self::WellKnown(known) => Some(known.clone()),
            Self::Literal(bytes) => HeaderName::from_lowercase(bytes).ok(),
        }
    }
}

struct Record<'a> {
    name: PackedName<'a>,
    value: &'a [u8],
}

struct Records<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    #[inline]
    fn next(&mut self) -> Option<Record<'a>> {
        let (&code, rest) = self.rest.split_first()?;
        self.rest = rest;
        let name = if code == LITERAL_NAME {
            PackedName::Literal(take_with_length(&mut self.rest)?)
        } else {
            PackedName::WellKnown(well_known::name_of(code)?)
        };
        Some(Record { name, value: take_with_length(&mut self.rest)? })
    }
}

/// The exact size of a record, so that packing allocates once and leaves no spare capacity.
fn record_bytes(name: &HeaderName, value: &HeaderValue) -> usize {
    let name_bytes = match well_known::code_of(name) {
        Some(_) => 0,
        None => length_bytes(name.as_str().len()) + name.as_str().len(),
    };
    1 + name_bytes + length_bytes(value.len()) + value.len()
}

/// The size of a length in LEB128: seven bits in each byte.
const fn length_bytes(length: usize) -> usize {
    let bits = usize::BITS - length.leading_zeros();
    if bits == 0 { 1 } else { bits.div_ceil(7) as usize }
}

fn push_with_length(packed: &mut Vec<u8>, bytes: &[u8]) {
    let mut length = bytes.len();
    while length >= 0x80 {
        packed.push(low_seven_bits(length) | 0x80);
        length >>= 7;
    }
    packed.push(low_seven_bits(length));
    packed.extend_from_slice(bytes);
}

const fn low_seven_bits(length: usize) -> u8 {
    length.to_le_bytes()[0] & 0x7f
}

#[inline]
fn take_with_length<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let mut length = 0_usize;
    let mut shift = 0_u32;
    loop {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        length |= usize::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            break;
        }
        shift += 7;
    }
    let (bytes, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use http::header;
    use proptest::prelude::*;

    use super::*;

    fn map(lines: &[(&str, &[u8])]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
            fields.append(name, HeaderValue::from_bytes(value).expect("a value"));
        }
        fields
    }

    #[test]
    fn lines_of_one_name_keep_their_order() {
        let fields = map(&[
            ("link", b"<a>; rel=next"),
            ("etag", b"\"1\""),
            ("link", b"<b>; rel=last"),
            ("x-strange", b"1"),
            ("x-strange", b""),
        ]);
        let packed = StoredFields::pack(&fields);
        assert_eq!(packed.get(&header::LINK), Some(&b"<a>; rel=next"[..]));
        let links: Vec<_> = packed.get_all(&header::LINK).collect();
        assert_eq!(links, [&b"<a>; rel=next"[..], b"<b>; rel=last"]);
        let strange: Vec<_> =
            packed.get_all(&HeaderName::from_static("x-strange")).map(<[u8]>::to_vec).collect();
        assert_eq!(strange, [b"1".to_vec(), Vec::new()]);
        assert_eq!(packed.len(), 5);
        assert_eq!(packed.to_header_map(), fields);
    }

    #[test]
    fn an_absent_name_has_no_value() {
        let packed = StoredFields::pack(&map(&[("etag", b"\"1\""), ("x-strange", b"etag")]));
        assert!(packed.contains(&header::ETAG));
        assert!(!packed.contains(&header::DATE));
        assert!(!packed.contains(&HeaderName::from_static("x-strang")));
        assert!(StoredFields::default().is_empty());
        assert_eq!(StoredFields::default().to_header_map(), HeaderMap::new());
    }

    #[test]
    fn a_typical_head_costs_its_values_and_two_bytes_a_field() {
        let packed = StoredFields::pack(&map(&[("content-type", b"application/json"), ("etag", b"\"abc\"")]));
        assert_eq!(packed.len_bytes(), 16 + 5 + 2 * 2);
    }

    #[test]
    fn unpacking_copies_no_value() {
        let packed = StoredFields::pack(&map(&[("content-type", b"application/json")]));
        let fields = packed.to_header_map();
        let held = packed.packed.as_ptr_range();
        assert!(held.contains(&fields[header::CONTENT_TYPE].as_bytes().as_ptr()));
    }

    #[test]
    fn unwanted_names_are_left_out() {
        let packed = StoredFields::pack(&map(&[("age", b"3"), ("date", b"x"), ("age", b"4")]));
        let mut fields = map(&[("via", b"1.1 tagalong")]);
        packed.write_those_into(&mut fields, |name| name != header::AGE);
        assert_eq!(fields, map(&[("via", b"1.1 tagalong"), ("date", b"x")]));
    }

    #[test]
    fn encoded_lengths_have_the_computed_size() {
        for length in [0, 1, 127, 128, 16_383, 16_384, 70_000] {
            let fields = map(&[("x-long", &vec![b'a'; length])]);
            let packed = StoredFields::pack(&fields);
            let name_bytes = 1 + 1 + "x-long".len();
            assert_eq!(packed.len_bytes(), name_bytes + length_bytes(length) + length, "{length}");
            assert_eq!(packed.to_header_map(), fields, "{length}");
        }
    }

    fn name() -> impl Strategy<Value = String> {
        prop_oneof![
            Just("content-type".to_owned()),
            Just("set-cookie".to_owned()),
            Just("sync-token".to_owned()),
            "[a-z0-9!#$%&'*+.^_`|~-]{1,200}",
        ]
    }

    fn value() -> impl Strategy<Value = Vec<u8>> {
        // Every byte that a `HeaderValue` may contain: HTAB, visible ASCII, space, obs-text (RFC 9110 §5.5).
        let byte = prop_oneof![Just(b'\t'), 0x20_u8..=0x7e, 0x80_u8..=0xff];
        proptest::collection::vec(byte, 0..300)
    }

    proptest! {
        #[test]
        fn packed_fields_unpack_unchanged(lines in proptest::collection::vec((name(), value()), 0..40)) {
            let lines: Vec<(&str, &[u8])> = lines.iter().map(|(name, value)| (name.as_str(), &value[..])).collect();
            let fields = map(&lines);
            let packed = StoredFields::pack(&fields);
            prop_assert_eq!(&packed.to_header_map(), &fields);
            prop_assert_eq!(packed.len(), fields.len());
            for name in fields.keys() {
                let ours: Vec<_> = packed.get_all(name).collect();
                let theirs: Vec<_> = fields.get_all(name).iter().map(HeaderValue::as_bytes).collect();
                prop_assert_eq!(ours, theirs);
            }
            let listed: Vec<_> = packed.iter().map(|(name, value)| (name, value.to_vec())).collect();
            let expected: Vec<_> = fields.iter().map(|(name, value)| (name.clone(), value.as_bytes().to_vec())).collect();
            prop_assert_eq!(listed, expected);
        }

        #[test]
        fn cut_or_random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = StoredFields { packed: bytes.into() }.to_header_map();
        }
    }
}
