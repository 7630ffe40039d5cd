//! Filters of lists, revisions, snapshots, keys and labels: key, label, name and tags.
//!
//! | form | key, name | label |
//! |---|---|---|
//! | absent, empty, or starting with `*` | any | any, no label included |
//! | `abc` | equals | equals |
//! | `abc*` | starts with | starts with; no label never matches |
//! | `abc,xyz` | any of at most five | any of at most five |
//! | one NUL | - | no label, also as one element of a list |
//!
//! `*`, `\` and `,` are reserved and escaped by `\`; any character may be escaped. A wildcard stands at the end of a filter
//! that is no list. A tag filter is `name=value` with exactly one separator; a NUL as value means the null value.

use std::collections::BTreeMap;

/// The most values in one filter, and the most tag filters in one request.
pub const MAXIMUM_VALUES: usize = 5;

/// Why a filter is refused. The text is the `detail` of the 400 on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{parameter}({position}): {reason}")]
pub struct FilterError {
    /// The query parameter.
    pub parameter: &'static str,
    /// The index of the offending character in the decoded value, counted in characters from 0.
    pub position: usize,
    /// What is wrong at that position.
    pub reason: FilterErrorReason,
}

/// What is wrong with a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FilterErrorReason {
    /// A reserved character that is not escaped, a `\` at the end, a wildcard that is not last, an empty list element.
    #[error("Invalid character")]
    InvalidCharacter,
    /// More than [`MAXIMUM_VALUES`].
    #[error("Too many values")]
    TooManyValues,
    /// A tag filter without a name.
    #[error("Tag name is required")]
    TagNameMissing,
    /// A tag filter without `=`.
    #[error("Tag value separator '=' is required")]
    TagSeparatorMissing,
}

/// A filter on a key, a label or a name; `None` as a text is "no label".
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub enum TextFilter {
    /// Everything matches, no label included.
    #[default]
    Any,
    /// One of at most five texts.
    OneOf(Vec<Option<String>>),
    /// Texts that start with this one, which is not empty.
    Prefix(String),
}

/// A filter on one tag: the tag exists and has this value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TagFilter {
    /// Name of the tag.
    pub name: String,
    /// Its value, `None` for null.
    pub value: Option<String>,
}

/// Which key-values a list shows: all three must match.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct KeyValueFilter {
    /// Filter on keys.
    pub key: TextFilter,
    /// Filter on labels.
    pub label: TextFilter,
    /// Filters on tags, all of which must match.
    pub tags: Vec<TagFilter>,
}

/// The tags of a key-value.
pub type Tags = BTreeMap<String, Option<String>>;

impl TextFilter {
    /// Reads the filter of a query parameter after percent-decoding.
    ///
    /// `parameter` names it in errors; `null_allowed` says that a NUL means "no label".
    ///
    /// # Errors
    /// [`FilterError`] with the position.
    pub fn parse(
        parameter: &'static str,
        value: Option<&str>,
        null_allowed: bool,
    ) -> Result<Self, FilterError> {
        let Some(value) = value.filter(|value| !value.is_empty() && !value.starts_with('*')) else {
            return Ok(Self::Any);
        };
        let error = |position, reason| FilterError { parameter, position, reason };
        let invalid = |position| error(position, FilterErrorReason::InvalidCharacter);

        let length = value.chars().count();
        let mut values: Vec<Option<String>> = Vec::new();
        let mut text = String::new();
        let mut is_null = false;
        let mut characters = value.chars().enumerate();
        while let Some((position, character)) = characters.next() {
            match character {
                // A NUL must be the only character of its element.
                ',' if text.is_empty() && !is_null => return Err(invalid(position)),
                ',' => {
                    values.push(if is_null { None } else { Some(std::mem::take(&mut text)) });
                    is_null = false;
                    if values.len() == MAXIMUM_VALUES {
                        return Err(error(position, FilterErrorReason::TooManyValues));
                    }
                }
                _ if is_null => return Err(invalid(position)),
                '\0' if null_allowed && text.is_empty() => is_null = true,
                '*' if position + 1 == length && values.is_empty() => return Ok(Self::Prefix(text)),
                '\0' | '*' => return Err(invalid(position)),
                '\\' => match characters.next() {
                    Some((_, escaped)) if escaped != '\0' => text.push(escaped),
                    _ => return Err(invalid(position)),
                },
                _ => text.push(character),
            }
        }
        if text.is_empty() && !is_null {
            return Err(invalid(length - 1));
        }
        values.push(if is_null { None } else { Some(text) });
        Ok(Self::OneOf(values))
    }

    /// Whether every text that it can match begins with `prefix`.
    #[must_use]
    pub fn lies_within(&self, prefix: &str) -> bool {
        match self {
            Self::Any => false,
            Self::Prefix(text) => text.starts_with(prefix),
            Self::OneOf(texts) => {
                texts.iter().all(|text| text.as_deref().is_some_and(|text| text.starts_with(prefix)))
            }
        }
    }

    /// Whether it matches everything that the other matches.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (Self::Prefix(_), Self::OneOf(texts)) | (Self::OneOf(_), Self::OneOf(texts)) => {
                texts.iter().all(|text| self.matches(text.as_deref()))
            }
            (Self::Prefix(prefix), Self::Prefix(longer)) => longer.starts_with(prefix.as_str()),
            (Self::Prefix(_) | Self::OneOf(_), _) => false,
        }
    }

    /// Whether a text matches; `None` is "no label".
    #[must_use]
    pub fn matches(&self, text: Option<&str>) -> bool {
        match self {
            Self::Any => true,
            Self::OneOf(values) => values.iter().any(|value| value.as_deref() == text),
            Self::Prefix(prefix) => text.is_some_and(|text| text.starts_with(prefix.as_str())),
        }
    }

    /// Whether the filter is one text, neither pattern nor list: snapshots with the composition type `key` demand it of
    /// labels.
    #[must_use]
    pub fn is_single(&self) -> bool {
        matches!(self, Self::OneOf(values) if values.len() == 1)
    }
}

impl TagFilter {
    /// Reads one `tags` parameter after percent-decoding.
    ///
    /// # Errors
    /// [`FilterError`] with the position.
    pub fn parse(parameter: &'static str, value: &str) -> Result<Self, FilterError> {
        let error = |position, reason| FilterError { parameter, position, reason };
        let invalid = |position| error(position, FilterErrorReason::InvalidCharacter);

        let mut name: Option<String> = None;
        let mut text = String::new();
        let mut characters = value.chars().enumerate().peekable();
        while let Some((position, character)) = characters.next() {
            match character {
                '=' if name.is_some() => return Err(invalid(position)),
                '=' if text.is_empty() => return Err(error(position, FilterErrorReason::TagNameMissing)),
                '=' => name = Some(std::mem::take(&mut text)),
                '\0' if name.is_some() && text.is_empty() && characters.peek().is_none() => {
                    return Ok(Self { name: name.unwrap_or_default(), value: None });
                }
                '*' | ',' | '\0' => return Err(invalid(position)),
                '\\' => match characters.next() {
                    Some((_, escaped)) if escaped != '\0' => text.push(escaped),
                    _ => return Err(invalid(position)),
                },
                _ => text.push(character),
            }
        }
        match name {
            Some(name) => Ok(Self { name, value: Some(text) }),
            None if text.is_empty() => Err(error(0, FilterErrorReason::TagNameMissing)),
            None => Err(error(value.chars().count(), FilterErrorReason::TagSeparatorMissing)),
        }
    }

    /// Reads every `tags` parameter of a request.
    ///
    /// # Errors
    /// [`FilterError`] of the first bad one, or when there are more than [`MAXIMUM_VALUES`].
    pub fn parse_all<'a>(
        parameter: &'static str,
        values: impl IntoIterator<Item = &'a str>,
    ) -> Result<Vec<Self>, FilterError> {
        let filters =
            values.into_iter().map(|value| Self::parse(parameter, value)).collect::<Result<Vec<_>, _>>()?;
        if filters.len() > MAXIMUM_VALUES {
            return Err(FilterError { parameter, position: 0, reason: FilterErrorReason::TooManyValues });
        }
        Ok(filters)
    }

    /// Whether the tags contain this tag with this value.
    #[must_use]
    pub fn matches(&self, tags: &Tags) -> bool {
        tags.get(&self.name) == Some(&self.value)
    }
}

impl KeyValueFilter {
    /// Whether a key-value with this key and label can match for any tags. A write may change the tags, so this decides
    /// whether it may add to, change in, or remove from a list.
    #[must_use]
    pub fn may_match(&self, key: &str, label: Option<&str>) -> bool {
        self.key.matches(Some(key)) && self.label.matches(label)
    }

    /// Whether a list with this filter shows every key-value that a list with the other one shows.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        self.key.contains(&other.key)
            && self.label.contains(&other.label)
            && self.tags.iter().all(|tag| other.tags.contains(tag))
    }
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
