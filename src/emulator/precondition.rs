//! `If-Match` and `If-None-Match` (RFC 9110 §13) in the interpretation of this service.
//!
//! Comparisons ignore `W/`. `If-Match` wins if both fields are present. A malformed field counts as absent. A star may
//! be quoted, as in the service's documentation.

use http::header::{IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, HeaderName};

/// The condition of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Precondition {
    /// None.
    #[default]
    None,
    /// `If-Match`: the current state is one of these.
    IfMatch(ETagList),
    /// `If-None-Match`: the current state is none of these.
    IfNoneMatch(ETagList),
}

/// The tags of a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ETagList {
    /// `*`: any state.
    Any,
    /// Tags, without quotes.
    OneOf(Vec<String>),
}

/// The result of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The condition holds.
    Holds,
    /// `If-None-Match` failed: 304 to a read, 412 to a write.
    Unchanged,
    /// `If-Match` failed: 412.
    Failed,
}

impl Precondition {
    /// Parses the condition of a request.
    pub fn of(headers: &HeaderMap) -> Self {
        let tags = |name: HeaderName| {
            let mut lines = headers.get_all(name).iter();
            let first = lines.next()?.as_bytes();
            let rest = lines.map(http::HeaderValue::as_bytes);
            ETagList::parse(&rest.fold(first.to_vec(), |line, next| [&line, &b","[..], next].concat()))
        };
        if let Some(tags) = tags(IF_MATCH) {
            Self::IfMatch(tags)
        } else if let Some(tags) = tags(IF_NONE_MATCH) {
            Self::IfNoneMatch(tags)
        } else {
            Self::None
        }
    }

    /// Evaluates the condition against the current tag. `None` means that the resource is missing.
    pub fn evaluate(&self, current: Option<&str>) -> Verdict {
        match self {
            Self::IfMatch(tags) if !tags.contain(current) => Verdict::Failed,
            Self::IfNoneMatch(tags) if tags.contain(current) => Verdict::Unchanged,
            _ => Verdict::Holds,
        }
    }
}

impl ETagList {
    fn contain(&self, current: Option<&str>) -> bool {
        match (self, current) {
            (_, None) => false,
            (Self::Any, Some(_)) => true,
            (Self::OneOf(tags), Some(current)) => tags.iter().any(|tag| tag == current),
        }
    }

    /// Parses `*`, `"*"`, or a list of entity tags. An unquoted tag without blanks is accepted.
    fn parse(line: &[u8]) -> Option<Self> {
        let mut rest = std::str::from_utf8(line).ok()?.trim_matches([' ', '\t', ',']);
        if matches!(rest, "*" | "\"*\"") {
            return Some(Self::Any);
        }
        let mut tags = Vec::new();
        while !rest.is_empty() {
            let opaque = rest.strip_prefix("W/").unwrap_or(rest);
            let (tag, after) = match opaque.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => {
                    let end = rest.find([',', ' ', '\t']).unwrap_or(rest.len());
                    rest.split_at_checked(end).filter(|(tag, _)| !tag.contains('"'))?
                }
            };
            tags.push(tag.to_owned());
            let after = after.trim_start_matches([' ', '\t']);
            if !after.is_empty() && !after.starts_with(',') {
                return None;
            }
            rest = after.trim_start_matches([' ', '\t', ',']);
        }
        (!tags.is_empty()).then_some(Self::OneOf(tags))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    fn one_of(tags: &[&str]) -> Option<ETagList> {
        Some(ETagList::OneOf(tags.iter().map(|&tag| tag.to_owned()).collect()))
    }

    #[test]
    fn every_form_that_clients_send_is_parsed() {
        for (text, expected) in [
            ("*", Some(ETagList::Any)),
            ("\"*\"", Some(ETagList::Any)),
            ("\"abc\"", one_of(&["abc"])),
            ("W/\"abc\"", one_of(&["abc"])),
            ("abc", one_of(&["abc"])),
            ("\"a\", W/\"b\" ,\"c\"", one_of(&["a", "b", "c"])),
            ("\"a,b\"", one_of(&["a,b"])),
            ("\"\"", one_of(&[""])),
            ("", None),
            ("\"abc", None),
            ("\"W/\"weak1\"\"", None),
            ("a\"b", None),
        ] {
            assert_eq!(ETagList::parse(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn if_match_wins_and_a_malformed_field_counts_as_absent() {
        let both = headers(&[(IF_MATCH, "\"a\""), (IF_NONE_MATCH, "*")]);
        assert_eq!(Precondition::of(&both), Precondition::IfMatch(ETagList::OneOf(vec!["a".into()])));
        let unreadable = headers(&[(IF_MATCH, "\"a"), (IF_NONE_MATCH, "*")]);
        assert_eq!(Precondition::of(&unreadable), Precondition::IfNoneMatch(ETagList::Any));
        let mut lines = headers(&[(IF_NONE_MATCH, "\"a\"")]);
        lines.append(IF_NONE_MATCH, "\"b\"".parse().unwrap());
        assert_eq!(
            Precondition::of(&lines),
            Precondition::IfNoneMatch(ETagList::OneOf(vec!["a".into(), "b".into()]))
        );
    }

    #[test]
    fn each_condition_gives_its_verdict_for_each_state() {
        let tag = ETagList::OneOf(vec!["e".into()]);
        for (condition, same, other, missing) in [
            (Precondition::None, Verdict::Holds, Verdict::Holds, Verdict::Holds),
            (Precondition::IfMatch(tag.clone()), Verdict::Holds, Verdict::Failed, Verdict::Failed),
            (Precondition::IfMatch(ETagList::Any), Verdict::Holds, Verdict::Holds, Verdict::Failed),
            (
                Precondition::IfNoneMatch(ETagList::Any),
                Verdict::Unchanged,
                Verdict::Unchanged,
                Verdict::Holds,
            ),
            (Precondition::IfNoneMatch(tag), Verdict::Unchanged, Verdict::Holds, Verdict::Holds),
        ] {
            let found = [Some("e"), Some("x"), None].map(|current| condition.evaluate(current));
            assert_eq!(found, [same, other, missing], "{condition:?}");
        }
    }

    proptest! {
        #[test]
        fn no_field_panics(line in prop::collection::vec(any::<u8>(), 0..24), near in "[W/\"*a, ]{0,16}") {
            let _tags = (ETagList::parse(&line), ETagList::parse(near.as_bytes()));
        }
    }
}
