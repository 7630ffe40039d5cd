//! What a request target names, and the one spelling of it in the cache key.
//!
//! The SDKs write the same target in at least four percent-encodings and two orders of parameters. All of them name one
//! resource. A target whose meaning is not certain has no canonical form and is not cached.

use std::borrow::Cow;
use std::fmt::Write as _;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::filter::{FilterError, KeyValueFilter, TagFilter, TextFilter};
use super::query::{Query, QueryError, percent_decode};
use super::select::Selection;

/// A resource of the API. Texts are decoded; filters are parsed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Resource {
    /// `/kv/{key}`
    KeyValue {
        /// The key, everything after `/kv/`.
        key: String,
        /// The label; absent, empty and NUL are `None`.
        label: Option<String>,
        /// Tag filters on this one key-value, from `2024-09-01` on.
        tags: Vec<TagFilter>,
    },
    /// `/kv`
    KeyValues(KeyValueFilter),
    /// `/kv?snapshot={name}`: the content of a snapshot.
    SnapshotKeyValues {
        /// Name of the snapshot.
        snapshot: String,
    },
    /// `/keys`
    Keys {
        /// Filter on names.
        name: TextFilter,
    },
    /// `/labels`
    Labels {
        /// Filter on names; no label is a name here.
        name: TextFilter,
    },
    /// `/revisions`
    Revisions(KeyValueFilter),
    /// `/locks/{key}`
    Lock {
        /// The key, everything after `/locks/`.
        key: String,
        /// The label; absent, empty and NUL are `None`.
        label: Option<String>,
    },
    /// `/snapshots`
    Snapshots {
        /// Filter on names.
        name: TextFilter,
    },
    /// `/snapshots/{name}`
    Snapshot {
        /// Name of the snapshot.
        name: String,
    },
    /// `/operations`
    Operations,
    /// A path that this API does not have, or does not have yet.
    Unknown,
}

/// Why the meaning of a target is not certain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// The path or query cannot be decoded, or contradicts itself.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// A filter is malformed; the service answers 400.
    #[error(transparent)]
    Filter(#[from] FilterError),
}

/// A target in its canonical spelling.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Canonical {
    /// The target: two targets with the same text name the same resource in the same api-version, selection and page.
    pub text: String,
    /// What it names.
    pub resource: Resource,
}

impl Resource {
    /// The resource that a path (still encoded) and a decoded query name.
    ///
    /// Paths are compared exactly, as a case-sensitive origin would.
    ///
    /// # Errors
    /// [`TargetError`]
    pub fn parse(path: &str, query: &Query<'_>) -> Result<Self, TargetError> {
        Ok(match Path::of(path)? {
            Path::KeyValue(key) => Self::KeyValue {
                key: key.into_owned(),
                label: single_label(query)?,
                tags: TagFilter::parse_all("tags", query.all("tags"))?,
            },
            Path::Lock(key) => Self::Lock { key: key.into_owned(), label: single_label(query)? },
            Path::KeyValues => match query.single("snapshot")?.filter(|name| !name.is_empty()) {
                Some(snapshot) => Self::SnapshotKeyValues { snapshot: snapshot.to_owned() },
                None => Self::KeyValues(key_value_filter(query)?),
            },
            Path::Revisions => Self::Revisions(key_value_filter(query)?),
            Path::Keys => Self::Keys { name: TextFilter::parse("name", query.single("name")?, false)? },
            Path::Labels => Self::Labels { name: TextFilter::parse("name", query.single("name")?, true)? },
            Path::Snapshots => {
                Self::Snapshots { name: TextFilter::parse("name", query.single("name")?, false)? }
            }
            Path::Snapshot(name) => Self::Snapshot { name: name.into_owned() },
            Path::Operations => Self::Operations,
            Path::Unknown => Self::Unknown,
        })
    }
}

impl Resource {
    /// Whether everything that it shows belongs to keys that begin with `prefix`.
    #[must_use]
    pub fn lies_within(&self, prefix: &str) -> bool {
        match self {
            Self::KeyValue { key, .. } | Self::Lock { key, .. } => key.starts_with(prefix),
            Self::KeyValues(filter) | Self::Revisions(filter) => filter.key.lies_within(prefix),
            Self::Keys { name } => name.lies_within(prefix),
            Self::SnapshotKeyValues { .. }
            | Self::Labels { .. }
            | Self::Snapshots { .. }
            | Self::Snapshot { .. }
            | Self::Operations
            | Self::Unknown => false,
        }
    }
}

/// The canonical form of a target. `None` if it must bypass the cache: invalid escapes, malformed filters, parameters
/// that contradict each other, and paths that are not part of the API.
///
/// `path` and `query` are as on the request line. Unknown parameters stay in the text: a newer origin may know them.
#[must_use]
pub fn canonicalize(path: &str, query: Option<&str>) -> Option<Canonical> {
    let query = Query::parse(query.unwrap_or_default()).ok()?;
    let resource = Resource::parse(path, &query).ok()?;
    let mut text = String::with_capacity(path.len() + 64);
    let single = match &resource {
        Resource::KeyValue { key, .. } => Some(("/kv/", key)),
        Resource::Lock { key, .. } => Some(("/locks/", key)),
        Resource::Snapshot { name } => Some(("/snapshots/", name)),
        Resource::Unknown => return None,
        _ => None,
    };
    match single {
        Some((prefix, name)) => {
            text.push_str(prefix);
            append_encoded(&mut text, name);
        }
        // The path of a collection has only one spelling.
        None => text.push_str(path),
    }

    let named_one = matches!(resource, Resource::KeyValue { .. } | Resource::Lock { .. });
    let mut parameters: Vec<(&str, Cow<'_, str>)> = query
        .iter()
        .filter(|(name, value)| match *name {
            "label" if named_one => !matches!(*value, "" | "\0"),
            "key" | "label" | "name" => !value.is_empty() && !value.starts_with('*'),
            "$select" => !value.trim_ascii().is_empty() && Selection::canonical(value) != "*",
            _ => true,
        })
        .map(|(name, value)| match name {
            "$select" => (name, Cow::Owned(Selection::canonical(value))),
            _ => (name, Cow::Borrowed(value)),
        })
        .collect();
    // A stable sort: the order of repeated parameters may matter.
    parameters.sort_by_key(|(name, _)| *name);
    for (index, (name, value)) in parameters.iter().enumerate() {
        text.push(if index == 0 { '?' } else { '&' });
        append_encoded(&mut text, name);
        text.push('=');
        append_encoded(&mut text, value);
    }
    Some(Canonical { text, resource })
}

/// The canonical target of one key-value with all its fields: equal to the result of [`canonicalize`].
#[must_use]
pub fn canonical_key_value(key: &str, label: Option<&str>, api_version: &str) -> String {
    let mut text = String::with_capacity(key.len() + 48);
    text.push_str("/kv/");
    append_encoded(&mut text, key);
    text.push_str("?api-version=");
    append_encoded(&mut text, api_version);
    if let Some(label) = label.filter(|label| !matches!(*label, "" | "\0")) {
        text.push_str("&label=");
        append_encoded(&mut text, label);
    }
    text
}

/// A parsed path, decoded once.
enum Path<'a> {
    KeyValue(Cow<'a, str>),
    KeyValues,
    Keys,
    Labels,
    Revisions,
    Lock(Cow<'a, str>),
    Snapshots,
    Snapshot(Cow<'a, str>),
    Operations,
    Unknown,
}

impl<'a> Path<'a> {
    fn of(path: &'a str) -> Result<Self, QueryError> {
        Ok(match path {
            "/kv" => Self::KeyValues,
            "/keys" => Self::Keys,
            "/labels" => Self::Labels,
            "/revisions" => Self::Revisions,
            "/snapshots" => Self::Snapshots,
            "/operations" => Self::Operations,
            _ => {
                let rest = |prefix| path.strip_prefix(prefix).filter(|rest: &&str| !rest.is_empty());
                if let Some(key) = rest("/kv/") {
                    Self::KeyValue(percent_decode(key)?)
                } else if let Some(key) = rest("/locks/") {
                    Self::Lock(percent_decode(key)?)
                } else if let Some(name) = rest("/snapshots/") {
                    Self::Snapshot(percent_decode(name)?)
                } else {
                    Self::Unknown
                }
            }
        })
    }
}

fn single_label(query: &Query<'_>) -> Result<Option<String>, QueryError> {
    Ok(query.single("label")?.filter(|label| !matches!(*label, "" | "\0")).map(str::to_owned))
}

/// The filters of a list of key-values.
///
/// # Errors
/// [`TargetError`]
pub fn key_value_filter(query: &Query<'_>) -> Result<KeyValueFilter, TargetError> {
    Ok(KeyValueFilter {
        key: TextFilter::parse("key", query.single("key")?, false)?,
        label: TextFilter::parse("label", query.single("label")?, true)?,
        tags: TagFilter::parse_all("tags", query.all("tags"))?,
    })
}

/// Everything but the unreserved characters (RFC 3986 §2.3) is encoded, so that no value can imitate a separator.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

fn append_encoded(text: &mut String, part: &str) {
    // Writing to a String cannot fail.
    let _infallible = write!(text, "{}", utf8_percent_encode(part, ENCODED));
}

#[cfg(test)]
#[path = "resource_tests.rs"]
mod tests;
