//! The key-values of the emulator and their histories, in the order of lists.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;

use super::history::{History, Revision, View};
use crate::clock::Timestamp;
use crate::headers::http_date;
use crate::profile::app_configuration::api_version::ApiVersion;
use crate::profile::app_configuration::filter::{KeyValueFilter, TextFilter};
use crate::profile::app_configuration::key_value::{KeyValue, KeyValueId};
use crate::profile::app_configuration::ordinal::Ordinal;
use crate::profile::app_configuration::select::Selection;

/// One state of a key-value with its JSON and fields. They are made once, at the write, because most requests only copy
/// them.
#[derive(Debug)]
pub struct StoredKeyValue {
    /// The state.
    pub key_value: Arc<KeyValue>,
    /// `ETag`.
    pub etag: HeaderValue,
    /// `Last-Modified`.
    pub last_modified: HeaderValue,
    plain_json: Bytes,
    described_json: Bytes,
}

impl StoredKeyValue {
    fn new(key_value: Arc<KeyValue>) -> Self {
        let json = |version| {
            // Serialising strings, booleans and a map with string keys cannot fail.
            Bytes::from(serde_json::to_vec(&key_value.view(Selection::ALL, version)).unwrap_or_default())
        };
        Self {
            plain_json: json(ApiVersion::V1_0),
            described_json: json(ApiVersion::V2026_04_01),
            etag: quoted_etag(&key_value.etag),
            last_modified: http_date::format(key_value.last_modified),
            key_value,
        }
    }

    /// The JSON in the form that a request asks for.
    pub fn json(&self, selection: Selection, version: ApiVersion) -> Bytes {
        match (selection == Selection::ALL, version.has_description()) {
            (true, false) => self.plain_json.clone(),
            (true, true) => self.described_json.clone(),
            // Cannot fail, see `new`.
            (false, _) => {
                serde_json::to_vec(&self.key_value.view(selection, version)).unwrap_or_default().into()
            }
        }
    }
}

/// The value of `ETag`: the tag in quotes.
pub fn quoted_etag(etag: &str) -> HeaderValue {
    // A tag is base64url, or was checked when the seed was read, so it is a valid field value.
    HeaderValue::try_from(format!("\"{etag}\"")).unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}

/// Every present and past key-value.
#[derive(Debug, Default)]
pub struct KeyValues(BTreeMap<KeyValueId, History<Arc<StoredKeyValue>>>);

impl KeyValues {
    /// The state of one key-value that a view shows.
    pub fn find(&self, key: &str, label: Option<&str>, view: View) -> Option<&Arc<StoredKeyValue>> {
        self.0.get(&KeyValueId::new(key, label))?.at(view)
    }

    /// Adds the newest state of a key-value (`None` for a deletion) and drops states that were replaced before
    /// `horizon`.
    pub fn push(
        &mut self,
        id: &KeyValueId,
        sequence_number: u64,
        at: Timestamp,
        state: Option<Arc<KeyValue>>,
        horizon: Timestamp,
    ) {
        let state = state.map(|key_value| Arc::new(StoredKeyValue::new(key_value)));
        let history = self.0.entry(id.clone()).or_default();
        history.push(Revision { sequence_number, at, state });
        history.forget_before(horizon);
    }

    /// The key-values that match a filter and a view, in order, starting after a position. Visits only keys that can
    /// match.
    pub fn list<'a>(
        &'a self,
        filter: &'a KeyValueFilter,
        after: Option<&'a KeyValueId>,
        view: View,
    ) -> impl Iterator<Item = &'a Arc<StoredKeyValue>> {
        self.histories(&filter.key, after.map_or(Bound::Unbounded, |id| Bound::Excluded(id.clone())))
            .filter(move |(id, _)| filter.label.matches(id.label()))
            .filter_map(move |(_, history)| history.at(view))
            .filter(move |stored| matches_tags(filter, stored))
    }

    /// The revisions that match a filter and a view, each with the number of its change. They are ordered by key and
    /// label, newest first, and start after a position (identity and change).
    pub fn revisions<'a>(
        &'a self,
        filter: &'a KeyValueFilter,
        after: Option<&'a (KeyValueId, u64)>,
        view: View,
    ) -> impl Iterator<Item = (u64, &'a Arc<StoredKeyValue>)> {
        self.histories(&filter.key, after.map_or(Bound::Unbounded, |(id, _)| Bound::Included(id.clone())))
            .filter(move |(id, _)| filter.label.matches(id.label()))
            .flat_map(move |(id, history)| {
                let older_than = after.filter(|(last, _)| last == id).map_or(u64::MAX, |(_, number)| *number);
                history.revisions(view).filter(move |(number, _)| *number < older_than)
            })
            .filter(move |(_, stored)| matches_tags(filter, stored))
    }

    /// The keys that match a filter and a view, each once, in order, starting after a key.
    pub fn keys<'a>(
        &'a self,
        filter: &'a TextFilter,
        after: Option<&'a str>,
        view: View,
    ) -> impl Iterator<Item = &'a str> {
        let after = after.map(KeyValueId::after_labels_of);
        let mut last: Option<&str> = None;
        self.histories(filter, after.map_or(Bound::Unbounded, Bound::Included))
            .filter(move |(_, history)| history.at(view).is_some())
            .map(|(id, _)| id.key())
            .filter(move |key| last.replace(key) != Some(*key))
    }

    /// The labels that match a filter and a view, each once, in order; "no label" first.
    pub fn labels(&self, filter: &TextFilter, view: View) -> BTreeSet<Option<Ordinal<'_>>> {
        self.0
            .iter()
            .filter(|(id, history)| filter.matches(id.label()) && history.at(view).is_some())
            .map(|(id, _)| id.label().map(Ordinal))
            .collect()
    }

    /// Every present key-value.
    #[cfg(test)]
    pub fn newest(&self) -> impl Iterator<Item = &Arc<StoredKeyValue>> {
        self.0.values().filter_map(|history| history.at(View::NEWEST))
    }

    /// The histories that can match a filter, in order, from a position on.
    fn histories<'a>(
        &'a self,
        filter: &TextFilter,
        from: Bound<KeyValueId>,
    ) -> impl Iterator<Item = (&'a KeyValueId, &'a History<Arc<StoredKeyValue>>)> {
        prefixes(filter).into_iter().flat_map(move |prefix| {
            let start = match &from {
                Bound::Included(id) if *id > prefix => Bound::Included(id),
                Bound::Excluded(id) if *id >= prefix => Bound::Excluded(id),
                _ => Bound::Included(&prefix),
            };
            let histories = self.0.range((start, Bound::Unbounded));
            histories.take_while(move |(id, _)| id.as_str().starts_with(prefix.as_str()))
        })
    }
}

/// The ranges of identities that can match, in order: all, one range for each key, or one for a prefix.
fn prefixes(filter: &TextFilter) -> Vec<KeyValueId> {
    match filter {
        TextFilter::Any => vec![KeyValueId::before_keys_with("")],
        TextFilter::Prefix(prefix) => vec![KeyValueId::before_keys_with(prefix)],
        TextFilter::OneOf(keys) => {
            let mut prefixes: Vec<KeyValueId> =
                keys.iter().flatten().map(|key| KeyValueId::new(key, None)).collect();
            prefixes.sort_unstable();
            prefixes.dedup();
            prefixes
        }
    }
}

fn matches_tags(filter: &KeyValueFilter, stored: &StoredKeyValue) -> bool {
    filter.tags.iter().all(|tag| tag.matches(&stored.key_value.content.tags))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::app_configuration::filter::{TagFilter, Tags};
    use crate::profile::app_configuration::key_value::KeyValueContent;
    use proptest::prelude::*;

    const EPOCH: Timestamp = Timestamp::from_unix_seconds(0);

    fn push(all: &mut KeyValues, number: u64, key: &str, label: Option<&str>, tag: &str) {
        let id = KeyValueId::new(key, label);
        let tags: Tags = [("t".to_owned(), Some(tag.to_owned()))].into();
        let content = KeyValueContent { tags, ..KeyValueContent::default() };
        let at = EPOCH.plus(std::time::Duration::from_secs(number));
        let state = KeyValue { id: id.clone(), etag: "e".into(), content, locked: false, last_modified: at };
        all.push(&id, number, at, Some(Arc::new(state)), EPOCH);
    }

    fn filter(key: &str, label: &str, tag: Option<&str>) -> KeyValueFilter {
        KeyValueFilter {
            key: TextFilter::parse("key", Some(key), false).unwrap(),
            label: TextFilter::parse("label", Some(label), true).unwrap(),
            tags: tag.map(|tag| TagFilter::parse("tags", tag).unwrap()).into_iter().collect(),
        }
    }

    proptest! {
        #[test]
        fn a_list_by_ranges_is_the_list_by_looking_at_everything(
            items in prop::collection::vec(("[ab/]{1,3}", prop::option::of("[xy]{1,2}"), "[01]"), 0..30),
            key in "(\\*|[ab/]{1,2}\\*?|[ab]{1,2},[ab/]{1,2})", label in "(\\*|x\\*|x|\\x00)", tag in prop::option::of("t=[01]"),
            position in 0usize..8,
        ) {
            let mut all = KeyValues::default();
            for (number, (key, label, tag)) in (1..).zip(&items) {
                push(&mut all, number, key, label.as_deref(), tag);
            }
            let filter = filter(&key, &label, tag.as_deref());
            let expected: Vec<&KeyValueId> = all.newest()
                .map(|stored| &*stored.key_value)
                .filter(|state| filter.may_match(state.id.key(), state.id.label()))
                .filter(|state| filter.tags.iter().all(|tag| tag.matches(&state.content.tags)))
                .map(|state| &state.id)
                .collect();
            let listed: Vec<&KeyValueId> = all.list(&filter, None, View::NEWEST).map(|stored| &stored.key_value.id).collect();
            prop_assert_eq!(&listed, &expected);
            if let Some(after) = expected.get(position) {
                let rest: Vec<_> = all.list(&filter, Some(after), View::NEWEST).map(|stored| &stored.key_value.id).collect();
                prop_assert_eq!(rest.as_slice(), &expected[position + 1..]);
            }
            let revisions: Vec<_> = all.revisions(&filter, None, View::NEWEST).map(|(number, stored)| (stored.key_value.id.clone(), number)).collect();
            for (index, position) in revisions.iter().enumerate() {
                let rest: Vec<_> = all.revisions(&filter, Some(position), View::NEWEST).map(|(number, stored)| (stored.key_value.id.clone(), number)).collect();
                prop_assert_eq!(rest.as_slice(), &revisions[index + 1..]);
            }
            let mut keys: Vec<&str> = all.newest().map(|stored| stored.key_value.id.key()).filter(|key| filter.key.matches(Some(key))).collect();
            keys.dedup();
            prop_assert_eq!(all.keys(&filter.key, None, View::NEWEST).collect::<Vec<_>>(), keys.clone());
            for (index, key) in keys.iter().enumerate() {
                prop_assert_eq!(all.keys(&filter.key, Some(key), View::NEWEST).collect::<Vec<_>>(), &keys[index + 1..]);
            }
        }
    }

    #[test]
    fn labels_are_listed_once_with_no_label_first() {
        let mut all = KeyValues::default();
        for (number, (key, label)) in
            (1..).zip([("a", Some("y")), ("a", None), ("b", Some("x")), ("b", Some("y"))])
        {
            push(&mut all, number, key, label, "0");
        }
        let any = TextFilter::Any;
        assert_eq!(
            all.labels(&any, View::NEWEST).into_iter().collect::<Vec<_>>(),
            [None, Some(Ordinal("x")), Some(Ordinal("y"))]
        );
        assert_eq!(all.labels(&any, View { sequence_number: 2, before: None }).len(), 2);
    }
}
