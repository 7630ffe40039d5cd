//! Every form of the filter grammar, every mistake with its position, and that matching agrees with the plain reading.

use super::*;
use proptest::prelude::*;

fn label(value: &str) -> Result<TextFilter, FilterError> {
    TextFilter::parse("label", Some(value), true)
}

fn key(value: &str) -> Result<TextFilter, FilterError> {
    TextFilter::parse("key", Some(value), false)
}

fn one_of(values: &[Option<&str>]) -> TextFilter {
    TextFilter::OneOf(values.iter().map(|value| value.map(str::to_owned)).collect())
}

#[test]
fn every_form_is_understood() {
    for (value, expected) in [
        ("", TextFilter::Any),
        ("*", TextFilter::Any),
        ("*abc", TextFilter::Any),
        ("abc", one_of(&[Some("abc")])),
        ("abc*", TextFilter::Prefix("abc".into())),
        ("abc,xyz", one_of(&[Some("abc"), Some("xyz")])),
        ("a,b,c,d,e", one_of(&[Some("a"), Some("b"), Some("c"), Some("d"), Some("e")])),
        (r"a\*", one_of(&[Some("a*")])),
        (r"\*", one_of(&[Some("*")])),
        (r"a\,b", one_of(&[Some("a,b")])),
        (r"a\\", one_of(&[Some(r"a\")])),
        (r"\a\b*", TextFilter::Prefix("ab".into())),
        (r"\**", TextFilter::Prefix("*".into())),
        ("é*", TextFilter::Prefix("é".into())),
    ] {
        assert_eq!(key(value), Ok(expected.clone()), "{value}");
        assert_eq!(label(value), Ok(expected), "{value}");
    }
    assert_eq!(TextFilter::parse("key", None, false), Ok(TextFilter::Any));
    assert_eq!(label("\0"), Ok(one_of(&[None])));
    assert_eq!(label("a,\0,b"), Ok(one_of(&[Some("a"), None, Some("b")])));
    assert_eq!(label("\0,a"), Ok(one_of(&[None, Some("a")])));
}

#[test]
fn every_mistake_has_its_position() {
    for (value, position) in [
        ("ab*c", 2),
        ("a*b*", 1),
        ("ab**", 2),
        ("é*c", 1),
        ("a*,b", 1),
        ("a,b*", 3),
        ("a,*", 2),
        (r"a\", 1),
        (",a", 0),
        ("a,", 1),
        ("a,,b", 2),
        ("\0a", 1),
        ("a\0", 1),
        ("\0*", 1),
        ("\\\0", 0),
    ] {
        let error = label(value).unwrap_err();
        assert_eq!(
            (error.position, error.reason),
            (position, FilterErrorReason::InvalidCharacter),
            "{value:?}"
        );
    }
    assert_eq!(key("\0").unwrap_err().to_string(), "key(0): Invalid character");
    assert_eq!(key("ab*c").unwrap_err().to_string(), "key(2): Invalid character");
    assert_eq!(key("a,b,c,d,e,f").unwrap_err().to_string(), "key(9): Too many values");
}

#[test]
fn matching() {
    for (filter, text, expected) in [
        ("", None, true),
        ("*", Some("a"), true),
        ("abc", Some("abc"), true),
        ("abc", Some("abcd"), false),
        ("abc*", Some("abc"), true),
        ("abc*", Some("abcd"), true),
        ("abc*", Some("ab"), false),
        ("abc*", None, false),
        ("abc,x", Some("x"), true),
        ("abc,x", None, false),
        ("\0", None, true),
        ("\0", Some(""), false),
        ("\0", Some("a"), false),
        ("\0,a", Some("a"), true),
        ("ABC", Some("abc"), false),
    ] {
        assert_eq!(label(filter).unwrap().matches(text), expected, "{filter:?} {text:?}");
    }
}

#[test]
fn tag_filters() {
    let filter =
        |name: &str, value: Option<&str>| TagFilter { name: name.into(), value: value.map(str::to_owned) };
    for (value, expected) in [
        ("env=dev", filter("env", Some("dev"))),
        ("env=", filter("env", Some(""))),
        ("env=\0", filter("env", None)),
        (r"a\=b=c", filter("a=b", Some("c"))),
        (r"a\=b=\0".replace("\\0", "\0").as_str(), filter("a=b", None)),
        (r"a=b\=c\*\,\\", filter("a", Some(r"b=c*,\"))),
        ("a b=c d", filter("a b", Some("c d"))),
    ] {
        assert_eq!(TagFilter::parse("tags", value), Ok(expected), "{value:?}");
    }
    for (value, text) in [
        ("", "tags(0): Tag name is required"),
        ("=v", "tags(0): Tag name is required"),
        ("env", "tags(3): Tag value separator '=' is required"),
        ("a=b=c", "tags(3): Invalid character"),
        ("a=b*", "tags(3): Invalid character"),
        ("a,b=c", "tags(1): Invalid character"),
        ("a=\0b", "tags(2): Invalid character"),
        ("a\0=b", "tags(1): Invalid character"),
        (r"a=b\", "tags(3): Invalid character"),
    ] {
        assert_eq!(TagFilter::parse("tags", value).unwrap_err().to_string(), text, "{value:?}");
    }
    assert_eq!(TagFilter::parse_all("tags", ["a=b"; 5]).map(|filters| filters.len()), Ok(5));
    assert_eq!(TagFilter::parse_all("tags", ["a=b"; 6]).unwrap_err().to_string(), "tags(0): Too many values");
}

#[test]
fn a_tag_matches_by_its_value_and_does_not_count_for_may_match() {
    let tags: Tags = [("env".to_owned(), Some("dev".to_owned())), ("none".to_owned(), None)].into();
    let filter = |tag: &str| KeyValueFilter {
        key: key("app*").unwrap(),
        label: label("prod,\0").unwrap(),
        tags: vec![TagFilter::parse("tags", tag).unwrap()],
    };
    assert!(filter("env=dev").tags[0].matches(&tags));
    assert!(filter("none=\0").tags[0].matches(&tags));
    assert!(!filter("env=test").tags[0].matches(&tags));
    assert!(!filter("none=").tags[0].matches(&tags));
    assert!(filter("env=test").may_match("app1", None));
    assert!(!filter("env=dev").may_match("other", None));
    assert!(!filter("env=dev").may_match("app1", Some("dev")));
}

/// A text as a filter that means exactly it.
fn escaped(text: &str) -> String {
    text.chars()
        .flat_map(|character| {
            matches!(character, '*' | '\\' | ',').then_some('\\').into_iter().chain([character])
        })
        .collect()
}

proptest! {
    #[test]
    fn no_text_panics(value in "[a-c*,=\\\\\\x00é]{0,16}", any in "\\PC{0,24}") {
        for value in [value.as_str(), any.as_str()] {
            let _results = (key(value), label(value), TagFilter::parse("tags", value));
        }
    }

    #[test]
    fn an_error_points_into_the_text(value in "[a-c*,\\\\\\x00é]{1,16}") {
        if let Err(error) = label(&value) {
            prop_assert!(error.position < value.chars().count(), "{error} in {value:?}");
        }
    }

    #[test]
    fn an_escaped_text_matches_itself_alone(text in "[a-c*,\\\\é]{1,8}", other in "[a-c*,\\\\é]{0,8}") {
        let exact = key(&escaped(&text)).unwrap();
        prop_assert!(exact.matches(Some(&text)));
        prop_assert_eq!(exact.matches(Some(&other)), text == other);
        let prefix = key(&(escaped(&text) + "*")).unwrap();
        prop_assert_eq!(prefix.matches(Some(&other)), other.starts_with(&text));
        let list = key(&format!("{},{}", escaped(&text), escaped("z"))).unwrap();
        prop_assert!(list.matches(Some(&text)) && list.matches(Some("z")));
    }
}

#[test]
fn a_filter_contains_what_it_certainly_matches() {
    let label = |value| TextFilter::parse("label", Some(value), true).unwrap();
    for (outer, inner, contained) in [
        ("*", "*", true),
        ("*", "\0", true),
        ("a*", "a*", true),
        ("a*", "ab*", true),
        ("ab*", "a*", false),
        ("a*", "ab,ac", true),
        ("a*", "ab,b", false),
        ("a*", "a,\0", false),
        ("a*", "*", false),
        ("a,b", "b", true),
        ("a,b", "b,c", false),
        ("a,\0", "\0", true),
        ("a", "a*", false),
    ] {
        assert_eq!(label(outer).contains(&label(inner)), contained, "{outer:?} {inner:?}");
    }
    let tags = |tags: &[&str]| KeyValueFilter {
        tags: TagFilter::parse_all("tags", tags.iter().copied()).unwrap(),
        ..KeyValueFilter::default()
    };
    assert!(tags(&["a=1"]).contains(&tags(&["b=2", "a=1"])) && !tags(&["a=1"]).contains(&tags(&["a=2"])));
    assert!(tags(&[]).contains(&tags(&["a=1"])) && !tags(&["a=1"]).contains(&tags(&[])));
}
