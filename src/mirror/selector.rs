//! What a mirror holds: the key-values that one filter selects.

use std::fmt;

use crate::profile::app_configuration::filter::KeyValueFilter;
use crate::profile::app_configuration::query::Query;
use crate::profile::app_configuration::resource::{TargetError, canonicalize, key_value_filter};

/// The filter of one selected collection, as `/kv` understands it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    /// Which key-values.
    pub filter: KeyValueFilter,
    /// The same as parameters of `/kv` in their canonical spelling; empty selects everything.
    pub query: Box<str>,
}

/// Why a selection is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SelectorError {
    /// A parameter that selects nothing.
    Parameter(String),
    /// A malformed filter.
    Filter(TargetError),
}

impl std::error::Error for SelectorError {}

impl fmt::Display for SelectorError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parameter(name) => {
                write!(formatter, "{name:?} is not one of key, label and tags; leave it out")
            }
            Self::Filter(error) => write!(formatter, "{error}"),
        }
    }
}

impl Selector {
    /// Everything.
    #[must_use]
    pub fn everything() -> Self {
        Self { filter: KeyValueFilter::default(), query: "".into() }
    }

    /// The canonical target of the range after a position (opaque, as in `after`); `None` is the beginning.
    #[must_use]
    pub fn target(&self, api_version: &str, after: Option<&str>) -> String {
        let mut query = format!("api-version={api_version}&{}", self.query);
        if let Some(after) = after {
            query.push_str("&after=");
            query.extend(percent_encoding::utf8_percent_encode(after, percent_encoding::NON_ALPHANUMERIC));
        }
        canonicalize("/kv", Some(&query)).map(|canonical| canonical.text).unwrap_or_default()
    }

    /// Reads a selection as it is configured: `key=app:*&label=prod`.
    ///
    /// # Errors
    /// [`SelectorError`]
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let query = Query::parse(text).map_err(|error| SelectorError::Filter(error.into()))?;
        if let Some((name, _)) = query.iter().find(|(name, _)| !matches!(*name, "key" | "label" | "tags")) {
            return Err(SelectorError::Parameter(name.to_owned()));
        }
        let filter = key_value_filter(&query).map_err(SelectorError::Filter)?;
        let canonical = canonicalize("/kv", Some(text)).map(|canonical| canonical.text).unwrap_or_default();
        let query = canonical.split_once('?').map_or("", |(_, query)| query).into();
        Ok(Self { filter, query })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_is_a_filter_in_its_canonical_spelling() {
        let one = Selector::parse("label=prod&key=app:*").unwrap();
        assert_eq!(&*one.query, "key=app%3A%2A&label=prod");
        assert!(one.filter.may_match("app:a", Some("prod")) && !one.filter.may_match("app:a", None));
        assert_eq!(Selector::parse("").unwrap(), Selector::everything());
        assert_eq!(Selector::parse("key=*").unwrap(), Selector::everything());
    }

    #[test]
    fn what_selects_nothing_is_refused() {
        for (text, part) in [
            ("keys=a", "\"keys\""),
            ("after=x", "\"after\""),
            ("$select=key", "\"$select\""),
            ("key=a*b", "key(1)"),
            ("key=%zz", "%25"),
            ("tags=a", "tags"),
        ] {
            let error = Selector::parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
