//! `POST /admin/purge`: which stored responses the operator removes.

use std::fmt;

use http::Method;
use http::uri::PathAndQuery;
use serde::Deserialize;

use super::AdminUpstream;
use crate::headers::survey::FieldSet;
use crate::store::Store;
use crate::stored_response::CacheKey;

/// The body of a purge: exactly one of the three.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    all: Option<bool>,
    key: Option<String>,
    prefix: Option<String>,
}

/// What is to be purged, in every upstream and for every identity.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Purge {
    All,
    /// One target, in any of the spellings that its profile takes for the same.
    Key(PathAndQuery),
    /// All targets whose canonical form begins so.
    Prefix(String),
}

impl fmt::Display for Purge {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => formatter.write_str("all"),
            // A query may hold private data: the log gets the path alone.
            Self::Key(target) => write!(formatter, "key {}", target.path()),
            Self::Prefix(prefix) => {
                write!(formatter, "prefix {}", prefix.split('?').next().unwrap_or_default())
            }
        }
    }
}

/// A body that is not a purge.
#[derive(Debug, thiserror::Error)]
#[error("{0}. Send {{\"all\":true}}, {{\"key\":\"/path?query\"}} or {{\"prefix\":\"/path\"}} as JSON")]
pub(super) struct PurgeError(String);

pub(super) fn parse(body: &[u8]) -> Result<Purge, PurgeError> {
    let body: Body = serde_json::from_slice(body)
        .map_err(|error| PurgeError(format!("The body is not understood: {error}")))?;
    match body {
        Body { all: Some(true), key: None, prefix: None } => Ok(Purge::All),
        Body { all: None, key: Some(key), prefix: None } if key.starts_with('/') => key
            .parse()
            .map(Purge::Key)
            .map_err(|error| PurgeError(format!("The key is not a target: {error}"))),
        Body { all: None, key: None, prefix: Some(prefix) } if prefix.starts_with('/') => {
            Ok(Purge::Prefix(prefix))
        }
        _ => Err(PurgeError("The body names nothing to purge, or several things, or no path".to_owned())),
    }
}

/// Removes what is to be purged and returns how many cache keys that were. What the origin sends while this runs is newer
/// than the purge and may be stored.
pub(super) fn run(purge: &Purge, store: &dyn Store, upstreams: &[AdminUpstream]) -> usize {
    match purge {
        Purge::All => store.clear(),
        Purge::Prefix(prefix) => {
            store.remove_where(&|key: &CacheKey| key.canonical_target().starts_with(prefix))
        }
        Purge::Key(target) => {
            let canonical: Vec<_> = upstreams
                .iter()
                .filter_map(|upstream| {
                    upstream.profile.canonical_target(&Method::GET, target, FieldSet::default()).ok()
                })
                .collect();
            store.remove_where(&|key: &CacheKey| {
                canonical.iter().any(|target| target.as_ref() == key.canonical_target())
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_at_a_time_is_purged() {
        assert_eq!(parse(br#"{"all":true}"#).unwrap(), Purge::All);
        assert_eq!(
            parse(br#"{"key":"/kv/x?label=a"}"#).unwrap(),
            Purge::Key("/kv/x?label=a".parse().unwrap())
        );
        assert_eq!(parse(br#"{"prefix":"/kv/app"}"#).unwrap(), Purge::Prefix("/kv/app".into()));
        for wrong in [
            r#"{"all":false}"#,
            r#"{"all":1}"#,
            r#"{"key":"x"}"#,
            r#"{"key":"/a b"}"#,
            r#"{"prefix":""}"#,
            r#"{"pattern":"/x"}"#,
            r#"{"key":"/x","prefix":"/x"}"#,
        ] {
            let message = parse(wrong.as_bytes()).unwrap_err().to_string();
            assert!(message.contains(r#"{"prefix":"/path"}"#), "{message}");
        }
    }

    #[test]
    fn the_log_is_told_no_query() {
        let key = parse(br#"{"key":"/kv/x?label=hunter2"}"#).unwrap();
        let prefix = parse(br#"{"prefix":"/kv/x?label=hunter2"}"#).unwrap();
        assert_eq!((key.to_string(), prefix.to_string()), ("key /kv/x".into(), "prefix /kv/x".into()));
    }
}
