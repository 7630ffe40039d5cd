//! The key-values of a page, each with the JSON that the origin sent.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::give_up::GiveUpReason;
use crate::clock::Timestamp;
use crate::headers::request_date::parse_rfc3339;
use crate::profile::app_configuration::api_version::ApiVersion;
use crate::profile::app_configuration::filter::{TagFilter, Tags};
use crate::profile::app_configuration::key_value::{KeyValueId, check_key, check_name};
use crate::profile::app_configuration::page::{ContinuationForms, PAGE_SIZE, after_key_value};
use crate::profile::app_configuration::select::Selection;

/// One key-value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Key and label.
    pub id: KeyValueId,
    /// Its entity tag, without quotes.
    pub entity_tag: Box<str>,
    /// Its JSON as the origin sent it: a part of the page that it came with, which it keeps in memory.
    pub json: Bytes,
}

/// A page of key-values, whole and in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemPage {
    /// At most [`PAGE_SIZE`].
    pub items: Vec<Item>,
    /// Whether a further page follows.
    pub continues: bool,
    /// In which forms its link can have been written.
    pub forms: ContinuationForms,
}

#[derive(Deserialize)]
struct PageJson<'a> {
    #[serde(borrow)]
    items: Vec<&'a RawValue>,
    #[serde(borrow, default, rename = "@nextLink")]
    next: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct ItemJson<'a> {
    #[serde(borrow)]
    etag: Cow<'a, str>,
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow, default)]
    label: Option<Cow<'a, str>>,
}

impl ItemPage {
    /// Reads the page after `anchor`.
    ///
    /// # Errors
    /// [`GiveUpReason::Page`] if it is no page of key-values with tags, or its next page does not begin where it ends;
    /// [`GiveUpReason::Name`] if a name has control characters; [`GiveUpReason::Order`] if an item does not follow the one before.
    pub fn read(body: &Bytes, anchor: Option<&KeyValueId>) -> Result<Self, GiveUpReason> {
        let page: PageJson<'_> = serde_json::from_slice(body).map_err(|_| GiveUpReason::Page)?;
        let items = page.items.into_iter().map(|json| Item::read(body.slice_ref(json.get().as_bytes())));
        let items: Vec<Item> = items.collect::<Result<_, _>>()?;
        if items.len() > PAGE_SIZE {
            return Err(GiveUpReason::Page);
        }
        let ids = anchor.into_iter().chain(items.iter().map(|item| &item.id));
        if !ids.is_sorted_by(|one, next| one < next) {
            return Err(GiveUpReason::Order);
        }
        let forms = match (&page.next, items.last()) {
            (None, _) => ContinuationForms::all(),
            (Some(link), Some(last)) => ContinuationForms::of_link(link, &after_key_value(&last.id)),
            (Some(_), None) => ContinuationForms::empty(),
        };
        if forms.is_empty() {
            return Err(GiveUpReason::Page);
        }
        Ok(Self { items, continues: page.next.is_some(), forms })
    }
}

impl Item {
    /// Reads one key-value.
    ///
    /// # Errors
    /// [`GiveUpReason::Page`] or [`GiveUpReason::Name`].
    pub fn read(json: Bytes) -> Result<Self, GiveUpReason> {
        let item: ItemJson<'_> = serde_json::from_slice(&json).map_err(|_| GiveUpReason::Page)?;
        let label = item.label.as_deref().filter(|label| !matches!(*label, "" | "\0"));
        check_key(&item.key)
            .and_then(|()| check_name(label.unwrap_or_default()))
            .map_err(|_| GiveUpReason::Name)?;
        if !item.etag.bytes().all(|byte| matches!(byte, b'!' | b'#'..=b'~')) {
            return Err(GiveUpReason::Name);
        }
        let (id, entity_tag) = (KeyValueId::new(&item.key, label), item.etag.as_ref().into());
        Ok(Self { id, entity_tag, json })
    }

    /// About what it occupies.
    pub fn bytes(&self) -> usize {
        // The counts of the shared text, and what the allocator adds to two texts.
        const SHARED_BYTES: usize = 48;
        self.json.len() + size_of::<Self>() + SHARED_BYTES + self.id.as_str().len() + self.entity_tag.len()
    }

    /// Whether it has each of these tags.
    pub fn has_tags(&self, filters: &[TagFilter]) -> bool {
        #[derive(Deserialize)]
        struct Tagged {
            #[serde(default)]
            tags: Option<Tags>,
        }
        filters.is_empty() || {
            let tagged = serde_json::from_slice::<Tagged>(&self.json).ok();
            let tags = tagged.and_then(|item| item.tags).unwrap_or_default();
            filters.iter().all(|filter| filter.matches(&tags))
        }
    }

    /// When it was written, as it says itself.
    pub fn last_modified(&self) -> Option<Timestamp> {
        #[derive(Deserialize)]
        struct Dated<'a> {
            #[serde(borrow)]
            last_modified: Cow<'a, str>,
        }
        parse_rfc3339(&serde_json::from_slice::<Dated<'_>>(&self.json).ok()?.last_modified)
    }

    /// Its JSON as an answer shows it: the selected fields, and none that the api-version does not have. What is shown is shown in
    /// the origin's own bytes.
    pub fn json(&self, selection: Selection, version: ApiVersion) -> Bytes {
        if selection == Selection::ALL && version.has_description() {
            return self.json.clone();
        }
        let Ok(Fields(fields)) = serde_json::from_slice(&self.json) else { return self.json.clone() };
        let mut text = String::with_capacity(self.json.len());
        text.push('{');
        for (name, value) in fields {
            let field = Selection::from_name(&name.to_ascii_uppercase());
            let is_selected =
                selection == Selection::ALL || field.is_some_and(|field| selection.contains(field));
            if !is_selected || (name == "description" && !version.has_description()) {
                continue;
            }
            if text.len() > 1 {
                text.push(',');
            }
            // Serialising a string cannot fail.
            text.push_str(&serde_json::to_string(&name).unwrap_or_default());
            text.push(':');
            text.push_str(value.get());
        }
        text.push('}');
        text.into()
    }
}

/// The fields of an object, in its order.
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::with_capacity(10);
                while let Some(name) = map.next_key::<String>()? {
                    if fields.len() == 64 {
                        return Err(A::Error::custom("more fields than a key-value has"));
                    }
                    fields.push((Cow::Owned(name), map.next_value()?));
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(InOrder).map(Self)
    }
}

#[cfg(test)]
#[path = "item_tests.rs"]
mod tests;
