//! The caller's conditions (RFC 9110 §13.1): `If-Match`, `If-None-Match`, `If-Modified-Since`, `If-Unmodified-Since`,
//! `If-Range`.

use http::header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::clock::Timestamp;
use crate::headers::entity_tag::{EntityTag, entity_tags};
use crate::headers::http_date;

/// The fields that make a request conditional, `Range` aside.
pub const CONDITIONAL_FIELDS: [HeaderName; 5] =
    [IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE, IF_RANGE];

/// The conditions of one request. Without any, nothing is allocated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preconditions {
    /// `If-Match`: only the origin can evaluate it, and a mirror of its state.
    pub if_match: Option<EntityTagCondition>,
    /// `If-None-Match`: wins over `If-Modified-Since`, even if none of its tags is well-formed (RFC 9110 §13.1.3).
    pub if_none_match: Option<EntityTagCondition>,
    /// `If-Modified-Since`; absent if it is not a valid date or has several lines (RFC 9110 §13.1.3).
    pub if_modified_since: Option<Timestamp>,
    /// `If-Unmodified-Since`: only the origin can evaluate it. Absent if it is invalid.
    pub if_unmodified_since: Option<Timestamp>,
    /// `If-Range`: the condition of a `Range`.
    pub if_range: Option<IfRange>,
}

impl Preconditions {
    /// Reads the conditions of a request.
    pub fn from_fields(fields: &HeaderMap) -> Self {
        Self {
            if_match: EntityTagCondition::from_fields(fields, &IF_MATCH),
            if_none_match: EntityTagCondition::from_fields(fields, &IF_NONE_MATCH),
            if_modified_since: sole_line(fields, &IF_MODIFIED_SINCE)
                .and_then(|line| http_date::parse(line.as_bytes())),
            if_unmodified_since: sole_line(fields, &IF_UNMODIFIED_SINCE)
                .and_then(|line| http_date::parse(line.as_bytes())),
            if_range: IfRange::from_fields(fields),
        }
    }

    /// Whether the request has no condition, `If-Range` aside: its caller never gets a 304 (RFC 9110 §15.4.5).
    /// `If-Range` cannot cause one.
    pub const fn is_unconditional(&self) -> bool {
        self.if_match.is_none()
            && self.if_none_match.is_none()
            && self.if_modified_since.is_none()
            && self.if_unmodified_since.is_none()
    }

    /// Whether the caller asks for a 304 if it already has the current version.
    pub const fn is_validating(&self) -> bool {
        self.if_none_match.is_some() || self.if_modified_since.is_some()
    }

    /// Whether it has a condition that only the origin can evaluate, because a cache does not know the current state:
    /// `If-Match`, `If-Unmodified-Since` (RFC 9111 §4.3.2).
    pub const fn is_for_origin(&self) -> bool {
        self.if_match.is_some() || self.if_unmodified_since.is_some()
    }
}

/// `*`, or the lines of tags, of `If-Match` or `If-None-Match`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntityTagCondition {
    /// `*`: any current representation.
    Any,
    /// The lines as received. They are parsed at each comparison: most are compared once.
    Listed(Vec<HeaderValue>),
}

impl EntityTagCondition {
    fn from_fields(fields: &HeaderMap, name: &HeaderName) -> Option<Self> {
        let mut lines = fields.get_all(name).iter().peekable();
        lines.peek()?;
        // A quoted `"*"` is an entity tag, not the asterisk: taken for one it could answer 304 to a caller that has no
        // representation.
        let lines: Vec<HeaderValue> = lines.cloned().collect();
        let is_any = lines.iter().any(|line| line.as_bytes().trim_ascii() == b"*");
        Some(if is_any { Self::Any } else { Self::Listed(lines) })
    }

    /// Whether every server reads it alike: `*`, or one line with one strong entity tag. Some servers take weak tags for strong ones
    /// and a quoted asterisk for `*`, or compare with the first tag of a list alone.
    pub fn is_unambiguous(&self) -> bool {
        match self {
            Self::Any => true,
            Self::Listed(lines) => matches!(&lines[..], [line] if EntityTag::parse(line.as_bytes())
                .is_some_and(|tag| !tag.is_weak() && tag.as_bytes() != b"\"*\"")),
        }
    }

    /// The well-formed tags listed; none for `*`.
    pub fn tags(&self) -> impl Iterator<Item = EntityTag<'_>> {
        let lines = match self {
            Self::Any => &[][..],
            Self::Listed(lines) => lines,
        };
        lines.iter().flat_map(|line| entity_tags(line.as_bytes()))
    }

    /// Weak comparison with the tag of a representation that exists: `If-None-Match` (RFC 9110 §13.1.2).
    pub fn matches_weakly(&self, current: Option<EntityTag<'_>>) -> bool {
        match self {
            Self::Any => true,
            Self::Listed(_) => {
                current.is_some_and(|current| self.tags().any(|tag| tag.matches_weakly(current)))
            }
        }
    }

    /// Strong comparison with the tag of a representation that exists: `If-Match` (RFC 9110 §13.1.1).
    pub fn matches_strongly(&self, current: Option<EntityTag<'_>>) -> bool {
        match self {
            Self::Any => true,
            Self::Listed(_) => {
                current.is_some_and(|current| self.tags().any(|tag| tag.matches_strongly(current)))
            }
        }
    }
}

/// The validator in `If-Range` (RFC 9110 §13.1.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IfRange {
    /// An entity tag, well-formed.
    Tag(HeaderValue),
    /// The date of last modification.
    Date(Timestamp),
    /// Neither, or several lines: the condition is false, so the range is ignored.
    Invalid,
}

impl IfRange {
    fn from_fields(fields: &HeaderMap) -> Option<Self> {
        fields.get(IF_RANGE)?;
        let Some(line) = sole_line(fields, &IF_RANGE) else { return Some(Self::Invalid) };
        Some(if EntityTag::parse(line.as_bytes()).is_some() {
            Self::Tag(line.clone())
        } else {
            http_date::parse(line.as_bytes()).map_or(Self::Invalid, Self::Date)
        })
    }
}

/// The value of a field that has exactly one line.
fn sole_line<'a>(fields: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut lines = fields.get_all(name).iter();
    let only_line = lines.next()?;
    if lines.next().is_some() { None } else { Some(only_line) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conditions(lines: &[(HeaderName, &'static str)]) -> Preconditions {
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            fields.append(name, HeaderValue::from_static(value));
        }
        Preconditions::from_fields(&fields)
    }

    fn tag(text: &str) -> Option<EntityTag<'_>> {
        EntityTag::parse(text.as_bytes())
    }

    #[test]
    fn a_plain_request_is_unconditional() {
        let plain = conditions(&[]);
        assert_eq!(plain, Preconditions::default());
        assert!(plain.is_unconditional() && !plain.is_validating() && !plain.is_for_origin());
        let range_only = conditions(&[(IF_RANGE, r#""a""#)]);
        assert!(range_only.is_unconditional());
    }

    #[test]
    fn each_field_is_told_apart() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        for (name, value, validating, for_origin) in [
            (IF_NONE_MATCH, r#""a""#, true, false),
            (IF_NONE_MATCH, "*", true, false),
            (IF_NONE_MATCH, "garbage", true, false),
            (IF_MODIFIED_SINCE, date, true, false),
            (IF_MODIFIED_SINCE, "yesterday", false, false),
            (IF_MATCH, r#""a""#, false, true),
            (IF_MATCH, "*", false, true),
            (IF_UNMODIFIED_SINCE, date, false, true),
            (IF_UNMODIFIED_SINCE, "yesterday", false, false),
        ] {
            let found = conditions(&[(name.clone(), value)]);
            assert_eq!(found.is_validating(), validating, "{name}: {value}");
            assert_eq!(found.is_for_origin(), for_origin, "{name}: {value}");
            assert_eq!(found.is_unconditional(), !validating && !for_origin, "{name}: {value}");
        }
    }

    #[test]
    fn if_none_match_compares_weakly_over_all_lines() {
        for (lines, current, expected) in [
            (&[r#""a""#][..], r#""a""#, true),
            (&[r#"W/"a""#], r#""a""#, true),
            (&[r#""a""#], r#"W/"a""#, true),
            (&[r#""a""#], r#""b""#, false),
            (&[r#""x", "y" , "a""#], r#""a""#, true),
            (&[r#""x""#, r#""y", W/"a""#], r#""a""#, true),
            (&["*"], r#""a""#, true),
            (&[" * "], r#""a""#, true),
            (&[r#""x""#, "*"], r#""a""#, true),
            (&[r#""*""#], r#""a""#, false),
            (&["a"], r#""a""#, false),
            (&[""], r#""a""#, false),
            (&[r#"garbage, "a""#], r#""a""#, true),
        ] {
            let lines: Vec<_> = lines.iter().map(|line| (IF_NONE_MATCH, *line)).collect();
            let condition = conditions(&lines).if_none_match.expect("present");
            assert_eq!(condition.matches_weakly(tag(current)), expected, "{lines:?} against {current}");
        }
    }

    #[test]
    fn only_the_star_matches_a_representation_without_a_tag() {
        let star = conditions(&[(IF_NONE_MATCH, "*")]).if_none_match.expect("present");
        let listed = conditions(&[(IF_NONE_MATCH, r#""a""#)]).if_none_match.expect("present");
        assert!(star.matches_weakly(None) && star.matches_strongly(None));
        assert!(!listed.matches_weakly(None) && !listed.matches_strongly(None));
    }

    #[test]
    fn if_match_compares_strongly() {
        for (line, current, expected) in [
            (r#""a""#, r#""a""#, true),
            (r#"W/"a""#, r#""a""#, false),
            (r#""a""#, r#"W/"a""#, false),
            (r#"W/"a", "a""#, r#""a""#, true),
            ("*", r#"W/"a""#, true),
        ] {
            let condition = conditions(&[(IF_MATCH, line)]).if_match.expect("present");
            assert_eq!(condition.matches_strongly(tag(current)), expected, "{line} against {current}");
        }
    }

    #[test]
    fn dates_take_all_three_forms_on_one_line_only() {
        let expected = Some(Timestamp::from_unix_seconds(784_111_777));
        for text in
            ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
        {
            assert_eq!(conditions(&[(IF_MODIFIED_SINCE, text)]).if_modified_since, expected);
            assert_eq!(conditions(&[(IF_UNMODIFIED_SINCE, text)]).if_unmodified_since, expected);
            let twice = conditions(&[(IF_MODIFIED_SINCE, text), (IF_MODIFIED_SINCE, text)]);
            assert_eq!(twice.if_modified_since, None);
        }
    }

    #[test]
    fn if_range_is_a_tag_or_a_date_or_false() {
        let of = |value| conditions(&[(IF_RANGE, value)]).if_range;
        assert_eq!(of(r#""a""#), Some(IfRange::Tag(HeaderValue::from_static(r#""a""#))));
        assert_eq!(of(r#"W/"a""#), Some(IfRange::Tag(HeaderValue::from_static(r#"W/"a""#))));
        assert_eq!(
            of("Sun, 06 Nov 1994 08:49:37 GMT"),
            Some(IfRange::Date(Timestamp::from_unix_seconds(784_111_777)))
        );
        assert_eq!(of("a"), Some(IfRange::Invalid));
        assert_eq!(of(r#""a", "b""#), Some(IfRange::Invalid));
        let twice = conditions(&[(IF_RANGE, r#""a""#), (IF_RANGE, r#""a""#)]).if_range;
        assert_eq!(twice, Some(IfRange::Invalid));
        assert_eq!(conditions(&[]).if_range, None);
    }
}
