//! The key-values in a list: each shows, without quotes, the entity tag that `/kv/{key}` carries.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};

use super::key_value::KeyValueId;
use super::page::{decode_continuation, key_value_before};
use super::profile::resource;
use super::query::Query;
use super::resource::{Resource, canonical_key_value};
use crate::headers::request_date::parse_rfc3339;
use crate::profile::{DatedItem, ItemState};

#[derive(Deserialize)]
struct ListPage<'a> {
    #[serde(borrow)]
    items: Vec<ListItem<'a>>,
}

/// One item of a page. A page with `$select` may lack any field. Without `label` it is not known which key-value the
/// item is.
#[derive(Deserialize)]
struct ListItem<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(deserialize_with = "present")]
    label: Option<String>,
    #[serde(borrow)]
    etag: Cow<'a, str>,
}

/// Tells null (no label) from absence (not selected): a derived `Option` would accept both.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Option::deserialize(deserializer)
}

/// The items of a list with this canonical target. `None` if it is no list of current key-values, or does not show key,
/// label and entity tag of each.
pub(super) fn of_list(canonical_target: &str, body: &[u8]) -> Option<Vec<ItemState>> {
    let query = Query::parse(canonical_target.strip_prefix("/kv?")?).ok()?;
    if query.single("snapshot").ok()?.is_some() {
        return None;
    }
    let api_version = query.single("api-version").ok()??;
    let page: ListPage<'_> = serde_json::from_slice(body).ok()?;
    let state = |item: &ListItem<'_>| ItemState {
        canonical_target: canonical_key_value(&item.key, item.label.as_deref(), api_version),
        entity_tag: format!("\"{}\"", item.etag),
    };
    Some(page.items.iter().map(state).collect())
}

/// The items of a list with their times of change, under the names that the profile gives to key-values.
pub(super) fn dated(canonical_target: &str, body: &[u8]) -> Option<Vec<DatedItem>> {
    #[derive(Deserialize)]
    struct DatedPage<'a> {
        #[serde(borrow)]
        items: Vec<DatedPageItem<'a>>,
    }
    #[derive(Deserialize)]
    struct DatedPageItem<'a> {
        #[serde(default, borrow)]
        last_modified: Option<Cow<'a, str>>,
    }
    let items = of_list(canonical_target, body)?;
    let page: DatedPage<'_> = serde_json::from_slice(body).ok()?;
    let dated = items.into_iter().zip(page.items).map(|(item, dated)| {
        let id = key_value_of(&item.canonical_target)?;
        Some(DatedItem {
            name: format!("{}\0{}", id.key(), id.label().unwrap_or_default()),
            entity_tag: item.entity_tag,
            modified: dated.last_modified.and_then(|time| parse_rfc3339(&time)),
        })
    });
    dated.collect()
}

/// Whether the page of a list may show a key-value: one that precedes the page or follows it, it does not.
pub(super) fn may_be_on_page(list: &str, body: &[u8], items: &[ItemState], resource: &str) -> bool {
    let Some(id) = key_value_of(resource) else { return true };
    let query = list.split_once('?').map_or("", |(_, query)| query);
    let after = Query::parse(query).ok().and_then(|query| query.all("after").last().map(str::to_owned));
    let after = after.and_then(|after| key_value_before(&decode_continuation(&after)?));
    if after.is_some_and(|after| id <= after) {
        return false;
    }
    let last = items.last().filter(|_| continues(body)).and_then(|last| key_value_of(&last.canonical_target));
    last.is_none_or(|last| id <= last)
}

/// Whether another page follows this one.
pub(super) fn continues(body: &[u8]) -> bool {
    // Within a text a quotation mark is escaped, so this is the field.
    memchr::memmem::find(body, b"\"@nextLink\":").is_some()
}

fn key_value_of(canonical_target: &str) -> Option<KeyValueId> {
    match resource(canonical_target)? {
        Resource::KeyValue { key, label, .. } => Some(KeyValueId::new(&key, label.as_deref())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::app_configuration::resource::canonicalize;

    const LIST: &str = "/kv?api-version=2023-11-01&key=a%2A";

    #[test]
    fn each_item_has_the_target_and_the_tag_of_its_own_response() {
        let body = br#"{"items":[
            {"etag":"t1","key":"a/b c","label":null,"value":"1","last_modified":"x"},
            {"etag":"t2","key":"a\u00e9","label":"prod","value":null}
        ],"@nextLink":"/kv?after=x"}"#;
        let items = of_list(LIST, body).expect("a list");
        let targets = ["/kv/a/b%20c?api-version=2023-11-01", "/kv/a%C3%A9?label=prod&api-version=2023-11-01"];
        for (item, target) in items.iter().zip(targets) {
            let (path, query) = target.split_once('?').expect("a query");
            assert_eq!(item.canonical_target, canonicalize(path, Some(query)).expect("canonical").text);
        }
        assert_eq!([&*items[0].entity_tag, &*items[1].entity_tag], ["\"t1\"", "\"t2\""]);
    }

    #[test]
    fn a_page_shows_nothing_that_precedes_or_follows_it() {
        let body = br#"{"items":[{"etag":"t","key":"c","label":null},{"etag":"t","key":"e","label":null}],"@nextLink":"/kv?after=x"}"#;
        // After `b` without label.
        let list = "/kv?after=Ygo&api-version=2023-11-01";
        let items = of_list(list, body).expect("a list");
        let may = |key: &str, body: &[u8]| {
            may_be_on_page(list, body, &items, &canonical_key_value(key, None, "2023-11-01"))
        };
        let whole = body.as_slice();
        assert_eq!(
            ["a", "b", "c", "d", "e", "f"].map(|key| may(key, whole)),
            [false, false, true, true, true, false]
        );
        assert!(may("f", br#"{"items":[]}"#), "the last page has no end");
        assert!(may_be_on_page(list, whole, &items, "/kv?key=a"), "no single key-value");
    }

    #[test]
    fn what_does_not_name_states_says_nothing() {
        let whole = br#"{"items":[{"etag":"t","key":"a","label":null}]}"#;
        for target in [
            "/kv/a?api-version=1.0",
            "/keys?api-version=1.0",
            "/revisions?api-version=1.0",
            "/kv?api-version=1.0&snapshot=s",
            "/kv?key=a",
        ] {
            assert_eq!(of_list(target, whole), None, "{target}");
        }
        for body in [
            &br#"{"items":[{"key":"a","label":null}]}"#[..],
            br#"{"items":[{"etag":"t","key":"a"}]}"#,
            br#"{"items":[{"etag":"t","label":null}]}"#,
            br#"{}"#,
            br#"[]"#,
            b"",
        ] {
            assert_eq!(of_list(LIST, body), None, "{}", String::from_utf8_lossy(body));
        }
        assert_eq!(of_list(LIST, br#"{"items":[]}"#), Some(Vec::new()));
    }
}
