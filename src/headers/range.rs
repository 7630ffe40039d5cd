//! `Range` and `Content-Range` (RFC 9110 §14): single byte ranges. Only the origin answers other units and several
//! ranges.

use std::fmt;

use http::header::RANGE;
use http::{HeaderMap, HeaderValue};

/// One byte range as requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeRequest {
    /// `bytes=FIRST-` or `bytes=FIRST-LAST`: positions, both inclusive.
    From {
        /// Position of the first byte.
        first: u64,
        /// Position of the last byte; `None` asks for the rest.
        last: Option<u64>,
    },
    /// `bytes=-LENGTH`: the last bytes of the representation.
    Suffix {
        /// How many bytes.
        length_bytes: u64,
    },
}

/// The meaning of a request's `Range` field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeField {
    /// There is none.
    Absent,
    /// One byte range, which a cache may answer.
    Single(RangeRequest),
    /// Of another unit or with several ranges: only the origin can answer it.
    Unsupported,
    /// Malformed. A server may ignore it (RFC 9110 §14.2): it is neither evaluated nor forwarded.
    Malformed,
}

impl RangeField {
    /// Reads the field of a request.
    pub fn from_fields(fields: &HeaderMap) -> Self {
        let mut lines = fields.get_all(RANGE).iter();
        match (lines.next(), lines.next()) {
            (None, _) => Self::Absent,
            (Some(line), None) => Self::parse(line.as_bytes()),
            (Some(_), Some(_)) => Self::Malformed,
        }
    }

    /// Reads one value. Positions saturate at the largest number, which is past the end of every representation.
    pub fn parse(value: &[u8]) -> Self {
        let Some(equals) = value.iter().position(|byte| *byte == b'=') else { return Self::Malformed };
        let (unit, set) = (&value[..equals], &value[equals + 1..]);
        if !unit.eq_ignore_ascii_case(b"bytes") {
            let is_token = !unit.is_empty() && unit.iter().all(|byte| byte.is_ascii_graphic());
            return if is_token { Self::Unsupported } else { Self::Malformed };
        }
        let mut ranges =
            set.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|one| !one.is_empty());
        match (ranges.next().map(parse_byte_range), ranges.next()) {
            (Some(Some(range)), None) => Self::Single(range),
            (Some(Some(_)), Some(_)) => Self::Unsupported,
            _ => Self::Malformed,
        }
    }
}

fn parse_byte_range(range: &[u8]) -> Option<RangeRequest> {
    let dash = range.iter().position(|byte| *byte == b'-')?;
    let (first, last) = (&range[..dash], &range[dash + 1..]);
    if first.is_empty() {
        return Some(RangeRequest::Suffix { length_bytes: digits(last)? });
    }
    let first = digits(first)?;
    if last.is_empty() {
        return Some(RangeRequest::From { first, last: None });
    }
    let last = digits(last)?;
    (first <= last).then_some(RangeRequest::From { first, last: Some(last) })
}

/// One or more digits, saturating.
fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |number, byte| {
        byte.is_ascii_digit().then(|| number.saturating_mul(10).saturating_add(u64::from(byte - b'0')))
    })
}

impl RangeRequest {
    /// The first and last position, inclusive, of the range in a representation of this length. `None` if it is
    /// unsatisfiable (RFC 9110 §14.1.2).
    pub fn positions(self, complete_length_bytes: u64) -> Option<(u64, u64)> {
        let end = complete_length_bytes.checked_sub(1)?;
        match self {
            Self::From { first, last } => {
                (first <= end).then(|| (first, last.map_or(end, |last| last.min(end))))
            }
            Self::Suffix { length_bytes: 0 } => None,
            Self::Suffix { length_bytes } => Some((complete_length_bytes.saturating_sub(length_bytes), end)),
        }
    }
}

impl fmt::Display for RangeRequest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::From { first, last: None } => write!(out, "bytes={first}-"),
            Self::From { first, last: Some(last) } => write!(out, "bytes={first}-{last}"),
            Self::Suffix { length_bytes } => write!(out, "bytes=-{length_bytes}"),
        }
    }
}

/// `Content-Range` in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentRange {
    /// `bytes FIRST-LAST/COMPLETE`: which bytes a 206 holds, both positions inclusive.
    Part {
        /// Position of the first byte.
        first: u64,
        /// Position of the last byte.
        last: u64,
        /// Length of the complete representation; `None` for `*`, unknown.
        complete_length_bytes: Option<u64>,
    },
    /// `bytes */COMPLETE`: what a 416 says.
    Unsatisfied {
        /// Length of the complete representation.
        complete_length_bytes: u64,
    },
}

impl ContentRange {
    /// Reads a field value. `None` if it is malformed, of another unit, contradictory, or too large. Numbers are exact:
    /// they describe stored bytes.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let space = value.iter().position(|byte| *byte == b' ')?;
        let (unit, rest) = (&value[..space], &value[space + 1..]);
        if !unit.eq_ignore_ascii_case(b"bytes") {
            return None;
        }
        let slash = rest.iter().position(|byte| *byte == b'/')?;
        let (range, complete) = (&rest[..slash], &rest[slash + 1..]);
        let complete_length_bytes = if complete == b"*" { None } else { Some(exact_digits(complete)?) };
        if range == b"*" {
            return complete_length_bytes
                .map(|complete_length_bytes| Self::Unsatisfied { complete_length_bytes });
        }
        let dash = range.iter().position(|byte| *byte == b'-')?;
        let (first, last) = (exact_digits(&range[..dash])?, exact_digits(&range[dash + 1..])?);
        let is_consistent = first <= last && complete_length_bytes.is_none_or(|complete| last < complete);
        is_consistent.then_some(Self::Part { first, last, complete_length_bytes })
    }

    /// The field value.
    #[expect(clippy::expect_used, reason = "digits, letters and punctuation only")]
    pub fn to_header_value(self) -> HeaderValue {
        HeaderValue::from_maybe_shared(bytes::Bytes::from(self.to_string())).expect("a valid field value")
    }
}

impl fmt::Display for ContentRange {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Part { first, last, complete_length_bytes: Some(complete) } => {
                write!(out, "bytes {first}-{last}/{complete}")
            }
            Self::Part { first, last, complete_length_bytes: None } => write!(out, "bytes {first}-{last}/*"),
            Self::Unsatisfied { complete_length_bytes } => write!(out, "bytes */{complete_length_bytes}"),
        }
    }
}

fn exact_digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn from(first: u64, last: Option<u64>) -> RangeField {
        RangeField::Single(RangeRequest::From { first, last })
    }

    const fn suffix(length_bytes: u64) -> RangeField {
        RangeField::Single(RangeRequest::Suffix { length_bytes })
    }

    #[test]
    fn range_values() {
        for (value, expected) in [
            ("bytes=0-4", from(0, Some(4))),
            ("bytes=0-0", from(0, Some(0))),
            ("bytes=5-", from(5, None)),
            ("bytes=-5", suffix(5)),
            ("bytes=-0", suffix(0)),
            ("BYTES=0-4", from(0, Some(4))),
            ("bytes= 0-4 ", from(0, Some(4))),
            ("bytes=,0-4,", from(0, Some(4))),
            ("bytes=007-009", from(7, Some(9))),
            ("bytes=18446744073709551610-18446744073709551620", from(u64::MAX - 5, Some(u64::MAX))),
            ("bytes=99999999999999999999999-", from(u64::MAX, None)),
            ("bytes=-99999999999999999999999", suffix(u64::MAX)),
            ("bytes=0-4,6-8", RangeField::Unsupported),
            ("bytes=0-4, -1", RangeField::Unsupported),
            ("items=0-2", RangeField::Unsupported),
            ("seconds=0-2", RangeField::Unsupported),
            ("", RangeField::Malformed),
            ("bytes", RangeField::Malformed),
            ("bytes=", RangeField::Malformed),
            ("bytes=,", RangeField::Malformed),
            ("bytes=-", RangeField::Malformed),
            ("bytes=5-4", RangeField::Malformed),
            ("bytes=a-b", RangeField::Malformed),
            ("bytes=0 - 4", RangeField::Malformed),
            ("bytes=0-4-5", RangeField::Malformed),
            ("bytes=+0-4", RangeField::Malformed),
            ("bytes=--4", RangeField::Malformed),
            ("bytes 0-4", RangeField::Malformed),
            ("=0-4", RangeField::Malformed),
            ("bytes =0-4", RangeField::Malformed),
        ] {
            assert_eq!(RangeField::parse(value.as_bytes()), expected, "{value}");
        }
    }

    #[test]
    fn two_lines_are_malformed() {
        let mut fields = HeaderMap::new();
        assert_eq!(RangeField::from_fields(&fields), RangeField::Absent);
        fields.append(RANGE, HeaderValue::from_static("bytes=0-1"));
        assert_eq!(RangeField::from_fields(&fields), from(0, Some(1)));
        fields.append(RANGE, HeaderValue::from_static("bytes=0-1"));
        assert_eq!(RangeField::from_fields(&fields), RangeField::Malformed);
    }

    #[test]
    fn positions_within_a_representation() {
        let of = |value: &str, length| match RangeField::parse(value.as_bytes()) {
            RangeField::Single(range) => range.positions(length),
            other => panic!("{value} is {other:?}"),
        };
        for (value, length, expected) in [
            ("bytes=0-4", 10, Some((0, 4))),
            ("bytes=0-9", 10, Some((0, 9))),
            ("bytes=0-99", 10, Some((0, 9))),
            ("bytes=9-", 10, Some((9, 9))),
            ("bytes=10-", 10, None),
            ("bytes=10-20", 10, None),
            ("bytes=-3", 10, Some((7, 9))),
            ("bytes=-10", 10, Some((0, 9))),
            ("bytes=-99", 10, Some((0, 9))),
            ("bytes=-0", 10, None),
            ("bytes=0-0", 1, Some((0, 0))),
            ("bytes=0-0", 0, None),
            ("bytes=0-", 0, None),
            ("bytes=-1", 0, None),
            ("bytes=18446744073709551610-18446744073709551620", 10, None),
        ] {
            assert_eq!(of(value, length), expected, "{value} of {length}");
        }
    }

    #[test]
    fn content_range_values() {
        let part = |first, last, complete_length_bytes| {
            Some(ContentRange::Part { first, last, complete_length_bytes })
        };
        for (value, expected) in [
            ("bytes 0-4/10", part(0, 4, Some(10))),
            ("bytes 5-9/10", part(5, 9, Some(10))),
            ("BYTES 5-9/10", part(5, 9, Some(10))),
            ("bytes 5-9/*", part(5, 9, None)),
            ("bytes */10", Some(ContentRange::Unsatisfied { complete_length_bytes: 10 })),
            ("bytes */*", None),
            ("bytes 5-10/10", None),
            ("bytes 9-5/10", None),
            ("bytes=5-9/10", None),
            ("bytes 5-9", None),
            ("bytes  5-9/10", None),
            ("bytes 5-/10", None),
            ("bytes -9/10", None),
            ("bytes 5-9/", None),
            ("bytes 5-9/10 ", None),
            ("bytes 0-18446744073709551616/*", None),
            ("items 0-2/80", None),
            ("", None),
        ] {
            assert_eq!(ContentRange::parse(value.as_bytes()), expected, "{value}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(value in proptest::collection::vec(any::<u8>(), 0..40), length: u64) {
            if let RangeField::Single(range) = RangeField::parse(&value) {
                let _ = range.positions(length);
            }
            let _ = ContentRange::parse(&value);
        }

        #[test]
        fn ranges_are_read_back(first: u64, length: Option<u32>) {
            let range = RangeRequest::From { first, last: length.map(|length| first.saturating_add(length.into())) };
            prop_assert_eq!(RangeField::parse(range.to_string().as_bytes()), RangeField::Single(range));
        }

        #[test]
        fn positions_lie_inside(first: u64, last: Option<u64>, suffix: bool, length: u64) {
            let range = if suffix {
                RangeRequest::Suffix { length_bytes: first }
            } else {
                RangeRequest::From { first, last: last.map(|last| last.max(first)) }
            };
            if let Some((first, last)) = range.positions(length) {
                prop_assert!(first <= last && last < length);
                let written = ContentRange::Part { first, last, complete_length_bytes: Some(length) };
                prop_assert_eq!(ContentRange::parse(written.to_header_value().as_bytes()), Some(written));
            }
        }
    }
}
