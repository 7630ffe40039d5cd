//! The key-value: its identity, its fields, and its JSON in every api-version.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use serde::de::Error as _;
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::api_version::ApiVersion;
use super::filter::Tags;
use super::json_object::JsonObject;
use super::ordinal::Ordinal;
use super::select::Selection;
use crate::clock::Timestamp;
use crate::headers::request_date::parse_rfc3339;

/// The most characters that a key, a label, or the name or value of a tag may have.
pub const MAXIMUM_CHARACTERS: usize = 256;

/// Why a text is not a key, label or tag. The message follows the name of the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A key must have a character.
    #[error("must not be empty; give it at least one character")]
    Empty,
    /// More than [`MAXIMUM_CHARACTERS`].
    #[error("must not have more than 256 characters; shorten it")]
    TooLong,
    /// A control character, or `%` in a key.
    #[error("must not contain control characters, nor '%' in a key; remove them")]
    InvalidCharacter,
    /// `.` and `..` would be dropped from a path.
    #[error("must not be '.' or '..', which a URL path cannot carry; choose another key")]
    DotSegment,
}

/// Identity of a key-value: key and label, where "no label" is a label of its own.
///
/// It is held as one text, `key NUL label`. A key cannot contain NUL, and NUL sorts before every other character. So
/// identities are ordered by key, then label, no label first, each by UTF-16 unit: the order of the service's lists.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct KeyValueId(Arc<str>);

impl KeyValueId {
    /// The identity of a key and a label; an empty label is no label. A text with NUL, which no key-value can have,
    /// gives an identity that matches none.
    #[must_use]
    pub fn new(key: &str, label: Option<&str>) -> Self {
        let label = label.unwrap_or_default();
        let mut text = String::with_capacity(key.len() + 1 + label.len());
        text.push_str(key);
        text.push('\0');
        text.push_str(label);
        Self(text.into())
    }

    /// The identity that [`KeyValueId::as_str`] gave.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        Self(text.into())
    }

    /// A place in the order: before every key-value whose key begins so, and after all that precede them.
    #[must_use]
    pub fn before_keys_with(prefix: &str) -> Self {
        Self(prefix.into())
    }

    /// A place in the order: after every label of this key, and before every longer key.
    #[must_use]
    pub fn after_labels_of(key: &str) -> Self {
        // No key contains a control character.
        Self(format!("{key}\u{1}").into())
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &str {
        self.0.split_once('\0').map_or(&*self.0, |(key, _)| key)
    }

    /// The label; `None` is no label.
    #[must_use]
    pub fn label(&self) -> Option<&str> {
        self.0.split_once('\0').map(|(_, label)| label).filter(|label| !label.is_empty())
    }

    /// `key NUL label`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Ord for KeyValueId {
    fn cmp(&self, other: &Self) -> Ordering {
        Ordinal(&self.0).cmp(&Ordinal(&other.0))
    }
}

impl PartialOrd for KeyValueId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for KeyValueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} (label {:?})", self.key(), self.label())
    }
}

/// Checks a key: one to 256 characters, none of them a control character or `%`, and not `.` or `..`.
///
/// # Errors
/// [`NameError`]
pub fn check_key(key: &str) -> Result<(), NameError> {
    match key {
        "" => Err(NameError::Empty),
        "." | ".." => Err(NameError::DotSegment),
        _ if key.contains('%') => Err(NameError::InvalidCharacter),
        _ => check_name(key),
    }
}

/// Checks a label, or the name or value of a tag: at most 256 characters, none of them a control character.
///
/// # Errors
/// [`NameError`]
pub fn check_name(name: &str) -> Result<(), NameError> {
    if name.chars().any(char::is_control) {
        return Err(NameError::InvalidCharacter);
    }
    if name.chars().nth(MAXIMUM_CHARACTERS).is_some() { Err(NameError::TooLong) } else { Ok(()) }
}

/// The part of a key-value that a client may write: the body of a PUT. `key`, `label`, `etag`, `locked` and
/// `last_modified`, which clients send too, are ignored: the URL alone names the key-value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct KeyValueContent {
    /// The value; may be null.
    #[serde(default)]
    pub value: Option<String>,
    /// Its media type.
    #[serde(default)]
    pub content_type: Option<String>,
    /// Its tags; null means none.
    #[serde(default, deserialize_with = "tags_or_null")]
    pub tags: Tags,
    /// Its description, from api-version `2026-04-01` on.
    #[serde(default)]
    pub description: Option<String>,
}

/// One state of a key-value. In its JSON, which is that of the API, every field but `key` may be missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// Key and label.
    pub id: KeyValueId,
    /// The opaque tag of this state, without quotes. Empty when read from JSON without one.
    pub etag: Arc<str>,
    /// The part that clients write.
    pub content: KeyValueContent,
    /// Whether writes are refused.
    pub locked: bool,
    /// When this state was written.
    pub last_modified: Timestamp,
}

impl KeyValue {
    /// The fields that a selection shows, in the service's order; `description` from its api-version on.
    #[must_use]
    pub fn view(&self, selection: Selection, version: ApiVersion) -> KeyValueView<'_> {
        KeyValueView { key_value: self, selection, version }
    }
}

/// A key-value as one request sees it; serialises to its JSON.
#[derive(Debug, Clone, Copy)]
pub struct KeyValueView<'a> {
    key_value: &'a KeyValue,
    selection: Selection,
    version: ApiVersion,
}

impl Serialize for KeyValueView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { key_value, selection, version } = *self;
        let content = &key_value.content;
        let mut map = serializer.serialize_map(None)?;
        if selection.contains(Selection::ETAG) {
            map.serialize_entry("etag", &*key_value.etag)?;
        }
        if selection.contains(Selection::KEY) {
            map.serialize_entry("key", key_value.id.key())?;
        }
        if selection.contains(Selection::LABEL) {
            map.serialize_entry("label", &key_value.id.label())?;
        }
        if selection.contains(Selection::CONTENT_TYPE) {
            map.serialize_entry("content_type", &content.content_type)?;
        }
        if selection.contains(Selection::VALUE) {
            map.serialize_entry("value", &content.value)?;
        }
        if selection.contains(Selection::TAGS) {
            map.serialize_entry("tags", &content.tags)?;
        }
        if selection.contains(Selection::DESCRIPTION) && version.has_description() {
            map.serialize_entry("description", &content.description)?;
        }
        if selection.contains(Selection::LOCKED) {
            map.serialize_entry("locked", &key_value.locked)?;
        }
        if selection.contains(Selection::LAST_MODIFIED) {
            map.serialize_entry("last_modified", &format_date_time(key_value.last_modified))?;
        }
        map.end()
    }
}

impl Serialize for KeyValue {
    /// Every field, as the newest api-version shows it; reading it back loses nothing.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.view(Selection::ALL, ApiVersion::V2026_08_01Preview).serialize(serializer)
    }
}

/// A point in time as the API writes it: RFC 3339 with `+00:00`, and a fraction only if it is not zero.
#[must_use]
pub fn format_date_time(time: Timestamp) -> String {
    let Ok(instant) = jiff::Timestamp::from_microsecond(time.as_unix_micros()) else {
        return "9999-12-31T23:59:59+00:00".to_owned();
    };
    // `Display` writes the shortest exact form and ends in `Z`.
    let mut text = instant.to_string();
    if text.ends_with('Z') {
        text.pop();
    }
    text.push_str("+00:00");
    text
}

impl<'de> Deserialize<'de> for KeyValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let JsonObject(shown) = JsonObject::<ShownKeyValue>::deserialize(deserializer)?;
        check_key(&shown.key)
            .map_err(|error| D::Error::custom(format_args!("key {:?} {error}", shown.key)))?;
        let label = shown.label.as_deref().filter(|label| !label.is_empty());
        check_name(label.unwrap_or_default()).map_err(|error| {
            D::Error::custom(format_args!("label {label:?} of key {:?} {error}", shown.key))
        })?;
        let last_modified = match shown.last_modified {
            None => Timestamp::default(),
            Some(text) => parse_rfc3339(&text).ok_or_else(|| {
                D::Error::custom(format_args!(
                    "last_modified {text:?} is no RFC 3339 date; write 2026-01-31T23:59:59+00:00"
                ))
            })?,
        };
        Ok(Self {
            id: KeyValueId::new(&shown.key, label),
            etag: shown.etag.unwrap_or_default().into(),
            content: KeyValueContent {
                value: shown.value,
                content_type: shown.content_type,
                tags: shown.tags,
                description: shown.description,
            },
            locked: shown.locked,
            last_modified,
        })
    }
}

/// The JSON of a key-value before its texts have been checked.
#[derive(Deserialize)]
struct ShownKeyValue {
    key: String,
    #[serde(default)]
    label: Option<String>,
    #[serde(default)]
    etag: Option<String>,
    #[serde(default)]
    content_type: Option<String>,
    #[serde(default)]
    value: Option<String>,
    #[serde(default, deserialize_with = "tags_or_null")]
    tags: Tags,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    locked: bool,
    #[serde(default)]
    last_modified: Option<String>,
}

fn tags_or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Tags, D::Error> {
    Option::<Tags>::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn example() -> KeyValue {
        serde_json::from_str(
            r#"{"etag":"h73gkoXAl7lSrnnJuWrt80GKJNV","key":"app:key1","label":null,"content_type":null,
                "value":"v1","tags":{},"locked":false,"last_modified":"2020-04-15T16:11:16+00:00"}"#,
        )
        .unwrap()
    }

    #[test]
    fn shows_the_documented_json() {
        let shown = serde_json::to_string(&example().view(Selection::ALL, ApiVersion::V1_0)).unwrap();
        assert_eq!(
            shown,
            r#"{"etag":"h73gkoXAl7lSrnnJuWrt80GKJNV","key":"app:key1","label":null,"content_type":null,"value":"v1","tags":{},"locked":false,"last_modified":"2020-04-15T16:11:16+00:00"}"#
        );
    }

    #[test]
    fn a_description_is_shown_from_its_version_on() {
        for version in ApiVersion::ALL {
            let shown = serde_json::to_string(&example().view(Selection::ALL, version)).unwrap();
            assert_eq!(
                shown.contains(r#""description":null"#),
                version >= ApiVersion::V2026_04_01,
                "{version:?}"
            );
        }
    }

    #[test]
    fn shows_what_is_selected() {
        let selection = Selection::parse(Some("value,key"));
        let shown = serde_json::to_string(&example().view(selection, ApiVersion::V1_0)).unwrap();
        assert_eq!(shown, r#"{"key":"app:key1","value":"v1"}"#);
    }

    #[test]
    fn identities_sort_by_key_then_label_with_no_label_first() {
        let ids: Vec<KeyValueId> =
            [("a", None), ("a", Some("b")), ("a", Some("c")), ("a b", None), ("ab", None)]
                .into_iter()
                .map(|(key, label)| KeyValueId::new(key, label))
                .collect();
        assert!(ids.is_sorted());
        assert_eq!((ids[1].key(), ids[1].label()), ("a", Some("b")));
        assert_eq!((ids[0].key(), ids[0].label()), ("a", None));
    }

    #[test]
    fn refuses_what_is_no_key_value_and_says_why() {
        for (json, reason) in [
            (r#"{"value":"v"}"#, "missing field `key`"),
            (r#"{"key":""}"#, "must not be empty"),
            (r#"{"key":".."}"#, "must not be '.' or '..'"),
            (r#"{"key":"a%b"}"#, "must not contain"),
            (r#"{"key":"a","label":"\u0001"}"#, "must not contain"),
            (r#"{"key":"a","last_modified":"yesterday"}"#, "no RFC 3339 date"),
            (r#"{"key":"a","tags":{"a":1}}"#, "expected a string"),
            (r#"{"key":"a","value":7}"#, "expected a string"),
            (r#"["a"]"#, "expected a JSON object"),
        ] {
            let error =
                serde_json::from_str::<Vec<KeyValue>>(&format!("[\n{json}]")).unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains("line 2"), "{error}");
        }
        assert_eq!(check_name(&"é".repeat(256)), Ok(()));
        assert_eq!(check_name(&"é".repeat(257)), Err(NameError::TooLong));
    }

    #[test]
    fn a_body_is_what_clients_send() {
        let body = r#"{"key": "other", "label": "l", "value": "h\u00e9llo", "tags": null, "locked": true, "etag": "e"}"#;
        let content: KeyValueContent = serde_json::from_str(body).unwrap();
        assert_eq!(content, KeyValueContent { value: Some("héllo".into()), ..KeyValueContent::default() });
    }

    #[test]
    fn dates_have_a_fraction_only_where_there_is_one() {
        assert_eq!(
            format_date_time(Timestamp::from_unix_seconds(1_586_967_076)),
            "2020-04-15T16:11:16+00:00"
        );
        assert_eq!(
            format_date_time(Timestamp::from_unix_micros(1_586_967_076_120_000)),
            "2020-04-15T16:11:16.12+00:00"
        );
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(
            key in "[^%\\p{Cc}]{1,12}", label in prop::option::of("[^\\p{Cc}]{1,12}"), value in prop::option::of("\\PC*"),
            tags in prop::collection::btree_map("\\PC{1,4}", prop::option::of("\\PC{0,4}"), 0..3),
            locked: bool, micros in 0..4_102_444_800_000_000_i64,
        ) {
            prop_assume!(check_key(&key).is_ok());
            let key_value = KeyValue {
                id: KeyValueId::new(&key, label.as_deref()),
                etag: "e".into(),
                content: KeyValueContent { value, content_type: None, tags, description: Some("d".into()) },
                locked,
                last_modified: Timestamp::from_unix_micros(micros),
            };
            let json = serde_json::to_string(&key_value.view(Selection::ALL, ApiVersion::V2026_04_01)).unwrap();
            prop_assert_eq!(serde_json::from_str::<KeyValue>(&json).unwrap(), key_value);
        }

        #[test]
        fn no_body_panics(body in "[\\{\\}\\[\\]\",:a-z0-9\\\\ ]{0,60}") {
            let _content = serde_json::from_str::<KeyValueContent>(&body);
            let _key_value = serde_json::from_str::<KeyValue>(&body);
        }
    }
}
