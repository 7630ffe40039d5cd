//! Which resources a write can have touched: rule 3 of coverage (see [`sync_token`](crate::sync_token)) for App
//! Configuration.
//!
//! A write to one key-value, `/locks/` included, changes that key-value and every list, key list, label list and
//! revision list whose filters it may satisfy, before or after the write. The request does not tell the tags, so a tag
//! filter counts as satisfied. A write whose meaning is not known touches everything.

use super::query::Query;
use super::resource::Resource;

/// What a write may have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// One key-value: its content by `/kv/{key}`, or whether it is locked by `/locks/{key}`.
    KeyValue {
        /// The key.
        key: String,
        /// The label; `None` is no label.
        label: Option<String>,
    },
    /// One snapshot.
    Snapshot {
        /// Its name.
        name: String,
    },
    /// Anything: the meaning of the write is not known.
    Anything,
}

/// What a write names: it touches no resource with another name, lists aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WrittenName<'a> {
    /// Key and label.
    KeyValue(&'a str, Option<&'a str>),
    /// The name of a snapshot.
    Snapshot(&'a str),
    /// Nothing in particular.
    Anything,
}

impl<'a> WrittenName<'a> {
    /// The name that a write must have to touch this resource; `None` where writes with several names may.
    #[must_use]
    pub fn of(resource: &'a Resource) -> Option<Self> {
        match resource {
            Resource::KeyValue { key, label, .. } | Resource::Lock { key, label } => {
                Some(Self::KeyValue(key, label.as_deref()))
            }
            Resource::Snapshot { name } | Resource::SnapshotKeyValues { snapshot: name } => {
                Some(Self::Snapshot(name))
            }
            Resource::KeyValues(_)
            | Resource::Keys { .. }
            | Resource::Labels { .. }
            | Resource::Revisions(_)
            | Resource::Snapshots { .. }
            | Resource::Operations
            | Resource::Unknown => None,
        }
    }
}

impl Write {
    /// What it names.
    #[must_use]
    pub fn name(&self) -> WrittenName<'_> {
        match self {
            Self::KeyValue { key, label } => WrittenName::KeyValue(key, label.as_deref()),
            Self::Snapshot { name } => WrittenName::Snapshot(name),
            Self::Anything => WrittenName::Anything,
        }
    }

    /// How long its texts are.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        match self {
            Self::KeyValue { key, label } => key.len() + label.as_ref().map_or(0, String::len),
            Self::Snapshot { name } => name.len(),
            Self::Anything => 0,
        }
    }

    /// What an unsafe request to this target may change.
    #[must_use]
    pub fn of(path: &str, query: Option<&str>) -> Self {
        let resource =
            Query::parse(query.unwrap_or_default()).ok().and_then(|query| Resource::parse(path, &query).ok());
        match resource {
            Some(Resource::KeyValue { key, label, .. } | Resource::Lock { key, label }) => {
                Self::KeyValue { key, label }
            }
            Some(Resource::Snapshot { name }) => Self::Snapshot { name },
            _ => Self::Anything,
        }
    }

    /// Whether the write can have changed what a `GET` of `resource` shows.
    #[must_use]
    pub fn touches(&self, resource: &Resource) -> bool {
        match self {
            Self::Anything => true,
            Self::KeyValue { key, label } => match resource {
                Resource::KeyValue { key: stored_key, label: stored_label, .. }
                | Resource::Lock { key: stored_key, label: stored_label } => {
                    stored_key == key && stored_label == label
                }
                Resource::KeyValues(filter) | Resource::Revisions(filter) => {
                    filter.may_match(key, label.as_deref())
                }
                Resource::Keys { name } => name.matches(Some(key)),
                Resource::Labels { name } => name.matches(label.as_deref()),
                // The content of a snapshot was fixed when it was made, and operations are never stored.
                Resource::SnapshotKeyValues { .. }
                | Resource::Snapshots { .. }
                | Resource::Snapshot { .. }
                | Resource::Operations => false,
                Resource::Unknown => true,
            },
            Self::Snapshot { name } => match resource {
                Resource::Snapshots { name: filter } => filter.matches(Some(name)),
                Resource::Snapshot { name: stored } | Resource::SnapshotKeyValues { snapshot: stored } => {
                    stored == name
                }
                Resource::Operations | Resource::Unknown => true,
                Resource::KeyValue { .. }
                | Resource::KeyValues(_)
                | Resource::Keys { .. }
                | Resource::Labels { .. }
                | Resource::Revisions(_)
                | Resource::Lock { .. } => false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::app_configuration::resource::canonicalize;

    fn split(target: &str) -> (&str, Option<&str>) {
        target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)))
    }

    fn touches(write: &str, stored: &str) -> bool {
        let (path, query) = split(stored);
        let resource = canonicalize(path, query).expect("a target with a canonical form").resource;
        let (path, query) = split(write);
        let write = Write::of(path, query);
        let touches = write.touches(&resource);
        let is_found = WrittenName::of(&resource).is_none_or(|name| write.name() == name);
        assert!(
            !touches || is_found || write == Write::Anything,
            "the index of the write log misses {write:?}"
        );
        touches
    }

    #[test]
    fn a_write_touches_what_may_contain_its_key_value() {
        for (write, stored) in [
            ("/kv/abc1", "/kv/abc1?api-version=1.0"),
            ("/kv/abc1", "/kv/abc1?api-version=2026-04-01&label=%00&$select=value"),
            ("/locks/abc1", "/kv/abc1"),
            ("/kv/abc1", "/kv?key=abc*"),
            ("/kv/abc1", "/kv"),
            ("/kv/abc1", "/kv?key=x,abc1,y"),
            ("/kv/abc1", "/kv?key=abc*&tags=env%3Dprod"),
            ("/kv/abc1", "/kv?key=abc*&after=eHl6"),
            ("/kv/abc1?label=prod", "/kv?label=pr*"),
            ("/kv/abc1?label=prod", "/kv?label=dev,prod"),
            ("/kv/abc1", "/kv?label=%00"),
            ("/kv/abc1", "/kv?label=dev,%00"),
            ("/kv/a%2Fb", "/kv/a/b"),
            ("/kv/a%2Cb%2A", "/kv?key=a%5C,b%5C*"),
            ("/kv/abc1", "/keys?name=ab*"),
            ("/kv/abc1?label=prod", "/labels?name=prod"),
            ("/kv/abc1", "/labels?name=%00"),
            ("/kv/abc1", "/revisions?key=abc1"),
            ("/snapshots/s1", "/snapshots/s1"),
            ("/snapshots/s1", "/snapshots?name=s*"),
            ("/snapshots/s1", "/kv?snapshot=s1"),
            ("/kv/%zz", "/kv/other"),
            ("/feature-management/x", "/kv?key=.appconfig.featureflag%2F*"),
        ] {
            assert!(touches(write, stored), "{write} must outdate {stored}");
        }
    }

    #[test]
    fn a_write_touches_nothing_else() {
        for (write, stored) in [
            ("/kv/abc1", "/kv/abc2"),
            ("/kv/abc1", "/kv/abc1?label=prod"),
            ("/kv/abc1?label=prod", "/kv/abc1"),
            ("/kv/abc1", "/kv?key=xyz*"),
            ("/kv/abc1", "/kv?key=abc"),
            ("/kv/abc1", "/kv?label=prod"),
            ("/kv/abc1?label=prod", "/kv?label=%00"),
            ("/kv/abc1", "/keys?name=x*"),
            ("/kv/abc1", "/labels?name=prod"),
            ("/kv/abc1", "/revisions?key=xyz"),
            ("/kv/abc1", "/kv?snapshot=s1"),
            ("/kv/abc1", "/snapshots"),
            ("/snapshots/s1", "/snapshots/s2"),
            ("/snapshots/s1", "/kv?snapshot=s2"),
            ("/snapshots/s1", "/kv/s1"),
        ] {
            assert!(!touches(write, stored), "{write} must not outdate {stored}");
        }
    }
}
