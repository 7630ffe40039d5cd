//! What a request asks of a mirror: read from its canonical target.

use std::ops::Range as Span;

use super::collection::Collection;
use super::item::Item;
use crate::profile::app_configuration::api_version::ApiVersion;
use crate::profile::app_configuration::filter::{KeyValueFilter, TagFilter, TextFilter};
use crate::profile::app_configuration::key_value::KeyValueId;
use crate::profile::app_configuration::ordinal::Ordinal;
use crate::profile::app_configuration::page::{decode_continuation, key_value_before, name_before};
use crate::profile::app_configuration::query::Query;
use crate::profile::app_configuration::resource::Resource;
use crate::profile::app_configuration::select::Selection;

/// A question that a mirror can answer, if it holds what it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question<'a> {
    /// What is asked for.
    pub asked: Asked,
    /// Which fields are shown.
    pub selection: Selection,
    /// The api-version of the answer.
    pub version: ApiVersion,
    /// The path of the canonical target.
    pub path: &'a str,
    /// Its query.
    pub query: &'a str,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// `/kv/{key}`
    KeyValue {
        /// Key and label.
        id: KeyValueId,
        /// It is not there unless it has these tags.
        tags: Vec<TagFilter>,
    },
    /// `/kv`
    KeyValues {
        /// Which key-values.
        filter: KeyValueFilter,
        /// After which one the page begins.
        after: Option<KeyValueId>,
    },
    /// `/keys`
    Keys {
        /// Which keys.
        name: TextFilter,
        /// After which one the page begins.
        after: Option<String>,
    },
    /// `/labels`
    Labels {
        /// Which labels.
        name: TextFilter,
        /// After which one the page begins; no label is empty.
        after: Option<String>,
    },
}

impl<'a> Question<'a> {
    /// The question of a canonical target. `None` where the origin has to be asked: other resources, parameters and api-versions
    /// whose meaning is not known, positions that cannot be read, and versions later than `loaded`, which the items came with.
    #[must_use]
    pub fn read(canonical_target: &'a str, loaded: ApiVersion) -> Option<Self> {
        let (path, query_text) = canonical_target.split_once('?')?;
        let query = Query::parse(query_text).ok()?;
        let version =
            ApiVersion::from_values(query.all("api-version")).ok().filter(|version| *version <= loaded)?;
        let selection = Selection::parse(query.single("$select").ok()?);
        let plain = match query.single("after").ok()?.filter(|after| !after.is_empty()) {
            Some(after) => Some(decode_continuation(after)?),
            None => None,
        };
        let knows = |names: &[&str]| {
            query.iter().all(|(name, _)| name == "api-version" || name == "$select" || names.contains(&name))
        };
        let asked = match Resource::parse(path, &query).ok()? {
            Resource::KeyValue { key, label, tags } if knows(&["label", "tags"]) => {
                let tags = if version.has_tags_on_key_value() { tags } else { Vec::new() };
                Asked::KeyValue { id: KeyValueId::new(&key, label.as_deref()), tags }
            }
            Resource::KeyValues(mut filter) if knows(&["key", "label", "tags", "after"]) => {
                if !version.has_tag_filters() {
                    filter.tags.clear();
                }
                let after = match plain {
                    Some(plain) => Some(key_value_before(&plain)?),
                    None => None,
                };
                Asked::KeyValues { filter, after }
            }
            Resource::Keys { name } if knows(&["name", "after"]) => {
                Asked::Keys { name, after: name_after(plain.as_deref())? }
            }
            Resource::Labels { name } if knows(&["name", "after"]) => {
                Asked::Labels { name, after: name_after(plain.as_deref())? }
            }
            _ => return None,
        };
        Some(Self { asked, selection, version, path, query: query_text })
    }

    /// Whether the answer lies within what the collection selects. One key-value may still turn out to be outside, where tags
    /// select ([`Question::may_be_absent_from`]).
    #[must_use]
    pub fn lies_within(&self, collection: &Collection) -> bool {
        let selected = &collection.selector.filter;
        match &self.asked {
            Asked::KeyValue { id, .. } => selected.may_match(id.key(), id.label()),
            Asked::KeyValues { filter, .. } => selected.contains(filter),
            Asked::Keys { name, .. } => {
                selected.contains(&KeyValueFilter { key: name.clone(), ..Default::default() })
            }
            Asked::Labels { name, .. } => {
                selected.contains(&KeyValueFilter { label: name.clone(), ..Default::default() })
            }
        }
    }

    /// Whether what the collection does not hold may exist all the same: tags select, and it may have others.
    #[must_use]
    pub fn may_be_absent_from(&self, collection: &Collection) -> bool {
        matches!(self.asked, Asked::KeyValue { .. }) && !collection.selector.filter.tags.is_empty()
    }

    /// The ranges that the answer depends on.
    #[must_use]
    pub fn ranges(&self, collection: &Collection) -> Span<usize> {
        match &self.asked {
            Asked::KeyValue { id, .. } => {
                let index = collection.range_of(id);
                index..(index + 1).min(collection.ranges.len())
            }
            Asked::KeyValues { filter, after } => {
                let span = ranges_of(collection, &filter.key, after.as_ref());
                up_to_page_end(collection, span, |item| self.shows(item))
            }
            Asked::Keys { name, after } => {
                let after = after.as_deref().map(KeyValueId::after_labels_of);
                let span = ranges_of(collection, name, after.as_ref());
                let mut last: Option<&str> = None;
                up_to_page_end(collection, span, |item| {
                    let is_new = last.replace(item.id.key()) != Some(item.id.key());
                    is_new && self.shows(item)
                })
            }
            Asked::Labels { .. } => 0..collection.ranges.len(),
        }
    }

    /// Whether an item may be shown, as far as it alone tells.
    #[must_use]
    pub fn shows(&self, item: &Item) -> bool {
        match &self.asked {
            Asked::KeyValue { id, tags } => item.id == *id && item.has_tags(tags),
            Asked::KeyValues { filter, after } => {
                after.as_ref().is_none_or(|after| item.id > *after)
                    && filter.may_match(item.id.key(), item.id.label())
                    && item.has_tags(&filter.tags)
            }
            Asked::Keys { name, after } => {
                name.matches(Some(item.id.key()))
                    && after.as_ref().is_none_or(|after| Ordinal(item.id.key()) > Ordinal(after))
            }
            Asked::Labels { name, after } => {
                let follows = |after: &String| Ordinal(item.id.label().unwrap_or_default()) > Ordinal(after);
                name.matches(item.id.label()) && after.as_ref().is_none_or(follows)
            }
        }
    }

    /// Whether the answer is a list, which must show one state.
    #[must_use]
    pub const fn is_list(&self) -> bool {
        !matches!(self.asked, Asked::KeyValue { .. })
    }
}

/// The ranges up to the one with the item that tells that the page continues: what follows changes nothing.
fn up_to_page_end<'a>(
    collection: &'a Collection,
    span: Span<usize>,
    mut shows: impl FnMut(&'a Item) -> bool,
) -> Span<usize> {
    let mut left = collection.page_size() + 1;
    for index in span.clone() {
        let items = collection.ranges.get(index).map(|range| range.items.as_slice()).unwrap_or_default();
        left = left.saturating_sub(items.iter().filter(|item| shows(item)).count());
        if left == 0 {
            return span.start..index + 1;
        }
    }
    span
}

fn ranges_of(collection: &Collection, keys: &TextFilter, after: Option<&KeyValueId>) -> Span<usize> {
    match keys {
        TextFilter::Any => collection.ranges_of("", after),
        TextFilter::Prefix(prefix) => collection.ranges_of(prefix, after),
        TextFilter::OneOf(texts) => {
            let spans = texts.iter().flatten().map(|key| {
                let id = KeyValueId::new(key, None);
                let from = after.filter(|after| **after > id).unwrap_or(&id);
                let last = collection.range_of(&KeyValueId::after_labels_of(key));
                collection.range_of(from).min(last)..last + 1
            });
            let union = spans.reduce(|one, other| one.start.min(other.start)..one.end.max(other.end));
            let span = union.unwrap_or(0..1);
            span.start..span.end.min(collection.ranges.len())
        }
    }
}

/// The name that a position stands for; `None` if it cannot be read.
fn name_after(plain: Option<&str>) -> Option<Option<String>> {
    match plain {
        Some(plain) => name_before(plain).map(|name| Some(name.to_owned())),
        None => Some(None),
    }
}
