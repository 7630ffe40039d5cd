//! `--seed FILE`: a JSON set of key-values as the API returns it, so that an export of a real store loads unchanged.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::profile::app_configuration::json_object::JsonObject;
use crate::profile::app_configuration::key_value::{KeyValue, KeyValueId};

/// A seed is refused.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// The file cannot be read.
    #[error("cannot read the seed {}: {source}; check the path and its permissions", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The content is not a set of key-values.
    #[error("the seed is refused at line {line}, column {column}: {reason}; correct that place")]
    Content {
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
        /// The mistake.
        reason: String,
    },
}

/// Reads a seed file.
pub fn read_seed(path: &Path) -> Result<Vec<KeyValue>, SeedError> {
    let content = std::fs::read(path).map_err(|source| SeedError::Read { path: path.to_owned(), source })?;
    parse_seed(&content)
}

/// Parses the content of a seed: `{"items": [...]}`. Fields that the API adds beside the items are ignored. Each key
/// and label must occur once.
///
/// # Errors
/// [`SeedError::Content`] with the line.
pub fn parse_seed(content: &[u8]) -> Result<Vec<KeyValue>, SeedError> {
    // Editors on Windows put a byte order mark at the start of a file.
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    match serde_json::from_slice::<JsonObject<KeyValueSet>>(content) {
        Ok(JsonObject(set)) => Ok(set.items.0),
        Err(error) => {
            let (line, column) = (error.line(), error.column());
            let text = error.to_string();
            let position = format!(" at line {line} column {column}");
            let reason = text.strip_suffix(position.as_str()).unwrap_or(&text).to_owned();
            Err(SeedError::Content { line, column, reason })
        }
    }
}

#[derive(Deserialize)]
struct KeyValueSet {
    items: Items,
}

/// The items are checked while they are read, because serde knows the position only then.
struct Items(Vec<KeyValue>);

impl<'de> Deserialize<'de> for Items {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ItemsVisitor)
    }
}

struct ItemsVisitor;

impl<'de> Visitor<'de> for ItemsVisitor {
    type Value = Items;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of key-values")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Items, A::Error> {
        let mut items = Vec::new();
        let mut known: HashSet<KeyValueId> = HashSet::new();
        while let Some(item) = sequence.next_element::<KeyValue>()? {
            if !item.etag.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"') {
                return Err(A::Error::custom(format_args!(
                    "etag {:?} is invalid in an ETag field",
                    item.etag
                )));
            }
            if !known.insert(item.id.clone()) {
                return Err(A::Error::custom(format_args!("{:?} occurs twice", item.id)));
            }
            items.push(item);
        }
        Ok(Items(items))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_export_loads_unchanged() {
        let export = "\u{feff}{\"etag\":\"page\",\"items\":[\n\
            {\"etag\":\"h73g\",\"key\":\"a\",\"label\":null,\"content_type\":null,\"value\":\"v1\",\"tags\":{},\
             \"locked\":true,\"last_modified\":\"2020-04-15T16:11:16+00:00\"},\n\
            {\"key\":\"a\",\"label\":\"prod\",\"value\":null}],\"@nextLink\":\"/kv?after=x\"}";
        let items = parse_seed(export.as_bytes()).unwrap();
        assert_eq!(items.len(), 2);
        assert!(items[0].locked && &*items[0].etag == "h73g");
        assert_eq!((items[1].id.label(), items[1].content.value.as_deref()), (Some("prod"), None));
    }

    #[test]
    fn a_mistake_is_refused_with_its_line_and_reason() {
        for (content, line, reason) in [
            ("", 1, "EOF while parsing"),
            ("[]", 1, "expected a JSON object"),
            ("{\n\"values\":[]}", 2, "missing field `items`"),
            ("{\"items\":[\n{\"value\":\"v\"}]}", 2, "missing field `key`"),
            ("{\"items\":[\n{\"key\":\"a\"},\n{\"key\":\"a\",\"label\":\"\"}]}", 3, "occurs twice"),
            ("{\"items\":[\n{\"key\":\"a\"},\n\n{\"key\":\"..\"}]}", 4, "must not be '.' or '..'"),
            ("{\"items\":[\n{\"key\":\"a\",\"etag\":\"a\\\"b\"}]}", 2, "invalid in an ETag"),
            ("{\"items\":[\n{\"key\":\"a\",\"locked\":\"false\"}]}", 2, "expected a boolean"),
            ("{\"items\":[]} trailing", 1, "trailing characters"),
        ] {
            let error = parse_seed(content.as_bytes()).unwrap_err();
            let SeedError::Content { line: found, reason: text, .. } = &error else { panic!("{error}") };
            assert!(*found == line && text.contains(reason), "{content:?}: {error}");
            assert!(error.to_string().contains(&format!("line {line}")), "{error}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read_seed(Path::new("/nowhere/seed.json")).unwrap_err();
        assert!(error.to_string().contains("/nowhere/seed.json"), "{error}");
    }

    proptest! {
        #[test]
        fn no_content_panics(content in prop::collection::vec(any::<u8>(), 0..64), near in "\\{\"items\":\\[[\\{\\}\":,a-z]{0,24}\\]\\}") {
            let _results = (parse_seed(&content).is_ok(), parse_seed(near.as_bytes()).is_ok());
        }
    }
}
